module Distill.Tests.StorageRuns

open System
open System.Collections.Generic
open System.IO
open System.Threading.Tasks
open Xunit
open Distill
open Distill.Storage
open Distill.Tests.Storage

let private metrics (values: (string * float) list) =
    [ for name, value in values -> KeyValuePair(name, value) ]

// An independent reader of event files: own CRC, own protobuf, nothing shared with the writer.
let private crc32c (data: byte[]) =
    let mutable crc = UInt32.MaxValue

    for value in data do
        crc <- crc ^^^ uint32 value

        for _ in 1..8 do
            crc <-
                if crc &&& 1u = 1u then
                    (crc >>> 1) ^^^ 0x82F63B78u
                else
                    crc >>> 1

    ~~~crc

let private masked (data: byte[]) =
    let crc = crc32c data
    ((crc >>> 15) ||| (crc <<< 17)) + 0xA282EAD8u

/// Fields of a protobuf message: number and content.
let rec private fields (data: byte[]) =
    let rec varint position shift =
        let value = uint64 (data[position] &&& 0x7Fuy) <<< shift

        if data[position] < 128uy then
            value, position + 1
        else
            let rest, next = varint (position + 1) (shift + 7)
            value ||| rest, next

    let rec from position =
        [
            if position < data.Length then
                let tag, position = varint position 0
                let number = int (tag >>> 3)

                match tag &&& 7UL with
                | 0UL ->
                    let value, next = varint position 0
                    number, BitConverter.GetBytes value
                    yield! from next
                | 1UL ->
                    number, data[position .. position + 7]
                    yield! from (position + 8)
                | 2UL ->
                    let length, start = varint position 0
                    number, data[start .. start + int length - 1]
                    yield! from (start + int length)
                | 5UL ->
                    number, data[position .. position + 3]
                    yield! from (position + 4)
                | other -> failwith $"wire type {other}"
        ]

    from 0

/// Step and scalars of each event after the first, which must be the version.
let private readEvents (path: string) =
    let bytes = File.ReadAllBytes path

    let rec records position =
        [
            if position < bytes.Length then
                let length = int (BitConverter.ToUInt64(bytes, position))
                let data = bytes[position + 12 .. position + 11 + length]

                Expect.equal
                    (BitConverter.ToUInt32(bytes, position + 8))
                    (masked bytes[position .. position + 7])
                    "CRC"

                Expect.equal (BitConverter.ToUInt32(bytes, position + 12 + length)) (masked data) "CRC"
                fields data
                yield! records (position + 16 + length)
        ]

    match records 0 with
    | [] -> failwith "no records"
    | version :: events ->
        Expect.equal (version |> List.find (fun (n, _) -> n = 3) |> snd) "brain.Event:2"B "version"

        [
            for event in events do
                let field number =
                    event |> List.find (fun (n, _) -> n = number) |> snd

                Expect.isTrue (BitConverter.ToDouble(field 1, 0) > 0.0) "wall time"

                BitConverter.ToInt64(field 2, 0),
                [
                    for _, value in fields (field 5) do
                        let parts = dict (fields value)
                        Text.Encoding.UTF8.GetString parts[1], BitConverter.ToSingle(parts[2], 0)
                ]
        ]

let private ignoreEvents path = EventFile.Read path |> ignore

[<Fact>]
let ``the check sum of the tests is CRC-32C`` () =
    // RFC 3720, B.4: 32 bytes of zeros.
    Expect.equal (crc32c (Array.zeroCreate 32)) 0x8A9136AAu "CRC-32C"

[<Fact>]
let ``an independent reader finds what the event file was given`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "events.out.tfevents.1")

        using (EventFile.Create(path, 1000.5)) (fun file ->
            file.Write(0L, 1001.0, metrics [ "Loss/behavior", 0.5; "größe", nan ])
            file.Write(300L, 1002.0, metrics [ "Loss/behavior", -1e-3 ])
            file.Write(301L, 1003.0, metrics [])
            file.Flush())

        match readEvents path with
        | [ 0L, [ "Loss/behavior", 0.5f; "größe", notANumber ]; 300L, [ "Loss/behavior", -1e-3f ]; 301L, [] ] when
            Single.IsNaN notANumber
            ->
            ()
        | other -> failwith $"%A{other}"

        let scalars = EventFile.Read path
        Expect.equal scalars.Count 3 "scalars"
        Expect.equal scalars[2] (EventScalar(300L, 1002.0, "Loss/behavior", -1e-3f)) "last"

        refused path (fun () -> EventFile.Create(path, 1.0).Dispose()) |> contains "Cannot write")

[<Fact>]
let ``an event file goes on after the step of a checkpoint`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "events.out.tfevents.1")

        let write (file: EventFile) step =
            file.Write(step, 5.0, metrics [ "x", float step ])

        using (EventFile.Create(path, 5.0)) (fun file -> Seq.iter (write file) [ 0L .. 9L ])
        let undisturbed = File.ReadAllBytes path

        // A crash in the middle of a record, then in the middle of the run.
        for cut in [ 0; 1; 20 ] do
            File.WriteAllBytes(path, undisturbed[.. undisturbed.Length - 1 - cut])
            using (EventFile.Resume(path, 6L)) (fun file -> Seq.iter (write file) [ 7L .. 9L ])
            Expect.equal (File.ReadAllBytes path) undisturbed $"after cutting {cut} bytes")

[<Fact>]
let ``damaged event files are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "events.out.tfevents.1")

        using (EventFile.Create(path, 5.0)) (fun file ->
            for step in 0L .. 4L do
                file.Write(step, 5.0, metrics [ "a", 1.0; "b", 2.0 ]))

        let bytes = File.ReadAllBytes path
        let copy = Path.Combine(folder, "copy")
        let whole = EventFile.Read path |> Seq.toList

        // The end of a file that is still being written is left out: always a beginning of the whole.
        for length in 0 .. bytes.Length - 1 do
            File.WriteAllBytes(copy, bytes[.. length - 1])
            let read = EventFile.Read copy |> Seq.toList
            Expect.equal read (List.truncate read.Length whole) $"{length} bytes"
            Expect.isTrue (read.Length < whole.Length) $"{length} bytes"

        // Every single changed byte is noticed.
        for position in 0 .. bytes.Length - 1 do
            let changed = Array.copy bytes
            changed[position] <- changed[position] ^^^ 0x10uy
            File.WriteAllBytes(copy, changed)
            refused copy (fun () -> ignoreEvents copy) |> contains "damaged"

        // Records with right check sums and random content.
        let random = Random 3

        for trial in 1..1000 do
            let data = Array.init (random.Next 30) (fun _ -> byte (random.Next 256))
            let length = BitConverter.GetBytes(int64 data.Length)

            File.WriteAllBytes(
                copy,
                Array.concat
                    [
                        length
                        BitConverter.GetBytes(masked length)
                        data
                        BitConverter.GetBytes(masked data)
                    ]
            )

            survives ignoreEvents copy $"trial {trial}" |> ignore)

/// A run that logs a new metric from iteration 5 on.
let private logFrom (log: MetricsLog) (iterations: int64 list) =
    for i in iterations do
        let row =
            [ "Loss/behavior", 1.0 / float (i + 1L); "Train/mean_reward", (if i = 2L then nan else float i) ]

        log.Append(
            i,
            metrics (
                if i >= 5L then
                    row @ [ "evaluation/mean_return", infinity ]
                else
                    row
            )
        )

let private metricsFiles folder =
    [ for name in [ "metrics.jsonl"; "metrics.csv" ] -> File.ReadAllText(Path.Combine(folder, name)) ]

let private eventsOf (folder: string) =
    Directory.GetFiles(folder, "events.out.tfevents.*") |> Array.exactlyOne |> readEvents

[<Fact>]
let ``metrics are in all three files, with columns that appear later`` () =
    inTemporaryFolder (fun folder ->
        using (MetricsLog.Create folder) (fun log -> logFrom log [ 0L .. 6L ])

        match metricsFiles folder with
        | [ rows; table ] ->
            let lines = table.TrimEnd('\n').Split '\n'
            Expect.equal lines[0] "iteration,Loss/behavior,Train/mean_reward,evaluation/mean_return" "header"
            Expect.equal lines[1] "0,1,0," "first row"
            Expect.equal lines[3] "2,0.3333333333333333,NaN," "row with NaN"
            Expect.equal lines[7] "6,0.14285714285714285,6,Infinity" "last row"
            contains """{"iteration":2,"Loss/behavior":0.3333333333333333,"Train/mean_reward":"NaN"}""" rows
        | _ -> failwith "two files"

        let read = MetricsLog.Read folder
        Expect.equal (read |> Seq.map _.Iteration |> Seq.toList) [ 0L .. 6L ] "iterations"
        Expect.equal (read[6].Metrics[2]) (KeyValuePair("evaluation/mean_return", infinity)) "value"
        Expect.equal (eventsOf folder |> List.map fst) [ 0L .. 6L ] "events")

[<Fact>]
let ``the log of a resumed run equals that of an undisturbed one`` () =
    inTemporaryFolder (fun folder ->
        let undisturbed = Directory.CreateDirectory(Path.Combine(folder, "a")).FullName
        let resumed = Directory.CreateDirectory(Path.Combine(folder, "b")).FullName
        using (MetricsLog.Create undisturbed) (fun log -> logFrom log [ 0L .. 9L ])

        // Stopped at 7, in the middle of a row; resumed from the checkpoint of iteration 3, then from that of 6.
        using (MetricsLog.Create resumed) (fun log ->
            logFrom log [ 0L .. 7L ]
            log.Flush())

        File.AppendAllText(Path.Combine(resumed, "metrics.jsonl"), "{\"iteration\":8,\"Lo")
        using (MetricsLog.Resume(resumed, 3L)) (fun log -> logFrom log [ 4L .. 8L ])
        using (MetricsLog.Resume(resumed, 6L)) (fun log -> logFrom log [ 7L .. 9L ])
        Expect.equal (metricsFiles resumed) (metricsFiles undisturbed) "metrics"
        // Text, because NaN does not equal NaN.
        Expect.equal $"%A{eventsOf resumed}" $"%A{eventsOf undisturbed}" "events")

[<Fact>]
let ``metrics that cannot be logged are refused`` () =
    inTemporaryFolder (fun folder ->
        use log = MetricsLog.Create folder
        logFrom log [ 0L .. 3L ]

        let refuses iteration names =
            Expect.throws<DistillException>(fun () ->
                log.Append(iteration, metrics [ for name in names -> name, 0.0 ]))
            |> ignore

        refuses 3L [ "x" ]
        refuses 4L [ "x"; "x" ]
        refuses 4L [ "iteration" ]
        refuses 4L [ "a,b" ]
        refuses 4L [ "" ]
        logFrom log [ 4L ]
        Expect.equal (MetricsLog.Read folder).Count 5 "rows"

        refused "metrics.jsonl" (fun () -> MetricsLog.Create(folder).Dispose()) |> contains "Cannot write")

[<Fact>]
let ``damaged metrics are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        using (MetricsLog.Create folder) (fun log -> logFrom log [ 0L .. 6L ])
        let original = File.ReadAllBytes(Path.Combine(folder, "metrics.jsonl"))
        let copy = Directory.CreateDirectory(Path.Combine(folder, "copy")).FullName
        let path = Path.Combine(copy, "metrics.jsonl")
        let random = Random 4

        for trial in 1..1000 do
            let changed = Array.copy original
            changed[random.Next changed.Length] <- byte (random.Next 256)
            File.WriteAllBytes(path, changed)

            survives (fun _ -> MetricsLog.Read copy |> ignore) path $"trial {trial}" |> ignore

        File.WriteAllText(path, "{\"iteration\":0}\n{\"loss\":1}\n")
        refused path (fun () -> MetricsLog.Read copy |> ignore) |> contains "line 2")

type private FixedClock() =
    inherit TimeProvider()

    override _.GetUtcNow() =
        DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.Zero)

    override _.LocalTimeZone = TimeZoneInfo.Utc

[<Fact>]
let ``runs that start in the same second get different folders`` () =
    inTemporaryFolder (fun folder ->
        let clock = FixedClock()
        let paths = Array.zeroCreate 40

        Parallel.For(
            0,
            paths.Length,
            fun i -> paths[i] <- RunFolder.Create(folder, "quadrotor", "gru", clock).Path
        )
        |> ignore

        Expect.equal (Array.distinct paths).Length paths.Length "different folders"
        let first = Path.Combine(folder, "quadrotor", "2026-03-04_05-06-07_gru")

        let expected =
            first :: [ for number in 2 .. paths.Length -> $"{first}_{number}" ] |> List.sort

        Expect.equal (List.sort (List.ofArray paths)) expected "names"
        let entries = Directory.GetFileSystemEntries(Path.Combine(folder, "quadrotor"))
        Expect.equal entries.Length paths.Length "nothing else is left"
        let plain = RunFolder.Create(folder, "quadrotor", null, clock)
        Expect.equal (Path.GetFileName plain.Path) "2026-03-04_05-06-07" "without a run name")

[<Theory>]
[<InlineData("")>]
[<InlineData("..")>]
[<InlineData("a/b")>]
[<InlineData(".hidden")>]
[<InlineData("two words")>]
let ``names that make no good folder are refused`` (name: string) =
    inTemporaryFolder (fun folder ->
        Expect.throws<DistillException>(fun () -> RunFolder.Create(folder, name) |> ignore)
        |> fun e -> contains $"'{name}'" e.Message)

[<Fact>]
let ``a run folder keeps checkpoints and is found again`` () =
    inTemporaryFolder (fun folder ->
        let run = RunFolder.Create(folder, "quadrotor")

        SafeTensors.Write(
            run.Checkpoint "best_student.safetensors",
            [ Tensor.OfFloats("x", ReadOnlySpan [| 1f |]) ]
        )

        Expect.equal (RunFolder.Open run.Path) run "opened"
        Expect.equal (Seq.toList (run.Checkpoints())) [ "best_student.safetensors" ] "checkpoints"

        refused folder (fun () -> RunFolder.Open folder |> ignore) |> contains "not a run folder")

[<Fact>]
let ``a run folder with content is made wholly or not at all`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "made")

        let write (run: RunFolder) =
            File.WriteAllText(run.Checkpoint "a.txt", "a")
            Assert.False(Directory.Exists path)

        Expect.throws<InvalidOperationException>(fun () ->
            RunFolder.CreateWith(
                path,
                fun run ->
                    write run
                    invalidOp "stopped"
            )
            |> ignore)
        |> ignore

        Assert.Empty(Directory.GetFileSystemEntries folder)
        let run = RunFolder.CreateWith(path + "/", write)
        Assert.Equal(path, run.Path)
        Assert.Equal<string seq>([ "a.txt" ], run.Checkpoints())
        Assert.Equal<string array>([| path |], Directory.GetFileSystemEntries folder)

        refused folder (fun () -> RunFolder.CreateWith(path, write) |> ignore)
        |> contains "is there already")

[<Fact>]
let ``one run at a time has a run folder, and another is told who`` () =
    inTemporaryFolder (fun folder ->
        let run = RunFolder.Create(folder, "quadrotor")
        let first = run.Lock()

        refused run.Path (fun () -> run.Lock() |> ignore)
        |> contains $"in use by process {Environment.ProcessId} on {Environment.MachineName}"

        Expect.isTrue (isNull (run.TryLock())) "a lock was given twice"
        first.Dispose()
        use _ = run.Lock()
        ())

[<Fact>]
let ``a disk without room for a lock is not taken for another run`` () =
    inTemporaryFolder (fun folder ->
        refused "lock" (fun () -> FileLock.TryTake(Path.Combine(folder, "missing", "lock")) |> ignore)
        |> contains "Cannot write")

[<Fact>]
let ``what a killed run left half-written is swept up`` () =
    inTemporaryFolder (fun folder ->
        let run = RunFolder.Create(folder, "quadrotor")
        let guid = Guid.NewGuid().ToString "N"

        let write (path: string) =
            File.WriteAllText(path, "half")
            path

        let leftovers =
            [
                run.Checkpoint $".state.safetensors.{guid}.tmp"
                Path.Combine(run.Path, $".report.html.{guid}.tmp")
                Path.Combine(run.Path, "params", $".env.yaml.{guid}.tmp")
            ]
            |> List.map write

        let own =
            [
                run.Checkpoint "state.safetensors"
                run.Checkpoint ".hidden.tmp"
                run.Checkpoint $"{guid}.tmp"
            ]
            |> List.map write

        using (run.Lock()) ignore

        for path in leftovers do
            Expect.isTrue (not (File.Exists path)) $"{path} is left"

        for path in own do
            Expect.isTrue (File.Exists path) $"{path} is gone"

        // Of the folders of runs that were never finished being made, those that nobody can be making now.
        let parent = Path.GetDirectoryName run.Path |> string
        let old = Directory.CreateDirectory(Path.Combine(parent, $".a.{guid}.tmp"))
        let recent = Directory.CreateDirectory(Path.Combine(parent, $".b.{guid}.tmp"))
        old.LastWriteTimeUtc <- DateTime.UtcNow.AddDays -1.0
        RunFolder.Create(folder, "quadrotor") |> ignore

        Expect.equal
            (Directory.Exists old.FullName, Directory.Exists recent.FullName)
            (false, true)
            "old, recent")

type Schedule =
    | Constant = 0
    | TwoStage = 1

type NetworkRecord = { HiddenSizes: int list; InitialStd: float32 }

type AgentRecord =
    {
        LearningRate: float
        NumEnvs: int
        UseDagger: bool
        MaxBufferSize: int64
        Acting: Schedule
        Note: string
        Missing: string | null
        Student: NetworkRecord
        Teachers: NetworkRecord[]
    }

[<Fact>]
let ``parameters are YAML with snake_case names, nested records, enums and lists`` () =
    inTemporaryFolder (fun folder ->
        let run = RunFolder.Create(folder, "quadrotor")

        let network = { HiddenSizes = [ 16; 16 ]; InitialStd = 0.1f }

        run.WriteParameters(
            "agent",
            {
                LearningRate = 1e-4
                NumEnvs = 2048
                UseDagger = true
                MaxBufferSize = 1_000_000L
                Acting = Schedule.TwoStage
                Note = "true"
                Missing = null
                Student = network
                Teachers = [| network; network |]
            }
        )

        let expected =
            "learning_rate: 0.0001
num_envs: 2048
use_dagger: true
max_buffer_size: 1000000
acting: two_stage
note: \"true\"
missing:
student:
  hidden_sizes:
  - 16
  - 16
  initial_std: 0.1
teachers:
- hidden_sizes:
  - 16
  - 16
  initial_std: 0.1
- hidden_sizes:
  - 16
  - 16
  initial_std: 0.1
"

        let actual = File.ReadAllText(Path.Combine(run.Path, "params", "agent.yaml"))
        Expect.equal (actual.Replace(" \n", "\n")) expected "YAML")
