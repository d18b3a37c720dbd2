/// Distillation as plain loops in double precision: training on mini-batches, what a dataset holds and in which order it is
/// visited. An independent twin that shares nothing with the product but the random numbers.
module Distill.Tests.DistillationReference

open System
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed

/// One row of a segment.
type Row = { X: float[]; Y: float[]; Valid: bool; Keep: float }

type Segment = { Memory: float[]; Rows: Row[] }

/// The segments of a rollout, as numbers.
let segments (rollout: Rollout) length =
    let columns, memory = rollout.Table.Columns, rollout.MemorySize
    let observation, action = columns[0].Size, columns[1].Size

    let width = observation + action + 2

    segmentsOf rollout length
    |> Array.map (fun values ->
        let values = Array.map float values

        {
            Memory = values[.. memory - 1]
            Rows =
                values[memory..]
                |> Array.chunkBySize width
                |> Array.map (fun row ->
                    {
                        X = row[.. observation - 1]
                        Y = row[observation .. observation + action - 1]
                        Valid = row[width - 2] = 1.0
                        Keep = row[width - 1]
                    })
        })

let validRows (segment: Segment) =
    segment.Rows |> Array.filter _.Valid |> Array.length

/// Loss of one row (a sum over terms), its gradient, and the gradient of log_std.
let private evaluate (loss: Loss) (logStd: float[]) (y: float[]) (target: float[]) =
    match loss with
    | :? MeanSquared ->
        let e = Array.map2 (-) y target
        Array.sumBy (fun v -> v * v) e, Array.map ((*) 2.0) e, [||]
    | :? Huber as huber ->
        let e = Array.map2 (-) y target
        let d = huber.Delta.Value

        Array.sumBy (fun v -> if abs v <= d then v * v / 2.0 else d * (abs v - d / 2.0)) e,
        Array.map (fun v -> max -d (min d v)) e,
        [||]
    | :? GaussianLogLikelihood ->
        let z = Array.map3 (fun v t s -> (v - t) / exp s) y target logStd

        Array.sum (Array.map2 (fun z s -> z * z / 2.0 + s + log (2.0 * Math.PI) / 2.0) z logStd),
        Array.map2 (fun z s -> z / exp s) z logStd,
        Array.map (fun z -> 1.0 - z * z) z
    | :? CrossEntropy as entropy ->
        let total = log (Array.sumBy exp y)
        let n = float y.Length

        let desired =
            Array.init y.Length (fun i ->
                entropy.Smoothing.Value / n
                + (if i = int target[0] then
                       1.0 - entropy.Smoothing.Value
                   else
                       0.0))

        Array.sum (Array.map2 (fun v d -> -d * (v - total)) y desired),
        Array.map2 (fun v d -> exp (v - total) - d) y desired,
        [||]
    | _ -> failwith $"{loss}"

/// What training on one mini-batch gave.
type Lesson = { Sum: float; Rows: int; MeanLosses: float[] }

/// Trains the parameters of a policy, which itself stays as it is.
type Learner(policy: Policy, loss: Loss, settings: OptimizerConfig, gradientLength) =
    let spec = policy.Network.Spec

    let p =
        policy.Network.Parameters.Slice(0, policy.Network.ParameterCount).ToArray() |> Array.map float

    let deviations = policy.Network["log_std"].Length
    let first = p.Length - deviations
    let terms = float (loss.TermsPerRow spec.Outputs)
    let adam = NetworksReference.PlainAdam(settings, p)
    let mutable gradient = Array.zeroCreate<float> p.Length

    let normalize (x: float[]) =
        match policy.Normalizer with
        | null -> x
        | n -> x |> Array.mapi (fun i v -> (v - float n.Mean[i]) / (sqrt (float n.Variance[i]) + n.Epsilon))

    member _.Parameters = p
    member _.Gradient = gradient
    member _.Steps = adam.Steps

    member _.Train(batch: Segment[]) =
        let memories = batch |> Array.map (fun s -> Array.copy s.Memory)
        let losses = Array.zeroCreate<float> batch.Length

        for start in 0..gradientLength .. batch[0].Rows.Length - 1 do
            let stop = min (start + gradientLength) batch[0].Rows.Length

            let valid =
                batch
                |> Array.sumBy (fun s -> s.Rows[start .. stop - 1] |> Array.filter _.Valid |> Array.length)

            gradient <- Array.zeroCreate<float> p.Length
            let logStd = p[first .. first + deviations - 1]

            batch
            |> Array.iteri (fun i segment ->
                let passes =
                    [
                        for row in segment.Rows[start .. stop - 1] do
                            let before = Array.map ((*) row.Keep) memories[i]
                            let y, next, kept = NetworksReference.forward spec p (normalize row.X) before
                            memories[i] <- next
                            row, y, kept
                    ]

                let mutable dMemory = Array.zeroCreate<float> policy.MemorySize

                for row, y, kept in List.rev passes do
                    let value, dy, dLogStd = evaluate loss logStd y row.Y
                    let scale = if row.Valid then 1.0 / (float valid * terms) else 0.0

                    if row.Valid then
                        losses[i] <- losses[i] + value / terms

                        dLogStd
                        |> Array.iteri (fun j d -> gradient[first + j] <- gradient[first + j] + scale * d)

                    let _, before =
                        NetworksReference.backward spec p gradient kept (Array.map ((*) scale) dy) dMemory

                    dMemory <- Array.map ((*) row.Keep) before)

            if valid > 0 then
                adam.Step(gradient, settings.LearningRate.Value)

        let rows = Array.map validRows batch

        {
            Sum = Array.sum losses
            Rows = Array.sum rows
            MeanLosses = Array.map2 (fun loss n -> if n = 0 then 0.0 else loss / float n) losses rows
        }

/// A segment in its place.
type Held = { Birth: int64; Segment: Segment; mutable Loss: float option }

/// What is held, and in which order an epoch visits it.
type Memory(config: DistillationConfig, most: int) =
    let held = ResizeArray<Held>()
    let retention = RandomStream(config.Seed, "retention")
    let sampling = RandomStream(config.Seed, "sampling")
    let mutable added = 0L

    /// A whole number below n that is uniform.
    let below (n: int64) (high: uint32) (low: uint32) =
        int64 ((bigint high * 4294967296I + bigint low) * bigint n / 18446744073709551616I)

    /// The first place whose share of the summed weights reaches beyond u.
    let draw epoch (weights: float[]) =
        let sums = Array.scan (+) 0.0 weights

        Array.init weights.Length (fun i ->
            let struct (high, low, _, _) =
                sampling.Bits(uint32 i, uint32 epoch, uint32 (epoch >>> 32))

            let u = float (((uint64 high <<< 32) ||| uint64 low) >>> 11) * 2.0 ** -53.0
            Array.FindIndex(sums[1..], fun sum -> sum > u * sums[weights.Length]))

    member _.Held = held
    member _.Added = added

    member _.Add(rollout: Segment[]) =
        if config.Retention :? NewestRollout then
            held.Clear()

        for segment in rollout do
            let fresh = { Birth = added; Segment = segment; Loss = None }

            if held.Count < most then
                held.Add fresh
            else
                match config.Retention with
                | :? Reservoir ->
                    // Algorithm R: the n-th segment takes a place among n, if there is one.
                    let struct (high, low, _, _) = retention.Bits(uint32 added, uint32 (added >>> 32))
                    let place = below (added + 1L) high low

                    if place < int64 most then
                        held[int place] <- fresh
                | _ -> held[int (added % int64 most)] <- fresh

            added <- added + 1L

    /// Places in the order of one epoch.
    member _.Order(epoch: int64, segmentsPerIteration: int) =
        match config.Sampling with
        | :? InOrder -> [| 0 .. held.Count - 1 |]
        | :? RecencyWeighted as recency ->
            [|
                for segment in held do
                    exp (
                        -recency.Decay.Value
                        * float ((added - 1L - segment.Birth) / int64 segmentsPerIteration)
                    )
            |]
            |> draw epoch
        | :? LossPrioritized as priority ->
            let known = held |> Seq.choose _.Loss |> Seq.toArray

            let worst, best =
                Array.max [| 0.0; yield! known |], Array.min [| 0.0; yield! known |]

            [|
                for segment in held do
                    (Option.defaultValue worst segment.Loss - best + priority.Epsilon.Value)
                    ** priority.Exponent.Value
            |]
            |> draw epoch
        | _ ->
            let order = Array.zeroCreate<int> held.Count
            sampling.Permutation(order, uint32 epoch, uint32 (epoch >>> 32))
            order

    /// Mean loss over the valid rows of the segments that a predicate chooses and that were trained on.
    member _.MeanLoss(chosen: Held -> bool) =
        let trained = held |> Seq.filter (fun h -> chosen h && h.Loss.IsSome) |> Seq.toArray
        let rows = trained |> Array.sumBy (fun h -> validRows h.Segment)

        if rows = 0 then
            None
        else
            Some(Array.sumBy (fun h -> Option.get h.Loss * float (validRows h.Segment)) trained / float rows)
