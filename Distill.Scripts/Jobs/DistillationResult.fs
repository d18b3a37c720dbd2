namespace Distill

open System
open Distill.Evaluation


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
        ?target: string * float,
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
