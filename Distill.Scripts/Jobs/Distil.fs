namespace Distill

open System
open System.Collections.Generic
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

/// How the students of a distillation were judged.
type internal Judgement =
    /// Teacher, where there is one, best and newest student in the same episodes.
    | Flown of teacher: EvaluationResult option * best: EvaluationResult * final: EvaluationResult
    /// By the lowest loss on recorded data, on what is held out of them where something is: nothing could be evaluated in.
    | ByLoss of float

/// A distillation that has finished or was interrupted: teacher, best and newest student on episodes that training never saw, the
/// same for all three. Where there is no teacher, or no environment, what would say so fails.
type DistillationResult
    internal
    (
        folder: string,
        bestIteration: int,
        judgement: Judgement,
        warnings: string list,
        interruption: string option,
        ?target: float,
        ?stepsToTarget: string * float option
    ) =
    let comparison =
        match judgement with
        | Flown(Some teacher, best, final) ->
            Comparison(
                "policy",
                [ "teacher", teacher; "best student", best; "final student", final ],
                "teacher",
                ?stepsToTarget = stepsToTarget
            )
        | Flown(None, best, final) ->
            Comparison(
                "policy",
                [ "best student", best; "final student", final ],
                ?stepsToTarget = stepsToTarget
            )
        | ByLoss loss ->
            let row = EvaluationResult([| float32 -loss |], [| 0 |], [| false |])
            Comparison("policy", [ PolicyResult.byLoss, row ])

    let notFlown () =
        fail $"The students of {folder} were not evaluated: recorded data are no environment."

    let teacher () =
        match judgement with
        | Flown(Some teacher, _, _) -> teacher
        | Flown(None, _, _) -> fail $"The students of {folder} were compared with no teacher."
        | ByLoss _ -> notFlown ()

    let best () =
        match judgement with
        | Flown(_, best, _) -> best
        | ByLoss _ -> notFlown ()

    let difference () =
        teacher () |> ignore
        comparison.Difference "best student"

    /// The run folder.
    member _.Folder = folder

    /// Iterations after which the best student was kept.
    member _.BestIteration = bestIteration
    member _.Teacher: EvaluationResult = teacher ()

    /// The student of the run: the best one in the evaluations during training, by mean return or what `best_by` says.
    member _.Student: EvaluationResult = best ()

    /// The student after the last iteration.
    member _.FinalStudent: EvaluationResult =
        match judgement with
        | Flown(_, _, final) -> final
        | ByLoss _ -> notFlown ()

    /// The lowest loss on recorded data, on what is held out of them where something is; None where students were evaluated.
    member _.Loss =
        match judgement with
        | ByLoss loss -> Some loss
        | Flown _ -> None

    /// Mean difference of the student's returns from the teacher's in the same episodes, with its 95 % interval.
    member _.Difference: Interval = difference ()

    /// Mean return of the student over that of the teacher; NaN where the teacher's is not above 0.
    member _.Ratio = Statistics.ratio (best().MeanReturn) (teacher().MeanReturn)

    /// What was wrong, such as a teacher that fails or a student that overfits.
    member _.Warnings = warnings

    /// Environment steps after which an evaluation during training first reached the target return, if one did.
    member _.StepsToTarget = stepsToTarget |> Option.bind snd

    /// Where the run was interrupted, and how to go on; None for one that has finished.
    member _.Interruption = interruption
    member _.Comparison = comparison

    member _.ToHtml() =
        let warnings =
            warnings |> List.map (fun warning -> $"<p><strong>Warning:</strong> {Page.escape warning}</p>")

        String.Join("", comparison.ToHtml() :: warnings)

    override this.ToString() =
        String.Join(
            Environment.NewLine,
            [
                match judgement with
                | ByLoss loss ->
                    $"Lowest loss on the recorded data: {loss:G4} (the best student, after {bestIteration} iterations)"
                | Flown(teacher, best, _) ->
                    string comparison

                    match teacher with
                    | Some teacher ->
                        let difference = this.Difference
                        $"Teacher return: {teacher.MeanReturn:F1}"

                        $"Student return: {best.MeanReturn:F1} (the best student, after {bestIteration} iterations)"

                        $"Student - teacher: {difference.Estimate:F1}, 95 %% interval [{difference.Low:F1}, {difference.High:F1}] "
                        + $"(mean over {best.Episodes} episodes that both flew)"

                        if not (Double.IsNaN this.Ratio) then
                            $"Student / teacher: {this.Ratio:F3}"
                    | None ->
                        $"Student return: {best.MeanReturn:F1} (the best student, after {bestIteration} iterations)"

                    $"Student terminated: {100.0 * best.ShareTerminated:F1} %%"
                yield! target |> Option.map comparison.Target |> Option.defaultValue []
                $"Run folder: {folder}"
                for warning in warnings do
                    $"Warning: {warning}"
                yield! Option.toList interruption
            ]
        )

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
            TargetReturn = Option.ofNullable config.TargetReturn
        }

    let private setup (experiment: Experiment) : Training.Setup =
        let config = experiment.Config

        {
            Kind = kind
            Name = config.Name
            RunName = config.RunName
            Seed = config.Seed
            Environment = config.Environment
            Plan = plan config
            Parameters = Training.parameters [ experiment.Teacher; config ]
        }

    /// The teacher in the file, said what it is and checked against the environment.
    let internal loadTeacher (file: TeacherFile) (environment: EnvironmentSpec) =
        if Teacher.kind file = TeacherKind.Nobody then
            fail "The experiment has no teacher; name a policy file: teacher=FILE."

        let teacher = Teacher.read file

        say $"Teacher: {file.Teacher}: {teacher.Architecture}, reads '{teacher.ObservationGroup}'"

        teacher.Check(environment, "teacher")
        teacher

    /// How many of which architecture.
    let private kinds (policies: Policy seq) =
        [ for policy in policies -> $"{policy.Architecture}, reads '{policy.ObservationGroup}'" ]
        |> List.countBy id
        |> List.map (fun (kind, number) -> $"{number} × {kind}")
        |> String.concat "; "

    /// The teachers, said what they are and checked against the environment: of a set, or one of all variants.
    let private loadTeachers (file: TeacherFile) (environment: EnvironmentSpec) : ITeachers =
        match Teacher.kind file with
        | TeacherKind.Nobody
        | TeacherKind.File -> TeacherPolicies.Of(loadTeacher file environment, environment)
        | kind ->
            let teachers = Teacher.readAll file environment

            match kind with
            | TeacherKind.Environment group ->
                say $"Teacher: the environments themselves, '{group}' carries the expert's action"
            | TeacherKind.Chosen _ ->
                say
                    $"Teachers: {teachers.Policies.Count} policies, '{file.TeacherIndex}' chooses: {kinds teachers.Policies}"
            | TeacherKind.Set ->
                say
                    $"Teachers: {file.Teacher}: {teachers.Policies.Count} policies for {environment.Variants.Count} variants: {kinds teachers.Policies}"
            | _ -> say "Teacher: made in the script"

            teachers

    /// Refuses a teacher that recorded data cannot do without, or have nothing to do for; none is needed where all labels were
    /// recorded.
    let private checkLabels (experiment: Experiment) =
        let config, teacher = experiment.Config, experiment.Teacher.Teacher

        if config.SeedLabels = SeedLabels.Teacher && Directory.Exists teacher then
            fail
                "seed_labels=teacher needs one teacher: recorded rows do not say which variant of the environment they are from."

        if
            config.Environment :? RecordedConfig && config.SeedLabels = SeedLabels.Recorded && teacher <> ""
        then
            fail
                $"teacher={teacher} has nothing to do: the recorded actions are the labels. Add seed_labels=teacher to let it label the rows, or leave it out."

    /// Who labels, if anybody is needed.
    let private labellers (experiment: Experiment) : ITeachers option =
        checkLabels experiment
        let config = experiment.Config

        if
            experiment.Teacher.Teacher = ""
            && not config.Collection.Collects
            && config.SeedLabels = SeedLabels.Recorded
        then
            None
        else
            Some(loadTeachers experiment.Teacher config.Environment.Spec)

    /// Lets each teacher act alone on its variants and refuses the set where one is worse than asked.
    let private checkReturns
        (file: TeacherFile)
        (teachers: ITeachers)
        (setup: Training.Setup)
        (pool: WorkerPool)
        =
        if file.MinTeacherReturn.HasValue then
            let least = file.MinTeacherReturn.Value
            Training.atLeastOne "teacher_episodes" file.TeacherEpisodes
            let names = setup.Environment.Spec.Variants
            let variants = max 1 names.Count

            use evaluator =
                new Evaluator(setup.Environment.Grouped, variants * file.TeacherEpisodes, setup.Seed, pool)

            let all = evaluator.Run teachers

            let returns =
                if names.Count = 0 then
                    [ "", all.MeanReturn ]
                else
                    [ for name, alone in Seq.zip names (all.ByVariant names) -> name, alone.MeanReturn ]

            let worst, lowest = returns |> List.minBy snd

            match returns |> List.filter (fun (_, mean) -> not (mean >= least)) with
            | [] ->
                say
                    $"Teachers alone, {file.TeacherEpisodes} episodes of each variant: return {all.MeanReturn:F1}, the lowest {lowest:F1} ({worst}), terminated {100.0 * all.ShareTerminated:F1} %%"
            | failing ->
                let named =
                    failing
                    |> List.truncate 10
                    |> List.map (fun (name, mean) -> $"{name} ({mean:F1})")
                    |> String.concat ", "

                let others =
                    if failing.Length > 10 then
                        $" and {failing.Length - 10} others"
                    else
                        ""

                fail
                    $"{failing.Length} of {returns.Length} teachers have a mean return below min_teacher_return={least} on their own variants: {named}{others}; train them longer, leave these variants out, or lower it."

    /// What speaks against a teacher that flew alone, in sentences: it fails, or it is worse than its file records. The latter
    /// on the scale of both standard errors; a file that lacks its own is taken for one of returns as spread as here.
    let internal doubts
        (metadata: IReadOnlyDictionary<string, string>)
        (flown: EvaluationResult)
        : string list =
        let number (name: string) =
            match metadata.TryGetValue name with
            | true, text -> Names.number text |> Option.filter Double.IsFinite
            | _ -> None

        let standardError (episodes: float) = flown.StdReturn / sqrt episodes
        let own = standardError (float flown.Episodes)

        let ofRecord =
            number "return_standard_error"
            |> Option.defaultWith (fun () ->
                number "return_episodes" |> Option.defaultValue (float flown.Episodes) |> standardError)

        [
            if flown.ShareTerminated > 0.5 then
                $"The teacher itself fails: {100.0 * flown.ShareTerminated:F1} %% of its episodes end in a terminal state, and "
                + "a student can only learn to do the same."
            match number "return" with
            | Some recorded ->
                // A record has six digits.
                let both = sqrt (own * own + ofRecord * ofRecord) + 1e-5 * abs recorded

                let source =
                    if (number "return_standard_error").IsSome then
                        ""
                    else
                        ", assumed from the spread here"

                if recorded - flown.MeanReturn > 3.0 * both then
                    $"The teacher's file records a return of {recorded:F1} (standard error {ofRecord:F1}{source}), but here it reaches "
                    + $"{flown.MeanReturn:F1} (standard error {own:F1}); is this the environment it was made for?"
            | None -> ()
        ]

    /// Flies the teachers alone, before any training, on the episodes of the evaluations during training. Also gives what
    /// speaks against them.
    let private soloOf (teachers: ITeachers) (setup: Training.Setup) (pool: WorkerPool) =
        use evaluator =
            new Evaluator(setup.Environment, setup.Plan.EvaluationEpisodes, setup.Seed, pool)

        let result = evaluator.Run teachers
        say $"Teacher alone: {Runner.describe result}"

        let metadata: IReadOnlyDictionary<string, string> =
            match List.ofSeq teachers.Policies with
            | [ one ] -> one.Metadata
            | _ -> Dictionary()

        let doubts = doubts metadata result

        for doubt in doubts do
            say $"Warning: {doubt}"

        result, doubts

    /// The same of one teacher.
    let internal solo (teacher: Policy) (setup: Training.Setup) (pool: WorkerPool) =
        soloOf (TeacherPolicies.Of(teacher, setup.Environment.Spec)) setup pool

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

    /// The teacher's numbers beside those of every evaluation.
    let internal reference (teacher: EvaluationResult) =
        [
            "evaluation/teacher_return", teacher.MeanReturn
            "evaluation/teacher_share_terminated", teacher.ShareTerminated
        ]

    let private algorithm (config: DistillationConfig) (distillation: Distillation) : Algorithm =
        {
            Role = "student"
            Policy = distillation.Student
            Optimizer = distillation.Optimizer
            Completed = fun () -> distillation.Iteration
            Iterate = fun () -> progress config (distillation.Iterate())
            Visit = distillation.Visit
            Critic = None
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
                    ?target = setup.Plan.TargetReturn,
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
    let private startWith (own: Belongings) (experiment: Experiment) : Training.Session * ITeachers option =
        let config = experiment.Config
        config.Validate()
        let setup = setup experiment
        let pool = own.Add(Training.pool config.Threads)

        say $"Distillation '{config.Name}', seed {config.Seed}, {pool.Threads} threads, {Simd.Path} kernels"

        let teachers = labellers experiment
        teachers |> Option.iter (own.Add >> ignore)
        checkMemory config

        let distillation =
            match teachers with
            | Some teachers -> own.Add(new Distillation(config, teachers, pool))
            | None ->
                let nobody (_: IBatchedEnvironment) : ITeacher = fail "Nobody labels."
                own.Add(new Distillation(config, Func<_, _> nobody, pool))

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
            Teacher = teachers |> Option.bind (_.Policies >> Seq.tryExactlyOne)
            Distillation = Some distillation
        },
        teachers

    let internal start (own: Belongings) (experiment: Experiment) : Training.Session =
        fst (startWith own experiment)

    let internal run
        (options: RunOptions)
        (settings: string list)
        (experiment: Experiment)
        : DistillationResult =
        use own = new Belongings()
        let session, teachers = startWith own experiment
        let setup, pool = session.Setup, session.Pool

        let algorithm =
            match teachers with
            | Some teachers when not (setup.Environment :? RecordedConfig) ->
                checkReturns experiment.Teacher teachers setup pool
                let alone, doubts = soloOf teachers setup pool
                { session.Algorithm with Reference = reference alone; Warnings = doubts }
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

    /// Refuses a teacher that is not there.
    let internal checkTeacher (file: TeacherFile) =
        let check (path: string) =
            if not (File.Exists path || TeacherSet.IsAt path) then
                fail $"There is no teacher {path}: neither a policy file nor a folder with teachers.csv."

        match Teacher.kind file with
        | TeacherKind.Chosen files -> List.iter check files
        | TeacherKind.File
        | TeacherKind.Set -> check file.Teacher
        | _ -> ()

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
                    checkTeacher experiment.Teacher
                    experiment.Config.Validate()
                    checkLabels experiment
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
