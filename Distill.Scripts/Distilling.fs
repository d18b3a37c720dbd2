namespace Distill

open System
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// A distillation that has finished or was interrupted: teacher, best and newest student on episodes that training never saw.
type DistillationResult
    (
        folder: string,
        bestIteration: int,
        teacher: EvaluationResult,
        best: EvaluationResult,
        final: EvaluationResult,
        interruption: string option
    ) =
    let comparison =
        Comparison("policy", [ "teacher", teacher; "best student", best; "final student", final ])

    /// The run folder.
    member _.Folder = folder

    /// Iterations after which the best student was kept.
    member _.BestIteration = bestIteration
    member _.Teacher = teacher

    /// The student of the run: the one with the highest mean return in the evaluations during training.
    member _.Student = best

    /// The student after the last iteration.
    member _.FinalStudent = final

    /// Where the run was interrupted, and how to go on; None for one that has finished.
    member _.Interruption = interruption

    /// Mean return of the student over that of the teacher.
    member _.Ratio = best.MeanReturn / teacher.MeanReturn
    member _.Comparison = comparison
    member _.ToHtml() = comparison.ToHtml()

    override this.ToString() =
        String.Join(
            Environment.NewLine,
            string comparison,
            $"Teacher return: {teacher.MeanReturn:F1}",
            $"Student return: {best.MeanReturn:F1} (the best student, after {bestIteration} iterations)",
            $"Student / teacher: {this.Ratio:F3}",
            $"Student terminated: {100.0 * best.ShareTerminated:F1} %%",
            $"Run folder: {folder}"
            + (interruption |> Option.map ((+) Environment.NewLine) |> Option.defaultValue "")
        )

/// Distillation as a run.
module internal Distilling =
    let private mebibytes (bytes: int64) = $"{float bytes / 1048576.0:F1} MiB"

    /// Says what a distillation will take, and refuses one that the machine cannot hold.
    let private checkMemory (config: DistillationConfig) (teacher: Policy) =
        let estimate = MemoryEstimate.Of(config, teacher.Network.Spec.Inputs)

        Console.Out.WriteLine(
            $"Memory: dataset {mebibytes estimate.DatasetBytes} when full, (observation + action) × 4 bytes × rows; "
            + $"bookkeeping {mebibytes estimate.BookkeepingBytes}; rollout {mebibytes estimate.RolloutBytes}; available {mebibytes estimate.AvailableBytes}"
        )

        if not estimate.Fits then
            let cure =
                if estimate.RowsThatFit > 0L then
                    $"max_buffer_size={estimate.RowsThatFit} would fit"
                else
                    "lower envs or the steps of an iteration"

            raise (
                DistillException
                    $"The dataset would take {mebibytes estimate.TotalBytes} but this machine has {mebibytes estimate.AvailableBytes}; {cure}."
            )

    let private plan (config: DistillationConfig) : Plan =
        {
            Iterations = config.Iterations
            SaveInterval = config.SaveInterval
            EvaluationInterval = config.EvaluationInterval
            EvaluationEpisodes = config.EvaluationEpisodes
            FinalEpisodes = config.FinalEpisodes
        }

    let private setup (experiment: Experiment) : Training.Setup =
        let config = experiment.Config

        {
            Name = config.Name
            RunName = config.RunName
            Seed = config.Seed
            Environment = config.Environment
            Plan = plan config
            Parameters = Training.parameters [ experiment.Teacher; config ]
        }

    let private loadTeacher (file: TeacherFile) (environment: EnvironmentSpec) =
        if file.Teacher = "" then
            raise (DistillException "The experiment has no teacher; name a policy file: teacher=FILE.")

        let group = if file.TeacherGroup = "" then null else file.TeacherGroup
        let teacher = PolicyFile.Load(file.Teacher, group)

        Console.Out.WriteLine
            $"Teacher: {file.Teacher}: {teacher.Architecture}, reads '{teacher.ObservationGroup}'"

        teacher.Check(environment, "teacher")
        teacher

    /// Flies the teacher alone, before any training, on the episodes of the evaluations during training, and compares with
    /// what its file says it can do.
    let private solo (teacher: Policy) (setup: Training.Setup) (pool: WorkerPool) =
        use evaluator =
            new Evaluator(setup.Environment, setup.Plan.EvaluationEpisodes, setup.Seed, pool)

        let result = evaluator.Run teacher
        Console.Out.WriteLine $"Teacher alone: {Runner.describe result}"

        match teacher.Metadata.TryGetValue "return" with
        | true, text ->
            match Double.TryParse text with
            | true, recorded when result.MeanReturn < 0.9 * recorded ->
                Console.Out.WriteLine
                    $"Warning: its file records a return of {recorded:F1}; is this the environment it was made for?"
            | _ -> ()
        | _ -> ()

        result

    let private who (phase: string) =
        match phase with
        | "teacher"
        | "student" -> $"{phase} drives"
        | "mixed" -> "teacher and student drive"
        | name -> name

    /// The phase an iteration is in, and how long it lasts.
    let private phase (config: DistillationConfig) (report: IterationReport) =
        let length =
            match config.Acting with
            | :? TeacherUntil as until when report.PhaseNumber = 1 ->
                min until.Phase1Iterations config.Iterations
            | :? TeacherUntil as until -> config.Iterations - until.Phase1Iterations
            | _ -> config.Iterations

        $"phase {report.PhaseNumber} ({report.Phase}) {report.IterationInPhase + 1}/{length}"

    let private metrics (config: DistillationConfig) (report: IterationReport) =
        let optional (name: string) (value: Nullable<float>) =
            if value.HasValue then [ name, value.Value ] else []

        [
            "Loss/behavior", report.Loss
            yield! optional "Loss/newest" report.NewestLoss
            yield! optional "Loss/historical" report.HistoricalLoss
            "Loss/learning_rate", config.Optimizer.LearningRate
            "training/loss", report.Loss
            "training/gradient_norm", report.GradientNorm
            "training/optimizer_steps", float report.OptimizerSteps
            "training/clipped_share", float report.ClippedSteps / float (max 1L report.OptimizerSteps)
            "phase", float report.PhaseNumber
            "data_collection/teacher_share", report.TeacherShare
            yield! optional "data_collection/mean_return" report.MeanReturn
            yield! optional "data_collection/std_return" report.StdReturn
            yield! optional "data_collection/share_terminated" report.ShareTerminated
            "data_collection/episodes", float report.EpisodesFinished
            "dataset/rows", float report.DatasetRows
            "dataset/capacity", float report.GrownTo
        ]

    let private progress (config: DistillationConfig) (report: IterationReport) : Progress =
        let phase = phase config report

        {
            Iteration = report.Iteration
            Phase = phase
            Losses = [ "behavior", report.Loss ]
            MeanReturn = Option.ofNullable report.MeanReturn
            MeanEpisodeLength = Option.ofNullable report.MeanEpisodeLength
            StepsCollected = report.StepsCollected
            CollectionSeconds = report.CollectionSeconds
            LearningSeconds = report.LearningSeconds
            Data = $"rows +{report.RowsAdded}, {report.DatasetRows}/{report.DatasetLimit}"
            Events =
                [
                    if report.IterationInPhase = 0 && report.PhaseNumber > 1 then
                        $"Phase {report.PhaseNumber} begins with iteration {report.Iteration + 1}: {who report.Phase}"
                    if report.GrownTo > report.GrownFrom then
                        $"Dataset grew from {report.GrownFrom} to {report.GrownTo} rows"
                ]
            Metrics = metrics config report
        }

    let private algorithm
        (config: DistillationConfig)
        (distillation: Distillation)
        (teacher: EvaluationResult)
        : Algorithm =
        {
            Role = "student"
            Policy = distillation.Student
            Completed = fun () -> distillation.Iteration
            Iterate = fun () -> progress config (distillation.Iterate())
            Visit = distillation.Visit
            Reference =
                [
                    "evaluation/teacher_return", teacher.MeanReturn
                    "evaluation/teacher_share_terminated", teacher.ShareTerminated
                ]
        }

    let private judge
        (options: RunOptions)
        (setup: Training.Setup)
        (pool: WorkerPool)
        (teacher: Policy)
        (algorithm: Algorithm)
        (folder: RunFolder)
        (interruption: string option)
        =
        Training.withBest folder algorithm (fun best iteration ->
            use evaluator = Training.finalEvaluator setup pool

            let result =
                DistillationResult(
                    Training.path folder,
                    iteration,
                    evaluator.Run teacher,
                    evaluator.Run best,
                    evaluator.Run algorithm.Policy,
                    interruption
                )

            if interruption.IsNone then
                Training.conclude
                    options
                    folder
                    setup
                    result.Comparison
                    [ "teacher", teacher; "student", best ]

            result)

    let run (options: RunOptions) (settings: string list) (experiment: Experiment) : DistillationResult =
        let config = experiment.Config
        config.Validate()
        let setup = setup experiment
        use pool = Training.pool config.Threads
        use probe = config.Environment.Create(1, 0UL)

        Console.Out.WriteLine
            $"Distillation '{config.Name}', seed {config.Seed}, {pool.Threads} threads, {Simd.Path} kernels"

        use teacher = loadTeacher experiment.Teacher probe.Spec
        checkMemory config teacher
        use distillation = new Distillation(config, teacher, pool)
        let student = distillation.Student

        Console.Out.WriteLine
            $"Student: {student.Architecture}, {student.Network.ParameterCount} parameters, reads '{student.ObservationGroup}'"

        let limit =
            if config.Retention :? NewestRollout then
                "the newest rollout only"
            else
                $"at most {distillation.DatasetLimit} rows"

        Console.Out.WriteLine $"Dataset: room for {distillation.DatasetCapacity} rows, {limit}"
        let alone = solo teacher setup pool
        student.Metadata["teacher"] <- experiment.Teacher.Teacher

        let algorithm = algorithm config distillation alone
        judge options setup pool teacher algorithm |> Training.run options settings setup pool algorithm
