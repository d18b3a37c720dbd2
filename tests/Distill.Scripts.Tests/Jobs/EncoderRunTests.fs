/// Episodes for a trajectory encoder, and runs that train one.
module Distill.Tests.EncoderRunTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Environments.Manipulation
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Distill.Tests.Tools
open Xunit

/// Episodes of two tasks, which show in the rewards alone.
let private saveEpisodes (path: string) (seed: int) =
    let steps, count = 12, 40
    let random = Random seed

    let numbers size =
        Array.init size (fun _ -> random.NextSingle() - 0.5f)

    let rewards =
        Array.init (count * steps) (fun i -> float32 (i / steps % 2) + random.NextSingle())

    Trajectories(
        steps,
        numbers (count * steps * 2),
        numbers (count * steps),
        rewards,
        Array.init count (fun i -> i % 2),
        [| "low"; "high" |]
    )
        .Save
        path

let private config =
    TrajectoryEncodingConfig(
        Network =
            TransformerConfig(Window = 4, Model = 8, Heads = 2, Layers = 1, FeedForward = 16, Encoding = 3),
        Iterations = 6,
        UpdatesPerIteration = 20,
        BatchSize = 32,
        ValidationBatches = 2,
        Patience = 0,
        Optimizer = AdamConfig(LearningRate = 3e-3, MaxGradNorm = 0)
    )

let private training =
    { TrainEncoder.defaults with Name = "encoder"; SaveInterval = 2; ProbedSteps = 6 }

let private run (place: Workplace) (settings: string list) =
    let file, logs = place.Path "episodes.safetensors", place.Path "logs"

    if not (File.Exists file) then
        saveEpisodes file 1

    Run.encoderWith ([ $"trajectories={file}"; $"logs={logs}"; "report=false" ] @ settings) training config

let private weights (result: EncoderResult) =
    use network = EncoderFile.Load result.File
    network.Parameters.Span.ToArray()

[<Fact>]
let ``an encoder's run leaves the best encoder, its curves, and what it knows beside the untrained one`` () =
    use place = new Workplace()
    let copy = place.Path "copy/encoder.safetensors"
    let result = run place [ $"save_to={copy}"; "report=true" ]
    Assert.Equal(None, result.Interruption)
    Assert.True(result.TasksFound > 0.9, string result)
    Assert.Equal<byte array>(File.ReadAllBytes result.File, File.ReadAllBytes copy)
    let record = RunRecord.read result.Folder
    Assert.True record.Finished
    let losses = record.Series "Validation/loss"
    Assert.Equal(6, losses.Length)
    let found = record.Result PolicyResult.tasksFound
    Assert.Equal(result.TasksFound, found.Value.MeanReturn)
    let written = File.ReadAllLines(Path.Combine(result.Folder, "result.csv"))
    Assert.Equal("measure,value,steps_seen,episodes", written[0])
    Assert.Contains(PolicyResult.tasksFound, written[1])
    Assert.Equal(4, written.Length)
    let loss = record.Result PolicyResult.encoderLoss
    Assert.Equal(losses |> List.map snd |> List.min, -loss.Value.MeanReturn, 12)

    for metric in [ "Loss/contrast"; "Probe/tasks_found"; "Probe/silhouette"; "Perf/windows_per_second" ] do
        Assert.Equal(6, (record.Series metric).Length)

    // As written, so read.
    let encodings = EncodingRecord.read result.Folder
    Assert.Equal<EncodingRecord list>(result.Encodings, encodings)
    Assert.Equal<string list>([ "trained"; "untrained" ], encodings |> List.map _.Encoder)
    Assert.Equal<int list>([ 1; 2; 5; 6; 10; 12 ], encodings.Head.Separations |> List.map _.Seen)
    Assert.Equal(8, encodings.Head.Points.Length)
    let report = File.ReadAllText(Path.Combine(result.Folder, "report.html"))
    Assert.Contains("Tasks found, untrained", report)
    Assert.Contains("the plane in which they differ most", report)
    Assert.DoesNotContain("Environment steps per second", report)
    let notes = (SafeTensors.Read result.File).Metadata
    Assert.Equal("low, high", notes["tasks"])
    Assert.Equal("6", notes["iterations"])

    Assert.Contains(
        "is a trajectory encoder: 3 numbers from up to 4 steps of 2 numbers of a state, 1 of an action and the reward; 1 layers of 8",
        Inspect.file copy
    )

    Assert.Contains("6 iterations on 40 episodes of low, high; a probe found", Inspect.file copy)
    Assert.Contains("20 of low, 20 of high", Inspect.file (place.Path "episodes.safetensors"))
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher
    Assert.Contains("is a policy: ", Inspect.file teacher)

[<Fact>]
let ``an encoder's run that was stopped goes on bit for bit, and not with other episodes`` () =
    use place = new Workplace()
    let whole = run place []
    let part = run place [ "until=3" ]
    Assert.Contains("Stopped after iteration 3 of 6", part.Interruption.Value)
    let resumed = run place [ $"resume={part.Folder}"; "until=0"; "threads=2" ]
    Assert.Equal(None, resumed.Interruption)
    Assert.Equal<float32 array>(weights whole, weights resumed)
    Assert.Equal<EncodingRecord list>(whole.Encodings, resumed.Encodings)

    let curves (result: EncoderResult) =
        let record = RunRecord.read result.Folder

        [
            for name in record.MetricNames do
                if not (name.StartsWith "Perf/") then
                    name, record.Series name
        ]

    Assert.Equal<(string * (int * float) list) list>(curves whole, curves resumed)
    let stopped = run place [ "until=3" ]
    saveEpisodes (place.Path "episodes.safetensors") 2

    let refusal =
        Expect.throws<DistillException>(fun () ->
            run place [ $"resume={stopped.Folder}"; "until=0" ] |> ignore)

    Assert.Contains("began with other settings", refusal.Message)
    Assert.Contains("trajectories.yaml", refusal.Message)

[<Fact>]
let ``an encoder killed and resumed is that of an undisturbed run`` () =
    use place = new Workplace()
    let file = place.Path "episodes.safetensors"
    saveEpisodes file 1

    let path =
        ScriptTests.script
            place
            $"""
open Distill.Algorithms
open Distill.Networks

Run.encoder
    {{ TrainEncoder.defaults with Trajectories = @"{file}"; SaveInterval = 3; ProbedSteps = 6 }}
    (TrajectoryEncodingConfig(
        Network =
            TransformerConfig(Window = 4, Model = 8, Heads = 2, Layers = 1, FeedForward = 16, Encoding = 3),
        Iterations = 40,
        UpdatesPerIteration = 20,
        BatchSize = 32,
        ValidationBatches = 2,
        Patience = 0
    ))
"""

    let whole, cut = place.Path "whole", place.Path "cut"

    let arguments folder =
        [ $"folder={folder}"; "threads=1"; "report=false" ]

    let undisturbed = ScriptTests.start path (arguments whole)
    let killed = ScriptTests.start path (arguments cut)
    ScriptTests.waitFor "[17/40]" killed
    killed.Kill(entireProcessTree = true)
    killed.WaitForExit()
    let code, _, error = ScriptTests.finish undisturbed
    Assert.True((code = 0), error)
    let code, resumed, error = ScriptTests.run path [ $"resume={cut}" ]
    Assert.True((code = 0), error)
    Assert.DoesNotContain("[ 1/40]", resumed)

    let bytes folder =
        use network =
            EncoderFile.Load(Path.Combine(folder, "checkpoints", "best_encoder.safetensors"))

        network.Parameters.Span.ToArray()

    Assert.Equal<float32 array>(bytes whole, bytes cut)

    for name in [ "result.csv"; "separations.csv"; "encodings.csv" ] do
        Assert.Equal(File.ReadAllText(Path.Combine(whole, name)), File.ReadAllText(Path.Combine(cut, name)))

[<Fact>]
let ``training an encoder is a job, which a sweep can run and measure`` () =
    use place = new Workplace()
    let file = place.Path "episodes.safetensors"
    saveEpisodes file 1
    let job = (Jobs.ofKind "encoder").With [ $"trajectories={file}"; "probed_steps=4" ]
    Assert.Equal("4", Job.settings job |> List.find (fst >> (=) "probed_steps") |> snd)
    let job = TrainEncoder.job { training with Trajectories = file } config
    job.Check()
    let options = { Training.options with Folder = place.Path "trial"; Report = false }
    job.Run options []
    let measures = RunRecord.readResults options.Folder |> job.Measures
    Assert.Equal<string list>([ "share_found"; "silhouette"; "minus_loss" ], List.map fst measures)
    Assert.Contains(job.Main, List.map fst measures)

    for setting, sentence in
        [
            "trajectories=", "Which episodes?"
            "trajectories=none.safetensors", "There is no file"
            "batch_size=1", "batch_size"
            "probed_steps=0", "probed_steps=0 cannot work"
        ] do
        let refused =
            Expect.throws<DistillException>(fun () -> (job.With [ setting ]).Check())

        Assert.Contains(sentence, refused.Message)

    let late =
        Expect.throws<DistillException>(fun () -> run place [ "probed_steps=13" ] |> ignore)

    Assert.Contains("the episodes have 12 steps", late.Message)

[<Fact>]
let ``episodes of several sources are one file, which stands until something that makes it changes`` () =
    use place = new Workplace()
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher

    let pole limit =
        { Environment = CartPoleConfig(Envs = 32, EpisodeLimit = limit); Driver = Teacher.load teacher }

    let file = place.Path "made/episodes.safetensors"

    let recording =
        { RecordTrajectories.defaults with Trajectories = file; Episodes = 3; States = "teacher" }

    let record sources settings =
        Run.trajectoriesWith settings sources recording

    let data = record [ pole 20; pole 20 ] []
    Assert.Equal((6, 20, 4, 1), (data.Episodes, data.Steps, data.StateSize, data.ActionSize))
    Assert.Equal<string list>([ "cart_pole" ], List.ofSeq data.TaskNames)
    Assert.NotEqual(data.State(0, 0)[0], data.State(3, 0)[0])
    Assert.Equal(1f, data.Reward(5, 19))
    let made = File.GetLastWriteTimeUtc file
    let again = record [ pole 20; pole 20 ] [ "threads=1" ]
    Assert.Equal(made, File.GetLastWriteTimeUtc file)
    Assert.Equal<float32 array>(data.State(5, 19).ToArray(), again.State(5, 19).ToArray())
    // More episodes, and then another policy in the same file.
    Assert.Equal(8, (record [ pole 20; pole 20 ] [ "episodes=4" ]).Episodes)
    let made = File.GetLastWriteTimeUtc file
    use policy = PolicyFile.Load teacher
    policy.Network.Parameters.Span[0] <- 0.25f
    PolicyFile.Save(teacher, policy)
    record [ pole 20; pole 20 ] [ "episodes=4" ] |> ignore
    Assert.NotEqual(made, File.GetLastWriteTimeUtc file)

    for sources, settings, sentence in
        [
            [], [], "no source"
            [ pole 20; pole 21 ], [], "20 steps"
            [ pole 20 ], [ "states=sky" ], "sky"
            [ pole 20 ], [ "episodes=0" ], "episodes=0 cannot work"
            [ pole 20 ], [ "trajectories=" ], "Where to?"
        ] do
        let refused =
            Expect.throws<DistillException>(fun () -> record sources settings |> ignore)

        Assert.Contains(sentence, refused.Message)

[<MujocoFact>]
let ``manipulation's tasks are the tasks of its episodes, and the noisy expert's actions are what was done``
    ()
    =
    use place = new Workplace()

    let source deviation =
        {
            Environment =
                ManipulationConfig(
                    Envs = 3,
                    EpisodeLimit = 12,
                    ExpertNoise = ExpertNoise(Deviation = deviation)
                )
            Driver = Teacher.environment "noisy_expert"
        }

    let data =
        Run.trajectoriesWith
            []
            [ source 0.0; source 1.0 ]
            { RecordTrajectories.defaults with
                Trajectories = place.Path "episodes.safetensors"
                Episodes = 2
                States = "reduced"
            }

    Assert.Equal<string list>([ "reach"; "push"; "pick_place" ], List.ofSeq data.TaskNames)
    Assert.Equal<int array>([| 0; 1; 2; 0; 1; 2; 0; 1; 2; 0; 1; 2 |], data.Tasks.ToArray())
    Assert.Equal((12, 21, 4), (data.Steps, data.StateSize, data.ActionSize))
    // Reaching leaves the fingers alone, but for noise.
    Assert.Equal(0f, data.Action(0, 5)[3])
    Assert.NotEqual(0f, data.Action(6, 5)[3])
