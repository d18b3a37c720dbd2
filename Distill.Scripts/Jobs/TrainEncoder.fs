namespace Distill

open System
open System.Collections.Generic
open System.IO
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Networks
open Distill.Policies
open Distill.Storage

/// Training of a trajectory encoder: all but the algorithm's own settings.
type TrainEncoder =
    {
        /// Name of the experiment: its folder under logs/.
        Name: string

        /// Added to the run folder's name.
        RunName: string

        /// Threads that compute; 0 for one per processor.
        Threads: int

        /// The file of the episodes, as `Run.trajectories` writes it.
        Trajectories: string

        /// Where the encoder is copied to in the end; empty for nowhere.
        SaveTo: string

        /// Iterations between checkpoints. Lower it when a stop would cost more than a save, raise it when saves take up time.
        SaveInterval: int

        /// Steps of an episode that are seen when a linear probe asks the encoding for the task: what a run says of itself. Lower it
        /// when tasks must be known earlier, raise it when they show late.
        ProbedSteps: int
    }

/// A trained encoder, and beside it the same network before its first update.
type EncoderResult
    (
        folder: string,
        file: string,
        report: EncodingReport option,
        records: EncodingRecord list,
        probed: int,
        interruption: string option
    ) =
    let table =
        Distill.Table(
            [ "steps seen"; "tasks found, %"; "untrained, %"; "silhouette"; "untrained" ],
            [
                match records with
                | [ trained; untrained ] ->
                    for own, before in List.zip trained.Separations untrained.Separations do
                        [
                            own.Seen
                            Math.Round(100.0 * own.Accuracy, 2)
                            Math.Round(100.0 * before.Accuracy, 2)
                            Math.Round(own.Silhouette, 3)
                            Math.Round(before.Silhouette, 3)
                        ]
                | _ -> ()
            ]
        )

    /// The run folder.
    member _.Folder = folder

    /// The encoder where the validation loss was lowest.
    member _.File = file

    /// Of the last iteration; None where none was done.
    member _.Report = report

    /// The trained encoder's and the untrained one's, measured on held-out episodes.
    member _.Encodings = records

    /// Share of held-out episodes whose task a probe finds once `probed_steps` are seen.
    member _.TasksFound =
        records.Head.Separations |> List.find (fun one -> one.Seen = probed) |> _.Accuracy

    /// Where the training was interrupted, and how to go on; None where it has finished.
    member _.Interruption = interruption
    member _.ToHtml() = table.ToHtml()

    override result.ToString() =
        String.Join(
            Environment.NewLine,
            [
                string table
                $"Tasks found: {100.0 * result.TasksFound:F2} %% after {probed} steps"
                $"Encoder: {file}"
                $"Run folder: {folder}"
                yield! Option.toList interruption
            ]
        )

module TrainEncoder =
    let internal kind = "encoder"

    let defaults: TrainEncoder =
        {
            Name = "encoder"
            RunName = ""
            Threads = 0
            Trajectories = ""
            SaveTo = ""
            SaveInterval = 5
            ProbedSteps = 10
        }

    /// The numbers of steps seen by which the tables go, with the probed one and the last.
    let private seen (probed: int) (data: Trajectories) =
        [ 1; 2; 5; 10; 20; 50; 100; 200; 400; probed; data.Steps ]
        |> List.filter (fun steps -> steps <= data.Steps)
        |> List.distinct
        |> List.sort

    let private check (training: TrainEncoder) (config: TrajectoryEncodingConfig) =
        config.Validate()
        Training.atLeastOne "save_interval" training.SaveInterval
        Training.atLeastOne "probed_steps" training.ProbedSteps

        if training.Trajectories = "" then
            fail "Which episodes? Name their file: trajectories=FILE.safetensors."

        if not (File.Exists training.Trajectories) then
            fail $"There is no file '{training.Trajectories}' with episodes."

    /// What params/ says: the settings, and what the episodes were, which must not change when a run goes on.
    let private parameters (training: TrainEncoder) (config: TrajectoryEncodingConfig) (data: Trajectories) =
        let agent = Dictionary<string, obj | null>()

        for entry in [ training :> obj; config ] |> Seq.collect Settings.tree do
            agent[entry.Key] <- entry.Value

        let episodes = Dictionary<string, obj | null>()
        episodes["episodes"] <- data.Episodes
        episodes["steps"] <- data.Steps
        episodes["state"] <- data.StateSize
        episodes["action"] <- data.ActionSize
        episodes["content"] <- Fingerprint.hasher () [ "trajectories", training.Trajectories ]
        [ "agent", agent :> obj; "trajectories", episodes ]

    let private progress
        (config: TrajectoryEncodingConfig)
        (training: TrainEncoder)
        (probe: TaskSeparation)
        (report: EncodingReport)
        : Progress =
        {
            Iteration = report.Iteration
            Phase = ""
            Losses =
                [
                    "validation", report.Loss
                    "training", report.Training.Total config.ContrastWeight
                    "contrast", report.Training.Contrast
                ]
            MeanReturn = None
            MeanEpisodeLength = None
            StepsCollected = report.Updates * int64 config.BatchSize
            CollectionSeconds = 0.0
            LearningSeconds = report.Seconds
            Data = $"tasks found {100.0 * probe.Accuracy:F1} %% after {training.ProbedSteps} steps"
            Events = []
            Warnings = []
            Metrics =
                Progress.metrics report.Metrics
                @ [ "Probe/tasks_found", probe.Accuracy; "Probe/silhouette", probe.Silhouette ]
                @ Progress.schedules [ config ] report.Iteration
        }

    let private metrics (progress: Progress) (clock: Clock) =
        progress.Metrics
        @ [ "Perf/windows_per_second", clock.StepsPerSecond; "Perf/learning_time", progress.LearningSeconds ]
        |> List.map KeyValuePair

    /// What encodings of held-out episodes know, and where they lie.
    let private measure
        (name: string)
        (network: TrajectoryTransformer)
        (training: TrainEncoder)
        (encoding: TrajectoryEncoding)
        (data: Trajectories)
        (pool: WorkerPool)
        : EncodingRecord =
        let heldOut = encoding.ValidationEpisodes

        let points =
            EncodingProbe.encodings network data pool training.ProbedSteps heldOut |> EncodingProbe.plane

        {
            Encoder = name
            Separations =
                EncodingProbe.byStepsSeen
                    network
                    data
                    encoding.TrainingEpisodes
                    heldOut
                    pool
                    (seen training.ProbedSteps data)
            Seen = training.ProbedSteps
            Points =
                [
                    for episode, (x, y) in Array.zip heldOut points do
                        { Task = data.TaskNames[data.Tasks[episode]]; X = x; Y = y }
                ]
        }

    /// One iteration, and what a probe finds after it.
    let private iterate
        (training: TrainEncoder)
        (encoding: TrajectoryEncoding)
        (data: Trajectories)
        (pool: WorkerPool)
        (last: EncodingReport option ref)
        ()
        : Progress =
        let report = encoding.Iterate()
        last.Value <- Some report

        EncodingProbe.byStepsSeen
            encoding.Transformer
            data
            encoding.TrainingEpisodes
            encoding.ValidationEpisodes
            pool
            [ training.ProbedSteps ]
        |> List.exactlyOne
        |> fun probe -> progress encoding.Config training probe report

    /// Iterates to the end, to an interruption or as far as was asked, and leaves the state in the folder.
    let private learn
        (options: RunOptions)
        (folder: RunFolder)
        (saveInterval: int)
        (meter: CostMeter)
        (encoding: TrajectoryEncoding)
        (advance: unit -> Progress)
        : Ending =
        use interruption =
            new Script.Interruption("Stopping after this iteration; again to stop now.")

        let memory = Runner.Memory()

        let visit (state: State) =
            state.Part("runner", fun part -> part.Amount("elapsed", &memory.Elapsed))
            state.Part("algorithm", fun part -> encoding.Visit part)

        let resume = options.Resume <> ""

        if resume then
            StateFile.Load(Runner.statePath folder, visit)

        let first = encoding.Iteration

        use log =
            if resume then
                MetricsLog.Resume(folder.Path, int64 first - 1L)
            else
                MetricsLog.Create folder.Path

        let save () =
            log.Flush()
            StateFile.Save(Runner.statePath folder, visit)

        let iterations = encoding.Config.Iterations

        let stop =
            if options.Until = 0 then
                iterations
            else
                min options.Until iterations

        if resume && encoding.Finished then
            Training.sayFinished encoding.Iteration

        if not resume then
            save ()

        Display.around (fun display ->
            let clockAfter = Runner.clock iterations first memory

            while not encoding.Finished && encoding.Iteration < stop && interruption.ExitCode = 0 do
                let progress, clock = Runner.iterate display clockAfter advance
                log.Append(progress.Iteration, metrics progress clock)
                memory.Elapsed <- clock.Elapsed.TotalSeconds
                meter.Advance progress.StepsCollected

                if encoding.Iteration % saveInterval = 0 then
                    save ())

        save ()

        if encoding.Finished then
            Ending.Finished
        else
            Ending.Interrupted interruption.ExitCode

    /// What the encoder's file says of where it comes from.
    let private notes
        (command: Command)
        (training: TrainEncoder)
        (config: TrajectoryEncodingConfig)
        (data: Trajectories)
        (iterations: int)
        (trained: EncodingRecord)
        =
        let found =
            trained.Separations |> List.find (fun one -> one.Seen = training.ProbedSteps)

        dict
            [
                "command", command.Repeat()
                "experiment", training.Name
                "seed", string config.Seed
                "iterations", string iterations
                "trajectories", training.Trajectories
                "episodes", string data.Episodes
                "tasks", String.Join(", ", data.TaskNames)
                "tasks_found", Csv.number found.Accuracy
                "tasks_found_after", string training.ProbedSteps
            ]
        |> Dictionary

    let private writeResults (folder: RunFolder) (heldOut: int) (found: TaskSeparation) (loss: float) =
        Csv.write
            (Training.results folder)
            RunRecord.encoderColumns
            [
                for name, value in
                    [
                        PolicyResult.tasksFound, found.Accuracy
                        PolicyResult.silhouette, found.Silhouette
                        PolicyResult.encoderLoss, -loss
                    ] do
                    [ name; Csv.number value; string found.Seen; string heldOut ]
            ]

    let internal run
        (options: RunOptions)
        (settings: string list)
        (training: TrainEncoder)
        (config: TrajectoryEncodingConfig)
        : EncoderResult =
        check training config
        Training.checkUntil options
        let data = Trajectories.Load training.Trajectories

        if training.ProbedSteps > data.Steps then
            fail $"probed_steps={training.ProbedSteps} cannot work; the episodes have {data.Steps} steps."

        use pool = Training.pool training.Threads
        use encoding = new TrajectoryEncoding(config, data, pool)

        use untrained =
            new TrajectoryTransformer(config.Network, data.StateSize, data.ActionSize)

        encoding.Transformer.Parameters.Span.CopyTo untrained.Parameters.Span

        say
            $"Encoder '{training.Name}', seed {config.Seed}, {pool.Threads} threads, {Simd.Path} kernels: {untrained.Parameters.Length} parameters, windows of {config.Network.Window} steps"

        let tasks = String.Join(", ", data.TaskNames)

        say
            $"Episodes: {encoding.TrainingEpisodes.Length} to learn from, {encoding.ValidationEpisodes.Length} held out, {data.Steps} steps each, of {tasks}"

        let command = Training.commandOf kind "" settings config.Seed
        let folder = Training.openFolder options training.Name training.RunName
        use _ = folder.Lock()
        Training.prepare options folder command (parameters training config data)
        say $"Run folder: {Training.path folder}"
        use meter = new CostMeter(folder.Path, options.Resume <> "", CpuTime.ofRun ())
        let last = ref None

        let ending =
            iterate training encoding data pool last
            |> learn options folder training.SaveInterval meter encoding

        encoding.Restore()

        let records =
            [
                measure "trained" encoding.Transformer training encoding data pool
                measure "untrained" untrained training encoding data pool
            ]

        EncodingRecord.write folder.Path records

        let file = folder.Checkpoint "best_encoder.safetensors"
        let notes = notes command training config data encoding.Iteration records.Head
        EncoderFile.Save(file, encoding.Transformer, notes)

        let finish (interruption: string option) =
            EncoderResult(
                Training.path folder,
                Command.shortest file,
                last.Value,
                records,
                training.ProbedSteps,
                interruption
            )

        match ending with
        | Ending.Finished ->
            if training.SaveTo <> "" then
                Training.makeFolderOf training.SaveTo
                EncoderFile.Save(training.SaveTo, encoding.Transformer, notes)

            let found =
                records.Head.Separations |> List.find (fun one -> one.Seen = training.ProbedSteps)

            writeResults folder encoding.ValidationEpisodes.Length found encoding.BestLoss
            Training.report options folder
            finish None
        | Ending.Interrupted code ->
            Training.report options folder
            finish (Some(Training.stopped folder code encoding.Iteration config.Iterations))

    /// Both with settings `name=value` in place, beside those of the run.
    let internal withArguments
        (settings: string list)
        (training: TrainEncoder)
        (config: TrajectoryEncodingConfig)
        : RunOptions * TrainEncoder * TrajectoryEncodingConfig =
        Settings.apply3 settings (Training.options, training, config)

    let rec job (training: TrainEncoder) (config: TrajectoryEncodingConfig) : Job =
        {
            Kind = kind
            Records = [ training; config ]
            Defaults = [ defaults; TrajectoryEncodingConfig() ]
            With = fun settings -> Settings.apply2 settings (training, config) ||> job
            Check =
                fun () ->
                    Job.noOutput "save_to" training.SaveTo
                    check training config
            Run = fun options settings -> Job.orStopped (run options settings training config).Interruption
            Measures =
                fun results ->
                    let of' (name: string) =
                        (PolicyResult.find name results).MeanReturn

                    [
                        "share_found", of' PolicyResult.tasksFound
                        "silhouette", of' PolicyResult.silhouette
                        "minus_loss", of' PolicyResult.encoderLoss
                    ]
            Main = "share_found"
            Beside = [ "silhouette"; "minus_loss" ]
        }
