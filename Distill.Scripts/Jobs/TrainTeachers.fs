namespace Distill

open System
open System.Collections.Concurrent
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

/// Training of many teachers side by side, one for each drone: all that the training of one of them has not.
type TrainTeachers =
    {
        /// The folder of the set: teachers.csv, the policies, the drones, and runs/ with the training of each. Trainings that were
        /// stopped go on there, and processes that work on the same set share it.
        Set: string

        /// How the teachers are made, in a word, for the table; empty for the name of the algorithm.
        Recipe: string

        /// Number of this process among those that share a set, so that each begins elsewhere: `sweep worker=0,1,2,3`.
        Worker: int

        /// Mean return that a teacher must reach to be of use; those below are named. Null for no such gate.
        MinReturn: Nullable<float>
    }

/// The teachers of a set that have been trained so far.
type TeachersResult(set: TeacherSet, wanted: int, failures: (string * string) list, minReturn: float option) =
    let rows = List.ofSeq set.Teachers
    let mean (of': TeacherRow -> float) = rows |> List.averageBy of'

    let table =
        Table(
            [ "teachers"; "mean return"; "lowest"; "mean length"; "terminated %"; "core-seconds"; "each" ],
            [
                [
                    box $"{rows.Length} of {wanted}"
                    mean _.Return
                    rows |> List.map _.Return |> List.min
                    mean _.Length
                    100.0 * mean _.ShareTerminated
                    rows |> List.sumBy _.CoreSeconds
                    mean _.CoreSeconds
                ]
            ]
        )

    /// Names and returns of those whose return is below the gate.
    let below =
        [
            for row in rows do
                if row.Return < defaultArg minReturn Double.NegativeInfinity then
                    $"{row.Variant} ({row.Return:F1})"
        ]

    let some (names: string list) =
        String.Join(", ", List.truncate 10 names)
        + if names.Length > 10 then
              $" and {names.Length - 10} more"
          else
              ""

    member _.Set = set

    /// Drones whose training failed, and why.
    member _.Failures = failures
    member _.ToHtml() = table.ToHtml()

    override _.ToString() =
        String.Join(
            Environment.NewLine,
            [
                string table
                match minReturn with
                | Some least when below.IsEmpty -> $"All of them return at least {least}."
                | Some least -> $"{below.Length} of them return less than {least}: {some below}"
                | None -> ()
                for drone, why in failures do
                    $"No teacher for drone {drone}: {why}"
                $"Set of teachers: {Command.shortest set.Folder}"
            ]
        )

module TrainTeachers =
    let private kindOf (algorithm: Reinforcement) = algorithm.Kind + "_teachers"

    let defaults: TrainTeachers =
        { Set = "logs/teachers"; Recipe = ""; Worker = 0; MinReturn = Nullable() }

    /// Everything about the training of a set, but where each teacher is.
    type private Work =
        {
            Teachers: TrainTeachers
            Training: TrainTeacher
            Algorithm: Reinforcement
            Config: QuadrotorConfig
            Drones: QuadrotorParameters array
            Guide: Policy option
            Command: Command
        }

    let private drones (training: TrainTeacher) =
        match training.Environment with
        | :? QuadrotorConfig as config ->
            let drones = config.LoadDrones() |> Array.ofSeq

            match drones |> Array.countBy _.Name |> Array.tryFind (fun (_, times) -> times > 1) with
            | Some(name, _) -> fail $"Two of the drones are called '{name}'; each needs a name of its own."
            | None -> config, drones
        | other -> fail $"{other.GetType().Name} has no drones: a set of teachers is for quadrotors."

    let private check (teachers: TrainTeachers) (training: TrainTeacher) (algorithm: Reinforcement) =
        TrainTeacher.check training algorithm
        Job.noOutput "save_to" training.SaveTo
        drones training |> ignore

        if teachers.Set = "" then
            fail "set= cannot work; it must name the folder of the set."

        if teachers.Worker < 0 then
            fail $"worker={teachers.Worker} cannot work; it must be 0 or more."

    let private inSet (work: Work) (parts: string list) =
        Path.Combine(List.toArray (work.Teachers.Set :: parts))

    let private runOf (work: Work) (drone: string) = inSet work [ "runs"; drone ]

    /// The row of a teacher that is finished, in a table of its own.
    let private finished (work: Work) (drone: string) : TeacherRow option =
        let run = runOf work drone

        if TeacherSet.IsAt run then
            Some (TeacherSet.Read run).Teachers[0]
        else
            None

    /// Makes the set's folder with what all its teachers have in common, or refuses to go on with other settings in it.
    let private prepare (work: Work) =
        let parameters =
            Training.parameters ({ work.Training with Threads = 0 } :: work.Algorithm.Records)

        let folder = RunFolder.CreateAt work.Teachers.Set

        /// Another process that shares the set is done with this in a moment.
        let rec held () =
            match folder.TryLock() with
            | null ->
                Thread.Sleep 50
                held ()
            | held -> held

        use _ = held ()

        if Directory.Exists(inSet work [ TeacherSet.Drones ]) then
            // Nor the iterations: those that are finished would have had others.
            Training.checkSettings [] folder parameters
        else
            for name, tree in parameters do
                folder.WriteParameters(name, tree)

            Command.write folder work.Command
            Directory.CreateDirectory(inSet work [ TeacherSet.Policies ]) |> ignore
            // Last, and in one move: where it is, the rest is.
            ParameterFile.WriteFolder(inSet work [ TeacherSet.Drones ], work.Drones)

    let private silent: Display = { Say = ignore; Advance = fun _ _ -> () }

    /// Notes a finished teacher in its folder, which keeps its metrics and no checkpoints.
    let private conclude (work: Work) (folder: RunFolder) (drone: string) (flown: EvaluationResult) =
        let cost = (RunCost.read folder.Path).Value

        TeacherSet(
            folder.Path,
            [
                TeacherRow(
                    Variant = drone,
                    Policy = $"{TeacherSet.Policies}/{drone}.safetensors",
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
                             work.Teachers.Recipe)
                )
            ]
        )
            .Write()

        Directory.Delete(Path.GetDirectoryName(folder.Checkpoint ".") |> nonNull, true)

    /// Trains one teacher on this thread alone, from its checkpoint if it has one, to its end or an interruption.
    let private train (work: Work) (interruption: Script.Interruption) (folder: RunFolder) (drone: string) =
        use own = new Belongings()

        let environment =
            work.Config
            |> Settings.set <@ _.Sampled @> null
            |> Settings.set <@ _.Drones @> [| inSet work [ TeacherSet.Drones; drone + ".json" ] |]

        let training =
            { work.Training with Name = drone; Environment = environment; Threads = 1 }

        let setup = TrainTeacher.setup training work.Algorithm
        let pool = own.Add(new WorkerPool(1))
        let learner, algorithm = work.Algorithm.Start environment pool work.Guide
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
                        (inSet work [ TeacherSet.Policies; drone + ".safetensors" ])
                        best
                        flown

                    Some flown)

    /// Trains one teacher, unless another process is at it or it is finished; gives its row where it has been finished here.
    let private attempt (work: Work) (interruption: Script.Interruption) (drone: string) : TeacherRow option =
        let folder = RunFolder.CreateAt(runOf work drone)
        use held = folder.TryLock()

        if isNull held || (finished work drone).IsSome then
            None
        else
            AtomicFile.RemoveLeftovers(folder.Path, TimeSpan.Zero, true)

            match train work interruption folder drone with
            | Some flown ->
                conclude work folder drone flown
                finished work drone
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

        let count = work.Drones.Length
        let gate = obj ()
        let clock = Stopwatch.StartNew()
        let failures = ConcurrentQueue<string * string>()

        let missing =
            work.Drones |> Array.filter (fun drone -> (finished work drone.Name).IsNone)

        let before = count - missing.Length
        let done' = ref 0

        if before > 0 then
            say $"{before} of {count} teachers are finished"

        let tell (row: TeacherRow) =
            lock gate (fun () ->
                done'.Value <- done'.Value + 1

                let left =
                    clock.Elapsed * (float (missing.Length - done'.Value) / float done'.Value)

                say
                    $"[{before + done'.Value}/{count}] {row.Variant}: return {row.Return:F1}, {100.0 * row.ShareTerminated:F1} %% terminated, {row.CoreSeconds:F1} core-s | ETA {Display.duration left}")

        // So that processes which share a set do not all begin with the same teacher.
        let first =
            if missing.Length = 0 then
                0
            else
                work.Teachers.Worker * 7919 % missing.Length

        let take (drone: QuadrotorParameters) =
            if interruption.ExitCode = 0 then
                try
                    attempt work interruption drone.Name |> Option.iter tell
                with :? DistillException as error ->
                    failures.Enqueue(drone.Name, error.Message)
                    lock gate (fun () -> say $"{drone.Name}: {error.Message}")

        /// Those that other processes are at: one of these may die, and then its teacher is taken over.
        let rec awaitOthers (told: bool) =
            let left =
                missing
                |> Array.filter (fun drone ->
                    (finished work drone.Name).IsNone && failures |> Seq.forall (fst >> (<>) drone.Name))

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
        match work.Drones |> Array.choose (fun drone -> finished work drone.Name) with
        | [||] -> None
        | rows ->
            let set = TeacherSet(work.Teachers.Set, rows)
            set.Write()
            Some set

    let internal run
        (settings: string list)
        (teachers: TrainTeachers)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : TeachersResult =
        check teachers training algorithm
        let config, drones = drones training

        let guide =
            if Teacher.kind algorithm.Teacher = TeacherKind.Nobody then
                None
            else
                Some(Teacher.read algorithm.Teacher)

        let work =
            {
                Teachers = teachers
                Training = training
                Algorithm = algorithm
                Config = config
                Drones = drones
                Guide = guide
                Command = Command.now (kindOf algorithm) "teacher" settings algorithm.Seed
            }

        let threads =
            if training.Threads = 0 then
                Environment.ProcessorCount
            else
                training.Threads

        say
            $"{algorithm.Title}: {drones.Length} teachers, {min threads drones.Length} side by side, seed {algorithm.Seed}, {config.Envs} environments each, {Simd.Path} kernels"

        algorithm.CheckMemory config 1
        prepare work
        let failures, code = trainAll work threads
        let set = collect work

        if code <> 0 then
            let sentence =
                $"Stopped with {set |> Option.map _.Teachers.Count |> Option.defaultValue 0} of {drones.Length} teachers; the same command goes on with the others."

            raise (Script.Stopped(code, sentence))

        match set with
        | Some set -> TeachersResult(set, drones.Length, failures, Option.ofNullable teachers.MinReturn)
        | None ->
            match failures with
            | (drone, why) :: _ -> fail $"No teacher could be trained; of drone {drone}: {why}"
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
