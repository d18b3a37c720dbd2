/// Numbers that PyTorch (and, for one optimiser, rl-tools) computed in double precision.
module Distill.Tests.NetworksTorchTests

open System
open System.IO
open System.IO.Compression
open System.Text.Json
open Distill.Compute
open Distill.Networks
open Distill.Tests.NetworksReference
open Xunit

let private width = Panel.Width

type private Case(json: JsonElement) =
    let read (group: string) (name: string) =
        let tensor = json.GetProperty(group).GetProperty name
        let found, flags = tensor.TryGetProperty "int"
        let values = if found then flags else tensor.GetProperty "float64"

        // A scalar stands alone, not in a list.
        if values.ValueKind = JsonValueKind.Array then
            [| for value in values.EnumerateArray() -> value.GetDouble() |]
        else
            [| values.GetDouble() |]

    member _.Setting(name: string) =
        json.GetProperty("settings").GetProperty(name).GetDouble()

    member _.Input name = read "inputs" name
    member _.Output name = read "outputs" name
    member _.Gradient name = read "gradients" name

    /// Rows of an input.
    member case.Rows(name, size) =
        case.Input name |> Array.chunkBySize size

let private casesOf (path: string) =
    lazy
        (use file = File.OpenRead(Path.Combine(AppContext.BaseDirectory, "fixtures", path))
         use text = new GZipStream(file, CompressionMode.Decompress)
         JsonDocument.Parse(text).RootElement.GetProperty "cases")

let private given = casesOf "torch-gradients.json.gz"
let private added = casesOf "torch/networks.json.gz"

let private case (name: string) =
    match given.Value.TryGetProperty name with
    | true, found -> Case found
    | _ -> Case(added.Value.GetProperty name)

let private zeros count = Array.zeroCreate<float32> count

/// 1 for the first lanes, 0 for the others.
let private weights rows =
    Array.init width (fun lane -> if lane < rows then 1f else 0f)

/// Unused lanes hold numbers that must not show in any result.
let private filled rows features =
    let values: float32[] = panel rows features

    values
    |> Array.mapi (fun i v ->
        if i % width < rows.Length then
            v
        else
            0.5f - float32 (i % 7))

/// One step of an output [step, row, feature].
let private perStepOutput (case: Case) name size rows step =
    (case.Output name |> Array.chunkBySize (rows * size))[step]

/// Copies the fixture's tensors, in the order of the views, into a network.
let private load (network: Network) (case: Case) names =
    for view, name in Seq.zip network.Views names do
        let values = case.Input name |> Array.map float32
        Expect.equal values.Length view.Length name
        values.CopyTo(network.Parameters.Slice(view.Offset, view.Length))

let private checkGradients (network: Network) (case: Case) names (gradient: float32[]) =
    for view, name in Seq.zip network.Views names do
        closeNorm 2e-6 (Array.sub gradient view.Offset view.Length) (case.Gradient name) name

// Tolerances: 2e-6 of the largest element of each tensor, about 16 roundings of single precision.

[<Fact>]
let ``MLP with ELU and mean squared error`` () =
    let case = case "mlp_elu_mse"
    use network = new Network(NetworkSpec.Mlp(26, [ 32; 32 ], 4))

    let names =
        [
            for layer in [ "0"; "2"; "4" ] do
                for part in [ "weight"; "bias" ] -> $"{layer}.{part}"
        ]

    load network case names
    let x, target = filled (case.Rows("x", 26)) 26, filled (case.Rows("target", 4)) 4

    use own = new Workspace()
    let activations = zeros (network.ActivationSize * width)
    network.Forward(panelOf x, Panel(), panelOf activations, own)
    let y = network.Output(panelOf activations).Values.ToArray()
    let expected = case.Output "y" |> Array.chunkBySize 4

    closeNorm
        2e-6
        [|
            for row in 0..15 do
                for a in 0..3 -> y[a * width + row]
        |]
        (Array.concat expected)
        "y"

    let dy, gradient = zeros (4 * width), zeros network.Parameters.Length

    let sum =
        MeanSquared().Evaluate(panelOf y, panelOf target, panelOf (weights 16), 1f / 64f, panelOf dy)

    Expect.close 1e-6 (sum / 64.0 / (case.Output "loss")[0]) 1.0 "loss"
    network.Backward(panelOf x, panelOf activations, panelOf dy, Panel(), gradient, own)
    checkGradients network case names gradient

/// A student's memory, outputs and gradients over a sequence with resets; `layer` is what the case calls the memory's layer.
let private studentWithMemory
    name
    layer
    (spec: NetworkSpec)
    steps
    (memoryBefore: string)
    (memoryAfter: string)
    =
    let case = case name
    use network = new Network(spec)

    let names =
        [
            "input.weight"
            "input.bias"
            for part in [ "weight_ih"; "weight_hh"; "bias_ih"; "bias_hh" ] do
                $"{layer}.{part}"

            "output.weight"
            "output.bias"
        ]

    load network case names
    let rows, remembered = 3, network.MemorySize

    let perStep name size =
        case.Rows(name, size) |> Array.chunkBySize rows |> Array.map (fun rows -> filled rows size)

    let x, target = perStep "x" spec.Inputs, perStep "target" spec.Outputs
    // Factors of the memory: 0 where the episode begins anew.
    let keep =
        case.Rows("reset", rows)
        |> Array.map (fun reset -> Array.init width (fun l -> if l < rows then 1f - float32 reset[l] else 1f))

    let ofRows (panel: float32[]) size =
        [|
            for row in 0 .. rows - 1 do
                for f in 0 .. size - 1 -> panel[f * width + row]
        |]

    let memory = filled (case.Rows(memoryBefore, remembered)) remembered
    let activations = Array.init steps (fun _ -> zeros (network.ActivationSize * width))
    use own = new Workspace()

    for t in 0 .. steps - 1 do
        Elementwise.ScaleLanes(panelOf memory, keep[t])
        network.Forward(panelOf x[t], panelOf memory, panelOf activations[t], own)
        network.CopyMemory(panelOf activations[t], panelOf memory)

        closeNorm
            2e-6
            (ofRows memory remembered)
            (perStepOutput case memoryAfter remembered rows t)
            $"memory {t}"

    let gradient = zeros network.Parameters.Length
    let dMemory, dy = zeros (remembered * width), zeros (spec.Outputs * width)
    let count = float (rows * steps * spec.Outputs)
    let mutable sum = 0.0

    for t in steps - 1 .. -1 .. 0 do
        let y = network.Output(panelOf activations[t]).Values.ToArray()
        closeNorm 2e-6 (ofRows y spec.Outputs) (perStepOutput case "y" spec.Outputs rows t) $"y {t}"
        let weight = panelOf (weights rows)
        let scale = float32 (1.0 / count)
        sum <- sum + MeanSquared().Evaluate(panelOf y, panelOf target[t], weight, scale, panelOf dy)
        network.Backward(panelOf x[t], panelOf activations[t], panelOf dy, panelOf dMemory, gradient, own)
        Elementwise.ScaleLanes(panelOf dMemory, keep[t])

    Expect.close 1e-6 (sum / count / (case.Output "loss")[0]) 1.0 "loss"
    checkGradients network case names gradient
    closeNorm 2e-6 (ofRows dMemory remembered) (case.Gradient memoryBefore) memoryBefore

[<Fact>]
let ``Student with a GRU over a sequence with resets`` () =
    studentWithMemory "gru_student_mse" "gru" (NetworkSpec.GruStack(22, 16, 16, 0, 4)) 20 "h0" "hidden"

[<Fact>]
let ``Student with an LSTM over a sequence with resets`` () =
    let spec = NetworkSpec.RecurrentStack(7, 6, Lstm 5, 0, 3)
    studentWithMemory "lstm_student_mse" "lstm" spec 12 "memory0" "memory"

[<Theory>]
[<InlineData("state_dependent_std", Head.StateDependentStd)>]
[<InlineData("state_dependent_log_std", Head.StateDependentLogStd)>]
[<InlineData("squashed_gaussian", Head.SquashedGaussian)>]
let ``Distributions whose deviation depends on the state`` (name, head) =
    let case = case name
    let rows, actions = 12, 3
    let panelOfInput name size = filled (case.Rows(name, size)) size
    let raw, action = panelOfInput "raw" (2 * actions), panelOfInput "action" actions
    let distribution = ActionDistribution.Of head |> Option.ofObj |> Option.get
    // The dense layer before it gave the raw numbers.
    let layer =
        (ActionDistribution.Output(head, Dense(actions, Activation.Identity)) |> Seq.last).Create(2 * actions)

    use own = new Workspace()
    let none = zeros 0

    let outputsOf (raw: float32[]) =
        let y = zeros raw.Length
        layer.Forward(none, panelOf raw, Panel(), panelOf y, own)
        y

    let outputs, other = outputsOf raw, outputsOf (panelOfInput "other" (2 * actions))
    let logProbability, entropy, kl = zeros width, zeros width, zeros width
    distribution.LogProbability(panelOf outputs, panelOf action, logProbability)
    distribution.Entropy(panelOf outputs, entropy)
    distribution.KlDivergence(panelOf other, panelOf outputs, kl)
    closeNorm 2e-6 (Array.truncate rows logProbability) (case.Output "log_prob") "log-probability"
    closeNorm 2e-5 (Array.truncate rows entropy) (case.Output "entropy") "entropy"
    closeNorm 2e-6 (Array.truncate rows kl) (case.Output "kl") "KL divergence"

    let rowWeights = case.Input "weight"

    let weight =
        Array.init width (fun l -> if l < rows then float32 rowWeights[l] else 0f)

    let gradient (dLogProbability: float32[]) (dEntropy: float32[]) =
        let dOutputs, dRaw = zeros outputs.Length, zeros raw.Length

        distribution.Backward(panelOf outputs, panelOf action, dLogProbability, dEntropy, panelOf dOutputs)

        layer.Backward(none, panelOf raw, panelOf outputs, panelOf dOutputs, panelOf dRaw, Panel(), none, own)

        [|
            for row in 0 .. rows - 1 do
                for i in 0 .. 2 * actions - 1 -> dRaw[i * width + row]
        |]

    closeNorm
        2e-6
        (gradient weight (zeros width))
        (case.Gradient "log_prob")
        "gradient of the log-probability"

    closeNorm 2e-5 (gradient (zeros width) weight) (case.Gradient "entropy") "gradient of the entropy"

/// First and second moments, which an optimiser shows only to a visitor of its state.
let private moments (adam: Adam) =
    let blocks = Collections.Generic.Dictionary<string, float32[]>()

    adam.Visit
        { new Distill.State() with
            member _.Visit(name, values) =
                if name = "first" || name = "second" then
                    blocks[name] <-
                        Runtime.InteropServices.MemoryMarshal.Cast<byte, float32>(values).ToArray()
        }

    blocks["first"], blocks["second"]

/// A network whose flat parameters are as many as needed: one dense layer without hidden ones.
let private flat count =
    new Network(NetworkSpec(count - 1, [ Dense(1, Activation.Identity) ]))

let private optimiser name (parts: string list) floor decoupled =
    let case = case name

    let values suffix =
        parts |> List.map (fun part -> case.Input $"{suffix}{part}") |> Array.concat

    let start = values ""
    use network = flat start.Length
    start |> Array.iteri (fun i v -> network.Parameters.Span[i] <- float32 v)

    let config =
        AdamConfig(
            LearningRate = case.Setting "lr",
            Beta1 = case.Setting "beta1",
            Beta2 = case.Setting "beta2",
            Epsilon = case.Setting "eps",
            WeightDecay = (if floor then 0.0 else case.Setting "weight_decay"),
            Floor = (if floor then case.Setting "floor" else 0.0),
            Decoupled = decoupled,
            MaxGradNorm = 0.0
        )

    use adam = new Adam(network, config, 1)
    use pool = new WorkerPool(1)

    for step in 1..3 do
        let gradient =
            parts |> List.map (fun part -> case.Input $"gradient {part} step {step}") |> Array.concat

        gradient |> Array.iteri (fun i v -> (adam.Gradient 0)[i] <- float32 v)
        adam.Step(pool, 1)

        let expected prefix =
            parts |> List.map (fun part -> case.Output $"{prefix}{part} after step {step}") |> Array.concat

        let take (values: float32[]) = Array.truncate start.Length values
        let first, second = moments adam
        closeNorm 1e-6 (take first) (expected "exp_avg ") $"{name}, first moment, step {step}"
        closeNorm 1e-6 (take second) (expected "exp_avg_sq ") $"{name}, second moment, step {step}"
        let parameters = take (network.Parameters.Span.ToArray())
        closeNorm 1.2e-7 parameters (expected "") $"{name}, parameters, step {step}"

        // The change since the start is what the optimiser did: to one rounding of the parameters per step.
        for i in 0 .. start.Length - 1 do
            let change = float parameters[i] - start[i]
            let rounding = float step * 2.0 ** -23.0 * max (abs start[i]) (case.Setting "lr")
            Expect.close rounding change ((expected "")[i] - start[i]) $"{name}, change of {i} in step {step}"

    Expect.equal adam.Steps 3L "steps"
    Expect.equal adam.ClippedSteps 0L "clipped steps"

[<Fact>]
let ``Adam`` () =
    optimiser "adam" [ "a"; "b" ] false false

[<Fact>]
let ``Adam with L2`` () =
    optimiser "adam_l2" [ "a"; "b" ] false false

[<Fact>]
let ``AdamW`` () =
    optimiser "adamw" [ "a"; "b" ] false true

[<Fact>]
let ``Adam of rl-tools`` () =
    optimiser "adam_rl_tools" [ "p" ] true false

[<Theory>]
[<InlineData("clip_global_norm", 1L)>]
[<InlineData("clip_global_norm_below", 0L)>]
let ``Clipping by global norm`` (name, clipped) =
    let case = case name
    let parts = [ "a"; "b"; "c" ]
    let gradient = parts |> List.map case.Input |> Array.concat
    use network = flat gradient.Length
    // With beta1 = 0 the first moment after a step is the gradient that the step used.
    let config = AdamConfig(Beta1 = 0.0, MaxGradNorm = case.Setting "max_norm")
    use adam = new Adam(network, config, 2)
    use pool = new WorkerPool(1)
    // Two chunks whose sum is the gradient.
    gradient |> Array.iteri (fun i v -> (adam.Gradient(i % 2))[i] <- float32 v)
    adam.Step(pool, 2)
    Expect.close 1e-7 (adam.GradientNorm / (case.Output "norm")[0]) 1.0 "norm"
    Expect.equal adam.ClippedSteps clipped "clipped steps"
    let first, _ = moments adam

    let expected =
        parts |> List.map (fun part -> case.Output $"{part} clipped") |> Array.concat

    closeNorm 2e-7 (Array.truncate expected.Length first) expected "clipped gradient"

/// Loss and its gradient by the output, for rows of an input.
let private evaluate (loss: Loss) scale (y: float[][]) (target: float[][]) =
    let rows, outputs = y.Length, y[0].Length
    let dy: float32[] = Array.create (outputs * width) nanf
    let y, target = filled y outputs, filled target target[0].Length

    let sum =
        loss.Evaluate(panelOf y, panelOf target, panelOf (weights rows), float32 scale, panelOf dy)

    for i in 0 .. dy.Length - 1 do
        if i % width >= rows then
            Expect.equal dy[i] 0f $"gradient of unused lane {i % width}"

    sum * scale,
    [|
        for row in 0 .. rows - 1 do
            for a in 0 .. outputs - 1 -> dy[a * width + row]
    |]

[<Theory>]
[<InlineData("huber_delta_1")>]
[<InlineData("huber_delta_0.25")>]
let ``Huber`` name =
    let case = case name
    let loss = Huber(case.Setting "delta")
    let scale = 1.0 / float (8 * loss.TermsPerRow 4)

    let value, dy = evaluate loss scale (case.Rows("y", 4)) (case.Rows("target", 4))

    Expect.close 1e-6 (value / (case.Output "loss")[0]) 1.0 "loss"
    closeNorm 1e-6 dy (case.Gradient "y") "gradient"

[<Theory>]
[<InlineData("kl_gaussian", Head.Gaussian, 6, 6)>]
[<InlineData("kl_categorical", Head.Categorical, 5, 5)>]
[<InlineData("mse_squashed", Head.SquashedGaussian, 6, 3)>]
[<InlineData("mean_and_deviation", Head.SquashedGaussian, 6, 6)>]
let ``Losses of distributions`` (name, head, outputs, labels) =
    let case = case name

    let loss: Loss =
        match name with
        | "mse_squashed" -> MeanSquared()
        | "mean_and_deviation" -> MeanAndDeviation()
        | _ -> KullbackLeibler()

    let y, target = case.Rows("y", outputs), case.Rows("target", labels)
    let dy: float32[] = Array.create (outputs * width) nanf
    let scale = 1.0 / float (8 * loss.TermsPerRow 3)

    let sum =
        loss.Evaluate(
            panelOf (filled y outputs),
            panelOf (filled target labels),
            panelOf (weights 8),
            float32 scale,
            panelOf dy,
            head = head
        )

    Expect.close 1e-6 (sum * scale / (case.Output "loss")[0]) 1.0 "loss"

    let gradient =
        [|
            for row in 0..7 do
                for i in 0 .. outputs - 1 -> dy[i * width + row]
        |]

    closeNorm 2e-6 gradient (case.Gradient "y") "gradient"

[<Fact>]
let ``Gaussian log-likelihood`` () =
    let case = case "gaussian_nll_log_std"
    let loss = GaussianLogLikelihood()
    let scale = 1.0 / float (8 * loss.TermsPerRow 4)

    // The network's last layer makes [mean; log_std] of the means.
    let layer = GaussianOutput(4).Create 4
    use own = new Workspace()
    let mean, y = filled (case.Rows("mean", 4)) 4, zeros (8 * width)
    let logStd: float32[] = case.Input "log_std" |> Array.map float32
    layer.Forward(logStd, panelOf mean, Panel(), panelOf y, own)

    let value, dy =
        evaluate
            loss
            scale
            [| for row in 0..7 -> [| for i in 0..7 -> float y[i * width + row] |] |]
            (case.Rows("target", 4))

    Expect.close 1e-6 (value / (case.Output "loss")[0]) 1.0 "loss"
    let dy = panel (Array.chunkBySize 8 (Array.map float dy)) 8
    let dMean, dLogStd = zeros (4 * width), zeros 4
    layer.Backward(logStd, panelOf mean, panelOf y, panelOf dy, panelOf dMean, Panel(), dLogStd, own)

    closeNorm
        1e-6
        [|
            for row in 0..7 do
                for a in 0..3 -> dMean[a * width + row]
        |]
        (case.Gradient "mean")
        "mean"

    closeNorm 1e-6 dLogStd (case.Gradient "log_std") "log_std"

[<Theory>]
[<InlineData("cross_entropy")>]
[<InlineData("cross_entropy_label_smoothing")>]
let ``Cross-entropy`` name =
    let case = case name
    let loss = CrossEntropy(case.Setting "label_smoothing")
    let scale = 1.0 / float (10 * loss.TermsPerRow 5)

    let value, dy =
        evaluate loss scale (case.Rows("logits", 5)) (case.Rows("labels", 1))

    Expect.close 1e-6 (value / (case.Output "loss")[0]) 1.0 "loss"
    closeNorm 1e-6 dy (case.Gradient "logits") "gradient"
