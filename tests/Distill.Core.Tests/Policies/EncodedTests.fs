/// Environments with encodings of their last steps: against windows of what was recorded, over ends of episodes, panels, threads
/// and checkpoints.
module Distill.Tests.EncodedTests

open System
open System.IO
open System.Threading.Tasks
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Manipulation
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.Tools
open Xunit

/// A walker on a line that ends beyond 1.5 m, and what an expert would do: walk to the middle.
let private walker limit =
    { new ISingleEnvironment with
        member _.Spec =
            EnvironmentSpec(
                "walker",
                [|
                    ObservationGroup("student", [| ObservationComponent("place and speed", 2) |])
                    ObservationGroup("expert", [| ObservationComponent("push", 1) |])
                |],
                ActionSpace(1, Discrete = false),
                limit,
                0.1
            )

        member _.StateSize = 2
        member _.Reset(random, state) = state[0] <- random.Uniform(-1.0, 1.0)

        member _.Step(random, state, action) =
            state[1] <- 0.5 * state[1] + action[0] + random.Normal(0.0, 0.2)
            state[0] <- state[0] + state[1]
            struct (state[0] * state[1], abs state[0] > 1.5)

        member _.Observe(group, state, observation) =
            if group = 0 then
                state.CopyTo(observation, 0)
            else
                observation[0] <- -0.3 * state[0]
    }

let private envs = 40

let private walkers: IEnvironmentConfig =
    { new IEnvironmentConfig with
        member _.Envs = envs
        member _.Spec = PerEnvironment.CheckedSpec(walker 13, envs)

        member _.Create(envs, seed) =
            new PerEnvironment(walker 13, envs, seed)
    }

let private network (states: int) (actions: int) (seed: uint64) =
    let config =
        TransformerConfig(Window = 5, Model = 16, Heads = 4, Layers = 2, FeedForward = 32, Encoding = 3)

    let network = new TrajectoryTransformer(config, states, actions)
    network.Initialize(RandomStream(seed, "encoder"))
    network

/// Environments with an encoder in the folder.
let private encodedBy seed (folder: string) : EncodedConfig =
    let path = Path.Combine(folder, $"encoder{seed}.safetensors")
    use network = network 2 1 seed
    EncoderFile.Save(path, network)
    EncodedConfig(Environment = walkers, Encoder = path, States = "student")

let private create (config: EncodedConfig) : IHoldingEnvironment =
    (config :> IEnvironmentConfig).Create(envs, 3UL) :?> IHoldingEnvironment

let private see (environment: IBatchedEnvironment) panel (group: string) =
    let index = environment.Spec.Group group

    let values: float32[] =
        Array.zeroCreate (environment.Spec.Groups[index].Size * Panel.Width)

    environment.Observe(panel, index, values)
    values

let private lane (values: float32[]) lane =
    [| for i in lane .. Panel.Width .. values.Length - 1 -> values[i] |]

let private actionsAt (panel: int) (step: int) : float32[] =
    Array.init Panel.Width (fun lane -> float32 ((lane * 7 + panel * 3 + step * 5) % 11 - 5) / 10f)

/// A step as policies see it: the encodings before it and, where an episode ended, on arrival.
let private run (environment: IHoldingEnvironment) first steps panel =
    Array.concat
        [
            for step in first .. first + steps - 1 do
                see environment panel "encoding"
                let outcome: float32[] = Array.zeroCreate (3 * Panel.Width)
                environment.Advance(panel, actionsAt panel step, StepOutcome(Span outcome))

                if StepOutcome(Span outcome).AnyEnded then
                    see environment panel "encoding"
                    environment.Restart(panel, StepOutcome(Span outcome))
        ]

[<Fact>]
let ``Encodings are those of the windows of the episodes, on arrival too, whoever looked and when`` () =
    Storage.inTemporaryFolder (fun folder ->
        let config = encodedBy 1UL folder
        use network = EncoderFile.Load config.Encoder
        use pool = new WorkerPool(2)
        use environment = create config

        let episodes =
            Array.init envs (fun _ -> ResizeArray<float32[] * float32 * float32>())

        let mutable arrivals = 0

        /// Of the episode so far and a state after it.
        let expected (env: int) (state: float32[]) =
            let steps = ResizeArray episodes[env]
            steps.Add((state, 0f, 0f))

            let data =
                Trajectories(
                    steps.Count,
                    [|
                        for state, _, _ in steps do
                            yield! state
                    |],
                    [| for _, action, _ in steps -> action |],
                    [| for _, _, reward in steps -> reward |],
                    [| 0 |]
                )

            let windows: struct (int * int)[] = [| struct (0, steps.Count - 1) |]
            Encodings.Of(network, data, windows, pool)

        let check (panel: int) what (lanes: int seq) =
            let encodings, states =
                see environment panel "encoding", see environment panel "student"

            for l in lanes do
                let env = panel * Panel.Width + l
                Paths.sameBits (lane encodings l) (expected env (lane states l)) $"{what}, {env}"

        for panel in 0..1 do
            environment.Reset panel

        for step in 0..29 do
            for panel in 0..1 do
                let lanes = [ 0 .. min Panel.Width (envs - panel * Panel.Width) - 1 ]

                // The second panel is looked at in some steps only, and twice in others.
                if panel = 0 || step % 4 = 0 then
                    check panel $"step {step}" lanes

                if step % 8 = 0 then
                    check panel $"step {step} again" lanes

                let states = see environment panel "student"
                let actions = actionsAt panel step
                let outcome: float32[] = Array.zeroCreate (3 * Panel.Width)
                let inPlace = step % 3 = 0 && panel = 1

                if inPlace then
                    environment.Step(panel, actions, StepOutcome(Span outcome))
                else
                    environment.Advance(panel, actions, StepOutcome(Span outcome))

                for l in lanes do
                    episodes[panel * Panel.Width + l].Add((lane states l, actions[l], outcome[l]))

                let ended = lanes |> List.filter (fun l -> outcome[32 + l] + outcome[64 + l] > 0f)

                if not inPlace then
                    if not ended.IsEmpty then
                        arrivals <- arrivals + ended.Length
                        check panel $"arrival after step {step}" lanes

                    environment.Restart(panel, StepOutcome(Span outcome))

                for l in ended do
                    episodes[panel * Panel.Width + l].Clear()

        Expect.isTrue (arrivals > 30) $"{arrivals} episodes ended")

[<Fact>]
let ``Encoded environments go on with the same bits from a checkpoint, rewound, and on all threads and paths``
    ()
    =
    Storage.inTemporaryFolder (fun folder ->
        let config = encodedBy 1UL folder

        let begun () =
            let environment = create config
            environment.Reset 0
            environment.Reset 1
            environment

        let whole =
            Paths.same "paths" (fun () ->
                use environment = begun ()
                Array.append (run environment 0 30 0) (run environment 0 30 1))

        use environment = begun ()
        let both: float32[][] = Array.zeroCreate 2
        Parallel.For(0, 2, (fun panel -> both[panel] <- run environment 0 30 panel)) |> ignore
        Paths.sameBits (Array.concat both) whole "threads"
        environment.Rewind()
        environment.Reset 0
        environment.Reset 1
        Paths.sameBits (Array.append (run environment 0 30 0) (run environment 0 30 1)) whole "rewound"

        let saved = Path.Combine(folder, "state")
        use first = begun ()
        // One panel whose states were looked at last, one whose were not.
        run first 0 11 0 |> ignore
        run first 0 11 1 |> ignore
        see first 0 "encoding" |> ignore
        StateFile.Save(saved, (fun state -> first.Visit state))
        let rest = [| for panel in 0..1 -> run first 11 15 panel |]
        use second = begun ()
        run second 0 3 0 |> ignore
        StateFile.Load(saved, (fun state -> second.Visit state))

        Paths.sameBits
            (Array.concat [| for panel in 0..1 -> run second 11 15 panel |])
            (Array.concat rest)
            "resumed"

        use other = create (encodedBy 2UL folder)

        let refused =
            Expect.throws<DistillException>(fun () ->
                StateFile.Load(saved, (fun state -> other.Visit state)))

        Expect.isTrue (refused.Message.Contains "began with another encoder") refused.Message)

[<Fact>]
let ``Encoded environments take no memory once they run`` () =
    Storage.inTemporaryFolder (fun folder ->
        use environment = create (encodedBy 1UL folder)
        environment.Reset 0
        let actions, outcome = actionsAt 0 0, Array.zeroCreate<float32>(3 * Panel.Width)
        let seen: float32[] = Array.zeroCreate (3 * Panel.Width)
        let group = environment.Spec.Group "encoding"

        let step () =
            environment.Observe(0, group, seen)
            environment.Step(0, actions, StepOutcome(Span outcome))

        for _ in 1..20 do
            step ()

        let before = GC.GetAllocatedBytesForCurrentThread()

        for _ in 1..20 do
            step ()

        Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L "bytes")

[<Fact>]
let ``A distillation of encodings and SAC with them have the same bits on all threads, and go on from checkpoints``
    ()
    =
    Storage.inTemporaryFolder (fun folder ->
        let config = encodedBy 1UL folder

        let distillation =
            DistillationConfig(
                Environment = config,
                Student = MlpStudent(Hidden = [| 8 |], ObservationGroup = "student+encoding"),
                Acting = StudentAlways(),
                Collection = StepsPerIteration 9,
                Iterations = 4,
                MiniBatchSize = 64
            )

        use teachers: ITeachers = new EnvironmentTeachers("expert")

        let parameters (run: Distillation) =
            run.Student.Network.Parameters.Span.ToArray()

        let whole, early =
            use pool = new WorkerPool(1)
            use run = new Distillation(distillation, teachers, pool)
            run.Iterate() |> ignore
            let one = parameters run

            for _ in 2..4 do
                run.Iterate() |> ignore

            parameters run, one

        use pool = new WorkerPool(3)
        let saved = Path.Combine(folder, "state")

        using (new Distillation(distillation, teachers, pool)) (fun run ->
            run.Iterate() |> ignore
            Paths.sameBits (parameters run) early "threads"
            run.Iterate() |> ignore
            StateFile.Save(saved, (fun state -> run.Visit state)))

        using (new Distillation(distillation, teachers, pool)) (fun run ->
            StateFile.Load(saved, (fun state -> run.Visit state))
            run.Iterate() |> ignore
            run.Iterate() |> ignore
            Paths.sameBits (parameters run) whole "resumed")

        let reading = MlpStudent(Hidden = [| 8 |], ObservationGroup = "student+encoding")

        let sac =
            SacConfig(
                Iterations = 2,
                StepsPerEnv = 10,
                LearningStarts = 200,
                WarmupSteps = 100,
                UpdateToData = 0.05,
                MiniBatchSize = 64,
                ReplayCapacity = 1000,
                Actor = reading,
                Critic = reading
            )

        let trained (threads: int) =
            use pool = new WorkerPool(threads)
            use run = new Sac(sac, config, pool)
            run.Iterate() |> ignore
            run.Iterate() |> ignore
            run.Actor.Network.Parameters.Span.ToArray()

        Paths.sameBits (trained 3) (trained 1) "SAC on three threads")

[<Fact>]
let ``Policies say which encoder they read, and are refused with another`` () =
    Storage.inTemporaryFolder (fun folder ->
        let config, other = encodedBy 1UL folder, encodedBy 2UL folder
        let spec (config: EncodedConfig) = (config :> IEnvironmentConfig).Spec
        use policy = new Policy(NetworkSpec.Mlp(5, [ 4 ], 1), "student+encoding")
        PolicyFacts.Note(policy, spec config)
        let path = Path.Combine(folder, "policy.safetensors")
        PolicyFile.Save(path, policy)
        use again = PolicyFile.Load path
        Expect.equal again.Metadata["encoder"] (EncoderFile.HashOf config.Encoder) "noted"
        again.Check(spec config, "policy")

        let refused =
            Expect.throws<DistillException>(fun () -> again.Check(spec other, "policy"))

        Expect.isTrue
            (refused.Message.Contains "was trained with the encoder whose file's SHA-256 is")
            refused.Message
        // What does not read the encodings does not care.
        use plain = new Policy(NetworkSpec.Mlp(2, [ 4 ], 1), "student")
        PolicyFacts.Note(plain, spec config)
        Expect.isTrue (not (plain.Metadata.ContainsKey "encoder")) "nothing to note"
        plain.Check(spec other, "policy"))

[<Fact>]
let ``Encoded environments that cannot be are refused with a sentence`` () =
    Storage.inTemporaryFolder (fun folder ->
        let config = encodedBy 1UL folder

        let refused (config: EncodedConfig) (part: string) =
            let message =
                (Expect.throws<DistillException>(fun () ->
                    (config :> IEnvironmentConfig).Create(envs, 1UL).Dispose()))
                    .Message

            Expect.isTrue (message.Contains part) message

        let changed environment encoder states =
            EncodedConfig(Environment = environment, Encoder = encoder, States = states)

        refused (changed walkers "" "student") "encoder=FILE"
        refused (changed walkers "nowhere.safetensors" "student") "cannot be read"
        refused (changed walkers config.Encoder "expert") "reads 2 numbers of a state and 1 of an action"
        refused (changed walkers config.Encoder "mood") "no observation group 'mood'"
        refused (changed config config.Encoder "student") "already has an observation group 'encoding'"
        let path = Path.Combine(folder, "poles.safetensors")
        use poles = network 4 1 1UL
        EncoderFile.Save(path, poles)
        refused (changed (CartPoleConfig()) path "teacher") "does not wait"
        // Known, and then another.
        (config :> IEnvironmentConfig).Spec |> ignore
        use later = network 2 1 9UL
        EncoderFile.Save(config.Encoder, later)
        refused config "has changed since the run began")

[<MujocoFact>]
let ``Manipulation can be encoded, and is what it was in all other groups`` () =
    Storage.inTemporaryFolder (fun folder ->
        let plain: IEnvironmentConfig = ManipulationConfig(EpisodeLimit = 20)
        let path = Path.Combine(folder, "encoder.safetensors")
        use network = network 21 4 1UL
        EncoderFile.Save(path, network)
        let config: IEnvironmentConfig = EncodedConfig(Environment = plain, Encoder = path)
        use encoded = config.Create(6, 1UL)
        use alone = plain.Create(6, 1UL)
        Expect.equal (List.ofSeq config.Spec.Variants) (List.ofSeq plain.Spec.Variants) "tasks"
        Expect.equal (config.Spec.Groups |> Seq.last |> _.Name) "encoding" "one more group"

        for environment in [ encoded; alone ] do
            environment.Reset 0

        for _ in 1..25 do
            let outcomes =
                [
                    for environment in [ encoded; alone ] do
                        let outcome: float32[] = Array.zeroCreate (7 * Panel.Width)
                        environment.Step(0, see environment 0 "noisy_expert", StepOutcome(Span outcome))
                        Array.append outcome (see environment 0 "teacher")
                ]

            Paths.sameBits outcomes[0] outcomes[1] "outcomes and states"

        Expect.isTrue (Array.forall Single.IsFinite (see encoded 0 "encoding")) "encodings")
