namespace Distill

open System
open System.Collections.Generic
open System.Text
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Policies
open Distill.Storage

/// One flight of one quadrotor, step by step: `[steps][n]`. World frame right-handed with z up, body frame x forward,
/// y left; rotors front-right, back-right, back-left, front-left.
type FlightRecording =
    {
        /// Which drone flew.
        Drone: string
        /// Seconds of one step.
        StepTime: float
        /// Rotor centres in the body frame, m, `[4][3]`.
        RotorPositions: float[][]
        /// World, m.
        Position: float[][]
        /// Unit quaternion (w, x, y, z), body to world.
        Orientation: float[][]
        /// World, m/s.
        Velocity: float[][]
        /// Rotor states from 0, the drone's lower limit, to 1, its upper.
        Rotors: float[][]
        /// What the policy commanded in this state, clamped to -1 … 1.
        Command: float[][]
        /// Where the drone should be, world, m.
        Reference: float[][]
        /// World, m/s.
        ReferenceVelocity: float[][]
        /// Whether the flight ended in a terminal state; if not, by a limit of steps.
        Terminated: bool
    }

    member flight.Steps = flight.Position.Length

    /// Distance to the reference in every step, m.
    member flight.PositionError =
        Array.map2
            (fun (p: float[]) (r: float[]) -> sqrt (Seq.sum (Seq.map2 (fun a b -> (a - b) * (a - b)) p r)))
            flight.Position
            flight.Reference

module FlightRecording =
    let private columns (flight: FlightRecording) =
        [
            "position", flight.Position
            "orientation", flight.Orientation
            "velocity", flight.Velocity
            "rotors", flight.Rotors
            "command", flight.Command
            "reference", flight.Reference
            "reference_velocity", flight.ReferenceVelocity
            "rotor_positions", flight.RotorPositions
        ]

    /// Writes the flight as NumPy arrays `[steps, n]`.
    let save (path: string) (flight: FlightRecording) =
        Npz.Write(
            path,
            [
                for name, rows in columns flight do
                    let width = if rows.Length = 0 then 0 else rows[0].Length
                    Tensor.OfDoubles(name, ReadOnlySpan(Array.concat rows), rows.Length, width)
                Tensor.OfDoubles("step_time", ReadOnlySpan [| flight.StepTime |], 1)
                Tensor.OfBools("terminated", ReadOnlySpan [| flight.Terminated |], 1)
                let name = Encoding.UTF8.GetBytes flight.Drone
                Tensor.OfBytes("drone", ReadOnlySpan name, name.Length)
            ],
            true
        )

    /// Reads what `save` wrote.
    let load (path: string) : FlightRecording =
        let arrays = Npz.Read path

        let fail (reason: string) =
            raise (DistillException $"'{path}' is not a recorded flight: {reason}.")

        let find (name: string) =
            match arrays |> Seq.tryFind (fun array -> array.Name = name) with
            | Some array -> array
            | None -> fail $"it has no array '{name}'"

        let rows (name: string) (width: int) =
            let array = find name

            if array.Shape.Count <> 2 || array.Shape[1] <> width then
                fail $"its array '{name}' has the shape {array.ShapeText} instead of [steps, {width}]"

            array.ToDoubles() |> Array.chunkBySize width

        let position = rows "position" 3

        let perStep (name: string) (width: int) =
            let rows = rows name width

            if rows.Length <> position.Length then
                fail $"its array '{name}' has {rows.Length} steps and 'position' has {position.Length}"

            rows

        {
            Drone = Encoding.UTF8.GetString((find "drone").Data.Span)
            StepTime = (find "step_time").ToDoubles() |> Array.tryHead |> Option.defaultValue 0.01
            RotorPositions = rows "rotor_positions" 3
            Position = position
            Orientation = perStep "orientation" 4
            Velocity = perStep "velocity" 3
            Rotors = perStep "rotors" 4
            Command = perStep "command" 4
            Reference = perStep "reference" 3
            ReferenceVelocity = perStep "reference_velocity" 3
            Terminated = (find "terminated").Data.Span.IndexOf 1uy >= 0
        }

    /// Flies one episode of the first drone, deterministically, and records it: at most these steps, or fewer where the
    /// episode ends. The same seed gives every policy the same initial state and the same reference.
    let record (config: QuadrotorConfig) (policy: Policy) (seed: uint64) (steps: int) : FlightRecording =
        use environment = new QuadrotorEnvironment(config, seed)
        policy.Check(environment.Spec, "policy")
        let group = environment.Spec.Group policy.ObservationGroup
        let drone = environment.Drones[environment.Assignment[0]]
        use observation = new FloatBuffer(policy.Network.Spec.Inputs * Panel.Width)
        use memory = new FloatBuffer(policy.MemorySize * Panel.Width)
        use action = new FloatBuffer(4 * Panel.Width)
        use scratch = new PolicyScratch(policy)
        let perEnvironment () = Array.zeroCreate<float32> Panel.Width

        let reward, terminated, truncated =
            perEnvironment (), perEnvironment (), perEnvironment ()

        let panel = Array.zeroCreate (4 * Panel.Width)

        let read (field: QuadrotorField) =
            environment.ReadState(0, field, Span panel)
            Array.init (field.Size()) (fun row -> float panel[row * Panel.Width])

        let limit = drone.Dynamics.ActionLimit

        let step () =
            environment.Observe(0, group, observation.Span)
            policy.Act(observation.Span, memory.Span, action.Span, scratch)

            {|
                Position = read QuadrotorField.Position
                Orientation = read QuadrotorField.Orientation
                Velocity = read QuadrotorField.Velocity
                Rotors =
                    read QuadrotorField.Rotors
                    |> Array.map (fun state -> (state - limit.Min) / (limit.Max - limit.Min))
                Command =
                    Array.init 4 (fun rotor -> Math.Clamp(float action.Span[rotor * Panel.Width], -1., 1.))
                Reference = read QuadrotorField.ReferencePosition
                ReferenceVelocity = read QuadrotorField.ReferenceVelocity
            |}

        memory.Span.Clear()
        let flown = List<_>()

        let ended () =
            terminated[0] <> 0f || truncated[0] <> 0f

        while flown.Count < steps && not (ended ()) do
            flown.Add(step ())
            environment.Step(0, action.Span, Span reward, Span terminated, Span truncated)

        let column choose = flown |> Seq.map choose |> Array.ofSeq

        {
            Drone = drone.Name
            StepTime = environment.Spec.StepTime
            RotorPositions = drone.Dynamics.RotorPositions
            Position = column _.Position
            Orientation = column _.Orientation
            Velocity = column _.Velocity
            Rotors = column _.Rotors
            Command = column _.Command
            Reference = column _.Reference
            ReferenceVelocity = column _.ReferenceVelocity
            Terminated = (terminated[0] <> 0f)
        }
