namespace Distill

open System
open System.IO
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.Recorded
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Storage


/// Distillation as a run.
module Distil =
    let internal kind = "distillation"

    /// Says what a distillation will take, and refuses one that the machine cannot hold.
    let private checkMemory (config: DistillationConfig) =
        let estimate = MemoryEstimate.Of config

        say (
            $"Memory: dataset {Names.mebibytes estimate.DatasetBytes} when full, (observation + action) × 4 bytes × rows; "
            + $"bookkeeping {Names.mebibytes estimate.BookkeepingBytes}; rollout {Names.mebibytes estimate.RolloutBytes}; network {Names.mebibytes estimate.NetworkBytes}; available {Names.mebibytes estimate.AvailableBytes}"
        )

        if not estimate.Fits then
            let cure =
                if estimate.RowsThatFit > 0L then
                    $"max_buffer_size={estimate.RowsThatFit} would fit"
                else
                    "lower envs, the steps of an iteration or the sizes of the student's layers"

            fail
                $"The distillation would take {Names.mebibytes estimate.TotalBytes} but this machine has {Names.mebibytes estimate.AvailableBytes}; {cure}."

    /// Whether nothing but the newest rollout is kept: there is no limit to be named then.
    let private onPolicy (config: DistillationConfig) = not config.Retention.Accumulates

    let private plan (config: DistillationConfig) : Plan =
        {
            Iterations = config.Iterations
            SaveInterval = config.SaveInterval
            EvaluationInterval = config.EvaluationInterval
            EvaluationEpisodes = config.EvaluationEpisodes
            FinalEpisodes = config.FinalEpisodes
            Best =
                if config.Environment :? RecordedConfig then
                    Best.byLoss
                else
                    Best.by config.Environment.Spec config.BestBy
            Target = config.TargetReturn |> Option.ofNullable |> Option.map (fun target -> "return", target)
            Variants = config.Environment.Spec.Variants
        }

    let private setup (experiment: Experiment) : Training.Setup =
        let config = experiment.Config

        {
            Kind = kind
            Name = config.Name
            RunName = config.RunName
            Seed = config.Seed
            Environment = config.Environment
            Device = config.Device
            Plan = plan config
            Parameters = Training.parameters [ experiment.Teacher; config ]
        }

    let private who (phase: string) =
        match phase with
        | "teacher"
        | "student" -> $"{phase} drives"
        | "mixed" -> "teacher and student drive"
        | name -> name

    /// What to try against overfitting, as far as the settings leave it open.
    let private advice (config: DistillationConfig) (report: IterationReport) : string =
        let decay =
            match config.Optimizer with
            | :? AdamConfig as adam -> adam.WeightDecay.At report.Iteration
            | _ -> 1.0

        [
            let passes = config.NumLearningEpochs.At report.Iteration

            if passes > 1.0 then
                if config.EarlyStopping = 0 then
                    "early_stopping=2"

                $"fewer num_learning_epochs than {passes}"

            if decay = 0.0 then
                "weight_decay=1e-4"

            if onPolicy config then
                "retention=first_in_first_out, which keeps more than the newest rollout"
            elif report.DatasetRows = report.DatasetLimit then
                $"a max_buffer_size above {config.Retention.Limit}"
            else
                "more environments or steps an iteration"

            "a smaller student"
        ]
        |> String.concat ", or "

    /// What recorded data brought, in lines.
    let private described (seed: SeedReport) : string list =
        [
            $"Recorded data: {seed.Files} files, {seed.Rows} rows, {seed.Episodes} episodes"
            if seed.Held < seed.Rows then
                $"Of these rows the dataset holds {seed.Held}, by its retention and max_buffer_size"
            yield! seed.Remarks
        ]

    let internal progress (config: DistillationConfig) (report: IterationReport) : Progress =
        let phase = report.Phase
        let collects = config.Collection.Collects

        {
            Iteration = report.Iteration
            Phase =
                if collects then
                    $"phase {phase.Number} ({phase.Name}) {phase.Within + 1}/{phase.Length}"
                else
                    ""
            Losses =
                [
                    "behavior", report.Loss
                    if report.HeldOutLoss.HasValue then
                        "held-out", report.HeldOutLoss.Value
                ]
            MeanReturn = Option.ofNullable report.MeanReturn
            MeanEpisodeLength = Option.ofNullable report.MeanEpisodeLength
            StepsCollected = report.StepsCollected
            CollectionSeconds = report.CollectionSeconds
            LearningSeconds = report.LearningSeconds
            Data =
                if onPolicy config then
                    $"rows {report.DatasetRows}"
                else
                    $"rows +{report.RowsAdded}, {report.DatasetRows}/{report.DatasetLimit}"
            Events =
                [
                    match report.Seed with
                    | null -> ()
                    | seed -> yield! described seed
                    if collects && phase.Within = 0 && phase.Number > 1 then
                        $"Phase {phase.Number} begins with iteration {report.Iteration + 1}: {who phase.Name}"
                    if report.GrownTo > report.GrownFrom then
                        $"Dataset grew from {report.GrownFrom} to {report.GrownTo} rows"
                ]
            Warnings =
                [
                    if report.BeginsToOverfit then
                        $"The student overfits at iteration {report.Iteration + 1}: over ten iterations its loss on the newest "
                        + "rollout has fallen, and that on the episodes it is not trained on has risen. Try "
                        + $"{advice config report}."
                ]
            Metrics = Progress.metrics report.Metrics @ Progress.schedules [ config ] report.Iteration
        }

    let private algorithm (config: DistillationConfig) (distillation: Distillation) : Algorithm =
        {
            Role = "student"
            Policy = distillation.Student
            Optimizer = distillation.Optimizer
            Completed = fun () -> distillation.Iteration
            Iterate = fun () -> progress config (distillation.Iterate())
            Visit = distillation.Visit
            Critics = []
            Reference = []
            Warnings = []
        }

    /// The lowest loss of a run on recorded data, by which its best student was kept.
    let private lowestLoss (folder: RunFolder) : float =
        let run = RunRecord.read folder.Path

        match run.Series "Loss/held_out", run.Series "Loss/behavior" with
        | [], [] -> nan
        | [], losses
        | losses, _ -> losses |> List.map snd |> List.min

    let private judge
        (options: RunOptions)
        (setup: Training.Setup)
        (pool: WorkerPool)
        (teachers: ITeachers option)
        (algorithm: Algorithm)
        (folder: RunFolder)
        (interruption: string option)
        =
        Training.withBest folder algorithm (fun best iteration ->
            let judgement =
                if setup.Environment :? RecordedConfig then
                    ByLoss(lowestLoss folder)
                else
                    use evaluator = Training.finalEvaluator setup pool

                    Flown(
                        teachers |> Option.map evaluator.Run,
                        evaluator.Run best,
                        evaluator.Run algorithm.Policy
                    )

            let result =
                DistillationResult(
                    Training.path folder,
                    iteration,
                    judgement,
                    RunRecord.readWarnings folder.Path,
                    interruption,
                    ?target = setup.Plan.Target,
                    ?stepsToTarget = Training.stepsToTarget folder setup "best student"
                )

            if interruption.IsNone then
                Training.conclude
                    options
                    folder
                    setup
                    result.Comparison
                    [
                        // Of a set, no single one flies them all.
                        match teachers |> Option.map (_.Policies >> List.ofSeq) with
                        | Some [ one ] -> "teacher", one
                        | _ -> ()
                        "student", best
                    ]

            result)

    /// Makes everything that a distillation needs, and says what that is.
    let internal start (own: Belongings) (experiment: Experiment) : Training.Session =
        let config = experiment.Config
        config.Validate()
        let setup = setup experiment
        let pool = own.Add(Training.pool config.Threads)

        say $"Distillation '{config.Name}', seed {config.Seed}, {pool.Threads} threads, {Simd.Path} kernels"

        let teachers = Labelling.labellers experiment
        teachers |> Option.iter (own.Add >> ignore)
        checkMemory config

        let distillation =
            match teachers with
            | Some teachers -> own.Add(new Distillation(config, teachers, pool))
            | None ->
                let nobody (_: IBatchedEnvironment) : ITeacher = fail "Nobody labels."
                own.Add(new Distillation(config, Func<_, _> nobody, pool))

        if config.Device <> ComputeDevice.Cpu then
            say $"Computes on: {distillation.RunsOn}"

        let student = distillation.Student

        say
            $"Student: {student.Architecture}, {student.Network.ParameterCount} parameters, reads '{student.ObservationGroup}'"

        let limit =
            if onPolicy config then
                "the newest rollout only"
            else
                $"at most {distillation.DatasetLimit} rows"

        say $"Dataset: room for {distillation.DatasetCapacity} rows, {limit}"

        student.Metadata["teacher"] <-
            if isNull experiment.Teacher.TeacherCode then
                experiment.Teacher.Teacher
            else
                Settings.opaque

        {
            Setup = setup
            Pool = pool
            Algorithm = algorithm config distillation
            Teacher = teachers
            Distillation = Some distillation
        }

    let internal run
        (options: RunOptions)
        (settings: string list)
        (experiment: Experiment)
        : DistillationResult =
        use own = new Belongings()
        let session = start own experiment
        let setup, pool, teachers = session.Setup, session.Pool, session.Teacher

        let algorithm =
            match teachers with
            | Some teachers when not (setup.Environment :? RecordedConfig) ->
                Labelling.checkReturns experiment.Teacher teachers setup pool
                let alone, doubts = Labelling.soloOf teachers setup pool
                { session.Algorithm with Reference = Labelling.reference alone; Warnings = doubts }
            | _ -> session.Algorithm

        let result =
            judge options setup pool teachers algorithm |> Training.run options settings setup pool algorithm

        // Whoever asks for more than training needs wants the rows.
        if experiment.Config.Recorded.Count > 0 then
            let path = Path.Combine(result.Folder, "dataset.npz")
            session.Distillation |> Option.iter _.ExportDataset(path, experiment.Teacher.Teacher)
            say $"Dataset: {Command.shortest path}"

        result

    /// The experiment as the arguments change it, and what they say of the run.
    let internal withArguments (settings: string list) (experiment: Experiment) : RunOptions * Experiment =
        let experiment, others = Experiment.withPresets settings experiment

        let options, teacher, config =
            Settings.apply3 others (Training.options, experiment.Teacher, experiment.Config)

        options, { Teacher = teacher; Config = config }

    /// Teacher, best and final student, each on the episodes of the final evaluation.
    let private measures (results: PolicyResult list) =
        let of' (policy: string) = PolicyResult.find policy results
        let student = of' "best student"
        let teacher = results |> List.tryFind (fun result -> result.Policy = "teacher")

        let difference =
            student.MinusTeacher |> Option.defaultValue { Estimate = nan; Low = nan; High = nan }

        [
            "teacher_return", teacher |> Option.map _.MeanReturn |> Option.defaultValue nan
            "student_return", student.MeanReturn
            "final_student_return", (of' "final student").MeanReturn
            "student_length", student.MeanLength
            "share_terminated", student.ShareTerminated
            "minus_teacher", difference.Estimate
            "minus_teacher_low", difference.Low
            "minus_teacher_high", difference.High
            yield! PolicyResult.stepsToTarget student
        ]

    let rec job (experiment: Experiment) : Job =
        let alone = experiment.Config.Environment :? RecordedConfig

        {
            Kind = kind
            Records = [ experiment.Teacher; experiment.Config ]
            Defaults = [ Experiment.empty.Teacher; Experiment.empty.Config ]
            With = fun settings -> job (Experiment.withSettings settings experiment)
            Check =
                fun () ->
                    Labelling.checkTeacher experiment.Teacher
                    experiment.Config.Validate()
                    Labelling.checkLabels experiment
                    plan experiment.Config |> ignore
            Run = fun options settings -> Job.orStopped (run options settings experiment).Interruption
            Measures =
                if alone then
                    fun results ->
                        [ "minus_loss", (PolicyResult.find PolicyResult.byLoss results).MeanReturn ]
                else
                    measures
            Main = if alone then "minus_loss" else "student_return"
            Beside =
                if alone then
                    []
                else
                    [ "minus_teacher"; "share_terminated" ]
        }
