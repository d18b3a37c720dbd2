/// PPO on a GPU against the same one on the processor.
module Distill.Tests.CudaPpoTests

open System
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Compute.Cuda
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Tests.CudaDriver
open Distill.Tests.DistillationTestbed

/// 40 environments fill a panel and a part of a second; their episodes end within the rollouts.
let private drones: IEnvironmentConfig =
    QuadrotorConfig(Envs = 40, EpisodeLimit = 7)

/// Actor and critic see different things.
let private apart (device: ComputeDevice) =
    PpoConfig(
        Seed = 3UL,
        Device = device,
        StepsPerEnv = 5,
        NumMiniBatches = 3,
        NumLearningEpochs = 2,
        RestartProbability = 0.5,
        RewardScale = 0.1,
        Actor = dense "tracking" [ 12; 9 ] true,
        Critic = dense "teacher" [ 10 ] true,
        InitStd = 0.3,
        Iterations = 5
    )

/// Actor and critic see the same; a critic that warms up; states that step limits end episodes in are valued; schedules.
let private shared (device: ComputeDevice) =
    PpoConfig(
        Seed = 8UL,
        Device = device,
        StepsPerEnv = 9,
        NumMiniBatches = 2,
        NumLearningEpochs = Schedule.Linear(1.0, 2.0, 3),
        Actor = dense "teacher" [ 8 ] true,
        Critic = dense "teacher" [ 8 ] true,
        CriticWarmup = 1,
        TimeOutBootstrap = Bootstrap.Reached,
        Schedule = RateSchedule.Fixed,
        CriticLearningRate = Schedule.Linear(3e-3, 1e-3, 4),
        EntropyCoef = Schedule.Linear(0.02, 0.0, 4),
        UseClippedValueLoss = false,
        NormalizeAdvantagePerMiniBatch = true,
        Optimizer = AdamConfig(MaxGradNorm = 0.05, WeightDecay = 0.01, Decoupled = true),
        Iterations = 4
    )

/// Nothing is normalized, one mini-batch of several chunks, and a rate that reaches its bounds.
let private plain (device: ComputeDevice) =
    PpoConfig(
        Device = device,
        StepsPerEnv = 8,
        NumMiniBatches = 1,
        NumLearningEpochs = 3,
        DesiredKl = Schedule.Exponential(0.1, 1e-7, 2),
        MaxLearningRate = 2e-3,
        MinLearningRate = 5e-4,
        CriticLearningRate = 4e-3,
        Actor = MlpStudent(ObservationGroup = "teacher", Hidden = [ 7 ], Activation = Activation.Relu),
        Critic = dense "tracking" [ 6; 5 ] true,
        Optimizer = AdamConfig(WeightDecay = 0.01),
        Iterations = 4
    )

let private start (config: PpoConfig) (environment: IEnvironmentConfig) pool =
    new Ppo(config, environment, pool)

/// One of each processor: what a device must report as the processor does.
let private pair (config: ComputeDevice -> PpoConfig) (environment: IEnvironmentConfig) pool =
    (device ()).Dispose()
    let theirs = start (config ComputeDevice.Cuda) environment pool
    Expect.isTrue (not (theirs.RunsOn.StartsWith "processor")) "the GPU computes"
    theirs, start (config ComputeDevice.Cpu) environment pool

let private metrics (report: PpoReport) =
    [
        for metric in report.Metrics do
            metric.Key, metric.Value
        "steps", float report.StepsCollected
        "mean_return", report.MeanReturn.GetValueOrDefault nan
        "mean_length", report.MeanEpisodeLength.GetValueOrDefault nan
    ]
    |> List.map (fun (name, value) -> name, BitConverter.DoubleToInt64Bits value)

/// Runs one iteration of both and compares all that they report, and the policies.
let private iterate (what: string) (theirs: Ppo, ours: Ppo) =
    let expected, actual = ours.Iterate(), theirs.Iterate()
    let what = $"{what}, iteration {ours.Iteration}"
    Expect.equal (metrics actual) (metrics expected) $"{what}: metrics"

    for role, theirs, ours in [ "actor", theirs.Actor, ours.Actor; "critic", theirs.Critic, ours.Critic ] do
        Paths.sameBits (floats theirs.Network.Parameters) (floats ours.Network.Parameters) $"{what}: {role}"

let private configs = [ "apart", apart; "shared", shared; "plain", plain ]

[<CudaFact>]
let ``PPO on a GPU is that of the processor, to the last bit, whatever the number of threads`` () =
    for threads, (what, config) in List.indexed configs do
        use pool = new WorkerPool(1 + threads)
        let theirs, ours = pair config drones pool
        use theirs = theirs
        use ours = ours

        for _ in 1 .. ours.Config.Iterations do
            iterate what (theirs, ours)

        Expect.isTrue (ours.ActorOptimizer.Steps > 0L) "the actor learns"
        Expect.isTrue (not (isNull (box (ours.Iterate()).MeanReturn))) "episodes end"
        theirs.Iterate() |> ignore
        sameState (bytes theirs.Visit) (bytes ours.Visit) what

[<CudaFact>]
let ``what was begun on a GPU goes on on the processor, and the other way round`` () =
    use pool = new WorkerPool 2

    for what, config in configs do
        let began, reference = pair config drones pool
        use began = began
        use reference = reference

        for _ in 1..2 do
            iterate what (began, reference)

        let folder = IO.Directory.CreateTempSubdirectory("distill-cuda-ppo-").FullName

        try
            let onGpu, onProcessor =
                IO.Path.Combine(folder, "gpu"), IO.Path.Combine(folder, "cpu")

            save onGpu began.Visit
            save onProcessor reference.Visit
            // A walk that saves leaves all as it was.
            iterate what (began, reference)
            let theirs, ours = pair config drones pool
            use theirs = theirs
            use ours = ours
            load onProcessor theirs.Visit
            load onGpu ours.Visit

            for _ in 3..4 do
                iterate what (theirs, ours)

            reference.Iterate() |> ignore
            sameState (bytes theirs.Visit) (bytes reference.Visit) $"{what}, from the processor"
            sameState (bytes ours.Visit) (bytes reference.Visit) $"{what}, from the GPU"
        finally
            IO.Directory.Delete(folder, true)

[<CudaFact>]
let ``nothing but outcomes, losses and orders crosses the bus`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 1
    use ppo = start (apart ComputeDevice.Cuda) drones pool
    let gpu = nonNull ppo.Gpu
    gpu.JoinsSteps <- false
    // The first iteration begins no episodes anew.
    let bus, launches = gpu.BusBytes, gpu.Launches
    ppo.Iterate() |> ignore
    let panels, steps, envs = 2L, 5L, 40L

    let samples, parameters =
        envs * steps, ppo.Actor.Network.Parameters.Length + ppo.Critic.Network.Parameters.Length

    let inputs = int64 (ppo.Actor.Network.Spec.Inputs + ppo.Critic.Network.Spec.Inputs)
    let updates = 2L * 3L
    let restarts = (gpu.BusBytes - bus) % 4L
    Expect.equal restarts 0L "whole words"

    let perIteration =
        // Of every step reward and ends, of every environment what was not finite.
        panels * 32L * steps * 12L
        + envs * 12L
        // The order of the samples, and the losses of each step.
        + samples * 4L
        + updates * 32L
        // The networks with Adam's moments, what differs from step to step, its progress, and the learning rates.
        + int64 parameters * 12L
        + updates * 2L * 8L
        + 2L * 2L * 24L
        + 2L * 16L
        // The moments of what was seen, and what is normalized with.
        + inputs * (2L * 8L + 2L * 4L)

    let begun = (gpu.BusBytes - bus - perIteration) / 4L
    Expect.isTrue (begun >= 0L && begun <= panels) $"{begun} panels begin anew, 4 bytes each"

    Expect.equal
        (gpu.Launches - launches)
        // Each step looks, normalizes and adds statistics twice, runs both networks, acts, flies and takes; then the last states are
        // valued.
        (steps * (2L * 3L + (3L + 2L) + 3L)
         + (2L * 2L + 2L + 1L)
         // Advantages, samples and standardizing; a step, which goes forward and backward with a loss, sums the losses, and is
         // Adam's, is a graph.
         + 3L
         + updates
         // Statistics are merged; what begins anew is marked.
         + 2L
         + (if begun > 0L then 2L else 0L))
        "launches"

/// Three iterations whose kernels are joined, and as many of one whose device has been told not to.
let private joinedAndSingle (separate: CudaDevice -> unit) =
    (device ()).Dispose()
    use pool = new WorkerPool 1

    for config in [ shared; apart ] do
        use joined = start (config ComputeDevice.Cuda) drones pool
        use single = start (config ComputeDevice.Cuda) drones pool
        separate (nonNull single.Gpu)

        for iteration in 0..2 do
            Expect.equal (metrics (joined.Iterate())) (metrics (single.Iterate())) $"iteration {iteration}"

        sameState (bytes joined.Visit) (bytes single.Visit) "state"
        let fewer = (nonNull single.Gpu).Launches - (nonNull joined.Gpu).Launches
        Expect.isTrue (fewer > 3L * 5L) $"{fewer} launches fewer"

[<CudaFact>]
let ``steps that are one kernel have the bits of steps of many`` () =
    joinedAndSingle (fun device -> device.JoinsSteps <- false)

[<CudaFact>]
let ``mini-batches that are graphs have the bits of kernels that are started one by one`` () =
    joinedAndSingle (fun device -> device.MakesGraphs <- false)

[<CudaFact>]
let ``what is not finite is said as on the processor`` () =
    use pool = new WorkerPool 1

    let said (config: ComputeDevice -> PpoConfig) (spoil: Ppo -> unit) =
        let theirs, ours = pair config drones pool
        use theirs = theirs
        use ours = ours

        let sentence (ppo: Ppo) =
            let folder = IO.Directory.CreateTempSubdirectory("distill-cuda-ppo-").FullName

            try
                ppo.Iterate() |> ignore
                spoil ppo
                // As a device learns of what was changed behind its back.
                let path = IO.Path.Combine(folder, "spoilt")
                save path ppo.Visit
                load path ppo.Visit

                (Expect.throws<DistillException>(fun () ->
                    for _ in 1..3 do
                        ppo.Iterate() |> ignore))
                    .Message
            finally
                IO.Directory.Delete(folder, true)

        let expected = sentence ours
        Expect.equal (sentence theirs) expected "sentence"

        for role, theirs, ours in [ "actor", theirs.Actor, ours.Actor; "critic", theirs.Critic, ours.Critic ] do
            Paths.sameBits
                (floats theirs.Network.Parameters)
                (floats ours.Network.Parameters)
                $"{role}: {expected}"

        expected

    let spoilt (parameters: FloatBuffer) (place: int) (value: float32) = parameters.Span[place] <- value

    said apart (fun ppo -> spoilt ppo.Actor.Network.Parameters 3 nanf)
    |> Storage.contains "Iteration 2: the action of environment 0 is NaN at step 0"

    said shared (fun ppo -> spoilt ppo.Critic.Network.Parameters 3 infinityf)
    |> Storage.contains "the value of environment"

    // What is too small or too large for the losses.
    let logStd value (ppo: Ppo) = ppo.Actor.Network["log_std"].Fill value
    said plain (logStd 100f) |> Storage.contains "the action of environment"

    said plain (fun ppo -> spoilt ppo.Critic.Network.Parameters (ppo.Critic.Network.ParameterCount - 1) 1e25f)
    |> Storage.contains "the value loss is"

    for rate in [ 1e18; 1e30 ] do
        let wild (device: ComputeDevice) =
            PpoConfig(
                Device = device,
                StepsPerEnv = 5,
                Schedule = RateSchedule.Fixed,
                Actor = MlpStudent(ObservationGroup = "teacher", Hidden = [ 6 ], Activation = Activation.Relu),
                Critic =
                    MlpStudent(ObservationGroup = "teacher", Hidden = [ 6 ], Activation = Activation.Relu),
                Optimizer = AdamConfig(LearningRate = rate)
            )

        let theirs, ours = pair wild drones pool
        use theirs = theirs
        use ours = ours

        let sentence (ppo: Ppo) =
            (Expect.throws<DistillException>(fun () ->
                for _ in 1..3 do
                    ppo.Iterate() |> ignore))
                .Message

        let expected = sentence ours
        Expect.equal (sentence theirs) expected $"a rate of {rate}"
        expected |> Storage.contains "lower the learning rate"

[<CudaFact>]
let ``what does not run on a GPU yet is refused in a sentence, and auto takes the processor`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 1

    let config device (actor: StudentConfig) (critic: StudentConfig) =
        PpoConfig(Device = device, StepsPerEnv = 3, Actor = actor, Critic = critic)

    let some = dense "teacher" [ 4 ] false
    let usual device = config device some some

    let refused (config: PpoConfig) (environment: IEnvironmentConfig) =
        (Expect.throws<DistillException>(fun () -> (start config environment pool).Dispose())).Message

    let sentence what =
        $"device=cuda cannot {what} yet; use device=cpu."

    let poles = sentence "fly anything but quadrotors (environment)"
    Expect.equal (refused (usual ComputeDevice.Cuda) (CartPoleConfig(Envs = 40))) poles "environment"
    use auto = start (usual ComputeDevice.Auto) (CartPoleConfig(Envs = 40)) pool
    Expect.equal auto.RunsOn $"processor ({poles})" "a processor"
    auto.Iterate() |> ignore
    use possible = start (usual ComputeDevice.Auto) drones pool
    Expect.isTrue (not (possible.RunsOn.StartsWith "processor")) "a GPU"
    use here = start (usual ComputeDevice.Cpu) drones pool
    Expect.equal here.RunsOn "processor" "what was asked for"

    for actor, critic in
        [
            GruStudent(ObservationGroup = "teacher") :> StudentConfig, some
            some, LstmStudent(ObservationGroup = "teacher")
        ] do
        Expect.equal
            (refused (config ComputeDevice.Cuda actor critic) drones)
            (sentence "train networks with a memory (actor, critic)")
            "memory"

    Expect.equal
        (refused
            (config
                ComputeDevice.Cuda
                (MlpStudent(ObservationGroup = "teacher", Head = Head.StateDependentStd))
                some)
            drones)
        "device=cuda cannot run this actor yet: its head is state_dependent_std, not plain or gaussian; use device=cpu."
        "head"

    Expect.equal
        (refused (config ComputeDevice.Cuda some (dense "student+tracking" [ 4 ] false)) drones)
        "device=cuda cannot run this critic yet: it reads several observation groups, student+tracking; use device=cpu."
        "groups"

    use teacher = raptorTeacher ()

    Expect.equal
        ((Expect.throws<DistillException>(fun () ->
            (new Ppo(usual ComputeDevice.Cuda, drones, pool, teacher)).Dispose()))
            .Message)
        (sentence "let a teacher guide (teacher)")
        "teacher"

[<EmulatorFact>]
let ``a rollout that the GPU cannot hold is said in a sentence`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 1

    emulating "memory" (1L <<< 17) (8L <<< 30) (fun () ->
        (Expect.throws<DistillException>(fun () -> (start (apart ComputeDevice.Cuda) drones pool).Dispose()))
            .Message
        |> Storage.contains "The GPU's memory is not enough for")

    (start (apart ComputeDevice.Cuda) drones pool).Dispose()
