/// The formulas of PPO on one panel, against plain double-precision references and finite differences.
module Distill.Tests.PpoLossTests

open System
open Distill.Algorithms
open Distill.Compute
open Distill.Networks
open Distill.Policies
open Distill.Tests.NetworksReference
open Distill.Tests.PpoReference
open Xunit

let private width = Panel.Width

let private uniform (random: Random) (low: float) (high: float) =
    low + (high - low) * random.NextDouble()

let private floats count (draw: int -> float) =
    Array.init count (fun i -> float32 (draw i))

[<Fact>]
let ``Advantages are sums of discounted surprises, cut at terminations and time-outs`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed
        let steps = random.Next(1, 40)
        let gamma, lambda = uniform random 0.5 1.0, uniform random 0.0 1.0
        let rewards = floats (steps * width) (fun _ -> uniform random -2.0 2.0)
        let values = floats ((steps + 1) * width) (fun _ -> uniform random -5.0 5.0)
        let beyond = floats (steps * width) (fun _ -> uniform random -5.0 5.0)
        // 0: goes on, 1: terminated, 2: truncated.
        let ends = Array.init (steps * width) (fun _ -> max 0 (random.Next 12 - 9))

        let flag kind =
            floats (steps * width) (fun i -> if ends[i] = kind then 1.0 else 0.0)

        let actual = Array.zeroCreate<float32>(steps * width)

        PpoAdvantage.Estimate(
            panelOf rewards,
            panelOf values,
            panelOf (flag 1),
            panelOf (flag 2),
            panelOf beyond,
            float32 gamma,
            float32 lambda,
            panelOf actual
        )

        for lane in 0 .. width - 1 do
            let column (source: 'a[]) count =
                Array.init count (fun t -> source[t * width + lane])

            let expected =
                advantages
                    (float (float32 gamma))
                    (float (float32 lambda))
                    (column rewards steps |> Array.map float)
                    (column values (steps + 1) |> Array.map float)
                    (column beyond steps |> Array.map float)
                    (column ends steps)

            Expect.closeAll 2e-5 (column actual steps |> Array.map float) expected $"lane {lane}")

/// A distribution with its references and random parameters.
type private Case =
    {
        Head: Head
        Outputs: int
        Actions: int
        LogProbability: float[] -> float[] -> float
        Entropy: float[] -> float
        KlDivergence: float[] -> float[] -> float
        DrawAction: Random -> int -> float
    }

/// The outputs are [mean; log_std], and log_std depends on the state.
let private gaussian =
    let half part (outputs: float[]) =
        (Array.chunkBySize (outputs.Length / 2) outputs)[part]

    let mean, logStd = half 0, half 1

    {
        Head = Head.Gaussian
        Outputs = 6
        Actions = 3
        LogProbability = fun y action -> gaussianLogProbability (mean y) (logStd y) action
        Entropy = fun y -> gaussianEntropy (logStd y)
        KlDivergence = fun p q -> gaussianKl (mean p) (logStd p) (mean q) (logStd q)
        DrawAction = fun random _ -> uniform random -2.0 2.0
    }

let private categorical =
    {
        Head = Head.Categorical
        Outputs = 4
        Actions = 1
        LogProbability = categoricalLogProbability
        Entropy = categoricalEntropy
        KlDivergence = categoricalKl
        DrawAction = fun random _ -> float (random.Next 4)
    }

let private cases = [ gaussian; categorical ]

let private distributionOf head =
    ActionDistribution.Of head |> Option.ofObj |> Option.get

let private column (panel: float32[]) size lane =
    Array.init size (fun i -> float panel[i * width + lane])

let private doubles (values: float32[]) = Array.map float values

[<Fact>]
let ``Log-probability, entropy and KL divergence match the formulas`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed

        for case in cases do
            let distribution = distributionOf case.Head
            let outputs = floats (case.Outputs * width) (fun _ -> uniform random -1.5 0.5)
            let before = floats (case.Outputs * width) (fun _ -> uniform random -1.5 0.5)
            let actions = floats (case.Actions * width) (case.DrawAction random)
            let logProbability: float32[] = Array.zeroCreate width
            let entropy: float32[] = Array.zeroCreate width
            let kl: float32[] = Array.zeroCreate width
            distribution.LogProbability(panelOf outputs, panelOf actions, logProbability)
            distribution.Entropy(panelOf outputs, entropy)
            distribution.KlDivergence(panelOf before, panelOf outputs, kl)

            for lane in 0 .. width - 1 do
                let p, q = column before case.Outputs lane, column outputs case.Outputs lane
                let action = column actions case.Actions lane

                let expected =
                    [ case.LogProbability q action; case.Entropy q; case.KlDivergence p q ]

                let actual = [ logProbability[lane]; entropy[lane]; kl[lane] ] |> List.map float

                Expect.closeAll 1e-5 actual expected $"{case.Head}, lane {lane}: log p, entropy, KL")

[<Fact>]
let ``Gradient of the clipped surrogate minus the entropy bonus matches finite differences`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed
        let clip, bonus, scale = 0.2, 0.05, 1.0 / 20.0
        // Between the ratios below, or out of the way.
        let dual = if seed % 2 = 0 then infinity else 1.3

        let surrogate clip advantage now before =
            let loss = surrogate clip advantage now before

            if advantage < 0.0 then
                min loss (-advantage * dual)
            else
                loss

        for case in cases do
            let distribution = distributionOf case.Head
            let outputs = floats (case.Outputs * width) (fun _ -> uniform random -1.0 1.0)
            let actions = floats (case.Actions * width) (case.DrawAction random)
            let advantage = floats width (fun _ -> uniform random -2.0 2.0)
            let weight = floats width (fun lane -> if lane < 20 then 1.0 else 0.0)
            let logProbability = Array.zeroCreate<float32> width
            distribution.LogProbability(panelOf outputs, panelOf actions, logProbability)
            // Ratios on both sides of the clip range, but not next to its bounds, where there is no derivative.
            let logRatios = [| -0.5; -0.1; 0.0; 0.1; 0.5 |]

            let old =
                floats width (fun lane -> float logProbability[lane] - logRatios[lane % 5])

            let dLogProbability, dEntropy =
                Array.zeroCreate<float32> width, floats width (fun l -> -bonus * scale * float weight[l])

            let sum =
                PpoLosses.Surrogate(
                    logProbability,
                    old,
                    advantage,
                    weight,
                    float32 clip,
                    float32 dual,
                    float32 scale,
                    dLogProbability
                )

            let dOutputs = Array.zeroCreate<float32> outputs.Length

            distribution.Backward(
                panelOf outputs,
                panelOf actions,
                dLogProbability,
                dEntropy,
                panelOf dOutputs
            )

            let loss (y: float[]) =
                [ 0..19 ]
                |> List.sumBy (fun lane ->
                    let own = Array.init case.Outputs (fun i -> y[i * width + lane])
                    let p = case.LogProbability own (column actions case.Actions lane)

                    scale
                    * (surrogate clip (float advantage[lane]) p (float old[lane]) - bonus * case.Entropy own))

            let slope (f: float[] -> float) (x: float[]) =
                Array.init x.Length (fun i ->
                    let at d =
                        f (Array.mapi (fun j v -> if j = i then v + d else v) x)

                    (at 1e-5 - at -1e-5) / 2e-5)

            let y = doubles outputs

            let expectedSum =
                [ 0..19 ]
                |> List.sumBy (fun lane ->
                    let p =
                        case.LogProbability
                            (column outputs case.Outputs lane)
                            (column actions case.Actions lane)

                    surrogate clip (float advantage[lane]) p (float old[lane]))

            Expect.close (1e-4 * (1.0 + abs expectedSum)) sum expectedSum $"{case.Head}: surrogate"

            Expect.closeAll 1e-4 (doubles dOutputs) (slope loss y) $"{case.Head}: outputs")

[<Fact>]
let ``Value loss and its gradient match finite differences, clipped and not`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed
        let scale = 0.1
        let before = floats width (fun _ -> uniform random -1.0 1.0)
        // Within and beyond the clip range, away from its bounds.
        let change = [| -0.6; -0.1; 0.05; 0.7 |]
        let value = floats width (fun lane -> float before[lane] + change[lane % 4])
        let returns = floats width (fun _ -> uniform random -2.0 2.0)
        let weight = floats width (fun lane -> if lane % 3 = 0 then 0.0 else 1.0)

        let reference clip lane v =
            valueLoss clip (float before[lane]) (float returns[lane]) v

        for clip in [ None; Some 0.2 ] do
            let gradient = Array.zeroCreate<float32> width
            let limit = clip |> Option.map float32 |> Option.toNullable

            let sum =
                PpoLosses.Value(value, before, returns, weight, limit, float32 scale, gradient)

            let expected =
                [ 0 .. width - 1 ]
                |> List.sumBy (fun i -> float weight[i] * reference clip i (float value[i]))

            Expect.close (1e-5 * (1.0 + expected)) sum expected $"value loss, clip {clip}"

            for lane in 0 .. width - 1 do
                let v = float value[lane]
                // Where the two terms change places the maximum has a kink.
                let terms c = reference (Some c) lane v

                let kink =
                    clip.IsSome
                    && abs change[lane % 4] > 0.2
                    && abs (terms 0.2 - terms 1e9) < 1e-3
                    && terms 0.2 <> terms 1e9

                if not kink then
                    let slope = (reference clip lane (v + 1e-5) - reference clip lane (v - 1e-5)) / 2e-5

                    Expect.close
                        2e-5
                        (float gradient[lane])
                        (scale * float weight[lane] * slope)
                        $"lane {lane}, clip {clip}")

[<Fact>]
let ``Gaussian actions have the mean and the spread that the outputs say`` () =
    let distribution = distributionOf Head.Gaussian
    let logStd = [| 0f; -1f; -2f; 0.5f |]

    let outputs =
        Array.init (8 * width) (fun i ->
            if i < 4 * width then
                float32 (i / width) - 1.5f
            else
                logStd[i / width - 4])

    let actions = Array.zeroCreate<float32>(4 * width)
    let stream = RandomStream(3UL, "test")
    let steps = 2000
    let sums, squares = Array.zeroCreate<float> 4, Array.zeroCreate<float> 4

    for step in 1..steps do
        distribution.Sample(panelOf outputs, stream, 0, int64 step, panelOf actions)

        for i in 0 .. actions.Length - 1 do
            let deviation = float actions[i] - float outputs[i]
            sums[i / width] <- sums[i / width] + deviation
            squares[i / width] <- squares[i / width] + deviation * deviation

    let count = float (steps * width)

    for action in 0..3 do
        let std = exp (float logStd[action])
        Expect.close (5.0 * std / sqrt count) (sums[action] / count) 0.0 $"mean of action {action}"

        Expect.close
            (5.0 * std / sqrt (2.0 * count))
            (sqrt (squares[action] / count))
            std
            $"std of action {action}"

[<Fact>]
let ``Choices come as often as their probabilities say`` () =
    let distribution = distributionOf Head.Categorical
    let logits = [| 0.5; -1.0; 1.0; 0.0 |]
    let outputs = Array.init (4 * width) (fun i -> float32 logits[i / width])
    let actions = Array.zeroCreate<float32> width
    let stream = RandomStream(4UL, "test")
    let steps = 1000
    let counts = Array.zeroCreate<int> 4

    for step in 1..steps do
        distribution.Sample(panelOf outputs, stream, 0, int64 step, panelOf actions)

        for choice in actions do
            counts[int choice] <- counts[int choice] + 1

    let count = float (steps * width)

    for choice in 0..3 do
        let p = (probabilities logits).[choice]
        Expect.close (5.0 * sqrt (p * (1.0 - p) / count)) (float counts[choice] / count) p $"choice {choice}"

[<Fact>]
let ``Normals of a panel depend on the environment, the counters and the feature alone, on every path`` () =
    let stream = RandomStream(5UL, "test")

    let draw features first =
        let panel = Array.zeroCreate<float32>(features * width)
        stream.Normals(panel, first, 7u, 8u)
        panel

    let reference = Paths.same "normals" (fun () -> draw 6 64u)
    Paths.sameBits (draw 3 64u) reference[.. 3 * width - 1] "fewer features"
    // Environment 80 is lane 16 of the panel that starts at 64, and lane 0 of one that starts at 80.
    let shifted = draw 6 80u

    for feature in 0..5 do
        Expect.equal shifted[feature * width] reference[feature * width + 16] $"feature {feature}"

    Expect.equal (Array.distinct reference).Length reference.Length "distinct normals"
