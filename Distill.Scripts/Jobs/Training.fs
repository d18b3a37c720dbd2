namespace Distill

open System
open System.Collections.Generic
open System.IO
open System.Text.Json
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Environments.Recorded
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

        /// Iterations after which the run stops, with a checkpoint from which it goes on; 0 for none. A search by successive
        /// halving stops its trials so.
        Until: int

        /// Whether the run ends with report.html (2 MB) and, for quadrotors, replay.html (1 MB). Turn it off for very many runs.
        Report: bool

        /// Whether what is trained is filmed during training, for quadrotors: videos/step-N.mp4. Needs Chromium and ffmpeg, and
        /// some seconds a video.
        Video: bool

        /// Steps that a video shows at most; an episode that ends is a shorter one. Raise it to see more, lower it when filming takes
        /// long.
        VideoLength: int

        /// Steps of each environment from one video to the next. Raise it when filming takes longer than training,
        /// lower it to see more of how it learns.
        VideoInterval: int
    }

/// What must be disposed of in the end, the newest first.
type internal Belongings() =
    let all = Stack<IDisposable>()

    member _.Add(one: 'Owned :> IDisposable) : 'Owned =
        all.Push one
        one

    interface IDisposable with
        member _.Dispose() =
            while all.Count > 0 do
                all.Pop().Dispose()

/// What runs of all kinds have in common.
module Training =
    /// A training run: what it is called, where, and with what.
    type Setup =
        {
            /// The kind of job.
            Kind: string
            Name: string
            RunName: string
            Seed: uint64
            Environment: IEnvironmentConfig

            /// Where evaluations are computed, if they can be there.
            Device: ComputeDevice
            Plan: Plan

            /// What params/agent.yaml and params/env.yaml say.
            Parameters: (string * obj) list
        }

    /// A training in memory, before its first iteration or where a state puts it.
    type internal Session =
        {
            Setup: Setup
            Pool: WorkerPool
            Algorithm: Algorithm
            Teacher: ITeachers option

            /// With the dataset, where there is one.
            Distillation: Distillation option
        }

    /// All settings of the records, those of the environment apart.
    let parameters (records: obj list) : (string * obj) list =
        let agent = Dictionary<string, obj | null>()

        for entry in records |> Seq.collect Settings.tree do
            agent[entry.Key] <- entry.Value

        let environment = nonNull agent["environment"]
        agent.Remove "environment" |> ignore
        [ "env", environment; "agent", agent ]

    /// The settings that the folder of a run says, by their dotted names.
    let internal written (folder: RunFolder) : (string * string) list =
        let read (prefix: string) (file: string) =
            [
                for setting in Yaml.Read(Path.Combine(folder.Path, "params", file + ".yaml")) do
                    prefix + setting.Key, setting.Value
            ]

        read "environment." "env" @ read "" "agent"

    /// Refuses to go on in a folder with settings that are not those it began with, but for some, such as "threads".
    let internal checkSettings (free: string list) (folder: RunFolder) (parameters: (string * obj) list) =
        let relevant (text: string) =
            text.Split('\n')
            |> Array.filter (fun line -> free |> List.forall (fun name -> not (line.StartsWith(name + ":"))))

        for name, tree in parameters do
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

                fail
                    $"{folder.Path} began with other settings: {path} has {line before i} where the script now gives {line now i}."

    /// Refuses to go on with a run whose settings are not those it began with. Its threads and its device may change, and it may
    /// get longer.
    let internal checkUnchanged (folder: RunFolder) (parameters: (string * obj) list) =
        checkSettings [ "threads"; "device"; "iterations" ] folder parameters

    let path (folder: RunFolder) = Command.shortest folder.Path

    /// The file of the closed-loop results at the end of a run.
    let results (folder: RunFolder) = Path.Combine(folder.Path, "result.csv")

    /// Refuses to go on with a run that has no state, because it has finished and that was removed, or never was saved.
    let internal checkState (folder: RunFolder) =
        if not (Runner.hasState folder) && File.Exists(results folder) then
            fail
                $"The run in {folder.Path} has finished: result.csv and report.html there say how. It has no state any more from which it could go on with more iterations."

        Runner.requireState folder

    /// The folder of a new run, or of the run that goes on.
    let internal openFolder (options: RunOptions) (name: string) (runName: string) =
        if options.Resume <> "" then
            RunFolder.Open options.Resume
        elif options.Folder <> "" then
            RunFolder.CreateAt options.Folder
        else
            RunFolder.Create(options.Logs, name, runName)

    /// Writes the parameters of a new run, or checks those of the run that goes on.
    let internal prepare
        (options: RunOptions)
        (folder: RunFolder)
        (command: Command)
        (parameters: (string * obj) list)
        =
        if options.Resume <> "" then
            checkUnchanged folder parameters
            checkState folder
        else
            for name, tree in parameters do
                folder.WriteParameters(name, tree)

            Command.write folder command

    /// The arguments, after those that the run began with if it goes on; of several values for one name the last stays.
    let arguments (arguments: string list) =
        let name (argument: string) =
            Names.assignment argument |> Option.map fst |> Option.defaultValue argument

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
            fail $"{name}={value} cannot work; it must be at least 1."

    /// The threads of a run; 0 for one per processor.
    let internal pool (threads: int) : WorkerPool =
        if threads < 0 then
            fail $"threads={threads} cannot work; it must be 0 for one per processor, or more."

        new WorkerPool(threads)

    let options =
        {
            Logs = "logs"
            Resume = ""
            Folder = ""
            Until = 0
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

    /// Longest recorded flight, in steps: 10 s with the usual parameters.
    let private flightSteps = 1000

    /// The task to fly for pictures: of a mixture, the episode that moves.
    let private shown (config: QuadrotorConfig) =
        if config.Task = QuadrotorTask.Mixture then
            config |> Settings.set <@ _.Task @> QuadrotorTask.Langevin
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

    /// Does what must not keep a run from its end, such as writing a page on a full disk; says if it fails.
    let internal attempt (what: string) (work: unit -> unit) =
        try
            work ()
        with error ->
            Console.Error.WriteLine $"{what} could not be written. {Script.describe error}"

    /// Writes the report, whose path is printed.
    let internal report (options: RunOptions) (folder: RunFolder) =
        if options.Report then
            attempt "The report" (fun () -> say $"Report: {Command.shortest (Report.write folder.Path)}")

    /// Writes the pages of a run: a replay of these policies, where it is about quadrotors, and the report, whose path is
    /// printed.
    let private present
        (options: RunOptions)
        (folder: RunFolder)
        (setup: Setup)
        (policies: (string * Policy) list)
        =
        if options.Report then
            match setup.Environment with
            | :? QuadrotorConfig as config when not policies.IsEmpty ->
                attempt "The replay" (fun () ->
                    Replay.write folder.Path (flights config setup.Seed policies) |> ignore)
            | _ -> ()

        report options folder

    /// Refuses what cannot be filmed.
    let private checkVideo (options: RunOptions) (setup: Setup) =
        if options.Video then
            atLeastOne "video_length" options.VideoLength
            atLeastOne "video_interval" options.VideoInterval

            if not (setup.Environment :? QuadrotorConfig) then
                fail "video=true cannot work here: only quadrotors can be filmed."

    /// The algorithm, filmed before its first iteration and then every so many steps. What is trained is not touched.
    let private filmed (options: RunOptions) (folder: RunFolder) (setup: Setup) (algorithm: Algorithm) =
        match setup.Environment with
        | :? QuadrotorConfig as config when options.Video ->
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
        | _ -> algorithm

    /// Writes the results of a run that has finished, and its pages. Results that cannot be written are printed.
    let conclude
        (options: RunOptions)
        (folder: RunFolder)
        (setup: Setup)
        (comparison: Comparison)
        (policies: (string * Policy) list)
        =
        try
            comparison.WriteCsv(results folder)
        with _ ->
            say (string comparison)
            reraise ()

        present options folder setup policies
        let state = FileInfo(Runner.statePath folder)

        if state.Exists then
            say
                $"State: {Command.shortest state.FullName}, {Names.mebibytes state.Length}: more iterations can go on from it; `dotnet fsi build.fsx clean runs` removes the states of finished runs"

    /// The command of a run that begins now with these settings of the command line.
    let internal commandOf (kind: string) (role: string) (settings: string list) (seed: uint64) : Command =
        let own =
            settings |> List.filter (fun setting -> not (setting.StartsWith "resume="))

        Command.now kind role own seed

    let internal checkUntil (options: RunOptions) =
        if options.Until < 0 then
            fail $"until={options.Until} cannot work; it must be 0 for none, or more."

    /// Says of a run that was asked to go on that there was nothing left to do.
    let internal sayFinished (iterations: int) =
        say
            $"This run has finished: all its {iterations} iterations were done before. To go on with it, give more: iterations=…"

    /// How the user goes on with a run that was stopped: a sentence that ends a script.
    let internal stopped (folder: RunFolder) (code: int) (completed: int) (iterations: int) : string =
        let howToGoOn =
            match Script.current with
            | Some _ -> $"dotnet fsi build.fsx resume {path folder}"
            | None -> $"the same call with the setting \"resume={path folder}\""

        let sentence =
            $"Stopped after iteration {completed} of {iterations}; go on with: {howToGoOn}"

        if Script.current.IsSome then
            raise (Script.Stopped(code, sentence))

        say sentence
        sentence

    /// The algorithm, which tells before its first iteration.
    let private telling (beforeFirst: unit -> unit) (algorithm: Algorithm) =
        let mutable begun = false

        { algorithm with
            Iterate =
                fun () ->
                    if not begun then
                        begun <- true
                        beforeFirst ()

                    algorithm.Iterate()
        }

    /// The algorithm, whose steps count for what the run costs.
    let internal metered (meter: CostMeter) (algorithm: Algorithm) =
        { algorithm with
            Iterate =
                fun () ->
                    let progress = algorithm.Iterate()
                    meter.Advance progress.StepsCollected
                    progress
        }

    /// Trains in the folder, and says what that was if it was nothing.
    let private train
        (options: RunOptions)
        (folder: RunFolder)
        (setup: Setup)
        (pool: WorkerPool)
        (algorithm: Algorithm)
        : Ending =
        use interruption =
            new Script.Interruption("Stopping after this iteration; again to stop now.")

        use own = new Belongings()

        let evaluator =
            match setup.Environment with
            | :? RecordedConfig -> None
            | environment ->
                Some(
                    own.Add(
                        new Evaluator(
                            environment,
                            setup.Plan.EvaluationEpisodes,
                            setup.Seed,
                            pool,
                            setup.Device
                        )
                    )
                )

        let resume = options.Resume <> ""

        if resume && not setup.Environment.Spec.Resumes then
            say
                $"The episodes of {setup.Environment.Spec.Name} begin anew: where they were cannot be saved, so this run's numbers are not those of one that was never stopped."

        let mutable trained = false

        let algorithm =
            algorithm
            |> telling (fun () ->
                trained <- true
                // A run that goes on has not finished, whatever it was before.
                if resume then
                    File.Delete(results folder))

        let ending =
            Display.around (fun display ->
                Runner.run folder resume setup.Plan options.Until evaluator interruption display algorithm)

        if resume && not trained && ending = Ending.Finished then
            sayFinished (algorithm.Completed())

        ending

    /// Notes in the policy where it comes from, and what its numbers are.
    let internal sign (command: Command) (setup: Setup) (policy: Policy) =
        PolicyFacts.Note(policy, setup.Environment.Spec)
        policy.Metadata["command"] <- command.Repeat()
        policy.Metadata["experiment"] <- setup.Name
        policy.Metadata["seed"] <- string setup.Seed

    /// Runs the algorithm in its folder, then gives what `judge` makes of it: of a run that has finished, or of one that was
    /// interrupted, with how to go on. Throws Script.Stopped in a script that was interrupted.
    let run
        (options: RunOptions)
        (settings: string list)
        (setup: Setup)
        (pool: WorkerPool)
        (algorithm: Algorithm)
        (judge: RunFolder -> string option -> 'Result)
        : 'Result =
        checkVideo options setup
        checkUntil options
        let command = commandOf setup.Kind algorithm.Role settings setup.Seed
        let folder = openFolder options setup.Name setup.RunName
        use _ = folder.Lock()
        prepare options folder command setup.Parameters
        RunRecord.addWarnings folder.Path algorithm.Warnings
        sign command setup algorithm.Policy
        say $"Run folder: {path folder}"

        use meter = new CostMeter(folder.Path, options.Resume <> "", CpuTime.ofRun ())
        let algorithm = filmed options folder setup algorithm |> metered meter

        match train options folder setup pool algorithm with
        | Ending.Finished -> judge folder None
        | Ending.Interrupted code ->
            present options folder setup []
            judge folder (Some(stopped folder code (algorithm.Completed()) setup.Plan.Iterations))

    /// Where a target was looked for in a run: the label of the policy that was trained, and after how many environment
    /// steps it was reached.
    let stepsToTarget (folder: RunFolder) (setup: Setup) (label: string) : (string * float option) option =
        setup.Plan.Target |> Option.map (fun _ -> label, (RunRecord.read folder.Path).StepsToTarget)

    /// Does the work with the best policy of the run and the iterations behind it: with the newest where a run was interrupted
    /// before its first evaluation.
    let withBest (folder: RunFolder) (algorithm: Algorithm) (work: Policy -> int -> 'Result) : 'Result =
        let path = folder.Checkpoint $"best_{algorithm.Role}.safetensors"

        if File.Exists path then
            use best = PolicyFile.Load path
            work best (int best.Metadata["iteration"])
        else
            work algorithm.Policy (algorithm.Completed())

    /// An evaluator of episodes that neither training nor the evaluations during training have seen.
    let finalEvaluator (setup: Setup) (pool: WorkerPool) =
        new Evaluator(
            setup.Environment,
            setup.Plan.FinalEpisodes,
            RandomStream(setup.Seed, "final evaluation").Seed(),
            pool,
            setup.Device
        )
