namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Networks

/// What a policy for many quadrotors is put through, and where the page with the results goes.
type FlightTests =
    {
        /// A .safetensors or .pt file, a run folder for its best policy, or `latest` for the run that began last.
        Policy: string

        /// The observation group it reads; empty for what the file says.
        PolicyGroup: string

        /// Nonlinearity of its hidden layers; null for what the file or params/agent.yaml beside it says.
        PolicyActivation: Nullable<Activation>

        /// A policy to compare it with, flown in the same episodes, likewise; empty for none.
        Beside: string

        /// The drones of the tests, which training should never have seen, and their episodes.
        Environment: IEnvironmentConfig

        /// Episodes of every drone. Raise it to know the return of each more exactly, lower it for a quick look.
        Episodes: int

        /// Episodes of every named airframe.
        AirframeEpisodes: int

        /// Seed of the episodes' starts and references.
        Seed: uint64

        /// Threads that compute; 0 for one per processor.
        Threads: int

        /// The folder of flight-tests.html and of the tables.
        Output: string
    }

module FlightTests =
    let defaults: FlightTests =
        {
            Policy = ""
            PolicyGroup = ""
            PolicyActivation = Nullable()
            Beside = ""
            Environment =
                QuadrotorConfig()
                |> Settings.set <@ _.Sampled @> (DroneSampling(Number = 1000, Seed = 1_000_000UL))
            Episodes = 10
            AirframeEpisodes = 100
            Seed = 0UL
            Threads = 0
            Output = "logs/flight-tests"
        }

    let internal run (tests: FlightTests) : FlightTestReport =
        Training.atLeastOne "episodes" tests.Episodes
        Training.atLeastOne "airframe_episodes" tests.AirframeEpisodes

        let config =
            match tests.Environment with
            | :? QuadrotorConfig as config -> config
            | other -> fail $"{other.GetType().Name} has no flight tests: only quadrotors have."

        use pool = Training.pool tests.Threads

        let tested (path: string) (group: string) (activation: Nullable<Activation>) =
            use policy = Evaluate.loadPolicy path group activation tests.Environment.Spec
            FlightTesting.run pool config tests.Episodes tests.AirframeEpisodes tests.Seed policy

        let name (path: string) =
            Path.GetFileNameWithoutExtension(path.TrimEnd '/') |> string

        let beside =
            if tests.Beside = "" then
                None
            else
                Some(name tests.Beside, tested tests.Beside "" (Nullable()))

        let report =
            FlightTestReport(
                tests.Output,
                name tests.Policy,
                tested tests.Policy tests.PolicyGroup tests.PolicyActivation,
                beside
            )

        say $"Flight tests: {Command.shortest (report.Save())}"
        report
