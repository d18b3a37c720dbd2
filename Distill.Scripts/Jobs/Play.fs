namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments
open Distill.Environments.Manipulation
open Distill.Environments.Quadrotor
open Distill.Policies

/// What is flown, and where its record goes.
type Play =
    {
        /// A .safetensors or .pt file, a run folder for its best policy, or `latest` for the run that began last; or `expert`, the scripted
        /// expert of manipulation.
        Policy: string

        /// The observation group it reads; empty for what the file says.
        PolicyGroup: string

        /// Nonlinearity of its hidden layers; null for what the file or params/agent.yaml beside it says.
        PolicyActivation: Nullable<Activation>

        /// What is flown: quadrotors; or manipulation, also with encodings.
        Environment: IEnvironmentConfig

        /// Episodes to fly; of manipulation, so many of each task. Raise it to know the errors more exactly, lower it for a quick look.
        Episodes: int

        /// Seed of the episodes' starts and references.
        Seed: uint64

        /// Folder of trajectories.npz, tracking.csv, flight.html and replay.html; of manipulation, of tasks.csv and for each task TASK.html;
        /// empty for none.
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

/// How well a policy did: flights, or episodes of hands.
type PlayResult internal (flights: FlightRecording list, hands: ManipulationRecording list) =
    let tracking (errors: FlightRecording -> float[]) =
        flights |> Seq.collect errors |> Seq.toArray |> TrackingError.ofErrors

    let position, velocity =
        lazy (tracking _.PositionError), lazy (tracking _.VelocityError)

    let errors () =
        [ "position, m", position.Value; "velocity, m/s", velocity.Value ]

    /// Task, episodes, share of successes, mean return, mean distance at the end.
    let tasks () =
        [
            for task, episodes in hands |> List.groupBy _.Task do
                let mean (value: ManipulationRecording -> float) = List.averageBy value episodes

                task,
                episodes.Length,
                mean (fun episode -> if episode.Success then 1.0 else 0.0),
                mean (_.Reward >> Array.sum),
                mean (_.ToGoal >> Array.last)
        ]

    let table =
        if hands.IsEmpty then
            Table(
                [ "tracking error"; "mean"; "median"; "p95"; "max" ],
                [
                    for name, error in errors () do
                        [ box name; error.Mean; error.Median; error.P95; error.Max ]
                ]
            )
        else
            Table(
                [ "task"; "episodes"; "success"; "return"; "to goal, m" ],
                [
                    for task, episodes, success, mean, far in tasks () do
                        [ box task; episodes; success; mean; far ]
                ]
            )

    /// An episode each, of quadrotors.
    member _.Flights = flights
    /// An episode each, of manipulation.
    member _.Hands = hands
    /// Of flights.
    member _.Position = position.Value
    /// Of flights.
    member _.Velocity = velocity.Value
    member _.ToHtml() = table.ToHtml()

    member _.WriteCsv(path: string) =
        if hands.IsEmpty then
            Csv.write
                path
                [ "tracking_error"; "mean"; "median"; "p95"; "max" ]
                [
                    for name, error in [ "position_m", position.Value; "velocity_m_per_s", velocity.Value ] do
                        name :: ([ error.Mean; error.Median; error.P95; error.Max ] |> List.map Csv.number)
                ]
        else
            Csv.write
                path
                [ "task"; "episodes"; "success"; "mean_return"; "object_to_goal_m" ]
                [
                    for task, episodes, success, mean, far in tasks () do
                        task :: string episodes :: List.map Csv.number [ success; mean; far ]
                ]

    override _.ToString() =
        if hands.IsEmpty then
            let crashed = flights |> Seq.filter _.Terminated |> Seq.length

            String.Join(
                Environment.NewLine,
                string table,
                $"Mean return: {flights |> List.averageBy _.Return:F1}",
                $"Mean length: {flights |> List.averageBy (_.Steps >> float):F1} steps",
                $"Terminated: {crashed} of {flights.Length} episodes"
            )
        else
            string table

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

    let private load (play: Play) =
        Evaluate.loadPolicy play.Policy play.PolicyGroup play.PolicyActivation play.Environment.Spec

    let private seed (play: Play) =
        RandomStream(play.Seed, "flight").Seed()

    let private flown (config: QuadrotorConfig) (play: Play) =
        use policy = load play

        // A student of absolute positions flies a moving reference on the same numbers relative to it.
        if play.PolicyGroup = "" && policy.ObservationGroup = "student" then
            policy.ObservationGroup <- "tracking"
            say "It flies on 'tracking': position and velocity relative to the reference"

        let flights =
            FlightRecording.recordEpisodes config policy (seed play) play.Episodes config.EpisodeLimit

        let result = PlayResult(flights, [])

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

    let private handled (play: Play) =
        let episodes = play.Episodes * play.Environment.Spec.Variants.Count

        let hands =
            if play.Policy = "expert" then
                ManipulationRecording.ofExpert play.Environment (seed play) episodes
            else
                use policy = load play
                ManipulationRecording.record play.Environment policy (seed play) episodes

        let result = PlayResult([], hands)

        if play.Output <> "" then
            let file (name: string) = Path.Combine(play.Output, name)
            Training.makeFolderOf (file "tasks.csv")
            result.WriteCsv(file "tasks.csv")

            for episode in List.distinctBy _.Task hands do
                let name = string (Path.GetFileName play.Policy)

                (Replay.ofHands $"{name}: {episode.Task}" [ name, episode ])
                    .SaveHtml(file (episode.Task + ".html"))

            say $"Successes, and a replay of each task: {Command.shortest play.Output}"

        result

    let internal run (play: Play) : PlayResult =
        Training.atLeastOne "episodes" play.Episodes

        let refuse (other: IEnvironmentConfig) =
            fail
                $"{other.GetType().Name} cannot be played: only flights of quadrotors and hands at a table are drawn. Run.evaluate takes any environment, and record=FILE.npz keeps every step of its episodes."

        match play.Environment with
        | :? QuadrotorConfig as config -> flown config play
        | :? ManipulationConfig -> handled play
        | :? EncodedConfig as encoded when (encoded.Environment :? ManipulationConfig) -> handled play
        | other -> refuse other
