namespace Distill

open System
open System.Collections.Generic
open System.IO
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Recorded
open Distill.Evaluation
open Distill.Policies


/// Who labels: loaded, checked, flown alone.
module internal Labelling =
    /// The teacher in the file, said what it is and checked against the environment.
    let loadTeacher (file: TeacherFile) (environment: EnvironmentSpec) =
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
    let loadTeachers (file: TeacherFile) (environment: EnvironmentSpec) : ITeachers =
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
    let checkLabels (experiment: Experiment) =
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
    let labellers (experiment: Experiment) : ITeachers option =
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
    let checkReturns (file: TeacherFile) (teachers: ITeachers) (setup: Training.Setup) (pool: WorkerPool) =
        if file.MinTeacherReturn.HasValue then
            let least = file.MinTeacherReturn.Value
            Training.atLeastOne "teacher_episodes" file.TeacherEpisodes
            let names = setup.Environment.Spec.Variants
            let variants = max 1 names.Count

            use evaluator =
                new Evaluator(
                    setup.Environment.Grouped,
                    variants * file.TeacherEpisodes,
                    setup.Seed,
                    pool,
                    setup.Device
                )

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
    let doubts (metadata: IReadOnlyDictionary<string, string>) (flown: EvaluationResult) : string list =
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
    let soloOf (teachers: ITeachers) (setup: Training.Setup) (pool: WorkerPool) =
        use evaluator =
            new Evaluator(setup.Environment, setup.Plan.EvaluationEpisodes, setup.Seed, pool, setup.Device)

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

    /// The teacher's numbers beside those of every evaluation.
    let reference (teacher: EvaluationResult) =
        [
            "evaluation/teacher_return", teacher.MeanReturn
            "evaluation/teacher_share_terminated", teacher.ShareTerminated
        ]

    /// Refuses a teacher that is not there.
    let checkTeacher (file: TeacherFile) =
        let check (path: string) =
            if not (File.Exists path || TeacherSet.IsAt path) then
                fail $"There is no teacher {path}: neither a policy file nor a folder with teachers.csv."

        match Teacher.kind file with
        | TeacherKind.Chosen files -> List.iter check files
        | TeacherKind.File
        | TeacherKind.Set -> check file.Teacher
        | _ -> ()
