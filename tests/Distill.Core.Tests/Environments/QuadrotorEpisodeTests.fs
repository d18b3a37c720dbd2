/// Initial states, references over time, ends of episodes, and what makes runs repeatable.
module Distill.Tests.QuadrotorEpisodeTests

open System
open Xunit
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Tests.QuadrotorOracle
open Distill.Tests.QuadrotorTestbed

/// The Crazyflie with disturbances, as distillation starts it.
let private disturbed =
    let crazyflie = Airframes.Get "crazyflie"

    QuadrotorParameters(
        Name = "disturbed",
        Dynamics = crazyflie.Dynamics,
        Disturbances =
            QuadrotorDisturbances(
                RandomForce = NormalDisturbance(Mean = 0.01, Std = 0.02),
                RandomTorque = NormalDisturbance(Mean = 0.001, Std = 0.005)
            )
    )

/// Largest distance of the sample's distribution from the uniform one on [low, high], in units of 1 / sqrt n: below 1.95
/// in 999 of 1,000 samples.
let private distanceFromUniform low high (sample: float[]) =
    let n = float sample.Length

    Array.sort sample
    |> Array.mapi (fun i x ->
        let share = (x - low) / (high - low)
        max (abs (share - float i / n)) (abs (share - float (i + 1) / n)))
    |> Array.max
    |> (*) (sqrt n)

let private uniform what low high sample =
    Expect.isTrue (Array.forall (fun x -> x >= low && x <= high) sample) $"{what}: out of range"
    let distance = distanceFromUniform low high sample
    Expect.isTrue (distance < 1.95) $"{what}: not uniform on [{low}, {high}], distance {distance}"

let private component' i (quantity: State -> float[]) (states: State[]) =
    states |> Array.map (fun s -> (quantity s)[i])

let private mean (sample: float[]) = Array.average sample

let private deviation (sample: float[]) =
    let m = mean sample
    sqrt (Array.averageBy (fun x -> (x - m) * (x - m)) sample)

let private correlation (a: float[]) (b: float[]) =
    let ma, mb = mean a, mean b

    (Array.map2 (fun x y -> (x - ma) * (y - mb)) a b |> mean) / (deviation a * deviation b)

[<Fact>]
let ``initial states have the simulator's distribution`` () =
    let n = 8192
    use env = new QuadrotorEnvironment(QuadrotorConfig(Envs = n), 11UL, [| disturbed |])
    let all = states env
    let guided, free = all |> Array.partition (fun s -> norm s.Position = 0.0)
    // 10 % of 8,192, give or take four standard deviations.
    Expect.close 0.0133 (float guided.Length / float n) 0.1 "share of guided episodes"

    for s in guided do
        Expect.equal s.Orientation [| 1.0; 0.0; 0.0; 0.0 |] "guided orientation"
        Expect.equal (norm s.Velocity, norm s.AngularVelocity) (0.0, 0.0) "guided velocities"

    for i in 0..2 do
        uniform $"position {i}" -0.5 0.5 (component' i _.Position free)
        uniform $"velocity {i}" -1.0 1.0 (component' i _.Velocity free)
        uniform $"angular velocity {i}" -1.0 1.0 (component' i _.AngularVelocity free)

    // Sampled as the code does, up to 1 rad, although max_angle is pi/2.
    uniform "angle" 0.0 1.0 (free |> Array.map (fun s -> 2.0 * acos (min 1.0 s.Orientation[0])))

    for i in 1..3 do
        // By Archimedes, each component of a uniform direction is uniform.
        let axis =
            free
            |> Array.filter (fun s -> s.Orientation[0] < 0.999)
            |> Array.map (fun s -> s.Orientation[i] / norm s.Orientation[1..3])

        uniform $"axis {i}" -1.000001 1.000001 axis

    for i in 0..3 do
        uniform $"rotor {i}" 0.0 0.5 (component' i _.Rotors all)

    for s in all do
        Expect.closeAll
            2e-7
            s.PreviousAction
            (s.Rotors |> Array.map (fun w -> 2.0 * w - 1.0))
            "observed previous action"

    for i in 0..2 do
        let force = component' i _.Force all
        let torque = component' i _.Torque all
        let torqueStd = if i = 2 then 0.00005 else 0.005
        Expect.close (4.0 * 0.02 / sqrt (float n)) (mean force) 0.01 "mean force"
        Expect.close 0.0007 (deviation force) 0.02 "deviation of the force"
        Expect.close (4.0 * torqueStd / sqrt (float n)) (mean torque) 0.001 "mean torque"
        Expect.close (0.035 * torqueStd) (deviation torque) torqueStd "deviation of the torque"

    let langevin = all |> Array.filter _.FollowsLangevin
    Expect.close 0.0221 (float langevin.Length / float n) 0.5 "share of Langevin episodes"

    for s in all do
        let still =
            norm s.ReferencePosition
            + norm s.ReferenceVelocity
            + norm s.LangevinPosition
            + norm s.LangevinVelocity

        Expect.equal (still, s.Step) (0.0, 0) "reference and step"

[<Fact>]
let ``the numbers of an initial state are independent of each other, of the neighbour and of the last episode``
    ()
    =
    let n = 8192

    let config =
        QuadrotorConfig(Envs = n, InitialStates = InitialStates(Guidance = 0.0))

    use env = new QuadrotorEnvironment(config, 12UL, [| disturbed |])

    let columns () =
        let all = states env

        [|
            for i in 0..2 do
                component' i _.Position all
                component' i _.Velocity all
                component' i _.AngularVelocity all
                component' (i + 1) _.Orientation all
                component' i _.Force all
                component' i _.Torque all
            for i in 0..3 do
                component' i _.Rotors all
            all |> Array.map (fun s -> s.Orientation[0])
            all |> Array.map (fun s -> if s.FollowsLangevin then 1.0 else 0.0)
        |]

    let first = columns ()

    for panel in 0 .. panels env - 1 do
        env.Reset panel

    let second = columns ()
    let limit = 4.5 / sqrt (float n)

    for i in 0 .. first.Length - 1 do
        for j in 0 .. i - 1 do
            Expect.close limit (correlation first[i] first[j]) 0.0 $"correlation of {i} and {j}"

        Expect.close limit (correlation first[i] second[i]) 0.0 $"correlation of {i} with the next episode"
        let column = first[i]
        let next = Array.append column[1..] column[..0]
        Expect.close limit (correlation first[i] next) 0.0 $"correlation of {i} with the neighbour"

[<Fact>]
let ``a parameter file's own initial states are used when nothing replaces them`` () =
    let drone =
        ParameterFile.Read(
            IO.Path.Combine(AppContext.BaseDirectory, "fixtures", "l2f", "parameters", "sampled", "12.json")
        )

    let farthest (config: QuadrotorConfig) =
        use env = new QuadrotorEnvironment(config, 1UL, [| drone |])

        states env |> Array.map (fun s -> s.Position |> Array.map abs |> Array.max) |> Array.max

    Expect.close 0.05 (farthest (asGiven 1024)) 1.062715 "max_position of the file"
    Expect.close 0.02 (farthest (QuadrotorConfig(Envs = 1024))) 0.5 "max_position of distillation"

[<Fact>]
let ``Langevin references have the published spread`` () =
    let config =
        QuadrotorConfig(Envs = 704, Task = QuadrotorTask.Langevin, EpisodeLimit = 1000)

    use env =
        new QuadrotorEnvironment(config, 13UL, [| endless (Airframes.Get "x500_sim") |])

    let actions = Array.create 704 (Array.create 4 0.0)

    let trace =
        [|
            for _ in 1..500 do
                step env actions |> ignore
                let s = states env
                s |> Array.collect _.ReferencePosition, s |> Array.collect _.ReferenceVelocity
        |]

    let late = trace[199..]

    let largest (quantity: float[][]) =
        Array.init quantity[0].Length (fun axis -> quantity |> Array.map (fun t -> abs t[axis]) |> Array.max)
        |> mean

    // raptor.md's 2,000 simulated axes: 0.100 m, 0.14 m/s, 0.16 m, 0.24 m/s. Two thousand axes leave about 2 %.
    Expect.close 0.005 (late |> Array.collect fst |> deviation) 0.100 "deviation of the position"
    Expect.close 0.006 (late |> Array.collect snd |> deviation) 0.14 "deviation of the velocity"
    Expect.close 0.008 (trace |> Array.map fst |> largest) 0.16 "largest position of an episode"
    Expect.close 0.010 (trace |> Array.map snd |> largest) 0.24 "largest velocity of an episode"

[<Fact>]
let ``Langevin noise is a stream's: apart for each axis, step, episode and environment`` () =
    let envs, seed = 64, 21UL

    let config =
        QuadrotorConfig(Envs = envs, Task = QuadrotorTask.Langevin, EpisodeLimit = 3)

    use env =
        new QuadrotorEnvironment(config, seed, [| endless (Airframes.Get "x500_sim") |])

    let drone = env.Drones[0]
    let stream = RandomStream(seed, "quadrotor.langevin")

    let normals (a: uint32) (b: uint32) =
        let uniform (bits: uint32) = float (bits >>> 8) / 16777216.0
        let radius = sqrt (-2.0 * log (1.0 - uniform a))
        let angle = 2.0 * Math.PI * uniform b
        radius * cos angle, radius * sin angle

    for time in 0..8 do
        let episode = time / 3

        let expected =
            states env
            |> Array.mapi (fun i before ->
                let struct (x0, x1, x2, x3) =
                    stream.Bits(uint32 i, uint32 episode, uint32 before.Step)

                let x, y = normals x0 x1
                let z, _ = normals x2 x3
                advanceLangevin drone.Trajectory drone.Integration.Dt [| x; y; z |] before)

        step env (Array.create envs (Array.create 4 0.0)) |> ignore

        // The last step of an episode shows the start of the next one.
        if time % 3 < 2 then
            for actual, expected in Array.zip (states env) expected do
                Expect.closeAll 1e-5 actual.LangevinVelocity expected.LangevinVelocity $"step {time}"

[<Fact>]
let ``tasks choose the references`` () =
    let follows task =
        use env = new QuadrotorEnvironment(QuadrotorConfig(Envs = 64, Task = task), 1UL)
        let before = states env |> Array.map _.FollowsLangevin
        step env (Array.create 64 (Array.create 4 0.6)) |> ignore
        let moved = states env |> Array.map (fun s -> norm s.ReferencePosition > 0.0)
        // A drone that crashed at once would show the next episode.
        Expect.equal moved before $"{task}: which references move"
        before |> Array.filter id |> Array.length

    Expect.equal (follows QuadrotorTask.Position) 0 "position"
    Expect.equal (follows QuadrotorTask.Langevin) 64 "Langevin"
    Expect.isTrue (follows QuadrotorTask.Mixture |> fun n -> n > 16 && n < 48) "mixture"

[<Fact>]
let ``the figure-eight is the declared path and its thresholds go along`` () =
    let path = FigureEight(LoopSeconds = 4.0, HalfLength = 1.5, RampSeconds = 2.0)

    let config =
        QuadrotorConfig(Envs = 32, Task = QuadrotorTask.FigureEight, FigureEight = path, EpisodeLimit = 5000)

    use env = new QuadrotorEnvironment(config, 1UL)
    let start = states env

    for s in start do
        Expect.equal
            (s.Position, s.Orientation)
            (Array.zeroCreate 3, [| 1.0; 0.0; 0.0; 0.0 |])
            "starts on the path, level"

        Expect.isTrue (norm s.Rotors > 0.0) "rotors turn"

    for t in 1..1000 do
        // Lane 0 flies along 0.9 m beside the reference, lane 1 with its velocity; lane 2 is beyond 1 m now and then.
        let now = states env
        let far = t % 100 = 50

        writeStates
            env
            (now
             |> Array.mapi (fun i s ->
                 { s with
                     Position =
                         add
                             s.ReferencePosition
                             [|
                                 (if i = 0 then 0.9
                                  elif i = 2 && far then 1.1
                                  else 0.0)
                                 0.0
                                 0.0
                             |]
                     Velocity = s.ReferenceVelocity
                     AngularVelocity = Array.zeroCreate 3
                 }))

        let outcome = step env (Array.create 32 (Array.create 4 0.6))

        Expect.equal
            (outcome.Terminated |> Array.indexed |> Array.filter snd |> Array.map fst)
            (if far then [| 2 |] else [||])
            $"terminated at {t}"

        let reference, velocity = figureEight path (float t * 0.01)
        let s = (states env)[0]
        Expect.closeAll 2e-5 s.ReferencePosition reference $"reference at {t}"
        Expect.closeAll 4e-5 s.ReferenceVelocity velocity $"velocity of the reference at {t}"
        let restarted = (states env)[2]

        if far then
            Expect.equal
                (restarted.Step, norm restarted.ReferencePosition)
                (0, 0.0)
                "starts on the path again"

[<Fact>]
let ``an episode that ends gives way to the next one, and the other lanes do not notice`` () =
    let config = QuadrotorConfig(Envs = 32)
    use env = new QuadrotorEnvironment(config, 21UL)
    use other = new QuadrotorEnvironment(config, 21UL)
    let position = read env QuadrotorField.Position
    position[7][2] <- 3.0
    position[20][0] <- -2.0
    write env QuadrotorField.Position position
    let actions = Array.init 32 (fun i -> Array.create 4 (float i / 64.0))
    let outcome, undisturbed = step env actions, step other actions
    let ended = outcome.Terminated |> Array.indexed |> Array.filter snd |> Array.map fst
    Expect.equal ended [| 7; 20 |] "ended"
    Expect.isTrue (Array.forall not outcome.Truncated) "truncated"
    Expect.isTrue (ended |> Array.forall (fun i -> outcome.Reward[i] = -100.0)) "penalty"
    let after, expected = states env, states other
    let episodes = read env QuadrotorField.Episode |> Array.map (fun e -> int e[0])

    // The next initial state depends on the environment and the episode alone, not on how the last one ended.
    other.Reset 0
    let second = states other

    for i in 0..31 do
        if Array.contains i ended then
            Expect.equal (after[i].Step, episodes[i]) (0, 1) "step and episode of an ended lane"
            Expect.equal after[i] second[i] $"first state of episode 1, lane {i}"
        else
            Expect.equal (after[i].Step, episodes[i]) (1, 0) "step and episode of a lane that flies on"
            Expect.equal after[i] expected[i] $"lane {i}"
            Expect.equal outcome.Reward[i] undisturbed.Reward[i] $"reward {i}"

    let shown = observe env "student"
    Expect.closeAll 0.0 (Array.take 3 shown[7]) second[7].Position "the observation shows the new episode"

[<Fact>]
let ``the first reward compares the action with 0, the second with the first action`` () =
    let config = QuadrotorConfig(Envs = 32, Task = QuadrotorTask.Position)

    use env =
        new QuadrotorEnvironment(config, 22UL, [| endless (Airframes.Get "x500_sim") |])

    let costs (s: State) =
        norm s.Position + 0.2 * acos (1.0 - abs s.Orientation[3])

    let before = states env
    let first = step env (Array.create 32 [| 0.3; 0.0; 0.0; -0.4 |])
    Expect.closeAll 2e-6 first.Reward (before |> Array.map (fun s -> 1.5 - costs s - 0.5)) "first reward"
    let between = states env
    // Unclamped: the change from 0.3 to 1.5 counts in full.
    let second = step env (Array.create 32 [| 1.5; 0.0; 0.0; -0.4 |])
    Expect.closeAll 2e-6 second.Reward (between |> Array.map (fun s -> 1.5 - costs s - 1.2)) "second reward"

[<Fact>]
let ``the step limit truncates, and a terminal state at the limit counts as terminated alone`` () =
    let config =
        QuadrotorConfig(Envs = 32, EpisodeLimit = 5, Task = QuadrotorTask.Position)

    use env = new QuadrotorEnvironment(config, 23UL, [| Airframes.Get "x500_sim" |])

    let calm =
        states env
        |> Array.map (fun s -> { s with Position = Array.zeroCreate 3; Velocity = Array.zeroCreate 3 })

    writeStates env calm

    for t in 1..5 do
        if t = 5 then
            let position = read env QuadrotorField.Position
            position[9][0] <- 1.5
            write env QuadrotorField.Position position

        let outcome = step env (Array.create 32 (Array.create 4 0.5))
        Expect.equal outcome.Terminated (Array.init 32 (fun i -> t = 5 && i = 9)) $"terminated at {t}"
        Expect.equal outcome.Truncated (Array.init 32 (fun i -> t = 5 && i <> 9)) $"truncated at {t}"

        Expect.isTrue
            (outcome.Reward
             |> Array.indexed
             |> Array.forall (fun (i, r) -> (r = -100.0) = outcome.Terminated[i]))
            "penalty"

    Expect.isTrue (states env |> Array.forall (fun s -> s.Step = 0)) "all start anew"

/// Steps every panel of a batch with actions that depend on panel, step and lane alone.
type private Rollout(env: QuadrotorEnvironment, steps: int) =
    let rewards =
        Array.init (panels env) (fun _ -> Array.zeroCreate<float32>(steps * Panel.Width))

    member _.Rewards = rewards

    interface IWork with
        member _.Run(panel, _) =
            let random = Random(panel)
            let action = Array.zeroCreate<float32>(4 * Panel.Width)
            let reward = Array.zeroCreate<float32> Panel.Width
            let terminated = Array.zeroCreate<float32> Panel.Width
            let truncated = Array.zeroCreate<float32> Panel.Width

            for t in 0 .. steps - 1 do
                for i in 0 .. action.Length - 1 do
                    action[i] <- float32 (2.0 * random.NextDouble() - 1.0)

                env.Step(panel, action, reward, terminated, truncated)
                reward.CopyTo(rewards[panel], t * Panel.Width)

[<Fact>]
let ``the same seed gives the same bits whatever the threads and the order of panels, another seed others``
    ()
    =
    let config = QuadrotorConfig(Envs = 300, Drones = [| "crazyflie"; "race" |])

    let run seed (schedule: IWork -> int -> unit) =
        use env = new QuadrotorEnvironment(config, seed)
        let rollout = Rollout(env, 120)
        schedule rollout (panels env)
        bits env, rollout.Rewards

    let threads n (work: IWork) count =
        use pool = new WorkerPool(n)
        pool.Run(work, count)

    let forwards (work: IWork) count =
        for panel in 0 .. count - 1 do
            work.Run(panel, 0)

    let reference = run 31UL forwards
    Expect.isTrue (run 31UL (threads 2) = reference) "two threads"
    Expect.isTrue (run 31UL (threads 4) = reference) "four threads"

    let backwards (work: IWork) count =
        for panel in count - 1 .. -1 .. 0 do
            work.Run(panel, 0)

    Expect.isTrue (run 31UL backwards = reference) "backwards"
    Expect.isTrue (run 32UL forwards <> reference) "another seed"

[<Fact>]
let ``an environment does not depend on how many others there are, and no two are alike`` () =
    let first envs =
        use env = new QuadrotorEnvironment(QuadrotorConfig(Envs = envs), 41UL)
        (Rollout(env, 50) :> IWork).Run(0, 0)
        states env |> Array.take 32

    let alone = first 32
    Expect.equal (first 500) alone "among 500"
    Expect.equal (alone |> Array.map _.Rotors |> Array.distinct |> Array.length) 32 "different environments"

[<Fact>]
let ``a batch goes on bit for bit from a saved state`` () =
    for task in [ QuadrotorTask.Mixture; QuadrotorTask.FigureEight ] do
        let config = QuadrotorConfig(Envs = 100, Task = task, EpisodeLimit = 60)

        let run (env: QuadrotorEnvironment) steps =
            let rollout = Rollout(env, steps)

            for panel in 0 .. panels env - 1 do
                (rollout :> IWork).Run(panel, 0)

            rollout.Rewards

        use undisturbed = new QuadrotorEnvironment(config, 51UL)
        run undisturbed 97 |> ignore

        let saved = Blocks.read undisturbed.Visit
        let rewards = run undisturbed 130

        use resumed = new QuadrotorEnvironment(config, 51UL)

        // The second time, the batch has flown beyond the saved state.
        for turn in 1..2 do
            Blocks.write saved resumed.Visit
            Expect.isTrue (run resumed 130 = rewards) $"{task}, turn {turn}: rewards"
            Expect.isTrue (bits resumed = bits undisturbed) $"{task}, turn {turn}: bits"

[<Fact>]
let ``an episode's start follows from the environment and the episode, whenever the others end`` () =
    let config =
        QuadrotorConfig(Envs = 64, InitialStates = InitialStates(Guidance = 0.0))

    let create () =
        new QuadrotorEnvironment(config, 71UL, [| disturbed |])

    use reset = create ()

    // All lanes together.
    let starts =
        Array.init 200 (fun _ ->
            let start = states reset

            for panel in 0 .. panels reset - 1 do
                reset.Reset panel

            start)

    use env = create ()
    let actions = Array.init 64 (fun i -> Array.create 4 (float i / 32.0 - 1.0))
    let mutable compared = 0

    for _ in 1..400 do
        let outcome = step env actions
        let now, episodes = states env, read env QuadrotorField.Episode

        for i in 0..63 do
            if outcome.Terminated[i] || outcome.Truncated[i] then
                let episode = int (Array.head episodes[i])
                let start = Array.item i starts[episode]
                Expect.equal now[i] start $"environment {i}, episode {episode}"
                compared <- compared + 1

    Expect.isTrue (compared > 200) $"{compared} ends"

    let counts =
        read env QuadrotorField.Episode |> Array.map Array.head |> Array.distinct

    Expect.isTrue (counts.Length > 3) "the environments end at different times"

[<Fact>]
let ``stepping, observing and resetting allocate nothing`` () =
    for task in Enum.GetValues<QuadrotorTask>() do
        use env =
            new QuadrotorEnvironment(QuadrotorConfig(Envs = 64, Task = task, EpisodeLimit = 20), 61UL)

        let action = Array.zeroCreate<float32>(4 * Panel.Width)
        let observation = Array.zeroCreate<float32>(26 * Panel.Width)
        let outcome = Array.zeroCreate<float32>(StepOutcome.Rows * Panel.Width)

        let fly steps =
            for _ in 1..steps do
                for panel in 0..1 do
                    env.Step(panel, ReadOnlySpan action, StepOutcome(Span outcome))

                    for group in 0..2 do
                        env.Observe(panel, group, observation)

                    env.ReadState(panel, QuadrotorField.Orientation, observation)

            env.Reset 0

        fly 50
        let before = GC.GetAllocatedBytesForCurrentThread()
        fly 500
        Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L $"{task}: bytes allocated"
