namespace Distill

open System
open System.IO
open System.Security.Cryptography
open System.Text
open System.Text.Json
open System.Text.Json.Serialization
open Distill.Storage

/// One job of a sweep with one seed, as it is written down: enough to run it though the script has changed.
type TrialRecord =
    {
        /// The kind of job.
        Kind: string

        /// SHA-256 of everything that can change the result.
        Hash: string

        /// What the trial has of its own among those it was declared with.
        Label: string

        /// Every setting by name.
        Settings: Map<string, string>

        /// The settings that make this trial of what the script says.
        Changes: string list

        /// Arguments of the sweep that declared it.
        Arguments: string list
    }

    /// Name of the trial's folder.
    [<JsonIgnore>]
    member trial.FolderName = $"{trial.Label}-{trial.Hash.Substring(0, 8)}"

    [<JsonIgnore>]
    member trial.Seed = UInt64.Parse trial.Settings["seed"]

/// A trial as it can be run.
type Trial = internal { Job: Job; Record: TrialRecord }

/// What a finished trial measured.
type TrialResult =
    {
        /// By name, in the order of tables: `student_return`, `share_terminated`. Job.Measures says what they are.
        Measures: (string * float) list

        /// Name of the measure by which trials are ranked and compared.
        Main: string

        /// Names of those that tables show beside it.
        Beside: string list

        /// What was wrong from the start, such as a teacher that fails.
        Warnings: string list
    }

    /// The measure of this name; NaN where there is none.
    member result.Item(name: string) : float =
        result.Measures |> List.tryFind (fst >> (=) name) |> Option.map snd |> Option.defaultValue nan

    /// The main measure.
    member result.Score = result[result.Main]

    /// A measure with its interval over the episodes of the trial; NaN bounds where it has none.
    member result.Interval(name: string) : Interval =
        { Estimate = result[name]; Low = result[name + "_low"]; High = result[name + "_high"] }

/// Measures in tables and pages.
module internal Measure =
    let private share = "share_"

    let isShare (name: string) = name.StartsWith share

    /// "student return" for student_return, "terminated" for share_terminated.
    let words (name: string) =
        (if isShare name then name.Substring share.Length else name).Replace('_', ' ')

    /// What stands above a column of it.
    let heading (name: string) =
        if isShare name then words name + " %" else words name

    /// As it stands in a column: shares in percent.
    let shown (name: string) (value: float) =
        if isShare name then 100.0 * value else value

/// How far a trial is.
type TrialState =
    | Finished of TrialResult
    /// With its message.
    | Failed of string
    | Running
    /// Stopped; it goes on from its checkpoint.
    | Interrupted
    /// Trained as far as a search has asked for, with the highest mean return of its evaluations so far.
    | Paused of iterations: int * value: float
    | Waiting

    override state.ToString() =
        match state with
        | Finished _ -> "finished"
        | Failed _ -> "failed"
        | Running -> "running"
        | Interrupted -> "interrupted"
        | Paused _ -> "paused"
        | Waiting -> "waiting"

module internal TrialRecord =
    let fileName = "trial.json"

    let private options =
        JsonSerializerOptions(
            PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
            Encoder = Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping
        )

    /// On one line.
    let toJson (trial: TrialRecord) =
        JsonSerializer.Serialize(trial, options)

    /// What a trial of a file must have, so that nothing that uses it has to look again: above all a label that is the name of
    /// a folder and no path out of the sweep's.
    let private fault (trial: TrialRecord) =
        let isNull (value: 'T) = isNull (box value)

        let isText (pattern: string) (text: string) =
            not (isNull text) && RegularExpressions.Regex.IsMatch(text, pattern)

        if not (isText @"\A[0-9a-f]{64}\z" trial.Hash) then
            Some "its hash is not one of 64 hexadecimal digits"
        elif not (isText @"\A[A-Za-z0-9_\-\[\]][A-Za-z0-9._\-\[\]]{0,199}\z" trial.Label) then
            Some "its label is not a name of letters, digits, '.', '-' and '_'"
        elif
            isNull trial.Settings
            || trial.Settings |> Map.exists (fun name value -> isNull name || isNull value)
        then
            Some "it has no settings"
        elif
            not (trial.Settings.TryFind "seed" |> Option.exists (fun seed -> fst (UInt64.TryParse seed)))
        then
            Some "its setting 'seed' is no number"
        elif
            isNull trial.Changes
            || isNull trial.Arguments
            || trial.Changes @ trial.Arguments |> List.exists isNull
        then
            Some "it has no lists of changes and arguments"
        elif Jobs.all |> List.forall (fun job -> job.Kind <> trial.Kind) then
            Some $"there is no kind of job '{trial.Kind}'"
        else
            None

    /// A trial takes some kilobytes, and a list has one for every trial that was submitted.
    let private maxBytes = 256L <<< 20

    let private linesOf (path: string) =
        InputFile
            .ReadText(path, "list of trials", maxBytes)
            .Split('\n', StringSplitOptions.RemoveEmptyEntries)

    let private ofLine (path: string) (line: string) : TrialRecord =
        let broken (reason: string) =
            fail $"{path} does not describe a trial: {reason}."

        try
            match JsonSerializer.Deserialize<TrialRecord>(line, options) with
            | null -> broken "it is empty"
            | trial ->
                // An earlier Distill had distillations only, and did not say so.
                let trial =
                    if isNull (box trial.Kind) then
                        { trial with Kind = (Distil.job Experiment.empty).Kind }
                    else
                        trial

                match fault trial with
                | Some fault -> broken fault
                | None -> trial
        with
        | :? JsonException
        | :? NotSupportedException
        | :? InvalidOperationException
        | :? ArgumentException as error -> broken (error.Message.TrimEnd '.')

    /// The trials of a list of them, by line.
    let readAll (path: string) : TrialRecord list =
        linesOf path |> Seq.map (ofLine path) |> Seq.toList

    /// The trial on a line of a file.
    let read (path: string) (line: int) : TrialRecord =
        match linesOf path |> Array.tryItem line with
        | Some text -> ofLine path text
        | None -> fail $"{path} does not describe a trial: it has no line {line + 1}."

/// A trial's place on the disk: a run folder, with trial.json and log.txt, and error.txt if it failed.
type internal TrialFolder(root: string, trial: TrialRecord) =
    let hash8 = trial.Hash.Substring(0, 8)

    /// A trial keeps its folder when a larger sweep would label it otherwise.
    let path =
        let existing =
            if Directory.Exists root then
                Directory.GetDirectories(root, "*-" + hash8) |> Array.tryHead
            else
                None

        existing |> Option.defaultValue (Path.Combine(root, trial.FolderName))

    let inside (name: string) = Path.Combine(path, name)
    let error = inside "error.txt"
    let until = inside "until.txt"
    let lockPath = Path.Combine(root, ".running", trial.Hash)

    member _.Path = path
    member _.Root = root
    member _.Trial = trial
    member _.RunFolder = RunFolder path
    member _.Record = inside TrialRecord.fileName
    member _.Log = inside "log.txt"

    member _.Error =
        if File.Exists error then
            Some(InputFile.ReadBeginning(error, "message", 4000).Trim())
        else
            None

    member _.Fail(message: string) =
        AtomicFile.WriteText(error, message + "\n")

    member _.ForgetError() = File.Delete error

    /// Iterations after which the trial is to stop; 0 for its end.
    member _.Until: int =
        if File.Exists until then
            match Names.wholeNumber ((InputFile.ReadBeginning(until, "number of iterations", 20)).Trim()) with
            | Some iterations when iterations >= 0 -> iterations
            | _ -> fail $"{until} does not hold a number of iterations; delete it."
        else
            0

    member folder.StopAfter(iterations: int) =
        if iterations = 0 then
            File.Delete until
        elif iterations <> folder.Until then
            AtomicFile.WriteText(until, $"{iterations}\n")

    /// The highest mean return of the evaluations in the first so many iterations, NaN where no finite one is among them; None
    /// for a trial that has not come so far.
    member _.ReturnAfter(iterations: int) : float option =
        let rows =
            if File.Exists(inside "metrics.jsonl") then
                MetricsLog.Read path
            else
                [||]

        if rows.Count < iterations then
            None
        else
            let returns =
                [
                    for row in rows |> Seq.truncate iterations do
                        for metric in row.Metrics do
                            if metric.Key = "evaluation/mean_return" && Double.IsFinite metric.Value then
                                metric.Value
                ]

            Some(if returns.IsEmpty then nan else List.max returns)

    /// Makes the folder with its trial.json.
    member folder.Prepare() =
        if not (File.Exists folder.Record) then
            Directory.CreateDirectory path |> ignore
            AtomicFile.WriteText(folder.Record, TrialRecord.toJson trial + "\n")

    /// Deletes what earlier starts left, such as what cannot go on.
    member folder.Clear() =
        for entry in Directory.GetFileSystemEntries path do
            if entry <> folder.Record && entry <> folder.Log && entry <> until then
                if Directory.Exists entry then
                    Directory.Delete(entry, true)
                else
                    File.Delete entry

    /// The right to run the trial, which one process can have; None while another has it. A process that dies loses it.
    member _.TryLock() : IDisposable option =
        Directory.CreateDirectory(Path.Combine(root, ".running")) |> ignore
        FileLock.TryTake lockPath |> Option.ofObj |> Option.map (fun held -> held :> IDisposable)

    member folder.IsRunning =
        File.Exists lockPath
        && (match folder.TryLock() with
            | Some held ->
                held.Dispose()
                false
            | None -> true)

    member _.Result: TrialResult option =
        match RunRecord.readResults path with
        | [] -> None
        | results ->
            let job = Jobs.ofKind trial.Kind

            Some
                {
                    Measures = job.Measures results
                    Main = job.Main
                    Beside = job.Beside
                    Warnings = RunRecord.readWarnings path
                }

    member folder.State: TrialState =
        match folder.Result with
        | Some result -> Finished result
        | None when folder.IsRunning -> Running
        | None ->
            match folder.Error with
            | Some message -> Failed message
            | None when not (Runner.hasState folder.RunFolder) -> Waiting
            | None ->
                match folder.Until, lazy (folder.ReturnAfter folder.Until) with
                | until, Lazy(Some value) when until > 0 -> Paused(until, value)
                | _ -> Interrupted

module internal TrialFolders =
    /// Whether trials of a sweep are kept in the folder.
    let isRoot (root: string) =
        Directory.Exists root
        && Directory.GetDirectories root
           |> Array.exists (fun folder -> File.Exists(Path.Combine(folder, TrialRecord.fileName)))

    /// The trials that are kept in the folder of a sweep, by name; none where there is no such folder.
    let ofRoot (root: string) : TrialFolder list =
        if Directory.Exists root then
            Directory.GetDirectories root
            |> Array.map (fun folder -> Path.Combine(folder, TrialRecord.fileName))
            |> Array.filter File.Exists
            |> Array.sortWith (fun a b -> String.CompareOrdinal(a, b))
            |> Array.map (fun path -> TrialFolder(root, TrialRecord.read path 0))
            |> Array.toList
        else
            []
