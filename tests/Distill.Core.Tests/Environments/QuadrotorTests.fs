/// The quadrotor's kernels against the oracle, and what physics demands.
module Distill.Tests.QuadrotorTests

open System
open Xunit
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Tests.QuadrotorOracle
open Distill.Tests.QuadrotorTestbed

/// 32 random drones in random states, and an action for each.
let private bench (seed: int) =
    let random = Random seed
    let drones = Array.init Panel.Width (fun _ -> randomDrone random)
    let states = Array.map (randomState random) drones
    let actions = Array.init Panel.Width (fun _ -> randomAction random)
    drones, states, actions

let private compare (what: string) tolerance (actual: float[][]) (expected: float[][]) =
    Array.iteri2 (fun i a e -> Expect.closeAll tolerance a e $"{what} of environment {i}") actual expected

[<Fact>]
let ``one step agrees with the oracle and has the same bits on every path`` () =
    Property.checkMany 60 (fun (seed: int) ->
        let drones, before, actions = bench seed

        let results =
            onEveryPath (fun () ->
                use env =
                    new QuadrotorEnvironment(asGiven Panel.Width, 1UL, Array.map endless drones)

                writeStates env before
                let outcome = step env actions
                states env, outcome, bits env)

        let _, (after, outcome, reference) = List.head results
        let expected = Array.map3 QuadrotorOracle.step drones actions before
        compare "position" 4e-7 (Array.map _.Position after) (Array.map _.Position expected)
        compare "orientation" 4e-7 (Array.map _.Orientation after) (Array.map _.Orientation expected)
        compare "velocity" 8e-7 (Array.map _.Velocity after) (Array.map _.Velocity expected)
        // Rotors pull against each other with up to 3,000 rad/s^2 each: the sum loses digits that its parts had.
        compare
            "angular velocity"
            1e-5
            (Array.map _.AngularVelocity after)
            (Array.map _.AngularVelocity expected)

        compare "rotors" 4e-7 (Array.map _.Rotors after) (Array.map _.Rotors expected)
        compare "previous action" 0.0 (Array.map _.PreviousAction after) actions

        let rewards = Array.map3 (fun drone -> reward drone false) drones actions before
        Expect.closeAll 2e-6 outcome.Reward rewards "reward"

        for path, (_, other, otherBits) in results do
            Expect.isTrue (otherBits = reference && other = outcome) $"seed {seed}: bits on {path} differ"

        true)

[<Fact>]
let ``termination and its penalty agree with the oracle`` () =
    let mutable terminal = 0

    Property.checkMany 60 (fun (seed: int) ->
        let drones, before, actions = bench seed

        for path, outcome in
            onEveryPath (fun () ->
                use env = new QuadrotorEnvironment(asGiven Panel.Width, 1UL, drones)
                writeStates env before
                step env actions) do
            for i in 0 .. Panel.Width - 1 do
                let excess =
                    QuadrotorOracle.step drones[i] actions[i] before[i] |> excess drones[i] false

                // Single precision decides a tie differently.
                if abs excess > 1e-5 then
                    Expect.equal
                        outcome.Terminated[i]
                        (excess > 0.0)
                        $"{path}: terminated {i}, excess {excess}"

                    let expected = reward drones[i] (excess > 0.0) actions[i] before[i]
                    Expect.close 1e-5 outcome.Reward[i] expected $"{path}: reward {i}"

                    if excess > 0.0 then
                        terminal <- terminal + 1

        true)

    Expect.isTrue (terminal > 1000) $"only {terminal} terminal states were tried"

[<Fact>]
let ``observation groups agree with the oracle on every path`` () =
    Property.checkMany 30 (fun (seed: int) ->
        let drones, states, _ = bench seed

        for path, (teacher, student, tracking) in
            onEveryPath (fun () ->
                use env = new QuadrotorEnvironment(asGiven Panel.Width, 1UL, drones)
                writeStates env states
                observe env "teacher", observe env "student", observe env "tracking") do
            compare $"{path}: teacher" 4e-7 teacher (Array.map2 QuadrotorOracle.teacher drones states)
            compare $"{path}: student" 4e-7 student (Array.map QuadrotorOracle.student states)
            compare $"{path}: tracking" 4e-7 tracking (Array.map QuadrotorOracle.tracking states)

        true)

[<Fact>]
let ``the privileged observation tells the disturbance and the drone`` () =
    let airframes = [| for name in Airframes.Names -> Airframes.Get name |]

    let drones =
        DroneSampling(Number = Panel.Width - airframes.Length).Draw() |> Seq.append airframes |> Array.ofSeq

    let _, states, _ = bench 7

    for path, privileged in
        onEveryPath (fun () ->
            use env = new QuadrotorEnvironment(asGiven Panel.Width, 1UL, drones)
            writeStates env states
            observe env "privileged") do
        compare $"{path}" 4e-6 privileged (Array.map2 QuadrotorOracle.privileged drones states)

[<Fact>]
let ``the drones of the published sampler spread over the scale of the privileged observation`` () =
    use env =
        new QuadrotorEnvironment(QuadrotorConfig(Envs = 1024, Sampled = DroneSampling(Number = 1024)), 1UL)

    let rows = observe env "privileged" |> Array.map (Array.skip 29) |> Array.transpose

    for name, row in Seq.zip (env.Spec.Groups[3].Components |> Seq.skip 7) rows do
        let low, high = Array.min row, Array.max row
        Expect.isTrue (low >= -1.35 && high <= 1.35) $"{name}: from {low} to {high}"
        Expect.isTrue (high - low > 0.8) $"{name}: from {low} to {high}"

[<Fact>]
let ``rotors that start beyond the action limits are back within them after a step`` () =
    let drones, states, actions = bench 4

    let beyond =
        Array.map2
            (fun (drone: QuadrotorParameters) (state: State) ->
                let limit = drone.Dynamics.ActionLimit
                let range = limit.Max - limit.Min

                { state with
                    Rotors =
                        [|
                            for i in 0..3 ->
                                if i % 2 = 0 then
                                    limit.Max + 9.0 * range
                                else
                                    limit.Min - 9.0 * range
                        |]
                })
            drones
            states

    use env =
        new QuadrotorEnvironment(asGiven Panel.Width, 1UL, Array.map endless drones)

    writeStates env beyond
    step env actions |> ignore

    for after, drone in Array.zip (QuadrotorTestbed.states env) drones do
        let limit = drone.Dynamics.ActionLimit

        for rotor in after.Rotors do
            Expect.isTrue
                (rotor >= float (float32 limit.Min) && rotor <= float (float32 limit.Max))
                $"{drone.Name}: rotor state {rotor} is not within {limit}"

[<Fact>]
let ``observation groups have the sizes that policies expect`` () =
    use env = new QuadrotorEnvironment(QuadrotorConfig(), 1UL)
    let sizes = [ for group in env.Spec.Groups -> group.Name, group.Size ]
    Expect.equal sizes [ "teacher", 26; "student", 22; "tracking", 22; "privileged", 37 ] "groups"
    Expect.equal (env.Spec.Actions.Size, env.Spec.Actions.Discrete) (4, false) "actions"

[<Fact>]
let ``the Langevin reference agrees with the oracle on every path`` () =
    Property.checkMany 30 (fun (seed: int) ->
        let drones, states, _ = bench seed
        let random = Random(seed + 1)

        let noise =
            Array.init Panel.Width (fun _ -> Array.init 3 (fun _ -> float (float32 (gaussian random))))

        let results =
            onEveryPath (fun () ->
                use env = new QuadrotorEnvironment(asGiven Panel.Width, 1UL, drones)
                writeStates env states
                env.AdvanceLangevin(0, pack noise)
                QuadrotorTestbed.states env, bits env)

        let expected =
            Array.map3
                (fun (drone: QuadrotorParameters) -> advanceLangevin drone.Trajectory drone.Integration.Dt)
                drones
                noise
                states

        for path, (after, otherBits) in results do
            compare
                $"{path}: raw position"
                4e-7
                (Array.map _.LangevinPosition after)
                (Array.map _.LangevinPosition expected)

            compare
                $"{path}: raw velocity"
                4e-7
                (Array.map _.LangevinVelocity after)
                (Array.map _.LangevinVelocity expected)

            compare
                $"{path}: position"
                4e-7
                (Array.map _.ReferencePosition after)
                (Array.map _.ReferencePosition expected)

            compare
                $"{path}: velocity"
                4e-7
                (Array.map _.ReferenceVelocity after)
                (Array.map _.ReferenceVelocity expected)

            Expect.isTrue (otherBits = snd (snd (List.head results))) $"bits on {path} differ"

        true)

[<Fact>]
let ``whole rollouts with resets and references have the same bits on every path`` () =
    for task in Enum.GetValues<QuadrotorTask>() do
        let results =
            onEveryPath (fun () ->
                let config =
                    QuadrotorConfig(Envs = 70, Drones = [| "crazyflie"; "x500_real"; "mrs" |], Task = task)

                use env = new QuadrotorEnvironment(config, 5UL)
                let random = Random 3

                let outcomes =
                    [ for _ in 1..150 -> step env (Array.init 96 (fun _ -> randomAction random)) ]

                bits env, outcomes, observe env "teacher")

        let ends =
            results
            |> List.head
            |> snd
            |> (fun (_, outcomes, _) -> outcomes)
            |> List.sumBy (fun o -> o.Terminated |> Array.filter id |> Array.length)

        Expect.isTrue (ends > 100) $"{task}: only {ends} episodes ended"

        for path, result in results do
            Expect.isTrue (result = snd (List.head results)) $"{task}: bits on {path} differ"

// Physics

let private still: State =
    {
        Position = [| 0.0; 0.0; 0.0 |]
        Orientation = [| 1.0; 0.0; 0.0; 0.0 |]
        Velocity = [| 0.0; 0.0; 0.0 |]
        AngularVelocity = [| 0.0; 0.0; 0.0 |]
        Rotors = Array.zeroCreate 4
        PreviousAction = Array.zeroCreate 4
        Force = Array.zeroCreate 3
        Torque = Array.zeroCreate 3
        ReferencePosition = Array.zeroCreate 3
        ReferenceVelocity = Array.zeroCreate 3
        LangevinPosition = Array.zeroCreate 3
        LangevinVelocity = Array.zeroCreate 3
        FollowsLangevin = false
        Step = 0
    }

/// Flies 32 copies of an x500, whose rotors give no thrust at rest, from given states.
let private fly (initial: State[]) (actions: float[][]) steps =
    let drone = endless (Airframes.Get "x500_sim")
    use env = new QuadrotorEnvironment(asGiven Panel.Width, 1UL, [| drone |])
    writeStates env initial

    for _ in 1..steps do
        step env actions |> ignore

    drone, states env

let private off = Array.init Panel.Width (fun _ -> Array.create 4 -1.0)

[<Fact>]
let ``without thrust a drone falls freely`` () =
    let random = Random 4

    let initial =
        Array.init Panel.Width (fun _ -> { still with Velocity = Array.init 3 (fun _ -> gaussian random) })

    let _, final = fly initial off 100

    for i in 0 .. Panel.Width - 1 do
        let fall t v = [| v 0; v 1; v 2 - 9.81 * t |]
        let v0 = initial[i].Velocity
        Expect.closeAll 3e-6 final[i].Velocity (fall 1.0 (fun k -> v0[k])) "velocity after 1 s"
        Expect.closeAll 1e-5 final[i].Position [| v0[0]; v0[1]; v0[2] - 9.81 / 2.0 |] "position after 1 s"

[<Fact>]
let ``without torque angular momentum in the world and kinetic energy are conserved`` () =
    let random = Random 5

    let initial =
        Array.init Panel.Width (fun _ ->
            let state = randomState random (Airframes.Get "x500_sim")
            // Thrust of equal rotors makes no torque, with any state of the rotors.
            { still with
                Orientation = state.Orientation
                AngularVelocity = state.AngularVelocity
                Rotors = Array.create 4 (random.NextDouble())
            })

    let drone, final = fly initial off 200

    let momentum (s: State) =
        rotate s.Orientation (apply drone.Dynamics.J s.AngularVelocity)

    let energy (s: State) =
        Array.fold2
            (fun e w l -> e + w * l / 2.0)
            0.0
            s.AngularVelocity
            (apply drone.Dynamics.J s.AngularVelocity)

    for i in 0 .. Panel.Width - 1 do
        // Relative to the momentum; the rest is the fourth-order error of the method at up to 12 rad/s.
        let size = norm (momentum initial[i])
        let change = norm (subtract (momentum final[i]) (momentum initial[i])) / size
        Expect.close 1e-4 change 0.0 $"change of angular momentum {i}"
        Expect.close 1e-4 (energy final[i] / energy initial[i]) 1.0 $"energy {i}"

[<Fact>]
let ``quaternions keep unit length and rotors their range`` () =
    let random = Random 6

    let initial =
        Array.init Panel.Width (fun _ -> randomState random (Airframes.Get "x500_sim"))

    let actions = Array.init Panel.Width (fun _ -> randomAction random)
    let _, final = fly initial actions 300

    for s in final do
        Expect.close 2e-7 (norm s.Orientation) 1.0 "length of the quaternion"
        Expect.isTrue (Array.forall (fun w -> w >= 0.0 && w <= 1.0) s.Rotors) "rotors in range"

[<Fact>]
let ``a drone that starts turned about the vertical flies the turned path`` () =
    let random = Random 7
    let turn = 1.1
    let turned = [| cos (turn / 2.0); 0.0; 0.0; sin (turn / 2.0) |]

    let initial =
        Array.init Panel.Width (fun i ->
            let s = randomState (Random(i / 2)) (Airframes.Get "x500_sim")

            let s = { s with Force = Array.zeroCreate 3; Torque = Array.zeroCreate 3 }

            if i % 2 = 0 then
                s
            else
                { s with
                    Position = rotate turned s.Position
                    Velocity = rotate turned s.Velocity
                    Orientation = product turned s.Orientation
                })

    let pairs = Array.init (Panel.Width / 2) (fun _ -> randomAction random)
    let _, final = fly initial (Array.init Panel.Width (fun i -> pairs[i / 2])) 50

    for i in 0..2 .. Panel.Width - 1 do
        let a, b = final[i], final[i + 1]
        Expect.closeAll 1e-5 b.Position (rotate turned a.Position) "position"
        Expect.closeAll 1e-5 b.Velocity (rotate turned a.Velocity) "velocity"
        Expect.closeAll 1e-5 b.AngularVelocity a.AngularVelocity "angular velocity"
        Expect.closeAll 1e-5 b.Orientation (product turned a.Orientation) "orientation"

[<Fact>]
let ``a state that is not a number ends the episode`` () =
    use env = new QuadrotorEnvironment(QuadrotorConfig(Envs = 32), 1UL)
    let position = read env QuadrotorField.Position
    position[3][1] <- nan
    write env QuadrotorField.Position position
    let outcome = step env off
    Expect.isTrue outcome.Terminated[3] "terminated"

    Expect.isTrue
        (states env |> Array.forall (fun s -> Array.forall Double.IsFinite s.Position))
        "finite afterwards"
