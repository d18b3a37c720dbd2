/// Folders of runs and sweeps from somebody else: what is wrong with their files is said, and does not stop what reads many.
module Distill.Tests.OutsideTests

open System
open System.IO
open Distill
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

let private refusal (action: unit -> unit) =
    (Expect.throws<DistillException> action).Message

let private write (folder: string) (name: string) (text: string) =
    let path = Path.Combine(folder, name)
    Directory.CreateDirectory(Path.GetDirectoryName path |> nonNull) |> ignore
    File.WriteAllText(path, text)

let private runFolder (place: Workplace) =
    RunFolder.Create(place.Path "logs", "pole").Path

let private hash = String('a', 64)

let private trialJson (changes: (string * string) list) =
    let fields =
        Map
            [
                "hash", $"\"{hash}\""
                "label", "\"seed-0\""
                "settings", "{\"seed\":\"0\"}"
                "changes", "[]"
                "arguments", "[]"
            ]

    let fields =
        (fields, changes) ||> List.fold (fun fields (name, value) -> fields.Add(name, value))

    let text = fields |> Seq.map (fun field -> $"\"{field.Key}\":{field.Value}")
    "{" + String.Join(",", text) + "}\n"

[<Theory>]
[<InlineData("")>]
[<InlineData("null")>]
[<InlineData("[]")>]
[<InlineData("{}")>]
[<InlineData("{\"script\":null,\"settings\":[]}")>]
[<InlineData("{\"script\":\"a.fsx\"}")>]
[<InlineData("{\"script\":\"a.fsx\",\"settings\":[null]}")>]
[<InlineData("{\"script\":\"a.fsx\",\"settings\":[],\"seed\":-1}")>]
[<InlineData("{\"script\":\"a.fsx\",\"settings\":[],\"cores\":1e99}")>]
[<InlineData("{\"script\":\"a.fsx\",\"settings\":[],\"started\":\"yesterday\"}")>]
let ``a command.json that says nothing is refused by a sentence`` (text: string) =
    use place = new Workplace()
    let folder = runFolder place
    write folder "params/command.json" text
    Assert.Contains("command.json", refusal (fun () -> Command.read (RunFolder.Open folder) |> ignore))

[<Fact>]
let ``a trial whose label leads out of the sweep's folder is refused`` () =
    use place = new Workplace()
    let root = place.Path "sweep"
    write root "x/trial.json" (trialJson [])
    Assert.Equal(1, (TrialFolders.ofRoot root).Length)

    for label in [ "../../out"; "/tmp/out"; "a/b"; "a\\\\b"; ".."; ""; "a\\nb"; String('x', 5000) ] do
        write root "x/trial.json" (trialJson [ "label", $"\"{label}\"" ])
        let message = refusal (fun () -> TrialFolders.ofRoot root |> ignore)
        Assert.Contains("label is not a name", message)

[<Fact>]
let ``a trial.json that lacks something is refused by a sentence`` () =
    use place = new Workplace()
    let root = place.Path "sweep"

    for name, value, reason in
        [
            "hash", "null", "hash"
            "hash", "\"../aaa\"", "hash"
            "label", "null", "label"
            "settings", "null", "settings"
            "settings", "{\"seed\":null}", "settings"
            "settings", "{}", "seed"
            "settings", "{\"seed\":\"x\"}", "seed"
            "settings", "{\"seed\":3}", "JSON"
            "changes", "null", "changes"
            "changes", "[null]", "changes"
            "arguments", "null", "arguments"
        ] do
        write root "x/trial.json" (trialJson [ name, value ])
        Assert.Contains(reason, refusal (fun () -> TrialFolders.ofRoot root |> ignore))

    write root "x/trial.json" (String('[', 100_000))
    Assert.Contains("trial.json", refusal (fun () -> TrialFolders.ofRoot root |> ignore))

[<Fact>]
let ``of a message of failure only the beginning is read, however long it is`` () =
    use place = new Workplace()
    let root = place.Path "sweep"
    write root "x/trial.json" (trialJson [])
    let folder = TrialFolders.ofRoot root |> List.exactlyOne
    write folder.Path "error.txt" ("It failed.\n" + String('x', 1000))
    Assert.Equal(Some("It failed.\n" + String('x', 1000)), folder.Error)
    // Without content on the disk beyond its beginning.
    using (File.OpenWrite(Path.Combine(folder.Path, "error.txt"))) (fun stream ->
        stream.SetLength(20L <<< 30))

    let before = GC.GetAllocatedBytesForCurrentThread()
    Assert.InRange(folder.Error.Value.Length, 100, 5000)
    Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0L, 1L <<< 20)

[<Theory>]
[<InlineData("NaN")>]
[<InlineData("Infinity")>]
[<InlineData("1e999")>]
let ``results that are no finite numbers are refused`` (value: string) =
    use place = new Workplace()
    let folder = runFolder place

    let table =
        "policy,mean_return,std_return,mean_length,share_terminated,episodes\n"
        + $"teacher,600,10,500,0,9\nbest student,{value},20,499,0,9\nfinal student,5,3,4,0,9\n"

    write folder "result.csv" table
    Assert.Contains("result.csv", refusal (fun () -> RunRecord.read folder |> ignore))
    let root = place.Path "sweep"
    write root "x/trial.json" (trialJson [])
    let trial = TrialFolders.ofRoot root |> List.exactlyOne
    write trial.Path "result.csv" table
    Assert.Contains("is not a table of results", refusal (fun () -> trial.Result |> ignore))

[<Fact>]
let ``folders that are broken in any way do not keep the others from the board`` () =
    use place = new Workplace()
    let logs = place.Path "logs"
    let good = runFolder place
    write good "params/agent.yaml" "iterations: 3\n"

    let broken =
        [
            "params/agent.yaml", String('[', 1_000_000)
            "params/agent.yaml", "a: &a {b: *a}"
            "params/command.json", "{{"
            "result.csv", "policy,mean_return\n"
            "metrics.jsonl", "{\"iteration\":\"x\"}\n"
        ]

    for file, text in broken do
        write (runFolder place) file text

    write (Path.Combine(logs, "sweeps", "first", "x")) "trial.json" (trialJson [ "label", "null" ])
    write (Path.Combine(logs, "sweeps", "second", "x")) "trial.json" (trialJson [])
    let page = File.ReadAllText(Board.write logs)
    Assert.Contains("1 run, 1 sweep", page)
    Assert.Contains("sweeps/second", page)
    let notReadable = page.Substring(page.IndexOf "Not readable").Replace("<wbr>", "")

    for reason in
        [ "levels deep"; "stands for nothing"; "command.json"; "result.csv"; "metrics file"; "its label" ] do
        Assert.Equal(2, notReadable.Split(reason).Length)

[<Fact>]
let ``a file of flights that would take all memory is refused`` () =
    use place = new Workplace()
    let path = place.Path "a.npz"
    // 90 MB of one byte each would be 90 million numbers.
    Npz.Write(
        path,
        [ Tensor("position", ElementType.UInt8, [| 1; 30_000_000; 3 |], Array.zeroCreate 90_000_000) ],
        true
    )

    Assert.Contains("steps that can be read", refusal (fun () -> FlightRecording.load path |> ignore))
