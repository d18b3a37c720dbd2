/// PPO as plain loops in double precision, one sample at a time: an independent twin of the whole algorithm. It shares
/// nothing with the product but the random numbers, the environments and the networks' first weights.
module Distill.Tests.PpoReference

open System
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Networks
open Distill.Policies

let gaussianLogProbability (mean: float[]) (logStd: float[]) (action: float[]) =
    Array.map3
        (fun m s a -> -0.5 * ((a - m) / exp s) ** 2.0 - s - 0.5 * log (2.0 * Math.PI))
        mean
        logStd
        action
    |> Array.sum

let gaussianEntropy (logStd: float[]) =
    logStd |> Array.sumBy (fun s -> s + 0.5 * log (2.0 * Math.PI * Math.E))

/// KL(old || new).
let gaussianKl (oldMean: float[]) (oldLogStd: float[]) (mean: float[]) (logStd: float[]) =
    Seq.sum (
        seq {
            for i in 0 .. mean.Length - 1 do
                let before, after = exp oldLogStd[i], exp logStd[i]

                log (after / before)
                + (before * before + (oldMean[i] - mean[i]) ** 2.0) / (2.0 * after * after)
                - 0.5
        }
    )

let probabilities (logits: float[]) =
    let e = logits |> Array.map exp
    e |> Array.map (fun value -> value / Array.sum e)

let categoricalLogProbability (logits: float[]) (action: float[]) =
    log ((probabilities logits).[int action[0]])

let categoricalEntropy (logits: float[]) =
    probabilities logits |> Array.sumBy (fun p -> -p * log p)

/// KL(old || new).
let categoricalKl (oldLogits: float[]) (logits: float[]) =
    Array.map2 (fun a b -> a * log (a / b)) (probabilities oldLogits) (probabilities logits)
    |> Array.sum

/// A_t is the sum of the discounted surprises up to the end of the episode or of the rollout.
/// ends: 0 where the episode goes on, 1 where it terminated, 2 where it was truncated; beyond: then the value of what would have followed.
let advantages gamma lambda (rewards: float[]) (values: float[]) (beyond: float[]) (ends: int[]) =
    let steps = rewards.Length

    let surprise t =
        match ends[t] with
        | 1 -> rewards[t] - values[t]
        | 2 -> rewards[t] + gamma * beyond[t] - values[t]
        | _ -> rewards[t] + gamma * values[t + 1] - values[t]

    Array.init steps (fun t ->
        let last =
            seq { t .. steps - 1 } |> Seq.tryFind (fun k -> ends[k] <> 0) |> Option.defaultValue (steps - 1)

        seq { t..last } |> Seq.sumBy (fun k -> (gamma * lambda) ** float (k - t) * surprise k))

/// max(-A r, -A clip r) as the paper writes it.
let surrogate clip advantage logProbability oldLogProbability =
    let ratio = exp (logProbability - oldLogProbability)
    max (-advantage * ratio) (-advantage * Math.Clamp(ratio, 1.0 - clip, 1.0 + clip))

/// The squared error, or the larger of it and that of the value kept within the clip range of the old one.
let valueLoss (clip: float option) before target value =
    let error = value - target

    match clip with
    | None -> error * error
    | Some c ->
        let kept = before + Math.Clamp(value - before, -c, c) - target
        max (error * error) (kept * kept)

/// One step of one environment.
type private Sample =
    {
        Actor: float[]
        Critic: float[]
        Action: float[]
        Outputs: float[]
        LogProbability: float
        Value: float

        /// The value of what would have followed where the step limit ended the episode.
        mutable Beyond: float

        /// What the teacher would do; empty without one.
        Label: float[]

        /// 0 where an episode starts.
        Keep: float
    }

/// What PPO learns from: one step, or with memories the steps of one environment, advantages and returns, and what actor and
/// critic remembered before.
type private Unit =
    {
        Samples: Sample[]
        Advantages: float[]
        Returns: float[]
        ActorMemory: float[]
        CriticMemory: float[]
    }

/// A twin of a Ppo with the same settings whose networks start from the given parameters.
type Twin
    (
        config: PpoConfig,
        description: IEnvironmentConfig,
        actor: float[],
        critic: float[],
        teacher: Policy option
    ) =
    let environment =
        description.Create(description.Envs, RandomStream(config.Seed, "training").Seed())

    let actions = environment.Spec.Actions
    let envs = environment.Count
    let panels = (envs + 31) / 32
    let lanes panel = min 32 (envs - 32 * panel)
    let shared = config.Actor.ObservationGroup = config.Critic.ObservationGroup

    let size group =
        environment.Spec.Groups[environment.Spec.Group group].Size

    let network (part: StudentConfig) outputs head =
        part.Network(size part.ObservationGroup, outputs, head)

    let actorSpec =
        network config.Actor actions.Size (if actions.Discrete then Head.Categorical else Head.Gaussian)

    let criticSpec = network config.Critic 1 Head.Plain
    let recurrent = actorSpec.Recurrent || criticSpec.Recurrent

    let remembered (spec: NetworkSpec) =
        Array.init envs (fun _ -> Array.zeroCreate<float>(int spec.Size.Memory))

    let mutable actorMemory, criticMemory = remembered actorSpec, remembered criticSpec
    let starting = Array.create envs true
    let acting = RandomStream(config.Seed, "ppo.acting")
    let deviations = if actions.Discrete then 0 else actions.Size
    let ofActor = NetworksReference.Statistics(size config.Actor.ObservationGroup)

    let ofCritic =
        if shared then
            ofActor
        else
            NetworksReference.Statistics(size config.Critic.ObservationGroup)

    let actorOptimizer = NetworksReference.PlainAdam(config.Optimizer, actor)
    let criticOptimizer = NetworksReference.PlainAdam(config.Optimizer, critic)
    let noise = RandomStream(config.Seed, "ppo.action")
    let shuffling = RandomStream(config.Seed, "ppo.shuffle")
    let restarts = RandomStream(config.Seed, "ppo.restart")
    let running = Array.create envs (0.0, 0)
    let finished = ResizeArray<float * int * bool>()
    let mutable iteration = 0
    let mutable steps = 0
    let mutable rate = config.Optimizer.LearningRate.At 0

    do
        for panel in 0 .. panels - 1 do
            environment.Reset panel

    /// Where the teacher drives, losses of actions that turned out badly are bounded.
    let dualClip () =
        if teacher.IsSome && config.Beta.At iteration > 0.0 then
            config.DualClip.At iteration
        else
            infinity

    let logStd () = actor[actor.Length - deviations ..]

    let logProbability outputs logStd action =
        if actions.Discrete then
            categoricalLogProbability outputs action
        else
            gaussianLogProbability outputs logStd action

    let observe group =
        [|
            for panel in 0 .. panels - 1 do
                let values = Array.zeroCreate<float32>(32 * size group)
                environment.Observe(panel, environment.Spec.Group group, values)

                for lane in 0 .. lanes panel - 1 do
                    NetworksReference.lane values lane
        |]

    /// The normalized observation; the statistics notice what is counted, but only change with the iteration.
    let show (part: StudentConfig) (statistics: NetworksReference.Statistics) counted observation =
        if not part.NormalizeObservations then
            observation
        else
            if counted then
                statistics.Add observation

            statistics.Apply observation

    let look counted =
        let forActor =
            observe config.Actor.ObservationGroup
            |> Array.map (show config.Actor ofActor (counted && iteration >= config.CriticWarmup))

        let forCritic =
            if shared then
                forActor
            else
                observe config.Critic.ObservationGroup |> Array.map (show config.Critic ofCritic counted)

        Array.zip forActor forCritic

    let kept env (memory: float[]) =
        if starting[env] then Array.map ((*) 0.0) memory else memory

    let act spec parameters memories env observation =
        let y, next, _ =
            NetworksReference.forward spec parameters observation (kept env (Array.item env memories))

        y, next

    /// What the teacher would do, in the numbers of the loss: the choice, or the actions.
    let advice () =
        match teacher with
        | None -> Array.create envs [||]
        | Some policy ->
            let parameters =
                policy.Network.Parameters.Slice(0, policy.Network.ParameterCount).ToArray() |> Array.map float

            observe policy.ObservationGroup
            |> Array.map (fun x ->
                let y, _, _ = NetworksReference.forward policy.Network.Spec parameters x [||]

                if actions.Discrete then
                    [| float (Array.findIndex ((=) (Array.max y)) y) |]
                else
                    Array.truncate actions.Size y)

    /// The actions of all environments, drawn from their distributions and rounded as they are executed.
    let draw (outputs: float[][]) =
        if actions.Discrete then
            outputs
            |> Array.mapi (fun env logits ->
                let sums = probabilities logits |> Array.scan (+) 0.0
                let u = float (noise.Uniform(uint32 env, uint32 steps))
                let choice = Array.FindLastIndex(sums[.. logits.Length - 1], fun sum -> sum <= u)
                [| float choice |])
        else
            let std = logStd () |> Array.map exp

            [|
                for panel in 0 .. panels - 1 do
                    let normals = Array.zeroCreate<float32>(32 * actions.Size)
                    noise.Normals(normals, uint32 (32 * panel), uint32 steps)

                    for lane in 0 .. lanes panel - 1 do
                        let own = NetworksReference.lane normals lane

                        Array.map3
                            (fun m s n -> float (float32 (m + s * n)))
                            outputs[32 * panel + lane]
                            std
                            own
            |]

    /// Rewards and ends of all environments. `arrive` sees the states that the step led to, before other episodes begin.
    let execute (chosen: float[][]) (arrive: (unit -> unit) option) =
        let advance =
            match environment, arrive with
            | :? IHoldingEnvironment as holding, Some _ ->
                fun (panel, actions: float32[], outcome: float32[]) ->
                    holding.Advance(panel, actions, StepOutcome(Span outcome))
            | _ ->
                fun (panel, actions: float32[], outcome: float32[]) ->
                    environment.Step(panel, actions, StepOutcome(Span outcome))

        let outcomes = Array.init panels (fun _ -> Array.zeroCreate<float32>(3 * 32))

        let results =
            [|
                for panel in 0 .. panels - 1 do
                    let own = chosen[32 * panel .. 32 * panel + lanes panel - 1]
                    let outcome = outcomes[panel]
                    advance (panel, NetworksReference.panel own actions.Floats, outcome)

                    for lane in 0 .. lanes panel - 1 do
                        float outcome[lane], int (outcome[32 + lane] + 2f * outcome[64 + lane])
            |]

        match environment, arrive with
        | :? IHoldingEnvironment as holding, Some arrive ->
            arrive ()

            for panel in 0 .. panels - 1 do
                holding.Restart(panel, StepOutcome(Span outcomes[panel]))
        | _ -> ()

        results

    let count env (reward, ended) =
        let sum, length = running[env]
        running[env] <- sum + reward, length + 1

        if ended <> 0 then
            finished.Add(sum + reward, length + 1, (ended = 1))
            running[env] <- 0.0, 0

    let collectStep () =
        let seen = look true

        let acted =
            seen |> Array.mapi (fun env (x, _) -> act actorSpec actor actorMemory env x)

        let valued =
            seen |> Array.mapi (fun env (_, x) -> act criticSpec critic criticMemory env x)

        let outputs = Array.map fst acted
        let labels = advice ()

        let chosen =
            draw outputs
            |> Array.mapi (fun env own ->
                if
                    teacher.IsSome
                    && float (acting.Uniform(uint32 env, uint32 steps)) < config.Beta.At iteration
                then
                    labels[env]
                else
                    own)

        let samples =
            Array.init envs (fun env ->
                {
                    Actor = fst seen[env]
                    Critic = snd seen[env]
                    Action = chosen[env]
                    Outputs = outputs[env]
                    LogProbability = logProbability outputs[env] (logStd ()) chosen[env]
                    Value = (fst valued[env])[0]
                    Beyond = (fst valued[env])[0]
                    Label = labels[env]
                    Keep = if starting[env] then 0.0 else 1.0
                })

        actorMemory <- Array.map snd acted
        criticMemory <- Array.map snd valued

        let valueArrived () =
            look false
            |> Array.iteri (fun env (_, x) ->
                let y, _, _ = NetworksReference.forward criticSpec critic x criticMemory[env]
                samples[env].Beyond <- y[0])

        let results =
            execute
                chosen
                (if config.TimeOutBootstrap = Nullable Bootstrap.Reached then
                     Some valueArrived
                 else
                     None)

        results |> Array.iteri count
        results |> Array.iteri (fun env (_, ended) -> starting[env] <- ended <> 0)
        steps <- steps + 1
        samples, results

    /// Gradient of the loss of one sample (not yet divided by the number of samples) with respect to outputs and log_std.
    let actorSlopes sample advantage outputs (logStd: float[]) =
        let ratio =
            exp (logProbability outputs logStd sample.Action - sample.LogProbability)

        let clipped =
            Math.Clamp(ratio, 1.0 - config.ClipParam.Value, 1.0 + config.ClipParam.Value)

        let stopped = advantage < 0.0 && ratio > dualClip ()

        let slope =
            if -advantage * ratio >= -advantage * clipped && not stopped then
                -advantage * ratio
            else
                0.0

        let ppo, guidance =
            config.PpoCoef.At iteration,
            (if teacher.IsSome then
                 config.DistillationCoef.At iteration
             else
                 0.0)

        let slope, bonus = ppo * slope, ppo * config.EntropyCoef.Value

        if actions.Discrete then
            let p = probabilities outputs
            let entropy = categoricalEntropy outputs

            p
            |> Array.mapi (fun i p ->
                let chosen = if i = int sample.Action[0] then 1.0 else 0.0

                let behavior =
                    if guidance > 0.0 then
                        guidance * (p - (if i = int sample.Label[0] then 1.0 else 0.0))
                    else
                        0.0

                slope * (chosen - p) + bonus * p * (log p + entropy) + behavior),
            [||]
        else
            let deviation =
                Array.map3 (fun a m s -> (a - m) / exp s) sample.Action outputs logStd

            let behavior =
                if guidance > 0.0 then
                    Array.map2 (fun m t -> guidance * 2.0 * (m - t) / float actions.Size) outputs sample.Label
                else
                    Array.map (fun _ -> 0.0) outputs

            Array.map3 (fun d s b -> slope * d / exp s + b) deviation logStd behavior,
            Array.map (fun d -> slope * (d * d - 1.0) - bonus) deviation

    let criticSlope sample target value =
        let limit = config.ClipParam.Value
        let kept = sample.Value + Math.Clamp(value - sample.Value, -limit, limit)

        if config.UseClippedValueLoss && abs (kept - target) > abs (value - target) then
            0.0
        else
            2.0 * config.ValueLossCoef.Value * (value - target)

    /// One step of both optimizers; returns the means of value loss, surrogate, entropy and KL divergence.
    let learn (batch: Unit[]) oldLogStd =
        let scale = 1.0 / float (batch |> Array.sumBy _.Samples.Length)
        let actorGradient = Array.zeroCreate<float> actor.Length
        let criticGradient = Array.zeroCreate<float> critic.Length
        let sums = Array.zeroCreate<float> 4

        let clip =
            if config.UseClippedValueLoss then
                Some config.ClipParam.Value
            else
                None

        /// Through the steps of a unit and back; `slope` gives the gradient of the loss by the outputs of a step.
        let through
            spec
            parameters
            gradient
            observation
            memory
            (slope: int -> float[] -> float[])
            (unit: Unit)
            =
            let mutable memory = memory

            let passes =
                [
                    for i in 0 .. unit.Samples.Length - 1 do
                        let before = Array.map ((*) unit.Samples[i].Keep) memory

                        let y, next, kept =
                            NetworksReference.forward spec parameters (observation unit.Samples[i]) before

                        memory <- next
                        i, slope i y, kept
                ]

            let mutable dMemory = Array.map (fun _ -> 0.0) memory

            for i, dOutputs, kept in List.rev passes do
                let _, before =
                    NetworksReference.backward
                        spec
                        parameters
                        gradient
                        kept
                        (Array.map ((*) scale) dOutputs)
                        dMemory

                dMemory <- Array.map ((*) unit.Samples[i].Keep) before

        for unit in batch do
            let deviation = logStd ()

            unit
            |> through actorSpec actor actorGradient _.Actor unit.ActorMemory (fun i outputs ->
                let sample, advantage = unit.Samples[i], unit.Advantages[i]
                let dOutputs, dLogStd = actorSlopes sample advantage outputs deviation

                dLogStd
                |> Array.iteri (fun i d ->
                    let place = actor.Length - deviations + i
                    actorGradient[place] <- actorGradient[place] + scale * d)

                let now = logProbability outputs deviation sample.Action

                [|
                    0.0
                    if config.PpoCoef.At iteration = 0.0 then
                        0.0
                    else
                        let loss = surrogate config.ClipParam.Value advantage now sample.LogProbability

                        if advantage < 0.0 then
                            min loss (-advantage * dualClip ())
                        else
                            loss
                    if actions.Discrete then
                        categoricalEntropy outputs
                    else
                        gaussianEntropy deviation
                    if actions.Discrete then
                        categoricalKl sample.Outputs outputs
                    else
                        gaussianKl sample.Outputs oldLogStd outputs deviation
                |]
                |> Array.iteri (fun i term -> sums[i] <- sums[i] + scale * term)

                dOutputs)

            unit
            |> through criticSpec critic criticGradient _.Critic unit.CriticMemory (fun i values ->
                sums[0] <- sums[0] + scale * valueLoss clip unit.Samples[i].Value unit.Returns[i] values[0]
                [| criticSlope unit.Samples[i] unit.Returns[i] values[0] |])

        if
            config.Schedule = RateSchedule.Adaptive
            && (teacher.IsNone || config.DistillationCoef.At iteration = 0.0)
        then
            let kl = sums[3]

            if kl > 2.0 * config.DesiredKl.Value then
                rate <- max config.MinLearningRate.Value (rate / 1.5)
            elif kl > 0.0 && kl < config.DesiredKl.Value / 2.0 then
                rate <- min config.MaxLearningRate.Value (rate * 1.5)

        if iteration >= config.CriticWarmup then
            actorOptimizer.Step(actorGradient, rate)

        criticOptimizer.Step(
            criticGradient,
            Option.ofNullable config.CriticLearningRate |> Option.map _.Value |> Option.defaultValue rate
        )

        sums

    let standardize (values: float[]) =
        let mean = Array.average values
        let square = values |> Array.sumBy (fun v -> (v - mean) ** 2.0)
        let std = sqrt (square / float (max 1 (values.Length - 1)))
        values |> Array.map (fun v -> (v - mean) / (std + 1e-8))

    /// The bounds of n parts of the shuffled samples: whole panels of 32, the last of which may be shorter.
    let parts n (shuffled: 'a[]) =
        let panels = (shuffled.Length + 31) / 32

        [|
            for part in 0 .. n - 1 do
                shuffled[32 * (part * panels / n) .. min (32 * ((part + 1) * panels / n)) shuffled.Length - 1]
        |]

    member _.Actor = actor
    member _.Critic = critic

    /// (mean, variance, count) of the actor's and the critic's observations.
    member _.Statistics = [ for s in [ ofActor; ofCritic ] -> s.Mean, s.Variance, s.Count ]

    /// How many episodes have terminated, and how many were truncated.
    member _.Ends =
        let terminated = finished |> Seq.filter (fun (_, _, t) -> t) |> Seq.length
        terminated, finished.Count - terminated

    /// The numbers that a report must have after the iteration.
    member _.Iterate() =
        for panel in 0 .. panels - 1 do
            if float (restarts.Uniform(uint32 panel, uint32 iteration)) < config.RestartProbability.Value then
                environment.Reset panel

                for env in 32 * panel .. 32 * panel + lanes panel - 1 do
                    running[env] <- 0.0, 0
                    starting[env] <- true

        let before = actorMemory, criticMemory
        let collected = Array.init config.StepsPerEnv (fun _ -> collectStep ())

        let last =
            look false |> Array.mapi (fun env (_, x) -> (fst (act criticSpec critic criticMemory env x))[0])

        let advantage =
            Array.init envs (fun env ->
                let rewards =
                    collected |> Array.map (fun (_, r) -> config.RewardScale.Value * fst r[env])

                let ends = collected |> Array.map (fun (_, r) -> snd r[env])
                let values = collected |> Array.map (fun (s, _) -> s[env].Value)

                advantages
                    config.Gamma.Value
                    config.Lambda.Value
                    rewards
                    (Array.append values [| last[env] |])
                    (collected |> Array.map (fun (s, _) -> s[env].Beyond))
                    ends)

        let length = if recurrent then config.StepsPerEnv else 1
        let order = Array.zeroCreate<int>(envs * config.StepsPerEnv / length)
        shuffling.Permutation(order, uint32 iteration)

        let shuffled =
            order
            |> Array.map (fun place ->
                let first, env = place / envs, place % envs

                let samples =
                    [| for step in first .. first + length - 1 -> (fst collected[step])[env] |]

                let own = Array.sub advantage[env] first length

                {
                    Samples = samples
                    Advantages = own
                    Returns = Array.map2 (fun (sample: Sample) a -> sample.Value + a) samples own
                    ActorMemory = (fst before)[env]
                    CriticMemory = (snd before)[env]
                })

        let batches = min config.NumMiniBatches.Whole ((shuffled.Length + 31) / 32)

        let batches =
            [|
                for part in parts (if config.NormalizeAdvantagePerMiniBatch then batches else 1) shuffled do
                    let standard =
                        part |> Array.collect _.Advantages |> standardize |> Array.chunkBySize length

                    yield! Array.map2 (fun unit own -> { unit with Advantages = own }) part standard
            |]
            |> parts batches

        if config.Schedule = RateSchedule.Fixed then
            rate <- config.Optimizer.LearningRate.At iteration

        let oldLogStd = logStd ()

        let losses =
            [|
                for _ in 1 .. config.NumLearningEpochs.Whole do
                    for batch in batches do
                        learn batch oldLogStd
            |]

        if config.Actor.NormalizeObservations && iteration >= config.CriticWarmup then
            ofActor.Refresh()

        if config.Critic.NormalizeObservations && not shared then
            ofCritic.Refresh()

        iteration <- iteration + 1
        let recent = finished |> Seq.skip (max 0 (finished.Count - 100)) |> Seq.toArray

        let loss i =
            losses |> Array.averageBy (fun terms -> terms[i])

        [
            "iteration", float (iteration - 1)
            "steps collected", float (steps * envs)
            "steps", float (config.StepsPerEnv * envs)
            "value loss", loss 0
            "surrogate loss", loss 1
            "entropy", loss 2
            "kl", loss 3
            "learning rate", rate
            if not actions.Discrete then
                "mean std", logStd () |> Array.averageBy exp
            if recent.Length > 0 then
                "mean return", recent |> Array.averageBy (fun (r, _, _) -> r)
                "mean length", recent |> Array.averageBy (fun (_, l, _) -> float l)
                "share terminated", recent |> Array.averageBy (fun (_, _, t) -> if t then 1.0 else 0.0)
        ]

    interface IDisposable with
        member _.Dispose() = environment.Dispose()
