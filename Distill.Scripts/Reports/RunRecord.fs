namespace Distill

open System
open System.Collections.Generic
open System.IO
open System.Text.Json
open Distill.Storage

/// A policy's closed-loop result at the end of a run.
type PolicyResult =
    {
        /// "teacher", "best student", "final student"; of an evaluation the drone, or "all".
        Policy: string
        MeanReturn: float
        StdReturn: float
        MeanLength: float
        ShareTerminated: float
        Episodes: int

        /// Mean difference of its returns from the teacher's in the same episodes; None for the teacher. A run of a Distill
        /// that did not measure it has the difference of the means, without an interval.
        MinusTeacher: Interval option

        /// Environment steps after which an evaluation during training first reached the target return; None where it never did,
        /// or there was no target.
        StepsToTarget: float option
    }

/// What a run folder holds, as far as it is there: an interrupted run has no results, a new one no metrics.
type RunRecord =
    {
        /// Full path of the folder.
        Folder: string
        Experiment: string
        /// Name of the folder: date, time and perhaps a name.
        Run: string
        Metrics: IReadOnlyList<MetricsRow>
        /// Settings by dotted names, from params/*.yaml: file name, then name and value.
        Parameters: (string * (string * string) list) list
        /// How the run was started: names and values of params/command.json.
        Command: (string * string) list
        /// result.csv; empty before the end.
        Results: PolicyResult list
        /// What was wrong, such as a teacher that fails or a student that overfits: sentences of warnings.txt.
        Warnings: string list
        /// Names and sizes in bytes.
        Checkpoints: (string * int64) list
    }

    /// Iterations that were logged.
    member run.Iterations =
        if run.Metrics.Count = 0 then
            0
        else
            int run.Metrics[run.Metrics.Count - 1].Iteration + 1

    /// Iterations that the run was to have, if its settings say it.
    member run.Planned =
        run.Parameters
        |> List.collect snd
        |> List.tryFind (fun (name, _) -> name = "iterations")
        |> Option.bind (snd >> Names.wholeNumber)

    member run.Finished = not run.Results.IsEmpty || run.Planned = Some run.Iterations

    /// Names of all metrics, in the order in which they first occur.
    member run.MetricNames =
        run.Metrics |> Seq.collect _.Metrics |> Seq.map _.Key |> Seq.distinct |> Seq.toList

    /// One metric: iterations completed, and values. Empty where the run has no such metric.
    member run.Series(name: string) : (int * float) list =
        [
            for row in run.Metrics do
                for metric in row.Metrics do
                    if metric.Key = name then
                        int row.Iteration + 1, metric.Value
        ]

    /// What the run trains, as its command says: "student" or "teacher"; "student" where an earlier Distill did not say it.
    member run.Role =
        run.Command
        |> List.tryPick (fun (name, value) -> if name = "role" && value <> "" then Some value else None)
        |> Option.defaultValue "student"

    /// What the run logged of the teacher, on the episodes of the evaluations during training.
    member run.OfTeacher(metric: string) =
        run.Series $"evaluation/teacher_{metric}" |> List.tryLast |> Option.map snd

    /// Environment steps after which an evaluation first reached the target return; None where none did yet.
    member run.StepsToTarget =
        run.Series "evaluation/steps_to_target" |> List.tryHead |> Option.map snd

    member run.Result(policy: string) =
        run.Results |> List.tryFind (fun result -> result.Policy = policy)

    /// The evaluation during training with the highest mean return: iterations completed and that return.
    member run.BestEvaluation =
        match run.Series "evaluation/mean_return" |> List.filter (snd >> Double.IsFinite) with
        | [] -> None
        | evaluations -> Some(List.maxBy snd evaluations)

module PolicyResult =
    /// What a student is called in results that was trained on recorded data alone, without an environment: its mean return is
    /// minus its loss there.
    let byLoss = "best student, minus its loss"

    /// Rows of a trajectory encoder's results, which are no policy's: read, the number stands where a mean return would.
    let tasksFound = "encoder, share of tasks found"

    let silhouette = "encoder, silhouette"
    let encoderLoss = "encoder, minus its loss"

    /// The result of the policy of this name.
    let find (policy: string) (results: PolicyResult list) : PolicyResult =
        match results |> List.tryFind (fun result -> result.Policy = policy) with
        | Some result -> result
        | None -> fail $"result.csv has no numbers for '{policy}'; delete it and run again."

    /// The steps to the target return as a measure, where they are known.
    let stepsToTarget (result: PolicyResult) : (string * float) list =
        result.StepsToTarget |> Option.map (fun steps -> "steps_to_target", steps) |> Option.toList

    /// What was measured of one policy, by name.
    let measures (result: PolicyResult) : (string * float) list =
        [
            "return", result.MeanReturn
            "std_return", result.StdReturn
            "length", result.MeanLength
            "share_terminated", result.ShareTerminated
            yield! stepsToTarget result
        ]

module RunRecord =
    let private readParameters (folder: string) =
        Directory.GetFiles(Path.Combine(folder, "params"), "*.yaml")
        |> Array.sort
        |> Array.map (fun path ->
            Path.GetFileNameWithoutExtension path |> string,
            [
                for setting in Yaml.Read path do
                    setting.Key, setting.Value
            ])
        |> List.ofArray

    let private readCommand (folder: string) =
        let path = Path.Combine(folder, "params", "command.json")

        if not (File.Exists path) then
            []
        else
            try
                use json = JsonDocument.Parse(InputFile.ReadText(path, "JSON file"))

                [
                    for field in json.RootElement.EnumerateObject() do
                        field.Name,
                        (if field.Value.ValueKind = JsonValueKind.Array then
                             String.Join(' ', field.Value.EnumerateArray() |> Seq.map string)
                         else
                             string field.Value)
                ]
            with
            | :? JsonException as e ->
                raise (DistillException($"'{path}' is not readable JSON: {e.Message.TrimEnd '.'}.", e))
            | :? InvalidOperationException as e ->
                raise (DistillException($"'{path}' holds no JSON object.", e))

    /// Columns of a trajectory encoder's result.csv.
    let internal encoderColumns = [ "measure"; "value"; "steps_seen"; "episodes" ]

    let internal readResults (folder: string) : PolicyResult list =
        let path = Path.Combine(folder, "result.csv")

        let broken () =
            fail
                $"'{path}' is not a table of results: its columns must be policy, mean_return, std_return, mean_length, share_terminated and episodes, and its values numbers."

        let finite (row: Map<string, string>) (column: string) =
            match row.TryFind column |> Option.bind Names.number with
            | Some value when Double.IsFinite value -> value
            | _ -> broken ()

        let encoder (row: Map<string, string>) =
            {
                Policy = row["measure"]
                MeanReturn = finite row "value"
                StdReturn = 0.0
                MeanLength = finite row "steps_seen"
                ShareTerminated = 0.0
                Episodes = int (finite row "episodes")
                StepsToTarget = None
                MinusTeacher = None
            }

        let result (label: string) (row: Map<string, string>) =
            let number = finite row

            {
                Policy = row[label]
                MeanReturn = number "mean_return"
                StdReturn = number "std_return"
                MeanLength = number "mean_length"
                ShareTerminated = number "share_terminated"
                Episodes = int (number "episodes")
                StepsToTarget = row.TryFind "steps_to_target" |> Option.bind Names.number
                MinusTeacher =
                    // A single episode gives no interval.
                    let bound (column: string) =
                        if row.TryFind column = Some "NaN" then
                            nan
                        else
                            number column

                    match row.TryFind "minus_teacher" with
                    | None
                    | Some "" -> None
                    | Some _ ->
                        Some
                            {
                                Estimate = number "minus_teacher"
                                Low = bound "minus_teacher_low"
                                High = bound "minus_teacher_high"
                            }
            }

        if not (File.Exists path) then
            []
        else
            let results =
                match Csv.read (InputFile.ReadText(path, "table of results")) with
                // The first column says what is compared: policies, drones.
                | Some(label :: columns, rows) when
                    columns |> List.truncate 5 =
                        [ "mean_return"; "std_return"; "mean_length"; "share_terminated"; "episodes" ]
                    ->
                    List.map (result label) rows
                | Some(columns, rows) when columns = encoderColumns -> List.map encoder rows
                | _ -> broken ()

            let teacher = results |> List.tryFind (fun result -> result.Policy = "teacher")

            [
                for result in results do
                    match teacher with
                    | Some teacher when result <> teacher && result.MinusTeacher.IsNone ->
                        let difference = result.MeanReturn - teacher.MeanReturn
                        { result with MinusTeacher = Some { Estimate = difference; Low = nan; High = nan } }
                    | _ -> result
            ]

    /// File of a run folder with what was wrong, a sentence a line; none where nothing was.
    let private warningsFile = "warnings.txt"

    let internal readWarnings (folder: string) : string list =
        let path = Path.Combine(folder, warningsFile)

        if File.Exists path then
            (InputFile.ReadText(path, "list of warnings"))
                .Split('\n', StringSplitOptions.RemoveEmptyEntries ||| StringSplitOptions.TrimEntries)
            |> List.ofArray
        else
            []

    /// Adds what a run that goes on may have said before.
    let internal addWarnings (folder: string) (warnings: string list) =
        let before = readWarnings folder
        let all = before @ warnings |> List.distinct

        if all <> before then
            AtomicFile.WriteText(Path.Combine(folder, warningsFile), String.Join('\n', all) + "\n")

    /// Reads a run folder.
    let read (folder: string) : RunRecord =
        let folder = (RunFolder.Open folder).Path
        let checkpoints = DirectoryInfo(Path.Combine(folder, "checkpoints"))

        {
            Folder = folder
            Experiment = Path.GetFileName(Path.GetDirectoryName folder) |> string
            Run = Path.GetFileName folder |> string
            Metrics =
                if File.Exists(Path.Combine(folder, "metrics.jsonl")) then
                    MetricsLog.Read folder
                else
                    [||]
            Parameters = readParameters folder
            Command = readCommand folder
            Results = readResults folder
            Warnings = readWarnings folder
            Checkpoints =
                if checkpoints.Exists then
                    checkpoints.GetFiles()
                    |> Seq.filter (fun file -> not (file.Name.StartsWith '.'))
                    |> Seq.sortBy _.Name
                    |> Seq.map (fun file -> file.Name, file.Length)
                    |> Seq.toList
                else
                    []
        }

    /// What the folders of experiments hold: run folders, and the folders of sweeps.
    let internal foldersOfExperiments (logs: string) : string seq =
        // Those that are hidden, as half-made ones are, or that nobody may read, are passed over.
        let inside (folder: string) =
            Directory.GetDirectories(folder, "*", EnumerationOptions())

        inside logs |> Seq.collect inside

    /// All run folders under a folder of experiments, newest first; what is not a run folder is passed over.
    let internal foldersIn (logs: string) : string list =
        if not (Directory.Exists logs) then
            fail $"There is no folder '{logs}' with runs."

        foldersOfExperiments logs
        |> Seq.filter (fun folder -> Directory.Exists(Path.Combine(folder, "params")))
        |> Seq.sortByDescending Path.GetFileName
        |> Seq.toList

    /// All runs under a folder of experiments, newest first.
    let readAll (logs: string) : RunRecord list = foldersIn logs |> List.map read
