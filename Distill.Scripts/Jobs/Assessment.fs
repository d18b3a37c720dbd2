namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// What is evaluated, and how thoroughly.
type Assessment =
    {
        /// A .safetensors or .pt file, a run folder for its best policy, or `latest` for the run that began last.
        Policy: string

        /// The observation group it reads; empty for what the file says.
        PolicyGroup: string

        /// Nonlinearity of its hidden layers; null for what the file or params/agent.yaml beside it says.
        PolicyActivation: Nullable<Activation>

        /// Episodes of every drone.
        Episodes: int

        /// Seed of the episodes' starts and references.
        Seed: uint64

        /// Threads that compute; 0 for one per processor.
        Threads: int

        /// The CSV file with the results; empty for none.
        Csv: string
    }

module Assessment =
    let defaults: Assessment =
        {
            Policy = ""
            PolicyGroup = ""
            PolicyActivation = Nullable()
            Episodes = 10
            Seed = 0UL
            Threads = 0
            Csv = ""
        }

    /// The file of a policy: as it is given, or of a run folder, or of `latest`, the run that began last, its best.
    let private fileOf (path: string) =
        let folder =
            if path = "latest" && Directory.Exists "logs" then
                Directory.GetFiles("logs", "command.json", SearchOption.AllDirectories)
                |> Seq.sortByDescending File.GetLastWriteTimeUtc
                |> Seq.tryHead
                // logs/NAME/RUN/params/command.json
                |> Option.map (fun command -> Path.GetFullPath(Path.Combine(command, "..", "..")))
                |> Option.defaultValue path
            else
                path

        if Directory.Exists folder then
            let run = RunFolder.Open folder

            run.Checkpoints()
            |> Seq.tryFind (fun name -> name.StartsWith "best_" && name.EndsWith ".safetensors")
            |> Option.map (run.Checkpoint >> Command.shortest)
            |> Option.defaultWith (fun () ->
                raise (
                    DistillException $"The run {folder} has no best policy yet; it has not been evaluated."
                ))
        else
            path

    /// The policy of a file, if there is one and it fits the environment.
    let internal loadPolicy
        (path: string)
        (group: string)
        (activation: Nullable<Activation>)
        (environment: Environments.EnvironmentSpec)
        =
        if path = "" then
            raise (
                DistillException "Which policy? Name its file, a run folder or the latest run: policy=FILE."
            )

        let path = fileOf path
        let policy = PolicyFile.Load(path, (if group = "" then null else group), activation)
        policy.Check(environment, "policy")
        Console.Out.WriteLine $"Policy: {path}: {policy.Architecture}, reads '{policy.ObservationGroup}'"
        policy

    /// Flies the policy with every drone of the environment; a row for each and one for all.
    let internal run (assessment: Assessment) (config: QuadrotorConfig) : Comparison =
        Training.atLeastOne "episodes" assessment.Episodes
        use pool = Training.pool assessment.Threads
        let spec = (config :> Environments.IEnvironmentConfig).Spec

        use policy =
            loadPolicy assessment.Policy assessment.PolicyGroup assessment.PolicyActivation spec

        let drones = config.LoadDrones() |> Seq.map _.Name |> Seq.toList

        use evaluator =
            new Evaluator(config, drones.Length * assessment.Episodes, assessment.Seed, pool)

        let all = evaluator.Run policy

        let comparison =
            Comparison(
                "drone",
                [
                    for i, name in List.indexed drones do
                        name,
                        all.Where(
                            (fun episode -> config.DroneOf(episode, drones.Length) = i),
                            $"drone {name}"
                        )
                    "all", all
                ]
            )

        if assessment.Csv <> "" then
            Training.makeFolderOf assessment.Csv
            comparison.WriteCsv assessment.Csv
            Console.Out.WriteLine $"Table: {Command.shortest assessment.Csv}"

        comparison
