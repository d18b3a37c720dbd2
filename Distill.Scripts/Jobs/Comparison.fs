namespace Distill

open Distill.Evaluation

/// Closed-loop results side by side, a row for each of what is compared: "policy", "drone". With a reference, which is one
/// of the rows, the others have their difference from it, episode by episode: all must have flown the same episodes.
/// `stepsToTarget` are of one of the rows, by its label, and None where the target was not reached. `measures` are those of the
/// environments that have a column each, the last ones.
type Comparison
    (
        compared: string,
        rows: (string * EvaluationResult) list,
        ?reference: string,
        ?stepsToTarget: string * float option,
        ?measures: string list
    ) =
    let measures = defaultArg measures []

    /// Label, result and, of all but the reference, the difference from it.
    let entries =
        let flown =
            reference |> Option.map (fun name -> rows |> List.find (fst >> (=) name) |> snd)

        [
            for label, result in rows do
                match flown with
                | Some flown when Some label <> reference ->
                    label, result, Some(Statistics.difference result.Returns flown.Returns)
                | _ -> label, result, None
        ]

    /// What is there only with a reference.
    let ifReferred (make: string -> 'T list) =
        reference |> Option.map make |> Option.defaultValue []

    let table =
        Table(
            [ compared; "mean return"; "std" ]
            @ ifReferred (fun name -> [ $"minus {name} [95 %%]" ])
            @ [ "mean length"; "terminated %"; "episodes" ]
            @ measures,
            [
                for label, result, difference in entries do
                    [ box label; result.MeanReturn; result.StdReturn ]
                    @ ifReferred (fun _ -> [ box difference ])
                    @ [ result.MeanLength; 100.0 * result.ShareTerminated; result.Episodes ]
                    @ [ for measure in measures -> box (result.Mean measure) ]
            ]
        )

    /// Label and result, in the order of the table.
    member _.Rows = rows

    /// Mean difference of the returns from those of the reference in the same episodes, with its 95 % interval.
    member _.Difference(label: string) : Interval =
        entries |> List.pick (fun (other, _, difference) -> if other = label then difference else None)

    /// A table of plain text.
    override _.ToString() = string table

    /// The target return in words, where there is one.
    member _.Target(measure: string, target: float) =
        match stepsToTarget with
        | Some(_, Some steps) -> [ $"Steps to a {measure} of {target:G6}: {steps:F0}" ]
        | Some(_, None) -> [ $"Steps to a {measure} of {target:G6}: not reached" ]
        | None -> []

    /// For notebooks.
    member _.ToHtml() = table.ToHtml()

    /// Writes what is compared, mean_return, std_return, mean_length, share_terminated and episodes, with all digits; with a
    /// reference also minus_REFERENCE, and _low and _high of it; with a target return steps_to_target; and the measures.
    member _.WriteCsv(path: string) =
        let numbers (difference: Interval option) =
            match difference with
            | Some difference ->
                [ difference.Estimate; difference.Low; difference.High ] |> List.map Csv.number
            | None -> [ ""; ""; "" ]

        Csv.write
            path
            ([ compared; "mean_return"; "std_return"; "mean_length"; "share_terminated"; "episodes" ]
             @ ifReferred (fun name -> [ $"minus_{name}"; $"minus_{name}_low"; $"minus_{name}_high" ])
             @ (stepsToTarget |> Option.map (fun _ -> "steps_to_target") |> Option.toList)
             @ measures)
            [
                for label, result, difference in entries do
                    [
                        label
                        Csv.number result.MeanReturn
                        Csv.number result.StdReturn
                        Csv.number result.MeanLength
                        Csv.number result.ShareTerminated
                        string result.Episodes
                    ]
                    @ ifReferred (fun _ -> numbers difference)
                    @ (match stepsToTarget with
                       | Some(trained, Some steps) when trained = label -> [ Csv.number steps ]
                       | Some _ -> [ "" ]
                       | None -> [])
                    @ [ for measure in measures -> Csv.number (result.Mean measure) ]
            ]
