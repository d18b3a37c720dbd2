/// The loop of policies and environments, where it steps panel by panel and where the batch steps as a whole.
module Distill.Tests.RolloutLoopTests

open System
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed

let private config =
    QuadrotorConfig(Envs = 70, Task = QuadrotorTask.Langevin, EpisodeLimit = 40)

/// The same environments, which refuse to step one panel alone.
type private Whole(inner: IBatchedEnvironment) =
    interface ILockstepEnvironment with
        member _.Spec = inner.Spec
        member _.Count = inner.Count
        member _.Reset panel = inner.Reset panel

        member _.Observe(panel, group, observation) =
            inner.Observe(panel, group, observation)

        member _.Step(_: int, _: ReadOnlySpan<float32>, _: StepOutcome) : unit = failwith "one panel alone"

        member _.Step(actions: ReadOnlySpan<float32>, outcomes: Span<float32>) : unit =
            let panels = Panel.Count inner.Count
            let action, size = actions.Length / panels, outcomes.Length / panels

            for panel in 0 .. panels - 1 do
                inner.Step(
                    panel,
                    actions.Slice(panel * action, action),
                    StepOutcome(outcomes.Slice(panel * size, size))
                )

        member _.Rewind() = inner.Rewind()
        member _.Visit state = inner.Visit state
        member _.Dispose() = inner.Dispose()

type private WholeConfig(inner: IEnvironmentConfig) =
    interface IEnvironmentConfig with
        member _.Envs = inner.Envs
        member _.Spec = inner.Spec
        member _.Create(envs, seed) = new Whole(inner.Create(envs, seed))

let private distilled (environment: IEnvironmentConfig) =
    use pool = new WorkerPool(2)
    use teacher = raptorTeacher ()

    let config =
        DistillationConfig(
            Environment = environment,
            Student = GruStudent(Hidden = 6),
            Acting = LinearBeta 4,
            Collection = StepsPerIteration 30,
            Seed = 3UL
        )

    use distillation = new Distillation(config, teacher, pool)

    for _ in 1..3 do
        distillation.Iterate() |> ignore

    bytes distillation.Visit

[<Fact>]
let ``a batch that steps as a whole is distilled in, trained in and evaluated in to the same bits`` () =
    let whole = WholeConfig config
    sameState (distilled whole) (distilled config) "distillation"

    let trained (environment: IEnvironmentConfig) =
        use pool = new WorkerPool(2)
        use ppo = new Ppo(PpoConfig(Seed = 2UL), environment, pool)

        for _ in 1..2 do
            ppo.Iterate() |> ignore

        bytes ppo.Visit

    sameState (trained whole) (trained config) "PPO"

    let evaluated (environment: IEnvironmentConfig) =
        use pool = new WorkerPool(2)
        use teacher = raptorTeacher ()
        use evaluator = new Evaluator(environment, 70, 1UL, pool)
        evaluator.Run teacher

    let a, b = evaluated whole, evaluated config
    Paths.sameBits a.Returns b.Returns "returns"
    Expect.equal a.Lengths b.Lengths "lengths"
    Expect.equal (Seq.length a.Measures) 2 "measures"

    for measure in b.Measures do
        Paths.sameBits a.Measures[measure.Key] measure.Value measure.Key

/// The same, which show the states in which episodes end, as others that step as a whole may; and wait there only where that is wanted.
type private Showing(inner: IHoldingEnvironment, wanted: bool) =
    let mutable held: float32[] = [||]
    let mutable waiting = false

    let panels = Panel.Count inner.Count
    let mutable size = 0

    let outcome panel = Span<float32>(held, panel * size, size)

    let restart () =
        for panel in 0 .. panels - 1 do
            if waiting then
                inner.Restart(panel, StepOutcome(outcome panel))

        waiting <- false

    interface ILockstepEnvironment with
        member _.Spec = inner.Spec
        member _.Count = inner.Count
        member _.Reset panel = inner.Reset panel

        member _.Observe(panel, group, observation) =
            inner.Observe(panel, group, observation)

        member _.Step(_: int, _: ReadOnlySpan<float32>, _: StepOutcome) : unit = failwith "one panel alone"

        member _.Step(actions: ReadOnlySpan<float32>, outcomes: Span<float32>) : unit =
            held <- outcomes.ToArray()
            size <- held.Length / panels
            let floats = actions.Length / panels

            for panel in 0 .. panels - 1 do
                inner.Advance(panel, actions.Slice(panel * floats, floats), StepOutcome(outcome panel))

            held.AsSpan().CopyTo outcomes

            waiting <- true

            if not wanted then
                restart ()

        member _.ShowsEnds = true

        member _.ShowEnds shown =
            if not shown then
                restart ()

        member _.Rewind() = inner.Rewind()
        member _.Visit state = inner.Visit state
        member _.Dispose() = inner.Dispose()

[<Fact>]
let ``a batch that steps as a whole shows where episodes end to PPO and SAC, to the same bits`` () =
    let showing wanted =
        { new IEnvironmentConfig with
            member _.Envs = config.Envs
            member _.Spec = (config :> IEnvironmentConfig).Spec

            member _.Create(envs, seed) =
                new Showing(config.Create(envs, seed) :?> IHoldingEnvironment, wanted)
        }

    let ppo (environment: IEnvironmentConfig) bootstrap =
        use pool = new WorkerPool(2)

        use ppo =
            new Ppo(PpoConfig(Seed = 2UL, TimeOutBootstrap = bootstrap), environment, pool)

        for _ in 1..3 do
            ppo.Iterate() |> ignore

        bytes ppo.Visit

    let reached = ppo config (Nullable Bootstrap.Reached)
    // What shows the state without being asked to compute more uses it.
    sameState (ppo (showing true) (Nullable())) reached "PPO"
    let before = ppo config (Nullable())

    Expect.isTrue
        (Array.map snd before <> Array.map snd reached)
        "the state before is valued like the one reached"

    sameState (ppo (showing false) (Nullable Bootstrap.Before)) before "PPO, the state before"

    let sac (environment: IEnvironmentConfig) =
        use pool = new WorkerPool(2)

        let settings =
            SacConfig(
                Seed = 2UL,
                StepsPerEnv = 45,
                WarmupSteps = 100,
                LearningStarts = 200,
                UpdateToData = 0.002
            )

        use sac = new Sac(settings, environment, pool)
        sac.Iterate() |> ignore
        bytes sac.Visit

    sameState (sac (showing true)) (sac config) "SAC"

    use pool = new WorkerPool(1)

    let refused =
        Expect.throws<DistillException>(fun () ->
            let settings = PpoConfig(TimeOutBootstrap = Nullable Bootstrap.Reached)
            (new Ppo(settings, CartPole.CartPoleConfig(), pool)).Dispose())

    Storage.contains "cart_pole does not show the states in which its episodes end" refused.Message

[<Fact>]
let ``PPO reads several groups, and what is recorded twice is refused`` () =
    use pool = new WorkerPool(1)

    use ppo =
        new Ppo(PpoConfig(Actor = dense "student+tracking" [ 64; 64 ] false), config, pool)

    ppo.Iterate() |> ignore
    Expect.equal ppo.Actor.Network.Spec.Inputs 44 "inputs"

    Expect.isTrue
        (PpoMemory.Of(PpoConfig(Critic = dense "teacher+student" [ 64; 64 ] false), config, 1)).Fits
        "memory"

    for names in [ [| "teacher"; "teacher" |]; [| "label" |] ] do
        let settings = DistillationConfig(Environment = config, Recorded = names)

        Assert.Throws<DistillException>(fun () -> MemoryEstimate.Of settings |> ignore) |> ignore

[<Fact>]
let ``rollouts allocate nothing, whether panels step alone or the batch as a whole`` () =
    let collected (environment: IEnvironmentConfig) =
        use pool = new WorkerPool(1)
        use environment = environment.Create(70, 1UL)
        use teacher = raptorTeacher ()
        use student = randomPolicy 1 0.5f (NetworkSpec.Mlp(22, [ 8 ], 4)) "student" false
        use rollout = new Rollout(70, 50, columns 22 4, 0)

        use collector =
            new RolloutCollector(
                environment,
                new PolicyTeacher([| teacher |], environment),
                student,
                rollout,
                RandomStream(1UL, "acting"),
                false,
                pool
            )

        for _ in 1..3 do
            collector.Collect 0.5

        let before = GC.GetAllocatedBytesForCurrentThread()
        collector.Collect 0.5
        GC.GetAllocatedBytesForCurrentThread() - before

    Expect.equal (collected config) 0L "panel by panel"
    Expect.equal (collected (WholeConfig config)) 0L "as a whole"

[<Fact>]
let ``measures of an episode are the mean, the largest or the last of its steps`` () =
    let values = [ 3f; -1f; 7f; 5f ]

    for over, expected in [ MeasureOver.Mean, 3.5f; MeasureOver.Max, 7f; MeasureOver.Final, 5f ] do
        let actual =
            values |> List.indexed |> List.fold (fun sum (step, value) -> over.Add(sum, value, step)) 0f

        Expect.close 1e-6 (float actual) (float expected) $"{over}"

    use pool = new WorkerPool(1)
    use policy = raptorTeacher ()
    use evaluator = new Evaluator(config, 40, 5UL, pool)
    let result = evaluator.Run policy

    use environment =
        (config :> IEnvironmentConfig).Create(40, RandomStream(5UL, "evaluation").Seed())

    environment.Reset 0
    let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)

    let x, action =
        Array.zeroCreate<float32>(22 * 32), Array.zeroCreate<float32>(4 * 32)

    let sums, steps = Array.zeroCreate<float> 32, Array.zeroCreate<int> 32
    let scrap () = Array.zeroCreate<float32> 32
    let running = Array.create 32 true

    while Array.contains true running do
        environment.Observe(0, environment.Spec.Group "student", x)
        act policy x memory action |> ignore

        let terminated, truncated, measures =
            scrap (), scrap (), Array.zeroCreate<float32> 64

        environment.Step(0, action, scrap (), terminated, truncated, measures)

        for lane in 0..31 do
            if running[lane] then
                sums[lane] <- sums[lane] + float measures[lane]
                steps[lane] <- steps[lane] + 1
                running[lane] <- terminated[lane] = 0f && truncated[lane] = 0f

    Expect.equal result.Lengths[..31] steps "lengths"

    Expect.closeAll
        1e-5
        (result.Measures["position_error"][..31] |> Seq.map float)
        (Array.map2 (fun sum n -> sum / float n) sums steps)
        "position error"

[<Fact>]
let ``each of several teachers labels its own environments, with a memory of its own`` () =
    use pool = new WorkerPool(2)
    use first = raptorTeacher ()

    use second =
        randomPolicy 4 0.5f (NetworkSpec.GruStack(22, 5, 7, 0, 4)) "student" false

    let labels (policies: Policy list) (assignment: int[] | null) =
        use environment = (config :> IEnvironmentConfig).Create(70, 1UL)
        use student = randomPolicy 1 0.5f (NetworkSpec.Mlp(22, [ 8 ], 4)) "student" false
        use rollout = new Rollout(70, 60, columns 22 4, 0)

        use collector =
            new RolloutCollector(
                environment,
                new PolicyTeacher(List.toArray policies, environment, assignment),
                student,
                rollout,
                RandomStream(1UL, "acting"),
                false,
                pool
            )

        collector.Collect 0.0
        readColumn rollout "label" |> Array.chunkBySize (60 * 4)

    // Whole panels of one teacher, and panels of both.
    let assignment = Array.init 70 (fun env -> if env < 32 then 1 else env % 2)
    let both = labels [ first; second ] assignment
    let alone = [| labels [ first ] null; labels [ second ] null |]

    for env in 0..69 do
        Paths.sameBits (both[env]) (alone[assignment[env]][env]) $"environment {env}"

    let refused (assignment: int[]) =
        (Expect.throws<DistillException>(fun () -> labels [ first; second ] assignment |> ignore)).Message

    Storage.contains "69 entries for 70" (refused (Array.zeroCreate 69))
    Storage.contains "teacher 2, but the teachers are 0 to 1" (refused (Array.create 70 2))

[<Fact>]
let ``what is recorded on request is the environment's and the student's, in every phase, and is exported``
    ()
    =
    Storage.inTemporaryFolder (fun folder ->
        use pool = new WorkerPool(2)
        use teacher = raptorTeacher ()

        let settings =
            DistillationConfig(
                Environment = config,
                Student = MlpStudent(Hidden = [| 8 |]),
                Acting = TeacherUntil 1,
                Collection = StepsPerIteration 10,
                Recorded = [| "teacher"; "student+tracking"; RolloutCollector.StudentAction |]
            )

        use distillation = new Distillation(settings, teacher, pool)

        for _ in 1..2 do
            distillation.Iterate() |> ignore

        let path = IO.Path.Combine(folder, "dataset.npz")
        distillation.ExportDataset path

        let arrays =
            Storage.Npz.Read path |> Seq.map (fun array -> array.Name, array) |> Map.ofSeq

        let column (name: string) size =
            Expect.equal (List.ofSeq arrays[name].Shape) [ 1400; size ] name
            arrays[name].ToFloats() |> Array.chunkBySize size

        let observation, label = column "observations/student" 22, column "actions" 4

        let ofTeacher, tracking =
            column "observations/teacher" 26, column "observations/tracking" 22

        let action = column "student_actions" 4

        for row in 0..1399 do
            // Both see the attitude and the angular velocity alike.
            Paths.sameBits (tracking[row][3..11]) (ofTeacher[row][3..11]) $"row {row}, tracking and teacher"

            Paths.sameBits
                (tracking[row][3..11])
                (observation[row][3..11])
                $"row {row}, tracking and student"

            Expect.isTrue (label[row] <> action[row]) $"row {row}: the student's action is the label"

        let lean = MemoryEstimate.Of(DistillationConfig(Environment = config))

        let full =
            MemoryEstimate.Of(DistillationConfig(Environment = config, Recorded = settings.Recorded))

        Expect.equal (full.DatasetBytes * 26L) (lean.DatasetBytes * (26L + 26L + 44L + 4L)) "bytes")
