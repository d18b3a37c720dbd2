namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Policies
open Distill.Storage

/// What is flown, and where its record goes.
type Flight =
    {
        /// A .safetensors or .pt file.
        Policy: string

        /// The observation group it reads; empty for what the file says.
        PolicyGroup: string
        Episodes: int
        Seed: uint64

        /// Folder of trajectories.npz, tracking.csv and flight.html; empty for none.
        Output: string
    }

/// Statistics of a tracking error over all steps flown.
type TrackingError = { Mean: float; Median: float; P95: float; Max: float }

module TrackingError =
    /// The value below which this share of sorted values lies, interpolated.
    let private quantile (share: float) (sorted: float array) =
        let place = share * float (sorted.Length - 1)
        let low = int (floor place)
        let high = min (low + 1) (sorted.Length - 1)
        sorted[low] + (place - float low) * (sorted[high] - sorted[low])

    let ofErrors (errors: float array) =
        let sorted = Array.sort errors

        {
            Mean = Array.average sorted
            Median = quantile 0.5 sorted
            P95 = quantile 0.95 sorted
            Max = Array.last sorted
        }

/// Recorded flights: the true state before every step of the first episode of each environment. Steps after an episode's
/// end are NaN.
type Recording(environment: QuadrotorEnvironment, policy: Policy) =
    static let fields =
        [
            "position", QuadrotorField.Position
            "orientation", QuadrotorField.Orientation
            "velocity", QuadrotorField.Velocity
            "angular_velocity", QuadrotorField.AngularVelocity
            "reference_position", QuadrotorField.ReferencePosition
            "reference_velocity", QuadrotorField.ReferenceVelocity
        ]

    let episodes = environment.Count
    let steps = environment.Spec.EpisodeLimit
    let actions = environment.Spec.Actions.Floats

    let series (size: int) : float32 array =
        Array.create (episodes * steps * size) nanf

    let states =
        fields |> List.map (fun (name, field) -> name, (field, series (field.Size())))

    let taken = series actions
    let rewards = series 1
    let lengths = Array.zeroCreate<int> episodes
    let terminated = Array.zeroCreate<bool> episodes

    /// Copies what a panel `[size, 32]` has for one lane into a series.
    let put
        (series: float32 array)
        (size: int)
        (episode: int)
        (step: int)
        (panel: float32 array)
        (lane: int)
        =
        for i in 0 .. size - 1 do
            series[(episode * steps + step) * size + i] <- panel[i * Panel.Width + lane]

    let fly (panel: int) =
        use scratch = new PolicyScratch(policy)
        let group = environment.Spec.Group policy.ObservationGroup

        let observation =
            Array.zeroCreate<float32>(policy.Network.Spec.Inputs * Panel.Width)

        let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)
        let action = Array.zeroCreate<float32>(actions * Panel.Width)
        let state = Array.zeroCreate<float32>(QuadrotorFields.Total * Panel.Width)
        let lanes () : float32 array = Array.zeroCreate Panel.Width
        let reward, crashed, timeOut = lanes (), lanes (), lanes ()
        let first = panel * Panel.Width
        let mutable flying = [ 0 .. min Panel.Width (episodes - first) - 1 ]
        let mutable step = 0
        environment.Reset panel

        while not flying.IsEmpty do
            for _, (field, series) in states do
                environment.ReadState(panel, field, state)

                for lane in flying do
                    put series (field.Size()) (first + lane) step state lane

            environment.Observe(panel, group, observation)
            policy.Act(observation, memory, action, scratch)
            environment.Step(panel, action, reward, crashed, timeOut)
            step <- step + 1

            for lane in flying do
                put taken actions (first + lane) (step - 1) action lane
                put rewards 1 (first + lane) (step - 1) reward lane
                lengths[first + lane] <- step
                terminated[first + lane] <- crashed[lane] <> 0.0f

            flying <- flying |> List.filter (fun lane -> crashed[lane] = 0.0f && timeOut[lane] = 0.0f)

    do
        for panel in 0 .. Panel.Count episodes - 1 do
            fly panel

    /// `[episodes]`: steps flown.
    member _.Lengths = lengths

    /// `[episodes]`: whether the episode ended in a crash.
    member _.Terminated = terminated

    /// Three numbers of a vector at one step.
    member private _.Vector (name: string) (episode: int) (step: int) =
        let _, (_, series) = states |> List.find (fun (other, _) -> other = name)
        let at = (episode * steps + step) * 3
        float series[at], float series[at + 1], float series[at + 2]

    /// Where one episode was, or should have been: "position" or "reference_position", world, m.
    member recording.Path(name: string, episode: int) =
        [| for step in 0 .. lengths[episode] - 1 -> recording.Vector name episode step |]

    /// |actual - reference| at every step of an episode, for "position" (m) or "velocity" (m/s).
    member recording.Errors(name: string, episode: int) =
        Array.zip (recording.Path(name, episode)) (recording.Path("reference_" + name, episode))
        |> Array.map (fun ((x, y, z), (rx, ry, rz)) ->
            sqrt ((x - rx) ** 2.0 + (y - ry) ** 2.0 + (z - rz) ** 2.0))

    /// Statistics over all steps of all episodes.
    member recording.Tracking(name: string) =
        [| 0 .. episodes - 1 |]
        |> Array.collect (fun episode -> recording.Errors(name, episode))
        |> TrackingError.ofErrors

    /// `[episodes]`: sums of rewards.
    member _.Returns =
        Array.init episodes (fun episode ->
            Array.sum rewards[episode * steps .. episode * steps + lengths[episode] - 1])

    /// The arrays `[episodes, steps, size]` of a .npz file, and `length` and `terminated` `[episodes]`.
    member _.Arrays =
        [
            for name, (field, series) in states do
                Tensor.OfFloats(name, series, episodes, steps, field.Size())
            Tensor.OfFloats("action", taken, episodes, steps, actions)
            Tensor.OfFloats("reward", rewards, episodes, steps)
            Tensor.OfIntegers("length", Array.map int64 lengths, episodes)
            Tensor.OfBools("terminated", terminated, episodes)
            Tensor.OfDoubles("step_seconds", ReadOnlySpan [| environment.Spec.StepTime |], [||])
        ]

/// How well a policy flew.
type FlightResult(recording: Recording) =
    let position, velocity =
        recording.Tracking "position", recording.Tracking "velocity"

    let crashed = recording.Terminated |> Seq.filter id |> Seq.length

    let table =
        Table(
            [ "tracking error"; "mean"; "median"; "p95"; "max" ],
            [
                for name, error in [ "position, m", position; "velocity, m/s", velocity ] do
                    [ box name; error.Mean; error.Median; error.P95; error.Max ]
            ]
        )

    member _.Recording = recording
    member _.Position = position
    member _.Velocity = velocity
    member _.ToHtml() = table.ToHtml()

    member _.WriteCsv(path: string) =
        Csv.write
            path
            [ "tracking_error"; "mean"; "median"; "p95"; "max" ]
            [
                for name, error in [ "position_m", position; "velocity_m_per_s", velocity ] do
                    name :: ([ error.Mean; error.Median; error.P95; error.Max ] |> List.map Csv.number)
            ]

    override _.ToString() =
        String.Join(
            Environment.NewLine,
            string table,
            $"Mean return: {Array.average recording.Returns:F1}",
            $"Mean length: {Array.averageBy float recording.Lengths:F1} steps",
            $"Terminated: {crashed} of {recording.Lengths.Length} episodes"
        )

module Flight =
    let defaults: Flight =
        { Policy = ""; PolicyGroup = ""; Episodes = 10; Seed = 0UL; Output = "" }

    /// The first episode from above, and its errors over time.
    let private figure (recording: Recording) (stepSeconds: float) =
        let above (name: string) =
            recording.Path(name, 0) |> Array.map (fun (x, y, _) -> x, y)

        let error (name: string) =
            recording.Errors(name, 0) |> Array.mapi (fun step error -> stepSeconds * float step, error)

        [
            Chart.combine
                [
                    Chart.Line(above "reference_position", Name = "reference")
                    Chart.Line(above "position", Name = "flown")
                ]
            |> Chart.withTitle "Path from above"
            |> Chart.withXAxisStyle (TitleText = "x, m")
            |> Chart.withYAxisStyle (TitleText = "y, m")
            Chart.combine
                [
                    Chart.Line(error "position", Name = "position, m")
                    Chart.Line(error "velocity", Name = "velocity, m/s")
                ]
            |> Chart.withTitle "Tracking error"
            |> Chart.withXAxisStyle (TitleText = "time, s")
        ]
        |> Chart.Grid(1, 2)

    let internal run (flight: Flight) (config: QuadrotorConfig) : FlightResult =
        if flight.Episodes < 1 then
            raise (DistillException $"episodes={flight.Episodes} cannot work; it must be at least 1.")

        use environment =
            (config :> IEnvironmentConfig).Create(flight.Episodes, RandomStream(flight.Seed, "flight").Seed())
            :?> QuadrotorEnvironment

        use policy = Assessment.loadPolicy flight.Policy flight.PolicyGroup environment.Spec

        // A student of absolute positions flies a moving reference on the same numbers relative to it.
        if flight.PolicyGroup = "" && policy.ObservationGroup = "student" then
            policy.ObservationGroup <- "tracking"
            Console.Out.WriteLine "It flies on 'tracking': position and velocity relative to the reference"

        let recording = Recording(environment, policy)
        let result = FlightResult recording

        if flight.Output <> "" then
            let file (name: string) = Path.Combine(flight.Output, name)
            Training.makeFolderOf (file "trajectories.npz")
            Npz.Write(file "trajectories.npz", recording.Arrays)
            result.WriteCsv(file "tracking.csv")
            figure recording environment.Spec.StepTime |> Chart.saveHtml (file "flight.html")

            Console.Out.WriteLine
                $"Trajectories, tracking errors and figures: {Command.shortest flight.Output}"

        result
