/// The gradients of SAC: against central differences, and the numbers of PyTorch.
module Distill.Tests.SacLossTests

open System
open System.IO
open System.IO.Compression
open System.Text.Json
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Networks
open Distill.Policies
open Distill.Tests.NetworksReference
open Distill.Tests.SacReference
open Distill.Tests.DistillationTestbed
open Xunit

let private width = Panel.Width

[<Fact>]
let ``The reference's gradient of a draw is that of central differences`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed

        let numbers count low high =
            Array.init count (fun _ -> low + (high - low) * random.NextDouble())

        let outputs, noise = numbers 6 -1.5 1.0, numbers 3 -2.0 2.0
        let dAction, dLogProbability = numbers 3 -1.0 1.0, random.NextDouble()

        let value outputs =
            let action, logProbability = draw outputs noise
            (Seq.map2 (*) action dAction |> Seq.sum) + dLogProbability * logProbability

        let expected =
            outputs
            |> Array.mapi (fun i v ->
                let at step =
                    value (Array.updateAt i (v + step) outputs)

                (at 1e-5 - at -1e-5) / 2e-5)

        Expect.closeAll 1e-7 (drawBackward outputs noise dAction dLogProbability) expected "gradient")

[<Fact>]
let ``Draws, their log-probabilities and gradients are the reference's, on every path`` () =
    Property.checkMany 30 (fun (seed: int) ->
        let random = Random seed
        let actions = 3

        let panel features (scale: float32) =
            Draw.floats random (features * width) |> Array.map ((*) scale)

        let outputs, noise = panel (2 * actions) 0.7f, panel actions 1f
        let dAction, dLogProbability = panel actions 1f, panel 1 1f

        let results =
            Paths.same "draw" (fun () ->
                let action, logProbability, dOutputs =
                    Guarded(actions * width), Guarded width, Guarded(2 * actions * width)

                SquashedGaussian.Draw(
                    panelOf outputs,
                    panelOf noise,
                    Panel(action.Span, actions),
                    logProbability.Span
                )

                SquashedGaussian.DrawBackward(
                    panelOf outputs,
                    panelOf noise,
                    Panel(action.Span, actions),
                    panelOf dAction,
                    dLogProbability,
                    Panel(dOutputs.Span, 2 * actions)
                )

                Array.concat [ action.Values; logProbability.Values; dOutputs.Values ])

        for l in 0 .. width - 1 do
            let y, n = lane outputs l, lane noise l
            let action, logProbability = draw y n

            let expected =
                Array.concat
                    [
                        action
                        [| logProbability |]
                        drawBackward y n (lane dAction l) (float dLogProbability[l])
                    ]

            Expect.closeAll 2e-5 (lane results l) expected $"lane {l}")

[<Fact>]
let ``Where tanh ends, draws have finite log-probabilities and gradients`` () =
    let outputs = Array.init (2 * width) (fun i -> if i < width then 30f else 2f)

    let action, logProbability, dOutputs =
        Array.zeroCreate<float32> width, Array.zeroCreate<float32> width, Array.zeroCreate<float32>(2 * width)

    let ones = Array.create width 1f
    SquashedGaussian.Draw(panelOf outputs, panelOf ones, panelOf action, logProbability)

    SquashedGaussian.DrawBackward(
        panelOf outputs,
        panelOf ones,
        panelOf action,
        panelOf ones,
        ones,
        panelOf dOutputs
    )

    Expect.close 1e-6 (float action[0]) 1.0 "action"

    for value in Seq.append logProbability dOutputs do
        Expect.isTrue (Single.IsFinite value) $"{value}"

let private cases =
    lazy
        (use file =
            File.OpenRead(Path.Combine(AppContext.BaseDirectory, "fixtures/torch/sac.json.gz"))

         use text = new GZipStream(file, CompressionMode.Decompress)
         JsonDocument.Parse(text).RootElement.GetProperty "cases")

let private environment =
    EnvironmentSpec(
        "fixture",
        [| ObservationGroup("teacher", [| ObservationComponent("observation", 3) |]) |],
        ActionSpace(2, Discrete = false),
        100,
        0.1
    )

/// The place of each sample in a replay of so many rows.
let private places (count: int) samples =
    [|
        for i in 0 .. samples - 1 do
            let struct (high, low, _, _) = RandomStream(7UL, "sac.batch").Bits(uint32 i)
            int ((((bigint high <<< 32) + bigint low) * bigint count) >>> 64)
    |]

[<Theory>]
[<InlineData("discounted", EntropyTarget.Discounted)>]
[<InlineData("undiscounted", EntropyTarget.Undiscounted)>]
let ``The losses of an update and the gradients of critics, actor and temperature are PyTorch's``
    (name: string, entropyTarget: EntropyTarget)
    =
    let case = cases.Value.GetProperty name

    let read (group: string) (name: string) =
        let values = case.GetProperty(group).GetProperty(name).GetProperty "float64"

        if values.ValueKind = JsonValueKind.Array then
            [| for value in values.EnumerateArray() -> value.GetDouble() |]
        else
            [| values.GetDouble() |]

    let rows = 10
    // Rates at which nothing moves, so that the actor meets the critics of the fixture.
    let config =
        SacConfig(
            Seed = 7UL,
            MiniBatchSize = rows,
            Gamma = 0.97,
            InitialAlpha = 0.3,
            TargetEntropy = -2.0,
            EntropyTarget = entropyTarget,
            AlphaLearningRate = 0.0,
            Polyak = 1e-30,
            Actor =
                MlpStudent(ObservationGroup = "teacher", Hidden = [| 6; 5 |], Activation = Activation.Relu),
            Critic =
                MlpStudent(ObservationGroup = "teacher", Hidden = [| 8; 6 |], Activation = Activation.Relu),
            Optimizer = AdamConfig(LearningRate = 1e-30, MaxGradNorm = 0.0)
        )

    use pool = new WorkerPool(1)
    use actor = new Policy(config.ActorNetwork environment, "teacher")
    let layout = config.Layout environment
    use replay = new Replay(layout.Columns, 4096)
    let drawn = places 4096 rows

    for place in 0..4095 do
        let row = replay.Next()
        row.Fill nanf
        let i = Array.IndexOf(drawn, place)

        if i >= 0 then
            let sample (name: string) size =
                (read "inputs" name)[i * size .. (i + 1) * size - 1]

            let transition =
                Array.concat
                    [
                        sample "observation" 3
                        sample "action" 2
                        sample "reward" 1
                        sample "next" 3
                        sample "terminated" 1
                    ]

            (Array.map float32 transition).CopyTo row

    use learner = new SacLearner(config, environment, actor, null, layout, replay, pool)
    learner.Resolve config

    let load (network: Network) (name: string) =
        for view in network.Views do
            read "inputs" $"{name}.{view.Name}"
            |> Array.map float32
            |> fun values -> values.CopyTo(network[view])

    load actor.Network "actor"

    for i, critic in Array.indexed learner.Critics do
        load critic.Network $"critic_{i + 1}"
        load critic.Target $"target_{i + 1}"

    let sums = learner.Update 0

    for name, actual in [ "critic", sums.Critic; "actor", sums.Actor; "entropy", sums.Entropy ] do
        Expect.closeAll 2e-6 [ actual ] (read "outputs" name) name

    let check (network: Network) (optimizer: Optimizer) (name: string) =
        for view in network.Views do
            closeNorm
                2e-5
                (optimizer.Gradient(0).Slice(view.Offset, view.Length).ToArray())
                (read "gradients" $"{name}.{view.Name}")
                $"{name}.{view.Name}"

    check actor.Network learner.ActorOptimizer "actor"

    for i, critic in Array.indexed learner.Critics do
        check critic.Network critic.Optimizer $"critic_{i + 1}"

    closeNorm
        2e-5
        (learner.Temperature.Optimizer.Gradient(0).Slice(0, 1).ToArray())
        (read "gradients" "log_alpha")
        "temperature"
