namespace Distill

open System
open System.Collections.Generic
open System.IO
open System.Text
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Policies
open Distill.Storage

/// One flight of one quadrotor, step by step: `[steps][n]`, the true state before every step. World frame right-handed
/// with z up, body frame x forward, y left; rotors front-right, back-right, back-left, front-left.
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
        /// Body, rad/s.
        AngularVelocity: float[][]
        /// Rotor states from 0, the drone's lower limit, to 1, its upper.
        Rotors: float[][]
        /// What the policy commanded in this state; the motors clamp it to -1 … 1.
        Action: float[][]
        /// Of the step from this state, `[steps]`.
        Reward: float[]
        /// Where the drone should be, world, m.
        ReferencePosition: float[][]
        /// World, m/s.
        ReferenceVelocity: float[][]
        /// Whether the flight ended in a terminal state; if not, by a limit of steps.
        Terminated: bool
    }

    member flight.Steps = flight.Position.Length

    /// Sum of the rewards.
    member flight.Return = Array.sum flight.Reward

    static member private Distances (actual: float[][]) (reference: float[][]) =
        Array.map2
            (fun (a: float[]) (r: float[]) -> sqrt (Seq.sum (Seq.map2 (fun a r -> (a - r) * (a - r)) a r)))
            actual
            reference

    /// Distance to the reference in every step, m.
    member flight.PositionError =
        FlightRecording.Distances flight.Position flight.ReferencePosition

    /// Length of the difference to the reference's velocity in every step, m/s.
    member flight.VelocityError =
        FlightRecording.Distances flight.Velocity flight.ReferenceVelocity

module FlightRecording =
    /// The series of a file: names, numbers in a step, and what a flight has.
    let private series: (string * int * (FlightRecording -> float[][])) list =
        [
            "position", 3, _.Position
            "orientation", 4, _.Orientation
            "velocity", 3, _.Velocity
            "angular_velocity", 3, _.AngularVelocity
            "rotors", 4, _.Rotors
            "action", 4, _.Action
            "reference_position", 3, _.ReferencePosition
            "reference_velocity", 3, _.ReferenceVelocity
        ]

    /// Writes flights as NumPy arrays `[flights, steps, n]`; after the end of a flight there are NaNs. `length`,
    /// `terminated` and `step_seconds` are `[flights]`, `reward` is `[flights, steps]`.
    let save (path: string) (flights: FlightRecording list) =
        let count = flights.Length
        let steps = flights |> List.map _.Steps |> List.fold max 0

        let padded (width: int) (rows: FlightRecording -> float[][]) =
            flights
            |> Seq.collect (fun flight ->
                Array.append (Array.concat (rows flight)) (Array.create ((steps - flight.Steps) * width) nan))
            |> Seq.map float32
            |> Seq.toArray

        let names = flights |> List.map (_.Drone >> Encoding.UTF8.GetBytes)
        let longest = names |> List.map _.Length |> List.fold max 0

        let paddedNames =
            names
            |> Seq.collect (fun name -> Array.append name (Array.zeroCreate (longest - name.Length)))
            |> Seq.toArray

        let doubles (name: string) (values: FlightRecording -> float[]) (shape: int array) =
            Tensor.OfDoubles(name, ReadOnlySpan(flights |> Seq.collect values |> Seq.toArray), shape)

        Npz.Write(
            path,
            [
                for name, width, rows in series do
                    Tensor.OfFloats(name, ReadOnlySpan(padded width rows), count, steps, width)
                Tensor.OfFloats(
                    "reward",
                    ReadOnlySpan(padded 1 (fun flight -> flight.Reward |> Array.map Array.singleton)),
                    count,
                    steps
                )
                let lengths = flights |> List.map (_.Steps >> int64) |> Array.ofList
                Tensor.OfIntegers("length", ReadOnlySpan lengths, count)
                let terminated = flights |> List.map _.Terminated |> Array.ofList
                Tensor.OfBools("terminated", ReadOnlySpan terminated, count)
                doubles "step_seconds" (_.StepTime >> Array.singleton) [| count |]
                doubles "rotor_positions" (_.RotorPositions >> Array.concat) [| count; 4; 3 |]
                Tensor.OfBytes("drone", ReadOnlySpan paddedNames, count, longest)
            ],
            true
        )

    /// Steps of all flights of a file; each takes about 400 bytes of memory.
    let private maxSteps = 2_000_000L

    /// Reads what `save` wrote.
    let load (path: string) : FlightRecording list =
        let arrays = Npz.Read path

        let fail (reason: string) =
            raise (DistillException $"'{path}' holds no recorded flights: {reason}.")

        let find (name: string) =
            match arrays |> Seq.tryFind (fun array -> array.Name = name) with
            | Some array -> array
            | None -> fail $"it has no array '{name}'"

        let wrongShape (array: Tensor) (right: string) =
            fail $"its array '{array.Name}' has the shape {array.ShapeText} instead of {right}"

        let count, steps =
            match find "position" with
            | array when array.Shape.Count = 3 && array.Shape[0] > 0 && array.Shape[2] = 3 ->
                array.Shape[0], array.Shape[1]
            | array -> wrongShape array "[flights, steps, 3]"

        if int64 count * int64 (max 1 steps) > maxSteps then
            fail $"its {count} flights of {steps} steps are more than the {maxSteps} steps that can be read"

        /// An array of this shape, as numbers.
        let numbers (name: string) (shape: int list) =
            let array = find name

            if List.ofSeq array.Shape <> shape then
                let right = String.Join(", ", shape)
                wrongShape array $"[{right}]"

            array.ToDoubles()

        let lengths = numbers "length" [ count ]

        if lengths |> Array.exists (fun length -> not (length >= 0. && length <= float steps)) then
            fail $"its array 'length' has numbers that are not between 0 and {steps}"

        let rows (name: string) (width: int) =
            let values = numbers name [ count; steps; width ] |> Array.chunkBySize width
            fun flight -> Array.sub values (flight * steps) (int lengths[flight])

        let position, orientation, velocity =
            rows "position" 3, rows "orientation" 4, rows "velocity" 3

        let angularVelocity, rotors, action =
            rows "angular_velocity" 3, rows "rotors" 4, rows "action" 4

        let referencePosition, referenceVelocity =
            rows "reference_position" 3, rows "reference_velocity" 3

        let reward = numbers "reward" [ count; steps ]
        let terminated = numbers "terminated" [ count ]
        let stepTime = numbers "step_seconds" [ count ]
        let rotorPositions = numbers "rotor_positions" [ count; 4; 3 ]

        let drone =
            match find "drone" with
            | array when array.Shape.Count = 2 && array.Shape[0] = count ->
                let width = array.Data.Length / count

                fun flight ->
                    Encoding.UTF8.GetString(array.Data.Span.Slice(flight * width, width)).TrimEnd '\000'
            | array -> wrongShape array $"[{count}, bytes]"

        [
            for flight in 0 .. count - 1 do
                {
                    Drone = drone flight
                    StepTime = stepTime[flight]
                    RotorPositions = Array.sub rotorPositions (12 * flight) 12 |> Array.chunkBySize 3
                    Position = position flight
                    Orientation = orientation flight
                    Velocity = velocity flight
                    AngularVelocity = angularVelocity flight
                    Rotors = rotors flight
                    Action = action flight
                    Reward = Array.sub reward (flight * steps) (int lengths[flight])
                    ReferencePosition = referencePosition flight
                    ReferenceVelocity = referenceVelocity flight
                    Terminated = terminated[flight] <> 0.
                }
        ]

    /// One lane of a panel `[n, 32]`.
    let private lane (panel: float32 array) (lane: int) =
        Array.init (panel.Length / Panel.Width) (fun row -> panel[row * Panel.Width + lane])

    let private fly (environment: QuadrotorEnvironment) (policy: Policy) (steps: int) (panel: int) =
        use scratch = new PolicyScratch(policy)
        let group = environment.Spec.Group policy.ObservationGroup
        let zeros (rows: int) : float32 array = Array.zeroCreate (rows * Panel.Width)
        let observation, memory = zeros policy.Network.Spec.Inputs, zeros policy.MemorySize
        let reward, terminated, truncated = zeros 1, zeros 1, zeros 1

        /// What a flight does in a step.
        let step () =
            let read (field: QuadrotorField) =
                let values = zeros (field.Size())
                environment.ReadState(panel, field, Span values)
                fun at -> lane values at |> Array.map float

            let position, orientation =
                read QuadrotorField.Position, read QuadrotorField.Orientation

            let velocity, turning =
                read QuadrotorField.Velocity, read QuadrotorField.AngularVelocity

            let reference = read QuadrotorField.ReferencePosition
            let referenceVelocity = read QuadrotorField.ReferenceVelocity
            let rotors = zeros (QuadrotorField.Rotors.Size())
            environment.ReadState(panel, QuadrotorField.Rotors, Span rotors)
            let action = zeros 4
            environment.Observe(panel, group, Span observation)
            policy.Act(ReadOnlySpan observation, Span memory, Span action, scratch)
            environment.Step(panel, ReadOnlySpan action, Span reward, Span terminated, Span truncated)

            fun (drone: QuadrotorParameters) (at: int) ->
                let low, high =
                    float32 drone.Dynamics.ActionLimit.Min, float32 drone.Dynamics.ActionLimit.Max

                {|
                    Position = position at
                    Orientation = orientation at
                    Velocity = velocity at
                    AngularVelocity = turning at
                    Rotors = lane rotors at |> Array.map (fun state -> float ((state - low) / (high - low)))
                    Action = lane action at |> Array.map float
                    Reward = float reward[at]
                    ReferencePosition = reference at
                    ReferenceVelocity = referenceVelocity at
                |}

        let first = panel * Panel.Width
        let lanes = min Panel.Width (environment.Count - first)

        let drone at =
            environment.Drones[environment.Assignment[first + at]]

        let flown = Array.init lanes (fun _ -> List<_>())
        let crashed = Array.create lanes false
        let mutable flying = [ 0 .. lanes - 1 ]
        environment.Reset panel

        for _ in 1..steps do
            if not flying.IsEmpty then
                let taken = step ()

                for at in flying do
                    flown[at].Add(taken (drone at) at)
                    crashed[at] <- terminated[at] <> 0f

                flying <- flying |> List.filter (fun at -> terminated[at] = 0f && truncated[at] = 0f)

        [
            for at in 0 .. lanes - 1 do
                let column choose =
                    flown[at] |> Seq.map choose |> Array.ofSeq

                {
                    Drone = (drone at).Name
                    StepTime = environment.Spec.StepSeconds
                    RotorPositions = (drone at).Dynamics.RotorPositions
                    Position = column _.Position
                    Orientation = column _.Orientation
                    Velocity = column _.Velocity
                    AngularVelocity = column _.AngularVelocity
                    Rotors = column _.Rotors
                    Action = column _.Action
                    Reward = flown[at] |> Seq.map _.Reward |> Array.ofSeq
                    ReferencePosition = column _.ReferencePosition
                    ReferenceVelocity = column _.ReferenceVelocity
                    Terminated = crashed[at]
                }
        ]

    /// Flies one episode with each of this many quadrotors, deterministically, and records them: at most these steps, or
    /// fewer where an episode ends. The same seed gives every policy the same initial states and the same references.
    let recordEpisodes
        (config: QuadrotorConfig)
        (policy: Policy)
        (seed: uint64)
        (episodes: int)
        (steps: int)
        : FlightRecording list =
        use environment =
            (config :> IEnvironmentConfig).Create(episodes, seed) :?> QuadrotorEnvironment

        policy.Check(environment.Spec, "policy")
        [ 0 .. Panel.Count episodes - 1 ] |> List.collect (fly environment policy steps)

    /// `recordEpisodes` for one quadrotor, the first.
    let record (config: QuadrotorConfig) (policy: Policy) (seed: uint64) (steps: int) : FlightRecording =
        recordEpisodes config policy seed 1 steps |> List.head

    /// The flights that a run folder holds, `flights/NAME.npz`: names and flights, teacher before student.
    let ofRun (folder: string) : (string * FlightRecording) list =
        let flights = Path.Combine(folder, "flights")

        if Directory.Exists flights then
            Directory.GetFiles(flights, "*.npz")
            |> Array.sortDescending
            |> Array.map (fun path -> string (Path.GetFileNameWithoutExtension path), List.head (load path))
            |> List.ofArray
        else
            []
