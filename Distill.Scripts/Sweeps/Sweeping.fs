namespace Distill

open System
open System.IO
open Distill.Storage

/// Sweeps as main jobs of scripts.
module internal Sweeping =
    /// The trials that have the values which the settings ask for; `declared` are names of settings though no trial has them.
    let private filtered (declared: string list) (settings: string list) (trials: SweepTrial list) =
        let plain (value: string) =
            match Names.number (value.Replace("_", "")) with
            | Some number -> string number
            | None -> value

        let known =
            declared @ (trials |> List.collect (fun trial -> List.ofSeq trial.Settings.Keys)) |> List.distinct

        /// The full name and the values that a setting asks for.
        let wanted (setting: string) =
            let name, text =
                match Names.assignment setting with
                | Some setting -> setting
                | None -> fail $"'{setting}' is not a setting: write name=value."

            let name = fst (Settings.translate known (name, text))

            let values =
                SweepSettings.splitValues text
                |> List.map (fun value -> plain (snd (Settings.translate known (name, value))))

            match Names.matching id name known with
            | [ full ] -> full, values
            | [] ->
                fail $"There is no setting '{name}'; {Names.hint (Names.leaf name) (Trials.shortNames known)}"
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
            [
                for name in result.Main :: result.Beside do
                    $"{Measure.heading name} {Measure.shown name result[name]:F1}"
            ]
            |> String.concat ", "
        | Failed message -> "failed: " + firstLine message
        | Paused(iterations, value) -> $"paused after {iterations} iterations, return {value:F1}"
        | state -> string state

    /// What each trial is and how far.
    let private table (rows: (TrialRecord * string) list) =
        let names = rows |> List.map fst |> Trials.varyingOf

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
    let private gather (declared: Map<string, Job>) (root: string) : SweepResults =
        let results = SweepResults(SweepTrial.readAll declared root)
        AtomicFile.RemoveLeftovers(root, TimeSpan.FromHours 1.0, false)

        if results.Count > 0 then
            results.WriteCsv(Path.Combine(root, "results.csv"))
            results.WriteSummary(Path.Combine(root, "summary.csv"))

        if TrialFolders.isRoot root then
            SweepReport.write root |> ignore

        results

    /// The trials that the sweep asks for, each with its folder, and the folder of all.
    let private placed (options: SweepOptions) (sweep: Sweep<'T>) : string * (TrialFolder * Job) list =
        let trials = Trials.declared options sweep
        let root = Trials.root options.Logs trials

        root, Trials.kept root trials |> List.map (fun trial -> TrialFolder(root, trial.Record), trial.Job)

    /// What `--on` can name.
    let private launchers = [ Local.launcher; Slurm.launcher ]

    let private launcherOf (options: SweepOptions) : Launcher =
        match launchers |> List.tryFind (fun launcher -> launcher.Name = options.On) with
        | Some launcher -> launcher
        | None -> fail $"--on {options.On} cannot be: {Names.hint options.On (launchers |> List.map _.Name)}"

    /// Says how many trials there are, and how far.
    let private announce
        (options: SweepOptions)
        (root: string)
        (trials: (TrialFolder * Job) list)
        (queued: Set<string>)
        (toRun: int)
        =
        let count (isSo: TrialState -> bool) =
            trials |> List.filter (fun (folder, _) -> isSo folder.State) |> List.length

        let failures =
            match count _.IsFailed with
            | 0 -> ""
            | failed when options.RestartFailed -> $", {failed} failed (started afresh)"
            | failed when options.RetryFailed -> $", {failed} failed (tried again)"
            | failed -> $", {failed} failed (--retry-failed tries them again)"

        let inQueue = if queued.IsEmpty then "" else $", {queued.Count} queued"

        say (
            $"{Job.name (snd trials.Head)}: "
            + Names.counted trials.Length "trial"
            + $", {count _.IsFinished} finished{failures}{inQueue}, {toRun} to run, in {Command.shortest root}"
        )

    let private launch
        (options: SweepOptions)
        (root: string)
        (launcher: Launcher)
        (toRun: Searching.Order list)
        =
        let job = toRun.Head.Job
        let mutable ended = 0

        let report (trial: TrialEnd) =
            ended <- ended + 1
            let place = (string ended).PadLeft((string toRun.Length).Length)

            say
                $"[{place}/{toRun.Length}] {trial.Folder.Trial.Label}: {describe trial.State} ({trial.Elapsed.TotalSeconds:F0} s)"

        for order in toRun do
            TrialJob.prepare options.RestartFailed order.Until order.Folder

        launcher.Submit
            {
                Name = Job.name job
                Root = root
                Trials = toRun |> List.map (fun order -> order.Folder, order.Job)
                Workers = options.Workers
                Threads = max 1 (Job.threads job)
                KeepStates = options.KeepStates
                Report = report
            }

    /// Whether a trial that has not come as far as it shall is to run now.
    let private due
        (options: SweepOptions)
        (launcher: Launcher)
        (queued: Set<string>)
        (folder: TrialFolder)
        : bool =
        match folder.State with
        | Finished _ -> false
        | Failed _ -> options.RetryFailed || options.RestartFailed
        | Running -> launcher.Waits
        | Paused _
        | Interrupted
        | Waiting -> not (queued.Contains folder.Trial.Hash)

    /// What each of the trials is, and whether it is to run.
    let private sayTable (isDue: TrialFolder -> bool) (folders: TrialFolder list) =
        folders
        |> List.map (fun folder -> folder.Trial, (if isDue folder then "to run" else string folder.State))
        |> table
        |> string
        |> say

    /// Runs those of the declared trials that have not finished. Returns all of them.
    let private runDeclared
        (options: SweepOptions)
        (launcher: Launcher)
        root
        (trials: (TrialFolder * Job) list)
        =
        let queued = launcher.Queued root
        let toRun = trials |> List.filter (fst >> due options launcher queued)
        announce options root trials queued toRun.Length

        if options.DryRun then
            trials |> List.map fst |> sayTable (due options launcher queued)
        elif not toRun.IsEmpty then
            toRun
            |> List.map (fun (folder, job) -> { Folder = folder; Job = job; Until = 0 }: Searching.Order)
            |> launch options root launcher

    /// Runs a search as far as it goes now: to its end, to an interruption or, where others run the trials, to the first batch
    /// that they have not ended. Returns its trials.
    let private runSearch (options: SweepOptions) (launcher: Launcher) root (sweep: Sweep<'T>) =
        let perform (number: int) (orders: Searching.Order list) =
            let queued = launcher.Queued root

            let isDue (order: Searching.Order) =
                due options launcher queued order.Folder
                && (order.Until = 0
                    || order.Folder.Error.IsSome
                    || (order.Folder.ReturnAfter order.Until).IsNone)

            let toRun = orders |> List.filter isDue

            if not (toRun.IsEmpty || options.DryRun) then
                let trials = Names.counted orders.Length "trial"
                say $"Batch {number}: {trials}, {toRun.Length} to run, in {Command.shortest root}"
                launch options root launcher toRun

        let outcome = Searching.run options sweep root perform
        say $"{Job.name (snd outcome.Trials.Head)}: {Searching.describe outcome}"

        if options.DryRun then
            outcome.Open |> List.map _.Folder |> sayTable (fun _ -> true)
        elif not (outcome.Open.IsEmpty || launcher.Waits) then
            let waiting = Names.counted outcome.Open.Length "trial"
            say $"{waiting} of this batch to end; then the same command goes on with the search."

        outcome

    /// Runs what the sweep asks for and has not run yet. Returns what all of the sweep's trials on the disk say, and which of
    /// those asked for are not as far as they should be.
    let private runAll (options: SweepOptions) (sweep: Sweep<'T>) : SweepResults * TrialFolder list =
        let launcher = launcherOf options
        let root, trials = placed options sweep
        let mutable known = trials
        let mutable left: TrialFolder list = []

        let gathered () =
            let declared =
                known |> List.map (fun (folder, job) -> folder.Trial.Hash, job) |> Map.ofList

            if options.DryRun then
                SweepResults(SweepTrial.readAll declared root)
            else
                gather declared root

        try
            if Searching.learns (SweepOptions.search options sweep.Search) then
                let outcome = runSearch options launcher root sweep
                known <- outcome.Trials

                left <-
                    (outcome.Open |> List.map _.Folder)
                    @ (outcome.Trials |> List.map fst |> List.filter _.State.IsFailed)
                    |> List.distinctBy _.Trial.Hash
            else
                runDeclared options launcher root trials
                left <- trials |> List.map fst |> List.filter (fun folder -> not folder.State.IsFinished)
        with Script.Stopped _ ->
            gathered () |> ignore
            reraise ()

        gathered (), left

    let runWith (arguments: string list) (sweep: Sweep<'T>) : SweepResults =
        runAll (SweepOptions.parse arguments) sweep |> fst

    /// The tables of the results, and where they are.
    let private sayResults (root: string) (results: SweepResults) =
        say (string results)

        if results.Count > 0 then
            say $"Tables: {Command.shortest root}/results.csv, summary.csv"

    /// Runs the trials; the exit code tells whether all that were asked for have finished.
    let private runMain (arguments: string list) (sweep: Sweep<'T>) : unit =
        let options = SweepOptions.parse arguments
        let results, unfinished = runAll options sweep

        if not options.DryRun && (launcherOf options).Waits then
            let root, _ = placed options sweep

            if results.Count > 0 then
                say ""
                sayResults root results

            say $"Report: {Command.shortest root}/report.html"

            if not unfinished.IsEmpty then
                let what = Names.counted unfinished.Length "trial"
                let states = unfinished |> List.countBy (fun folder -> string folder.State)

                let states =
                    String.Join(", ", states |> List.map (fun (state, n) -> $"{n} {state}"))

                raise (Script.Stopped(1, $"{what} did not finish: {states}."))

    /// Two sides of a comparison: of a setting that is named twice, A has the first value and B the second; one that is named
    /// once holds for both.
    let private sides (settings: string list) : string list * string list =
        let name (setting: string) =
            Names.assignment setting |> Option.map fst |> Option.defaultValue setting

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

                say $"Best{of'}: {name}: {Measure.words results.Main} {mean} (mean with 95 %% interval)"

                for comparison in results.Comparisons do
                    say (string comparison)

                if results.Front.RowCount > 0 then
                    say ""

                    say
                        $"Worth their price, of {results.Costs.Length} variants (Pareto front against core-seconds):"

                    say (string results.Front)
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
