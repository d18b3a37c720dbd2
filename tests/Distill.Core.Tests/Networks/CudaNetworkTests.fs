module Distill.Tests.CudaNetworkTests

open System
open Distill
open Distill.Compute
open Distill.Compute.Cuda
open Distill.Networks
open Distill.Networks.Cuda
open Distill.Tests.CudaDriver

let private network (inputs: int) (layers: (int * Activation) list) =
    let layers: LayerSpec list =
        layers |> List.map (fun (size, activation) -> Dense(size, activation))

    let made = new Network(NetworkSpec(inputs, List.toArray layers))
    made.Initialize(RandomStream(3UL, "network"))
    made

/// The same network and optimizer on the processor and on the GPU, and what their steps give.
let private together
    (inputs: int)
    (layers: (int * Activation) list)
    (lanes: int, panels: int, chunks: int)
    (config: AdamConfig)
    (steps: int)
    =
    use ours = network inputs layers
    use shown = network inputs layers
    use adam = new Adam(ours, config, chunks)
    use shownAdam = new Adam(shown, config, chunks)
    use device = device ()
    use theirs = new CudaNetwork(device, shown)
    use theirAdam = new CudaAdam(device, theirs, shownAdam, int64 chunks |> int)
    use pool = new WorkerPool 1
    let own = pool.Workspace 0
    let size = ours.ActivationSize
    let outputs = ours.OutputSize

    let buffer (features: int) =
        new CudaBuffer<float32>(device, int64 (panels * features * lanes), "rows")

    use x = buffer inputs
    use activations = buffer size
    use gradients = buffer size
    let random = Random 5

    let draw count =
        Array.init count (fun _ -> float32 (random.NextDouble() * 2.0 - 1.0))

    let panelsOf (buffer: CudaBuffer<float32>) features = CudaPanels.Of(buffer, features, lanes)

    for step in 1..steps do
        let rows = draw (panels * inputs * lanes)
        let slopes = draw (panels * outputs * lanes)
        let kept = Array.zeroCreate<float32>(panels * size * lanes)

        for chunk in 0 .. chunks - 1 do
            adam.Gradient(chunk).Clear()

            for panel in chunk * panels / chunks .. (chunk + 1) * panels / chunks - 1 do
                let input = Panel.At(Span rows, panel, inputs, lanes)
                let mine = Panel.At(Span kept, panel, size, lanes)
                ours.Forward(input, Panel(), mine, own)
                let slope = Panel.At(Span slopes, panel, outputs, lanes)
                ours.Backward(input, mine, slope, Panel(), adam.Gradient chunk, own)

        adam.Step(pool, chunks)

        x.Write(ReadOnlySpan rows)
        theirs.Forward(panelsOf x inputs, panelsOf activations size, int64 (panels * lanes))
        let seen = Array.zeroCreate<float32> kept.Length
        activations.Read(Span seen)
        Paths.sameBits seen kept $"step {step}: activations"

        for panel in 0 .. panels - 1 do
            let start = int64 ((panel * size + size - outputs) * lanes)
            gradients.Write(ReadOnlySpan(slopes, panel * outputs * lanes, outputs * lanes), start)

        theirAdam.Clear()

        theirs.Backward(
            panelsOf x inputs,
            panelsOf activations size,
            panelsOf gradients size,
            theirAdam.Gradients,
            int64 (panels * lanes),
            chunks
        )

        theirAdam.Step chunks

    theirs.Download()
    let norm = theirAdam.Download()
    Expect.equal norm adam.GradientNorm "norm of the gradient"
    Expect.equal shownAdam.ClippedSteps adam.ClippedSteps "clipped steps"
    Expect.equal shownAdam.Steps adam.Steps "steps"

    for name, actual, expected in
        [
            "parameters", shown.Parameters.Span.ToArray(), ours.Parameters.Span.ToArray()
            "first moments", shownAdam.FirstMoments.ToArray(), adam.FirstMoments.ToArray()
            "second moments", shownAdam.SecondMoments.ToArray(), adam.SecondMoments.ToArray()
        ] do
        Paths.sameBits actual expected name

    adam.ClippedSteps

let private activations =
    [ Activation.Relu; Activation.Elu; Activation.Tanh; Activation.Selu; Activation.Identity ]

[<CudaFact>]
let ``networks of dense layers learn on a GPU with the bits of the processor`` () =
    for activation in activations do
        together 26 [ 70, activation; 33, activation; 4, Activation.Identity ] (32, 4, 2) (AdamConfig()) 3
        |> ignore

[<CudaFact>]
let ``half panels, uneven chunks, wide layers and clipped steps have the same bits, too`` () =
    let config = AdamConfig(MaxGradNorm = 0.5, WeightDecay = 1e-2, Decoupled = true)

    let clipped =
        together 300 [ 65, Activation.Elu; 1, Activation.Identity ] (16, 5, 3) config 4

    Expect.equal clipped 4L "clipped steps"

    let decayed =
        AdamConfig(MaxGradNorm = 100.0, WeightDecay = 1e-2, Epsilon = 1e-6, Floor = 1e-7)

    Expect.equal
        (together 3 [ 200, Activation.Tanh; 130, Activation.Elu; 2, Activation.Identity ] (32, 3, 2) decayed 3)
        0L
        "clipped steps"

[<CudaFact>]
let ``after a gradient that is not finite nothing changes, and the norm says so`` () =
    use device = device ()
    use shown = network 4 [ 8, Activation.Elu; 2, Activation.Identity ]
    use adam = new Adam(shown, AdamConfig(), 1)
    use theirs = new CudaNetwork(device, shown)
    use theirAdam = new CudaAdam(device, theirs, adam, 1)
    let before = shown.Parameters.Span.ToArray()

    for value in [ nanf; 1.0f ] do
        theirAdam.Gradients.Write(ReadOnlySpan [| value |], 3L)
        theirAdam.Step 1

    theirs.Download()
    Expect.isTrue (Double.IsNaN(theirAdam.Download())) "norm"
    Paths.sameBits (shown.Parameters.Span.ToArray()) before "parameters"

[<CudaFact>]
let ``a network with a memory is refused in a sentence`` () =
    use device = device ()
    let layers: LayerSpec[] = [| Gru 8; Dense(4, Activation.Identity) |]
    use recurrent = new Network(NetworkSpec(5, layers))

    Expect.equal
        (Expect.throws<DistillException>(fun () -> (new CudaNetwork(device, recurrent)).Dispose())).Message
        "device=cuda can only run dense layers, and this network has one of kind gru; use device=cpu."
        "sentence"
