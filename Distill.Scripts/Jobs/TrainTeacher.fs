namespace Distill

open System
open System.Collections.Generic
open System.Globalization
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// Training by reinforcement, of a teacher or of a student beside one: all but the algorithm's own settings.
type TrainTeacher =
    {
        /// Name of the experiment: its folder under logs/.
        Name: string

        /// Added to the run folder's name.
        RunName: string

        /// Threads that compute; 0 for one per processor.
        Threads: int

        /// The environments to train in.
        Environment: IEnvironmentConfig

        /// Where the trained policy is copied to, with its command, seed and measured return inside; empty for nowhere.
        SaveTo: string

        /// Iterations between checkpoints. Lower it when a stop would cost more than a save, raise it when saves take up time or disk.
        SaveInterval: int

        /// Iterations between closed-loop evaluations; the best policy is kept. Lower it when the best may fall between two of them,
        /// raise it when evaluations take up the time.
        EvaluationInterval: int

        /// The measure of these evaluations that says which policy is the best: return or length (the highest), share_terminated
        /// (the lowest), or one of the environment's by its name. Change it when the return hides what counts, such as crashes.
        BestBy: string

        /// The run says after how many environment steps the mean return of an evaluation first reached this; null for no such
        /// measure.
        TargetReturn: Nullable<float>

        /// The same of the measure in best_by, such as success; only one of the two can be looked for.
        TargetMeasure: Nullable<float>

        /// Episodes per evaluation, on environments of their own. Raise it when the best is picked by luck, lower it when evaluations
        /// take up the time.
        EvaluationEpisodes: int

        /// Episodes of the evaluation at the end. Raise it to know the return more exactly, lower it in runs that only try something out.
        FinalEpisodes: int
    }

/// A trained policy on episodes that training never saw, and beside it the teacher that guided it, if one did.
type TrainingResult
    (
        folder: string,
        iteration: int,
        evaluation: EvaluationResult,
        interruption: string option,
        ?teacher: EvaluationResult,
        ?target: string * float,
        ?stepsToTarget: string * float option
    ) =
    let comparison =
        match teacher with
        | Some teacher ->
            Comparison(
                "policy",
                [ "teacher", teacher; "best student", evaluation ],
                "teacher",
                ?stepsToTarget = stepsToTarget
            )
        | None -> Comparison("policy", [ "teacher", evaluation ], ?stepsToTarget = stepsToTarget)

    let role = if teacher.IsSome then "student" else "teacher"

    /// The run folder.
    member _.Folder = folder

    /// Mean difference of its returns from the teacher's in the same episodes, with its 95 % interval; None without a teacher.
    member _.Difference =
        teacher |> Option.map (fun _ -> comparison.Difference "best student")

    /// Iterations after which the policy was kept: the best of all evaluations, by mean return or what `best_by` says.
    member _.Iteration = iteration
    member _.Evaluation = evaluation

    /// Environment steps after which an evaluation during training first reached the target, if one did.
    member _.StepsToTarget = stepsToTarget |> Option.bind snd

    /// Where the training was interrupted, and how to go on; None where it has finished.
    member _.Interruption = interruption
    member _.Comparison = comparison
    member _.ToHtml() = comparison.ToHtml()

    override _.ToString() =
        String.Join(
            Environment.NewLine,
            [
                string comparison
                $"{Names.pascal role} return: {evaluation.MeanReturn:F1} (the best {role}, after {iteration} iterations)"
                $"{Names.pascal role} terminated: {100.0 * evaluation.ShareTerminated:F1} %%"
                match teacher with
                | Some _ ->
                    let difference = comparison.Difference "best student"

                    $"Student - teacher: {difference.Estimate:F1}, 95 %% interval [{difference.Low:F1}, {difference.High:F1}] "
                    + $"(mean over {evaluation.Episodes} episodes that both flew)"
                | None -> ()
                yield! target |> Option.map comparison.Target |> Option.defaultValue []
                $"Run folder: {folder}"
                yield! Option.toList interruption
            ]
        )

module TrainTeacher =
    let defaults: TrainTeacher =
        {
            Name = "teacher"
            RunName = ""
            Threads = 0
            Environment = QuadrotorConfig(Envs = 4096)
            SaveTo = ""
            SaveInterval = 100
            EvaluationInterval = 25
            BestBy = "return"
            TargetReturn = Nullable()
            TargetMeasure = Nullable()
            EvaluationEpisodes = 200
            FinalEpisodes = 1000
        }

    /// The same with one environment, as SAC begins with.
    let single: TrainTeacher = { defaults with Environment = QuadrotorConfig(Envs = 1) }

    /// What is looked for in evaluations during training, and how much of it.
    let private target (training: TrainTeacher) =
        let looked (measure: string) (value: Nullable<float>) =
            value |> Option.ofNullable |> Option.map (fun value -> measure, value)

        looked "return" training.TargetReturn
        |> Option.orElse (looked training.BestBy training.TargetMeasure)

    let internal setup (training: TrainTeacher) (algorithm: Reinforcement) : Training.Setup =
        {
            Kind = algorithm.Kind
            Name = training.Name
            RunName = training.RunName
            Seed = algorithm.Seed
            Environment = training.Environment
            Device = algorithm.Device
            Plan =
                {
                    Iterations = algorithm.Iterations
                    SaveInterval = training.SaveInterval
                    EvaluationInterval = training.EvaluationInterval
                    EvaluationEpisodes = training.EvaluationEpisodes
                    FinalEpisodes = training.FinalEpisodes
                    Best = Best.by training.Environment.Spec training.BestBy
                    Target = target training
                    Variants = training.Environment.Spec.Variants
                }
            Parameters = Training.parameters (training :: algorithm.Records)
        }

    /// Writes down in the file of the best policy how good it is, and copies it to where it is wanted.
    let internal record
        (folder: RunFolder)
        (role: string)
        (saveTo: string)
        (policy: Policy)
        (evaluation: EvaluationResult)
        =
        let note (name: string) (value: float) =
            policy.Metadata[name] <- value.ToString("G6", CultureInfo.InvariantCulture)

        note "return" evaluation.MeanReturn
        note "return_standard_error" (evaluation.StdReturn / sqrt (float evaluation.Episodes))
        note "share_terminated" evaluation.ShareTerminated
        policy.Metadata["return_episodes"] <- string evaluation.Episodes

        for path in [ folder.Checkpoint $"best_{role}.safetensors"; saveTo ] |> List.filter ((<>) "") do
            Training.makeFolderOf path
            PolicyFile.Save(path, policy)

    let private judge
        (options: RunOptions)
        (setup: Training.Setup)
        (pool: WorkerPool)
        (saveTo: string)
        (guide: ITeachers option)
        (algorithm: Algorithm)
        (folder: RunFolder)
        (interruption: string option)
        =
        Training.withBest folder algorithm (fun best iteration ->
            use evaluator = Training.finalEvaluator setup pool
            let evaluation = evaluator.Run best

            let result =
                TrainingResult(
                    Training.path folder,
                    iteration,
                    evaluation,
                    interruption,
                    ?teacher = (guide |> Option.map (fun teacher -> evaluator.Run teacher)),
                    ?target = setup.Plan.Target,
                    ?stepsToTarget =
                        Training.stepsToTarget
                            folder
                            setup
                            (if guide.IsSome then "best student" else algorithm.Role)
                )

            if interruption.IsNone then
                record folder algorithm.Role saveTo best evaluation

                Training.conclude
                    options
                    folder
                    setup
                    result.Comparison
                    [
                        match guide with
                        | Some teacher when teacher.Policies.Count = 1 -> "teacher", teacher.Policies[0]
                        | _ -> ()
                        algorithm.Role, best
                    ]

            result)

    let internal check (training: TrainTeacher) (algorithm: Reinforcement) =
        algorithm.Check()
        Training.atLeastOne "save_interval" training.SaveInterval
        Training.atLeastOne "evaluation_interval" training.EvaluationInterval
        Training.atLeastOne "evaluation_episodes" training.EvaluationEpisodes
        Training.atLeastOne "final_episodes" training.FinalEpisodes
        let best = Best.by training.Environment.Spec training.BestBy

        for name, target in
            [ "target_return", training.TargetReturn; "target_measure", training.TargetMeasure ] do
            if target.HasValue && not (Double.IsFinite target.Value) then
                fail $"{name}={target.Value} cannot work; it must be a number, or null."

        if training.TargetMeasure.HasValue then
            if training.TargetReturn.HasValue then
                fail "target_return and target_measure cannot both be looked for; leave one of them out."

            if not best.Highest then
                fail
                    $"target_measure={training.TargetMeasure.Value} cannot work with best_by={best.Measure}, of which less is better."

    /// Makes everything that a training needs, and says what that is.
    let internal start
        (own: Belongings)
        (training: TrainTeacher)
        (reinforcement: Reinforcement)
        : Training.Session =
        check training reinforcement
        let setup = setup training reinforcement
        let pool = own.Add(Training.pool training.Threads)
        let file = reinforcement.Teacher

        say
            $"{reinforcement.Title} '{training.Name}', seed {reinforcement.Seed}, {training.Environment.Envs} environments, {pool.Threads} threads, {Simd.Path} kernels"

        let teacher =
            if Teacher.kind file <> TeacherKind.Nobody then
                Some(own.Add(Labelling.loadTeachers file training.Environment.Spec))
            else
                None

        reinforcement.CheckMemory training.Environment pool.Threads
        let learner, algorithm = reinforcement.Start training.Environment pool teacher
        own.Add learner |> ignore
        let actor = algorithm.Policy

        say
            $"{Names.pascal algorithm.Role}: {actor.Architecture}, {actor.Network.ParameterCount} parameters, reads '{actor.ObservationGroup}'"

        { Setup = setup; Pool = pool; Algorithm = algorithm; Teacher = teacher; Distillation = None }

    let internal run
        (options: RunOptions)
        (settings: string list)
        (training: TrainTeacher)
        (reinforcement: Reinforcement)
        =
        use own = new Belongings()
        let session = start own training reinforcement
        let setup, pool = session.Setup, session.Pool

        let algorithm =
            match session.Teacher with
            | Some teacher ->
                let alone, doubts = Labelling.soloOf teacher setup pool
                { session.Algorithm with Reference = Labelling.reference alone; Warnings = doubts }
            | None -> session.Algorithm

        judge options setup pool training.SaveTo session.Teacher algorithm
        |> Training.run options settings setup pool algorithm

    /// What was measured of the policy that was trained, and beside a teacher the difference from it.
    let private measures (results: PolicyResult list) =
        match results |> List.tryFind (fun result -> result.Policy = "best student") with
        | None -> PolicyResult.find "teacher" results |> PolicyResult.measures
        | Some student ->
            let difference =
                student.MinusTeacher |> Option.defaultValue { Estimate = nan; Low = nan; High = nan }

            PolicyResult.measures student
            @ [
                "minus_teacher", difference.Estimate
                "minus_teacher_low", difference.Low
                "minus_teacher_high", difference.High
            ]

    /// Both with settings `name=value` in place, beside those of the run.
    let internal withArguments
        (settings: string list)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : RunOptions * TrainTeacher * Reinforcement =
        match Settings.apply settings (Training.options :: training :: algorithm.Records) with
        | options :: training :: records ->
            options :?> RunOptions, training :?> TrainTeacher, algorithm.With records
        | _ -> failwith "Settings were lost."

    /// Training by an algorithm of reinforcement learning.
    let rec reinforcementJob
        (defaults: TrainTeacher)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : Job =
        {
            Kind = algorithm.Kind
            Records = training :: algorithm.Records
            Defaults = defaults :: algorithm.Defaults
            With =
                fun settings ->
                    match Settings.apply settings (training :: algorithm.Records) with
                    | training :: records ->
                        reinforcementJob defaults (training :?> TrainTeacher) (algorithm.With records)
                    | [] -> failwith "Settings were lost."
            Check =
                fun () ->
                    Job.noOutput "save_to" training.SaveTo
                    Labelling.checkTeacher algorithm.Teacher
                    check training algorithm
            Run = fun options settings -> Job.orStopped (run options settings training algorithm).Interruption
            Measures = measures
            Main = "return"
            Beside = [ "length"; "share_terminated" ]
        }

    /// Training of a student by PPO beside a teacher: `ppo` says how much each of the two losses counts, and who drives.
    let guidedJob (training: TrainTeacher) (teacher: TeacherFile) (ppo: PpoConfig) : Job =
        reinforcementJob defaults training (Reinforcement.ppo teacher ppo)

    let job (training: TrainTeacher) (ppo: PpoConfig) : Job =
        guidedJob training Experiment.empty.Teacher ppo

    /// Training of a student by SAC beside a teacher: `sac` says what imitating it is worth.
    let guidedSacJob (training: TrainTeacher) (teacher: TeacherFile) (sac: SacConfig) : Job =
        reinforcementJob single training (Reinforcement.sac teacher sac)

    /// Training of a teacher by SAC.
    let sacJob (training: TrainTeacher) (sac: SacConfig) : Job = guidedSacJob training Teacher.none sac
