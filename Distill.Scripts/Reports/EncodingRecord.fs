namespace Distill

open System.IO
open Distill.Storage

/// A held-out episode in the plane in which encodings differ most.
type EncodingPoint = { Task: string; X: float; Y: float }

/// What the run of a trajectory encoder measured in the end, of one encoder.
type EncodingRecord =
    {
        /// "trained", or "untrained": the same network before its first update.
        Encoder: string

        /// By number of steps seen.
        Separations: TaskSeparation list

        /// Steps that were seen for the points.
        Seen: int
        Points: EncodingPoint list
    }

module EncodingRecord =
    let private separationsName = "separations.csv"
    let private pointsName = "encodings.csv"

    /// Writes separations.csv and encodings.csv into a run folder.
    let internal write (folder: string) (records: EncodingRecord list) =
        Csv.write
            (Path.Combine(folder, separationsName))
            [ "encoder"; "steps_seen"; "tasks_found"; "silhouette" ]
            [
                for record in records do
                    for one in record.Separations do
                        [
                            record.Encoder
                            string one.Seen
                            Csv.number one.Accuracy
                            Csv.number one.Silhouette
                        ]
            ]

        Csv.write
            (Path.Combine(folder, pointsName))
            [ "encoder"; "steps_seen"; "task"; "x"; "y" ]
            [
                for record in records do
                    for point in record.Points do
                        [
                            record.Encoder
                            string record.Seen
                            point.Task
                            Csv.number point.X
                            Csv.number point.Y
                        ]
            ]

    /// What a run folder holds of it; empty before the end, and for runs of other kinds.
    let read (folder: string) : EncodingRecord list =
        let rows (name: string) =
            let path = Path.Combine(folder, name)

            if File.Exists path then
                match Csv.read (InputFile.ReadText(path, "table of encodings")) with
                | Some(_, rows) -> path, rows
                | None -> fail $"'{path}' is not a table."
            else
                path, []

        let text (path: string) (column: string) (row: Map<string, string>) =
            match row.TryFind column with
            | Some text -> text
            | None -> fail $"'{path}' has no column {column}."

        let number (path: string) (column: string) (row: Map<string, string>) =
            match Names.number (text path column row) with
            | Some value -> value
            | None -> fail $"'{path}' has no numbers in its column {column}."

        let separations, measured = rows separationsName
        let encodings, points = rows pointsName

        [
            for encoder, own in measured |> List.groupBy (text separations "encoder") do
                let points =
                    points |> List.filter (fun row -> text encodings "encoder" row = encoder)

                {
                    Encoder = encoder
                    Separations =
                        [
                            for row in own do
                                {
                                    Seen = int (number separations "steps_seen" row)
                                    Accuracy = number separations "tasks_found" row
                                    Silhouette = number separations "silhouette" row
                                }
                        ]
                    Seen =
                        points
                        |> List.tryHead
                        |> Option.map (number encodings "steps_seen" >> int)
                        |> Option.defaultValue 0
                    Points =
                        [
                            for row in points do
                                {
                                    Task = text encodings "task" row
                                    X = number encodings "x" row
                                    Y = number encodings "y" row
                                }
                        ]
                }
        ]
