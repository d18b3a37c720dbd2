/// SAC as plain loops in double precision, one sample at a time: an independent twin of the whole algorithm. It shares
/// nothing with the product but the random numbers, the environments and the networks' first weights.
module Distill.Tests.SacReference

open System
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Networks

/// An action drawn with this noise and its log-probability.
let draw (outputs: float[]) (noise: float[]) =
    let size = noise.Length
    let std i = exp outputs[size + i]
    let action = Array.init size (fun i -> tanh (outputs[i] + std i * noise[i]))

    action,
    Seq.sum (
        seq {
            for i in 0 .. size - 1 do
                -0.5 * noise[i] ** 2.0
                - outputs[size + i]
                - 0.5 * log (2.0 * Math.PI)
                - log (1.0 - action[i] ** 2.0 + 1e-6)
        }
    )

/// The gradient of f = dAction . action + dLogProbability log p by the outputs, from the chain rule of every term.
let drawBackward (outputs: float[]) (noise: float[]) (dAction: float[]) (dLogProbability: float) =
    let size = noise.Length
    let action, _ = draw outputs noise

    let dBefore =
        Array.init size (fun i ->
            let slope = 1.0 - action[i] ** 2.0
            slope * (dAction[i] + dLogProbability * 2.0 * action[i] / (slope + 1e-6)))

    Array.append
        dBefore
        (Array.init size (fun i -> dBefore[i] * exp outputs[size + i] * noise[i] - dLogProbability))

/// One step of one environment.
type private Transition =
    {
        Actor: float[]
        Critic: float[]
        Action: float[]
        Reward: float
        NextActor: float[]
        NextCritic: float[]
        Terminated: bool
        Likeness: float
    }

/// Who guides a twin: a network that gives mean and log-deviation, of a squashed Gaussian or a plain one.
type Guide = { Network: NetworkSpec; Parameters: float[]; Group: string }

/// A twin of a Sac with the same settings whose networks start from the given parameters.
type Twin
    (
        config: SacConfig,
        description: IEnvironmentConfig,
        actor: float[],
        critics: float[][],
        guide: Guide option
    ) =
    let environment =
        description.Create(description.Envs, RandomStream(config.Seed, "training").Seed())

    let holding =
        match environment with
        | :? IHoldingEnvironment as holding -> Some holding
        | _ -> None

    let envs = environment.Count
    let panels = (envs + 31) / 32
    let lanes panel = min 32 (envs - 32 * panel)
    let actions = environment.Spec.Actions.Size

    let size group =
        environment.Spec.Groups[environment.Spec.Group group].Size

    let actorGroup, criticGroup =
        config.Actor.ObservationGroup, config.Critic.ObservationGroup

    let actorSpec =
        config.Actor.Network(size actorGroup, actions, Head.SquashedGaussian)

    let criticSpec = config.Critic.Network(size criticGroup + actions, 1, Head.Plain)
    let targets = critics |> Array.map Array.copy
    let ofActor = NetworksReference.Statistics(size actorGroup)
    let ofCritic = NetworksReference.Statistics(size criticGroup)
    let actorOptimizer = NetworksReference.PlainAdam(config.Optimizer, actor)

    let criticOptimizers =
        critics |> Array.map (fun critic -> NetworksReference.PlainAdam(config.Optimizer, critic))

    let logAlpha = [| log config.InitialAlpha |]
    let alphaOptimizer = NetworksReference.PlainAdam(config.Optimizer, logAlpha)
    let noise = RandomStream(config.Seed, "sac.action")
    let warmup = RandomStream(config.Seed, "sac.warmup")
    let drawing = RandomStream(config.Seed, "sac.batch")
    let noising = RandomStream(config.Seed, "sac.noise")
    let replay = Array.zeroCreate<Transition> config.ReplayCapacity
    let running = Array.create envs (0.0, 0)
    let finished = ResizeArray<float * int * bool>()

    let memories =
        Array.init envs (fun _ ->
            guide
            |> Option.map (fun guide ->
                guide.Network.Layers |> Seq.sumBy NetworksReference.memorySize |> Array.zeroCreate<float>)
            |> Option.defaultValue [||])

    let alike = ResizeArray<float>()
    let mutable added = 0
    let mutable dropped = 0
    let mutable iteration = 0
    let mutable steps = 0
    let mutable updates = 0
    let mutable owed = 0.0

    do
        for panel in 0 .. panels - 1 do
            environment.Reset panel

    let run spec parameters x =
        let y, _, kept = NetworksReference.forward spec parameters x [||]
        y, kept

    let backward spec parameters gradient kept dy =
        NetworksReference.backward spec parameters gradient kept dy [||] |> fst

    let observe group panel =
        let values = Array.zeroCreate<float32>(32 * size group)
        environment.Observe(panel, environment.Spec.Group group, values)
        Array.init (lanes panel) (NetworksReference.lane values)

    let shown (part: StudentConfig) (statistics: NetworksReference.Statistics) x =
        if part.NormalizeObservations then statistics.Apply x else x

    let forActor = shown config.Actor ofActor
    let forCritic = shown config.Critic ofCritic

    let normals (stream: RandomStream) first (step: int) =
        let values = Array.zeroCreate<float32>(32 * actions)
        stream.Normals(values, uint32 first, uint32 step)
        NetworksReference.lane values

    let choose panel (observations: float[][]) =
        let own = normals noise (32 * panel) steps

        observations
        |> Array.mapi (fun lane x ->
            if steps * envs < config.WarmupSteps then
                let env = uint32 (32 * panel + lane)

                Array.init actions (fun i ->
                    2.0 * float (warmup.Uniform(env, uint32 steps, 0u, uint32 i)) - 1.0)
            else
                let y, _ = run actorSpec actor (forActor x)
                draw y (own lane) |> fst |> Array.map (float32 >> float))

    let meanOf (guide: Guide) (outputs: float[]) i =
        match guide.Network.Head with
        | Head.SquashedGaussian -> tanh outputs[i]
        | _ -> outputs[i]

    /// A product of bells, one for each number of the action.
    let likeness (guide: Guide) (bonus: ImitationBonus) (outputs: float[]) (action: float[]) =
        action
        |> Array.mapi (fun i a ->
            let mean = meanOf guide outputs i

            let sigma =
                match Option.ofNullable bonus.Deviation with
                | Some given -> given
                | None -> exp outputs[actions + i]
                |> max bonus.LeastDeviation

            exp (-(((a - mean) / sigma) ** 2.0) / 2.0))
        |> Array.reduce (*)

    /// What is done and how much it is like what the guide would do, where that counts in this iteration or a later one.
    let advise panel (chosen: float[][]) =
        let bonus =
            match config.Imitation with
            | NonNull bonus when
                [ iteration .. config.Iterations - 1 ]
                |> List.exists (fun later -> bonus.Weight.At later > 0.0)
                ->
                Some bonus
            | _ -> None

        let drives = steps * envs < config.GuidedSteps

        match guide with
        | Some guide when drives || bonus.IsSome ->
            let seen = observe guide.Group panel

            [|
                for lane in 0 .. lanes panel - 1 do
                    let env = 32 * panel + lane

                    let outputs, after, _ =
                        NetworksReference.forward guide.Network guide.Parameters seen[lane] memories[env]

                    memories[env] <- after

                    let action =
                        if drives then
                            Array.init actions (fun i ->
                                meanOf guide outputs i |> max -1.0 |> min 1.0 |> float32 |> float)
                        else
                            chosen[lane]

                    match bonus with
                    | Some bonus ->
                        let likeness = likeness guide bonus outputs action
                        alike.Add likeness
                        action, likeness
                    | None -> action, 0.0
            |]
        | _ -> chosen |> Array.map (fun action -> action, 0.0)

    let count env reward terminated truncated =
        let sum, length = running[env]
        running[env] <- sum + reward, length + 1

        if terminated || truncated then
            Array.Clear memories[env]
            finished.Add(sum + reward, length + 1, terminated)
            running[env] <- 0.0, 0

    let stepPanel panel =
        let seen, ofCritics = observe actorGroup panel, observe criticGroup panel

        for x in seen do
            ofActor.Add x

        for x in ofCritics do
            ofCritic.Add x

        let chosen, likeness = choose panel seen |> advise panel |> Array.unzip
        let rows = Array.zeroCreate<float32>(StepOutcome.Rows * 32)
        let given = NetworksReference.panel chosen actions

        match holding with
        | Some holding -> holding.Advance(panel, ReadOnlySpan given, StepOutcome(Span rows))
        | None -> environment.Step(panel, ReadOnlySpan given, StepOutcome(Span rows))

        let next, nextOfCritics = observe actorGroup panel, observe criticGroup panel

        holding |> Option.iter _.Restart(panel, StepOutcome(Span rows))

        for lane in 0 .. lanes panel - 1 do
            let reward, terminated, truncated =
                float rows[lane], rows[32 + lane] <> 0f, rows[64 + lane] <> 0f

            count (32 * panel + lane) reward terminated truncated

            if truncated && holding.IsNone then
                dropped <- dropped + 1
            else
                replay[added % replay.Length] <-
                    {
                        Actor = seen[lane]
                        Critic = ofCritics[lane]
                        Action = chosen[lane]
                        Reward = reward
                        NextActor = next[lane]
                        NextCritic = nextOfCritics[lane]
                        Terminated = terminated
                        Likeness = likeness[lane]
                    }

                added <- added + 1

    let held () = min added replay.Length

    /// The drawn transitions, each with its noise.
    let batch () =
        Array.init config.MiniBatchSize (fun i ->
            let struct (high, low, _, _) = drawing.Bits(uint32 i, uint32 updates)
            let place = (((bigint high <<< 32) + bigint low) * bigint (held ())) >>> 64
            let own = normals noising (i / 32 * 32) updates
            replay[int place], own (i % 32))

    let q parameters observation action =
        let y, kept =
            run criticSpec parameters (Array.append (forCritic observation) action)

        y[0], kept

    let target alpha (t: Transition, own: float[]) =
        let outputs, _ = run actorSpec actor (forActor t.NextActor)
        let action, logProbability = draw outputs own

        let value =
            targets |> Array.map (fun p -> fst (q p t.NextCritic action)) |> Array.min

        let bonus = -alpha * logProbability

        let earned =
            match config.Imitation with
            | null -> t.Reward
            | bonus -> t.Reward + bonus.Weight.At iteration * t.Likeness

        let goesOn = if t.Terminated then 0.0 else config.Gamma.At iteration

        match config.EntropyTarget with
        | EntropyTarget.Discounted -> earned + goesOn * (value + bonus)
        | _ -> earned + goesOn * value + bonus

    let learnCritics alpha (drawn: (Transition * float[])[]) =
        let scale = 1.0 / float drawn.Length
        let aims = drawn |> Array.map (target alpha)
        let mutable loss, value = 0.0, 0.0

        for critic, optimizer in Array.zip critics criticOptimizers do
            let gradient = Array.zeroCreate<float> critic.Length

            for (t, _), aim in Array.zip drawn aims do
                let y, kept = q critic t.Critic t.Action
                loss <- loss + 0.25 * scale * (y - aim) ** 2.0
                value <- value + 0.5 * scale * y
                backward criticSpec critic gradient kept [| scale * (y - aim) |] |> ignore

            let rate =
                config.CriticLearningRate
                |> Option.ofNullable
                |> Option.defaultValue config.Optimizer.LearningRate

            optimizer.Step(gradient, rate.At iteration)

        loss, value

    let learnActor alpha (drawn: (Transition * float[])[]) =
        let scale = 1.0 / float drawn.Length
        let gradient = Array.zeroCreate<float> actor.Length
        let mutable loss, entropy = 0.0, 0.0

        for t, own in drawn do
            let outputs, kept = run actorSpec actor (forActor t.Actor)
            let action, logProbability = draw outputs own
            let passes = critics |> Array.map (fun p -> p, q p t.Critic action)
            let critic, (value, keptByCritic) = passes |> Array.minBy (snd >> fst)
            loss <- loss + scale * (alpha * logProbability - value)
            entropy <- entropy - scale * logProbability

            let dInput =
                backward criticSpec critic (Array.zeroCreate critic.Length) keptByCritic [| -scale |]

            drawBackward outputs own (Array.skip (dInput.Length - actions) dInput) (scale * alpha)
            |> backward actorSpec actor gradient kept
            |> ignore

        actorOptimizer.Step(gradient, config.Optimizer.LearningRate.At iteration)

        let aim =
            config.TargetEntropy |> Option.ofNullable |> Option.defaultValue -(float actions)

        alphaOptimizer.Step([| alpha * (entropy - aim) |], config.AlphaLearningRate.At iteration)
        loss, entropy

    let update () =
        let alpha = exp logAlpha[0]
        let drawn = batch ()
        let critic, value = learnCritics alpha drawn

        if updates % config.TargetInterval = 0 then
            let share = config.Polyak.At iteration

            for target, critic in Array.zip targets critics do
                for i in 0 .. target.Length - 1 do
                    target[i] <- target[i] + share * (critic[i] - target[i])

        let ofActor =
            if updates % config.ActorInterval = 0 then
                [ learnActor alpha drawn ]
            else
                []

        updates <- updates + 1
        (critic, value), ofActor

    member _.Actor = actor
    member _.Critics = critics
    member _.Targets = targets
    member _.Dropped = dropped

    /// Mean and variance of the actor's observations, and of the critics'.
    member _.Statistics = [ for s in [ ofActor; ofCritic ] -> s.Mean, s.Variance, s.Count ]

    /// How many episodes terminated, and how many were truncated.
    member _.Ends =
        Seq.length (Seq.filter (fun (_, _, terminated) -> terminated) finished),
        Seq.length (Seq.filter (fun (_, _, terminated) -> not terminated) finished)

    member _.Iterate() : (string * float) list =
        alike.Clear()

        let done' =
            [
                for _ in 1 .. config.StepsPerEnv do
                    for panel in 0 .. panels - 1 do
                        stepPanel panel

                    steps <- steps + 1

                    if steps * envs > config.LearningStarts then
                        owed <- owed + config.UpdateToData.At iteration * float envs

                        while owed >= 1.0 do
                            update ()
                            owed <- owed - 1.0
            ]

        for part, statistics in [ config.Actor, ofActor; config.Critic, ofCritic ] do
            if part.NormalizeObservations then
                statistics.Refresh()

        iteration <- iteration + 1
        let recent = finished |> Seq.skip (max 0 (finished.Count - 100)) |> Seq.toList
        let byActor = done' |> List.collect snd

        [
            "steps", float (steps * envs)
            "updates", float updates
            if not done'.IsEmpty then
                "critic", done' |> List.averageBy (fst >> fst)
                "value", done' |> List.averageBy (fst >> snd)
            if not byActor.IsEmpty then
                "actor", byActor |> List.averageBy fst
                "entropy", byActor |> List.averageBy snd
            "alpha", exp logAlpha[0]
            "transitions", float (held ())
            if alike.Count > 0 then
                "likeness", Seq.average alike
            if not recent.IsEmpty then
                "return", recent |> List.averageBy (fun (sum, _, _) -> sum)
                "length", recent |> List.averageBy (fun (_, length, _) -> float length)
                "terminated", recent |> List.averageBy (fun (_, _, t) -> if t then 1.0 else 0.0)
        ]

    interface IDisposable with
        member _.Dispose() = environment.Dispose()
