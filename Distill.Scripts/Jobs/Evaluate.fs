namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Environments
open Distill.Environments.Manipulation
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// What is evaluated, and how thoroughly.
type Evaluate =
    {
        /// Name of a sweep of evaluations: its folder under logs/.
        Name: string

        /// A .safetensors or .pt file, a run folder for its best policy, or `latest` for the run that began last.
        Policy: string

        /// The observation group it reads; empty for what the file says.
        PolicyGroup: string

        /// Nonlinearity of its hidden layers; null for what the file or params/agent.yaml beside it says.
        PolicyActivation: Nullable<Activation>

        /// The environments to evaluate in.
        Environment: IEnvironmentConfig

        /// Episodes, of quadrotors for every drone. Raise it to know the return more exactly, lower it for a quick look.
        Episodes: int

        /// Seed of the episodes' starts and references.
        Seed: uint64

        /// Threads that compute; 0 for one per processor.
        Threads: int

        /// The CSV file with the results; empty for none.
        Csv: string

        /// The .npz file with every step of the episodes, as recorded data: all observation groups, actions, rewards, ends. Empty for
        /// none. It takes memory for all of them.
        Record: string
    }

module Evaluate =
    let private kind = "evaluation"

    let defaults: Evaluate =
        {
            Name = "evaluate"
            Policy = ""
            PolicyGroup = ""
            PolicyActivation = Nullable()
            Environment = QuadrotorConfig()
            Episodes = 10
            Seed = 0UL
            Threads = 0
            Csv = ""
            Record = ""
        }

    /// The file of a policy: as it is given, or of a run folder, or of `latest`, the run that began last, its best.
    let private fileOf (path: string) =
        let folder =
            if path = "latest" && Directory.Exists "logs" then
                Directory.GetFiles("logs", "command.json", SearchOption.AllDirectories)
                |> Seq.sortByDescending File.GetLastWriteTimeUtc
                // logs/NAME/RUN/params/command.json
                |> Seq.map (fun command -> Path.GetFullPath(Path.Combine(command, "..", "..")))
                // An evaluation trains nothing.
                |> Seq.tryFind (fun folder -> (Command.read (RunFolder.Open folder)).Role <> "")
                |> Option.defaultValue path
            else
                path

        if Directory.Exists folder then
            let run = RunFolder.Open folder

            run.Checkpoints()
            |> Seq.tryFind (fun name -> name.StartsWith "best_" && name.EndsWith ".safetensors")
            |> Option.map (run.Checkpoint >> Command.shortest)
            |> Option.defaultWith (fun () ->
                fail $"The run {folder} has no best policy yet; it has not been evaluated.")
        else
            path

    /// The policy of a file, if there is one and it fits the environment.
    let internal loadPolicy
        (path: string)
        (group: string)
        (activation: Nullable<Activation>)
        (environment: EnvironmentSpec)
        =
        if path = "" then
            fail "Which policy? Name its file, a run folder or the latest run: policy=FILE."

        let path = fileOf path
        let policy = PolicyFile.Load(path, (if group = "" then null else group), activation)
        policy.Check(environment, "policy")
        say $"Policy: {path}: {policy.Architecture}, reads '{policy.ObservationGroup}'"
        policy

    /// What environments differ in, in a word.
    let rec private compared (environment: IEnvironmentConfig) =
        match environment with
        | :? QuadrotorConfig -> "drone"
        | :? ManipulationConfig -> "task"
        | :? EncodedConfig as encoded -> compared encoded.Environment
        | _ -> "environments"

    /// Episodes of the policy: a row for all and, where environments differ, one for each variant, such as a drone.
    let internal run (evaluation: Evaluate) : Comparison =
        Training.atLeastOne "episodes" evaluation.Episodes
        use pool = Training.pool evaluation.Threads

        use policy =
            loadPolicy
                evaluation.Policy
                evaluation.PolicyGroup
                evaluation.PolicyActivation
                evaluation.Environment.Spec

        let variants = evaluation.Environment.Spec.Variants |> Seq.toList

        let episodes = max 1 variants.Length * evaluation.Episodes

        use evaluator =
            new Evaluator(evaluation.Environment, episodes, evaluation.Seed, pool)

        let all =
            if evaluation.Record = "" then
                evaluator.Run policy
            else
                use record = new EpisodeRecord(evaluation.Environment.Spec, episodes)
                let all = evaluator.Run(policy, record)
                Training.makeFolderOf evaluation.Record
                record.Write(evaluation.Record, all, evaluation.Seed, evaluation.Policy)
                say $"Episodes: {Command.shortest evaluation.Record}"
                all

        let each =
            if variants.IsEmpty then
                []
            else
                List.zip variants (List.ofSeq (all.ByVariant(evaluation.Environment.Spec.Variants)))

        Comparison(
            compared evaluation.Environment,
            each @ [ "all", all ],
            measures = [ for measure in evaluation.Environment.Spec.Measures -> measure.Name ]
        )

    /// Writes the table to the file that the evaluation names.
    let internal save (evaluation: Evaluate) (comparison: Comparison) =
        if evaluation.Csv <> "" then
            Training.makeFolderOf evaluation.Csv
            comparison.WriteCsv evaluation.Csv
            say $"Table: {Command.shortest evaluation.Csv}"

    let private runIn (options: RunOptions) (settings: string list) (evaluation: Evaluate) =
        let folder =
            if options.Folder <> "" then
                RunFolder.CreateAt options.Folder
            else
                RunFolder.Create(options.Logs, evaluation.Name)

        for name, tree in Training.parameters [ evaluation ] do
            folder.WriteParameters(name, tree)

        Command.write folder (Command.now kind "" settings evaluation.Seed)
        (run evaluation).WriteCsv(Training.results folder)

    let rec job (evaluation: Evaluate) : Job =
        {
            Kind = kind
            Records = [ evaluation ]
            Defaults = [ defaults ]
            With = fun settings -> job (Settings.apply1 settings evaluation)
            Check =
                fun () ->
                    Job.noOutput "csv" evaluation.Csv
                    Job.noOutput "record" evaluation.Record
                    Training.atLeastOne "episodes" evaluation.Episodes
            Run = fun options settings -> runIn options settings evaluation
            Measures = PolicyResult.find "all" >> PolicyResult.measures
            Main = "return"
            Beside = [ "length"; "share_terminated" ]
        }
