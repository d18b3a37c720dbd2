namespace Distill

open System
open System.IO
open Distill.Algorithms
open Distill.Datasets
open Distill.Storage
open Distill.Policies

/// The main jobs of scripts. Each takes settings `name=value` from the command line before anything else, and prints what
/// it found. Those that end in `With` take the settings given instead and return the result: for notebooks and tests.
module Run =
    let private print (result: 'Result) = say (string result)

    /// Does the work without what it prints: for notebooks that make many runs.
    let quietly (work: unit -> 'Result) : 'Result =
        let console = Console.Out
        Console.SetOut TextWriter.Null

        try
            work ()
        finally
            Console.SetOut console

    /// A script's main job; for `help` all its settings and their values instead.
    let private main (records: obj list) (work: string list -> unit) =
        Script.main (function
            | [ "help" ] ->
                for name, value in Settings.describe records do
                    print $"{name}={value}"
            | arguments -> work arguments)

    /// A script's main job, or a sweep over its settings: `sweep name=value,value`.
    let private mainOf (job: Job) (work: string list -> 'Result) =
        main job.Records (fun arguments ->
            match Sweeping.job arguments (Sweep.ofJob job) with
            | Some sweep -> sweep ()
            | None -> work arguments |> print)

    /// One of several stages of a script, in a folder of its own: begins it, goes on where it was stopped, and leaves it as it is
    /// where it has finished. `work` takes settings, as those that end in `With` do.
    let stage (folder: string) (work: string list -> 'Result) : unit =
        let finished = File.Exists(Path.Combine(folder, "result.csv"))

        let begun =
            Directory.Exists(Path.Combine(folder, "params")) && Runner.hasState (RunFolder.Open folder)

        if finished then say $"{folder} has finished before."
        elif begun then work [ $"resume={folder}" ] |> print
        else work [ $"folder={folder}" ] |> print

    /// The same of a stage that depends on inputs: files, which count by their content, or settings. Where they are not those that it
    /// began with, what there is of it is put aside, and it begins anew.
    let stageFrom (inputs: string list) (folder: string) (work: string list -> 'Result) : unit =
        let fingerprint = Fingerprint.hasher () [ for input in inputs -> "input", input ]
        let known = Path.Combine(folder, "inputs.sha256")

        if Directory.Exists folder && not (File.Exists known && File.ReadAllText known = fingerprint) then
            let aside =
                Seq.initInfinite (fun i -> $"{folder}.{i + 1}") |> Seq.find (Path.Exists >> not)

            Directory.Move(folder, aside)
            say $"{folder} was made from other inputs; that is now {aside}."

        if not (File.Exists known) then
            Directory.CreateDirectory folder |> ignore
            AtomicFile.Write(known, fun stream -> stream.Write(Text.Encoding.UTF8.GetBytes fingerprint))

        stage folder work

    let distilWith (arguments: string list) (experiment: Experiment) : DistillationResult =
        let settings = Training.arguments arguments
        let options, experiment = Distil.withArguments settings experiment
        Distil.run options settings experiment

    /// Trains a student and compares it with its teacher, or sweeps settings of the experiment: `sweep name=value,value`.
    /// `resume=RUN_FOLDER` goes on with a run that was stopped.
    let distil (experiment: Experiment) : unit =
        mainOf (Distil.job experiment) (fun arguments -> distilWith arguments experiment)

    let sweepWith (arguments: string list) (sweep: Sweep<'T>) : SweepResults =
        Sweeping.runWith arguments sweep

    /// Runs every trial of a sweep that has not finished yet, and compares the variants.
    let sweep (sweep: Sweep<'T>) : unit =
        Script.main (fun arguments ->
            match Sweeping.job arguments sweep with
            | Some job -> job ()
            | None -> Sweeping.main arguments sweep)

    let private reinforceWith
        (arguments: string list)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : TrainingResult =
        let settings = Training.arguments arguments

        let options, training, algorithm =
            TrainTeacher.withArguments settings training algorithm

        TrainTeacher.run options settings training algorithm

    let improveWith
        (arguments: string list)
        (training: TrainTeacher)
        (teacher: TeacherFile)
        (ppo: PpoConfig)
        : TrainingResult =
        reinforceWith arguments training (Reinforcement.ppo teacher ppo)

    /// Trains a student by PPO beside a teacher: distillation that turns into PPO, or PPO that a teacher guides, as the
    /// coefficients of `ppo` say. Or sweeps settings: `sweep name=value,value`.
    let improve (training: TrainTeacher) (teacher: TeacherFile) (ppo: PpoConfig) : unit =
        mainOf (TrainTeacher.guidedJob training teacher ppo) (fun arguments ->
            improveWith arguments training teacher ppo)

    let trainTeacherWith (arguments: string list) (training: TrainTeacher) (ppo: PpoConfig) : TrainingResult =
        improveWith arguments training Experiment.empty.Teacher ppo

    /// Trains a teacher by PPO, or sweeps settings of the training: `sweep name=value,value`. `resume=RUN_FOLDER` goes on with
    /// a run that was stopped.
    let trainTeacher (training: TrainTeacher) (ppo: PpoConfig) : unit =
        mainOf (TrainTeacher.job training ppo) (fun arguments -> trainTeacherWith arguments training ppo)

    let guidedSacWith
        (arguments: string list)
        (training: TrainTeacher)
        (teacher: TeacherFile)
        (sac: SacConfig)
        : TrainingResult =
        reinforceWith arguments training (Reinforcement.sac teacher sac)

    /// Trains a student by SAC beside a teacher, with a bonus for doing as it does that fades: `sac` says what it is worth. Or sweeps
    /// settings: `sweep name=value,value`.
    let guidedSac (training: TrainTeacher) (teacher: TeacherFile) (sac: SacConfig) : unit =
        mainOf (TrainTeacher.guidedSacJob training teacher sac) (fun arguments ->
            guidedSacWith arguments training teacher sac)

    let sacWith (arguments: string list) (training: TrainTeacher) (sac: SacConfig) : TrainingResult =
        guidedSacWith arguments training Teacher.none sac

    /// Trains a teacher by SAC, or sweeps settings of the training: `sweep name=value,value`. `resume=RUN_FOLDER` goes on with a
    /// run that was stopped.
    let sac (training: TrainTeacher) (sac: SacConfig) : unit =
        mainOf (TrainTeacher.sacJob training sac) (fun arguments -> sacWith arguments training sac)

    let trainTeachersWith
        (arguments: string list)
        (teachers: TrainTeachers)
        (training: TrainTeacher)
        (algorithm: Reinforcement)
        : TeachersResult =
        match Settings.apply arguments (teachers :: training :: algorithm.Records) with
        | teachers :: training :: records ->
            TrainTeachers.run
                arguments
                (teachers :?> TrainTeachers)
                (training :?> TrainTeacher)
                (algorithm.With records)
        | _ -> failwith "Settings were lost."

    /// Trains a teacher for each drone, many side by side: a set of teachers. The same command goes on where it was stopped.
    /// `sweep worker=0,1,2,3 --on=slurm` shares the work between processes.
    let trainTeachers (teachers: TrainTeachers) (training: TrainTeacher) (algorithm: Reinforcement) : unit =
        mainOf (TrainTeachers.job teachers TrainTeacher.defaults training algorithm) (fun arguments ->
            trainTeachersWith arguments teachers training algorithm)

    let evaluateWith (arguments: string list) (evaluation: Evaluate) : Comparison =
        let evaluation = Settings.apply1 arguments evaluation
        let comparison = Evaluate.run evaluation
        Evaluate.save evaluation comparison
        comparison

    /// Evaluates a policy in an environment, of quadrotors on every drone: return, length, share terminated. Or sweeps its
    /// settings: `sweep name=value,value`.
    let evaluate (evaluation: Evaluate) : unit =
        mainOf (Evaluate.job evaluation) (fun arguments -> evaluateWith arguments evaluation)

    let trajectoriesWith
        (arguments: string list)
        (sources: TrajectorySource list)
        (recording: RecordTrajectories)
        : Trajectories =
        RecordTrajectories.run (Settings.apply1 arguments recording) sources

    /// Records whole episodes of these sources in one file, to train a trajectory encoder on; leaves it as it is where it was made with
    /// the same settings.
    let trajectories (sources: TrajectorySource list) (recording: RecordTrajectories) : unit =
        main [ recording ] (fun arguments -> trajectoriesWith arguments sources recording |> ignore)

    let encoderWith
        (arguments: string list)
        (training: TrainEncoder)
        (config: TrajectoryEncodingConfig)
        : EncoderResult =
        let settings = Training.arguments arguments
        let options, training, config = TrainEncoder.withArguments settings training config
        TrainEncoder.run options settings training config

    /// Trains a trajectory encoder on recorded episodes and measures what it knows of their tasks, or sweeps settings of the training:
    /// `sweep name=value,value`. `resume=RUN_FOLDER` goes on with a run that was stopped.
    let encoder (training: TrainEncoder) (config: TrajectoryEncodingConfig) : unit =
        mainOf (TrainEncoder.job training config) (fun arguments -> encoderWith arguments training config)

    let playWith (arguments: string list) (play: Play) : PlayResult =
        Play.run (Settings.apply1 arguments play)

    /// Flies a policy and says how well it tracked.
    let play (play: Play) : unit =
        main [ play ] (fun arguments -> playWith arguments play |> print)

    let flightTestsWith (arguments: string list) (tests: FlightTests) : FlightTestReport =
        FlightTests.run (Settings.apply1 arguments tests)

    /// Puts a policy for many quadrotors through its tests, beside another one if that is wanted, and writes a page about them:
    /// drones it never saw, named airframes, where it fails, figures of eight, recovery, changes in flight, what its memory knows.
    let flightTests (tests: FlightTests) : unit =
        main [ tests ] (fun arguments -> flightTestsWith arguments tests |> print)

    let compareWith
        (arguments: string list)
        (variants: int -> (string * Acting) list)
        (experiment: Experiment)
        : ActingComparison =
        if arguments |> List.exists _.StartsWith("resume=") then
            fail "A comparison needs no resume=…: started again, it goes on where it stopped."

        let experiment, others = Experiment.withPresets arguments experiment

        let options, teacher, config =
            Settings.apply3 others (ActingComparison.defaults, experiment.Teacher, experiment.Config)

        ActingComparison.run arguments options variants { Teacher = teacher; Config = config }

    /// Runs the experiment once for every variant and seed, and compares the students in closed loop. The variants are
    /// made from the length of phase 1 that the experiment, or the command line, asks for.
    let compare (variants: int -> (string * Acting) list) (experiment: Experiment) : unit =
        main [ experiment.Teacher; experiment.Config ] (fun arguments ->
            compareWith arguments variants experiment |> print)

    let compareStudentsWith
        (arguments: string list)
        (students: (string * StudentConfig) list)
        (options: StudentComparisonOptions)
        (experiment: Experiment)
        : StudentComparison =
        let experiment, others = Experiment.withPresets arguments experiment

        let options, teacher, config =
            Settings.apply3 others (options, experiment.Teacher, experiment.Config)

        StudentComparison.run arguments options students { Teacher = teacher; Config = config }

    /// Distils each of the students with several seeds, and compares a measure of theirs and of their teacher, variant by variant of the
    /// environments, in episodes that neither training nor the choice of the best has seen.
    let compareStudents
        (students: (string * StudentConfig) list)
        (options: StudentComparisonOptions)
        (experiment: Experiment)
        : unit =
        main [ options; experiment.Teacher; experiment.Config ] (fun arguments ->
            compareStudentsWith arguments students options experiment |> print)

    /// Says which argument a script lacks.
    let private required (what: string) = fail $"This script takes {what}."

    /// Says what a setting is.
    let help () : unit =
        Script.main (function
            | [ name ] -> print (Help.setting name)
            | _ -> required "the name of a setting")

    /// Writes the report of a run or of a sweep anew.
    let report () : unit =
        let write (folder: string) =
            if SweepReport.isSweep folder then
                SweepReport.write folder
            else
                Report.write folder

        Script.main (function
            | [ folder ] -> print $"Report: {Command.shortest (write folder)}"
            | _ -> required "the folder of a run or of a sweep")

    /// Writes the replay of a run's recorded flights anew, or of flights with what it has so far, with `--video` as replay.mp4, too.
    let replay () : unit =
        let write (folder: string) (video: bool) =
            let file (name: string) = IO.Path.Combine(folder, name)
            let replay = UnfinishedReplay.ofRun folder
            replay.SaveHtml(file "replay.html")
            print $"""Replay: {Command.shortest (file "replay.html")}"""

            if video then
                replay.SaveVideo(file "replay.mp4")
                print $"""Video: {Command.shortest (file "replay.mp4")}"""

        Script.main (function
            | [ folder ] -> write folder false
            | [ folder; "--video" ] -> write folder true
            | _ -> required "a run folder, and --video for a video")

    /// Writes a policy for machines that have no Distill, as `onnx`, `c` or `pt`: `Export.policy` from the command line.
    let export () : unit =
        let write (file: string) (target: string) =
            Export.policy file target
            print $"Export: {Command.shortest target}"

        Script.main (function
            | [ file; kind ] -> write file (Export.placeOf file kind)
            | [ file; kind; target ] ->
                let ending = PolicyExport.EndingOf kind

                if not (target.EndsWith(ending, StringComparison.OrdinalIgnoreCase)) then
                    fail $"{target} should end in {ending}, as an export to {kind} does."

                write file target
            | _ -> required "a policy's file, what it becomes (onnx, c or pt), and where to")

    /// Says what a file holds: a policy, a trajectory encoder, or episodes.
    let inspect () : unit =
        Script.main (function
            | [ file ] -> print (Inspect.file file)
            | _ -> required "a file")

    /// Writes the page that lists all runs below a folder.
    let board () : unit =
        Script.main (function
            | [ logs ] -> print $"Board: {Command.shortest (Board.write logs)}"
            | _ -> required "the folder of all experiments")

    /// Removes the states of the finished runs below a folder, from which they could go on with more iterations.
    let clean () : unit =
        Script.main (function
            | [ logs ] -> Cleaning.removeStates logs
            | _ -> required "the folder of all experiments")
