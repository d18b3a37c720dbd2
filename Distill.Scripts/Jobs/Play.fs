namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor

/// What is flown, and where its record goes.
type Play =
    {
        /// A .safetensors or .pt file, a run folder for its best policy, or `latest` for the run that began last.
        Policy: string

        /// The observation group it reads; empty for what the file says.
        PolicyGroup: string

        /// Nonlinearity of its hidden layers; null for what the file or params/agent.yaml beside it says.
        PolicyActivation: Nullable<Activation>

        /// What is flown: quadrotors.
        Environment: IEnvironmentConfig

        /// Episodes to fly. Raise it to know the errors more exactly, lower it for a quick look.
        Episodes: int

        /// Seed of the episodes' starts and references.
        Seed: uint64

        /// Folder of trajectories.npz, tracking.csv, flight.html and replay.html; empty for none.
        Output: string
    }

/// Statistics of a tracking error over all steps flown.
type TrackingError = { Mean: float; Median: float; P95: float; Max: float }

module TrackingError =
    let ofErrors (errors: float array) =
        {
            Mean = Array.average errors
            Median = Statistics.quantile 0.5 errors
            P95 = Statistics.quantile 0.95 errors
            Max = Array.max errors
        }

/// How well a policy flew.
type PlayResult(flights: FlightRecording list) =
    let tracking (errors: FlightRecording -> float[]) =
        flights |> Seq.collect errors |> Seq.toArray |> TrackingError.ofErrors

    let position, velocity = tracking _.PositionError, tracking _.VelocityError
    let crashed = flights |> Seq.filter _.Terminated |> Seq.length

    let table =
        Table(
            [ "tracking error"; "mean"; "median"; "p95"; "max" ],
            [
                for name, error in [ "position, m", position; "velocity, m/s", velocity ] do
                    [ box name; error.Mean; error.Median; error.P95; error.Max ]
            ]
        )

    /// An episode each.
    member _.Flights = flights
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
            $"Mean return: {flights |> List.averageBy _.Return:F1}",
            $"Mean length: {flights |> List.averageBy (_.Steps >> float):F1} steps",
            $"Terminated: {crashed} of {flights.Length} episodes"
        )

module Play =
    let defaults: Play =
        {
            Policy = ""
            PolicyGroup = ""
            PolicyActivation = Nullable()
            Environment = QuadrotorConfig()
            Episodes = 10
            Seed = 0UL
            Output = ""
        }

    /// The first episode from above, and its errors over time.
    let private figure (flight: FlightRecording) =
        let above (path: float[][]) =
            path |> Array.map (fun position -> position[0], position[1])

        let overTime (errors: float[]) =
            errors |> Array.mapi (fun step error -> flight.StepTime * float step, error)

        [
            Chart.combine
                [
                    Chart.Line(above flight.ReferencePosition, Name = "reference")
                    Chart.Line(above flight.Position, Name = "flown")
                ]
            |> Chart.withTitle "Path from above"
            |> Chart.withXAxisStyle (TitleText = "x, m")
            |> Chart.withYAxisStyle (TitleText = "y, m")
            Chart.combine
                [
                    Chart.Line(overTime flight.PositionError, Name = "position, m")
                    Chart.Line(overTime flight.VelocityError, Name = "velocity, m/s")
                ]
            |> Chart.withTitle "Tracking error"
            |> Chart.withXAxisStyle (TitleText = "time, s")
        ]
        |> Chart.Grid(1, 2)

    let internal run (play: Play) : PlayResult =
        Training.atLeastOne "episodes" play.Episodes

        let config =
            match play.Environment with
            | :? QuadrotorConfig as config -> config
            | other ->
                fail
                    $"{other.GetType().Name} cannot be played: only flights of quadrotors are drawn. Run.evaluate takes any environment, and record=FILE.npz keeps every step of its episodes."

        use policy =
            Evaluate.loadPolicy play.Policy play.PolicyGroup play.PolicyActivation play.Environment.Spec

        // A student of absolute positions flies a moving reference on the same numbers relative to it.
        if play.PolicyGroup = "" && policy.ObservationGroup = "student" then
            policy.ObservationGroup <- "tracking"
            say "It flies on 'tracking': position and velocity relative to the reference"

        let seed = RandomStream(play.Seed, "flight").Seed()

        let flights =
            FlightRecording.recordEpisodes config policy seed play.Episodes config.EpisodeLimit

        let result = PlayResult flights

        if play.Output <> "" then
            let file (name: string) = Path.Combine(play.Output, name)
            Training.makeFolderOf (file "trajectories.npz")
            FlightRecording.save (file "trajectories.npz") flights
            result.WriteCsv(file "tracking.csv")
            figure flights.Head |> Chart.saveHtml (file "flight.html")

            Replay(Path.GetFileName play.Policy |> string, [ "flown", flights.Head ])
                .SaveHtml(file "replay.html")

            say $"Trajectories, tracking errors, figures and a replay: {Command.shortest play.Output}"

        result
