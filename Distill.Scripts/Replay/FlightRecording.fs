namespace Distill

open System
open System.Collections.Generic
open System.IO
open System.Text
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
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
            fail $"'{path}' holds no recorded flights: {reason}."

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

        let rowsOf = Map [ for name, width, _ in series -> name, rows name width ]

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
                    Position = rowsOf["position"] flight
                    Orientation = rowsOf["orientation"] flight
                    Velocity = rowsOf["velocity"] flight
                    AngularVelocity = rowsOf["angular_velocity"] flight
                    Rotors = rowsOf["rotors"] flight
                    Action = rowsOf["action"] flight
                    Reward = Array.sub reward (flight * steps) (int lengths[flight])
                    ReferencePosition = rowsOf["reference_position"] flight
                    ReferenceVelocity = rowsOf["reference_velocity"] flight
                    Terminated = terminated[flight] <> 0.
                }
        ]

    /// What is recorded of the state.
    let private fields =
        [|
            QuadrotorField.Position
            QuadrotorField.Orientation
            QuadrotorField.Velocity
            QuadrotorField.AngularVelocity
            QuadrotorField.Rotors
            QuadrotorField.ReferencePosition
            QuadrotorField.ReferenceVelocity
        |]

    /// Records all environments of a batch: of every panel and step the fields, then action and reward.
    type private Recorder(environment: QuadrotorEnvironment, policy: ActingPolicy) =
        let steps =
            Array.init (Panel.Count environment.Count) (fun _ -> ResizeArray<float32[][]>())

        /// Steps of each environment's episode; 0 until it ends.
        let lengths = Array.zeroCreate<int> environment.Count
        let terminated = Array.zeroCreate<bool> environment.Count

        member _.Terminated = terminated

        /// One of the series of an environment, until its episode ended, `[steps][n]`.
        member _.Rows(i: int, series: int) : float[][] =
            let steps = steps[i / Panel.Width]

            Array.init (if lengths[i] = 0 then steps.Count else lengths[i]) (fun step ->
                let values = steps[step][series]

                Array.init (values.Length / Panel.Width) (fun n ->
                    float values[n * Panel.Width + i % Panel.Width]))

        interface IRollout with
            member _.Begin panel = environment.Reset panel

            member _.Act step =
                let kept: float32[][] = Array.zeroCreate (fields.Length + 2)

                for index in 0 .. fields.Length - 1 do
                    kept[index] <- Array.zeroCreate (fields[index].Size() * Panel.Width)
                    environment.ReadState(step.Panel, fields[index], kept[index])

                let observation = step.Own.Panel policy.Policy.Network.Spec.Inputs
                policy.Observe(step.Panel, observation)
                policy.Policy.Decide(policy.Forward(step.Panel, observation, step.Own), step.Action)
                kept[fields.Length] <- step.Action.Values.ToArray()
                steps[step.Panel].Add kept
                true

            member _.Take step =
                let kept = steps[step.Panel] |> Seq.last
                kept[fields.Length + 1] <- step.Reward.ToArray()
                let mutable flying = false

                for i in step.First .. min (step.First + Panel.Width) environment.Count - 1 do
                    if lengths[i] = 0 && step.Done(i - step.First) then
                        lengths[i] <- step.Number + 1
                        terminated[i] <- step.Terminated[i - step.First] <> 0f

                    flying <- flying || lengths[i] = 0

                flying

            member _.End(_, _) = ()

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

        use acting = new ActingPolicy(policy, environment, "policy")
        use pool = new WorkerPool(1)
        let recorder = Recorder(environment, acting)
        use loop = new RolloutLoop(environment, pool, recorder)
        loop.Run steps

        [
            for i in 0 .. episodes - 1 do
                let drone = environment.Drones[environment.Assignment[i]]
                let limit = drone.Dynamics.ActionLimit

                let share (state: float) =
                    float ((float32 state - float32 limit.Min) / (float32 limit.Max - float32 limit.Min))

                let rows (field: QuadrotorField) =
                    recorder.Rows(i, Array.IndexOf(fields, field))

                {
                    Drone = drone.Name
                    StepTime = environment.Spec.StepSeconds
                    RotorPositions = drone.Dynamics.RotorPositions
                    Position = rows QuadrotorField.Position
                    Orientation = rows QuadrotorField.Orientation
                    Velocity = rows QuadrotorField.Velocity
                    AngularVelocity = rows QuadrotorField.AngularVelocity
                    Rotors = rows QuadrotorField.Rotors |> Array.map (Array.map share)
                    Action = recorder.Rows(i, fields.Length)
                    Reward = recorder.Rows(i, fields.Length + 1) |> Array.map Array.head
                    ReferencePosition = rows QuadrotorField.ReferencePosition
                    ReferenceVelocity = rows QuadrotorField.ReferenceVelocity
                    Terminated = recorder.Terminated[i]
                }
        ]

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
