/// The simulator against steps recorded from rl-tools (fixtures/l2f). Deviations of an independent double-precision
/// computation are in the fixture's README; the tolerances here are at most three times those.
module Distill.Tests.QuadrotorGoldenTests

open System
open System.IO
open System.IO.Compression
open System.Text.Json
open Xunit
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Tests.QuadrotorOracle
open Distill.Tests.QuadrotorTestbed

type private Episode =
    {
        Drone: QuadrotorParameters
        /// Step -> component: the state before each step and after the last.
        States: State[]
        Actions: float[][]
        Reward: float[]
        Terminated: bool[]
        Teacher: float[][]
        Student: float[][]
        Noise: float[][]
    }

let private get (element: JsonElement) (path: string) =
    Array.fold (fun (e: JsonElement) (name: string) -> e.GetProperty name) element (path.Split '.')

let private number element path = (get element path).GetDouble()

let private vector (element: JsonElement) =
    [| for e in element.EnumerateArray() -> e.GetDouble() |]

let private matrix (element: JsonElement) =
    [| for e in element.EnumerateArray() -> vector e |]

let private drone (name: string) (p: JsonElement) =
    let normal path =
        NormalDisturbance(Mean = number p (path + ".mean"), Std = number p (path + ".std"))

    QuadrotorParameters(
        Name = name,
        Dynamics =
            QuadrotorDynamics(
                RotorPositions = matrix (get p "rotor_positions"),
                RotorThrustDirections = matrix (get p "rotor_thrust_directions"),
                RotorTorqueDirections = matrix (get p "rotor_torque_directions"),
                RotorThrustCoefficients = matrix (get p "rotor_thrust_coefficients"),
                RotorTorqueConstants = vector (get p "rotor_torque_constants"),
                RotorTimeConstantsRising = vector (get p "rotor_time_constants_rising"),
                RotorTimeConstantsFalling = vector (get p "rotor_time_constants_falling"),
                Mass = number p "mass",
                Gravity = vector (get p "gravity"),
                J = matrix (get p "J"),
                JInv = matrix (get p "J_inv"),
                ActionLimit =
                    ActionLimit(Min = number p "action_limit.min", Max = number p "action_limit.max")
            ),
        Integration = QuadrotorIntegration(Dt = number p "dt"),
        Mdp =
            QuadrotorMdp(
                Reward =
                    RewardWeights(
                        Scale = number p "reward.scale",
                        Constant = number p "reward.constant",
                        TerminationPenalty = number p "reward.termination_penalty",
                        Position = number p "reward.position",
                        Orientation = number p "reward.orientation",
                        DAction = number p "reward.d_action"
                    ),
                Termination =
                    QuadrotorTermination(
                        PositionThreshold = number p "termination.position_threshold",
                        LinearVelocityThreshold = number p "termination.linear_velocity_threshold",
                        AngularVelocityThreshold = number p "termination.angular_velocity_threshold"
                    )
            ),
        Disturbances =
            QuadrotorDisturbances(
                RandomForce = normal "disturbances.random_force",
                RandomTorque = normal "disturbances.random_torque"
            ),
        Trajectory =
            QuadrotorTrajectory(
                Langevin =
                    LangevinProcess(
                        Gamma = number p "trajectory.langevin.gamma",
                        Omega = number p "trajectory.langevin.omega",
                        Sigma = number p "trajectory.langevin.sigma",
                        Alpha = number p "trajectory.langevin.alpha"
                    )
            )
    )

let private episode (line: string) =
    use document = JsonDocument.Parse(line: string)
    let root = document.RootElement
    let initial = get root "initial_state"
    let actions = matrix (get root "action")
    let follows = (get initial "trajectory_type").GetString() = "LANGEVIN"
    let zeros = Array.create 60 (Array.zeroCreate<float> 3)

    let trace (path: string) (first: float[]) =
        Array.append [| first |] (matrix (get root path))

    let langevin name =
        if follows then
            trace $"next_langevin.{name}" (vector (get initial $"langevin.{name}"))
        else
            Array.create 61 (Array.zeroCreate 3)

    let position = trace "next_position" (vector (get initial "position"))
    let orientation = trace "next_orientation" (vector (get initial "orientation"))
    let velocity = trace "next_linear_velocity" (vector (get initial "linear_velocity"))

    let angular =
        trace "next_angular_velocity" (vector (get initial "angular_velocity"))

    let rotors = trace "next_rotor_states" (vector (get initial "rotor_states"))
    let previous = Array.append [| vector (get initial "action_history") |] actions
    let referenceP, referenceV = langevin "position", langevin "velocity"
    let rawP, rawV = langevin "position_raw", langevin "velocity_raw"

    {
        Drone = drone (string (get root "set")) (get root "parameters")
        States =
            Array.init 61 (fun t ->
                {
                    Position = position[t]
                    Orientation = orientation[t]
                    Velocity = velocity[t]
                    AngularVelocity = angular[t]
                    Rotors = rotors[t]
                    PreviousAction = previous[t]
                    Force = vector (get initial "force")
                    Torque = vector (get initial "torque")
                    ReferencePosition = referenceP[t]
                    ReferenceVelocity = referenceV[t]
                    LangevinPosition = rawP[t]
                    LangevinVelocity = rawV[t]
                    FollowsLangevin = follows
                    Step = t
                })
        Actions = actions
        Reward = vector (get root "reward")
        Terminated = [| for e in (get root "terminated").EnumerateArray() -> e.GetBoolean() |]
        Teacher = matrix (get root "observation_teacher")
        Student = matrix (get root "observation_student")
        Noise =
            if follows then
                matrix (get root "langevin_noise")
            else
                zeros
    }

let private episodes =
    lazy
        (use file =
            File.OpenRead(Path.Combine(AppContext.BaseDirectory, "fixtures", "l2f", "golden-public.jsonl.gz"))

         use reader = new StreamReader(new GZipStream(file, CompressionMode.Decompress))

         reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries) |> Array.map episode)

/// One lane for each recorded episode; the last panel is filled up with repetitions.
let private lanes =
    lazy (Array.init 64 (fun i -> episodes.Value[i % episodes.Value.Length]))

let private environment (change: QuadrotorParameters -> QuadrotorParameters) =
    new QuadrotorEnvironment(asGiven 64, 1UL, lanes.Value |> Array.map (fun e -> change e.Drone))

let private largest (actual: float[][]) (expected: float[][]) =
    Seq.map2 (fun a e -> Seq.map2 (fun x y -> abs (x - y)) a e |> Seq.max) actual expected |> Seq.max

/// Largest absolute deviation of each quantity, over all lanes.
let private deviations (actual: State[]) (expected: State[]) =
    let of' (quantity: State -> float[]) =
        largest (Array.map quantity actual) (Array.map quantity expected)

    // Rotor states of one airframe run to 2,000 instead of 1; it is not in this file.
    [
        "position", of' _.Position
        "orientation", of' _.Orientation
        "velocity", of' _.Velocity
        "angular velocity", of' _.AngularVelocity
        "rotors", of' _.Rotors
    ]

let private require (tolerances: (string * float) list) (found: (string * float) list) =
    for name, tolerance in tolerances do
        let worst =
            found |> List.filter (fun (n, _) -> n = name) |> List.map snd |> List.max

        Expect.close tolerance worst 0.0 $"largest deviation of {name}"

[<Fact>]
let ``there are 48 recorded episodes of 60 steps, some terminal and half with a moving reference`` () =
    Expect.equal episodes.Value.Length 48 "episodes"
    Expect.isTrue (episodes.Value |> Array.forall (fun e -> e.Actions.Length = 60)) "steps"
    Expect.isTrue (episodes.Value |> Array.exists (fun e -> e.States[0].FollowsLangevin)) "Langevin"

[<Fact>]
let ``each recorded state leads to the recorded next one`` () =
    use env = environment endless

    let found =
        [
            for t in 0..59 do
                writeStates env (lanes.Value |> Array.map (fun e -> e.States[t]))
                step env (lanes.Value |> Array.map (fun e -> e.Actions[t])) |> ignore
                yield! deviations (states env) (lanes.Value |> Array.map (fun e -> e.States[t + 1]))
        ]

    require
        [
            "position", 6e-7
            "orientation", 3e-7
            "velocity", 1.5e-6
            "angular velocity", 1.2e-5
            "rotors", 2.5e-7
        ]
        found

[<Fact>]
let ``rollouts from the recorded initial states stay with the recorded ones for 60 steps`` () =
    use env = environment endless
    writeStates env (lanes.Value |> Array.map (fun e -> e.States[0]))

    let found =
        [
            for t in 0..59 do
                step env (lanes.Value |> Array.map (fun e -> e.Actions[t])) |> ignore
                yield! deviations (states env) (lanes.Value |> Array.map (fun e -> e.States[t + 1]))
        ]

    require
        [
            "position", 6e-6
            "orientation", 2.5e-5
            "velocity", 4e-5
            "angular velocity", 3e-4
            "rotors", 1e-6
        ]
        found

[<Fact>]
let ``rewards and ends of episodes are the recorded ones`` () =
    use env = environment id

    for t in 0..59 do
        writeStates env (lanes.Value |> Array.map (fun e -> e.States[t]))
        let outcome = step env (lanes.Value |> Array.map (fun e -> e.Actions[t]))

        for i in 0..63 do
            let episode = lanes.Value[i]
            let where = $"{episode.Drone.Name}, lane {i}, step {t}"
            Expect.equal outcome.Terminated[i] episode.Terminated[t] $"terminated: {where}"
            Expect.close 1e-6 outcome.Reward[i] episode.Reward[t] $"reward: {where}"

[<Fact>]
let ``observations are the recorded ones`` () =
    use env = environment id

    for t in 0..59 do
        writeStates env (lanes.Value |> Array.map (fun e -> e.States[t]))
        let teacher = lanes.Value |> Array.map (fun e -> e.Teacher[t])
        Expect.close 6e-7 (largest (observe env "teacher") teacher) 0.0 $"teacher, step {t}"

        Expect.close
            6e-7
            (largest (observe env "tracking") (Array.map (Array.take 22) teacher))
            0.0
            $"tracking, step {t}"

        let student = lanes.Value |> Array.map (fun e -> e.Student[t])
        Expect.close 6e-7 (largest (observe env "student") student) 0.0 $"student, step {t}"

[<Fact>]
let ``references driven by the recorded noise are the recorded ones`` () =
    use env = environment id
    writeStates env (lanes.Value |> Array.map (fun e -> e.States[0]))

    for t in 0..59 do
        for panel in 0..1 do
            let noise =
                lanes.Value[panel * 32 .. panel * 32 + 31] |> Array.map (fun e -> e.Noise[t]) |> pack

            env.AdvanceLangevin(panel, noise)

        let actual, expected =
            states env, lanes.Value |> Array.map (fun e -> e.States[t + 1])

        let check what (quantity: State -> float[]) =
            Expect.close
                3e-7
                (largest (Array.map quantity actual) (Array.map quantity expected))
                0.0
                $"{what}, step {t}"

        check "raw position" _.LangevinPosition
        check "raw velocity" _.LangevinVelocity
        check "position" _.ReferencePosition
        check "velocity" _.ReferenceVelocity
