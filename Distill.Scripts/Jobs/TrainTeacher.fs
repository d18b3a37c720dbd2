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

/// Training of a teacher: all but the algorithm's own settings.
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

        /// Where the trained teacher is copied to, with its command, seed and measured return inside; empty for nowhere.
        SaveTo: string

        /// Iterations between checkpoints. Lower it when a stop would cost more than a save.
        SaveInterval: int

        /// Iterations between closed-loop evaluations; the best teacher is kept.
        EvaluationInterval: int

        /// The measure of these evaluations that says which teacher is the best: return or length (the highest), share_terminated
        /// (the lowest), or one of the environment's by its name. Change it when the return hides what counts, such as crashes.
        BestBy: string

        /// The run says after how many environment steps the mean return of an evaluation first reached this; null for no such
        /// measure.
        TargetReturn: Nullable<float>

        /// Episodes per evaluation, on environments of their own. Raise it when the best is picked by luck.
        EvaluationEpisodes: int

        /// Episodes of the evaluation at the end.
        FinalEpisodes: int
    }

/// A trained teacher on episodes that training never saw.
type TrainingResult
    (
        folder: string,
        iteration: int,
        evaluation: EvaluationResult,
        interruption: string option,
        ?target: float,
        ?stepsToTarget: string * float option
    ) =
    let comparison =
        Comparison("policy", [ "teacher", evaluation ], ?stepsToTarget = stepsToTarget)

    /// The run folder.
    member _.Folder = folder

    /// Iterations after which the teacher was kept: the best of all evaluations, by mean return or what `best_by` says.
    member _.Iteration = iteration
    member _.Evaluation = evaluation

    /// Environment steps after which an evaluation during training first reached the target return, if one did.
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
                $"Teacher return: {evaluation.MeanReturn:F1} (the best teacher, after {iteration} iterations)"
                $"Teacher terminated: {100.0 * evaluation.ShareTerminated:F1} %%"
                yield! target |> Option.map comparison.Target |> Option.defaultValue []
                $"Run folder: {folder}"
                yield! Option.toList interruption
            ]
        )

module TrainTeacher =
    let private kind = "ppo"

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
            EvaluationEpisodes = 200
            FinalEpisodes = 1000
        }

    let private setup (training: TrainTeacher) (ppo: PpoConfig) : Training.Setup =
        {
            Kind = kind
            Name = training.Name
            RunName = training.RunName
            Seed = ppo.Seed
            Environment = training.Environment
            Plan =
                {
                    Iterations = ppo.Iterations
                    SaveInterval = training.SaveInterval
                    EvaluationInterval = training.EvaluationInterval
                    EvaluationEpisodes = training.EvaluationEpisodes
                    FinalEpisodes = training.FinalEpisodes
                    Best = Best.by training.Environment.Spec training.BestBy
                    TargetReturn = Option.ofNullable training.TargetReturn
                }
            Parameters = Training.parameters [ training; ppo ]
        }

    let private progress (config: PpoConfig) (report: PpoReport) : Progress =
        {
            Iteration = report.Iteration
            Phase = ""
            Losses =
                [ "value", report.ValueLoss; "surrogate", report.SurrogateLoss; "entropy", report.Entropy ]
            MeanReturn = Option.ofNullable report.MeanReturn
            MeanEpisodeLength = Option.ofNullable report.MeanEpisodeLength
            StepsCollected = report.StepsCollected
            CollectionSeconds = report.CollectionSeconds
            LearningSeconds = report.LearningSeconds
            Data = ""
            Events = []
            Warnings = []
            Metrics = Progress.metrics report.Metrics @ Progress.schedules [ config ] report.Iteration
        }

    let private algorithm (ppo: Ppo) : Algorithm =
        {
            Role = "teacher"
            Policy = ppo.Actor
            Optimizer = ppo.ActorOptimizer
            Completed = fun () -> ppo.Iteration
            Iterate = fun () -> progress ppo.Config (ppo.Iterate())
            Visit = ppo.Visit
            Reference = []
            Warnings = []
        }

    /// Writes down in the file of the best teacher how good it is, and copies it to where it is wanted.
    let private record (folder: RunFolder) (saveTo: string) (teacher: Policy) (evaluation: EvaluationResult) =
        let note (name: string) (value: float) =
            teacher.Metadata[name] <- value.ToString("G6", CultureInfo.InvariantCulture)

        note "return" evaluation.MeanReturn
        note "return_standard_error" (evaluation.StdReturn / sqrt (float evaluation.Episodes))
        note "share_terminated" evaluation.ShareTerminated
        teacher.Metadata["return_episodes"] <- string evaluation.Episodes

        for path in [ folder.Checkpoint "best_teacher.safetensors"; saveTo ] |> List.filter ((<>) "") do
            Training.makeFolderOf path
            PolicyFile.Save(path, teacher)

    let private judge
        (options: RunOptions)
        (setup: Training.Setup)
        (pool: WorkerPool)
        (saveTo: string)
        (algorithm: Algorithm)
        (folder: RunFolder)
        (interruption: string option)
        =
        Training.withBest folder algorithm (fun teacher iteration ->
            use evaluator = Training.finalEvaluator setup pool
            let evaluation = evaluator.Run teacher

            let result =
                TrainingResult(
                    Training.path folder,
                    iteration,
                    evaluation,
                    interruption,
                    ?target = setup.Plan.TargetReturn,
                    ?stepsToTarget = Training.stepsToTarget folder setup "teacher"
                )

            if interruption.IsNone then
                record folder saveTo teacher evaluation
                Training.conclude options folder setup result.Comparison [ "teacher", teacher ]

            result)

    /// Says what PPO will take, and refuses what the machine cannot hold.
    let private checkMemory (config: PpoConfig) (environment: IEnvironmentConfig) (threads: int) =
        let memory = PpoMemory.Of(config, environment, threads)

        say
            $"Memory: rollout {Names.mebibytes memory.RolloutBytes}; networks {Names.mebibytes memory.NetworkBytes}; available {Names.mebibytes memory.AvailableBytes}"

        if not memory.Fits then
            fail
                $"PPO would take {Names.mebibytes memory.TotalBytes} but this machine has {Names.mebibytes memory.AvailableBytes}; lower envs, steps_per_env or the sizes of the hidden layers."

    let private check (training: TrainTeacher) (config: PpoConfig) =
        config.Validate()
        Training.atLeastOne "save_interval" training.SaveInterval
        Training.atLeastOne "evaluation_interval" training.EvaluationInterval
        Training.atLeastOne "evaluation_episodes" training.EvaluationEpisodes
        Training.atLeastOne "final_episodes" training.FinalEpisodes
        Best.by training.Environment.Spec training.BestBy |> ignore

        if training.TargetReturn.HasValue && not (Double.IsFinite training.TargetReturn.Value) then
            fail $"target_return={training.TargetReturn.Value} cannot work; it must be a number, or null."

    let internal run
        (options: RunOptions)
        (settings: string list)
        (training: TrainTeacher)
        (config: PpoConfig)
        =
        check training config
        let setup = setup training config
        use pool = Training.pool training.Threads
        checkMemory config training.Environment pool.Threads
        use ppo = new Ppo(config, training.Environment, pool)
        let actor = ppo.Actor

        say
            $"PPO '{training.Name}', seed {config.Seed}, {training.Environment.Envs} environments, {pool.Threads} threads, {Simd.Path} kernels"

        say $"Teacher: {actor.Architecture}, reads '{actor.ObservationGroup}'"
        let algorithm = algorithm ppo

        judge options setup pool training.SaveTo algorithm
        |> Training.run options settings setup pool algorithm

    let rec job (training: TrainTeacher) (ppo: PpoConfig) : Job =
        {
            Kind = kind
            Records = [ training; ppo ]
            Defaults = [ defaults; PpoConfig() ]
            With = fun settings -> Settings.apply2 settings (training, ppo) ||> job
            Check =
                fun () ->
                    Job.noOutput "save_to" training.SaveTo
                    check training ppo
            Run = fun options settings -> Job.orStopped (run options settings training ppo).Interruption
            Measures = PolicyResult.find "teacher" >> PolicyResult.measures
            Main = "return"
            Beside = [ "length"; "share_terminated" ]
        }
