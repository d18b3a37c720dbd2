namespace Distill

open System
open System.Collections.Generic
open System.IO
open System.Text.Json
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// Where a run is kept, or which run goes on.
type RunOptions =
    {
        /// The folder of all experiments.
        Logs: string

        /// Run folder to go on with; empty for a new run.
        Resume: string

        /// Folder of a new run; empty for one below logs that is named by the time.
        Folder: string

        /// Whether the run ends with report.html (2 MB) and, for quadrotors, replay.html (1 MB). Turn it off for very many runs.
        Report: bool

        /// Whether what is trained is filmed during training, for quadrotors: videos/step-N.mp4. Needs Chromium and ffmpeg, and
        /// some seconds a video.
        Video: bool

        /// Steps that a video shows at most; an episode that ends is a shorter one.
        VideoLength: int

        /// Steps of each environment from one video to the next. Raise it when filming takes longer than training.
        VideoInterval: int
    }

/// What runs of all kinds have in common.
module Training =
    /// A training run: what it is called, where, and with what.
    type Setup =
        {
            Name: string
            RunName: string
            Seed: uint64
            Environment: IEnvironmentConfig
            Plan: Plan

            /// What params/agent.yaml and params/env.yaml say.
            Parameters: (string * obj) list
        }

    /// All settings of the records, those of the environment apart.
    let parameters (records: obj list) : (string * obj) list =
        let agent = Dictionary<string, obj | null>()

        for entry in records |> Seq.collect Settings.tree do
            agent[entry.Key] <- entry.Value

        let environment = nonNull agent["environment"]
        agent.Remove "environment" |> ignore
        [ "env", environment; "agent", agent ]

    /// Settings that a run may go on with other than it began.
    let private free = [ "threads:"; "iterations:" ]

    let private relevant (text: string) =
        text.Split('\n')
        |> Array.filter (fun line -> not (free |> List.exists (fun (name: string) -> line.StartsWith name)))

    /// Refuses to go on with a run whose settings are not those it began with.
    let private checkUnchanged (folder: RunFolder) (setup: Setup) =
        for name, tree in setup.Parameters do
            let path = Path.Combine(folder.Path, "params", name + ".yaml")

            let before =
                if File.Exists path then
                    relevant (InputFile.ReadText(path, "YAML file"))
                else
                    [||]

            let now = relevant (Yaml.ToText tree)

            if before <> now then
                let line (lines: string array) i =
                    if i < lines.Length then
                        $"'{lines[i].Trim()}'"
                    else
                        "nothing"

                let i = Seq.initInfinite id |> Seq.find (fun i -> line before i <> line now i)

                raise (
                    DistillException(
                        $"{folder.Path} began with other settings: {path} has {line before i} where the script now gives {line now i}."
                    )
                )

    /// The folder of a new run with its parameters written, or of the run that goes on, checked.
    let private openFolder (options: RunOptions) (command: Command) (setup: Setup) =
        if options.Resume <> "" then
            let folder = RunFolder.Open options.Resume
            checkUnchanged folder setup
            folder
        else
            let folder =
                if options.Folder <> "" then
                    RunFolder.CreateAt options.Folder
                else
                    RunFolder.Create(options.Logs, setup.Name, setup.RunName)

            for name, tree in setup.Parameters do
                folder.WriteParameters(name, tree)

            Command.write folder command
            folder

    /// The arguments, after those that the run began with if it goes on; of several values for one name the last stays.
    let arguments (arguments: string list) =
        let name (argument: string) = argument.Split('=')[0]

        let before =
            arguments
            |> List.tryFind _.StartsWith("resume=")
            |> Option.map (fun argument ->
                Command.read(RunFolder.Open(argument.Substring "resume=".Length)).Settings)
            |> Option.defaultValue []

        // distinctBy keeps the first, and the last is wanted.
        before @ arguments |> List.rev |> List.distinctBy name |> List.rev

    /// Refuses a number of something that has to be done at least once.
    let internal atLeastOne (name: string) (value: int) =
        if value < 1 then
            raise (DistillException $"{name}={value} cannot work; it must be at least 1.")

    /// The threads of a run; 0 for one per processor.
    let internal pool (threads: int) : WorkerPool =
        if threads < 0 then
            raise (
                DistillException
                    $"threads={threads} cannot work; it must be 0 for one per processor, or more."
            )

        new WorkerPool(threads)

    let options =
        {
            Logs = "logs"
            Resume = ""
            Folder = ""
            Report = true
            Video = false
            VideoLength = 200
            VideoInterval = 2000
        }

    /// Makes the folder of a file that will be written.
    let makeFolderOf (path: string) =
        Path.GetDirectoryName(Path.GetFullPath path)
        |> Option.ofObj
        |> Option.iter (Directory.CreateDirectory >> ignore)

    let path (folder: RunFolder) = Command.shortest folder.Path

    /// The file of the closed-loop results at the end of a run.
    let results (folder: RunFolder) = Path.Combine(folder.Path, "result.csv")

    /// Longest recorded flight, in steps: 10 s with the usual parameters.
    let private flightSteps = 1000

    /// The task to fly for pictures: of a mixture, the episode that moves.
    let private shown (config: QuadrotorConfig) =
        if config.Task = QuadrotorTask.Mixture then
            Settings.change (nameof config.Task) QuadrotorTask.Langevin config
        else
            config

    /// A flight with each of these policies, from one initial state after one reference, by the seed of the run.
    let flights (config: QuadrotorConfig) (seed: uint64) (policies: (string * Policy) list) =
        let config = shown config
        let seed = RandomStream(seed, "flight").Seed()

        [
            for name, policy in policies do
                name, FlightRecording.record config policy seed flightSteps
        ]

    /// Writes the pages of a run: a replay of these policies, where it is about quadrotors, and the report, whose path is
    /// printed.
    let present (options: RunOptions) (folder: RunFolder) (setup: Setup) (policies: (string * Policy) list) =
        if options.Report then
            match setup.Environment with
            | :? QuadrotorConfig as config when not policies.IsEmpty ->
                Replay.write folder.Path (flights config setup.Seed policies) |> ignore
            | _ -> ()

            Console.Out.WriteLine $"Report: {Command.shortest (Report.write folder.Path)}"

    /// The algorithm, filmed before its first iteration and then every so many steps. What is trained is not touched.
    let private filmed (options: RunOptions) (folder: RunFolder) (setup: Setup) (algorithm: Algorithm) =
        match setup.Environment with
        | _ when not options.Video -> algorithm
        | :? QuadrotorConfig as config ->
            atLeastOne "video_length" options.VideoLength
            atLeastOne "video_interval" options.VideoInterval
            let videos = Path.Combine(folder.Path, "videos")
            Directory.CreateDirectory videos |> ignore

            let film (iterations: int) (steps: int64) =
                let due = steps / int64 options.VideoInterval * int64 options.VideoInterval

                let path (ending: string) =
                    Path.Combine(videos, $"step-{due}{ending}")

                if not (File.Exists(path ".mp4")) then
                    let flight =
                        FlightRecording.record
                            (shown config)
                            algorithm.Policy
                            (RandomStream(setup.Seed, "video").Seed())
                            options.VideoLength

                    let title = $"{setup.Name}: the {algorithm.Role} after {iterations} iterations"
                    Replay(title, [ algorithm.Role, flight ]).SaveVideo(path ".mp4")

                    AtomicFile.Write(
                        path ".meta.json",
                        fun stream ->
                            JsonSerializer.Serialize(
                                stream,
                                {|
                                    step_id = steps
                                    iteration = iterations
                                    policy = algorithm.Role
                                    steps = flight.Steps
                                    ``return`` = flight.Return
                                    terminated = flight.Terminated
                                    content_type = "video/mp4"
                                |}
                            )
                    )

            film (algorithm.Completed()) 0L

            { algorithm with
                Iterate =
                    fun () ->
                        let progress = algorithm.Iterate()
                        film (progress.Iteration + 1) (progress.StepsCollected / int64 setup.Environment.Envs)
                        progress
            }
        | _ -> raise (DistillException "video=true cannot work here: only quadrotors can be filmed.")

    /// Runs the algorithm in its folder; returns the folder. Throws Script.Stopped when a signal ended it.
    let run
        (options: RunOptions)
        (settings: string list)
        (setup: Setup)
        (pool: WorkerPool)
        (algorithm: Algorithm)
        : RunFolder =
        use interruption = new Script.Interruption()

        use evaluator =
            new Evaluator(setup.Environment, setup.Plan.EvaluationEpisodes, setup.Seed, pool)

        let own =
            settings |> List.filter (fun setting -> not (setting.StartsWith "resume="))

        let command = Command.now own setup.Seed
        let folder = openFolder options command setup
        RunRecord.writeWarnings folder.Path algorithm.Warnings
        algorithm.Policy.Metadata["command"] <- command.Repeat()
        algorithm.Policy.Metadata["experiment"] <- setup.Name
        algorithm.Policy.Metadata["seed"] <- string setup.Seed
        Console.Out.WriteLine $"Run folder: {path folder}"

        let algorithm = filmed options folder setup algorithm

        let ending =
            Display.around (fun display ->
                Runner.run folder (options.Resume <> "") setup.Plan evaluator interruption display algorithm)

        match ending with
        | Ending.Finished -> folder
        | Ending.Interrupted code ->
            present options folder setup []

            let sentence =
                $"Stopped after iteration {algorithm.Completed()} of {setup.Plan.Iterations}; "
                + $"go on with: dotnet fsi build.fsx resume {path folder}"

            raise (Script.Stopped(code, sentence))

    /// An evaluator of episodes that neither training nor the evaluations during training have seen.
    let finalEvaluator (setup: Setup) (pool: WorkerPool) =
        new Evaluator(
            setup.Environment,
            setup.Plan.FinalEpisodes,
            RandomStream(setup.Seed, "final evaluation").Seed(),
            pool
        )
