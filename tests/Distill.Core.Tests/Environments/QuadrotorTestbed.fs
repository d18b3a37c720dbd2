/// What the quadrotor tests share: states in and out of a batch, random drones, and paths.
module Distill.Tests.QuadrotorTestbed

open System
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Tests.QuadrotorOracle

/// Runs the action on every path that this machine has and returns what each gave.
let onEveryPath (action: unit -> 'T) =
    [ for path in Paths.all -> path, Paths.on path action ]

let panels (env: QuadrotorEnvironment) = Panel.Count env.Count

/// Panel-wise values of all environments and unused lanes: environment -> component -> value.
let private unpack size (panels: float32[][]) =
    [|
        for panel in panels do
            for lane in 0 .. Panel.Width - 1 ->
                Array.init size (fun i -> float (panel[i * Panel.Width + lane]))
    |]

/// Panel of the values of 32 environments: environment -> component -> value, as [component, 32].
let pack (values: float[][]) =
    let size = values[0].Length
    Array.init (size * Panel.Width) (fun i -> float32 (values[i % Panel.Width][i / Panel.Width]))

let read (env: QuadrotorEnvironment) (field: QuadrotorField) =
    let size = field.Size()

    Array.init (panels env) (fun panel ->
        let values = Array.zeroCreate<float32>(size * Panel.Width)
        env.ReadState(panel, field, values)
        values)
    |> unpack size

let write (env: QuadrotorEnvironment) field (values: float[][]) =
    for panel in 0 .. panels env - 1 do
        let lanes = pack values[panel * Panel.Width .. (panel + 1) * Panel.Width - 1]
        env.WriteState(panel, field, lanes)

let observe (env: QuadrotorEnvironment) name =
    let group = env.Spec.Group name
    let size = env.Spec.Groups[group].Size

    Array.init (panels env) (fun panel ->
        let values = Array.zeroCreate<float32>(size * Panel.Width)
        env.Observe(panel, group, values)
        values)
    |> unpack size

type Outcome = { Reward: float[]; Terminated: bool[]; Truncated: bool[] }

/// Steps all environments; actions and results by environment.
let step (env: QuadrotorEnvironment) (actions: float[][]) =
    let results =
        Array.init (panels env) (fun panel ->
            let action: float32[] =
                pack actions[panel * Panel.Width .. (panel + 1) * Panel.Width - 1]

            let reward = Array.zeroCreate<float32> Panel.Width
            let terminated = Array.zeroCreate<float32> Panel.Width
            let truncated = Array.zeroCreate<float32> Panel.Width
            env.Step(panel, action, reward, terminated, truncated)
            reward, terminated, truncated)

    {
        Reward = results |> Array.collect (fun (r, _, _) -> Array.map float r)
        Terminated = results |> Array.collect (fun (_, t, _) -> Array.map (fun x -> x = 1.0f) t)
        Truncated = results |> Array.collect (fun (_, _, t) -> Array.map (fun x -> x = 1.0f) t)
    }

/// All bits of what changes.
let bits (env: QuadrotorEnvironment) =
    Blocks.floats env.Visit |> Array.map BitConverter.SingleToInt32Bits

let states (env: QuadrotorEnvironment) : State[] =
    let position, orientation =
        read env QuadrotorField.Position, read env QuadrotorField.Orientation

    let velocity, angular =
        read env QuadrotorField.Velocity, read env QuadrotorField.AngularVelocity

    let rotors, previous =
        read env QuadrotorField.Rotors, read env QuadrotorField.PreviousAction

    let force, torque = read env QuadrotorField.Force, read env QuadrotorField.Torque
    let referenceP = read env QuadrotorField.ReferencePosition
    let referenceV = read env QuadrotorField.ReferenceVelocity

    let langevinP, langevinV =
        read env QuadrotorField.LangevinPosition, read env QuadrotorField.LangevinVelocity

    let follows, steps =
        read env QuadrotorField.FollowsLangevin, read env QuadrotorField.Step

    Array.init position.Length (fun i ->
        {
            Position = position[i]
            Orientation = orientation[i]
            Velocity = velocity[i]
            AngularVelocity = angular[i]
            Rotors = rotors[i]
            PreviousAction = previous[i]
            Force = force[i]
            Torque = torque[i]
            ReferencePosition = referenceP[i]
            ReferenceVelocity = referenceV[i]
            LangevinPosition = langevinP[i]
            LangevinVelocity = langevinV[i]
            FollowsLangevin = follows[i][0] = 1.0
            Step = int (steps[i][0])
        })

let writeStates (env: QuadrotorEnvironment) (states: State[]) =
    let put field (value: State -> float[]) =
        write env field (Array.map value states)

    put QuadrotorField.Position _.Position
    put QuadrotorField.Orientation _.Orientation
    put QuadrotorField.Velocity _.Velocity
    put QuadrotorField.AngularVelocity _.AngularVelocity
    put QuadrotorField.Rotors _.Rotors
    put QuadrotorField.PreviousAction _.PreviousAction
    put QuadrotorField.Force _.Force
    put QuadrotorField.Torque _.Torque
    put QuadrotorField.ReferencePosition _.ReferencePosition
    put QuadrotorField.ReferenceVelocity _.ReferenceVelocity
    put QuadrotorField.LangevinPosition _.LangevinPosition
    put QuadrotorField.LangevinVelocity _.LangevinVelocity
    put QuadrotorField.FollowsLangevin (fun s -> [| (if s.FollowsLangevin then 1.0 else 0.0) |])
    put QuadrotorField.Step (fun s -> [| float s.Step |])

/// The parameters with termination switched off, so that a batch steps on where it would start anew.
let endless (drone: QuadrotorParameters) =
    let limits = drone.Mdp.Termination
    // A record of C# has no copy-and-update in F#.
    QuadrotorParameters(
        Name = drone.Name,
        Dynamics = drone.Dynamics,
        Integration = drone.Integration,
        Mdp =
            QuadrotorMdp(
                Init = drone.Mdp.Init,
                Reward = drone.Mdp.Reward,
                Termination =
                    QuadrotorTermination(
                        Enabled = false,
                        PositionThreshold = limits.PositionThreshold,
                        LinearVelocityThreshold = limits.LinearVelocityThreshold,
                        AngularVelocityThreshold = limits.AngularVelocityThreshold
                    )
            ),
        Disturbances = drone.Disturbances,
        Trajectory = drone.Trajectory
    )

/// As the drones' own files say: nothing overridden.
let asGiven envs =
    QuadrotorConfig(Envs = envs, RewardConstant = Nullable(), InitialStates = null, EpisodeLimit = 1_000_000)

let gaussian (random: Random) =
    sqrt (-2.0 * log (1.0 - random.NextDouble())) * cos (2.0 * Math.PI * random.NextDouble())

/// A drone with no two numbers alike, so that a swapped index shows.
let randomDrone (random: Random) =
    let between low high =
        float (float32 (low + (high - low) * random.NextDouble()))

    let mass = between 0.03 4.0
    let arm = between 0.04 0.2
    let thrust = mass * 9.81 * between 1.5 4.0 / 4.0

    let inertia () =
        float (float32 (arm * thrust / between 40.0 800.0))

    let jx, jy, jz = inertia (), inertia (), inertia ()

    let diagonal a b c =
        [| [| a; 0.0; 0.0 |]; [| 0.0; b; 0.0 |]; [| 0.0; 0.0; c |] |]

    let signs = [| 1.0, -1.0; -1.0, -1.0; -1.0, 1.0; 1.0, 1.0 |]
    let four f = Array.init 4 (fun (_: int) -> f ())

    QuadrotorParameters(
        Name = "random",
        Dynamics =
            QuadrotorDynamics(
                RotorPositions =
                    Array.map
                        (fun (x, y) -> [| x * arm * between 0.8 1.2; y * arm * between 0.8 1.2; 0.1 |])
                        signs,
                RotorTorqueDirections =
                    Array.init 4 (fun i ->
                        [| between -0.1 0.1; between -0.1 0.1; (if i % 2 = 0 then -1.0 else 1.0) |]),
                RotorThrustCoefficients =
                    four (fun () ->
                        [| between 0.0 0.05 * thrust; between 0.0 0.2 * thrust; between 0.7 1.0 * thrust |]),
                RotorTorqueConstants = four (fun () -> between 0.005 0.05),
                RotorTimeConstantsRising = four (fun () -> between 0.02 0.1),
                RotorTimeConstantsFalling = four (fun () -> between 0.02 0.3),
                Mass = mass,
                Gravity = [| between -0.5 0.5; between -0.5 0.5; -9.81 |],
                J = diagonal jx jy jz,
                JInv = diagonal (1.0 / jx) (1.0 / jy) (1.02 / jz),
                ActionLimit = ActionLimit(Min = between 0.0 0.1, Max = between 0.9 1.1)
            ),
        Integration = QuadrotorIntegration(Dt = between 0.005 0.015),
        Mdp =
            QuadrotorMdp(
                Reward =
                    RewardWeights(
                        NonNegative = (random.Next 4 = 0),
                        Scale = between 0.5 2.0,
                        Constant = between 0.5 1.5,
                        TerminationPenalty = between -100.0 -1.0,
                        Position = between 0.5 2.0,
                        PositionClip = (if random.Next 2 = 0 then 0.0 else between 0.1 0.5),
                        Orientation = between 0.0 0.5,
                        LinearVelocity = (if random.Next 2 = 0 then 0.0 else between 0.0 0.5),
                        AngularVelocity = (if random.Next 2 = 0 then 0.0 else between 0.0 0.1),
                        DAction = between 0.0 1.5
                    ),
                Termination =
                    QuadrotorTermination(
                        Enabled = (random.Next 5 > 0),
                        PositionThreshold = between 0.4 1.5,
                        LinearVelocityThreshold = between 0.8 3.0,
                        AngularVelocityThreshold = between 5.0 35.0
                    )
            ),
        Trajectory =
            QuadrotorTrajectory(
                Langevin =
                    LangevinProcess(
                        Gamma = between 0.5 2.0,
                        Omega = between 1.0 3.0,
                        Sigma = between 0.1 1.0,
                        Alpha = between 0.01 0.2
                    )
            )
    )

/// A state well inside what flight visits, with the drone's scale of forces.
let randomState (random: Random) (drone: QuadrotorParameters) : State =
    let within limit =
        float (float32 (limit * (2.0 * random.NextDouble() - 1.0)))

    let three limit = Array.init 3 (fun _ -> within limit)
    let q = Array.init 4 (fun _ -> gaussian random)
    let limit = drone.Dynamics.ActionLimit

    let rotor () =
        limit.Min + (limit.Max - limit.Min) * random.NextDouble() |> float32 |> float

    let follows = random.Next 2 = 0

    let reference size =
        if follows then three size else Array.zeroCreate 3

    {
        Position = three 0.6
        Orientation = scale (1.0 / norm q) q |> Array.map (float32 >> float)
        Velocity = three 1.2
        AngularVelocity = three 12.0
        Rotors = Array.init 4 (fun _ -> rotor ())
        PreviousAction = Array.init 4 (fun _ -> within 1.3)
        Force = three (drone.Dynamics.Mass * 2.0)
        Torque = three (1.0 / drone.Dynamics.JInv[0][0])
        ReferencePosition = reference 0.3
        ReferenceVelocity = reference 0.3
        LangevinPosition = reference 0.3
        LangevinVelocity = reference 0.5
        FollowsLangevin = follows
        Step = random.Next 3
    }

let randomAction (random: Random) =
    Array.init 4 (fun _ -> float (float32 (1.3 * (2.0 * random.NextDouble() - 1.0))))
