/// What every batch of environments promises, and the adapter for tasks of one environment.
module Distill.Tests.ContractTests

open System
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Manipulation
open Distill.Environments.Native
open Distill.Environments.Quadrotor
open Xunit

/// A walker on a line, pushed by noise, whose measures are its place and how far it ever went.
let private walker limit =
    { new ISingleEnvironment with
        member _.Spec =
            EnvironmentSpec(
                "walker",
                [| ObservationGroup("teacher", [| ObservationComponent("place, m", 1) |]) |],
                ActionSpace(1, Discrete = false),
                limit,
                0.1,
                Measures =
                    [|
                        EnvironmentMeasure("place", "m", MeasureOver.Final)
                        EnvironmentMeasure("reach", "m", MeasureOver.Max)
                    |]
            )

        member _.StateSize = 2
        member _.Reset(random, state) = state[0] <- random.Uniform(-0.5, 0.5)

        member _.Step(random, state, action) =
            state[0] <- state[0] + action[0] + random.Normal(0.0, 0.2)
            state[1] <- max state[1] (abs state[0])
            struct (state[0], abs state[0] > 1.0)

        member _.Observe(_, state, observation) = observation[0] <- state[0]

        member _.Measure(state, measures) =
            measures[0] <- state[0]
            measures[1] <- state[1]
    }

let private walkers limit =
    { new IEnvironmentConfig with
        member _.Envs = 40
        member _.Spec = PerEnvironment.CheckedSpec(walker limit, 40)

        member _.Create(envs, seed) =
            new PerEnvironment(walker limit, envs, seed)
    }

let private furnished =
    [| ManipulationTask.DrawerOpen; ManipulationTask.ButtonPress |]

let private all: (string * IEnvironmentConfig) list =
    [
        "walkers", walkers 20
        "cart poles", CartPoleConfig(Envs = 40, EpisodeLimit = 20)
        "quadrotors", QuadrotorConfig(Envs = 40, EpisodeLimit = 20)
        "figure of eight", QuadrotorConfig(Envs = 40, EpisodeLimit = 20, Task = QuadrotorTask.FigureEight)
        if Tools.gcc.Value then
            "pendulums in C", NativeConfig(NativeLibraries.pendulum 20, Envs = 40)
        if Tools.mujoco.Value then
            "manipulation", ManipulationConfig(Envs = 40, EpisodeLimit = 20)
            "manipulation of furniture", ManipulationConfig(Envs = 40, EpisodeLimit = 20, Tasks = furnished)
    ]

/// Observations, rewards, ends and measures of some steps with the same actions, after a reset of every panel.
let private fly (environment: IBatchedEnvironment) steps (measured: bool) =
    let spec = environment.Spec
    let zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)
    let actions = zeros spec.Actions.Floats
    let results = Collections.Generic.List<float32[]>()

    for panel in 0 .. Panel.Count environment.Count - 1 do
        environment.Reset panel

        for step in 1..steps do
            let observation = zeros spec.Groups[0].Size
            environment.Observe(panel, 0, observation)

            for i in 0 .. actions.Length - 1 do
                actions[i] <- float32 ((i * 7 + step) % 5) / 4f

            let reward, terminated, truncated = zeros 1, zeros 1, zeros 1

            if measured then
                let measures = zeros spec.Measures.Count
                environment.Step(panel, actions, reward, terminated, truncated, measures)
            else
                environment.Step(panel, actions, reward, terminated, truncated)

            results.AddRange [ observation; reward; terminated; truncated ]

    Array.concat results

[<Fact>]
let ``facts are those of the environments that are made`` () =
    for name, config in all do
        use environment = config.Create(3, 1UL)
        let made, told = environment.Spec, config.Spec
        Expect.equal told.Name made.Name name
        Expect.equal (told.EpisodeLimit, told.StepSeconds) (made.EpisodeLimit, made.StepSeconds) name
        Expect.equal told.Actions made.Actions name

        Expect.equal
            [ for group in told.Groups -> group.Name, List.ofSeq group.Components ]
            [ for group in made.Groups -> group.Name, List.ofSeq group.Components ]
            name

        Expect.equal (List.ofSeq told.Measures) (List.ofSeq made.Measures) name

[<Fact>]
let ``a wrong configuration is refused in the same words with and without environments`` () =
    let wrong: IEnvironmentConfig list =
        [
            CartPoleConfig(Envs = 0)
            CartPoleConfig(EpisodeLimit = 0)
            QuadrotorConfig(Envs = 0)
            QuadrotorConfig(Drones = [||])
            QuadrotorConfig(Drones = [| "no such drone" |])
            QuadrotorConfig(DroneAssignment = enum 7)
            QuadrotorConfig(FigureEight = FigureEight(LoopSeconds = 0.0))
            walkers 0
        ]

    for config in wrong do
        let told = Expect.throws<DistillException>(fun () -> config.Spec |> ignore)

        let made =
            Expect.throws<DistillException>(fun () -> config.Create(config.Envs, 1UL).Dispose())

        Expect.equal told.Message made.Message "sentence"

[<Fact>]
let ``rewound environments fly the same episodes again, bit for bit`` () =
    for name, config in all do
        use environment = config.Create(40, 5UL)
        let first = fly environment 70 false
        let second = fly environment 70 false
        Expect.isTrue (second <> first) $"{name}: episodes go on"
        environment.Rewind()
        Paths.sameBits (fly environment 70 false) first name

[<Fact>]
let ``measuring changes nothing else`` () =
    for name, config in all do
        use environment = config.Create(40, 5UL)
        let plain = fly environment 70 false
        environment.Rewind()
        Paths.sameBits (fly environment 70 true) plain name

[<Fact>]
let ``measures are of the state that a step led to, before another episode starts`` () =
    use walkers = (walkers 6).Create(32, 3UL)
    let zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)
    let reward, terminated, truncated, measures = zeros 1, zeros 1, zeros 1, zeros 2
    let reached = zeros 1
    let mutable ends = 0
    walkers.Reset 0

    for _ in 1..40 do
        walkers.Step(0, zeros 1, reward, terminated, truncated, measures)

        for lane in 0 .. Panel.Width - 1 do
            reached[lane] <- max reached[lane] (abs reward[lane])
            Expect.equal measures[lane] reward[lane] "place"
            Expect.equal measures[Panel.Width + lane] reached[lane] "reach"

            if terminated[lane] + truncated[lane] > 0f then
                ends <- ends + 1
                reached[lane] <- 0f

    Expect.isTrue (ends > 32) "episodes ended"

[<Fact>]
let ``Environments that hold show the states in which episodes end, and go on as others do`` () =
    let limited limit : (string * IEnvironmentConfig) list =
        [
            "walkers", walkers limit
            "quadrotors", QuadrotorConfig(Envs = 40, EpisodeLimit = limit)
            if Tools.gcc.Value then
                "pendulums in C", NativeConfig(NativeLibraries.pendulum limit, Envs = 40)
            if Tools.mujoco.Value then
                "manipulation", ManipulationConfig(Envs = 40, EpisodeLimit = limit)

                "manipulation of furniture",
                ManipulationConfig(Envs = 40, EpisodeLimit = limit, Tasks = furnished)
        ]

    for (name, config), (_, endless) in List.zip (limited 6) (limited 1000) do
        use stepping = config.Create(40, 3UL)
        use holding = config.Create(40, 3UL) :?> IHoldingEnvironment
        use unlimited = endless.Create(40, 3UL)
        let spec = config.Spec
        let zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)

        let seen (environment: IBatchedEnvironment) panel =
            let values = zeros spec.Groups[0].Size
            environment.Observe(panel, 0, values)
            values

        let lane (values: float32[]) l =
            [ for i in l .. Panel.Width .. values.Length - 1 -> values[i] ]

        let mutable ends = 0

        for panel in 0..1 do
            for environment in [ stepping; holding; unlimited ] do
                environment.Reset panel

            for step in 1..20 do
                let actions =
                    zeros spec.Actions.Floats |> Array.mapi (fun i _ -> float32 (i % 5) / 8f - 0.2f)

                let outcome, other, free = zeros 3, zeros 3, zeros 3
                stepping.Step(panel, actions, StepOutcome(Span outcome))
                holding.Advance(panel, actions, StepOutcome(Span other))
                unlimited.Step(panel, actions, StepOutcome(Span free))
                Paths.sameBits other outcome $"{name}: outcome"
                let arrived = seen holding panel
                let ended = StepOutcome(Span other).AnyEnded
                holding.Restart(panel, StepOutcome(Span other))
                let after = seen holding panel
                Paths.sameBits after (seen stepping panel) $"{name}: after the step"

                for l in 0 .. Panel.Width - 1 do
                    let terminated, truncated = other[32 + l] > 0f, other[64 + l] > 0f
                    Expect.isTrue (ended || not (terminated || truncated)) $"{name}: an end"

                    if not (terminated || truncated) then
                        Expect.equal (lane arrived l) (lane after l) $"{name}: goes on"
                    else
                        Expect.isTrue (lane arrived l <> lane after l) $"{name}: another episode"

                    // Its own noise apart, the first episode goes as it does without a limit.
                    if step = 6 && truncated then
                        ends <- ends + 1

                        Expect.equal
                            (lane arrived l)
                            (lane (seen unlimited panel) l)
                            $"{name}: the state at the limit"

        Expect.isTrue (ends > 10) $"{name}: {ends} ends"

[<Fact>]
let ``quadrotors measure their distance to the reference on every path`` () =
    let config =
        QuadrotorConfig(Envs = 32, Task = QuadrotorTask.Langevin, EpisodeLimit = 1000)

    let zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)

    let distance (a: float32[]) (b: float32[]) lane =
        sqrt (Seq.sum (seq { for i in 0..2 -> float (a[i * 32 + lane] - b[i * 32 + lane]) ** 2.0 }))

    let measured =
        Paths.same "measures" (fun () ->
            use environment = new QuadrotorEnvironment(config, 9UL)

            let read field =
                let values = zeros (QuadrotorFields.Size field)
                environment.ReadState(0, field, values)
                values

            Array.concat
                [
                    for _ in 1..50 do
                        let reward, terminated, truncated, measures = zeros 1, zeros 1, zeros 1, zeros 2
                        environment.Step(0, zeros 4, reward, terminated, truncated, measures)
                        let position, velocity = read QuadrotorField.Position, read QuadrotorField.Velocity

                        for lane in 0 .. Panel.Width - 1 do
                            if terminated[lane] = 0f then
                                let toward = distance position (read QuadrotorField.ReferencePosition) lane
                                Expect.close 1e-6 (float measures[lane]) toward "position, m"
                                let along = distance velocity (read QuadrotorField.ReferenceVelocity) lane
                                Expect.close 1e-6 (float measures[32 + lane]) along "velocity, m/s"

                        measures
                ])

    Expect.isTrue (Array.exists (fun error -> error > 0.1f) measured) "something to measure"

[<Fact>]
let ``drones fly in turn, or a panel each`` () =
    let drones = [| "crazyflie"; "x500_real"; "x500_sim" |]

    let assigned assignment =
        let config =
            QuadrotorConfig(Envs = 100, Drones = drones, DroneAssignment = assignment)

        use environment = new QuadrotorEnvironment(config, 1UL)
        let chosen = List.ofSeq environment.Assignment
        Expect.equal chosen [ for i in 0..99 -> config.DroneOf(i, 3) ] "by the configuration"
        chosen

    Expect.equal (assigned DroneAssignment.InTurn) [ for i in 0..99 -> i % 3 ] "in turn"
    Expect.equal (assigned DroneAssignment.InPanels) [ for i in 0..99 -> i / 32 % 3 ] "in panels"
