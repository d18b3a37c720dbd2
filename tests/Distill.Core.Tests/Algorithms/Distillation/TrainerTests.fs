/// Training steps of the student against plain loops in double precision.
module Distill.Tests.TrainerTests

open System
open Xunit
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationReference
open Distill.Tests.DistillationTestbed

let private optimizer =
    AdamConfig(LearningRate = 0.01, Epsilon = 0.01, MaxGradNorm = 0.0)

let private datasetOf (rollout: Rollout) length =
    let dataset =
        new AggregatedDataset(
            rollout.Table.Columns,
            length,
            rollout.MemorySize,
            int64 rollout.Rows,
            FirstInFirstOut(int64 rollout.Rows),
            RandomStream(1UL, "r")
        )

    dataset.Add rollout
    dataset

/// Trains a policy on chosen segments of a rollout and compares everything with the reference.
let private agrees
    (what: string)
    (policy: Policy)
    (loss: Loss)
    (rollout: Rollout)
    length
    gradientLength
    (chosen: int[])
    threads
    =
    use pool = new WorkerPool(threads)
    use dataset = datasetOf rollout length

    use trainer =
        new StudentTrainer(policy, loss, optimizer, gradientLength, chosen.Length, length)

    let learner = Learner(policy, loss, optimizer, gradientLength)
    let own = segments rollout length
    let lesson = learner.Train(Array.map (fun s -> own[s]) chosen)
    let sum, losses = lesson.Sum, lesson.MeanLosses

    let struct (actualSum, actualRows) =
        trainer.Train(pool, dataset, ReadOnlySpan chosen)

    Expect.equal actualRows lesson.Weight $"{what}: valid rows"
    Expect.close (2e-6 * max 1.0 (abs sum)) actualSum sum $"{what}: loss"
    Expect.equal trainer.Optimizer.Steps (int64 learner.Steps) $"{what}: optimizer steps"

    // After the step the first chunk holds the sum of all.
    let total = trainer.Optimizer.Gradient(0).ToArray()

    NetworksReference.closeNorm
        3e-5
        total[.. learner.Gradient.Length - 1]
        learner.Gradient
        $"{what}: gradient"

    let actual =
        policy.Network.Parameters.Slice(0, policy.Network.ParameterCount).ToArray()

    Expect.closeAll 1e-5 (Seq.map float actual) learner.Parameters $"{what}: parameters"

    for i, segment in Array.indexed chosen do
        Expect.close
            (2e-6 * max 1.0 (abs losses[i]))
            (float (dataset.Loss segment))
            losses[i]
            $"{what}: loss of {segment}"

let private choose (random: Random) (rollout: Rollout) length count =
    let places = [| 0 .. rollout.Rows / length - 1 |]
    random.Shuffle places
    places[.. count - 1]

let private heads: (Loss * Head * int * int) list =
    [
        MeanSquared(), Head.Plain, 3, 0
        Huber 0.4, Head.Plain, 3, 0
        GaussianLogLikelihood(), Head.Gaussian, 3, 0
        CrossEntropy 0.05, Head.Categorical, 4, 4
    ]

[<Fact>]
let ``a step on rows has the loss and the gradient of plain loops; masked rows count for nothing`` () =
    for loss, head, outputs, choices in heads do
        // One panel that is not full, some panels, and more panels than chunks of gradients.
        for count, normalize in [ 13, false; 100, true; 700, false ] do
            let random = Random count
            let actions = if choices > 0 then 1 else outputs
            use rollout = randomRollout random 40 20 5 actions 0 choices
            let spec = NetworkSpec.Mlp(5, [ 8; 6 ], outputs, Activation.Elu, head)
            use policy = randomPolicy count 0.5f spec "student" normalize
            let chosen = choose random rollout 1 count
            agrees $"{loss}, {count} rows" policy loss rollout 1 15 chosen 2

[<Fact>]
let ``windows of sequences: memory carried and detached, cleared at starts, the short tail trained`` () =
    // (length, gradient length): tails of 1 and 3 steps, no tail, one window, and back-propagation through everything.
    for length, gradientLength in [ 7, 3; 13, 5; 8, 4; 6, 6; 9, 100; 5, 1 ] do
        for count, spec in
            [
                11, NetworkSpec.GruStack(5, 6, 4, 0, 3)
                70, NetworkSpec.GruStack(5, 6, 4, 5, 3)
                40, NetworkSpec(5, [ Gru 4; Lstm 3; Dense(3, Activation.Identity) ])
                24, NetworkSpec.RecurrentStack(5, 6, Lstm 4, 0, 3)
                // Too many for half panels.
                140, NetworkSpec.GruStack(5, 6, 4, 0, 3)
            ] do
            let random = Random(100 * length + count)
            let memory = spec.Layers |> Seq.sumBy NetworksReference.memorySize
            use rollout = randomRollout random 160 length 5 3 memory 0
            use policy = randomPolicy count 0.6f spec "student" (count = 70)
            let chosen = choose random rollout length count
            let what = $"length {length}, windows of {gradientLength}, {count} sequences"
            agrees what policy (MeanSquared()) rollout length gradientLength chosen 3

[<Fact>]
let ``sequences train Gaussian and categorical heads`` () =
    for loss, head, outputs, choices in heads[2..] do
        let random = Random 9
        let actions = if choices > 0 then 1 else outputs
        use rollout = randomRollout random 50 10 5 actions 4 choices
        let spec = NetworkSpec.GruStack(5, 6, 4, 0, outputs, head)
        use policy = randomPolicy 3 0.6f spec "student" false
        agrees $"{loss}" policy loss rollout 10 4 (choose random rollout 10 33) 2

[<Fact>]
let ``what masked rows hold changes nothing, whatever the loss, even if it is not a number`` () =
    let trained (loss: Loss) head outputs choices (garbage: float32) =
        let actions = if choices > 0 then 1 else outputs
        use pool = new WorkerPool(1)
        use rollout = randomRollout (Random 1) 40 10 5 actions 0 choices

        for row in 0 .. rollout.Rows - 1 do
            if rollout.Valid[row] = 0uy then
                rollout.Table.Rows(row, 1).Fill garbage

        use dataset = datasetOf rollout 1

        use policy =
            randomPolicy 1 0.5f (NetworkSpec.Mlp(5, [ 8 ], outputs, Activation.Elu, head)) "student" false

        use trainer = new StudentTrainer(policy, loss, optimizer, 1, 400, 1)
        let struct (sum, rows) = trainer.Train(pool, dataset, ReadOnlySpan [| 0..399 |])
        sum, rows, floats policy.Network.Parameters

    for loss, head, outputs, choices in heads do
        let trained = trained loss head outputs choices
        let _, rows, _ = trained 0f
        Expect.isTrue (rows > 200.0 && rows < 400.0) "some rows are masked"

        for garbage in [ 100f; -7f; nanf; infinityf; -infinityf; Single.MaxValue ] do
            Expect.isTrue (trained garbage = trained 0f) $"{loss}: masked rows that hold {garbage} count"

[<Fact>]
let ``a gradient that is not finite ends the training and changes nothing`` () =
    for spec, length in
        [ NetworkSpec.Mlp(5, [ 8 ], 3, Activation.Elu), 1; NetworkSpec.GruStack(5, 6, 4, 0, 3), 6 ] do
        use pool = new WorkerPool(2)
        let memory = spec.Layers |> Seq.sumBy NetworksReference.memorySize
        use rollout = randomRollout (Random 2) 40 6 5 3 memory 0
        use policy = randomPolicy 2 0.5f spec "student" false
        rollout.Valid.AsSpan().Fill 1uy
        // In the last window of sequences.
        rollout.Table.Cell(6 * 17 + 5, rollout.Table.Columns[1])[0] <- 1e30f
        use dataset = datasetOf rollout length
        let batch = 240 / length

        use trainer = new StudentTrainer(policy, MeanSquared(), optimizer, 4, batch, length)

        let before = DistillationTestbed.bytes trainer.Visit
        let parameters = floats policy.Network.Parameters

        let struct (sum, _) =
            trainer.Train(pool, dataset, ReadOnlySpan [| 0 .. batch - 1 |])

        Expect.equal sum infinity "loss"

        if length = 1 then
            Paths.sameBits (floats policy.Network.Parameters) parameters "parameters"
            sameState (DistillationTestbed.bytes trainer.Visit) before "optimizer"
        else
            Expect.equal trainer.Optimizer.Steps 1L "steps before the last window"

        Expect.isTrue (Elementwise.AllFinite policy.Network.Parameters.Span) "parameters are finite"

[<Fact>]
let ``windows without a valid row take no step but carry the memory`` () =
    let random = Random 2
    use rollout = randomRollout random 40 12 5 3 4 0

    for row in 0 .. rollout.Rows - 1 do
        rollout.Valid[row] <- if row % 12 >= 4 && row % 12 < 8 then 0uy else 1uy

    use policy =
        randomPolicy 4 0.6f (NetworkSpec.GruStack(5, 6, 4, 0, 3)) "student" false

    agrees "middle window masked" policy (MeanSquared()) rollout 12 4 (choose random rollout 12 40) 2

    Array.fill rollout.Valid 0 rollout.Rows 0uy
    use pool = new WorkerPool(1)
    use dataset = datasetOf rollout 12
    use trainer = new StudentTrainer(policy, MeanSquared(), optimizer, 4, 40, 12)
    let before = floats policy.Network.Parameters
    let struct (sum, rows) = trainer.Train(pool, dataset, ReadOnlySpan [| 0..39 |])
    Expect.equal (sum, rows, trainer.Optimizer.Steps) (0.0, 0.0, 0L) "nothing valid"
    Paths.sameBits (floats policy.Network.Parameters) before "parameters"

[<Fact>]
let ``a segment drawn twice counts twice`` () =
    let random = Random 3
    use rollout = randomRollout random 20 3 5 3 4 0

    use policy =
        randomPolicy 5 0.6f (NetworkSpec.GruStack(5, 6, 4, 0, 3)) "student" false

    agrees "twice" policy (MeanSquared()) rollout 3 2 [| 4; 7; 4; 4; 19; 7 |] 2

[<Fact>]
let ``the same bits on any number of threads and every path, and nothing allocated`` () =
    for spec, length, batch in
        [
            NetworkSpec.Mlp(5, [ 8 ], 3, Activation.Elu), 1, 700
            NetworkSpec.GruStack(5, 6, 4, 0, 3), 20, 40
            NetworkSpec.RecurrentStack(5, 6, Lstm 4, 0, 3), 20, 40
        ] do
        let memory = spec.Layers |> Seq.sumBy NetworksReference.memorySize

        let train threads =
            use pool = new WorkerPool(threads)
            use rollout = randomRollout (Random 6) 40 20 5 3 memory 0
            use dataset = datasetOf rollout length
            use policy = randomPolicy 6 0.5f spec "student" false

            use trainer = new StudentTrainer(policy, MeanSquared(), optimizer, 7, batch, length)

            let batches = [| 0 .. batch - 1 |]

            let work () =
                for _ in 1..5 do
                    trainer.Train(pool, dataset, ReadOnlySpan batches) |> ignore

            work ()

            if threads = 1 then
                let before = GC.GetAllocatedBytesForCurrentThread()
                let struct (_, rows) = trainer.Train(pool, dataset, ReadOnlySpan batches)

                Expect.equal
                    (GC.GetAllocatedBytesForCurrentThread() - before)
                    0L
                    $"bytes allocated for {rows} rows"
            else
                trainer.Train(pool, dataset, ReadOnlySpan batches) |> ignore

            floats policy.Network.Parameters

        let expected = train 1

        for path in Paths.all do
            for threads in [ 1; 2; 4 ] do
                Paths.sameBits (Paths.on path (fun () -> train threads)) expected $"{path}, {threads} threads"
