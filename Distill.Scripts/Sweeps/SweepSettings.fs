namespace Distill

open System
open System.Globalization

/// Settings of a sweep's command line, where a setting may have several values: `max_buffer_size=100_000,1_000_000`,
/// `hidden=[64,64],[32,32]`, `learning_rate=log_uniform(1e-4,1e-2)`.
module internal SweepSettings =
    /// One setting with one of its values.
    type Assignment =
        {
            Name: string
            Value: string

            /// Whether the setting was given several values.
            Several: bool
        }

        override assignment.ToString() = $"{assignment.Name}={assignment.Value}"


    /// The parts between commas that are not within brackets.
    let splitValues (text: string) : string list =
        let depths =
            (0, text)
            ||> Seq.scan (fun depth c ->
                match c with
                | '['
                | '(' -> depth + 1
                | ']'
                | ')' -> depth - 1
                | _ -> depth)
            |> Seq.toArray

        let commas =
            [
                for i in 0 .. text.Length - 1 do
                    if text[i] = ',' && depths[i] = 0 then
                        i
            ]

        List.zip (-1 :: commas) (commas @ [ text.Length ])
        |> List.map (fun (before, after) -> text.Substring(before + 1, after - before - 1).Trim())

    let private name (argument: string) =
        match Names.assignment argument with
        | Some setting -> setting
        | None -> fail $"'{argument}' is not a setting: write name=value, or name=value,value,…"

    let private format (value: float) =
        value.ToString("R", CultureInfo.InvariantCulture)

    let private texts (values: Space<float>) : Space<string> =
        space {
            let! value = values
            return format value
        }

    /// The whole numbers between two.
    let private wholeNumbers (low: float) (high: float) : Space<float> =
        if low <> Math.Round low || high <> Math.Round high || low > high || high - low >= 1e6 then
            fail
                $"whole_number({low},{high}) cannot be: it takes two whole numbers, the first no larger than the second."

        choice [ low..high ]

    let private ranges =
        [ "uniform", uniform; "log_uniform", logUniform; "whole_number", wholeNumbers ]

    /// The values of one setting.
    let private values (setting: string) (text: string) : Space<string> =
        let distribution =
            ranges |> List.tryFind (fun (name, _) -> text.StartsWith(name + "(") && text.EndsWith ')')

        match distribution with
        | Some(name, make) ->
            let bounds =
                text.Substring(name.Length + 1, text.Length - name.Length - 2).Split ','
                |> Array.map Names.number

            match bounds with
            | [| Some low; Some high |] -> texts (make low high)
            | _ -> fail $"{setting}={text} cannot be: {name} takes two numbers, such as {name}(1e-4,1e-2)."
        | None ->
            match splitValues text with
            | [ one ] -> choice [ one ]
            | several when List.contains "" several ->
                fail $"{setting}={text} has an empty value between its commas."
            | several -> choice (List.distinct several)

    /// Every combination of the values.
    let toSpace (arguments: string list) : Space<Assignment list> =
        let assignments (argument: string) : Space<Assignment> =
            let name, text = name argument
            let several = (splitValues text).Length > 1

            space {
                let! value = values name text

                return { Name = name; Value = value; Several = several }
            }

        (arguments, space { return [] })
        ||> List.foldBack (fun argument rest ->
            space {
                let! first = assignments argument
                and! others = rest
                return first :: others
            })

    /// The job with the assignments in place.
    let apply (assignments: Assignment list) (job: Job) : Job =
        let changed = job.With(List.map string assignments)

        for assignment in assignments do
            if
                assignment.Several
                && not (assignment.Value.StartsWith '[')
                && Settings.isList assignment.Name changed.Records
            then
                let name, value = assignment.Name, assignment.Value

                fail
                    $"{name} is a list, so {name}={value},… could be one list or several: write {name}=[{value},…] for one, {name}=[{value}],[…] for several."

        changed
