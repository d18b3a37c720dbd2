/// The L2F simulator for one drone, in double precision and plain loops, written from its equations and not from the
/// kernels: what the kernels are compared with.
module Distill.Tests.QuadrotorOracle

open System
open Distill.Environments.Quadrotor

type State =
    {
        Position: float[]
        Orientation: float[]
        Velocity: float[]
        AngularVelocity: float[]
        Rotors: float[]
        PreviousAction: float[]
        Force: float[]
        Torque: float[]
        ReferencePosition: float[]
        ReferenceVelocity: float[]
        LangevinPosition: float[]
        LangevinVelocity: float[]
        FollowsLangevin: bool
        Step: int
    }

let add = Array.map2 (fun (a: float) b -> a + b)
let subtract = Array.map2 (fun (a: float) b -> a - b)
let scale (k: float) = Array.map (fun a -> k * a)
let norm (a: float[]) = sqrt (Array.sumBy (fun x -> x * x) a)

let cross (a: float[]) (b: float[]) =
    [| a[1] * b[2] - a[2] * b[1]; a[2] * b[0] - a[0] * b[2]; a[0] * b[1] - a[1] * b[0] |]

let apply (matrix: float[][]) (a: float[]) =
    matrix |> Array.map (fun row -> Array.fold2 (fun sum m x -> sum + m * x) 0.0 row a)

let product (a: float[]) (b: float[]) =
    [|
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3]
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2]
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1]
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]
    |]

/// The simulator's rotation, which does not normalize: v + 2 w (q x v) + 2 q x (q x v).
let rotate (q: float[]) (v: float[]) =
    let axis = q[1..3]
    let turned = cross axis v
    add v (add (scale (2.0 * q[0]) turned) (scale 2.0 (cross axis turned)))

let rotationMatrix (q: float[]) =
    let w, x, y, z = q[0], q[1], q[2], q[3]

    [|
        1.0 - 2.0 * y * y - 2.0 * z * z
        2.0 * x * y - 2.0 * w * z
        2.0 * x * z + 2.0 * w * y
        2.0 * x * y + 2.0 * w * z
        1.0 - 2.0 * x * x - 2.0 * z * z
        2.0 * y * z - 2.0 * w * x
        2.0 * x * z - 2.0 * w * y
        2.0 * y * z + 2.0 * w * x
        1.0 - 2.0 * x * x - 2.0 * y * y
    |]

let private command (drone: QuadrotorDynamics) (action: float[]) =
    let min, max = drone.ActionLimit.Min, drone.ActionLimit.Max

    action |> Array.map (fun a -> min + (Math.Clamp(a, -1.0, 1.0) + 1.0) / 2.0 * (max - min))

/// Derivative of (position 3, orientation 4, velocity 3, angular velocity 3, rotors 4).
let private derivative
    (drone: QuadrotorDynamics)
    (command: float[])
    (force: float[])
    (torque: float[])
    (x: float[])
    =
    let q, v, w, rotors = x[3..6], x[7..9], x[10..12], x[13..16]

    let thrusts =
        Array.map2 (fun (c: float[]) w -> c[0] + c[1] * w + c[2] * w * w) drone.RotorThrustCoefficients rotors

    let thrust =
        Array.map2 scale thrusts drone.RotorThrustDirections |> Array.reduce add

    let torques =
        Array.init 4 (fun i ->
            add
                (scale (thrusts[i] * drone.RotorTorqueConstants[i]) drone.RotorTorqueDirections[i])
                (cross drone.RotorPositions[i] (scale thrusts[i] drone.RotorThrustDirections[i])))
        |> Array.reduce add

    let acceleration =
        scale (1.0 / drone.Mass) (add (rotate q thrust) force) |> add drone.Gravity

    let gyroscopic = cross w (apply drone.J w)
    let angular = apply drone.JInv (add (subtract torques gyroscopic) torque)

    let rates =
        Array.init 4 (fun i ->
            let time =
                if command[i] >= rotors[i] then
                    drone.RotorTimeConstantsRising[i]
                else
                    drone.RotorTimeConstantsFalling[i]

            (command[i] - rotors[i]) / time)

    Array.concat [ v; scale 0.5 (product q (Array.append [| 0.0 |] w)); acceleration; angular; rates ]

let advanceLangevin (trajectory: QuadrotorTrajectory) dt (noise: float[]) (state: State) =
    if not state.FollowsLangevin then
        state
    else
        let l = trajectory.Langevin

        let velocity =
            Array.init 3 (fun i ->
                let x, v = state.LangevinPosition[i], state.LangevinVelocity[i]
                v + (-l.Gamma * v - l.Omega * l.Omega * x) * dt + l.Sigma * sqrt dt * noise[i])

        let position = add state.LangevinPosition (scale dt velocity)

        let smoothVelocity =
            add (scale l.Alpha velocity) (scale (1.0 - l.Alpha) state.ReferenceVelocity)

        { state with
            LangevinPosition = position
            LangevinVelocity = velocity
            ReferenceVelocity = smoothVelocity
            ReferencePosition = add state.ReferencePosition (scale dt smoothVelocity)
        }

/// The next state, with the reference where it was.
let step (parameters: QuadrotorParameters) (action: float[]) (state: State) =
    let drone, dt = parameters.Dynamics, parameters.Integration.Dt

    let x =
        Array.concat
            [ state.Position; state.Orientation; state.Velocity; state.AngularVelocity; state.Rotors ]

    let f = derivative drone (command drone action) state.Force state.Torque
    let k1 = f x
    let k2 = f (add x (scale (dt / 2.0) k1))
    let k3 = f (add x (scale (dt / 2.0) k2))
    let k4 = f (add x (scale dt k3))
    let sum = add (add k1 (scale 2.0 k2)) (add (scale 2.0 k3) k4)
    let next = add x (scale (dt / 6.0) sum)
    let clamp = Array.map (fun (a: float) -> Math.Clamp(a, -1e5, 1e5))
    let limit = drone.ActionLimit

    { state with
        Position = clamp next[0..2]
        Orientation = scale (1.0 / norm next[3..6]) next[3..6]
        Velocity = clamp next[7..9]
        AngularVelocity = clamp next[10..12]
        Rotors = next[13..16] |> Array.map (fun w -> Math.Clamp(w, limit.Min, limit.Max))
        PreviousAction = action
        Step = state.Step + 1
    }

/// How far the state is beyond its nearest threshold, as a share of it: positive is terminal.
let excess (parameters: QuadrotorParameters) (relative: bool) (state: State) =
    let limits = parameters.Mdp.Termination

    let about (reference: float[]) =
        if relative then reference else [| 0.0; 0.0; 0.0 |]

    let beyond threshold values =
        (values |> Array.map abs |> Array.max) / threshold - 1.0

    if limits.Enabled then
        List.max
            [
                beyond limits.PositionThreshold (subtract state.Position (about state.ReferencePosition))
                beyond
                    limits.LinearVelocityThreshold
                    (subtract state.Velocity (about state.ReferenceVelocity))
                beyond limits.AngularVelocityThreshold state.AngularVelocity
            ]
    else
        -1.0

let reward (parameters: QuadrotorParameters) (terminated: bool) (action: float[]) (state: State) =
    let r = parameters.Mdp.Reward

    if terminated then
        r.TerminationPenalty
    else
        let distance = norm (subtract state.Position state.ReferencePosition)

        let previous =
            if state.Step = 0 then
                Array.zeroCreate 4
            else
                state.PreviousAction

        let cost =
            r.Position
            * (if r.PositionClip > 0.0 then
                   min distance r.PositionClip
               else
                   distance)
            + r.Orientation * 2.0 * acos (1.0 - abs state.Orientation[3])
            + r.LinearVelocity * norm (subtract state.Velocity state.ReferenceVelocity)
            + r.AngularVelocity * norm state.AngularVelocity
            + r.DAction * norm (subtract action previous)

        let value = r.Constant - r.Scale * cost
        if r.NonNegative then max value 0.0 else value

let student (state: State) =
    Array.concat
        [
            state.Position
            rotationMatrix state.Orientation
            state.Velocity
            state.AngularVelocity
            state.PreviousAction
        ]

let tracking (state: State) =
    student
        { state with
            Position = subtract state.Position state.ReferencePosition
            Velocity = subtract state.Velocity state.ReferenceVelocity
        }

let teacher (parameters: QuadrotorParameters) (state: State) =
    let limit = parameters.Dynamics.ActionLimit

    state.Rotors
    |> Array.map (fun w -> (w - limit.Min) / (limit.Max - limit.Min) * 2.0 - 1.0)
    |> Array.append (tracking state)

/// The teacher's observation, what the disturbance accelerates, and the drone's parameters.
let privileged (parameters: QuadrotorParameters) (state: State) =
    let drone = parameters.Dynamics
    let limit = drone.ActionLimit

    let thrust (w: float) =
        drone.RotorThrustCoefficients |> Array.map (fun c -> c[0] + c[1] * w + c[2] * w * w)

    // Angular acceleration by each rotor alone at its most.
    let turning =
        thrust limit.Max
        |> Array.mapi (fun i f ->
            add
                (scale (f * drone.RotorTorqueConstants[i]) drone.RotorTorqueDirections[i])
                (cross drone.RotorPositions[i] (scale f drone.RotorThrustDirections[i]))
            |> apply drone.JInv)

    let most axis =
        turning |> Array.sumBy (fun acceleration -> max 0.0 acceleration[axis])

    let share low high value =
        2.0 * log (value / low) / log (high / low) - 1.0

    let weight = drone.Mass * norm drone.Gravity

    // The root of the sum of the thrust's polynomials.
    let hover =
        let sum i =
            drone.RotorThrustCoefficients |> Array.sumBy (fun c -> c[i])

        let a, b, c = sum 2, sum 1, sum 0 - weight
        (-b + sqrt (b * b - 4.0 * a * c)) / (2.0 * a)

    Array.concat
        [
            teacher parameters state
            scale (1.0 / drone.Mass) state.Force
            [|
                share 1.5 5.0 (Array.sum (thrust limit.Max) / weight)
                share 56.0 1700.0 (most 0)
                share 56.0 1700.0 (most 1)
                share 2.0 1400.0 (most 2)
                share 0.03 0.1 (Array.average drone.RotorTimeConstantsRising)
                share 0.03 0.3 (Array.average drone.RotorTimeConstantsFalling)
                share 0.5 5.0 parameters.Mdp.Termination.PositionThreshold
                2.0 * (hover - limit.Min) / (limit.Max - limit.Min) - 1.0
            |]
        ]

/// Position and velocity of the figure-eight t seconds after its start.
let figureEight (path: FigureEight) (t: float) =
    let inRamp = min t path.RampSeconds
    let rate = inRamp / path.RampSeconds
    let a = 2.0 * Math.PI / path.LoopSeconds * (rate * inRamp / 2.0 + (t - inRamp))
    let speed = 2.0 * Math.PI / path.LoopSeconds * rate

    [| path.HalfLength / 2.0 * sin (2.0 * a); path.HalfLength * sin a; 0.0 |],
    [| path.HalfLength * cos (2.0 * a) * speed; path.HalfLength * cos a * speed; 0.0 |]
