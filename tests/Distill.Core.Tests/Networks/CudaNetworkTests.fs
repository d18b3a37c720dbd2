module Distill.Tests.CudaNetworkTests

open System
open Distill
open Distill.Compute
open Distill.Compute.Cuda
open Distill.Networks
open Distill.Networks.Cuda
open Distill.Tests.CudaDriver

let private dense (size: int) (activation: Activation) : LayerSpec = Dense(size, activation)
let private gru (size: int) : LayerSpec = Gru size

let private network (inputs: int) (layers: LayerSpec list) =
    let made = new Network(NetworkSpec(inputs, List.toArray layers))
    made.Initialize(RandomStream(3UL, "network"))
    made

/// The same network and optimizer on the processor and on the GPU, and that their steps give the same bits.
let private together
    (inputs: int)
    (layers: LayerSpec list)
    (lanes: int, panels: int, steps: int, chunks: int)
    (config: AdamConfig)
    =
    use ours = network inputs layers
    use shown = network inputs layers
    use adam = new Adam(ours, config, chunks)
    use shownAdam = new Adam(shown, config, chunks)
    use device = device ()
    use theirs = new CudaNetwork(device, shown)
    use theirAdam = new CudaAdam(device, theirs, shownAdam, chunks)
    theirAdam.Reserve 2
    use pool = new WorkerPool 1
    let own = pool.Workspace 0

    let size, outputs, remembered =
        ours.ActivationSize, ours.OutputSize, ours.MemorySize

    let shape = CudaShape(panels, steps, lanes)

    let buffer (features: int) =
        new CudaBuffer<float32>(device, int64 (panels * steps * max 1 features * lanes), "rows")

    use x = buffer inputs
    use activations = buffer size
    use gradients = buffer theirs.GradientSize
    use keeps = buffer 1
    use memory = buffer remembered
    let panelsOf (buffer: CudaBuffer<float32>) features = CudaPanels.Of(buffer, features, lanes)
    let told = CudaMemory(panelsOf keeps 1, panelsOf memory remembered)
    let random = Random 5

    let draw count =
        Array.init count (fun _ -> float32 (random.NextDouble() * 2.0 - 1.0))

    for update in 1..3 do
        let rows = draw (panels * steps * inputs * lanes)
        let slopes = draw (panels * steps * outputs * lanes)
        let starts = draw (panels * remembered * lanes)

        let keep =
            Array.init (panels * steps * lanes) (fun _ -> if random.Next 4 = 0 then 0f else 1f)

        memory.Write(ReadOnlySpan starts)
        let kept = Array.zeroCreate<float32>(panels * steps * size * lanes)

        for chunk in 0 .. chunks - 1 do
            adam.Gradient(chunk).Clear()

            for panel in chunk * panels / chunks .. (chunk + 1) * panels / chunks - 1 do
                let input = Panel.At(Span rows, panel, steps * inputs, lanes)
                let keeping = Panel.At(Span keep, panel, steps, lanes)
                let mine = Panel.At(Span kept, panel, steps * size, lanes)
                let start = Panel.At(Span starts, panel, remembered, lanes)
                ours.Forward(steps, input, keeping, start, mine, own)
                let slope = Panel.At(Span slopes, panel, steps * outputs, lanes)
                ours.Backward(steps, input, keeping, mine, slope, adam.Gradient chunk, own)

        adam.Step(pool, chunks)
        x.Write(ReadOnlySpan rows)
        keeps.Write(ReadOnlySpan keep)
        theirs.Forward(shape, panelsOf x inputs, told, panelsOf activations size)
        let seen = Array.zeroCreate<float32> kept.Length
        activations.Read(Span seen)
        Paths.sameBits seen kept $"update {update}: activations"
        let after = Array.zeroCreate<float32> starts.Length
        memory.Read(Span after)
        Paths.sameBits after starts $"update {update}: memory"

        for place in 0 .. panels * steps - 1 do
            let start = int64 (((place + 1) * theirs.GradientSize - outputs) * lanes)
            gradients.Write(ReadOnlySpan(slopes, place * outputs * lanes, outputs * lanes), start)

        theirAdam.Clear()

        theirs.Backward(
            shape,
            panelsOf x inputs,
            told,
            panelsOf activations size,
            panelsOf gradients theirs.GradientSize,
            theirAdam.Gradients,
            chunks
        )

        // The last step of some, and the first of others.
        if update <> 2 then
            theirAdam.Prepare(if update = 1 then 2 else 1)

        theirAdam.Step chunks

    theirs.Download()
    Expect.equal (theirAdam.Download()) adam.GradientNorm "norm of the gradient"
    Expect.equal (shownAdam.ClippedSteps, shownAdam.Steps) (adam.ClippedSteps, adam.Steps) "steps"

    for name, actual, expected in
        [
            "parameters", shown.Parameters.Span.ToArray(), ours.Parameters.Span.ToArray()
            "first moments", shownAdam.FirstMoments.ToArray(), adam.FirstMoments.ToArray()
            "second moments", shownAdam.SecondMoments.ToArray(), adam.SecondMoments.ToArray()
        ] do
        Paths.sameBits actual expected name

    adam.ClippedSteps

let private action = dense 4 Activation.Identity

let private activations =
    [ Activation.Relu; Activation.Elu; Activation.Tanh; Activation.Selu; Activation.Identity ]

[<CudaFact>]
let ``networks of dense layers learn on a GPU with the bits of the processor`` () =
    for activation in activations do
        together 26 [ dense 70 activation; dense 33 activation; action ] (32, 4, 1, 2) (AdamConfig())
        |> ignore

[<CudaFact>]
let ``half panels, uneven chunks, wide layers and clipped steps have the same bits, too`` () =
    let clips = AdamConfig(MaxGradNorm = 0.5, WeightDecay = 1e-2, Decoupled = true)
    let clipped = together 300 [ dense 65 Activation.Elu; action ] (16, 5, 1, 3) clips
    Expect.equal clipped 3L "clipped steps"

    let decays =
        AdamConfig(MaxGradNorm = 1e4, WeightDecay = 1e-2, Epsilon = 1e-6, Floor = 1e-7)

    let layers = [ dense 200 Activation.Tanh; dense 130 Activation.Elu; action ]
    Expect.equal (together 3 layers (32, 3, 1, 2) decays) 0L "clipped steps"

[<CudaFact>]
let ``recurrent networks learn through time with the bits of the processor`` () =
    let layers = [ dense 16 Activation.Relu; gru 16; action ]
    together 22 layers (16, 3, 7, 3) (AdamConfig()) |> ignore
    // Panels that share a chunk, a memory upon another, and one whose inputs need no gradient.
    together 5 [ gru 9; gru 33; action ] (32, 5, 4, 2) (AdamConfig()) |> ignore
    // One that is wider than a block.
    together 3 [ gru 70; action ] (16, 2, 3, 2) (AdamConfig()) |> ignore

[<CudaFact>]
let ``after a gradient that is not finite nothing changes, and the norm says so`` () =
    use device = device ()
    use shown = network 4 [ dense 8 Activation.Elu; action ]
    use adam = new Adam(shown, AdamConfig(), 1)
    use theirs = new CudaNetwork(device, shown)
    use theirAdam = new CudaAdam(device, theirs, adam, 1)
    let before = shown.Parameters.Span.ToArray()
    theirAdam.Reserve 2
    theirAdam.Prepare 2

    for value in [ nanf; 1.0f ] do
        theirAdam.Gradients.Write(ReadOnlySpan [| value |], 3L)
        theirAdam.Step 1

    theirs.Download()
    Expect.isTrue (Double.IsNaN(theirAdam.Download())) "norm"
    Paths.sameBits (shown.Parameters.Span.ToArray()) before "parameters"

[<CudaFact>]
let ``a network that does not run on a GPU is refused in a sentence`` () =
    use device = device ()
    use other = network 5 [ Lstm 6; action ]

    Expect.equal
        (Expect.throws<DistillException>(fun () -> (new CudaNetwork(device, other)).Dispose())).Message
        "device=cuda can run dense layers and gru, and this network has lstm; use device=cpu."
        "sentence"
