/// SAC as a whole: it learns, and its results depend on nothing but its settings.
module Distill.Tests.SacTests

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
open Xunit
open Distill.Tests.DistillationTestbed

/// A mass on a line, pushed with at most 1 N, that is to come to rest at 0; it begins within 1 m, and ends beyond 2 m.
type private Mass() =
    interface ISingleEnvironment with
        member _.Spec =
            EnvironmentSpec(
                "mass",
                [| ObservationGroup("teacher", [| ObservationComponent("place and speed", 2) |]) |],
                ActionSpace(1, Discrete = false),
                50,
                0.1
            )

        member _.StateSize = 2
        member _.Reset(random, state) = state[0] <- random.Uniform(-1.0, 1.0)

        member _.Step(_, state, action) =
            state[1] <- 0.95 * state[1] + 0.1 * Math.Clamp(action[0], -1.0, 1.0)
            state[0] <- state[0] + 0.1 * state[1]
            let terminated = abs state[0] > 2.0
            struct ((if terminated then -20.0 else 1.0 - abs state[0]), terminated)

        member _.Observe(_, state, observation) = state.CopyTo(observation, 0)

let private masses envs =
    { new IEnvironmentConfig with
        member _.Envs = envs
        member _.Spec = PerEnvironment.CheckedSpec(Mass(), envs)
        member _.Create(envs, seed) = new PerEnvironment(Mass(), envs, seed)
    }

/// 70 environments fill two panels and a part of a third, as 70 samples do.
let private drones = QuadrotorConfig(Envs = 70, EpisodeLimit = 9)

let private seeded seed =
    SacConfig(
        Seed = seed,
        Iterations = 10,
        StepsPerEnv = 6,
        LearningStarts = 200,
        WarmupSteps = 140,
        UpdateToData = 0.02,
        MiniBatchSize = 300,
        ReplayCapacity = 1000,
        Actor = dense "tracking" [ 16; 16 ] true,
        Critic = dense "teacher" [ 24 ] true
    )

let private small = seeded 0UL

let private parameters (sac: Sac) =
    sac.Actor.Network.Parameters.Span.ToArray()

/// Actor after some iterations.
let private train (config: SacConfig) (environment: IEnvironmentConfig) threads iterations =
    use pool = new WorkerPool(threads)
    use sac = new Sac(config, environment, pool)

    for _ in 1..iterations do
        sac.Iterate() |> ignore

    parameters sac

[<Fact>]
let ``Learns to bring a mass to rest`` () =
    use pool = new WorkerPool(2)
    let environment = masses 4

    let config =
        SacConfig(
            StepsPerEnv = 250,
            LearningStarts = 500,
            UpdateToData = 0.5,
            MiniBatchSize = 64,
            Critic = dense "teacher" [ 32; 32 ] false,
            Actor = dense "teacher" [ 32 ] false,
            Optimizer = AdamConfig(LearningRate = 2e-3, MaxGradNorm = 0.0),
            AlphaLearningRate = 2e-3
        )

    use sac = new Sac(config, environment, pool)
    use evaluator = new Evaluator(environment, 100, 7UL, pool)
    let before = evaluator.Run(sac.Actor).MeanReturn

    for _ in 1..4 do
        sac.Iterate() |> ignore

    let after = evaluator.Run(sac.Actor).MeanReturn
    Expect.isTrue (before < 25.0) $"the untrained policy has a return of {before}"
    Expect.isTrue (after > 40.0) $"the trained policy has a return of {after}"

[<Fact>]
let ``Same seed, same bits on 1, 2 and 4 threads and on every instruction-set path`` () =
    let expected = train small drones 1 4

    for threads in [ 2; 4 ] do
        Paths.sameBits (train small drones threads 4) expected $"{threads} threads"

    Paths.same "actor" (fun () -> train small drones 2 4) |> ignore
    let other = train (seeded 1UL) drones 1 4
    Expect.isTrue (other <> expected) "another seed gives the same actor"

[<Fact>]
let ``A run that is saved and restored goes on bit for bit`` () =
    let one =
        SacConfig(
            StepsPerEnv = 30,
            LearningStarts = 40,
            UpdateToData = 0.7,
            MiniBatchSize = 20,
            ReplayCapacity = 75
        )

    for config, environment in [ small, drones; one, QuadrotorConfig(Envs = 1) ] do
        use pool = new WorkerPool(2)
        use undisturbed = new Sac(config, environment, pool)

        for _ in 1..3 do
            undisturbed.Iterate() |> ignore

        use resumed = new Sac(config, environment, pool)

        Storage.inTemporaryFolder (fun folder ->
            let path = Path.Combine(folder, "state.safetensors")
            save path undisturbed.Visit
            load path resumed.Visit)

        let expected = [ for _ in 1..3 -> undisturbed.Iterate() ]
        Expect.equal resumed.Iteration 3 "iteration"

        for report in expected do
            let timeless (r: SacReport) =
                [
                    for metric in r.Metrics do
                        metric.Key, metric.Value
                ],
                r.MeanReturn

            Expect.equal
                (timeless (resumed.Iterate()))
                (timeless report)
                $"metrics of iteration {report.Iteration}"

        sameState (bytes resumed.Visit) (bytes undisturbed.Visit) "state"

/// The small settings with a bonus for doing as a guide does.
let private imitating (bonus: ImitationBonus) =
    SacConfig(
        Seed = small.Seed,
        Iterations = small.Iterations,
        StepsPerEnv = small.StepsPerEnv,
        LearningStarts = small.LearningStarts,
        WarmupSteps = small.WarmupSteps,
        UpdateToData = small.UpdateToData,
        MiniBatchSize = small.MiniBatchSize,
        ReplayCapacity = small.ReplayCapacity,
        Actor = small.Actor,
        Critic = small.Critic,
        Imitation = bonus
    )

/// A guide that remembers.
let private remembering () : ITeachers =
    let group =
        drones.Create(1, 0UL).Spec.Groups |> Seq.find (fun group -> group.Name = "tracking")

    let guide =
        GruStudent(ObservationGroup = "tracking", Hidden = 6)
            .Create(group.Size, 4, Head.SquashedGaussian, RandomStream(1UL, "guide"))

    TeacherPolicies.Of(guide, drones.Create(1, 0UL).Spec)

[<Fact>]
let ``A run with a guide has the same bits on any number of threads, and goes on to them`` () =
    use guide = remembering ()
    let config = imitating (ImitationBonus(Weight = Schedule.Linear(2.0, 0.0, 4)))
    use three = new WorkerPool(3)
    use one = new WorkerPool(1)
    use undisturbed = new Sac(config, drones, three, guide)
    use resumed = new Sac(config, drones, one, guide)

    for _ in 1..2 do
        undisturbed.Iterate() |> ignore

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        save path undisturbed.Visit
        load path resumed.Visit)

    for iteration in 3..6 do
        let expected = undisturbed.Iterate()
        let report = resumed.Iterate()
        Expect.equal report.Likeness expected.Likeness "likeness"
        Expect.equal report.Likeness.HasValue (iteration <= 4) $"likeness in iteration {iteration}"

    sameState (bytes resumed.Visit) (bytes undisturbed.Visit) "state"
    Expect.isTrue (parameters undisturbed <> train small drones 1 6) "the bonus changes nothing"

[<Fact>]
let ``Where the bonus is worth nothing the guide is not asked, and SAC is as it is without`` () =
    let calls = ref 0

    use guide =
        new FunctionTeachers("teacher", fun _ _ -> Threading.Interlocked.Increment calls |> ignore)

    use pool = new WorkerPool(1)

    let run (weight: Schedule) =
        use sac =
            new Sac(imitating (ImitationBonus(Weight = weight, Deviation = 0.3)), drones, pool, guide)

        let asked =
            [
                for _ in 1..4 do
                    calls.Value <- 0
                    sac.Iterate() |> ignore
                    calls.Value > 0
            ]

        asked, parameters sac

    let asked, withoutWeight = run (Schedule.op_Implicit 0.0)
    Expect.equal asked [ false; false; false; false ] "asked without weight"
    Paths.sameBits withoutWeight (train small drones 1 4) "actor without weight"

    Expect.equal
        (fst (run (Schedule.Linear(1.0, 0.0, 2))))
        [ true; true; false; false ]
        "asked while it fades"

    // What comes later needs to know of it now.
    Expect.equal
        (fst (run (Schedule.Linear(0.0, 1.0, 3))))
        [ true; true; true; true ]
        "asked before it counts"

[<Fact>]
let ``The critics are policies of observation and action, and give what they gave`` () =
    use pool = new WorkerPool(1)
    use sac = new Sac(small, drones, pool)

    for _ in 1..4 do
        sac.Iterate() |> ignore

    Storage.inTemporaryFolder (fun folder ->
        for i, critic in Seq.indexed sac.Critics do
            let path = Path.Combine(folder, "critic.safetensors")
            PolicyFile.Save(path, critic)
            use loaded = PolicyFile.Load path
            Expect.equal loaded.ObservationGroup "teacher+action" "reads"
            Expect.equal loaded.Network.Spec.Outputs 1 "a value"
            let shown = nonNull loaded.Normalizer
            let state = Blocks.read sac.Visit |> Map.ofList

            let weights =
                loaded.Network.Parameters.Span.Slice(0, loaded.Network.ParameterCount).ToArray()

            let floats (name: string) =
                Runtime.InteropServices.MemoryMarshal.Cast<byte, float32>(ReadOnlySpan state[name]).ToArray()

            Expect.isTrue (shown.Count > 0L) "has seen observations"

            Paths.sameBits
                shown.Mean
                (Array.append (floats "critic_normaliser.mean") (Array.zeroCreate 4))
                "mean"

            // Actions stay as they are.
            let panel = Array.create (32 * shown.Size) 0.75f
            let expected = Normalizer(shown.Size - 4)
            floats "critic_normaliser.mean" |> fun mean -> mean.CopyTo(expected.Mean, 0)
            floats "critic_normaliser.variance" |> fun variance -> variance.CopyTo(expected.Variance, 0)
            expected.Refresh()
            shown.Apply(Panel(Span panel, shown.Size))
            let alone = Array.create (32 * expected.Size) 0.75f
            expected.Apply(Panel(Span alone, expected.Size))
            Paths.sameBits panel (Array.append alone (Array.create (4 * 32) 0.75f)) "as SAC shows it"

            let drawn =
                state
                |> Map.filter (fun name _ -> name.StartsWith $"critic_{i + 1}.network.")
                |> Map.toList
                |> List.sumBy (fun (_, bytes) -> bytes.Length / 4)

            Expect.equal weights.Length drawn "parameters")

[<Fact>]
let ``A run does not load the replay of other settings`` () =
    use pool = new WorkerPool(1)
    use saved = new Sac(small, drones, pool)
    saved.Iterate() |> ignore

    use other =
        new Sac(
            SacConfig(Actor = small.Actor, Critic = small.Critic, ReplayCapacity = 100, StepsPerEnv = 6),
            drones,
            pool
        )

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        save path saved.Visit

        let refusal = Expect.throws<DistillException>(fun () -> load path other.Visit)
        Expect.isTrue (refusal.Message.Contains "replay.chunk0") refusal.Message)

[<Fact>]
let ``An iteration allocates nothing but its report`` () =
    use pool = new WorkerPool(1)

    for config, environment in
        [
            small, drones
            SacConfig(StepsPerEnv = 20, LearningStarts = 10, MiniBatchSize = 32), QuadrotorConfig(Envs = 1)
        ] do
        use sac = new Sac(config, environment, pool)

        for _ in 1..3 do
            sac.Iterate() |> ignore

        let before = GC.GetAllocatedBytesForCurrentThread()

        for _ in 1..5 do
            sac.Iterate() |> ignore

        let each = (GC.GetAllocatedBytesForCurrentThread() - before) / 5L
        Expect.isTrue (each < 2048L) $"{environment.Envs} environments: {each} bytes per iteration"

[<Fact>]
let ``The actor is a teacher, from memory and from a file, and acts by the tanh of its mean`` () =
    use pool = new WorkerPool(1)
    use sac = new Sac(small, drones, pool)

    for _ in 1..3 do
        sac.Iterate() |> ignore

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "teacher.safetensors")
        PolicyFile.Save(path, sac.Actor)
        use loaded = PolicyFile.Load path
        Expect.equal loaded.Network.Spec.Head Head.SquashedGaussian "head"
        let x = Draw.floats (Random 1) (22 * Panel.Width)
        let action = Array.zeroCreate<float32>(4 * Panel.Width)
        let outputs = act loaded x [||] action

        Expect.closeAll
            1e-6
            (Seq.map float action)
            (outputs |> Seq.take action.Length |> Seq.map (float >> tanh))
            "action"

        let students =
            [
                for teacher in [ sac.Actor; loaded ] ->
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

        // And an actor to go on with.
        use further =
            new Sac(
                SacConfig(Actor = FileStudent(File = path, ObservationGroup = "tracking"), StepsPerEnv = 2),
                drones,
                pool
            )

        Paths.sameBits (parameters further) (parameters sac) "actor from the file")

[<Fact>]
let ``The temperature brings the entropy to its target, and stays where it is to stay`` () =
    use pool = new WorkerPool(1)

    let run (rate: float) (target: float) =
        let config =
            SacConfig(
                StepsPerEnv = 100,
                LearningStarts = 0,
                MiniBatchSize = 32,
                ActorInterval = 1,
                InitialAlpha = 0.2,
                TargetEntropy = target,
                AlphaLearningRate = rate,
                Critic = dense "teacher" [ 8 ] false,
                Actor = dense "teacher" [ 8 ] false,
                Optimizer = AdamConfig(LearningRate = 1e-2, MaxGradNorm = 0.0)
            )

        use sac = new Sac(config, masses 1, pool)
        let reports = [ for _ in 1..8 -> sac.Iterate() ]
        (List.last reports).Alpha, (List.last reports).Entropy.Value

    let alpha, _ = run 0.0 -1.0
    Expect.close 1e-7 alpha 0.2 "alpha that is to stay"

    for target in [ -1.5; 0.0 ] do
        let _, entropy = run 5e-2 target
        Expect.close 0.4 entropy target "entropy"

[<Fact>]
let ``Memory is known before it is taken`` () =
    let estimate capacity (config: SacConfig) =
        SacMemory.Of(
            SacConfig(
                Iterations = config.Iterations,
                StepsPerEnv = config.StepsPerEnv,
                ReplayCapacity = capacity
            ),
            QuadrotorConfig(Envs = 1),
            1,
            Nullable 1_000_000_000L
        )

    // 26 observed before and after, 4 of the action, reward and end; a panel of environments.
    let row = 58L * 4L
    let full = estimate 1_000_000 SacConfig.Raptor
    Expect.equal full.ReplayBytes (1_000_032L * row) "a full replay"

    let guided =
        SacMemory.Of(SacConfig(Imitation = ImitationBonus()), QuadrotorConfig(Envs = 1), 1)

    Expect.equal guided.ReplayBytes (1_000_032L * 59L * 4L) "a full replay with likenesses"
    Expect.isTrue full.Fits "a quarter of a gigabyte"
    let short = estimate 1_000_000 (SacConfig(Iterations = 10, StepsPerEnv = 100))
    Expect.equal short.ReplayBytes (1_032L * row) "a replay that stays small"
    Expect.isTrue (not (estimate 1_000_000_000 (SacConfig(Iterations = 100_000))).Fits) "23 gigabytes"

[<Fact>]
let ``The published settings are those of RAPTOR's teachers`` () =
    let config = SacConfig.Raptor
    config.Validate()
    use pool = new WorkerPool(1)
    use sac = new Sac(config, QuadrotorConfig(Envs = 1), pool)
    Expect.equal sac.Actor.Network.ParameterCount 6408 "parameters of the actor"

    let critic =
        Blocks.read sac.Visit
        |> List.filter (fst >> _.StartsWith("critic_1.network."))
        |> List.sumBy (fun (_, bytes) -> bytes.Length / 4)

    Expect.equal critic 73_985 "parameters of a critic"

[<Fact>]
let ``Settings that cannot work are refused with a sentence`` () =
    use pool = new WorkerPool(1)

    let refused (config: SacConfig) (environment: IEnvironmentConfig) part =
        (Expect.throws<DistillException>(fun () -> (new Sac(config, environment, pool)).Dispose())).Message
        |> Storage.contains part

    for config, part in
        [
            SacConfig(Gamma = 1.5), "gamma=1.5 cannot work; it must be within 0 and 1."
            SacConfig(Polyak = 0.0), "polyak=0 cannot work; it must be above 0, at most 1."
            SacConfig(MiniBatchSize = 0), "mini_batch_size=0"
            SacConfig(ReplayCapacity = 0), "replay_capacity=0"
            SacConfig(UpdateToData = -1.0), "update_to_data=-1"
            SacConfig(ActorInterval = 0), "actor_interval=0"
            SacConfig(TargetInterval = 0), "target_interval=0"
            SacConfig(StepsPerEnv = 0), "steps_per_env=0"
            SacConfig(Iterations = 0), "iterations=0"
            SacConfig(WarmupSteps = -1), "warmup_steps=-1"
            SacConfig(LearningStarts = -1), "learning_starts=-1"
            SacConfig(InitialAlpha = 0.0), "initial_alpha=0"
            SacConfig(AlphaLearningRate = nan), "alpha_learning_rate="
            SacConfig(CriticLearningRate = 0.0), "critic_learning_rate=0"
            SacConfig(TargetEntropy = infinity), "target_entropy="
            SacConfig(Optimizer = AdamConfig(MaxGradNorm = -1.0)), "max_grad_norm=-1"
            SacConfig(Actor = MlpStudent(Head = Head.Gaussian)), "actor.head=Gaussian cannot work"
            SacConfig(Critic = MlpStudent(Head = Head.Gaussian)), "critic.head=Gaussian cannot work"
            SacConfig(Actor = GruStudent()), "its actor cannot have a memory"
            SacConfig(Critic = GruStudent()), "its critic cannot have a memory"
            SacConfig(Critic = FileStudent(File = "x")), "cannot come from a file"
            SacConfig(Actor = dense "eyes" [ 8 ] false), "no observation group 'eyes'"
            SacConfig(Imitation = ImitationBonus()),
            "imitation.weight=linear(1,0,500) and guided_steps=0 need a teacher: add teacher=FILE."
            SacConfig(GuidedSteps = 5), "imitation.weight=0 and guided_steps=5 need a teacher"
            SacConfig(GuidedSteps = -1), "guided_steps=-1"
            SacConfig(Imitation = ImitationBonus(Weight = -1.0)), "imitation.weight=-1"
            SacConfig(Imitation = ImitationBonus(Deviation = 0.0)), "imitation.deviation=0 cannot work"
            SacConfig(Imitation = ImitationBonus(LeastDeviation = 0.0)), "imitation.least_deviation=0"
        ] do
        refused config drones part

    refused (SacConfig()) (CartPoleConfig()) "those of cart_pole are choices; use PPO"

    use silent = new FunctionTeachers("teacher", fun _ _ -> ())

    (Expect.throws<DistillException>(fun () ->
        (new Sac(SacConfig(Imitation = ImitationBonus()), drones, pool, silent)).Dispose()))
        .Message
    |> Storage.contains "imitation.deviation=null cannot work with this teacher: it gives actions"
