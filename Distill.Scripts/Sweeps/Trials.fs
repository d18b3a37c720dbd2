namespace Distill

open System
open System.IO

/// From a sweep to its trials.
module internal Trials =
    /// Names whose values differ between the settings, but for the seed, in the order of the first.
    let varying (settings: (string * string) list list) : string list =
        let names =
            settings |> List.collect (List.map fst) |> List.distinct |> List.except [ "seed" ]

        let maps = settings |> List.map Map.ofList

        names
        |> List.filter (fun name ->
            maps |> List.map (fun map -> map.TryFind name) |> List.distinct |> List.length > 1)

    /// Names of the settings in which trials differ, but for the seed.
    let varyingOf (trials: TrialRecord list) : string list =
        trials |> List.map (_.Settings >> Map.toList) |> varying

    /// The shortest names that tell the settings apart.
    let shortNames (names: string list) : string list =
        let leaves = List.countBy Names.leaf names |> Map.ofList

        names
        |> List.map (fun name ->
            if leaves[Names.leaf name] = 1 then
                Names.leaf name
            else
                name)

    let private label (names: string list) (settings: Map<string, string>) =
        let clean (value: string) =
            let value =
                if Path.Exists value then
                    nonNull (Path.GetFileNameWithoutExtension value)
                else
                    value

            value.Trim('[', ']')
            |> String.map (fun c ->
                if Char.IsAsciiLetterOrDigit c || c = '.' || c = '-' then
                    c
                else
                    '_')

        let text =
            List.zip (shortNames names) names
            |> List.choose (fun (short, name) ->
                settings.TryFind name |> Option.map (fun value -> $"{short}-{clean value}"))
            |> String.concat "_"

        text.Substring(0, min 100 text.Length)

    let private isSeed (argument: string) =
        Names.assignment argument |> Option.exists (fst >> (=) "seed")

    /// The sweep's space, widened by the settings of the command line.
    let private spaceOf (options: SweepOptions) (sweep: Sweep<'T>) =
        let others = options.Settings |> List.filter (isSeed >> not)

        space {
            let! parameters = sweep.Parameters
            and! assignments = SweepSettings.toSpace others
            return parameters, assignments
        }

    /// Settings that give each seed.
    let private seedsOf (options: SweepOptions) (sweep: Sweep<'T>) : string list list =
        match options.Settings |> List.filter isSeed, sweep.Seeds with
        | [], [] -> [ [] ]
        | [], seeds -> seeds |> List.map (fun seed -> [ $"seed={seed}" ])
        | several, _ ->
            SweepSettings.splitValues ((List.last several).Split('=', 2)[1])
            |> List.map (fun seed -> [ $"seed={seed}" ])

    /// The jobs at a point, one for each seed, with their settings.
    let private jobsAt (options: SweepOptions) (sweep: Sweep<'T>) (parameters: 'T, assignments) =
        let job = sweep.Job parameters

        let job =
            match sweep.Name with
            | Some name -> job.With [ $"name={name}" ]
            | None -> job
            |> SweepSettings.apply assignments

        let job =
            match SweepOptions.search options sweep.Search with
            | Search.Asha asha when asha.Max > 0 -> job.With [ $"iterations={asha.Max}" ]
            | _ -> job

        [
            for seed in seedsOf options sweep do
                let seeded = job.With seed
                seeded.Check()
                seeded, Job.settings seeded
        ]

    /// What the script says without the command line.
    let private saidBy (seed: uint64) (search: Search) (sweep: Sweep<'T>) =
        Search.points seed search sweep.Parameters |> List.head |> sweep.Job |> Job.settings |> Map.ofList

    /// A trial of a job; `names` are those of the settings that vary, `said` is what the script says without the command line.
    let private ofJob
        (hashOf: (string * string) list -> string)
        (names: string list)
        (said: Map<string, string>)
        (arguments: string list)
        (job: Job, settings: (string * string) list)
        : Trial =
        let ownSettings = Map.ofList settings

        {
            Job = job
            Record =
                {
                    Kind = job.Kind
                    Hash = hashOf settings
                    Label = label names ownSettings
                    Settings = ownSettings
                    Changes =
                        [
                            for name, value in settings do
                                if
                                    value <> Settings.opaque
                                    && (List.contains name names || said.TryFind name <> Some value)
                                then
                                    $"{name}={value}"
                        ]
                    Arguments = arguments
                }
        }

    let private namesOf (jobs: (Job * (string * string) list) list) =
        (jobs |> List.map snd |> varying) @ [ "seed" ]

    /// The jobs at these points, which share one name.
    let private jobsOf (options: SweepOptions) (sweep: Sweep<'T>) points =
        let jobs = points |> List.collect (jobsAt options sweep)

        match jobs |> List.map (fst >> Job.name) |> List.distinct with
        | [ _ ] -> jobs
        | names ->
            let names = String.Join(", ", names)

            fail $"The trials of a sweep share one name, but these have {names}; give the sweep a name."

    /// All trials of the sweep with these settings `name=value,value`, each once, in a fixed order; of a search that learns from
    /// results those that it begins with.
    let declared (options: SweepOptions) (sweep: Sweep<'T>) : Trial list =
        let search = SweepOptions.search options sweep.Search
        let seed = SweepOptions.searchSeed options sweep.SearchSeed
        let space = spaceOf options sweep

        let points, ofPoint =
            match options.Point with
            | Some numbers -> [ Search.at space numbers ], SweepOptions.ofPoint numbers
            | None -> Search.points seed search space, []

        let jobs = jobsOf options sweep points
        let arguments = SweepOptions.declaration options @ ofPoint

        jobs
        |> List.map (ofJob (Fingerprint.hasher ()) (namesOf jobs) (saidBy seed search sweep) arguments)
        |> List.distinctBy _.Record.Hash

    /// Gives the decisions of a point, as they are asked for, and what makes its trials, one for each seed.
    let proposing
        (options: SweepOptions)
        (sweep: Sweep<'T>)
        : (Dimension -> float) -> (Dimension * float) list * (unit -> Trial list) =
        let seed = SweepOptions.searchSeed options sweep.SearchSeed
        let space = spaceOf options sweep
        let examples = Search.points seed (Search.Random 10) space |> jobsOf options sweep

        let names = namesOf examples
        let said = saidBy seed (Search.Random 1) sweep
        let hashOf = Fingerprint.hasher ()

        fun decide ->
            let decisions = Collections.Generic.List()

            let point =
                space.Draw(fun dimension ->
                    let u = decide dimension
                    decisions.Add(dimension, u)
                    u)

            let decisions = List.ofSeq decisions

            let arguments =
                SweepOptions.declaration options @ SweepOptions.ofPoint (List.map snd decisions)

            decisions,
            fun () -> jobsOf options sweep [ point ] |> List.map (ofJob hashOf names said arguments)

    let private names (settings: Map<string, string>) = set settings.Keys

    /// The hash of the job as Distill gave it when it had the settings of these names alone: None where one that came
    /// later is not at its default.
    let private hashWith
        (hashOf: (string * string) list -> string)
        (names: Set<string>)
        (job: Job)
        : string option =
        let known, added =
            Job.settings job |> List.partition (fun (name, _) -> names.Contains name)

        let usual = Job.atDefault job

        if added |> List.forall (fun (name, _) -> usual.Contains name) then
            Some(hashOf known)
        else
            None

    /// Gives trials, each as it is written down in the root if it is there. One that was written down before Distill had all
    /// its present settings is the same if those that it lacks are at their defaults.
    let kept (root: string) : Trial list -> Trial list =
        let hashOf = Fingerprint.hasher ()
        let records = TrialFolders.ofRoot root |> List.map _.Trial
        let byHash = records |> List.map (fun record -> record.Hash, record) |> Map.ofList

        let generations =
            records |> List.map (fun record -> names record.Settings) |> List.distinct

        let earlier (trial: Trial) =
            generations
            |> List.except [ names trial.Record.Settings ]
            |> List.tryPick (fun names -> hashWith hashOf names trial.Job |> Option.bind byHash.TryFind)

        fun trials ->
            let kind = trials.Head.Job.Kind

            match records @ List.map _.Record trials |> List.tryFind (fun record -> record.Kind <> kind) with
            | Some other ->
                fail
                    $"A sweep is of one kind, but {Command.shortest root} has {kind} and {other.Kind}; give the sweep another name."
            | None -> ()

            [
                for trial in trials do
                    match byHash.TryFind trial.Record.Hash |> Option.orElseWith (fun () -> earlier trial) with
                    | Some record -> { trial with Record = record }
                    | None -> trial
            ]

    /// The job with the trial's settings in place of its own.
    let private withSettingsOf (trial: TrialRecord) (job: Job) : Job =
        let said = Map.ofList (Job.settings job)

        job.With
            [
                for KeyValue(name, value) in trial.Settings do
                    if said.TryFind name <> Some value then
                        $"{name}={value}"
            ]

    /// The job of a trial whose script is not at hand. Throws where an environment is the script's own.
    let job (trial: TrialRecord) : Job =
        try
            withSettingsOf trial (Jobs.ofKind trial.Kind)
        with :? DistillException as error ->
            raise (
                DistillException(
                    $"Trial {trial.FolderName} cannot be read without the script that declares it, whose environment may be its own: {error.Message}",
                    error
                )
            )

    /// The trials' records; settings that some lack, because Distill had them not when they were written down, are added with
    /// their defaults.
    let completed (records: TrialRecord list) : TrialRecord list =
        let all =
            records |> List.map (fun record -> names record.Settings) |> List.distinct |> Set.unionMany

        [
            for record in records do
                if (names record.Settings).Count = all.Count then
                    record
                else
                    try
                        let settings = Map.ofList (Job.settings (job record))

                        { record with
                            Settings =
                                (settings, record.Settings)
                                ||> Map.fold (fun settings name value -> settings.Add(name, value))
                        }
                    with :? DistillException ->
                        record
        ]

    /// Where the trials of a sweep are kept.
    let root (logs: string) (trials: Trial list) =
        Path.GetFullPath(Path.Combine(logs, Job.name trials.Head.Job, "sweep"))

    /// The job of a trial that was written down. The script declares it still, or it has changed: then its settings
    /// are put in place of what the script says now.
    let recover (trial: TrialRecord) (sweep: Sweep<'T>) : Job =
        let hashOf = Fingerprint.hasher ()
        let names = names trial.Settings

        let isTrial (job: Job) =
            hashWith hashOf names job = Some trial.Hash

        let trials = declared (SweepOptions.parse trial.Arguments) sweep

        let declared =
            trials
            |> List.tryFind (fun declared -> declared.Record.Hash = trial.Hash)
            |> Option.orElseWith (fun () -> trials |> List.tryFind (fun declared -> isTrial declared.Job))

        match declared with
        | Some declared -> declared.Job
        | None ->
            let job = withSettingsOf trial trials.Head.Job

            if not (isTrial job) then
                fail
                    $"The script, or a file that it names, has changed so much that trial {trial.FolderName} cannot be run any more; run the sweep again."

            job
