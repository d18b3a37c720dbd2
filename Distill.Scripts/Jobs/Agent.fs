namespace Distill

open System
open System.Collections.Generic
open System.Diagnostics
open System.IO
open Distill.Algorithms
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// What the folder of a run holds beside the state, for the folder that an agent is saved to.
type internal AgentFiles =
    {
        Folder: RunFolder
        Command: Command
        Metrics: MetricsRow list
        Warnings: string list
        Cost: RunCost option

        /// The best policy so far, by file names.
        Best: (string * byte array) list
    }

/// A policy and all that it is trained with, loaded from the folder of a run: optimizer, dataset, environments, counters and
/// random numbers. It goes on as the run would have, bit for bit, and leaves the folder as it is. Made by `Agent.load`.
[<Sealed>]
type Agent
    internal
    (files: AgentFiles, records: obj list, session: Training.Session, memory: Runner.Memory, own: Belongings)
    =
    let setup, algorithm = session.Setup, session.Algorithm
    let metrics = List<MetricsRow>(files.Metrics)
    let warnings = List<string>(files.Warnings)
    let mutable last: Progress option = None
    let mutable coreSeconds = 0.0

    /// Why it cannot be used any more.
    let mutable trouble = ""

    let check () =
        if trouble <> "" then
            fail trouble

    let distillation () =
        check ()

        match session.Distillation with
        | Some distillation -> distillation
        | None -> fail $"{Training.path files.Folder} is a run of kind {setup.Kind}, which keeps no dataset."

    let iterate (display: Display) (clockAfter: Progress -> Clock) : Progress =
        let before = Environment.CpuUsage.TotalTime
        let progress, clock = Runner.iterate display clockAfter algorithm.Iterate
        let row = Runner.iterationMetrics progress clock |> List.map KeyValuePair
        metrics.Add(MetricsRow(progress.Iteration, List.toArray row))
        warnings.AddRange progress.Warnings
        memory.Elapsed <- clock.Elapsed.TotalSeconds
        coreSeconds <- coreSeconds + (Environment.CpuUsage.TotalTime - before).TotalSeconds
        last <- Some progress
        progress

    let iterations (number: int) : Progress list =
        check ()
        Training.atLeastOne "iterations" number

        use interruption =
            new Script.Interruption("Stopping after this iteration; again to stop now.")

        let first = algorithm.Completed()
        let clockAfter = Runner.clock (first + number) first memory

        try
            Display.around (fun display ->
                [
                    while algorithm.Completed() < first + number && interruption.ExitCode = 0 do
                        iterate display clockAfter
                ])
        with _ ->
            trouble <- "An iteration of this agent has failed half-way; load it anew."
            reraise ()

    let save (folder: RunFolder) =
        for name, tree in setup.Parameters do
            folder.WriteParameters(name, tree)

        Command.write folder files.Command
        RunRecord.addWarnings folder.Path (List.ofSeq warnings)

        files.Cost
        |> Option.iter (fun cost ->
            let steps = last |> Option.map _.StepsCollected |> Option.defaultValue cost.Steps
            RunCost.write folder.Path { Steps = steps; CoreSeconds = cost.CoreSeconds + coreSeconds })

        for name, bytes in files.Best do
            AtomicFile.Write(folder.Checkpoint name, fun stream -> stream.Write bytes)

        use log = MetricsLog.Create folder.Path

        for row in metrics do
            log.Append(row.Iteration, row.Metrics)

        let completed = algorithm.Completed()
        Runner.savePolicy folder $"{algorithm.Role}_{completed}" algorithm memory completed
        Runner.save folder setup.Plan algorithm memory log

    let table () =
        let row (what: string) (value: obj) : obj list = [ what; value ]

        Table(
            [ "agent"; setup.Name ],
            [
                row "loaded from" (Training.path files.Folder)
                row "kind" setup.Kind
                row "iterations" $"{algorithm.Completed()} of {setup.Plan.Iterations}"
                row
                    algorithm.Role
                    $"{algorithm.Policy.Architecture}, {algorithm.Policy.Network.ParameterCount} parameters"
                row "optimizer steps" (string algorithm.Optimizer.Steps)
                match session.Distillation with
                | Some distillation ->
                    row "dataset" $"{distillation.DatasetRows} rows of at most {distillation.DatasetLimit}"
                | None -> ()
                if memory.BestIteration > 0 && Double.IsFinite memory.BestReturn then
                    row
                        "best"
                        $"return {Table.Number memory.BestReturn}, after {memory.BestIteration} iterations"
                match last with
                | Some progress ->
                    for name, value in progress.Losses do
                        row $"{name} loss" (Table.Number value)
                | None -> ()
            ]
            |> Seq.map Seq.ofList
        )

    /// The run folder that it was loaded from.
    member _.Folder = files.Folder.Path

    /// Every setting and its value, as the command line takes them.
    member _.Settings = Settings.describe records

    /// The experiment of a distillation. Fails for a training by reinforcement.
    member _.Experiment: Experiment =
        match records with
        | [ :? TeacherFile as teacher; :? DistillationConfig as config ] ->
            { Teacher = teacher; Config = config }
        | _ ->
            fail $"{Training.path files.Folder} is a run of kind {setup.Kind}; its settings are in Settings."

    /// The configuration of a distillation. Fails for a training by reinforcement.
    member agent.Config = agent.Experiment.Config

    /// The policy that learns, as it is now: a distillation's student, or the actor of reinforcement learning. It lives as long as the agent.
    member _.Student: Policy =
        check ()
        algorithm.Policy

    /// Iterations completed.
    member _.Iteration =
        check ()
        algorithm.Completed()

    /// One more iteration, which is told of as in a run. It is not evaluated by the way, and the best policy stays the run's.
    member _.Iterate() : Progress = List.exactlyOne (iterations 1)

    /// So many more iterations, also beyond those of the run; fewer where it is interrupted.
    member _.Iterate(number: int) : Progress list = iterations number

    /// The policy alone, on so many episodes of the environments: those of the evaluations during training, as far as they go.
    member _.Evaluate(episodes: int) : EvaluationResult =
        check ()
        Training.atLeastOne "episodes" episodes

        use evaluator =
            new Evaluator(setup.Environment, episodes, setup.Seed, session.Pool, setup.Device)

        let result = evaluator.Run algorithm.Policy
        say $"After {algorithm.Completed()} iterations: {Runner.describe result}"
        result

    /// Rows that the dataset holds. Fails for a training by reinforcement, as what follows does.
    member _.DatasetRows = distillation().DatasetRows

    /// Names of what a row of the dataset consists of, and how many numbers each has.
    member _.DatasetColumns =
        [
            for column in distillation().DatasetColumns do
                column.Name, column.Size
        ]

    /// Writes the dataset as NumPy arrays into an .npz file.
    member _.ExportDataset(path: string) =
        let distillation = distillation ()
        Training.makeFolderOf path

        match records with
        | (:? TeacherFile as teacher) :: _ -> distillation.ExportDataset(path, teacher.Teacher)
        | _ -> distillation.ExportDataset path

    /// Makes the folder of a run, which must not exist, from which `Agent.load` and `resume` go on, bit for bit. Gives its path.
    member _.Save(folder: string) : string =
        check ()
        Training.makeFolderOf (Path.TrimEndingDirectorySeparator folder)
        Training.path (RunFolder.CreateWith(folder, save))

    member _.ToHtml() =
        check ()
        table().ToHtml()

    override _.ToString() =
        check ()
        string (table ())

    interface IDisposable with
        member _.Dispose() =
            if trouble = "" then
                trouble <- "This agent was disposed of; load it anew."

            (own :> IDisposable).Dispose()

/// Agents from the folders of runs.
module Agent =
    let private start (own: Belongings) (records: obj list) : Training.Session =
        match records with
        | [ :? TeacherFile as teacher; :? DistillationConfig as config ] ->
            Distil.start own { Teacher = teacher; Config = config }
        | [ :? TrainTeacher as training; :? TeacherFile as teacher; :? PpoConfig as ppo ] ->
            TrainTeacher.start own training (Reinforcement.ppo teacher ppo)
        | [ :? TrainTeacher as training; :? TeacherFile as teacher; :? SacConfig as sac ] ->
            TrainTeacher.start own training (Reinforcement.sac teacher sac)
        | _ -> failwith "No other kind of job trains."

    let private read (folder: RunFolder) (command: Command) : AgentFiles =
        {
            Folder = folder
            Command = command
            Metrics = List.ofSeq (MetricsLog.Read folder.Path)
            Warnings = RunRecord.readWarnings folder.Path
            Cost = RunCost.read folder.Path
            Best =
                [
                    for name in folder.Checkpoints() do
                        if name.StartsWith "best_" then
                            name, File.ReadAllBytes(folder.Checkpoint name)
                ]
        }

    /// The agent of the folder, with the records that its settings are in.
    let private restore (path: string) (recordsOf: RunFolder -> Command -> obj list) : Agent =
        let folder = RunFolder.Open path
        use _ = folder.Lock()
        let command = Command.read folder

        if command.Role = "" then
            fail $"{Training.path folder} is a run of kind {command.Kind}, which trains no policy."

        Training.checkState folder
        let records = recordsOf folder command
        let own = new Belongings()

        try
            let session = start own records
            Training.checkUnchanged folder session.Setup.Parameters
            let memory = Runner.restore folder session.Setup.Plan session.Algorithm
            Training.sign command session.Setup session.Algorithm.Policy
            let files = read folder command
            let completed = int64 (session.Algorithm.Completed())
            // A run that was killed may have logged more than it saved.
            let saved = files.Metrics |> List.filter (fun row -> row.Iteration < completed)
            new Agent({ files with Metrics = saved }, records, session, memory, own)
        with _ ->
            (own :> IDisposable).Dispose()
            reraise ()

    /// Loads a run, a distillation or a training by reinforcement, to go on with it in a script or a notebook. Its folder says all
    /// settings, but for what was made in the script: an environment of one's own, a schedule that is a function.
    let load (folder: string) : Agent =
        restore folder (fun run command ->
            let records, made =
                Settings.ofTree (Training.written run) (Jobs.ofKind command.Kind).Records

            match made with
            | [] -> records
            | names ->
                let names, path = String.Join(", ", names), Training.path run

                if command.Kind = Distil.kind then
                    fail
                        $"{path} does not say its {names}, made in the script; give the experiment from there: Agent.loadWith experiment \"{path}\"."
                else
                    fail
                        $"{path} does not say its {names}, made in the script; go on with it there: resume={path}.")

    /// Loads the run of an experiment from the script that has it. Settings of its command line are those it began with.
    let loadWith (experiment: Experiment) (folder: string) : Agent =
        restore folder (fun run command ->
            if command.Kind <> Distil.kind then
                fail
                    $"{Training.path run} is a run of kind {command.Kind} and no distillation; load it by Agent.load."

            let _, experiment = Distil.withArguments command.Settings experiment
            [ experiment.Teacher; experiment.Config ])
