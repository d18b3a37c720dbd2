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
type Row =
    {
        X: float[]
        Y: float[]
        Valid: bool
        Keep: float
        Held: bool
        /// 1, or less where its episode failed.
        Weight: float
    }

type Segment = { Memory: float[]; Rows: Row[] }

/// How much a row counts: one that is trained on, or one that is held out.
let weight (held: bool) (row: Row) =
    if row.Valid && row.Held = held then row.Weight else 0.0

let weights held (segment: Segment) =
    segment.Rows |> Array.sumBy (weight held)

/// The segments of a rollout, as numbers. `mark` says of a row whether it is held out, and its weight.
let marked (rollout: Rollout) length (mark: int -> bool * float) =
    let columns, memory = rollout.Table.Columns, rollout.MemorySize
    let observation, action = columns[0].Size, columns[1].Size

    let width = observation + action + 2

    segmentsOf rollout length
    |> Array.mapi (fun segment values ->
        let values = Array.map float values

        {
            Memory = values[.. memory - 1]
            Rows =
                values[memory..]
                |> Array.chunkBySize width
                |> Array.mapi (fun i row ->
                    let held, weight = mark (segment * length + i)

                    {
                        X = row[.. observation - 1]
                        Y = row[observation .. observation + action - 1]
                        Valid = rollout.Valid[segment * length + i] = 1uy
                        Keep = row[width - 1]
                        Held = held
                        Weight = weight
                    })
        })

let segments (rollout: Rollout) length =
    marked rollout length (fun _ -> false, 1.0)

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
    | :? KullbackLeibler ->
        let probabilities (logits: float[]) =
            logits |> Array.map (fun v -> exp v / Array.sumBy exp logits)

        let p, q = probabilities target, probabilities y
        Array.sum (Array.map2 (fun p q -> p * log (p / q)) p q), Array.map2 (-) q p, [||]
    | _ -> failwith $"{loss}"

/// What training on one mini-batch gave.
type Lesson =
    {
        Sum: float
        Weight: float
        MeanLosses: float[]
        /// Of each row of each segment, as they were when it came up.
        Outputs: float[][][]
    }

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
    let mutable taken = gradient

    let normalize (x: float[]) =
        match policy.Normalizer with
        | null -> x
        | n -> x |> Array.mapi (fun i v -> (v - float n.Mean[i]) / (sqrt (float n.Variance[i]) + n.Epsilon))

    member _.Parameters = p

    /// That of the last step.
    member _.Gradient = taken
    member _.Steps = adam.Steps
    member _.Snapshot() = adam.Snapshot()

    /// Mean loss on the rows that are held out; none where there is no such row.
    member _.HeldOut(all: Segment[]) =
        let logStd = p[first .. first + deviations - 1]

        let sums =
            [
                for segment in all do
                    let mutable memory = segment.Memory

                    for row in segment.Rows do
                        let y, next, _ =
                            NetworksReference.forward
                                spec
                                p
                                (normalize row.X)
                                (Array.map ((*) row.Keep) memory)

                        memory <- next

                        if weight true row > 0.0 then
                            let value, _, _ = evaluate loss logStd y row.Y
                            weight true row * value / terms, weight true row
            ]

        if sums.IsEmpty then
            None
        else
            Some(List.sumBy fst sums / List.sumBy snd sums)

    member _.Train(batch: Segment[]) =
        let memories = batch |> Array.map (fun s -> Array.copy s.Memory)
        let losses = Array.zeroCreate<float> batch.Length
        let outputs = batch |> Array.map (fun s -> Array.zeroCreate<float[]> s.Rows.Length)

        for start in 0..gradientLength .. batch[0].Rows.Length - 1 do
            let stop = min (start + gradientLength) batch[0].Rows.Length

            let total =
                batch |> Array.sumBy (fun s -> s.Rows[start .. stop - 1] |> Array.sumBy (weight false))

            gradient <- Array.zeroCreate<float> p.Length
            let logStd = p[first .. first + deviations - 1]

            batch
            |> Array.iteri (fun i segment ->
                let passes =
                    [
                        for step in start .. stop - 1 do
                            let row = segment.Rows[step]
                            let before = Array.map ((*) row.Keep) memories[i]
                            let y, next, kept = NetworksReference.forward spec p (normalize row.X) before
                            memories[i] <- next
                            outputs[i][step] <- y
                            row, y, kept
                    ]

                let mutable dMemory = Array.zeroCreate<float> policy.MemorySize

                for row, y, kept in List.rev passes do
                    let value, dy, dLogStd = evaluate loss logStd y row.Y
                    let w = weight false row
                    let scale = if w > 0.0 then w / (total * terms) else 0.0

                    if w > 0.0 then
                        losses[i] <- losses[i] + w * value / terms

                        dLogStd
                        |> Array.iteri (fun j d -> gradient[first + j] <- gradient[first + j] + scale * d)

                    let _, before =
                        NetworksReference.backward spec p gradient kept (Array.map ((*) scale) dy) dMemory

                    dMemory <- Array.map ((*) row.Keep) before)

            if total > 0.0 then
                taken <- gradient
                adam.Step(gradient, settings.LearningRate.Value)

        let own = Array.map (weights false) batch

        {
            Sum = Array.sum losses
            Weight = Array.sum own
            MeanLosses = Array.map2 (fun loss n -> if n = 0.0 then 0.0 else loss / n) losses own
            Outputs = outputs
        }

/// A segment in its place.
type Held = { Birth: int64; Segment: Segment; mutable Loss: float option; mutable Disagreement: float option }

type DistillationConfig with
    /// Whether rows can be held that are not trained on with full weight.
    member config.Weighs = config.HeldOut > 0.0 || config.FailedWeight.Value < 1.0

/// What is held, and in which order an epoch visits it.
type Memory(config: DistillationConfig, most: int) =
    let held = ResizeArray<Held>()
    let retention = RandomStream(config.Seed, "retention")
    let sampling = RandomStream(config.Seed, "sampling")
    let mutable added = 0L
    let seen = Collections.Generic.Dictionary<int, int64>()
    let full = Collections.Generic.HashSet<int>()

    let classOf (row: Row) =
        if row.Y.Length = 1 then
            int row.Y[0]
        else
            Array.IndexOf(row.Y, Array.max row.Y)

    /// Rows of each class that are valid.
    let counts () =
        held |> Seq.collect _.Segment.Rows |> Seq.filter _.Valid |> Seq.countBy classOf |> Map.ofSeq

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

    /// Where a row goes that a balanced reservoir takes (Chrysakis and Moens 2020, algorithm 1).
    let balanced (row: Row) =
        let bits number =
            let struct (high, low, _, _) =
                retention.Bits(uint32 added, uint32 (added >>> 32), number)

            high, low

        let victim wanted =
            Seq.initInfinite (fun i -> int (below (int64 most) <|| bits (uint32 (i + 1))))
            |> Seq.find (fun place -> classOf held[place].Segment.Rows[0] = wanted)

        let own = classOf row
        seen[own] <- (if seen.ContainsKey own then seen[own] else 0L) + 1L

        if held.Count < most then
            Some held.Count
        else
            let stored = counts ()
            let largest = stored |> Map.toSeq |> Seq.maxBy (fun (index, n) -> n, -index) |> fst
            full.Add largest |> ignore

            if not (full.Contains own) then
                Some(victim largest)
            elif below seen[own] <|| bits 0u < int64 (stored.TryFind own |> Option.defaultValue 0) then
                Some(victim own)
            else
                None

    let taught (segment: Held) = weights false segment.Segment > 0.0

    member _.Held = held
    member _.Added = added

    member _.Add(rollout: Segment[]) =
        if config.Retention :? NewestRollout then
            held.Clear()

        for segment in rollout do
            let fresh = { Birth = added; Segment = segment; Loss = None; Disagreement = None }

            let put place =
                if place < held.Count then
                    held[place] <- fresh
                else
                    held.Add fresh

            if config.Retention :? ClassBalancedReservoir then
                if segment.Rows[0].Valid then
                    Option.iter put (balanced segment.Rows[0])
            elif held.Count < most then
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
        let drawn (weigh: Held -> float) =
            [|
                for segment in held do
                    if not config.Weighs || taught segment then
                        weigh segment
                    else
                        0.0
            |]
            |> draw epoch

        /// By what is known of the segments, what is not known like the worst.
        let prioritized (score: Held -> float option) epsilon exponent =
            let known = held |> Seq.choose score |> Seq.toArray

            let worst, best =
                Array.max [| 0.0; yield! known |], Array.min [| 0.0; yield! known |]

            drawn (fun segment -> (Option.defaultValue worst (score segment) - best + epsilon) ** exponent)

        let once (order: int[]) =
            order |> Array.filter (fun place -> not config.Weighs || taught held[place])

        match config.Sampling with
        | :? InOrder -> once [| 0 .. held.Count - 1 |]
        | :? RecencyWeighted as recency ->
            drawn (fun segment ->
                exp (
                    -recency.Decay.Value * float ((added - 1L - segment.Birth) / int64 segmentsPerIteration)
                ))
        | :? LossPrioritized as priority -> prioritized _.Loss priority.Epsilon.Value priority.Exponent.Value
        | :? DisagreementPrioritized as priority ->
            prioritized _.Disagreement priority.Epsilon.Value priority.Exponent.Value
        | :? ClassBalanced as balance ->
            let counts = counts ()

            drawn (fun segment ->
                match segment.Segment.Rows |> Array.filter _.Valid with
                | [||] -> 0.0
                | rows ->
                    rows |> Array.averageBy (fun row -> float counts[classOf row] ** -balance.Exponent.Value))
        | _ ->
            let order = Array.zeroCreate<int> held.Count
            sampling.Permutation(order, uint32 epoch, uint32 (epoch >>> 32))
            once order

    /// Mean loss over the rows of the segments that a predicate chooses and that were trained on.
    member _.MeanLoss(chosen: Held -> bool) =
        let trained = held |> Seq.filter (fun h -> chosen h && h.Loss.IsSome) |> Seq.toArray
        let total = trained |> Array.sumBy (fun h -> weights false h.Segment)

        if total = 0.0 then
            None
        else
            Some(Array.sumBy (fun h -> Option.get h.Loss * weights false h.Segment) trained / total)
