namespace Distill

open System

/// A step of a search: a point, by its number, is trained until a rung.
type internal Step = { Point: int; Rung: int }

/// The decisions of asynchronous successive halving (Li et al. 2020, Algorithm 2).
module internal Halving =
    /// Iterations at each rung: the least, eta times as many, and so on, and last the most.
    let rungs (eta: int) (least: int) (most: int) : int list =
        let below =
            Seq.unfold (fun at -> Some(at, at * int64 eta)) (int64 least)
            |> Seq.takeWhile (fun at -> at < int64 most)
            |> Seq.map int
            |> List.ofSeq

        below @ [ most ]

    /// The next promotion: from the highest rung that has one, of its best 1/eta, the best that has not gone on. Scores are
    /// those of the steps that have ended, NaN of those that failed; `taken` are all steps ever decided.
    let promotion (eta: int) (rungs: int) (ended: (Step * float) list) (taken: Step seq) : Step option =
        let taken = set taken

        let from (rung: int) =
            let here = ended |> List.filter (fun (step, _) -> step.Rung = rung)

            here
            |> List.filter (fun (_, score) -> not (Double.IsNaN score))
            |> List.sortBy (fun (step, score) -> -score, step.Point)
            |> List.truncate (here.Length / eta)
            |> List.map (fun (step, _) -> { step with Rung = rung + 1 })
            |> List.tryFind (fun next -> not (taken.Contains next))

        [ rungs - 2 .. -1 .. 0 ] |> List.tryPick from
