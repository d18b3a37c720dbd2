/// Whole iterations of PPO against plain loops in double precision, with every setting on and off.
module Distill.Tests.PpoTwinTests

open System
open System.Runtime.InteropServices
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Xunit
open Distill.Tests.DistillationTestbed

/// Every part of the algorithm has a say in the first iterations: samples beyond the clip ranges of ratio and value,
/// gradients that are clipped, rates that move, advantages far from standard. Adam's epsilon keeps small what is only
/// rounding in a gradient.
let private everything =
    PpoConfig(
        Seed = 5UL,
        Iterations = 5,
        StepsPerEnv = 6,
        RestartProbability = 0.4,
        NumLearningEpochs = 3,
        NumMiniBatches = 3,
        ClipParam = 0.05,
        Gamma = 0.97,
        Lambda = 0.9,
        ValueLossCoef = 0.7,
        EntropyCoef = 0.05,
        DesiredKl = 0.004,
        RewardScale = 0.3,
        InitStd = 0.4,
        Actor = dense "tracking" [ 9; 7 ] true,
        Critic = dense "teacher" [ 8 ] true,
        Optimizer = AdamConfig(LearningRate = 4e-3, Epsilon = 1e-3, MaxGradNorm = 0.3)
    )

/// The settings with some of them changed.
let private but (changes: (string * objnull) list) =
    let config = PpoConfig()

    for property in typeof<PpoConfig>.GetProperties() do
        if property.CanWrite then
            let changed = changes |> List.tryFindBack (fst >> (=) property.Name)

            let value =
                match changed |> Option.map snd with
                | Some(:? float as number) -> box (Schedule.op_Implicit number)
                | Some(:? int as number) when property.PropertyType = typeof<Schedule> ->
                    box (Schedule.op_Implicit number)
                | Some value -> value
                | None -> property.GetValue everything

            property.SetValue(config, value)

    config

let private falling = AdamConfig(LearningRate = Schedule.Linear(1e-3, 1e-4, 3))

let private variants: (string * objnull) list list =
    [
        []
        // The critic's group, so that both share one.
        [ "Actor", dense "teacher" [ 9; 7 ] true ]
        [ "UseClippedValueLoss", false ]
        [ "Actor", dense "teacher" [ 9; 7 ] false; "Critic", dense "teacher" [ 8 ] false ]
        [ "NormalizeAdvantagePerMiniBatch", true ]
        [ "Schedule", RateSchedule.Fixed ]
        [ "Schedule", RateSchedule.Fixed; "Optimizer", falling ]
        [ "Schedule", RateSchedule.Fixed; "Optimizer", falling; "CriticLearningRate", 2e-3 ]
        [ "CriticLearningRate", 2e-3 ]
        [ "DesiredKl", 1e-4 ]
        [ "DesiredKl", 10.0; "MaxLearningRate", 5e-3 ]
        [ "RestartProbability", 0.0 ]
        [ "RestartProbability", 1.0 ]
        [ "EntropyCoef", 0.0 ]
        [ "RewardScale", 1.0 ]
        [ "TimeOutBootstrap", Bootstrap.Before ]
        [ "Gamma", 1.0; "Lambda", 1.0 ]
        [ "Lambda", 0.0 ]
        [ "NumLearningEpochs", 1; "NumMiniBatches", 1 ]
        [ "NumMiniBatches", 100 ]
        [
            "Actor",
            MlpStudent(
                ObservationGroup = "teacher",
                Hidden = [| 9; 7 |],
                Activation = Activation.Tanh,
                NormalizeObservations = true
            )
        ]
        [
            "Optimizer", AdamConfig(LearningRate = 4e-3, Epsilon = 1e-3, MaxGradNorm = 0.0)
            "Schedule", RateSchedule.Fixed
        ]
    ]

/// All blocks of a part of the state, one after the other.
let private part (name: string) (blocks: (string * byte[])[]) =
    blocks
    |> Array.filter (fst >> _.StartsWith(name))
    |> Array.collect (fun (_, bytes) -> MemoryMarshal.Cast<byte, float32>(ReadOnlySpan bytes).ToArray())
    |> Array.map float

/// The numbers of a report under the twin's names.
let private numbers (report: PpoReport) =
    [
        "iteration", float report.Iteration
        "steps collected", float report.StepsCollected
        "steps", float report.Steps
        "value loss", report.ValueLoss
        "surrogate loss", report.SurrogateLoss
        "entropy", report.Entropy
        "kl", report.KlDivergence
        "learning rate", report.LearningRate
        if report.MeanStd.HasValue then
            "mean std", report.MeanStd.Value
        if report.MeanReturn.HasValue then
            "mean return", report.MeanReturn.Value
        if report.MeanEpisodeLength.HasValue then
            "mean length", report.MeanEpisodeLength.Value
        if report.ShareTerminated.HasValue then
            "share terminated", report.ShareTerminated.Value
    ]

/// The largest difference, as a share of how far the weights have moved.
let private sameWeights (start: float[]) (actual: float[]) (expected: float[]) what =
    let moved = Array.map2 (-) expected start |> Array.maxBy abs |> abs
    let off = Array.map2 (-) actual expected |> Array.maxBy abs |> abs
    Expect.isTrue (moved > 1e-3) $"{what} moved by {moved} only"
    Expect.isTrue (off <= 1e-4 * moved) $"{what} moved by {moved:G4} and are off by {off:G4}"

/// Trains both for three iterations; returns how many episodes terminated and how many were truncated.
let private agreeGuided (teacher: Policy option) (environment: IEnvironmentConfig) changes =
    let config = but changes
    use pool = new WorkerPool(2)
    use ppo = new Ppo(config, environment, pool, Option.toObj teacher)
    let start = DistillationTestbed.bytes ppo.Visit
    let actor, critic = part "actor." start, part "critic." start

    for logStd in part "actor.log_std" start do
        Expect.close 1e-6 logStd (log config.InitStd.Value) "log_std at the start"

    use twin =
        new PpoReference.Twin(config, environment, Array.copy actor, Array.copy critic, teacher)

    for iteration in 1..3 do
        let what = $"{changes}, iteration {iteration}"
        let expected = twin.Iterate()
        let actual = numbers (ppo.Iterate())
        Expect.equal (List.map fst actual) (List.map fst expected) $"{what}: reported"

        for (name, a), (_, e) in List.zip actual expected do
            Expect.close (1e-6 + 2e-5 * abs e) a e $"{what}: {name}"

        let state = DistillationTestbed.bytes ppo.Visit

        if iteration <= config.CriticWarmup then
            Expect.equal (part "actor." state) actor $"{what}: the actor's weights"
        else
            sameWeights actor (part "actor." state) twin.Actor $"{what}: the actor's weights"

        sameWeights critic (part "critic." state) twin.Critic $"{what}: the critic's weights"

        let names =
            [
                if config.Actor.NormalizeObservations then
                    "actor_normaliser."

                if
                    config.Critic.NormalizeObservations
                    && config.Actor.ObservationGroup <> config.Critic.ObservationGroup
                then
                    "critic_normaliser."
            ]

        for name, (mean, variance, count) in List.zip names (List.truncate names.Length twin.Statistics) do
            Expect.closeAll 1e-5 (part (name + "mean") state) mean $"{what}: {name}mean"
            Expect.closeAll 1e-5 (part (name + "variance") state) variance $"{what}: {name}variance"
            let _, bytes = state |> Array.find (fst >> (=) (name + "count"))
            Expect.equal (BitConverter.ToInt64 bytes) (int64 count) $"{what}: {name}count"

    twin.Ends

let private agree environment changes = agreeGuided None environment changes

/// Every variant, and that episodes have ended in both ways.
let private agreeOnAll environment changes =
    let ends = [ for variant in variants -> agree environment (changes @ variant) ]
    let terminated, truncated = List.sumBy fst ends, List.sumBy snd ends
    Expect.isTrue (terminated > 200 && truncated > 200) $"{terminated} terminated, {truncated} truncated"

[<Fact>]
let ``Three iterations on the quadrotor are those of plain loops, with every setting on and off`` () =
    // Many start close to the limits of their flight. 70 environments fill two panels and a part of a third.
    let starts = InitialStates(MaxPosition = 0.9, MaxLinearVelocity = 1.9)
    let drones = QuadrotorConfig(Envs = 70, EpisodeLimit = 11, InitialStates = starts)
    agreeOnAll drones []

    agree drones [ "TimeOutBootstrap", Bootstrap.Reached ] |> ignore

[<Fact>]
let ``Three iterations on the cart pole are those of plain loops, with every setting on and off`` () =
    agreeOnAll
        (CartPoleConfig(Envs = 40, EpisodeLimit = 13))
        [ "Actor", dense "state" [ 9; 7 ] true; "StepsPerEnv", 12 ]

/// Networks with memories, and a teacher beside them.
let private more (group: string) : (string * objnull) list list =
    let gru =
        GruStudent(ObservationGroup = group, Hidden = 5, NormalizeObservations = true)

    let distilling: (string * objnull) list =
        [
            "DistillationCoef", Schedule.Linear(1.0, 0.0, 3)
            "PpoCoef", Schedule.Linear(0.0, 1.0, 2)
            "Beta", 0.5
        ]

    [
        [ "Actor", gru ]
        [ "Actor", gru; "Critic", LstmStudent(ObservationGroup = "teacher", Hidden = 4) ]
        [
            "Actor", dense group [ 9; 7 ] true
            "Critic", GruStudent(ObservationGroup = "teacher", Hidden = 4)
            "NormalizeAdvantagePerMiniBatch", true
        ]
        ("Actor", dense group [ 9; 7 ] true) :: distilling
        ("Actor", gru) :: distilling
        ("Actor", dense group [ 9 ] true) :: distilling @ [ "CriticWarmup", 1; "RestartProbability", 0.0 ]
        [ "Actor", dense group [ 9 ] true; "CriticWarmup", 2 ]
    ]

[<Fact>]
let ``With memories and a teacher three iterations on the cart pole are those of plain loops`` () =
    use teacher = cartPoleTeacher ()

    for variant in more "state" do
        agreeGuided (Some teacher) (CartPoleConfig(Envs = 70, EpisodeLimit = 7)) variant |> ignore

[<Fact>]
let ``With memories and a teacher three iterations on the quadrotor are those of plain loops`` () =
    use teacher =
        new Policy(NetworkSpec.Mlp(26, [ 8 ], 4, Activation.Tanh, Head.Gaussian), "teacher")

    teacher.Network.Initialize(RandomStream(3UL, "twin"))

    for variant in more "tracking" do
        agreeGuided (Some teacher) (QuadrotorConfig(Envs = 40, EpisodeLimit = 7)) variant |> ignore

    // The state that a time-out was reached in, as a critic values it that remembers how it got there.
    let lstm = LstmStudent(ObservationGroup = "teacher", Hidden = 4)

    // Some crash before, so that other episodes of the panel go on.
    agree
        (QuadrotorConfig(
            Envs = 40,
            EpisodeLimit = 7,
            InitialStates = InitialStates(MaxPosition = 0.9, MaxLinearVelocity = 1.9)
        ))
        [ "Actor", dense "tracking" [ 9 ] true; "Critic", lstm; "TimeOutBootstrap", Bootstrap.Reached ]
    |> ignore
