namespace Distill

open System
open System.Diagnostics
open System.IO
open Distill.Storage

/// Sweeps as main jobs of scripts.
module internal Sweeping =
    let private say (text: string) = Console.Out.WriteLine text
    let private fail (sentence: string) = raise (DistillException sentence)

    /// The trials that have the values which the settings ask for; `declared` are names of settings though no trial has them.
    let private filtered (declared: string list) (settings: string list) (trials: SweepTrial list) =
        let plain (value: string) =
            let digits = value.Replace("_", "")

            match
                Double.TryParse(
                    digits,
                    Globalization.NumberStyles.Float,
                    Globalization.CultureInfo.InvariantCulture
                )
            with
            | true, number -> string number
            | _ -> value

        let known =
            declared @ (trials |> List.collect (fun trial -> List.ofSeq trial.Settings.Keys)) |> List.distinct

        /// The full name and the values that a setting asks for.
        let wanted (setting: string) =
            let name, text =
                match setting.IndexOf '=' with
                | -1
                | 0 -> fail $"'{setting}' is not a setting: write name=value."
                | at -> setting.Substring(0, at), setting.Substring(at + 1)

            let name = fst (Settings.translate known (name, text))

            let values =
                SweepSettings.splitValues text
                |> List.map (fun value -> plain (snd (Settings.translate known (name, value))))

            let full =
                if List.contains name known then
                    [ name ]
                else
                    known |> List.filter _.EndsWith("." + name)

            match full with
            | [ full ] -> full, values
            | [] ->
                fail
                    $"There is no setting '{name}'; {Names.hint (Trials.leaf name) (Trials.shortNames known)}"
            | several ->
                let names = String.Join(" or ", several)
                fail $"'{name}' could be {names}; write it in full."

        let wanted = settings |> List.map wanted

        let matches (trial: SweepTrial) (name: string, values: string list) =
            match trial.Settings.TryFind name with
            | Some own -> List.contains (plain own) values
            | None -> false

        trials |> List.filter (fun trial -> wanted |> List.forall (matches trial))

    /// A message of a process, which may be anything, on one line.
    let private firstLine (text: string) =
        DistillException.Printable(text.Split('\n')[0])

    let private describe (state: TrialState) =
        match state with
        | Finished result ->
            $"student {result.StudentReturn:F1}, teacher {result.TeacherReturn:F1}, {100.0 * result.ShareTerminated:F1} %% terminated"
        | Failed message -> "failed: " + firstLine message
        | state -> string state

    /// What each trial is and how far.
    let private table (rows: (TrialRecord * string) list) =
        let names =
            rows
            |> List.map (fun (trial, _) -> Map.toList trial.Settings)
            |> Trials.varying
            |> List.except [ "seed" ]

        Table(
            "trial" :: Trials.shortNames names @ [ "seed"; "state" ],
            [
                for trial, state in rows do
                    [
                        box (trial.Hash.Substring(0, 8))
                        for name in names do
                            Option.toObj (trial.Settings.TryFind name)
                        trial.Seed
                        state
                    ]
            ]
        )

    /// Writes the tables of all finished trials on the disk.
    let private gather (declared: Map<string, Experiment>) (root: string) : SweepResults =
        let results = SweepResults(SweepTrial.readAll declared root)
        AtomicFile.RemoveLeftovers(root, TimeSpan.FromHours 1.0, false)

        if results.Count > 0 then
            results.WriteCsv(Path.Combine(root, "results.csv"))
            results.WriteSummary(Path.Combine(root, "summary.csv"))

        if TrialFolders.isRoot root then
            SweepReport.write root |> ignore

        results

    /// The trials in this process, one after another with all cores: where there is no script to run in others. Ends at one that
    /// is interrupted.
    let private runHere
        (keepStates: bool)
        (report: TrialEnd -> unit)
        (trials: (TrialFolder * Experiment) list)
        =
        let runOne (folder: TrialFolder, experiment: Experiment) =
            let watch = Stopwatch.StartNew()

            try
                TrialJob.run keepStates 0 folder (fun () -> experiment)
                report { Folder = folder; State = folder.State; Elapsed = watch.Elapsed }
                true
            with Script.Stopped _ ->
                say "The sweep was interrupted; the same call goes on with it."
                false

        trials |> List.forall runOne |> ignore

    /// The trials that the sweep asks for, each with its folder, and the folder of all.
    let private placed (options: SweepOptions) (sweep: Sweep<'T>) : string * (TrialFolder * Experiment) list =
        let trials = Trials.declared options sweep
        let root = Trials.root options.Logs trials

        root,
        Trials.kept root trials |> List.map (fun trial -> TrialFolder(root, trial.Record), trial.Experiment)

    /// Runs the trials that have not finished. Returns what all of the sweep's trials on the disk say.
    let runWith (arguments: string list) (sweep: Sweep<'T>) : SweepResults =
        let options = SweepOptions.parse arguments
        let root, folders = placed options sweep
        let config = (snd folders.Head).Config

        let declared =
            folders |> List.map (fun (folder, experiment) -> folder.Trial.Hash, experiment) |> Map.ofList

        let again = options.RetryFailed || options.RestartFailed
        let queued = if options.OnSlurm then Slurm.queued root else Set.empty

        let due (folder: TrialFolder, _) =
            match folder.State with
            | Finished _ -> false
            | Failed _ -> again
            | Running -> not options.OnSlurm
            | Interrupted
            | Waiting -> not (queued.Contains folder.Trial.Hash)

        let states = folders |> List.map (fun (folder, _) -> folder.State)
        let toRun = List.filter due folders
        let finished = states |> List.filter _.IsFinished |> List.length
        let failed = states |> List.filter _.IsFailed |> List.length

        let failures =
            if failed = 0 then
                ""
            elif options.RestartFailed then
                $", {failed} failed (started afresh)"
            elif options.RetryFailed then
                $", {failed} failed (tried again)"
            else
                $", {failed} failed (--retry-failed tries them again)"

        let inQueue = if queued.IsEmpty then "" else $", {queued.Count} queued"

        let trialCount = Names.counted folders.Length "trial"

        say
            $"{config.Name}: {trialCount}, {finished} finished{failures}{inQueue}, {toRun.Length} to run, in {Command.shortest root}"

        let threads = max 1 config.Threads

        if options.DryRun then
            folders
            |> List.map (fun (folder, _) ->
                folder.Trial,
                (if List.exists (fst >> (=) folder) toRun then
                     "to run"
                 else
                     string folder.State))
            |> table
            |> string
            |> say
        elif not toRun.IsEmpty then
            for folder, _ in toRun do
                TrialJob.prepare options.RestartFailed folder

            let mutable ended = 0

            let report (trial: TrialEnd) =
                ended <- ended + 1
                let place = (string ended).PadLeft((string toRun.Length).Length)

                say
                    $"[{place}/{toRun.Length}] {trial.Folder.Trial.Label}: {describe trial.State} ({trial.Elapsed.TotalSeconds:F0} s)"

            match Script.current with
            | None when options.OnSlurm ->
                fail "Slurm runs sweeps of scripts only: dotnet fsi build.fsx sweep SCRIPT --on slurm."
            | None -> runHere options.KeepStates report toRun
            | Some(script, _) when options.OnSlurm ->
                let job, folder =
                    Slurm.submit
                        config.Name
                        root
                        options.Workers
                        threads
                        options.KeepStates
                        script
                        (List.map fst toRun)

                let what = Names.counted toRun.Length "trial"
                say $"Job {job}: {what}; list, script and logs in {Command.shortest folder}"
            | Some(script, _) ->
                use interruption =
                    new Script.Interruption("Stopping: the trials save what they have; again to stop now.")

                let workers =
                    if options.Workers > 0 then
                        options.Workers
                    else
                        max 1 (Environment.ProcessorCount / threads)

                Local.run interruption workers options.KeepStates script report (List.map fst toRun)

                if interruption.ExitCode <> 0 then
                    gather declared root |> ignore
                    let left = toRun |> List.filter (fun (folder, _) -> not folder.State.IsFinished)
                    let what = Names.counted left.Length "trial"

                    raise (
                        Script.Stopped(
                            interruption.ExitCode,
                            $"Stopped with {what} left; the same command goes on where they stopped."
                        )
                    )

        if options.DryRun then
            SweepResults(SweepTrial.readAll declared root)
        else
            gather declared root

    /// The tables of the results, and where they are.
    let private sayResults (root: string) (results: SweepResults) =
        say (string results)

        if results.Count > 0 then
            say $"Tables: {Command.shortest root}/results.csv, summary.csv"

    /// Runs the trials; the exit code tells whether all that were asked for have finished.
    let private runMain (arguments: string list) (sweep: Sweep<'T>) : unit =
        let results = runWith arguments sweep
        let options = SweepOptions.parse arguments

        if not options.DryRun && not options.OnSlurm then
            let root, folders = placed options sweep

            if results.Count > 0 then
                say ""
                sayResults root results

            say $"Report: {Command.shortest root}/report.html"

            let unfinished =
                folders |> List.map fst |> List.filter (fun folder -> not folder.State.IsFinished)

            if not unfinished.IsEmpty then
                let what = Names.counted unfinished.Length "trial"
                let states = unfinished |> List.countBy (fun folder -> string folder.State)

                let states =
                    String.Join(", ", states |> List.map (fun (state, n) -> $"{n} {state}"))

                raise (Script.Stopped(1, $"{what} did not finish: {states}."))

    /// Two sides of a comparison: of a setting that is named twice, A has the first value and B the second; one that is named
    /// once holds for both.
    let private sides (settings: string list) : string list * string list =
        let name (setting: string) = (setting.Split('=')[0]).Trim()
        let groups = settings |> List.groupBy name

        match groups |> List.tryFind (fun (_, same) -> same.Length > 2) with
        | Some(name, same) ->
            fail
                $"{name} is given {same.Length} times; compare takes a setting twice, for A and for B, or once for both."
        | None when groups |> List.forall (fun (_, same) -> same.Length = 1) ->
            fail
                "compare takes two values of a setting, the first of A and the second of B: sweep compare SCRIPT max_buffer_size=5_000 max_buffer_size=50_000."
        | None -> groups |> List.map (snd >> List.head), groups |> List.map (snd >> List.last)

    let private show (root: string) (hash: string) =
        match TrialFolders.ofRoot root |> List.filter (fun folder -> folder.Trial.Hash.StartsWith hash) with
        | [] -> fail $"No trial in {Command.shortest root} has a hash that begins with {hash}."
        | [ folder ] ->
            say $"folder    {Command.shortest folder.Path}"
            say $"state     {describe folder.State}"
            say ("changes   " + String.Join(' ', folder.Trial.Changes))
            say $"hash      {folder.Trial.Hash}"

            folder.Error
            |> Option.iter (fun message ->
                for line in message.Split '\n' do
                    say $"error     {DistillException.Printable line}")
        | several -> fail $"{several.Length} trials have a hash that begins with {hash}; give more of it."

    /// The command line, the folder of the sweep, and its trials there that the settings ask for.
    let private found (arguments: string list) (sweep: Sweep<'T>) =
        let options = SweepOptions.parse arguments
        // A name given to the sweep is that of its folder.
        let own = options.Settings |> List.filter _.StartsWith("name=")
        let declared = Trials.declared { options with Settings = own } sweep
        let root = Trials.root options.Logs declared

        let names =
            declared |> List.collect (fun trial -> List.ofSeq trial.Record.Settings.Keys)

        options, root, SweepTrial.readAll Map.empty root |> filtered names options.Settings

    /// Two of the sweep's variants, or groups of them, against each other, as the settings name them.
    let compare (arguments: string list) (sweep: Sweep<'T>) : PairedComparison =
        let options = SweepOptions.parse arguments
        let a, b = sides options.Settings

        let trials (settings: string list) =
            let _, _, trials = found ($"logs={options.Logs}" :: settings) sweep
            trials

        let among (settings: string list) =
            let folders = trials settings |> List.map _.Folder |> set
            fun (trial: SweepTrial) -> folders.Contains trial.Folder

        SweepResults(trials []).Compare(among a, among b)

    /// The job `sweep ...` of a script.
    let main (arguments: string list) (sweep: Sweep<'T>) : unit =
        match arguments with
        | "list" :: rest ->
            match found rest sweep with
            | _, _, [] -> say "There are no trials."
            | _, _, trials ->
                trials |> List.map (fun trial -> trial.Record, describe trial.State) |> table |> string |> say
        | "results" :: rest ->
            let options, root, trials = found rest sweep
            let all = gather Map.empty root

            if options.Settings.IsEmpty then
                sayResults root all
            else
                say (string (SweepResults trials))
        | "best" :: rest ->
            let _, _, trials = found rest sweep
            let results = SweepResults trials

            match results.Best with
            | None -> say "No trial has finished."
            | Some(name, mean) ->
                let of' =
                    if results.Variants.Length > 1 then
                        $" of {results.Variants.Length} variants"
                    else
                        ""

                say $"Best{of'}: {name}: student return {mean} (mean with 95 %% interval)"

                for comparison in results.Comparisons do
                    say (string comparison)
        | "compare" :: rest -> say (string (compare rest sweep))
        | "show" :: rest ->
            let options = SweepOptions.parse rest

            match options.Settings with
            | [ hash ] when not (hash.Contains '=') ->
                let declared = Trials.declared { options with Settings = [] } sweep
                show (Trials.root options.Logs declared) hash
            | _ -> fail "show takes the first letters of a trial's hash; `sweep list SCRIPT` prints them."
        | arguments -> runMain arguments sweep

    /// The job that the arguments ask for, if they ask for one that a script has because it declares a sweep, or something
    /// that can be one.
    let job (arguments: string list) (sweep: Sweep<'T>) : (unit -> unit) option =
        match arguments with
        | "sweep" :: rest -> Some(fun () -> main rest sweep)
        | "trial" :: rest ->
            Some(fun () ->
                let code =
                    match rest |> List.partition ((=) TrialJob.keepingState) with
                    | keep, [ root; file; line ] when fst (Int32.TryParse line) ->
                        TrialJob.main sweep (not keep.IsEmpty) root file (int line)
                    | _ ->
                        fail
                            "A trial is called with the folder of its sweep, a list of trials and a line of it."

                if code <> 0 then
                    raise (Script.Stopped(code, "The trial failed.")))
        | _ -> None
