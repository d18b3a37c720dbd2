/// Short trainings end with the same bits as ever: students, metrics and what a checkpoint holds. A hash here changes only
/// together with what an algorithm computes, and the commit that changes it says why.
module Distill.Tests.GoldenTests

open System
open System.IO
open System.Security.Cryptography
open System.Runtime.InteropServices
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed

let private short (bytes: byte[]) =
    (Convert.ToHexString(SHA256.HashData bytes)).Substring(0, 12).ToLowerInvariant()

let private numbers (values: float seq) =
    values |> Seq.collect BitConverter.GetBytes |> Seq.toArray

/// Exponentials and logarithms of the C library, which likelihoods and weights use, differ in last bits from library to
/// library; hashes that depend on them were made with one whose results have this hash.
let private sameLibrary =
    let values =
        [|
            for i in 1..4000 do
                let x = float i * 0.0137 - 27.0
                MathF.Exp(float32 x) |> float
                MathF.Log(float32 i * 0.37f) |> float
                Math.Exp x
                Math.Pow(float i * 0.01, 0.6)
        |]

    short (numbers values) = "6b10f315c33c"

let private parameters (policy: Policy) =
    [|
        for view in policy.Network.Views do
            let values = policy.Network.Parameters.Slice(view.Offset, view.Length)
            yield! MemoryMarshal.AsBytes(values).ToArray()
    |]

/// Hashes of the policy, of what the iterations report, and of everything that a checkpoint holds.
let private hashes (policy: Policy) (metrics: float list) (visit: State -> unit) =
    let held = bytes visit |> Array.collect snd
    $"{short (parameters policy)} {short (numbers metrics)} {short held}"

let private quadrotor =
    QuadrotorConfig(Envs = 40, Task = QuadrotorTask.Mixture, EpisodeLimit = 60)

let private distilled (teacher: unit -> Policy) (config: DistillationConfig) =
    use pool = new WorkerPool(2)
    use teacher = teacher ()
    use distillation = new Distillation(config, teacher, pool)

    let metrics =
        [
            for _ in 1..3 do
                let report = distillation.Iterate()
                report.Loss
                report.NewestLoss.GetValueOrDefault()
                report.HistoricalLoss.GetValueOrDefault()
                report.GradientNorm
                report.MeanReturn.GetValueOrDefault()
                float report.DatasetRows
        ]

    hashes distillation.Student metrics distillation.Visit

let private trained (config: PpoConfig) environment =
    use pool = new WorkerPool(2)
    use ppo = new Ppo(config, environment, pool)

    let metrics =
        [
            for _ in 1..3 do
                let report = ppo.Iterate()
                report.ValueLoss
                report.SurrogateLoss
                report.Entropy
                report.LearningRate
                report.MeanReturn.GetValueOrDefault()
        ]

    hashes ppo.Actor metrics ppo.Visit

let private trainedBySac (config: SacConfig) environment =
    use pool = new WorkerPool(2)
    use sac = new Sac(config, environment, pool)

    let metrics =
        [
            for _ in 1..3 do
                let report = sac.Iterate()
                report.CriticLoss.GetValueOrDefault()
                report.ActorLoss.GetValueOrDefault()
                report.Entropy.GetValueOrDefault()
                report.Alpha
                report.MeanReturn.GetValueOrDefault()
        ]

    hashes sac.Actor metrics sac.Visit

let private mlp = MlpStudent(Hidden = [| 24; 16 |], ObservationGroup = "tracking")

let private gru = GruStudent(Hidden = 8, DenseAfter = 8)

let private config (student: StudentConfig) acting retention sampling (loss: Loss) (collection: Collection) =
    DistillationConfig(
        Environment = quadrotor,
        Student = student,
        Acting = acting,
        Retention = retention,
        Sampling = sampling,
        Loss = loss,
        Collection = collection,
        SequenceLength = 15,
        NumLearningEpochs = 2,
        Seed = 5UL
    )

let private byRaptor = distilled raptorTeacher
let private steps = StepsPerIteration 30
let private fifo = FirstInFirstOut 2500L

/// Name, hashes, and what makes them. Those of the first list are the same on every machine.
let private everywhere: (string * string * (unit -> string)) list =
    [
        "rows, two-stage, FIFO",
        "f02325bda806 fe660f8a7d07 35d8d6dd12f2",
        (fun () -> config mlp (TeacherUntil 1) fifo (Permutation()) (MeanSquared()) steps |> byRaptor)
        "rows, normalized, linear beta, reservoir, Huber",
        "a0fcf3b03a88 050d60a2571d a007d2d26248",
        (fun () ->
            let student =
                MlpStudent(
                    Hidden = [| 24 |],
                    ObservationGroup = "teacher",
                    Activation = Activation.Tanh,
                    NormalizeObservations = true
                )

            config student (LinearBeta 3) (Reservoir 2000L) (InOrder()) (Huber 0.1) steps |> byRaptor)
        "sequences, student drives, newest rollout",
        "be2ef02f9906 f444d28be933 64d351849055",
        (fun () ->
            config gru (StudentAlways()) (NewestRollout()) (Permutation()) (MeanSquared()) steps |> byRaptor)
        "sequences, whole episodes",
        "90f1f58c093a f008b6dc4593 cd5f6518e0be",
        (fun () ->
            config gru (TeacherUntil 1) fifo (Permutation()) (MeanSquared()) (EpisodesPerEpoch 20)
            |> byRaptor)
        "sequences, LSTM",
        "50ab6adaef92 32cf6483f403 4582963deb77",
        (fun () ->
            config (LstmStudent(Hidden = 8)) (TeacherUntil 1) fifo (Permutation()) (MeanSquared()) steps
            |> byRaptor)
    ]

let private withThisLibrary: (string * string * (unit -> string)) list =
    [
        "rows, newer ones more often",
        "dae472a67749 1feddf71b759 27fc4b4e0641",
        (fun () ->
            config mlp (ExponentialBeta 0.5) fifo (RecencyWeighted 0.3) (MeanSquared()) steps |> byRaptor)
        "rows, worse ones more often",
        "92ab246ffe31 0ab9ef0eb32f bcb17328ab21",
        (fun () ->
            config mlp (TeacherUntil 1) fifo (LossPrioritized(0.6, 1e-3)) (GaussianLogLikelihood()) steps
            |> byRaptor)
        "choices",
        "d6300bf2b597 62079ff46c9f 7a579b813b88",
        (fun () ->
            DistillationConfig(
                Environment = CartPoleConfig(Envs = 40),
                Student = MlpStudent(Hidden = [| 8 |]),
                Loss = CrossEntropy 0.02,
                Collection = steps,
                Retention = fifo,
                TeacherDeterministic = false,
                Seed = 3UL
            )
            |> distilled cartPoleTeacher)
        "PPO, continuous actions",
        "b52146db3a64 1e9654882034 3ecf6f4f91cc",
        (fun () ->
            let config =
                PpoConfig(
                    StepsPerEnv = 12,
                    RestartProbability = 0.2,
                    Actor = dense "teacher" [ 16; 16 ] true,
                    Critic = dense "tracking" [ 64; 64 ] true,
                    Seed = 2UL
                )

            trained config quadrotor)
        "PPO, choices",
        "5f92f0e93db7 9e0662fec3da e143b8929183",
        (fun () -> trained (PpoConfig(Seed = 4UL)) (CartPoleConfig(Envs = 40)))
        "SAC",
        "2f568ae4eff2 633dd11df492 6c08ef9d1ab1",
        (fun () ->
            let config =
                SacConfig(
                    StepsPerEnv = 40,
                    LearningStarts = 500,
                    WarmupSteps = 200,
                    UpdateToData = 0.02,
                    ReplayCapacity = 3000,
                    Actor = dense "teacher" [ 16; 16 ] true,
                    Critic = dense "tracking" [ 64; 64 ] true,
                    Seed = 2UL
                )

            trainedBySac config quadrotor)
        "SAC, RAPTOR's settings",
        "31998a959939 b73c4c90c735 3a727aca4309",
        (fun () ->
            let raptor = SacConfig.Raptor

            let config =
                SacConfig(
                    StepsPerEnv = 50,
                    LearningStarts = 100,
                    TargetEntropy = raptor.TargetEntropy,
                    EntropyTarget = raptor.EntropyTarget,
                    AlphaLearningRate = raptor.AlphaLearningRate,
                    Optimizer = raptor.Optimizer
                )

            trainedBySac config (QuadrotorConfig(Envs = 1)))
    ]

let private check (cases: (string * string * (unit -> string)) list) =
    let wrong =
        [
            for name, expected, make in cases do
                let actual = make ()

                if actual <> expected then
                    $"{name}: {actual} instead of {expected}"
        ]

    if not wrong.IsEmpty then
        failwith (String.Join("\n", wrong))

[<Fact>]
let ``short distillations give the same bits as ever`` () = check everywhere

/// Skips where the C library's exponentials have other last bits.
type FactWithThisLibrary() as fact =
    inherit FactAttribute()

    do
        if not sameLibrary then
            fact.Skip <- "The exponentials of this machine's C library have other last bits."

[<FactWithThisLibrary>]
let ``short trainings by likelihoods give the same bits as ever`` () = check withThisLibrary
