/// In which order an epoch visits a dataset.
module Distill.Tests.DatasetSamplingTests

open System
open Xunit
open Distill.Compute
open Distill.Datasets
open Distill.Tests.DistillationTestbed

let private stream = RandomStream(11UL, "sampling")
let private pool = new WorkerPool(2)

/// A dataset of so many segments of one row, added by so many iterations.
let private datasetOf segments iterations =
    let dataset =
        new AggregatedDataset(
            columns 1 1,
            1,
            0,
            int64 segments,
            FirstInFirstOut(int64 (segments * iterations)),
            stream
        )

    use rollout = randomRollout (Random 1) segments 1 1 1 0 0

    for _ in 1..iterations do
        dataset.Add rollout

    dataset

/// How often each segment comes up in so many epochs.
let private counts (plan: Sampling) (dataset: AggregatedDataset) segmentsPerIteration epochs =
    let sampler = Sampler(plan, stream)
    let counts = Array.zeroCreate<int> dataset.Count

    for epoch in 0 .. epochs - 1 do
        let order = sampler.Order(pool, dataset, segmentsPerIteration, int64 epoch)
        Expect.equal order.Length dataset.Count "draws"

        for segment in order do
            counts[segment] <- counts[segment] + 1

    counts

/// Draws per segment are binomial: within five standard deviations of what the probability says.
let private drawn (draws: int) (counts: int[]) (weights: float[]) =
    let total = Array.sum weights

    Array.iteri2
        (fun i count weight ->
            let p = weight / total
            let deviation = sqrt (float draws * p * (1.0 - p))
            Expect.close (5.0 * deviation + 1.0) (float count) (float draws * p) $"draws of segment {i}")
        counts
        weights

[<Fact>]
let ``every epoch is a permutation, epochs differ, and an epoch is always the same`` () =
    Property.checkMany 30 (fun (seed: int) ->
        use dataset = datasetOf (1 + abs (seed % 500)) 1
        let sampler = Sampler(Permutation(), RandomStream(uint64 (uint32 seed), "s"))

        let order epoch =
            sampler.Order(pool, dataset, 1, epoch).ToArray()

        let first, second = order 0L, order 1L

        for epoch in [ first; second ] do
            Expect.equal (Array.sort epoch) [| 0 .. dataset.Count - 1 |] $"seed {seed}: not a permutation"

        Expect.isTrue (dataset.Count < 10 || first <> second) $"seed {seed}: two epochs are alike"
        Expect.isTrue (order 0L = first) $"seed {seed}: epoch 0 changed"
        // The upper half of the counter counts, too.
        Expect.isTrue (dataset.Count < 10 || order (1L <<< 32) <> first) $"seed {seed}: epoch 2^32"
        true)

[<Fact>]
let ``the first place of a permutation is uniform`` () =
    use dataset = datasetOf 10 1
    let sampler = Sampler(Permutation(), stream)
    let counts = Array.zeroCreate<int> 10

    for epoch in 0L .. 19_999L do
        let first = sampler.Order(pool, dataset, 1, epoch)[0]
        counts[first] <- counts[first] + 1

    drawn 20_000 counts (Array.create 10 1.0)

[<Theory>]
[<InlineData(0.0)>]
[<InlineData(0.05)>]
[<InlineData(0.7)>]
let ``recency-weighted draws fall with age`` decay =
    use dataset = datasetOf 20 8
    let epochs = 300
    let weights = Array.init 160 (fun i -> exp (-decay * float (7 - i / 20)))
    drawn (epochs * 160) (counts (RecencyWeighted decay) dataset 20 epochs) weights

[<Fact>]
let ``recency counts age by birth where the ring has wrapped`` () =
    use dataset =
        new AggregatedDataset(columns 1 1, 1, 0, 50L, FirstInFirstOut 50L, stream)

    use rollout = randomRollout (Random 2) 20 1 1 1 0 0

    for _ in 1..4 do
        dataset.Add rollout

    // Births 30 to 79 are held; 79 is the newest.
    let weights =
        Array.init 50 (fun i -> exp (-0.5 * float ((79L - dataset.Birth i) / 20L)))

    drawn (300 * 50) (counts (RecencyWeighted 0.5) dataset 20 300) weights

[<Theory>]
[<InlineData(0.6)>]
[<InlineData(1.0)>]
[<InlineData(0.0)>]
let ``loss-prioritized draws follow the losses; untrained segments count as the worst`` exponent =
    use dataset = datasetOf 40 1
    let losses = Array.init 40 (fun i -> 0.02 * float i)

    for i in 0..29 do
        dataset.RecordLoss(i, float32 losses[i])

    // A student that diverged on a segment must not stop the draw.
    dataset.RecordLoss(30, nanf)
    dataset.RecordLoss(31, infinityf)
    let worst = losses[29]

    let weights =
        losses |> Array.mapi (fun i loss -> ((if i < 30 then loss else worst) + 1e-3) ** exponent)

    drawn (400 * 40) (counts (LossPrioritized(exponent, 1e-3)) dataset 40 400) weights

[<Fact>]
let ``losses below zero count from the lowest`` () =
    use dataset = datasetOf 20 1

    for i in 0..19 do
        dataset.RecordLoss(i, float32 i - 10f)

    // Without the epsilon the best segment would never come up.
    let weights = Array.init 20 (fun i -> float i + 5.0)
    drawn (400 * 20) (counts (LossPrioritized(1.0, 5.0)) dataset 20 400) weights

[<Fact>]
let ``a new rollout in the place of an old one is untrained`` () =
    use dataset =
        new AggregatedDataset(columns 1 1, 1, 0, 10L, FirstInFirstOut 10L, stream)

    use rollout = randomRollout (Random 3) 10 1 1 1 0 0
    dataset.Add rollout
    dataset.RecordLoss(4, 3f)
    Expect.equal (dataset.Loss 4) 3f "recorded"
    dataset.Add rollout
    Expect.isTrue (Single.IsNaN(dataset.Loss 4)) "untrained"

[<Fact>]
let ``the mean loss of an age counts the valid rows that were trained on`` () =
    use dataset =
        new AggregatedDataset(columns 1 1, 4, 0, 40L, FirstInFirstOut 40L, stream)

    use rollout = randomRollout (Random 4) 5 4 1 1 0 0
    rollout.Valid.AsSpan().Fill 1uy
    // Of the second of five segments one row is valid, of the third none.
    rollout.Valid.AsSpan(5, 7).Clear()
    dataset.Add rollout
    dataset.Add rollout
    Expect.equal (dataset.MeanLosses 5L) (struct (Nullable(), Nullable())) "before training"

    for i in [ 0; 1; 2; 3; 5; 6 ] do
        dataset.RecordLoss(i, float32 (i + 1))

    let struct (second, first) = dataset.MeanLosses 5L
    Expect.close 1e-12 first.Value ((4.0 * 1.0 + 2.0 + 4.0 * 4.0) / 9.0) "first rollout"
    Expect.close 1e-12 second.Value ((4.0 * 6.0 + 7.0) / 5.0) "second rollout"
    dataset.Add rollout
    let struct (newest, historical) = dataset.MeanLosses 10L
    Expect.equal newest (Nullable()) "not trained on"
    Expect.equal historical second "the first rollout is gone"

[<Fact>]
let ``drawing allocates nothing`` () =
    use dataset = datasetOf 500 2
    let plans: Sampling list = [ Permutation(); RecencyWeighted(); LossPrioritized() ]

    for plan in plans do
        let sampler = Sampler(plan, stream)

        let draw () =
            for epoch in 0L .. 40L do
                let order = sampler.Order(pool, dataset, 500, epoch)
                Expect.isTrue (order.Length = 1000) "draws"

        draw ()
        let before = GC.GetAllocatedBytesForCurrentThread()
        draw ()
        Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L $"{plan}"
