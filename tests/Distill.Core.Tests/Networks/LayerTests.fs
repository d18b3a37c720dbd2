module Distill.Tests.NetworksLayerTests

open System
open Distill.Compute
open Distill.Networks
open Distill.Tests.NetworksReference
open FsCheck.FSharp
open Xunit

let private width = Panel.Width

let private specs size : LayerSpec list =
    [
        for activation in Enum.GetValues<Activation>() do
            Dense(size, activation) :> LayerSpec
        Gru size
        Lstm size
    ]

/// (inputs, outputs, seed)
let private shapes =
    Gen.zip3 (Gen.choose (1, 40)) (Gen.choose (1, 40)) (Gen.choose (0, Int32.MaxValue - 1))
    |> Arb.fromGen

[<Fact>]
let ``The reference's gradients are those of central differences`` () =
    for spec in specs 5 do
        let inputs = 3
        let random = Random 7

        let draw count =
            Array.init count (fun _ -> 2.0 * random.NextDouble() - 1.0)

        let p, x, h = draw (parameterCount inputs spec), draw inputs, draw (memorySize spec)
        let cotangent, fromNext = draw spec.Size, draw (memorySize spec)

        let loss (p: float[]) (x: float[]) (h: float[]) =
            let y, next, _ = layerForward spec p 0 x h
            (Seq.map2 (*) y cotangent |> Seq.sum) + (Seq.map2 (*) next fromNext |> Seq.sum)

        let gradient = Array.zeroCreate p.Length
        let _, _, kept = layerForward spec p 0 x h
        let dx, dh = layerBackward spec p gradient 0 kept cotangent fromNext

        let difference (values: float[]) (loss: float[] -> float) =
            values
            |> Array.mapi (fun i v ->
                let at step =
                    loss (Array.updateAt i (v + step) values)

                (at 1e-5 - at -1e-5) / 2e-5)

        Expect.closeAll 1e-8 gradient (difference p (fun p -> loss p x h)) $"{spec} parameters"
        Expect.closeAll 1e-8 dx (difference x (fun x -> loss p x h)) $"{spec} input"
        Expect.closeAll 1e-8 dh (difference h (fun h -> loss p x h)) $"{spec} memory"

[<Fact>]
let ``Every layer agrees with the reference forward and backward, on every path`` () =
    Property.checkMany
        40
        (Prop.forAll shapes (fun (inputs, size, seed) ->
            for spec in specs size do
                let random = Random seed
                let layer = spec.Create inputs
                let count = parameterCount inputs spec
                Expect.equal layer.ParameterCount count "parameters"
                let p = Draw.floats random count
                let x = Draw.floats random (inputs * width)
                let memory = Draw.floats random (layer.MemorySize * width)
                let dy = Draw.floats random (size * width)
                let dMemory = Draw.floats random (layer.MemorySize * width)
                let before = Draw.floats random count
                let values = layer.ActivationSize * width

                let results =
                    Paths.same $"{spec}" (fun () ->
                        use own = new Workspace()
                        let activations, dx = Guarded values, Guarded(inputs * width)
                        let d, dh, gradient = Guarded dy, Guarded dMemory, Guarded before
                        let x = panelOf x
                        let h = panelOf memory
                        layer.Forward(p, x, h, Panel(activations.Span, layer.ActivationSize), own)
                        let kept = activations.Values

                        layer.Backward(
                            p,
                            x,
                            panelOf kept,
                            Panel(d.Span, size),
                            Panel(dx.Span, inputs),
                            Panel(dh.Span, layer.MemorySize),
                            gradient.Span,
                            own
                        )

                        d.Values |> ignore
                        // The memory after the step; its last rows are the output.
                        let last = max size layer.MemorySize * width
                        let y = Array.sub kept (values - last) last
                        Array.concat [ y; dx.Values; dh.Values; gradient.Values ])

                let p = Array.map float p
                let gradient = Array.map float before

                let lanes =
                    Array.init width (fun l ->
                        let y, next, kept = layerForward spec p 0 (lane x l) (lane memory l)
                        let dx, dh = layerBackward spec p gradient 0 kept (lane dy l) (lane dMemory l)
                        (if next.Length > 0 then next else y), dx, dh)

                // The parts of the result, in their order.
                let part (lanes: float[][]) features = panel lanes features |> Seq.map float
                let y = part (lanes |> Array.map (fun (y, _, _) -> y)) (max size layer.MemorySize)
                let dx = part (lanes |> Array.map (fun (_, dx, _) -> dx)) inputs
                let dh = part (lanes |> Array.map (fun (_, _, dh) -> dh)) layer.MemorySize
                let mutable start = 0

                for what, expected in
                    [ "output", y; "input gradient", dx; "memory gradient", dh; "gradient", gradient ] do
                    let expected = Seq.toArray expected
                    closeNorm 5e-6 (Array.sub results start expected.Length) expected $"{spec}, {what}"
                    start <- start + expected.Length))

[<Fact>]
let ``A layer whose input gradient nobody needs gives the same parameter gradient`` () =
    for spec in specs 9 do
        let layer = spec.Create 7
        let random = Random 3
        let p, x = Draw.floats random layer.ParameterCount, Draw.floats random (7 * width)

        let memory, dy =
            Draw.floats random (layer.MemorySize * width), Draw.floats random (9 * width)

        let gradient (dx: float32[]) =
            use own = new Workspace()
            let activations = Array.zeroCreate<float32>(layer.ActivationSize * width)
            let result = Array.zeroCreate<float32> layer.ParameterCount
            let dMemory = Array.zeroCreate<float32>(layer.MemorySize * width)
            let x = panelOf x
            let kept = panelOf activations
            let back = panelOf dMemory
            layer.Forward(p, x, panelOf memory, kept, own)
            layer.Backward(p, x, kept, panelOf (Array.copy dy), panelOf dx, back, result, own)
            result

        Paths.sameBits (gradient [||]) (gradient (Array.zeroCreate (7 * width))) $"{spec}"

[<Fact>]
let ``A network whose parameter gradient nobody needs gives the same gradients of input and memory`` () =
    for head in [ Head.Plain; Head.Gaussian; Head.SquashedGaussian ] do
        for memory in [ Gru 6 :> LayerSpec; Lstm 6 ] do
            use network = new Network(NetworkSpec.RecurrentStack(7, 5, memory, 8, 3, head))
            network.Initialize(RandomStream(3UL, "test"))
            let random = Random 3

            let x, dy =
                Draw.floats random (7 * width), Draw.floats random (network.OutputSize * width)

            let before = Draw.floats random (network.MemorySize * width)
            use own = new Workspace()
            let activations = Array.zeroCreate<float32>(network.ActivationSize * width)
            network.Forward(panelOf x, panelOf before, panelOf activations, own)

            let run (gradient: float32[]) =
                let dx, dMemory =
                    Array.create (7 * width) nanf, Draw.floats (Random 4) before.Length

                network.Backward(
                    panelOf x,
                    panelOf activations,
                    panelOf dy,
                    panelOf dMemory,
                    Span gradient,
                    own,
                    panelOf dx
                )

                dx, dMemory

            let dx, dMemory = run (Array.zeroCreate network.Parameters.Length)
            let dxAlone, dMemoryAlone = run [||]
            Paths.sameBits dxAlone dx $"{memory}, {head}: input"
            Paths.sameBits dMemoryAlone dMemory $"{memory}, {head}: memory"

            if head = Head.Plain then
                let p =
                    network.Parameters.Span.Slice(0, network.ParameterCount).ToArray() |> Array.map float

                let expected =
                    Array.init width (fun l ->
                        let _, _, kept = forward network.Spec p (lane x l) (lane before l)

                        backward
                            network.Spec
                            p
                            (Array.zeroCreate p.Length)
                            kept
                            (lane dy l)
                            (lane (Draw.floats (Random 4) before.Length) l)
                        |> fst)

                closeNorm 5e-6 dx (panel expected 7 |> Seq.map float) $"{memory}: input"

[<Theory>]
[<InlineData(32)>]
[<InlineData(16)>]
let ``A Gaussian head's layer gives means and log_std, with the gradients of central differences`` lanes =
    let actions = 3
    let layer = GaussianOutput(actions).Create actions
    use own = new Workspace()
    let random = Random 5
    let mean, logStd = Draw.floats random (actions * lanes), Draw.floats random actions
    let dy = Draw.floats random (2 * actions * lanes)

    let forward (mean: float32[]) (logStd: float32[]) =
        let y = Array.zeroCreate<float32>(2 * actions * lanes)
        layer.Forward(logStd, Panel(mean, actions, lanes), Panel(), Panel(y, 2 * actions, lanes), own)
        y

    let y = forward mean logStd
    Paths.sameBits (Array.truncate mean.Length y) mean "means"

    for action in 0 .. actions - 1 do
        for lane in 0 .. lanes - 1 do
            Expect.equal y[(actions + action) * lanes + lane] logStd[action] $"log_std {action}, lane {lane}"

    // The gradient is added to what is there.
    let dMean, gradient = Array.create mean.Length nanf, Array.create actions 1f

    layer.Backward(
        logStd,
        Panel(mean, actions, lanes),
        Panel(y, 2 * actions, lanes),
        Panel(Span(Array.copy dy), 2 * actions, lanes),
        Panel(dMean, actions, lanes),
        Panel(),
        gradient,
        own
    )

    let loss mean logStd =
        Seq.map2 (fun y d -> float y * float d) (forward mean logStd) dy |> Seq.sum

    let slope (loss: float32[] -> float) (values: float32[]) =
        values
        |> Array.mapi (fun i v ->
            let at step =
                loss (Array.updateAt i (v + step) values)

            (at 0.5f - at -0.5f) / 1.0)

    Expect.closeAll 1e-5 (Array.map float dMean) (slope (fun m -> loss m logStd) mean) "means"

    Expect.closeAll 1e-5 (gradient |> Array.map (fun d -> float d - 1.0)) (slope (loss mean) logStd) "log_std"

[<Theory>]
[<InlineData(false, 32)>]
[<InlineData(true, 16)>]
let ``A deviation of the state is clamped, and passes no gradient where it is`` (isLog, lanes) =
    let lowest, highest = if isLog then -2f, 1f else 0.1f, 3f
    let none: float32[] = [||]
    let layer = StateDependentOutput(2, isLog, lowest, highest).Create 4
    use own = new Workspace()
    let random = Random 6
    let dy = Draw.floats random (4 * lanes)
    // Away from the bounds, where there is no derivative.
    let inside = [| lowest + 0.1f; 0.5f; highest - 0.1f |]
    let outside = [| lowest - 0.5f; highest + 0.5f |]

    let x =
        Array.init (4 * lanes) (fun i ->
            match i % 5 with
            | _ when i < 2 * lanes -> random.NextSingle()
            | k when k < 3 -> inside[k]
            | k -> outside[k - 3])

    let forward (x: float32[]) =
        let y: float32[] = Array.zeroCreate x.Length
        layer.Forward(none, Panel(x, 4, lanes), Panel(), Panel(y, 4, lanes), own)
        y

    let y = forward x
    Paths.sameBits (Array.truncate (2 * lanes) y) (Array.truncate (2 * lanes) x) "means"

    for i in 2 * lanes .. x.Length - 1 do
        let expected = Math.Clamp(float x[i], float lowest, float highest)
        Expect.close 1e-6 (float y[i]) (if isLog then expected else log expected) $"log_std {i}"

    let dx = Array.create x.Length nanf

    layer.Backward(
        none,
        Panel(x, 4, lanes),
        Panel(y, 4, lanes),
        Panel(dy, 4, lanes),
        Panel(dx, 4, lanes),
        Panel(),
        none,
        own
    )

    for i in 0 .. x.Length - 1 do
        let at (step: float32) =
            let y = forward (Array.updateAt i (x[i] + step) x)
            float y[i] * float dy[i]

        Expect.close 2e-3 (float dx[i]) ((at 0.002f - at -0.002f) / 0.004) $"input {i}"

[<Fact>]
let ``A head that widens the last layer takes its means from any other, and gives them back`` () =
    let spec = NetworkSpec.Mlp(5, [ 4 ], 3, Activation.Elu)
    use plain = new Network(spec)
    plain.Initialize(RandomStream(1UL, "plain"))
    use wide = new Network(spec.WithHead Head.StateDependentLogStd)
    wide.Initialize(RandomStream(2UL, "wide"))
    let before = wide["1.bias"].ToArray()

    Expect.equal
        (Array.skip 12 (wide["1.weight"].ToArray()), before[3..])
        (Array.zeroCreate 12, Array.zeroCreate 3)
        "deviations of 1"

    use scalar = new Network(spec.WithHead Head.StateDependentStd)
    scalar.Initialize(RandomStream(2UL, "wide"))

    Expect.equal
        (scalar["1.bias"].Slice(3, 3).ToArray())
        [| 1f; 1f; 1f |]
        "deviations of 1, without logarithm"

    Expect.equal (wide.Spec.Outputs, wide.OutputSize) (3, 6) "numbers of the action, and of all"

    Expect.equal
        (List.ofSeq (Seq.find (fun (v: ParameterView) -> v.Name = "1.weight") wide.Views).Shape)
        [ 6; 4 ]
        "shape"

    plain.CopyTo wide

    Paths.sameBits
        (wide["1.weight"].Slice(0, 12).ToArray())
        (plain["1.weight"].ToArray())
        "weights of the means"

    Paths.sameBits (wide["1.bias"].ToArray()) (Array.append (plain["1.bias"].ToArray()) before[3..]) "biases"
    use again = new Network(spec)
    wide.CopyTo again

    let parameters (network: Network) =
        network.Parameters.Span.Slice(0, network.ParameterCount).ToArray()

    Paths.sameBits (parameters again) (parameters plain) "back"
    // A deviation is not its logarithm.
    wide["1.bias"].Fill 0.25f
    wide.CopyTo scalar
    Expect.equal (scalar["1.bias"].ToArray()) [| 0.25f; 0.25f; 0.25f; 1f; 1f; 1f |] "means alone"
    let squashed = spec.WithHead Head.SquashedGaussian

    Expect.equal
        (squashed.WithHead(Head.Plain).Layers[1])
        (Dense(3, Activation.Tanh) :> LayerSpec)
        "the best action stays"

[<Fact>]
let ``Views name every parameter once, in order`` () =
    let spec = NetworkSpec.GruStack(22, 16, 12, 8, 4, Head.Gaussian)
    use network = new Network(spec)

    let names =
        network.Views |> Seq.map (fun v -> v.Name, List.ofSeq v.Shape) |> Seq.toList

    Assert.Equal<(string * int list) list>(
        [
            "0.weight", [ 16; 22 ]
            "0.bias", [ 16 ]
            "1.weight_ih", [ 36; 16 ]
            "1.weight_hh", [ 36; 12 ]
            "1.bias_ih", [ 36 ]
            "1.bias_hh", [ 36 ]
            "2.weight", [ 8; 12 ]
            "2.bias", [ 8 ]
            "3.weight", [ 4; 8 ]
            "3.bias", [ 4 ]
            "log_std", [ 4 ]
        ],
        names
    )

    let mutable offset = 0

    for view in network.Views do
        Expect.equal view.Offset offset view.Name
        offset <- offset + view.Length

    Expect.equal offset network.ParameterCount "parameters"
    Expect.equal network.Parameters.Length (Matrix.Padded offset) "padded length"
    Expect.equal network.MemorySize 12 "memory"

[<Fact>]
let ``Initialize draws from PyTorch's ranges and starts the Gaussian head at 1`` () =
    use network = new Network(NetworkSpec.GruStack(25, 64, 36, 0, 4, Head.Gaussian))
    network.Parameters.Span.Fill 9f
    network.Initialize(RandomStream(1UL, "weights"), 0.01f)
    let values = network.Parameters.Span.ToArray()

    let ranges =
        Map
            [
                "0.weight", 0.2
                "0.bias", 0.2
                "1.weight_ih", 1.0 / 6.0
                "1.weight_hh", 1.0 / 6.0
                "1.bias_ih", 1.0 / 6.0
                "1.bias_hh", 1.0 / 6.0
                "2.weight", 0.01 / 6.0
                "2.bias", 0.01 / 6.0
                "log_std", 0.0
            ]

    for view in network.Views do
        let range = ranges[view.Name]
        let part = Array.sub values view.Offset view.Length |> Array.map float

        Expect.isTrue
            (part |> Array.forall (fun v -> abs v <= range * 1.000001))
            $"{view.Name} within {range}"

        if view.Length > 500 then
            Expect.isTrue
                (Array.max part > 0.98 * range && Array.min part < -0.98 * range)
                $"{view.Name} fills {range}"

            Expect.close
                (5.0 * range / sqrt (3.0 * float part.Length))
                (Array.average part)
                0.0
                $"{view.Name} mean"

    let padding = network.ParameterCount
    Expect.isTrue (values[padding..] |> Array.forall ((=) 9f)) "the padding is not touched"
    use again = new Network(network.Spec)
    again.Parameters.Span.Fill 9f
    again.Initialize(RandomStream(1UL, "weights"), 0.01f)
    Paths.sameBits (again.Parameters.Span.ToArray()) values "the same stream"

[<Fact>]
let ``A network needs layers, inputs and outputs`` () =
    let refused spec =
        Expect.throws<Distill.DistillException>(fun () -> (new Network(spec)).Dispose()) |> ignore

    refused (NetworkSpec(3, []))
    refused (NetworkSpec(0, [ Dense(4, Activation.Tanh) ]))
    refused (NetworkSpec(3, [ Dense(0, Activation.Tanh); Dense(1, Activation.Tanh) ]))

[<Fact>]
let ``Half panels have the bits of the lanes of a whole one; their gradients add up`` () =
    for memory in [ Gru 10 :> LayerSpec; Lstm 10 ] do
        let spec = NetworkSpec.RecurrentStack(22, 16, memory, 7, 4)
        use network = new Network(spec)
        network.Initialize(RandomStream(4UL, "init"))
        let random = Random 4

        let panel features =
            Array.init (features * width) (fun _ -> random.NextSingle() * 2f - 1f)

        let x, memory, dOutput = panel 22, panel network.MemorySize, panel 4
        let dMemory = panel network.MemorySize

        let lanes first count (whole: float32[]) =
            whole |> Array.chunkBySize width |> Array.collect (Array.skip first >> Array.take count)

        let pass first count =
            use own = new Workspace()
            let activations = Array.zeroCreate<float32>(network.ActivationSize * count)
            let gradient = Array.zeroCreate<float32> network.Parameters.Length
            let next = Array.zeroCreate<float32>(network.MemorySize * count)
            let back = lanes first count dMemory
            let x, h = lanes first count x, lanes first count memory
            let x = Panel(x, 22, count)
            let kept = Panel(activations, network.ActivationSize, count)

            let dOutput = lanes first count dOutput
            let dMemory = Panel(back, network.MemorySize, count)
            network.Forward(x, Panel(h, network.MemorySize, count), kept, own)
            network.CopyMemory(kept, Panel(next, network.MemorySize, count))
            network.Backward(x, kept, Panel(dOutput, 4, count), dMemory, gradient, own)
            let output = network.Output(kept).Values.ToArray()
            output, next, back, gradient

        for path in Paths.all do
            Paths.on path (fun () ->
                let output, next, back, gradient = pass 0 width
                let parts = [ pass 0 Panel.HalfWidth; pass Panel.HalfWidth Panel.HalfWidth ]

                for i, (halfOutput, halfNext, halfBack, _) in List.indexed parts do
                    let half = lanes (i * Panel.HalfWidth) Panel.HalfWidth
                    Paths.sameBits halfOutput (half output) $"{path}: output"
                    Paths.sameBits halfNext (half next) $"{path}: memory"
                    Paths.sameBits halfBack (half back) $"{path}: gradient of the memory"

                let sum =
                    parts
                    |> List.map (fun (_, _, _, gradient) -> Array.map float gradient)
                    |> List.reduce (Array.map2 (+))

                Expect.closeAll 2e-6 (Array.map float gradient) sum $"{path}: gradient")
