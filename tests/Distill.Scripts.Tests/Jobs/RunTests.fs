/// Runs in this process: what they leave behind, and that stopping changes nothing.
module Distill.Tests.RunTests

open System
open System.Globalization
open System.IO
open System.Text
open Distill
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Xunit

/// A folder that is gone afterwards.
type Workplace() =
    let folder = Directory.CreateTempSubdirectory("distill-").FullName
    member _.Path(name: string) = Path.Combine(folder, name)

    interface IDisposable with
        member _.Dispose() = Directory.Delete(folder, true)

/// A linear policy that balances the pole for 500 steps.
let saveTeacher (path: string) =
    use teacher =
        new Policy(NetworkSpec(4, [| Dense(2, Activation.Identity) |], Head.Categorical), "teacher")

    let right = [| 0.1f; 0.5f; 5.0f; 1.5f |]

    for i in 0..3 do
        teacher.Network.Parameters.Span[i] <- -right[i]
        teacher.Network.Parameters.Span[4 + i] <- right[i]

    PolicyFile.Save(path, teacher)

let private experiment =
    distillation {
        name "pole"
        environment (CartPole.balance { envs = 32 })
        student (Student.gru { hidden = 4 })
        acting (Acting.teacherUntil 4)
        retain (Retain.latest 4_000)
        loss (Loss.crossEntropy 0.0)
        collect (Collect.stepsPerEnv 20)
        iterations 12
        evaluationInterval 3
        evaluationEpisodes 32
        saveInterval 5
        finalEpisodes 64
    }

/// A run in the workplace with further settings.
let run (place: Workplace) (settings: string list) =
    let teacher = place.Path "teacher.safetensors"

    if not (File.Exists teacher) then
        saveTeacher teacher

    let logs = place.Path "logs"
    Run.distilWith ([ $"teacher={teacher}"; $"logs={logs}" ] @ settings) experiment

let private checkpoint (name: string) (result: DistillationResult) =
    File.ReadAllBytes((RunFolder.Open result.Folder).Checkpoint name)

let refusal (place: Workplace) (settings: string list) =
    (Expect.throws<DistillException>(fun () -> run place settings |> ignore)).Message

/// The scalars of a TensorBoard file, read by the format's description alone: records of length (8 bytes), checksum (4),
/// protobuf Event, checksum (4).
let private scalarsOf (path: string) =
    let bytes = File.ReadAllBytes path

    /// Field number, wire type and content of every field of a message.
    let rec fields (at: int) (last: int) : (int * ReadOnlyMemory<byte> * uint64) list =
        let mutable at = at

        let varint () =
            let mutable value, shift = 0UL, 0

            while bytes[at] >= 128uy do
                value <- value ||| (uint64 (bytes[at] &&& 127uy) <<< shift)
                shift <- shift + 7
                at <- at + 1

            value <- value ||| (uint64 bytes[at] <<< shift)
            at <- at + 1
            value

        [
            while at < last do
                let tag = varint ()

                match tag &&& 7UL with
                | 0UL -> int (tag >>> 3), ReadOnlyMemory<byte>(), varint ()
                | 2UL ->
                    let length = int (varint ())
                    int (tag >>> 3), ReadOnlyMemory(bytes, at, length), uint64 at
                    at <- at + length
                | kind ->
                    let length = if kind = 1UL then 8 else 4
                    int (tag >>> 3), ReadOnlyMemory(bytes, at, length), uint64 at
                    at <- at + length
        ]

    let inside (content: ReadOnlyMemory<byte>, start: uint64) =
        fields (int start) (int start + content.Length)

    let mutable at = 0

    [
        while at < bytes.Length do
            let length = int (BitConverter.ToUInt64(bytes, at))
            let event = fields (at + 12) (at + 12 + length)
            at <- at + 16 + length

            let step =
                event
                |> List.tryPick (fun (field, _, value) -> if field = 2 then Some(int value) else None)
                |> Option.defaultValue 0

            for field, summary, start in event do
                if field = 5 then
                    for _, value, start in inside (summary, start) do
                        let parts = inside (value, start)

                        let tag =
                            parts
                            |> List.pick (fun (field, text, _) ->
                                if field = 1 then
                                    Some(Encoding.UTF8.GetString text.Span)
                                else
                                    None)

                        let scalar =
                            parts
                            |> List.pick (fun (field, number, _) ->
                                if field = 2 then
                                    Some(BitConverter.ToSingle number.Span)
                                else
                                    None)

                        (step, tag), scalar
    ]
    |> Map.ofList

[<Fact>]
let ``a run leaves its folder behind, and all its logs agree`` () =
    use place = new Workplace()
    let result = run place [ "run_name=first" ]
    let folder = RunFolder.Open result.Folder
    Assert.EndsWith("_first", folder.Path)

    Assert.Equal<string list>(
        [
            "best_student.pt"
            "best_student.safetensors"
            "final_student.pt"
            "final_student.safetensors"
            "state.safetensors"
            "student_10.pt"
            "student_10.safetensors"
            "student_12.pt"
            "student_12.safetensors"
            "student_5.pt"
            "student_5.safetensors"
        ],
        List.ofSeq (folder.Checkpoints())
    )

    for name in [ "env.yaml"; "agent.yaml"; "command.json" ] do
        Assert.True(File.Exists(Path.Combine(folder.Path, "params", name)), name)

    let rows = MetricsLog.Read folder.Path |> List.ofSeq
    Assert.Equal<int64 list>([ 0L .. 11L ], rows |> List.map _.Iteration)

    let events =
        Directory.GetFiles(folder.Path, "events.out.tfevents.*") |> Array.exactlyOne |> scalarsOf

    let table =
        File.ReadAllLines(Path.Combine(folder.Path, "metrics.csv")) |> Array.map _.Split(',')

    let column name = Array.IndexOf(table[0], name)

    for row in rows do
        for metric in row.Metrics do
            let scalar = events[int row.Iteration, metric.Key]

            Expect.equal
                scalar
                (float32 metric.Value)
                $"TensorBoard {metric.Key} of iteration {row.Iteration}"

            let cell = table[int row.Iteration + 1][column metric.Key]
            Expect.equal (Double.Parse(cell, CultureInfo.InvariantCulture)) metric.Value $"CSV {metric.Key}"

    Assert.Equal(events.Count, rows |> List.sumBy _.Metrics.Count)

    let metric iteration name =
        rows[iteration].Metrics |> Seq.tryFind (fun m -> m.Key = name) |> Option.map _.Value

    Assert.Equal<float option list>(
        [ Some 1.0; Some 2.0; None; Some 1.0; None; Some 500.0 ],
        [
            metric 3 "phase"
            metric 4 "phase"
            metric 3 "evaluation/mean_return"
            metric 3 "data_collection/teacher_share"
            metric 3 "evaluation/teacher_return"
            metric 11 "evaluation/teacher_return"
        ]
    )

    for name in
        [
            "Loss/behavior"
            "Loss/newest"
            "Loss/historical"
            "training/loss"
            "evaluation/mean_return"
            "evaluation/std_return"
            "evaluation/mean_length"
        ] do
        Assert.True((metric 11 name).IsSome, name)

    // The best student is the one whose evaluation was highest; its file says so.
    let evaluations =
        rows |> List.choose (fun row -> metric (int row.Iteration) "evaluation/mean_return")

    use best = PolicyFile.Load(folder.Checkpoint "best_student.safetensors")

    Assert.Equal(
        List.max evaluations,
        Double.Parse(best.Metadata["evaluation_return"], CultureInfo.InvariantCulture)
    )

    Assert.Equal(string result.BestIteration, best.Metadata["iteration"])
    Assert.Equal(500.0, result.Teacher.MeanReturn)
    Assert.Equal(64, result.Student.Episodes)
    let report = File.ReadAllText(Path.Combine(folder.Path, "report.html"))
    Assert.Contains("finished after 12 iterations", report)
    Assert.Contains("phase 2: student drives", report)
    // Only quadrotors fly.
    Assert.False(File.Exists(Path.Combine(folder.Path, "replay.html")))

[<Fact>]
let ``every save has a .pt that another run can begin with`` () =
    use place = new Workplace()
    let first = RunFolder.Open (run place []).Folder

    let names = first.Checkpoints() |> Seq.filter _.EndsWith(".pt") |> List.ofSeq

    let expected =
        [ "best_student.pt"; "final_student.pt"; "student_10.pt"; "student_12.pt"; "student_5.pt" ]

    Assert.Equal<string list>(expected, names)

    let number (name: string) (key: string) =
        PyTorchFile.Read(first.Checkpoint name).Other[key]

    Assert.Equal(TorchValue.Int 5L :> TorchValue, number "student_5.pt" "epoch")

    let evaluations =
        [
            for row in MetricsLog.Read first.Path do
                for metric in row.Metrics do
                    if metric.Key = "evaluation/mean_return" then
                        metric.Value
        ]

    // The first save comes after the evaluation of iteration 3 alone.
    Assert.Equal(TorchValue.Float evaluations[0] :> TorchValue, number "student_5.pt" "best_return")
    Assert.Equal(TorchValue.Float(List.max evaluations) :> TorchValue, number "student_12.pt" "best_return")
    use final = PolicyFile.Load(first.Checkpoint "final_student.pt")
    // No step is taken, so the student stays what it was.
    let tuned =
        run
            place
            [ $"""student={first.Checkpoint "final_student.pt"}"""; "iterations=1"; "learning_rate=1e-30" ]

    use again =
        PolicyFile.Load((RunFolder.Open tuned.Folder).Checkpoint "final_student.safetensors")

    Assert.Equal<float32 array>(
        final.Network.Parameters.Span.ToArray(),
        again.Network.Parameters.Span.ToArray()
    )

/// Two short iterations with quadrotors.
let quadrotors =
    let fixtures = Path.Combine(AppContext.BaseDirectory, "fixtures", "raptor")

    distillation {
        name "quadrotors"
        environment (Quadrotor.mixture { envs = 32 })
        teacher (Teacher.load (Path.Combine(fixtures, "raptor-student.safetensors")))
        student (Student.mlp { hidden = [ 8 ] } |> Student.reading "tracking")
        acting (Acting.teacherUntil 1)
        collect (Collect.stepsPerEnv 10)
        iterations 2
        evaluationEpisodes 32
        finalEpisodes 32
    }

[<Fact>]
let ``a run of quadrotors ends with a flight of teacher and student after one reference`` () =
    use place = new Workplace()

    let run settings =
        (Run.distilWith ($"""logs={place.Path "logs"}""" :: settings) quadrotors).Folder

    let folder = run []
    let flights = Map.ofList (FlightRecording.ofRun folder)
    Assert.Equal<string list>([ "student"; "teacher" ], List.ofSeq flights.Keys)
    let student, teacher = flights["student"], flights["teacher"]
    Assert.Equal<float[]>(teacher.Position[0], student.Position[0])
    let steps = min teacher.Steps student.Steps

    Assert.Equal<float[][]>(
        Array.take steps teacher.ReferencePosition,
        Array.take steps student.ReferencePosition
    )

    // Of the mixture, the kind of episode whose reference moves.
    Assert.NotEqual<float[]>(teacher.ReferencePosition[0], Array.last teacher.ReferencePosition)
    let report = File.ReadAllText(Path.Combine(folder, "report.html"))
    Assert.Contains("<h2>Tracking</h2>", report)
    Assert.Contains("href=\"replay.html\"", report)
    Assert.True(File.Exists(Path.Combine(folder, "replay.html")))

    // A run folder stands for its best policy.
    let ofFolder =
        Run.evaluateWith [ $"policy={folder}"; "episodes=8" ] Evaluate.defaults

    let best = (RunFolder.Open folder).Checkpoint "best_student.safetensors"

    let ofFile = Run.evaluateWith [ $"policy={best}"; "episodes=8" ] Evaluate.defaults

    Assert.Equal(string ofFile, string ofFolder)

    let bare = run [ "report=false" ]
    let pages = Directory.GetFiles(bare, "*.html", SearchOption.AllDirectories)
    Assert.Empty pages
    Assert.False(Directory.Exists(Path.Combine(bare, "flights")))

[<Fact>]
let ``a run that stopped goes on as if it had not`` () =
    use place = new Workplace()
    let whole = run place [ "iterations=12" ]
    let stopped = run place [ "iterations=7" ]

    let resumed =
        run place [ $"resume={stopped.Folder}"; "iterations=12"; "threads=1"; "device=auto" ]

    Assert.Equal(stopped.Folder, resumed.Folder)

    for name in [ "best_student.safetensors"; "final_student.safetensors"; "final_student.pt" ] do
        Assert.Equal<byte array>(checkpoint name whole, checkpoint name resumed)

    // But for the times, which differ, and the evaluation that the shorter run made at its end.
    let metrics (result: DistillationResult) =
        MetricsLog.Read result.Folder
        |> Seq.map (fun row ->
            row.Iteration,
            row.Metrics
            |> Seq.filter (fun m ->
                not (m.Key.StartsWith "Perf/") && not (row.Iteration = 6L && m.Key.StartsWith "evaluation/"))
            |> Seq.map (fun m -> m.Key, m.Value)
            |> Map.ofSeq)
        |> List.ofSeq

    Assert.Equal<(int64 * Map<string, float>) list>(metrics whole, metrics resumed)

[<Fact>]
let ``a run stops where it is asked to, goes on bit for bit, and its costs add up`` () =
    use place = new Workplace()
    let whole = run place []
    let stopped = run place [ "until=5" ]
    Assert.Contains("Stopped after iteration 5 of 12", stopped.Interruption.Value)
    let costOf (result: DistillationResult) = (RunCost.read result.Folder).Value
    let first = costOf stopped
    Assert.Equal(5L * 32L * 20L, first.Steps)
    Assert.True(first.CoreSeconds > 0.0)
    let resumed = run place [ $"resume={stopped.Folder}"; "until=0" ]
    Assert.Equal(None, resumed.Interruption)

    for name in [ "final_student.safetensors"; "best_student.safetensors" ] do
        Assert.Equal<byte array>(checkpoint name whole, checkpoint name resumed)

    let last = costOf resumed
    Assert.Equal(12L * 32L * 20L, last.Steps)
    Assert.True(last.CoreSeconds > first.CoreSeconds)
    // What was spent before counts: here, as if it had been a thousand seconds.
    RunCost.write resumed.Folder { last with CoreSeconds = 1000.0 }
    let longer = run place [ $"resume={resumed.Folder}"; "iterations=13" ]
    Assert.InRange((costOf longer).CoreSeconds, 1000.001, 1900.0)
    Assert.Contains("until=-1 cannot work", refusal place [ "until=-1" ])
    File.WriteAllText(Path.Combine(resumed.Folder, "cost.csv"), "steps,core_seconds\n1,fast\n")
    Assert.Contains("delete it", refusal place [ $"resume={resumed.Folder}"; "iterations=14" ])

[<Fact>]
let ``what is recorded beside training is in the run folder as NumPy arrays`` () =
    use place = new Workplace()
    let result = run place [ "recorded=[state,student_action]" ]

    let names =
        Npz.Read(Path.Combine(result.Folder, "dataset.npz")) |> Seq.map _.Name |> Seq.toList

    Assert.Equal<string list>(
        [
            "observations/student"
            "observations/state"
            "actions"
            "student_actions"
            "terminated"
            "truncated"
            "metadata"
        ],
        names
    )

    Assert.False(File.Exists(Path.Combine((run place []).Folder, "dataset.npz")))

[<Fact>]
let ``the final student says how many iterations it has behind it`` () =
    use place = new Workplace()
    let longer = run place [ "iterations=3" ]
    let again = run place [ $"resume={longer.Folder}"; "iterations=2" ]

    use final =
        PolicyFile.Load(Path.Combine(again.Folder, "checkpoints", "final_student.safetensors"))

    Assert.Equal("3", final.Metadata["iteration"])

[<Fact>]
let ``the same seed gives the same student, another seed another`` () =
    use place = new Workplace()

    let student settings =
        run place settings |> checkpoint "best_student.safetensors"

    let one = student [ "threads=1"; "iterations=4" ]
    Assert.Equal<byte array>(one, student [ "threads=3"; "iterations=4" ])
    Assert.NotEqual<byte array>(one, student [ "seed=1"; "iterations=4" ])

[<Fact>]
let ``a run does not go on with other settings`` () =
    use place = new Workplace()
    let result = run place [ "iterations=1" ]

    let sentence =
        refusal place [ $"resume={result.Folder}"; "iterations=1"; "learning_rate=0.1" ]

    Assert.Contains("learning_rate: 0.001", sentence)
    Assert.Contains("learning_rate: 0.1", sentence)
    Assert.Contains("envs: 32", refusal place [ $"resume={result.Folder}"; "envs=33" ])
    let nowhere = place.Path "nowhere"
    Assert.Contains("is not a run folder", refusal place [ $"resume={nowhere}" ])

[<Fact>]
let ``a run that cannot work is refused before its folder is made`` () =
    use place = new Workplace()

    let mentions (part: string) settings =
        Assert.Contains(part, refusal place settings)

    mentions "num_learning_epochs=0" [ "num_learning_epochs=0" ]
    mentions "no safetensors file" [ $"""teacher={place.Path "none.safetensors"}""" ]
    mentions "teacher reads 4 numbers" [ "environment=quadrotor"; "loss=mse" ]
    mentions "no observation group" [ "teacher_group=sonar" ]
    mentions "cross_entropy" [ "loss=mse" ]
    Assert.False(Directory.Exists(place.Path "logs"))

[<Fact>]
let ``a dataset that this machine cannot hold is refused with the size that fits`` () =
    use place = new Workplace()
    let sentence = refusal place [ "max_buffer_size=1_000_000_000_000" ]

    let fits =
        Text.RegularExpressions.Regex.Match(sentence, @"max_buffer_size=(\d+) would fit")

    Assert.True(fits.Success, sentence)
    // (4 + 1) x 4 bytes a row.
    let memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes
    Assert.InRange(Int64.Parse fits.Groups[1].Value, memory / 20L / 2L, memory / 20L)

/// What the work prints. The writer is not disposed: a test beside this one may hold it as its console.
let printed (work: unit -> unit) : string =
    let output, error = Console.Out, Console.Error
    let written = new StringWriter()

    try
        Console.SetOut written
        Console.SetError written
        work ()
    finally
        Console.SetOut output
        Console.SetError error

    string written

[<Fact>]
let ``two runs cannot train in one folder`` () =
    use place = new Workplace()
    let folder = (run place [ "iterations=1" ]).Folder
    let again = [ $"resume={folder}"; "iterations=2" ]

    using ((RunFolder.Open folder).Lock()) (fun _ ->
        Assert.Contains($"in use by process {Environment.ProcessId}", refusal place again))

    Assert.Equal(2, (run place again).FinalStudent |> fun _ -> (MetricsLog.Read folder).Count)

[<Fact>]
let ``a teacher far below its record is warned of before training and beside the result`` () =
    use place = new Workplace()
    let path = place.Path "proud.safetensors"
    saveTeacher path
    use teacher = PolicyFile.Load path
    teacher.Metadata["return"] <- "700"
    PolicyFile.Save(path, teacher)
    let mutable result = Unchecked.defaultof<DistillationResult>

    let text =
        printed (fun () -> result <- run place [ $"teacher={path}"; "iterations=1" ])

    let sentence = "records a return of 700.0"
    Assert.Contains("Warning: The teacher's file " + sentence, text)
    Assert.Contains(sentence, List.exactlyOne result.Warnings)
    Assert.Contains("Warning: The teacher's file " + sentence, string result)
    Assert.Contains(sentence, result.ToHtml())
    Assert.Contains(sentence, File.ReadAllText(Path.Combine(result.Folder, "report.html")))

[<Fact>]
let ``a teacher that itself fails is warned of`` () =
    use place = new Workplace()
    let path = place.Path "fallen.safetensors"
    saveTeacher path
    use teacher = PolicyFile.Load path
    teacher.Network.Parameters.Span.Clear()
    PolicyFile.Save(path, teacher)
    let result = run place [ $"teacher={path}"; "iterations=1" ]

    Assert.StartsWith(
        "The teacher itself fails: 100.0 % of its episodes end in a terminal state",
        List.exactlyOne result.Warnings
    )

    // Its run says nothing of another that began well.
    Assert.Empty (run place [ "iterations=1" ]).Warnings

/// An evaluation with these returns whose first episodes ended in a terminal state.
let private flown (returns: float32 list) (terminated: int) =
    EvaluationResult(
        Array.ofList returns,
        Array.create returns.Length 10,
        Array.init returns.Length (fun i -> i < terminated)
    )

[<Fact>]
let ``a teacher is held against its record on the scale of both standard errors`` () =
    // 100 episodes around -50 with a standard deviation of 10: a standard error of 1.
    let here = flown [ for i in 0..99 -> if i % 2 = 0 then -40.0f else -60.0f ] 50

    let doubts (metadata: (string * string) list) =
        (Labelling.doubts (dict metadata |> Collections.Generic.Dictionary) here).Length

    Assert.Equal(0, doubts [])
    // Of a negative record nothing is nine tenths.
    Assert.Equal(0, doubts [ "return", "-50"; "return_standard_error", "0" ])
    Assert.Equal(0, doubts [ "return", "-80"; "return_standard_error", "0" ])
    Assert.Equal(0, doubts [ "return", "-47.1"; "return_standard_error", "0" ])
    Assert.Equal(1, doubts [ "return", "-46.9"; "return_standard_error", "0" ])

    let only (metadata: (string * string) list) =
        List.exactlyOne (Labelling.doubts (dict metadata |> Collections.Generic.Dictionary) here)

    Assert.Contains(
        "of 10.0 (standard error 2.0), but here it reaches -50.0 (standard error 1.0)",
        only [ "return", "10"; "return_standard_error", "2" ]
    )

    Assert.Contains("(standard error 1.0, assumed from the spread here)", only [ "return", "10" ])
    // Root of 1 + 9.
    Assert.Equal(0, doubts [ "return", "-40.6"; "return_standard_error", "3" ])
    Assert.Equal(1, doubts [ "return", "-40.4"; "return_standard_error", "3" ])
    // A file without one: of 25 episodes that spread as here it would be 2, of as many as here 1.
    Assert.Equal(0, doubts [ "return", "-43.4"; "return_episodes", "25" ])
    Assert.Equal(1, doubts [ "return", "-43.2"; "return_episodes", "25" ])
    Assert.Equal(0, doubts [ "return", "-45.8" ])
    Assert.Equal(1, doubts [ "return", "-45.7" ])
    Assert.Equal(0, doubts [ "return", "much" ])
    Assert.Equal(0, doubts [ "return", "NaN" ])
    // A record of six digits and a teacher that is always the same.
    let exact = flown [ 123.4564f; 123.4564f ] 0
    Assert.Empty(Labelling.doubts (dict [ "return", "123.457" ] |> Collections.Generic.Dictionary) exact)

[<Fact>]
let ``a teacher fails where most of its episodes end in a terminal state`` () =
    let doubts terminated =
        Labelling.doubts (Collections.Generic.Dictionary()) (flown (List.replicate 4 1.0f) terminated)

    Assert.Empty(doubts 2)
    Assert.Contains("75.0 %", List.exactlyOne (doubts 3))

[<Fact>]
let ``a result has the difference of student and teacher, and a ratio only above 0`` () =
    let result (shift: float32) =
        let teacher = [ 10.0f; 20.0f; 30.0f ] |> List.map ((+) shift)
        let student = List.map2 (+) teacher [ 1.0f; 2.0f; 3.0f ]
        let judgement = Flown(Some(flown teacher 0), flown student 0, flown teacher 0)
        DistillationResult("logs/a", 7, judgement, [], None)

    // scipy.stats.t.interval(0.95, 2, 2, 1 / sqrt(3))
    let good = result 0.0f
    Expect.closeAll 1e-6 [ good.Difference.Low; good.Difference.High ] [ -0.484138; 4.484138 ] "interval"
    Assert.Contains("Student - teacher: 2.0, 95 % interval [-0.5, 4.5] (mean over 3 episodes", string good)
    Assert.Contains("Student / teacher: 1.100", string good)
    // Better by as much where returns are negative.
    let negative = result -100.0f
    Assert.Equal(good.Difference, negative.Difference)
    Assert.True(Double.IsNaN negative.Ratio)
    Assert.DoesNotContain("Student / teacher", string negative)
    Assert.Contains("2 [-0.4841, 4.484]", string negative)

[<Fact>]
let ``the difference of a run is that of the episodes which both flew, and its table keeps it`` () =
    use place = new Workplace()
    let result = run place [ "iterations=3" ]

    Assert.Equal(Statistics.difference result.Student.Returns result.Teacher.Returns, result.Difference)

    let record = RunRecord.read result.Folder
    Assert.Equal(Some result.Difference, record.Result "best student" |> Option.bind _.MinusTeacher)
    Assert.Equal(None, record.Result "teacher" |> Option.bind _.MinusTeacher)

[<Fact>]
let ``the final evaluation flies best and final student on episodes that chose neither`` () =
    use place = new Workplace()

    let result =
        run place [ "iterations=6"; "evaluation_interval=1"; "evaluation_episodes=64"; "report=false" ]

    use pool = new WorkerPool(1)
    let environment = Environments.CartPole.CartPoleConfig(Envs = 32)

    let flown (seed: uint64) (name: string) =
        use policy =
            PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint $"{name}.safetensors")

        use evaluator = new Evaluator(environment, 64, seed, pool)
        (evaluator.Run policy).Returns

    let final = RandomStream(0UL, "final evaluation").Seed()
    Assert.NotEqual(6, result.BestIteration)
    Assert.Equal<float32 array>(flown final "best_student", result.Student.Returns)
    Assert.Equal<float32 array>(flown final "final_student", result.FinalStudent.Returns)
    Assert.NotEqual<float32 array>(result.Student.Returns, result.FinalStudent.Returns)
    // As many on the episodes of the evaluations during training would be others.
    Assert.NotEqual<float32 array>(flown 0UL "best_student", result.Student.Returns)
    Assert.Equal(result.Student.MeanReturn / result.Teacher.MeanReturn, result.Ratio)

[<Fact>]
let ``a run that keeps the newest rollout alone names its rows, and no limit`` () =
    use place = new Workplace()

    let text =
        printed (fun () -> run place [ "retention=newest_rollout"; "iterations=1"; "report=false" ] |> ignore)

    Assert.Contains(" | rows 640 | ", text)

/// A run of four iterations that saves and evaluates after every second, and spoils its policy or stops in the third.
let private failing (place: Workplace) (third: Policy -> unit) =
    use pool = new WorkerPool(1)
    let environment = CartPole.balance { envs = 32 }
    use evaluator = new Evaluator(environment, 32, 1UL, pool)
    use interruption = new Script.Interruption("")

    use teacher =
        new Policy(NetworkSpec(4, [| Dense(2, Activation.Identity) |], Head.Categorical), "teacher")

    use adam = new Adam(teacher.Network, AdamConfig(), 1)
    let completed = [| 0 |]

    let algorithm: Algorithm =
        {
            Role = "teacher"
            Policy = teacher
            Optimizer = adam
            Completed = fun () -> completed[0]
            Iterate =
                fun () ->
                    if completed[0] = 2 then
                        third teacher

                    completed[0] <- completed[0] + 1

                    {
                        Iteration = completed[0] - 1
                        Phase = ""
                        Losses = []
                        MeanReturn = None
                        MeanEpisodeLength = None
                        StepsCollected = int64 completed[0]
                        CollectionSeconds = 1.0
                        LearningSeconds = 1.0
                        Data = ""
                        Events = []
                        Warnings = []
                        Metrics = []
                    }
            Visit =
                fun state ->
                    state.Block("completed", Span<int>(completed))
                    state.Part("policy", fun part -> teacher.Network.Visit part)
            Critics = []
            Reference = []
            Warnings = []
        }

    let plan: Plan =
        {
            Iterations = 4
            SaveInterval = 2
            EvaluationInterval = 1
            EvaluationEpisodes = 32
            FinalEpisodes = 32
            Best = { Measure = "return"; Highest = true }
            Target = None
            Variants = []
        }

    let folder = RunFolder.CreateAt(place.Path "run")
    let display: Display = { Say = ignore; Advance = fun _ _ -> () }

    let refusal =
        Expect.throws<DistillException>(fun () ->
            Runner.run folder false plan 0 (Some evaluator) interruption display algorithm |> ignore)

    let files =
        Directory.GetFiles(Path.GetDirectoryName(folder.Checkpoint "x") |> nonNull)
        |> Array.map Path.GetFileName

    use best = PolicyFile.Load(folder.Checkpoint "best_teacher.safetensors")
    refusal.Message, Array.sort files, best.Metadata["iteration"]

[<Fact>]
let ``numbers that are not finite end a run, which keeps its last state and its best policy`` () =
    let kept = "keeps the state after 2 iterations."

    let files =
        [|
            "best_teacher.pt"
            "best_teacher.safetensors"
            "state.safetensors"
            "teacher_2.pt"
            "teacher_2.safetensors"
        |]

    for third, start in
        [
            (fun (_: Policy) -> raise (DistillException "Iteration 2: the loss is NaN.")),
            "Iteration 2: the loss is NaN. "
            (fun teacher -> teacher.Network.Parameters.Span[0] <- nanf),
            "Evaluation: the policy's action of environment 0 is NaN at step 0;"
        ] do
        use place = new Workplace()
        let message, left, best = failing place third
        Expect.isTrue (message.StartsWith start && message.EndsWith kept) message
        Expect.equal left files "files"
        Expect.equal best "1" "best of the evaluations before"

[<Fact>]
let ``a single final episode has a result without an interval, which is read again`` () =
    use place = new Workplace()
    let result = run place [ "iterations=1"; "final_episodes=1" ]

    let kept =
        (RunRecord.read result.Folder).Result "best student" |> Option.bind _.MinusTeacher

    Assert.Equal(Some result.Difference.Estimate, kept |> Option.map _.Estimate)

    Assert.True(
        kept |> Option.exists (fun interval -> Double.IsNaN interval.Low && Double.IsNaN interval.High)
    )
