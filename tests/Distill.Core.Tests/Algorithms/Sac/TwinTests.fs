/// Whole iterations of SAC against plain loops in double precision, with every setting on and off.
module Distill.Tests.SacTwinTests

open System
open System.Runtime.InteropServices
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Xunit
open Distill.Tests.DistillationTestbed

/// Every part of the algorithm has a say in the first iterations: uniform actions at the start, updates that are not one per
/// step, a batch that fills no panel, a replay that overflows. Adam's epsilon keeps small what is only rounding in a gradient.
let private everything =
    SacConfig(
        Seed = 5UL,
        Iterations = 5,
        StepsPerEnv = 7,
        WarmupSteps = 90,
        LearningStarts = 100,
        UpdateToData = 0.05,
        ActorInterval = 2,
        TargetInterval = 3,
        MiniBatchSize = 40,
        Gamma = 0.9,
        Polyak = 0.1,
        ReplayCapacity = 600,
        CriticLearningRate = 6e-3,
        AlphaLearningRate = 2e-2,
        InitialAlpha = 0.3,
        Actor = dense "tracking" [ 9; 7 ] true,
        Critic = dense "teacher" [ 12; 8 ] true,
        Optimizer = AdamConfig(LearningRate = 4e-3, Epsilon = 1e-3, MaxGradNorm = 0.5)
    )

/// The settings with some of them changed.
let private but (changes: (string * objnull) list) =
    let config = SacConfig()

    for property in typeof<SacConfig>.GetProperties() do
        if property.CanWrite then
            let changed = changes |> List.tryFind (fst >> (=) property.Name)

            let value =
                match changed |> Option.map snd with
                | Some(:? float as number) when property.PropertyType <> typeof<Nullable<float>> ->
                    box (Schedule.op_Implicit number)
                | Some value -> value
                | None -> property.GetValue everything

            property.SetValue(config, value)

    config

let private variants: (string * objnull) list list =
    [
        []
        [
            "EntropyTarget", EntropyTarget.Undiscounted
            "Critic", dense "tracking" [ 12; 8 ] false
            "TargetEntropy", -2.0
            "ActorInterval", 1
            "TargetInterval", 1
        ]
        [
            "EntropyTarget", EntropyTarget.Undiscounted
            "WarmupSteps", 0
            "AlphaLearningRate", 0.0
            "UpdateToData", Schedule.Linear(0.01, 0.1, 3)
            "Polyak", 1.0
        ]
        [
            "Gamma", Schedule.Linear(0.5, 0.99, 3)
            "CriticLearningRate", null
            "MiniBatchSize", 160
            "Actor", dense "teacher" [ 9 ] false
            "Critic", dense "teacher" [ 12; 8 ] true
            "Optimizer", AdamConfig(LearningRate = 4e-3, Epsilon = 1e-3, Floor = 1e-3, MaxGradNorm = 0.0)
        ]
    ]

/// The environments, which begin new episodes at once.
type private Restarting(inner: IEnvironmentConfig) =
    interface IEnvironmentConfig with
        member _.Envs = inner.Envs
        member _.Spec = inner.Spec
        member _.Create(envs, seed) = new Recording(inner.Create(envs, seed))

/// All blocks of a part of the state, one after the other.
let private part (name: string) (blocks: (string * byte[])[]) =
    blocks
    |> Array.filter (fst >> _.StartsWith(name))
    |> Array.collect (fun (_, bytes) -> MemoryMarshal.Cast<byte, float32>(ReadOnlySpan bytes).ToArray())
    |> Array.map float

/// The numbers of a report under the twin's names.
let private numbers (report: SacReport) =
    [
        for name, value in
            [
                "steps", Nullable(float report.StepsCollected)
                "updates", Nullable(float report.Updates)
                "critic", report.CriticLoss
                "value", report.Value
                "actor", report.ActorLoss
                "entropy", report.Entropy
                "alpha", Nullable report.Alpha
                "transitions", Nullable(float report.Transitions)
                "likeness", report.Likeness
                "return", report.MeanReturn
                "length", report.MeanEpisodeLength
                "terminated", report.ShareTerminated
            ] do
            if value.HasValue then
                name, value.Value
    ]

/// The largest difference, as a share of how far the weights have moved.
let private sameWeights (start: float[]) (actual: float[]) (expected: float[]) what =
    let moved = Array.map2 (-) expected start |> Array.map abs |> Array.max
    let off = Array.map2 (-) actual expected |> Array.map abs |> Array.max
    Expect.isTrue (moved > 1e-3) $"{what} moved by {moved} only"
    Expect.isTrue (off <= 5e-4 * moved) $"{what} moved by {moved:G4} and are off by {off:G4}"

let private critics = [ "critic_1"; "critic_2" ]

/// Trains both for three iterations; returns the twin's ends of episodes, and the transitions that were not kept.
let private agreeBeside (guide: Policy option) (environment: IEnvironmentConfig) changes =
    let config = but changes
    use pool = new WorkerPool(2)

    use teacher =
        guide
        |> Option.map (fun guide -> TeacherPolicies.Of(guide, environment.Spec) :> ITeachers)
        |> Option.toObj

    use sac = new Sac(config, environment, pool, teacher)
    let start = bytes sac.Visit
    let first name = part (name + ".network.") start

    use twin =
        new SacReference.Twin(
            config,
            environment,
            part "actor." start,
            [| for name in critics -> first name |],
            guide
            |> Option.map (fun guide ->
                {
                    Network = guide.Network.Spec
                    Parameters = part "" (bytes guide.Network.Visit)
                    Group = guide.ObservationGroup
                })
        )

    for iteration in 1..3 do
        let what = $"{changes}, iteration {iteration}"
        let expected = twin.Iterate()
        let actual = numbers (sac.Iterate())
        Expect.equal (List.map fst actual) (List.map fst expected) $"{what}: reported"

        for (name, a), (_, e) in List.zip actual expected do
            Expect.close (1e-5 + 1e-4 * abs e) a e $"{what}: {name}"

        let state = bytes sac.Visit

        if iteration > 1 then
            sameWeights (part "actor." start) (part "actor." state) twin.Actor $"{what}: the actor's weights"

            for name, weights, target in
                List.zip3 critics (List.ofArray twin.Critics) (List.ofArray twin.Targets) do
                sameWeights (first name) (part (name + ".network.") state) weights $"{what}: {name}"
                sameWeights (first name) (part (name + ".target.") state) target $"{what}: {name}'s target"

        for (name, part'), (mean, variance, count) in
            List.zip [ "actor", config.Actor; "critic", config.Critic ] twin.Statistics do
            if part'.NormalizeObservations then
                Expect.closeAll 1e-5 (part $"{name}_normaliser.mean" state) mean $"{what}: {name}'s mean"
                let _, bytes = state |> Array.find (fst >> (=) $"{name}_normaliser.count")
                Expect.equal (BitConverter.ToInt64 bytes) (int64 count) $"{what}: {name}'s count"

    twin.Ends, twin.Dropped

let private agree environment changes = agreeBeside None environment changes

/// Many start close to the limits of their flight. 40 environments fill a panel and a part of another.
let private drones =
    QuadrotorConfig(
        Envs = 40,
        EpisodeLimit = 4,
        InitialStates = InitialStates(MaxPosition = 0.9, MaxLinearVelocity = 1.9)
    )

[<Fact>]
let ``Three iterations on the quadrotor are those of plain loops, with every setting on and off`` () =
    for variant in variants do
        let (terminated, truncated), dropped = agree drones variant
        Expect.isTrue (terminated > 5 && truncated > 50) $"{terminated} terminated, {truncated} truncated"
        Expect.equal dropped 0 "transitions that were not kept"

[<Fact>]
let ``Where an environment does not show the ends of its episodes, transitions into time-outs are not kept``
    ()
    =
    let (_, truncated), dropped = agree (Restarting drones) []
    Expect.isTrue (truncated > 50) $"{truncated} truncated"
    Expect.equal dropped truncated "transitions that were not kept"

[<Fact>]
let ``One environment and more updates than steps are those of plain loops`` () =
    let one = QuadrotorConfig(Envs = 1, EpisodeLimit = 4)

    agree
        one
        [
            "UpdateToData", 1.5
            "WarmupSteps", 2
            "LearningStarts", 3
            "ReplayCapacity", 9
            "MiniBatchSize", 3
            "Optimizer", AdamConfig(LearningRate = 1e-2, Epsilon = 1e-3, MaxGradNorm = 0.5)
        ]
    |> ignore

[<Fact>]
let ``The bonus for doing as a guide does is that of plain loops, until it has faded`` () =
    let guide (spec: StudentConfig) head =
        let shown = drones.Create(1, 0UL).Spec

        spec.Create(shown.Groups[shown.Group spec.ObservationGroup].Size, 4, head, RandomStream(3UL, "guide"))

    // The last iteration is without: the guide is not asked there.
    let fading = Schedule.Linear(2.0, 0.0, 2)

    for guide, bonus in
        [
            guide (GruStudent(ObservationGroup = "tracking", Hidden = 5)) Head.SquashedGaussian,
            ImitationBonus(Weight = fading)
            guide (dense "teacher" [ 6 ] false) Head.Gaussian, ImitationBonus(Weight = 3.0, Deviation = 0.8)
            guide (dense "teacher" [ 6 ] false) Head.SquashedGaussian,
            ImitationBonus(Weight = 3.0, LeastDeviation = 1.7)
        ] do
        agreeBeside (Some guide) drones [ "Imitation", bonus ] |> ignore

[<Fact>]
let ``A guide that drives the first steps is that of plain loops, with and without a bonus`` () =
    let shown = drones.Create(1, 0UL).Spec

    let guide () =
        (dense "teacher" [ 6 ] false)
            .Create(shown.Groups[shown.Group "teacher"].Size, 4, Head.Gaussian, RandomStream(3UL, "guide"))

    let bonus: (string * objnull) list =
        [ "Imitation", ImitationBonus(Weight = 3.0, Deviation = 0.8) ]

    for bonus in [ []; bonus ] do
        agreeBeside (Some(guide ())) drones (("GuidedSteps", 150) :: bonus) |> ignore
