/// Runs in this process: what they leave behind, and that stopping changes nothing.
module Distill.Tests.RunTests

open System
open System.Globalization
open System.IO
open System.Text
open Distill
open Distill.Compute
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
            "best_student.safetensors"
            "final_student.pt"
            "final_student.safetensors"
            "state.safetensors"
            "student_10.safetensors"
            "student_12.safetensors"
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
let ``a run of quadrotors ends with a flight of teacher and student after one reference`` () =
    use place = new Workplace()
    let fixtures = Path.Combine(AppContext.BaseDirectory, "fixtures", "raptor")

    let quadrotors =
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

    let bare = run [ "report=false" ]
    let pages = Directory.GetFiles(bare, "*.html", SearchOption.AllDirectories)
    Assert.Empty pages
    Assert.False(Directory.Exists(Path.Combine(bare, "flights")))

[<Fact>]
let ``a run that stopped goes on as if it had not`` () =
    use place = new Workplace()
    let whole = run place [ "iterations=12" ]
    let stopped = run place [ "iterations=7" ]
    let resumed = run place [ $"resume={stopped.Folder}"; "iterations=12"; "threads=1" ]
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
let ``a teacher far below its record gets a warning`` () =
    use place = new Workplace()
    let path = place.Path "proud.safetensors"
    saveTeacher path
    use teacher = PolicyFile.Load path
    teacher.Metadata["return"] <- "700"
    PolicyFile.Save(path, teacher)

    let printed =
        printed (fun () -> run place [ $"teacher={path}"; "iterations=1" ] |> ignore)

    Assert.Contains("records a return of 700.0", printed)
