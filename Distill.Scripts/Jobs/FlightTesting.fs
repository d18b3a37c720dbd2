namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Policies
open MathNet.Numerics.LinearAlgebra
open MathNet.Numerics.LinearRegression

/// A policy's episodes on sampled drones: their figures and, of each drone, the results.
type DroneResults = { Figures: DroneFigures array; Results: EvaluationResult array; All: EvaluationResult }

/// Distances of many drones from their reference over time, `[steps][drones]` in m.
type Response = { What: string; StepSeconds: float; ChangeAt: float; Distances: float32 array array }

/// How well a linear function of a policy's memory tells a drone's parameter, by the time since the start: R² on drones that the
/// function was not fitted to.
type Probe = { Parameter: string; Times: float array; RSquared: float array }

/// All that the flight tests measured of one policy.
type FlightTestResults =
    {
        Drones: DroneResults

        /// By the task: position, langevin.
        Tasks: (string * EvaluationResult) list
        Airframes: (string * EvaluationResult) list

        /// Figures of eight, by the seconds of a loop.
        FigureEights: (float * EvaluationResult) list

        /// Share of drones that are back within 0.3 m and 30° of level after five seconds, by the angle in degrees that they start
        /// tilted at.
        Recovery: (float * float) list
        Responses: Response list
        Probes: Probe list
    }

module internal FlightTesting =
    /// Drones that fly on whatever happens.
    let endless (drones: QuadrotorParameters seq) : QuadrotorParameters array =
        [|
            for drone in drones ->
                let mdp = drone.Mdp

                drone
                |> Settings.set
                    <@ _.Mdp @>
                    (mdp
                     |> Settings.set
                         <@ _.Termination @>
                         (mdp.Termination |> Settings.set <@ _.Enabled @> false))
        |]

    /// One environment for each of the drones, holding the origin until something happens.
    let hovering (drones: QuadrotorParameters array) (start: InitialStates) (seed: uint64) =
        let config =
            QuadrotorConfig(
                Envs = drones.Length,
                Task = QuadrotorTask.Position,
                EpisodeLimit = 1_000_000,
                InitialStates = start
            )

        new QuadrotorEnvironment(config, seed, drones)

    /// Level and at rest.
    let atRest = InitialStates(Guidance = 1.0)

    /// Steps all environments, from a state that is not reset; `look` is shown the number of each step before it.
    type private Flight(environment: QuadrotorEnvironment, acting: ActingPolicy, look: int -> int -> unit) =
        interface IRollout with
            member _.Begin _ = ()

            member _.Act step =
                look step.Panel step.Number
                let observation = step.Own.Panel acting.Policy.Network.Spec.Inputs
                acting.Observe(step.Panel, observation)
                acting.Policy.Decide(acting.Forward(step.Panel, observation, step.Own), step.Action)
                true

            member _.Take _ = true
            member _.End(_, _) = ()

    let fly pool (environment: QuadrotorEnvironment) acting (steps: int) (look: int -> int -> unit) =
        use loop = new RolloutLoop(environment, pool, Flight(environment, acting, look))
        loop.Run steps

    let private read (environment: QuadrotorEnvironment) (panel: int) (field: QuadrotorField) =
        let values = Array.zeroCreate<float32>(field.Size() * Panel.Width)
        environment.ReadState(panel, field, values)
        values

    /// Lengths of the vectors in three rows `[3, 32]`.
    let private lengths (rows: float32 array) =
        Array.init Panel.Width (fun lane ->
            let part i = rows[i * Panel.Width + lane]
            sqrt (part 0 * part 0 + part 1 * part 1 + part 2 * part 2))

    let distances environment panel =
        Array.map2
            (-)
            (read environment panel QuadrotorField.Position)
            (read environment panel QuadrotorField.ReferencePosition)
        |> lengths

    let private evaluate
        (pool: WorkerPool)
        (policy: Policy)
        (config: QuadrotorConfig)
        (episodes: int)
        (seed: uint64)
        =
        use evaluator = new Evaluator(config, episodes, seed, pool)
        evaluator.Run policy

    let private ofDrones pool policy (config: QuadrotorConfig) (episodes: int) (seed: uint64) =
        let drones = config.LoadDrones() |> Array.ofSeq
        let all = evaluate pool policy config (drones.Length * episodes) seed
        drones, Array.ofSeq (all.ByVariant [| for drone in drones -> drone.Name |]), all

    let private drones pool policy (episodes: int) (seed: uint64) (config: QuadrotorConfig) : DroneResults =
        let drones, results, all = ofDrones pool policy config episodes seed
        { Figures = drones |> Array.map DroneFigures.Of; Results = results; All = all }

    let private airframes pool policy (episodes: int) (seed: uint64) =
        let drones, results, _ =
            ofDrones pool policy (QuadrotorConfig(Drones = Array.ofSeq Airframes.Names)) episodes seed

        List.zip [ for drone in drones -> drone.Name ] (List.ofArray results)

    /// Seconds of a loop.
    let private loops = [ 10.0; 7.0; 5.5; 4.5; 3.5 ]

    /// Does the work with a policy that flies after references that leave the origin: one of absolute positions reads the same
    /// numbers relative to the reference then.
    let private following (policy: Policy) (work: unit -> 'Result) : 'Result =
        let group = policy.ObservationGroup

        if group = "student" then
            policy.ObservationGroup <- "tracking"

        try
            work ()
        finally
            policy.ObservationGroup <- group

    let private figureEights pool policy (seed: uint64) (config: QuadrotorConfig) =
        following policy (fun () ->
            [
                for seconds in loops ->
                    let config =
                        config
                        |> Settings.set <@ _.Task @> QuadrotorTask.FigureEight
                        |> Settings.set <@ _.FigureEight @> (FigureEight(LoopSeconds = seconds))

                    seconds, evaluate pool policy config (config.LoadDrones().Count) seed
            ])

    /// Orientations tilted by an angle about axes spread over the horizontal plane, `[4, 32]`.
    let private tilted (radians: float) (panel: int) =
        let rows = Array.zeroCreate<float32>(4 * Panel.Width)

        for lane in 0 .. Panel.Width - 1 do
            // By the golden angle, so that any number of drones is spread evenly.
            let direction = 2.399963 * float (panel * Panel.Width + lane)
            rows[lane] <- float32 (cos (radians / 2.0))
            rows[Panel.Width + lane] <- float32 (sin (radians / 2.0) * cos direction)
            rows[2 * Panel.Width + lane] <- float32 (sin (radians / 2.0) * sin direction)

        rows

    let recovery pool policy (seed: uint64) (drones: QuadrotorParameters array) =
        use environment = hovering drones atRest seed

        [
            for degrees in 0.0..30.0..180.0 do
                environment.Rewind()

                for panel in 0 .. Panel.Count environment.Count - 1 do
                    environment.WriteState(
                        panel,
                        QuadrotorField.Orientation,
                        tilted (degrees * Math.PI / 180.0) panel
                    )

                use acting = new ActingPolicy(policy, environment, "policy")
                fly pool environment acting 500 (fun _ _ -> ())

                let recovered (panel: int) (lane: int) (distance: float32) =
                    let q = read environment panel QuadrotorField.Orientation
                    let x, y = q[Panel.Width + lane], q[2 * Panel.Width + lane]
                    // The body's z axis has the height 1 - 2 (x² + y²).
                    distance < 0.3f && 1f - 2f * (x * x + y * y) > cos (MathF.PI / 6f)

                let back =
                    [
                        for panel in 0 .. Panel.Count environment.Count - 1 do
                            for lane, distance in distances environment panel |> Array.indexed do
                                if panel * Panel.Width + lane < environment.Count then
                                    recovered panel lane distance
                    ]

                degrees, float (back |> List.filter id |> List.length) / float back.Length
        ]

    /// Seconds before the change, and after it.
    let settle, observed = 3.0, 3.0

    /// Holds the origin, is changed, and flies on as the drones that they are then.
    let response
        (pool: WorkerPool)
        (policy: Policy)
        (seed: uint64)
        (drones: QuadrotorParameters array)
        (what: string)
        (becomes: QuadrotorParameters -> QuadrotorParameters)
        (disturb: QuadrotorEnvironment -> int -> unit)
        : Response =
        use before = hovering drones atRest seed
        use after = hovering (Array.map becomes drones) atRest seed
        let seconds = before.Spec.StepSeconds
        let first, second = int (settle / seconds), int (observed / seconds)
        let panels = Panel.Count before.Count

        let kept =
            Array.init (first + second) (fun _ -> Array.zeroCreate<float32>(panels * Panel.Width))

        let keep (environment: QuadrotorEnvironment) (offset: int) (panel: int) (step: int) =
            Array.blit (distances environment panel) 0 kept[offset + step] (panel * Panel.Width) Panel.Width

        use acting = new ActingPolicy(policy, before, "policy")
        fly pool before acting first (keep before 0)
        use other = new ActingPolicy(policy, after, "policy")

        for panel in 0 .. panels - 1 do
            for field in Enum.GetValues<QuadrotorField>() do
                after.WriteState(panel, field, read before panel field)

            acting.Memory(panel).Values.CopyTo(other.Memory(panel).Values)
            disturb after panel

        fly pool after other second (keep after first)

        {
            What = what
            StepSeconds = seconds
            ChangeAt = settle
            Distances = kept |> Array.map (Array.truncate before.Count)
        }

    let private heavier (factor: float) (drone: QuadrotorParameters) =
        drone
        |> Settings.set
            <@ _.Dynamics @>
            (drone.Dynamics |> Settings.set <@ _.Mass @> (factor * drone.Dynamics.Mass))

    let private weaker (factor: float) (drone: QuadrotorParameters) =
        let coefficients =
            drone.Dynamics.RotorThrustCoefficients
            |> Array.mapi (fun rotor c -> if rotor = 0 then Array.map ((*) factor) c else c)

        drone
        |> Settings.set
            <@ _.Dynamics @>
            (drone.Dynamics |> Settings.set <@ _.RotorThrustCoefficients @> coefficients)

    /// Adds to the first row of a field, lane by lane.
    let private push
        (field: QuadrotorField)
        (amount: int -> float32)
        (environment: QuadrotorEnvironment)
        (panel: int)
        =
        let values = read environment panel field

        for lane in 0 .. Panel.Width - 1 do
            values[lane] <- values[lane] + amount (panel * Panel.Width + lane)

        environment.WriteState(panel, field, values)

    let nothing (_: QuadrotorEnvironment) (_: int) = ()

    let private responses pool policy seed (drones: QuadrotorParameters array) =
        let response = response pool policy seed drones

        let wind (i: int) =
            0.1f * 9.81f * float32 drones[i % drones.Length].Dynamics.Mass

        [
            response "payload: 20 % more mass" (heavier 1.2) nothing
            response "wind: a force of 10 % of the weight" id (push QuadrotorField.Force wind)
            response "a rotor that lost 10 % of its thrust" (weaker 0.9) nothing
            // The reference stays and the drone is put elsewhere: the same to every observation of errors, and to one of
            // absolute positions, too.
            response "step of the reference by 0.3 m" id (push QuadrotorField.Position (fun _ -> -0.3f))
        ]

    /// Steps between two probes, and of all.
    let private probeEvery, probeUntil = 5, 100

    let private parameters: (string * (DroneFigures -> float)) list =
        [
            "thrust to weight", _.ThrustToWeight
            "log of torque to inertia", (fun drone -> log drone.TorqueToInertia)
            "log of the time constant of rising rotors", (fun drone -> log drone.TimeConstantRising)
        ]

    /// Fits `target` by ridge regression on four of five drones, and gives R² on the others.
    let rSquared (memories: float array array) (target: float array) =
        let isTest (i: int) = i % 5 = 4

        let split (chosen: int -> bool) =
            let rows =
                [|
                    for i in 0 .. target.Length - 1 do
                        if chosen i then
                            i
                |]

            Matrix.Build.DenseOfRowArrays [| for i in rows -> Array.append [| 1.0 |] memories[i] |],
            Vector.Build.DenseOfArray [| for i in rows -> target[i] |]

        let x, y = split (isTest >> not)
        // The least that keeps units of a memory which are all alike from being a singular system.
        let penalty = 1e-6 * float x.RowCount * Matrix.Build.DenseIdentity x.ColumnCount

        let weights =
            (x.TransposeThisAndMultiply x + penalty).Cholesky().Solve(x.TransposeThisAndMultiply y)

        let x, y = split isTest
        let errors = y - x * weights
        let spread = y - Vector.Build.Dense(y.Count, Seq.average y)
        1.0 - errors * errors / (spread * spread)

    let private probes pool (policy: Policy) (seed: uint64) (drones: QuadrotorParameters array) =
        if policy.MemorySize = 0 then
            []
        else
            // From the usual starts: a drone at rest shows nothing of itself.
            use environment = hovering drones (InitialStates()) seed
            use acting = new ActingPolicy(policy, environment, "policy")
            let count = probeUntil / probeEvery

            let kept =
                Array.init count (fun _ -> Array.zeroCreate<float array>(environment.Count))

            fly pool environment acting (probeUntil + 1) (fun panel step ->
                if step > 0 && step % probeEvery = 0 then
                    let memory = acting.Memory(panel).Values.ToArray()

                    for lane in 0 .. min Panel.Width (environment.Count - panel * Panel.Width) - 1 do
                        kept[step / probeEvery - 1][panel * Panel.Width + lane] <-
                            Array.init policy.MemorySize (fun unit ->
                                float memory[unit * Panel.Width + lane]))

            let figures = drones |> Array.map DroneFigures.Of

            [
                for name, of' in parameters ->
                    let target = figures |> Array.map of'

                    {
                        Parameter = name
                        Times =
                            Array.init count (fun i ->
                                float ((i + 1) * probeEvery) * environment.Spec.StepSeconds)
                        RSquared = kept |> Array.map (fun memories -> rSquared memories target)
                    }
            ]

    /// Puts a policy through all tests.
    let run
        (pool: WorkerPool)
        (config: QuadrotorConfig)
        (episodes: int)
        (airframeEpisodes: int)
        (seed: uint64)
        (policy: Policy)
        : FlightTestResults =
        let free = endless (config.LoadDrones())

        let ofTask (name: string) (task: QuadrotorTask) =
            let config = config |> Settings.set <@ _.Task @> task
            name, evaluate pool policy config (free.Length * episodes) seed

        {
            Drones = drones pool policy episodes seed config
            Tasks = [ ofTask "position" QuadrotorTask.Position; ofTask "langevin" QuadrotorTask.Langevin ]
            Airframes = airframes pool policy airframeEpisodes seed
            FigureEights = figureEights pool policy seed config
            Recovery = recovery pool policy seed free
            Responses = responses pool policy seed free
            Probes = probes pool policy seed free
        }
