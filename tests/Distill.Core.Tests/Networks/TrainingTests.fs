module Distill.Tests.NetworksTrainingTests

open System
open Distill
open Distill.Compute
open Distill.Networks
open Distill.Tests.NetworksReference
open FsCheck.FSharp
open Xunit

let private width = Panel.Width

type private Blocks() =
    inherit State()
    member val All = ResizeArray<string * byte list>()

    override this.Visit(name, values) =
        this.All.Add(name, List.ofArray (values.ToArray()))

let private stateOf (visit: State -> unit) =
    let blocks = Blocks()
    visit blocks
    List.ofSeq blocks.All

/// Gradient of a weighted sum of squared outputs over a sequence of one panel, with resets in some lanes.
let private checkNetwork (spec: NetworkSpec) steps =
    use network = new Network(spec)
    network.Initialize(RandomStream(11UL, "weights"))
    let random = Random 5
    let memorySize = network.MemorySize
    let x = Array.init steps (fun _ -> Draw.floats random (spec.Inputs * width))
    let target = Array.init steps (fun _ -> Draw.floats random (spec.Outputs * width))

    let keep =
        Array.init steps (fun _ -> Array.init width (fun _ -> if random.Next 4 = 0 then 0f else 1f))

    let start = Draw.floats random (memorySize * width)
    let weight = Array.init width (fun l -> if l < 20 then 1f else 0f)
    let scale = 1f / float32 (20 * steps * spec.Outputs)

    let gradient, dMemory =
        let results =
            Paths.same $"{spec}" (fun () ->
                use own = new Workspace()

                let activations: float32[][] =
                    Array.init steps (fun _ -> Array.zeroCreate (network.ActivationSize * width))

                let memory: float32[] = Array.copy start
                let gradient: float32[] = Array.zeroCreate network.Parameters.Length
                let dMemory: float32[] = Array.zeroCreate memory.Length
                let dy: float32[] = Array.zeroCreate (spec.Outputs * width)

                for t in 0 .. steps - 1 do
                    Elementwise.ScaleLanes(panelOf memory, keep[t])
                    let kept = panelOf activations[t]
                    network.Forward(panelOf x[t], panelOf memory, kept, own)
                    network.CopyMemory(kept, panelOf memory)

                for t in steps - 1 .. -1 .. 0 do
                    let kept = panelOf activations[t]
                    let d = panelOf dy
                    let y = network.Output kept

                    MeanSquared().Evaluate(y, panelOf target[t], panelOf weight, scale, d) |> ignore

                    network.Backward(panelOf x[t], kept, d, panelOf dMemory, gradient, own)
                    Elementwise.ScaleLanes(panelOf dMemory, keep[t])

                Array.append gradient dMemory)

        Array.sub results 0 network.ParameterCount, Array.skip network.Parameters.Length results

    let p =
        Array.init network.ParameterCount (fun i -> float network.Parameters.Span[i])

    /// The loss in double precision, and the reference's gradients of it when asked.
    let evaluate (p: float[]) (start: float32[]) (gradient: float[]) =
        let mutable sum = 0.0

        let dStart =
            [|
                for l in 0..19 do
                    let mutable memory = lane start l

                    let kept =
                        [|
                            for t in 0 .. steps - 1 do
                                let entering = memory |> Array.map (fun h -> h * float (keep[t][l]))
                                let y, next, kept = forward spec p (lane x[t] l) entering
                                memory <- next
                                let error = Array.map2 (-) y (lane target[t] l)
                                sum <- sum + float scale * (error |> Array.sumBy (fun e -> e * e))
                                error, kept
                        |]

                    let mutable d = Array.zeroCreate memorySize

                    if gradient.Length > 0 then
                        for t in steps - 1 .. -1 .. 0 do
                            let error, kept = kept[t]
                            let dy = error |> Array.map (fun e -> 2.0 * float scale * e)
                            let _, before = backward spec p gradient kept dy d
                            d <- before |> Array.map (fun v -> v * float (keep[t][l]))

                    d
            |]

        sum, dStart

    let expected = Array.zeroCreate p.Length
    let _, dStart = evaluate p start expected
    closeNorm 5e-6 gradient expected $"{spec}: gradient"

    if memorySize > 0 then
        closeNorm
            5e-6
            dMemory
            (panel dStart memorySize |> Seq.map float)
            $"{spec}: gradient of the first memory"

    // Central differences of the double-precision loss, for a sample of the parameters. 1e-5 of the largest gradient
    // covers single precision; the differences themselves are exact to about 1e-9.
    let size = expected |> Seq.map abs |> Seq.max

    for _ in 1..60 do
        let i = random.Next p.Length

        let at step =
            fst (evaluate (Array.updateAt i (p[i] + step) p) start [||])

        let difference = (at 1e-5 - at -1e-5) / 2e-5
        Expect.close (1e-5 * size) (float gradient[i]) difference $"{spec}: parameter {i}"

[<Fact>]
let ``Gradients of MLPs agree with central differences`` () =
    for activation in [ Activation.Elu; Activation.Tanh; Activation.Selu ] do
        checkNetwork (NetworkSpec.Mlp(7, [ 19; 10 ], 3, activation)) 1

[<Fact>]
let ``Gradients through time agree with central differences`` () =
    checkNetwork (NetworkSpec.GruStack(6, 9, 8, 5, 2)) 6
    checkNetwork (NetworkSpec(5, [ Gru 7; Gru 6; Dense(3, Activation.Tanh) ])) 5
    checkNetwork (NetworkSpec.RecurrentStack(6, 9, Lstm 8, 5, 2)) 6
    checkNetwork (NetworkSpec(5, [ Lstm 7; Gru 4; Lstm 6; Dense(3, Activation.Tanh) ])) 5

[<Fact>]
let ``A Gaussian head's log_std has the gradient of its loss`` () =
    let random = Random 9
    let mean, target = Draw.floats random (3 * width), Draw.floats random (3 * width)
    let logStd = [| 0.3f; -1.1f; 0f |]

    let weight =
        Array.init width (fun l ->
            if l < 9 then 1f
            elif l < 13 then 0.5f
            else 0f)

    let loss (logStd: float[]) =
        Seq.sum
            [
                for a in 0..2 do
                    for l in 0 .. width - 1 do
                        let z = (float target[a * width + l] - float mean[a * width + l]) / exp logStd[a]
                        float weight[l] * (0.5 * z * z + logStd[a] + 0.5 * log (2.0 * Math.PI))
            ]

    let dy: float32[] = Array.create (6 * width) nanf
    let y = Array.append mean (Array.init (3 * width) (fun i -> logStd[i / width]))

    let sum =
        GaussianLogLikelihood().Evaluate(panelOf y, panelOf target, panelOf weight, 0.1f, panelOf dy)

    Expect.close 1e-4 sum (loss (Array.map float logStd)) "loss"

    for a in 0..2 do
        let at step =
            loss (logStd |> Array.mapi (fun i v -> float v + if i = a then step else 0.0))

        Expect.close
            1e-5
            (Array.sub dy ((3 + a) * width) width |> Array.sumBy float)
            (0.1 * (at 1e-5 - at -1e-5) / 2e-5)
            $"log_std {a}"

/// Regression of a fixed random function by an MLP, in mini-batches cut into chunks. Everything is allocated up front,
/// and each item notes what it allocated.
type private Regression(pool: WorkerPool, panels: int, chunks: int, head: Head) =
    let spec = NetworkSpec.Mlp(26, [ 96; 96 ], 4, Activation.Elu, head)
    let network = new Network(spec)

    let adam =
        new Adam(network, AdamConfig(LearningRate = 3e-3, MaxGradNorm = 0.05), chunks)

    let loss: Loss =
        if head = Head.Gaussian then
            GaussianLogLikelihood()
        else
            MeanSquared()

    let random = Random 3
    let x = Array.init panels (fun _ -> Draw.floats random (26 * width))

    let target =
        x
        |> Array.map (fun x ->
            Array.init (4 * width) (fun i ->
                let a, l = i / width, i % width
                MathF.Sin(2f * x[(a + 1) * width + l]) * x[(a + 7) * width + l]))

    let weight = Array.create width 1f

    let buffers (size: int) =
        Array.init pool.Threads (fun _ -> new FloatBuffer(size))

    let activations = buffers (network.ActivationSize * width)
    let dy = buffers (network.OutputSize * width)
    let losses = Array.zeroCreate<float> chunks
    let allocated = Array.zeroCreate<int64> chunks
    do network.Initialize(RandomStream(1UL, "weights"))
    member _.Network = network
    member _.Adam = adam
    member _.Loss = Array.sum losses / float (panels * width)
    member _.AllocatedByItems = Array.sum allocated

    member this.Step() =
        pool.Run(this, chunks)
        adam.Step(pool, chunks)

    interface IWork with
        member _.Run(chunk, worker) =
            let before = GC.GetAllocatedBytesForCurrentThread()
            let gradient = adam.Gradient chunk
            gradient.Clear()
            let mutable sum = 0.0
            let a = Panel(activations[worker].Span, network.ActivationSize)
            let d = Panel(dy[worker].Span, network.OutputSize)
            let scale = 1f / float32 (panels * width * loss.TermsPerRow 4)

            for panel in chunk * panels / chunks .. (chunk + 1) * panels / chunks - 1 do
                let x = panelOf x[panel]
                let own = pool.Workspace worker
                network.Forward(x, Panel(), a, own)

                sum <- sum + loss.Evaluate(network.Output a, panelOf target[panel], panelOf weight, scale, d)

                network.Backward(x, a, d, Panel(), gradient, own)

            losses[chunk] <- sum
            allocated[chunk] <- GC.GetAllocatedBytesForCurrentThread() - before

    interface IDisposable with
        member _.Dispose() =
            adam.Dispose()
            network.Dispose()

            for buffer in Seq.append activations dy do
                buffer.Dispose()

[<Theory>]
[<InlineData(Head.Plain)>]
[<InlineData(Head.Gaussian)>]
let ``Training learns, and gives the same bits on 1, 2 and 4 threads and on every path`` head =
    let train threads =
        Paths.same $"{threads} threads" (fun () ->
            use pool = new WorkerPool(threads)
            use regression = new Regression(pool, 8, 5, head)
            regression.Step()
            let first = regression.Loss

            for _ in 1..40 do
                regression.Step()

            let gain =
                if head = Head.Plain then
                    first / regression.Loss
                else
                    first - regression.Loss

            Expect.isTrue
                (gain > (if head = Head.Plain then 2.0 else 0.5))
                $"loss {first} became {regression.Loss}"

            Expect.isTrue (regression.Adam.ClippedSteps > 0L) "some steps were clipped"
            regression.Network.Parameters.Span.ToArray())

    let expected = train 1

    for threads in [ 2; 4 ] do
        Paths.sameBits (train threads) expected $"{threads} threads against 1"

[<Fact>]
let ``Adam gives the same bits on 1, 2 and 4 threads and on every path`` () =
    let train config threads =
        Paths.same "Adam" (fun () ->
            use pool = new WorkerPool(threads)
            use network = new Network(NetworkSpec.Mlp(50, [ 120; 120 ], 7))
            network.Initialize(RandomStream(4UL, "weights"))
            use adam = new Adam(network, config, 3)
            let random = Random 8

            for _ in 1..5 do
                for chunk in 0..2 do
                    let values = Draw.floats random network.ParameterCount
                    values.CopyTo(adam.Gradient chunk)

                adam.Step(pool, 3)

            network.Parameters.Span.ToArray())

    for config in
        [
            AdamConfig()
            AdamConfig(WeightDecay = 0.01, MaxGradNorm = 0.0)
            AdamConfig(WeightDecay = 0.01, Decoupled = true, Floor = 1e-7)
        ] do
        let expected = train config 1

        for threads in [ 2; 4 ] do
            Paths.sameBits (train config threads) expected $"{threads} threads against 1"

[<Theory>]
[<InlineData(1)>]
[<InlineData(4)>]
let ``A training step allocates nothing`` threads =
    use pool = new WorkerPool(threads)

    for head in [ Head.Plain; Head.Gaussian ] do
        use regression = new Regression(pool, 8, 8, head)

        for _ in 1..100 do
            regression.Step()

        let mutable first = 0

        for _ in 1..20 do
            let before = GC.GetAllocatedBytesForCurrentThread()
            regression.Step()
            let allocated = GC.GetAllocatedBytesForCurrentThread() - before
            Expect.equal allocated 0L "bytes allocated by the caller"

            if regression.AllocatedByItems > 0L then
                first <- first + 1

        // On a busy machine a thread may come to its first item, and make its workspace, only now.
        Expect.isTrue (first < threads) $"{first} of 20 steps have allocated"

[<Fact>]
let ``A step of a network with memory allocates nothing`` () =
    for memory in [ Gru 16 :> LayerSpec; Lstm 16 ] do
        use network = new Network(NetworkSpec.RecurrentStack(22, 16, memory, 0, 4))
        network.Initialize(RandomStream(1UL, "weights"))

        let x, memory =
            Draw.floats (Random 1) (22 * width), Draw.floats (Random 2) (network.MemorySize * width)

        let activations: float32[] = Array.zeroCreate (network.ActivationSize * width)
        use own = new Workspace()

        let dy, gradient =
            Draw.floats (Random 3) (4 * width), Draw.floats (Random 4) network.Parameters.Length

        let step () =
            let x = panelOf x
            let h = panelOf memory
            let kept = panelOf activations
            network.Forward(x, h, kept, own)
            network.Backward(x, kept, panelOf dy, h, gradient, own)
            network.CopyMemory(kept, h)

        for _ in 1..100 do
            step ()

        let before = GC.GetAllocatedBytesForCurrentThread()

        for _ in 1..20 do
            step ()

        Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L "bytes"

[<Fact>]
let ``Normalizer merges batches to the mean and variance of all observations`` () =
    let sizes =
        Gen.zip (Gen.choose (1, 9)) (Gen.listOfLength 4 (Gen.choose (0, 70))) |> Arb.fromGen

    Property.check (
        Prop.forAll sizes (fun (size, batches) ->
            let random = Random(size + List.sum batches)
            let normalizer = Normalizer size
            let all = Array.init size (fun _ -> ResizeArray<float>())

            for count in batches do
                let statistics = ObservationStatistics(normalizer, max 1 count)

                for first in 0..width .. count - 1 do
                    let lanes = min width (count - first)
                    // Far from zero, so that squares of the values themselves would lose the variance.
                    let panel =
                        Array.init (size * width) (fun i ->
                            float32 (100 * (i / width)) + 3f * float32 (random.NextDouble()))

                    for i in 0 .. size - 1 do
                        for l in 0 .. lanes - 1 do
                            all[i].Add(float panel[i * width + l])

                    statistics.Add(first / width, panelOf panel)

                statistics.Merge()

            let count = List.sum batches
            Expect.equal normalizer.Count (int64 count) "count"

            if count > 0 then
                let means = all |> Array.map Seq.average

                let variances =
                    Array.map2 (fun v m -> v |> Seq.averageBy (fun x -> (x - m) ** 2.0)) all means
                // Mean and variance are kept in single precision and rounded once per batch; a mean of 800 is off by
                // 3e-5 then, which enters the variance times the distance of the next batch's mean.
                Expect.closeAll 5e-7 (Seq.map float normalizer.Mean) means "mean"
                Expect.closeAll 2e-5 (Seq.map float normalizer.Variance) variances "variance"

                let panel =
                    Array.init (size * width) (fun i ->
                        float32 (100 * (i / width)) + float32 (i % width) / 16f)

                let expected =
                    panel
                    |> Array.mapi (fun i v ->
                        let f = i / width

                        (float v - float normalizer.Mean[f]) / (sqrt (float normalizer.Variance[f]) + 1e-2))

                let actual =
                    Paths.same "apply" (fun () ->
                        let copy: float32[] = Array.copy panel
                        normalizer.Apply(panelOf copy)
                        copy)

                Expect.closeAll 1e-6 (Seq.map float actual) expected "normalized")
    )

[<Fact>]
let ``Normalizer starts as the identity but for epsilon`` () =
    let panel = Draw.floats (Random 1) (2 * width)
    let untouched: float32[] = Array.copy panel
    Normalizer(2, 0.0).Apply(panelOf untouched)
    Paths.sameBits untouched panel "before any observation"

[<Fact>]
let ``a gradient whose norm is not finite changes neither weights nor moments`` () =
    use pool = new WorkerPool(2)
    use network = new Network(NetworkSpec.Mlp(5, [ 9 ], 2))
    network.Initialize(RandomStream(4UL, "weights"))
    use adam = new Adam(network, AdamConfig(), 2)

    let step value =
        for chunk in 0..1 do
            (adam.Gradient chunk).Fill 0.1f

        (adam.Gradient 1)[7] <- value
        adam.Step(pool, 2)
        network.Parameters.Span.ToArray()

    let before = step 0.3f
    let state = stateOf adam.Visit

    for value in [ nanf; infinityf; -infinityf ] do
        Paths.sameBits (step value) before $"weights after {value}"
        Expect.equal (stateOf adam.Visit) state $"moments and steps after {value}"
        Expect.isTrue (not (Double.IsFinite adam.GradientNorm)) "norm"

    Expect.isTrue (step 0.3f <> before) "goes on"

[<Fact>]
let ``losses leave out what does not count, even if it is not a number`` () =
    for loss, outputs, labels, head in
        [
            MeanSquared() :> Loss, 3, 3, Head.Plain
            MeanSquared(), 6, 3, Head.SquashedGaussian
            Huber 0.4, 3, 3, Head.Plain
            Huber 0.4, 6, 3, Head.Gaussian
            GaussianLogLikelihood(), 6, 3, Head.Gaussian
            CrossEntropy 0.05, 4, 1, Head.Categorical
            KullbackLeibler(), 6, 6, Head.Gaussian
            KullbackLeibler(), 4, 4, Head.Categorical
            MeanAndDeviation(), 6, 6, Head.SquashedGaussian
            MeanAndDeviation(), 6, 6, Head.Gaussian
        ] do
        let random = Random 3
        let weight = Array.init width (fun lane -> float32 (lane % 2))

        let y, target =
            Draw.floats random (outputs * width), Array.create (labels * width) 1f

        let evaluate garbage =
            let spoil (values: float32[]) =
                values |> Array.mapi (fun i v -> if i % 2 = 0 then garbage else v)

            let dy, sums = Array.create y.Length nanf, Array.zeroCreate<float> width
            let y = panelOf (spoil y)
            let target = panelOf (spoil target)
            let sum = loss.Evaluate(y, target, panelOf weight, 0.1f, panelOf dy, sums, head)
            sum, dy, sums

        let expected = evaluate 0f
        let _, dy, _ = expected
        Expect.isTrue (Elementwise.AllFinite dy && Array.exists ((<>) 0f) dy) $"{loss}"

        for garbage in [ nanf; infinityf; -infinityf ] do
            Expect.equal (evaluate garbage) expected $"{loss}: {garbage}"

[<Fact>]
let ``The gradient of action and deviation is that of finite differences, under every head that it fits`` () =
    let loss = MeanAndDeviation(0.7, 1.5)
    let random = Random 5
    let y, target = Draw.floats random (6 * width), Draw.floats random (6 * width)

    // Some teachers are narrower than the narrowness, most are not.
    for i in 3 * width .. target.Length - 1 do
        target[i] <- 3f * target[i] - 1f

    let weight = Array.init width (fun lane -> float32 (lane % 3))

    for head in [ Head.Gaussian; Head.StateDependentStd; Head.StateDependentLogStd; Head.SquashedGaussian ] do
        Expect.isTrue (loss.Fits head) $"{head}"

        let evaluate (y: float32[]) =
            let dy = Array.create y.Length nanf

            let sum =
                loss.Evaluate(panelOf y, panelOf target, panelOf weight, 1f, panelOf dy, head = head)

            sum, dy

        let _, dy = evaluate y

        for i in 0..7 .. y.Length - 1 do
            let at step =
                evaluate (Array.updateAt i (y[i] + step) y) |> fst

            Expect.close 2e-2 (float dy[i]) ((at 5e-3f - at -5e-3f) / 1e-2) $"{head}, {i}"

    Expect.isTrue (not (loss.Fits Head.Plain || loss.Fits Head.Categorical)) "what has no deviation"
