/// PPO as a whole: it learns, and its results depend on nothing but its settings.
module Distill.Tests.PpoTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Xunit
open Distill.Tests.DistillationTestbed

/// 70 environments fill two panels and a part of a third; 5 steps of each make mini-batches of uneven size.
let private drones = QuadrotorConfig(Envs = 70)

let private seeded seed =
    PpoConfig(
        Seed = seed,
        StepsPerEnv = 5,
        NumMiniBatches = 3,
        RestartProbability = 0.2,
        Actor = dense "tracking" [ 16; 16 ] true,
        Critic = dense "teacher" [ 24 ] true,
        InitStd = 0.3,
        Iterations = 10
    )

let private small = seeded 0UL

/// Networks with memories and a teacher: distillation that turns into PPO while the critic warms up.
let private guided =
    PpoConfig(
        StepsPerEnv = 6,
        NumMiniBatches = 2,
        RestartProbability = 0.2,
        Iterations = 10,
        Actor = GruStudent(ObservationGroup = "tracking", Hidden = 6, NormalizeObservations = true),
        Critic = LstmStudent(ObservationGroup = "teacher", Hidden = 5),
        InitStd = 0.3,
        CriticWarmup = 1,
        DistillationCoef = Schedule.Linear(1.0, 0.0, 6),
        PpoCoef = Schedule.Linear(0.0, 1.0, 3),
        Beta = Schedule.Linear(0.8, 0.0, 5),
        Schedule = RateSchedule.Fixed
    )

let private start (config: PpoConfig) (environment: IEnvironmentConfig) pool =
    if config = guided then
        let teacher = raptorTeacher ()
        new Ppo(config, environment, pool, teacher)
    else
        new Ppo(config, environment, pool)

let private parameters (ppo: Ppo) =
    ppo.Actor.Network.Parameters.Span.ToArray()

/// Actor after some iterations.
let private train (config: PpoConfig) (environment: IEnvironmentConfig) threads iterations =
    use pool = new WorkerPool(threads)
    use ppo = start config environment pool

    for _ in 1..iterations do
        ppo.Iterate() |> ignore

    parameters ppo

[<Fact>]
let ``Learns to balance the pole`` () =
    use pool = new WorkerPool(2)
    let environment = CartPoleConfig(Envs = 256)

    let config = PpoConfig(StepsPerEnv = 32, RewardScale = 0.1, Iterations = 40)

    use ppo = new Ppo(config, environment, pool)
    use evaluator = new Evaluator(environment, 100, 7UL, pool)
    let before = evaluator.Run(ppo.Actor).MeanReturn

    for _ in 1 .. config.Iterations do
        ppo.Iterate() |> ignore

    let after = evaluator.Run(ppo.Actor).MeanReturn
    Expect.isTrue (before < 200.0) $"the untrained policy has a return of {before}"
    Expect.isTrue (after > 450.0) $"the trained policy has a return of {after}"

[<Fact>]
let ``Learns on the quadrotor`` () =
    use pool = new WorkerPool(2)
    let environment = QuadrotorConfig(Envs = 512)
    use ppo = new Ppo(PpoConfig.Quadrotor, environment, pool)
    use evaluator = new Evaluator(environment, 100, 7UL, pool)
    let before = evaluator.Run(ppo.Actor)

    for _ in 1..40 do
        ppo.Iterate() |> ignore

    let after = evaluator.Run(ppo.Actor)
    let sentence = $"mean length went from {before.MeanLength} to {after.MeanLength}"
    Expect.isTrue (after.MeanLength > 2.0 * before.MeanLength) sentence

[<Fact>]
let ``Same seed, same bits on 1, 2 and 4 threads and on every instruction-set path`` () =
    let expected = train small drones 1 4

    for threads in [ 2; 4 ] do
        Paths.sameBits (train small drones threads 4) expected $"{threads} threads"

    Paths.same "actor" (fun () -> train small drones 2 4) |> ignore
    let expected = train guided drones 1 4

    for threads in [ 2; 4 ] do
        Paths.sameBits (train guided drones threads 4) expected $"guided, {threads} threads"

    Paths.same "guided actor" (fun () -> train guided drones 2 4) |> ignore
    let other = train (seeded 1UL) drones 1 4
    Expect.isTrue (other <> expected) "another seed gives the same actor"

[<Fact>]
let ``A run that is saved and restored goes on bit for bit`` () =
    for config, environment in
        [
            small, drones :> IEnvironmentConfig
            guided, drones
            PpoConfig(
                StepsPerEnv = 8,
                Actor = dense "teacher" [ 64; 64 ] true,
                Critic = dense "teacher" [ 64; 64 ] true
            ),
            CartPoleConfig(Envs = 40)
        ] do
        use pool = new WorkerPool(2)
        use undisturbed = start config environment pool

        for _ in 1..3 do
            undisturbed.Iterate() |> ignore

        use resumed = start config environment pool

        Storage.inTemporaryFolder (fun folder ->
            let path = Path.Combine(folder, "state.safetensors")
            DistillationTestbed.save path undisturbed.Visit
            DistillationTestbed.load path resumed.Visit)

        let expected = [ for _ in 1..3 -> undisturbed.Iterate() ]
        Expect.equal resumed.Iteration 3 "iteration"

        for report in expected do
            let actual = resumed.Iterate()

            let timeless (r: PpoReport) =
                [
                    for metric in r.Metrics do
                        metric.Key, metric.Value
                ],
                r.MeanReturn

            Expect.equal (timeless actual) (timeless report) $"metrics of iteration {report.Iteration}"

        Paths.sameBits (parameters resumed) (parameters undisturbed) "actor"

[<Fact>]
let ``A run does not load the networks of another architecture with as many parameters`` () =
    use pool = new WorkerPool(1)
    let environment = CartPoleConfig(Envs = 32)
    // 227 parameters each.
    use saved =
        new Ppo(PpoConfig(Actor = dense "teacher" [ 9; 15 ] false), environment, pool)

    use other =
        new Ppo(PpoConfig(Actor = dense "teacher" [ 12; 11 ] false), environment, pool)

    Expect.equal other.Actor.Network.ParameterCount saved.Actor.Network.ParameterCount "parameters"

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        DistillationTestbed.save path saved.Visit

        let refusal =
            Expect.throws<DistillException>(fun () -> DistillationTestbed.load path other.Visit)

        Expect.isTrue (refusal.Message.Contains "actor.0.weight") refusal.Message)

[<Fact>]
let ``An iteration allocates nothing but its report`` () =
    use pool = new WorkerPool(1)

    for config, environment in
        [
            small, drones :> IEnvironmentConfig
            PpoConfig(StepsPerEnv = 40), CartPoleConfig(Envs = 64)
            PpoConfig(StepsPerEnv = 8, Actor = GruStudent(Hidden = 6)), drones
        ] do
        use ppo = new Ppo(config, environment, pool)

        for _ in 1..3 do
            ppo.Iterate() |> ignore

        let before = GC.GetAllocatedBytesForCurrentThread()

        for _ in 1..5 do
            ppo.Iterate() |> ignore

        let each = (GC.GetAllocatedBytesForCurrentThread() - before) / 5L
        Expect.isTrue (each < 2048L) $"{environment.Envs} environments: {each} bytes per iteration"

[<Fact>]
let ``The actor is a teacher, from memory and from a file`` () =
    use pool = new WorkerPool(1)
    use ppo = new Ppo(small, drones, pool)
    ppo.Iterate() |> ignore

    let path =
        IO.Path.Combine(IO.Path.GetTempPath(), $"ppo-{Guid.NewGuid()}.safetensors")

    try
        Policies.PolicyFile.Save(path, ppo.Actor)
        use loaded = Policies.PolicyFile.Load path

        let students =
            [
                for teacher in [ ppo.Actor; loaded ] ->
                    let config =
                        DistillationConfig(
                            Environment = drones,
                            Student = MlpStudent(Hidden = [| 8 |]),
                            Collection = StepsPerIteration 10
                        )

                    use distillation = new Distillation(config, teacher, pool)
                    distillation.Iterate() |> ignore
                    distillation.Student.Network.Parameters.Span.ToArray()
            ]

        Paths.sameBits students[1] students[0] "student of the loaded teacher"
    finally
        IO.File.Delete path

[<Fact>]
let ``Reports under rsl_rl's names`` () =
    use pool = new WorkerPool(1)
    use ppo = new Ppo(small, drones, pool)
    let report = ppo.Iterate()
    Expect.equal report.StepsCollected 350L "steps"
    let names = [ for metric in report.Metrics -> metric.Key ]

    for name in [ "Loss/value"; "Loss/surrogate"; "Loss/entropy"; "Loss/learning_rate"; "Policy/mean_std" ] do
        Expect.isTrue (List.contains name names) $"{name} is missing"

[<Fact>]
let ``The schedules move the learning rate as they say`` () =
    let rates schedule (desiredKl: float) (rate: Schedule) =
        use pool = new WorkerPool(1)
        let optimizer = Networks.AdamConfig(LearningRate = rate)

        let config =
            PpoConfig(
                StepsPerEnv = 8,
                Iterations = 4,
                Schedule = schedule,
                DesiredKl = desiredKl,
                MaxLearningRate = 4e-3,
                Optimizer = optimizer
            )

        use ppo = new Ppo(config, CartPoleConfig(Envs = 64), pool)
        [ for _ in 1..4 -> ppo.Iterate().LearningRate ]

    let steady = Schedule.op_Implicit 1e-3
    Expect.equal (rates RateSchedule.Fixed 1e9 steady) [ 1e-3; 1e-3; 1e-3; 1e-3 ] "fixed"
    let falling = rates RateSchedule.Fixed 1e9 (Schedule.Linear(1e-3, 0.0, 4))
    Expect.closeAll 1e-12 falling [ 1e-3; 0.75e-3; 0.5e-3; 0.25e-3 ] "linear"
    // Every step moves the policy by far less, or far more, than what is desired.
    Expect.equal (List.last (rates RateSchedule.Adaptive 1e9 steady)) 4e-3 "adaptive, always raised"
    Expect.equal (List.last (rates RateSchedule.Adaptive 1e-12 steady)) 1e-5 "adaptive, always lowered"

[<Fact>]
let ``Restarts begin new episodes and forget the unfinished ones`` () =
    // No pole falls within three steps, but all do within 90.
    let finished (probability: float) =
        use pool = new WorkerPool(1)
        let config = PpoConfig(StepsPerEnv = 3, RestartProbability = probability)
        use ppo = new Ppo(config, CartPoleConfig(Envs = 40), pool)
        let reports = [ for _ in 1..30 -> ppo.Iterate() ]
        (List.last reports).MeanEpisodeLength

    Expect.isTrue (finished 0.0).HasValue "no episode has ended without restarts"
    Expect.isTrue (not (finished 1.0).HasValue) "an episode has ended in spite of restarts"

[<Fact>]
let ``The critic keeps the learning rate of its own`` () =
    use pool = new WorkerPool(1)

    let config =
        PpoConfig(StepsPerEnv = 8, MaxLearningRate = 4e-3, DesiredKl = 1e9, CriticLearningRate = 5e-4)

    use ppo = new Ppo(config, CartPoleConfig(Envs = 64), pool)
    Expect.equal (ppo.Iterate().LearningRate) 4e-3 "the actor's"

    let _, rate =
        DistillationTestbed.bytes ppo.Visit
        |> Array.find (fun (name, _) -> name = "critic_optimizer.learning_rate")

    Expect.equal (BitConverter.ToDouble rate) 5e-4 "the critic's"

[<Fact>]
let ``Settings that cannot work are refused with a sentence`` () =
    use pool = new WorkerPool(1)

    let message config =
        (Expect.throws<DistillException>(fun () -> (new Ppo(config, drones, pool)).Dispose())).Message

    Expect.equal
        (message (PpoConfig(Gamma = 1.5)))
        "gamma=1.5 cannot work; it must be within 0 and 1."
        "gamma"

    Expect.isTrue
        ((message (PpoConfig(Actor = dense "eyes" [ 8 ] false))).Contains "no observation group 'eyes'")
        "group"

    Expect.equal
        (message (PpoConfig(Optimizer = AdamConfig(MaxGradNorm = -1.0))))
        "max_grad_norm=-1 cannot work; it must be 0 for no clipping, or above 0, in the range of single precision."
        "optimizer"

    Expect.isTrue
        ((message (PpoConfig(StepsPerEnv = 10_000_000))).Contains "10000000 steps is too large")
        "rollout"

[<Fact>]
let ``Settings without a sign, a size or a number that single precision has are refused by name`` () =
    // Wrong for all: no number, infinite, overflowing or vanishing in single precision, negative.
    let wrong = [ nan; infinity; 1e39; 1e-60; -0.1 ]

    let cases: (string * (float -> PpoConfig) * bool) list =
        [
            "clip_param", (fun v -> PpoConfig(ClipParam = v)), false
            "value_loss_coef", (fun v -> PpoConfig(ValueLossCoef = v)), true
            "entropy_coef", (fun v -> PpoConfig(EntropyCoef = v)), true
            "desired_kl", (fun v -> PpoConfig(DesiredKl = v)), false
            "min_learning_rate", (fun v -> PpoConfig(MinLearningRate = v, MaxLearningRate = 1e38)), false
            "max_learning_rate", (fun v -> PpoConfig(MaxLearningRate = v)), false
            "critic_learning_rate", (fun v -> PpoConfig(CriticLearningRate = v)), false
            "reward_scale", (fun v -> PpoConfig(RewardScale = v)), false
            "init_std", (fun v -> PpoConfig(InitStd = v)), false
            "learning_rate", (fun v -> PpoConfig(Optimizer = AdamConfig(LearningRate = v))), false
            "epsilon", (fun v -> PpoConfig(Optimizer = AdamConfig(Epsilon = v))), false
            "floor", (fun v -> PpoConfig(Optimizer = AdamConfig(Floor = v))), true
            "weight_decay", (fun v -> PpoConfig(Optimizer = AdamConfig(WeightDecay = v))), true
            "max_grad_norm", (fun v -> PpoConfig(Optimizer = AdamConfig(MaxGradNorm = v))), true
        ]

    for name, config, zeroWorks in cases do
        for value in (if zeroWorks then wrong else 0.0 :: wrong) do
            let message = (Expect.throws<DistillException> (config value).Validate).Message
            Expect.isTrue (message.StartsWith $"{name}=" && message.EndsWith '.') $"{value}: {message}"

        if zeroWorks then
            (config 0.0).Validate()

    for name, config in
        [
            "gamma", (fun (v: float) -> PpoConfig(Gamma = v))
            "lambda", fun v -> PpoConfig(Lambda = v)
            "restart_probability", fun v -> PpoConfig(RestartProbability = v)
            "beta1", fun v -> PpoConfig(Optimizer = AdamConfig(Beta1 = v))
            "beta2", fun v -> PpoConfig(Optimizer = AdamConfig(Beta2 = v))
        ] do
        for value in [ nan; -0.1; 1.1; infinity ] do
            let message = (Expect.throws<DistillException> (config value).Validate).Message
            Expect.isTrue (message.StartsWith $"{name}=") $"{value}: {message}"

    // 1 in single precision.
    (Expect.throws<DistillException> (PpoConfig(Optimizer = AdamConfig(Beta2 = 1.0 - 1e-12))).Validate)
        .Message
    |> Distill.Tests.Storage.contains "beta2="

    PpoConfig().Validate()
    PpoConfig.Quadrotor.Validate()

[<Fact>]
let ``An actor from a file begins as it is, and stays so while the critic warms up`` () =
    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "student.safetensors")
        use pool = new WorkerPool(1)

        let student = new Policy(NetworkSpec.GruStack(22, 6, 6, 0, 4), "tracking", true)

        student.Network.Initialize(RandomStream(1UL, "student"))
        PolicyFile.Save(path, student)
        let actor = FileStudent(File = path, ObservationGroup = "tracking")

        let config =
            PpoConfig(StepsPerEnv = 5, Actor = actor, InitStd = 0.2, CriticWarmup = 2)

        use ppo = new Ppo(config, drones, pool)

        Expect.closeAll
            1e-6
            (ppo.Actor.Network["log_std"].ToArray() |> Array.map float)
            (Array.create 4 (log 0.2))
            "std"

        let before = parameters ppo

        for iteration in 1..3 do
            let report = ppo.Iterate()
            let moved = parameters ppo <> before
            Expect.equal moved (iteration > 2) $"the actor has moved in iteration {iteration}"
            Expect.isTrue (report.KlDivergence < 1e-6 || iteration > 2) "KL"

        let weights =
            student.Network.Parameters.Span.Slice(0, student.Network.ParameterCount).ToArray()

        Paths.sameBits before[.. weights.Length - 1] weights "weights"

        let silent = PpoConfig(Actor = actor)

        (Expect.throws<DistillException>(fun () -> (new Ppo(silent, drones, pool)).Dispose())).Message
        |> Distill.Tests.Storage.contains "add init_std=")

[<Fact>]
let ``A teacher that is needed and not there is asked for, and a loss that does not fit is refused`` () =
    use pool = new WorkerPool(1)
    use teacher = raptorTeacher ()

    let refused (config: PpoConfig) teacher part =
        (Expect.throws<DistillException>(fun () -> (new Ppo(config, drones, pool, teacher)).Dispose()))
            .Message
        |> Distill.Tests.Storage.contains part

    refused (PpoConfig(Beta = 0.5)) null "need a teacher: add teacher=FILE"
    refused (PpoConfig(DistillationCoef = Schedule.Linear(0.0, 1.0, 9))) null "need a teacher"
    refused (PpoConfig(Loss = CrossEntropy())) teacher "The distillation loss does not fit"

    refused
        (PpoConfig(Loss = KullbackLeibler(), DistillationCoef = 1.0))
        teacher
        "no distribution over actions"

    refused (PpoConfig(Actor = MlpStudent(Head = Head.Plain))) null "actor.head=plain cannot work"
    refused (PpoConfig(Critic = MlpStudent(Head = Head.Gaussian))) null "a critic gives a value"

    Distill.Tests.Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "policy.safetensors")
        PolicyFile.Save(path, teacher)

        refused
            (PpoConfig(Critic = FileStudent(File = path)))
            null
            "gives 4, but observation group 'student'")

[<Fact>]
let ``Distillation alone brings the actor to its teacher, and KL its deviation, too`` () =
    use pool = new WorkerPool(2)
    let environment = CartPoleConfig(Envs = 64)
    use teacher = cartPoleTeacher ()

    let distance (loss: Loss) =
        let config =
            PpoConfig(
                StepsPerEnv = 16,
                PpoCoef = 0.0,
                DistillationCoef = 1.0,
                Beta = Schedule.Linear(1.0, 0.0, 10),
                Loss = loss,
                Actor = dense "student" [ 16 ] false,
                Optimizer = AdamConfig(LearningRate = 1e-2),
                Schedule = RateSchedule.Fixed
            )

        use ppo = new Ppo(config, environment, pool, teacher)
        let losses = [ for _ in 1..25 -> ppo.Iterate().BehaviorLoss.Value ]
        use evaluator = new Evaluator(environment, 50, 7UL, pool)
        List.head losses, List.last losses, (evaluator.Run ppo.Actor).MeanReturn

    for loss in [ CrossEntropy() :> Loss; KullbackLeibler() ] do
        let first, last, result = distance loss
        Expect.isTrue (last < 0.25 * first) $"{loss}: {first} to {last}"
        Expect.isTrue (result > 450.0) $"{loss}: return {result}"
