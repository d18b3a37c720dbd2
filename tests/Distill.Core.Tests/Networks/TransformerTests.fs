/// The trajectory transformer against PyTorch's numbers and finite differences, on all instruction paths.
module Distill.Tests.NetworksTransformerTests

open System
open System.IO
open System.IO.Compression
open System.Text.Json
open Distill.Compute
open Distill.Networks
open Distill.Tests.NetworksReference
open Xunit

let private lanes = Sequences.Lanes

let private cases =
    lazy
        (use file =
            File.OpenRead(Path.Combine(AppContext.BaseDirectory, "fixtures", "torch", "transformer.json.gz"))

         use text = new GZipStream(file, CompressionMode.Decompress)
         JsonDocument.Parse(text).RootElement.GetProperty "cases")

let internal numbers (case: string) (group: string) (name: string) =
    let values =
        cases.Value.GetProperty(case).GetProperty(group).GetProperty(name).GetProperty "float64"

    if values.ValueKind = JsonValueKind.Array then
        [| for value in values.EnumerateArray() -> value.GetDouble() |]
    else
        [| values.GetDouble() |]

let private floats count : float32[] = Array.zeroCreate count

/// Values [batch, tokens, features] as [features, tokens, 16]; lanes without one hold what must not matter.
let private sideBySide batch tokens features (values: float[]) =
    Array.init (features * tokens * lanes) (fun i ->
        let feature, token, lane = i / (tokens * lanes), i / lanes % tokens, i % lanes

        if lane < batch then
            float32 values[(lane * tokens + token) * features + feature]
        else
            0.25f * float32 ((i + feature) % 5 - 2))

let private apart batch tokens features (values: float32[]) =
    [|
        for lane in 0 .. batch - 1 do
            for token in 0 .. tokens - 1 do
                for feature in 0 .. features - 1 -> values[(feature * tokens + token) * lanes + lane]
    |]

/// One pass forward and backward over sixteen windows of up to n steps.
type private Passing(network: TrajectoryTransformer, steps: int, window: float32[], lengths: int[]) =
    let states, actions, encoding =
        network.States, network.Actions, network.Config.Encoding

    let tokens = TrajectoryWindow.Tokens steps

    let valid =
        let valid = floats (tokens * lanes)
        TrajectoryWindow.Mark(valid, lengths, steps)
        valid

    let activations = floats network.ActivationFloats
    let ofStates = floats (states * steps * lanes)
    let ofActions = floats (actions * (steps - 1) * lanes)
    let ofRewards = floats ((steps - 1) * lanes)
    let ofEncoding = floats (encoding * lanes)

    member _.States = ofStates
    member _.Actions = ofActions
    member _.Rewards = ofRewards
    member _.Encoding = ofEncoding

    member _.Window =
        TrajectoryWindow(window, valid, steps, states, actions, Array.forall ((=) steps) lengths)

    static member Outputs
        (network: TrajectoryTransformer, steps, s: float32[], a: float32[], r: float32[], e: float32[])
        =
        TrajectoryOutputs(
            Sequences(s, network.States, steps),
            Sequences(a, network.Actions, steps - 1),
            Sequences(r, 1, steps - 1),
            Sequences(e, network.Config.Encoding, 1)
        )

    member this.Forward(keys: uint32[], rate, own) =
        network.Forward(
            this.Window,
            DropoutKeys(ReadOnlySpan keys, rate),
            activations,
            Passing.Outputs(network, steps, ofStates, ofActions, ofRewards, ofEncoding),
            own
        )

    member this.Backward(keys: uint32[], rate, s, a, r, e, own) =
        let gradient = floats network.Parameters.Length

        network.Backward(
            this.Window,
            DropoutKeys(ReadOnlySpan keys, rate),
            activations,
            Passing.Outputs(network, steps, s, a, r, e),
            gradient,
            own
        )

        gradient

[<Fact>]
let ``A trajectory transformer has PyTorch's outputs and gradients, with windows of different lengths`` () =
    let given = numbers "transformer"

    let config =
        TransformerConfig(
            Window = 4,
            Model = 16,
            Heads = 2,
            Layers = 2,
            FeedForward = 12,
            Encoding = 3,
            Dropout = 0.0
        )

    use network = new TrajectoryTransformer(config, 3, 2)

    for view in network.Views do
        let values = given "inputs" view.Name |> Array.map float32
        Expect.equal values.Length view.Length view.Name
        values.CopyTo network[view]

    let batch = 3

    let kind name tokens features =
        sideBySide batch tokens features (given "inputs" name)

    let window = Array.concat [ kind "state" 4 3; kind "action" 3 2; kind "reward" 3 1 ]

    let ofBatch = given "inputs" "lengths" |> Array.map int

    let lengths =
        Array.init lanes (fun lane -> if lane < batch then ofBatch[lane] else 4)

    use own = new Workspace()

    for path in Paths.all do
        Paths.on path (fun () ->
            let pass = Passing(network, 4, window, lengths)
            pass.Forward([||], 0.0, own)

            let close (values: float32[]) name =
                closeNorm 3e-6 values (given "outputs" name) name

            let there tokens features (values: float32[]) missing =
                apart batch tokens features values
                |> Array.mapi (fun i v ->
                    let lane, token = i / (tokens * features), i / features % tokens
                    if token < lengths[lane] - missing then v else 0f)

            close (there 4 3 pass.States 0) "state"
            close (there 3 2 pass.Actions 1) "action"
            close (there 3 1 pass.Rewards 1) "reward"
            close (apart batch 1 3 pass.Encoding) "encoding"

            let slope name tokens features =
                sideBySide batch tokens features (given "inputs" $"d_{name}")
                |> Array.mapi (fun i v -> if i % lanes < batch then v else 0f)

            let gradient =
                pass.Backward(
                    [||],
                    0.0,
                    slope "state" 4 3,
                    slope "action" 3 2,
                    slope "reward" 3 1,
                    slope "encoding" 1 3,
                    own
                )

            for view in network.Views do
                closeNorm
                    5e-6
                    (Array.sub gradient view.Offset view.Length)
                    (given "gradients" view.Name)
                    $"{path}: {view.Name}")

let private small =
    TransformerConfig(Window = 3, Model = 8, Heads = 2, Layers = 2, FeedForward = 6, Encoding = 2)

/// A network whose parameters are all random, and a pass on random windows.
let private random (config: TransformerConfig) steps (lengths: int[]) =
    let network = new TrajectoryTransformer(config, 3, 2)
    let random = Random 11
    network.Initialize(RandomStream(3UL, "network"))

    for i in 0 .. network.ParameterCount - 1 do
        network.Parameters.Span[i] <- network.Parameters.Span[i] + 0.2f * (random.NextSingle() - 0.5f)

    network, Passing(network, steps, Draw.floats random (TrajectoryWindow.Size(steps, 3, 2)), lengths)

let private keys = Array.init lanes (fun lane -> 2654435761u * uint32 (lane + 1))

let private mixed = Array.init lanes (fun lane -> 1 + lane % 3)

[<Fact>]
let ``Gradients with dropout are those of finite differences`` () =
    let network, pass = random small 3 mixed
    use _ = network
    use own = new Workspace()
    let random = Random 5
    let s, a = Draw.floats random (3 * 3 * lanes), Draw.floats random (2 * 2 * lanes)
    let r, e = Draw.floats random (2 * lanes), Draw.floats random (2 * lanes)

    // What is not there has no gradient.
    for i in 0 .. s.Length - 1 do
        if i / lanes % 3 >= mixed[i % lanes] then
            s[i] <- 0f

    for values in [ a; r ] do
        for i in 0 .. values.Length - 1 do
            if i / lanes % 2 >= mixed[i % lanes] - 1 then
                values[i] <- 0f

    let loss () =
        pass.Forward(keys, 0.3, own)

        Seq.sum
            [
                for values, slopes in [ pass.States, s; pass.Actions, a; pass.Rewards, r; pass.Encoding, e ] do
                    Seq.map2 (fun y d -> float y * float d) values slopes |> Seq.sum
            ]

    loss () |> ignore
    let gradient = pass.Backward(keys, 0.3, s, a, r, e, own)
    let size = gradient |> Array.map (abs >> float) |> Array.max

    for i in 0..3 .. network.ParameterCount - 1 do
        let before = network.Parameters.Span[i]

        let at step =
            network.Parameters.Span[i] <- before + step
            let value = loss ()
            network.Parameters.Span[i] <- before
            value

        let slope = (at 1e-3f - at -1e-3f) / 2e-3
        Expect.close (4e-3 * size) (float gradient[i]) slope $"parameter {i}"

[<Fact>]
let ``All instruction paths give the same bits, with dropout and without`` () =
    let lengths = Array.init lanes (fun lane -> if lane < 8 then 20 else lane)

    for lengths in [ Array.create lanes 20; lengths ] do
        let network, pass = random (TransformerConfig()) 20 lengths
        use _ = network
        use own = new Workspace()
        let random = Random 5
        let slopes count = Draw.floats random (count * lanes)
        let s, a, r, e = slopes 60, slopes 38, slopes 19, slopes 6

        for keys in [ keys; [||] ] do
            Paths.same "outputs and gradient" (fun () ->
                pass.Forward(keys, 0.1, own)
                let gradient = pass.Backward(keys, 0.1, s, a, r, e, own)
                Array.concat [ pass.States; pass.Actions; pass.Rewards; pass.Encoding; gradient ])
            |> ignore

[<Fact>]
let ``An encoding alone has the bits of the one beside reconstructions, though its last layer has one query``
    ()
    =
    let lengths = Array.init lanes (fun lane -> 1 + lane % 7)

    for lengths in [ Array.create lanes 7; lengths ] do
        let network, pass = random (TransformerConfig(Window = 7)) 7 lengths
        use _ = network
        use own = new Workspace()

        Paths.same "encoding" (fun () ->
            let encoding = floats (6 * lanes)
            network.Encode(pass.Window, Sequences(encoding, 6, 1), own)
            pass.Forward([||], 0.0, own)
            Paths.sameBits encoding pass.Encoding "alone"
            encoding)
        |> ignore

[<Fact>]
let ``A short window has the same bits alone and beside longer ones`` () =
    let network, _ = random small 3 mixed
    use _ = network
    use own = new Workspace()
    let random = Random 9

    let encode steps (window: float32[]) (lengths: int[]) =
        let valid = floats (TrajectoryWindow.Tokens steps * lanes)
        TrajectoryWindow.Mark(valid, lengths, steps)
        let encoding = floats (2 * lanes)

        network.Encode(
            TrajectoryWindow(window, valid, steps, 3, 2, Array.forall ((=) steps) lengths),
            Sequences(encoding, 2, 1),
            own
        )

        encoding

    let short = Draw.floats random (TrajectoryWindow.Size(2, 3, 2))

    // The same steps in a window of three: what lies behind them is not looked at.
    let long =
        [|
            for feature in 0..5 do
                let before, there =
                    (if feature < 3 then 2 * feature else 6 + feature - 3), (if feature < 3 then 2 else 1)

                yield! Array.sub short (before * lanes) (there * lanes)
                yield! Draw.floats random lanes
        |]

    Paths.sameBits (encode 3 long (Array.create lanes 2)) (encode 2 short (Array.create lanes 2)) "encoding"

[<Fact>]
let ``Dropout drops its share and keeps the mean`` () =
    let keys =
        Array.init lanes (fun lane ->
            RandomStream(1UL, "keys").Bits(uint32 lane).ToTuple() |> fun (x, _, _, _) -> x)

    for rate in [ 0.1; 0.5 ] do
        let values = Array.create (128 * 59 * lanes) 1f
        SequenceMath.Relu(Sequences(values, 128, 59), Dropout(keys, 3, rate))
        let dropped = values |> Array.filter ((=) 0f) |> Array.length
        Expect.close 0.004 (float dropped / float values.Length) rate "share"
        Expect.close 0.008 (values |> Array.averageBy float) 1.0 "mean"
