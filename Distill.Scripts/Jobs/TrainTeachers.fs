namespace Distill

open System
open System.Collections.Concurrent
open System.Collections.Generic
open System.Diagnostics
open System.Globalization
open System.IO
open System.Threading
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// Training of many teachers side by side, one for each variant of an environment, such as its drones or tasks: all that the training
/// of one of them has not.
type TrainTeachers =
    {
        /// The folder of the set: teachers.csv, the policies, of quadrotors the drones, and runs/ with the training of each. Trainings that were
        /// stopped go on there, and processes that work on the same set share it.
        Set: string

        /// How the teachers are made, in a word, for the table; empty for the name of the algorithm.
        Recipe: string

        /// Number of this process among those that share a set, so that each begins elsewhere: `sweep worker=0,1,2,3`.
        Worker: int

        /// Mean return that a teacher must reach to be of use; those below are named. Null for no such gate.
        MinReturn: Nullable<float>

        /// The same for the measure of the environment's that says which policy is the best (best_by), such as success.
        MinMeasure: Nullable<float>

        /// Iterations of each variant's training, in the order of the variants; empty for the algorithm's own number. Give the variants
        /// that take longer more.
        VariantIterations: IReadOnlyList<int>

        /// Whether the critics that belong to the policies are kept, too, in critics/VARIANT/: to distil values from, or to go on with.
        KeepCritics: bool
    }

/// The teachers of a set that have been trained so far.
type TeachersResult
    (
        set: TeacherSet,
        wanted: int,
        failures: (string * string) list,
        minReturn: float option,
        minMeasure: float option
    ) =
    let rows = List.ofSeq set.Teachers
    let mean (of': TeacherRow -> float) = rows |> List.averageBy of'
    let lowest (of': TeacherRow -> float) = rows |> List.map of' |> List.min

    /// What beside the return is measured.
    let measures: (string * (TeacherRow -> float)) list =
        set.Measure
        |> Option.ofObj
        |> Option.map (fun name -> name, fun (row: TeacherRow) -> row.Measure.Value)
        |> Option.toList

    let table =
        Table(
            [
                "teachers"
                "mean return"
                "lowest"
                for name, _ in measures do
                    $"mean {name}"
                    $"lowest {name}"
                "mean length"
                "terminated %"
                "core-seconds"
                "each"
            ],
            [
                [
                    box $"{rows.Length} of {wanted}"
                    mean _.Return
                    lowest _.Return
                    for _, value in measures do
                        mean value
                        lowest value
                    mean _.Length
                    100.0 * mean _.ShareTerminated
                    rows |> List.sumBy _.CoreSeconds
                    mean _.CoreSeconds
                ]
            ]
        )

    let some (names: string list) =
        String.Join(", ", List.truncate 10 names)
        + if names.Length > 10 then
              $" and {names.Length - 10} more"
          else
              ""

    /// Which of them are below a gate.
    let gate (verb: string) (of': TeacherRow -> float) (format: float -> string) (least: float) =
        match rows |> List.filter (fun row -> not (of' row >= least)) with
        | [] -> $"All of them {verb} at least {least}."
        | below ->
            $"{below.Length} of them {verb} less than {least}: "
            + some [ for row in below -> $"{row.Variant} ({format (of' row)})" ]

    member _.Set = set

    /// Variants whose training failed, and why.
    member _.Failures = failures
    member _.ToHtml() = table.ToHtml()

    override _.ToString() =
        String.Join(
            Environment.NewLine,
            [
                string table
                match minReturn with
                | Some least -> gate "return" _.Return (fun value -> $"{value:F1}") least
                | None -> ()
                match minMeasure, measures with
                | Some least, (name, value) :: _ ->
                    gate $"have a {name} of" value (fun value -> $"{value:G4}") least
                | _ -> ()
                for variant, why in failures do
                    $"No teacher for {variant}: {why}"
                $"Set of teachers: {Command.shortest set.Folder}"
            ]
        )

module TrainTeachers =
    let private kindOf (algorithm: Reinforcement) = algorithm.Kind + "_teachers"

    let defaults: TrainTeachers =
        {
            Set = "logs/teachers"
            Recipe = ""
            Worker = 0
            MinReturn = Nullable()
            MinMeasure = Nullable()
            VariantIterations = []
            KeepCritics = false
        }

    /// What a set has a teacher for each of.
    type private Variants =
        {
            Names: string array

            /// The environments of one of them alone.
            Only: string -> IEnvironmentConfig

            /// Writes into the set what the environments are made from.
            Write: unit -> unit
        }

    /// Everything about the training of a set, but where each teacher is.
    type private Work =
        {
            Teachers: TrainTeachers
            Training: TrainTeacher
            Algorithm: Reinforcement
            Variants: Variants
            Command: Command
        }

    let private ofSet (teachers: TrainTeachers) (parts: string list) =
        Path.Combine(List.toArray (teachers.Set :: parts))

    /// Each drone, from a file in the set, so that the set is whole by itself.
    let private ofDrones (teachers: TrainTeachers) (config: QuadrotorConfig) : Variants =
        let drones = config.LoadDrones() |> Array.ofSeq

        match drones |> Array.countBy _.Name |> Array.tryFind (fun (_, times) -> times > 1) with
        | Some(name, _) -> fail $"Two of the drones are called '{name}'; each needs a name of its own."
        | None ->
            {
                Names = [| for drone in drones -> drone.Name |]
                Only =
                    fun drone ->
                        let file = ofSet teachers [ TeacherSet.Drones; drone + ".json" ]
                        let alone = config |> Settings.set <@ _.Sampled @> null
                        alone |> Settings.set <@ _.Drones @> [| file |] :> IEnvironmentConfig
                Write = fun () -> ParameterFile.WriteFolder(ofSet teachers [ TeacherSet.Drones ], drones)
            }

    let private variants (teachers: TrainTeachers) (training: TrainTeacher) : Variants =
        match training.Environment with
        | :? QuadrotorConfig as config -> ofDrones teachers config
        | environment ->
            let names = environment.Spec.Variants |> Array.ofSeq

            if names.Length = 0 || isNull (environment.Only 0) then
                fail
                    $"The environments of {environment.Spec.Name} cannot be all of one variant, such as a drone or a task, that would have a teacher of its own."

            {
                Names = names
                Only = fun name -> environment.Only(Array.IndexOf(names, name)) |> nonNull
                Write = ignore
            }

    let private check (teachers: TrainTeachers) (training: TrainTeacher) (algorithm: Reinforcement) =
        TrainTeacher.check training algorithm
        Job.noOutput "save_to" training.SaveTo
        let names = (variants teachers training).Names
        let iterations = teachers.VariantIterations

        if iterations.Count <> 0 && iterations.Count <> names.Length then
            fail
                $"variant_iterations has {iterations.Count} numbers for {names.Length} variants; it must have one for each, or none."

        for number in iterations do
            Training.atLeastOne "variant_iterations" number

        if teachers.MinMeasure.HasValue then
            let best = Best.by training.Environment.Spec training.BestBy

            if not (best.IsOwn && best.Highest) then
                fail
                    $"min_measure={teachers.MinMeasure.Value} cannot work with best_by={best.Measure}: it needs a measure of the environment's of which more is better."

        if teachers.Set = "" then
            fail "set= cannot work; it must name the folder of the set."

        if teachers.Worker < 0 then
            fail $"worker={teachers.Worker} cannot work; it must be 0 or more."

    let private inSet (work: Work) (parts: string list) = ofSet work.Teachers parts

    let private runOf (work: Work) (variant: string) = inSet work [ "runs"; variant ]

    /// The row of a teacher that is finished, in a table of its own.
    let private finished (work: Work) (variant: string) : TeacherRow option =
        let run = runOf work variant

        if TeacherSet.IsAt run then
            Some (TeacherSet.Read run).Teachers[0]
        else
            None

    /// Makes the set's folder with what all its teachers have in common, or refuses to go on with other settings in it.
    let private prepare (work: Work) =
        let lengths = work.Teachers.VariantIterations

        let parameters =
            Training.parameters
                [
                    { work.Training with Threads = 0 }
                    yield! work.Algorithm.Records
                    if lengths.Count > 0 then
                        {| VariantIterations = lengths |}
                ]

        let folder = RunFolder.CreateAt work.Teachers.Set

        /// Another process that shares the set is done with this in a moment.
        let rec held () =
            match folder.TryLock() with
            | null ->
                Thread.Sleep 50
                held ()
            | held -> held

        use _ = held ()

        if Directory.Exists(inSet work [ TeacherSet.Policies ]) then
            // Nor the iterations: those that are finished would have had others.
            Training.checkSettings [] folder parameters
        else
            for name, tree in parameters do
                folder.WriteParameters(name, tree)

            Command.write folder work.Command
            work.Variants.Write()
            // Last: where it is, the rest is.
            Directory.CreateDirectory(inSet work [ TeacherSet.Policies ]) |> ignore

    let private silent: Display = { Say = ignore; Advance = fun _ _ -> () }

    /// The measure of the environment's that each teacher has beside its return.
    let private measureOf (work: Work) =
        let best = Best.by work.Training.Environment.Spec work.Training.BestBy
        if best.IsOwn then Some best.Measure else None

    /// The algorithm for one of the variants.
    let private algorithmFor (work: Work) (variant: string) =
        match work.Teachers.VariantIterations with
        | none when none.Count = 0 -> work.Algorithm
        | iterations ->
            work.Algorithm.Records
            |> Settings.apply [ $"iterations={iterations[Array.IndexOf(work.Variants.Names, variant)]}" ]
            |> work.Algorithm.With

    /// Copies the critics of the best policy from the training's folder into the set.
    let private keepCritics (work: Work) (folder: RunFolder) (variant: string) (algorithm: Algorithm) =
        if work.Teachers.KeepCritics then
            let place = inSet work [ TeacherSet.Critics; variant ]
            Directory.CreateDirectory place |> ignore

            for name, _ in algorithm.Critics do
                let file = name + ".safetensors"
                File.Copy(folder.Checkpoint file, Path.Combine(place, file), true)

    /// Notes a finished teacher in its folder, which keeps its metrics and no checkpoints.
    let private conclude (work: Work) (folder: RunFolder) (variant: string) (flown: EvaluationResult) =
        let cost = (RunCost.read folder.Path).Value
        let measure = measureOf work

        TeacherSet(
            folder.Path,
            [
                TeacherRow(
                    Variant = variant,
                    Policy = $"{TeacherSet.Policies}/{variant}.safetensors",
                    Return = flown.MeanReturn,
                    Length = flown.MeanLength,
                    ShareTerminated = flown.ShareTerminated,
                    Episodes = int64 flown.Episodes,
                    CoreSeconds = Math.Round(cost.CoreSeconds, 3),
                    Seed = work.Algorithm.Seed,
                    Recipe =
                        (if work.Teachers.Recipe = "" then
                             work.Algorithm.Kind
                         else
                             work.Teachers.Recipe),
                    Measure = (measure |> Option.map flown.Mean |> Option.toNullable)
                )
            ],
            Option.toObj measure
        )
            .Write()

        Directory.Delete(Path.GetDirectoryName(folder.Checkpoint ".") |> nonNull, true)

    /// Trains one teacher on this thread alone, from its checkpoint if it has one, to its end or an interruption.
    let private train (work: Work) (interruption: Script.Interruption) (folder: RunFolder) (variant: string) =
        use own = new Belongings()

        let environment = work.Variants.Only variant
        let reinforcement = algorithmFor work variant

        let training =
            { work.Training with Name = variant; Environment = environment; Threads = 1 }

        let setup = TrainTeacher.setup training reinforcement
        let pool = own.Add(new WorkerPool(1))

        let guide =
            if Teacher.kind reinforcement.Teacher = TeacherKind.Nobody then
                None
            else
                Some(own.Add(Teacher.readAll reinforcement.Teacher environment.Spec))

        let learner, algorithm = reinforcement.Start environment pool guide
        own.Add learner |> ignore
        Training.sign work.Command setup algorithm.Policy
        let resume = Runner.hasState folder
        use meter = new CostMeter(folder.Path, resume, CpuTime.ofThread ())

        use evaluator =
            new Evaluator(environment, setup.Plan.EvaluationEpisodes, setup.Seed, pool)

        Training.metered meter algorithm
        |> Runner.run folder resume setup.Plan 0 (Some evaluator) interruption silent
        |> function
            | Ending.Interrupted _ -> None
            | Ending.Finished ->
                Training.withBest folder algorithm (fun best _ ->
                    use evaluator = Training.finalEvaluator setup pool
                    let flown = evaluator.Run best

                    TrainTeacher.record
                        folder
                        algorithm.Role
                        (inSet work [ TeacherSet.Policies; variant + ".safetensors" ])
                        best
                        flown

                    keepCritics work folder variant algorithm
                    Some flown)

    /// Trains one teacher, unless another process is at it or it is finished; gives its row where it has been finished here.
    let private attempt
        (work: Work)
        (interruption: Script.Interruption)
        (variant: string)
        : TeacherRow option =
        let folder = RunFolder.CreateAt(runOf work variant)
        use held = folder.TryLock()

        if isNull held || (finished work variant).IsSome then
            None
        else
            AtomicFile.RemoveLeftovers(folder.Path, TimeSpan.Zero, true)

            match train work interruption folder variant with
            | Some flown ->
                conclude work folder variant flown
                finished work variant
            | None -> None

    /// Does the work for each item, on so many threads of their own; what one throws is thrown at the end.
    let private onThreads (threads: int) (items: 'Item array) (work: 'Item -> unit) =
        let next = ref -1
        let errors = ConcurrentQueue<exn>()

        let rec take () =
            let i = Interlocked.Increment next

            if i < items.Length && errors.IsEmpty then
                try
                    work items[i]
                with error ->
                    errors.Enqueue error

                take ()

        let all = [ for _ in 1..threads -> Thread(take) ]
        all |> List.iter _.Start()
        all |> List.iter _.Join()

        match errors.TryDequeue() with
        | true, error -> Runtime.ExceptionServices.ExceptionDispatchInfo.Throw error
        | _ -> ()

    /// Trains the teachers that are missing, as many side by side as there are threads. Gives those that failed.
    let private trainAll (work: Work) (threads: int) =
        use interruption =
            new Script.Interruption("Stopping after the iterations at hand; again to stop now.")

        let count = work.Variants.Names.Length
        let gate = obj ()
        let clock = Stopwatch.StartNew()
        let failures = ConcurrentQueue<string * string>()

        let missing =
            work.Variants.Names |> Array.filter (fun variant -> (finished work variant).IsNone)

        let before = count - missing.Length
        let done' = ref 0

        if before > 0 then
            say $"{before} of {count} teachers are finished"

        let measured (row: TeacherRow) =
            match measureOf work with
            | Some name -> $", {name} {row.Measure.Value:G4}"
            | None -> ""

        let tell (row: TeacherRow) =
            lock gate (fun () ->
                done'.Value <- done'.Value + 1

                let left =
                    clock.Elapsed * (float (missing.Length - done'.Value) / float done'.Value)

                say
                    $"[{before + done'.Value}/{count}] {row.Variant}: return {row.Return:F1}{measured row}, {100.0 * row.ShareTerminated:F1} %% terminated, {row.CoreSeconds:F1} core-s | ETA {Display.duration left}")

        // So that processes which share a set do not all begin with the same teacher.
        let first =
            if missing.Length = 0 then
                0
            else
                work.Teachers.Worker * 7919 % missing.Length

        let take (variant: string) =
            if interruption.ExitCode = 0 then
                try
                    attempt work interruption variant |> Option.iter tell
                with :? DistillException as error ->
                    failures.Enqueue(variant, error.Message)
                    lock gate (fun () -> say $"{variant}: {error.Message}")

        /// Those that other processes are at: one of these may die, and then its teacher is taken over.
        let rec awaitOthers (told: bool) =
            let left =
                missing
                |> Array.filter (fun variant ->
                    (finished work variant).IsNone && failures |> Seq.forall (fst >> (<>) variant))

            if left.Length > 0 && interruption.ExitCode = 0 then
                if not told then
                    say $"Waiting for {left.Length} teachers that other processes train"

                Thread.Sleep 200
                onThreads threads left take
                awaitOthers true

        onThreads threads (Array.append missing[first..] missing[.. first - 1]) take
        awaitOthers false
        List.ofSeq failures, interruption.ExitCode

    /// Writes the table of all teachers that are finished.
    let private collect (work: Work) : TeacherSet option =
        match work.Variants.Names |> Array.choose (finished work) with
        | [||] -> None
        | rows ->
            let set = TeacherSet(work.Teachers.Set, rows, Option.toObj (measureOf work))
            set.Write()
            Some set

    let internal run
        (settings: string list)
        (teachers: TrainTeachers)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : TeachersResult =
        check teachers training algorithm
        let variants = variants teachers training
        let count = variants.Names.Length

        let work =
            {
                Teachers = teachers
                Training = training
                Algorithm = algorithm
                Variants = variants
                Command = Command.now (kindOf algorithm) "teacher" settings algorithm.Seed
            }

        let threads =
            if training.Threads = 0 then
                Environment.ProcessorCount
            else
                training.Threads

        say
            $"{algorithm.Title}: {count} teachers, {min threads count} side by side, seed {algorithm.Seed}, {training.Environment.Envs} environments each, {Simd.Path} kernels"

        algorithm.CheckMemory training.Environment 1
        prepare work
        let failures, code = trainAll work threads
        let set = collect work

        if code <> 0 then
            let sentence =
                $"Stopped with {set |> Option.map _.Teachers.Count |> Option.defaultValue 0} of {count} teachers; the same command goes on with the others."

            raise (Script.Stopped(code, sentence))

        match set with
        | Some set ->
            TeachersResult(
                set,
                count,
                failures,
                Option.ofNullable teachers.MinReturn,
                Option.ofNullable teachers.MinMeasure
            )
        | None ->
            match failures with
            | (variant, why) :: _ -> fail $"No teacher could be trained; of {variant}: {why}"
            | [] -> failwith "A teacher that was finished is gone."

    /// In a folder of its own the results of a process among several.
    let private runIn
        (options: RunOptions)
        (settings: string list)
        (teachers: TrainTeachers)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        =
        let folder = RunFolder.CreateAt options.Folder

        for name, tree in Training.parameters (teachers :: training :: algorithm.Records) do
            folder.WriteParameters(name, tree)

        Command.write folder (Command.now (kindOf algorithm) "" settings algorithm.Seed)
        let set = (run settings teachers training algorithm).Set.Teachers
        let mean (of': TeacherRow -> float) = set |> Seq.averageBy of'

        Csv.write
            (Training.results folder)
            [ "policy"; "mean_return"; "std_return"; "mean_length"; "share_terminated"; "episodes" ]
            [
                [
                    "teacher"
                    Csv.number (mean _.Return)
                    Csv.number (set |> Seq.map _.Return |> Statistics.deviation)
                    Csv.number (mean _.Length)
                    Csv.number (mean _.ShareTerminated)
                    string (set |> Seq.sumBy _.Episodes)
                ]
            ]

    let rec job
        (teachers: TrainTeachers)
        (defaultTraining: TrainTeacher)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : Job =
        {
            Kind = kindOf algorithm
            Records = teachers :: training :: algorithm.Records
            Defaults = defaults :: defaultTraining :: algorithm.Defaults
            With =
                fun settings ->
                    match Settings.apply settings (teachers :: training :: algorithm.Records) with
                    | teachers :: training :: records ->
                        job
                            (teachers :?> TrainTeachers)
                            defaultTraining
                            (training :?> TrainTeacher)
                            (algorithm.With records)
                    | _ -> failwith "Settings were lost."
            Check = fun () -> check teachers training algorithm
            Run = fun options settings -> runIn options settings teachers training algorithm
            Measures = PolicyResult.find "teacher" >> PolicyResult.measures
            Main = "return"
            Beside = [ "length"; "share_terminated" ]
        }
