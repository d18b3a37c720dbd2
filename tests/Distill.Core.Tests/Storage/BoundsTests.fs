/// Files from outside that would take all memory, all time or the stack: each is refused by a sentence.
module Distill.Tests.StorageBounds

open System
open System.Diagnostics
open System.IO
open System.IO.Compression
open System.Text
open Xunit
open Distill
open Distill.Storage
open Distill.Tests.Storage

let private yaml (text: string) : (string * string) list =
    inTemporaryFolderOf (fun folder ->
        let path = Path.Combine(folder, "x.yaml")
        File.WriteAllText(path, text)

        [
            for setting in Yaml.Read path do
                setting.Key, setting.Value
        ])

let private refusedYaml (text: string) : string =
    (Expect.throws<DistillException>(fun () -> yaml text |> ignore)).Message

[<Fact>]
let ``YAML is read as settings with dotted names, in the order of the file`` () =
    let text =
        "name: a\nenv:\n  drone: x500\n  limits: [1, 2.5]\n  none:\n  empty: []\nteachers:\n- name: b\n- {name: c, sizes: !!python/tuple [3, 4]}\n"

    let expected =
        [
            "name", "a"
            "env.drone", "x500"
            "env.limits", "[1, 2.5]"
            "env.none", ""
            "env.empty", "[]"
            "teachers[0].name", "b"
            "teachers[1].name", "c"
            "teachers[1].sizes", "[3, 4]"
        ]

    Expect.equal (yaml text) expected "settings"
    Expect.equal (yaml "") [] "settings of an empty file"

[<Fact>]
let ``an alias stands for what it names`` () =
    let text = "a: &one {x: 1, y: [2, 3]}\nb: *one\nc: [*two]\n"
    refusedYaml text |> contains "*two stands for nothing"

    Expect.equal
        (yaml (text.Replace("*two", "&t 5, *t")))
        [ "a.x", "1"; "a.y", "[2, 3]"; "b.x", "1"; "b.y", "[2, 3]"; "c", "[5, 5]" ]
        "settings"

[<Fact>]
let ``YAML that is nested without end is refused`` () =
    for text in
        [
            String('[', 1_000_000)
            String.replicate 200_000 "- "
            "{a: " |> String.replicate 100_000
            String.replicate 200_000 "? "
            // Each level is shallow, but the aliases are not.
            [
                "a0: &a0 [x, {y: 1}]"
                for i in 1..1000 do
                    $"a{i}: &a{i} [*a{i - 1}, {{y: 1}}]"
            ]
            |> String.concat "\n"
        ] do
        refusedYaml text |> contains "levels deep"

[<Fact>]
let ``YAML whose aliases expand without end is refused`` () =
    let bomb (leaf: string) (open': string, close: string) =
        [
            leaf
            for i in 1..40 do
                let copies = String.Join(", ", List.init 10 (fun k -> $"k{k}: *a{i - 1}"))
                $"a{i}: &a{i} {open'}{copies}{close}"
        ]
        |> String.concat "\n"

    refusedYaml (bomb "a0: &a0 {x: 1}" ("{", "}")) |> contains "values"
    // Nothing is left of these in the settings.
    refusedYaml (bomb "a0: &a0 {}" ("{", "}")) |> contains "values"
    let long = String('x', 1_000_000)

    refusedYaml ($"a: &a {long}\nb: [" + String.Join(", ", List.replicate 1000 "*a") + "]")
    |> contains "characters"

    // A name is repeated in all those below it.
    refusedYaml ($"{long[..900]}: {{" + String.Join(", ", List.init 40_000 (fun i -> $"a{i}: 1")) + "}")
    |> contains "characters"

[<Fact>]
let ``YAML that contains itself is refused`` () =
    for text in [ "a: &a {b: *a}"; "&a [*a]"; "a: &a {? *a : 1}" ] do
        refusedYaml text |> contains "stands for nothing"

[<Fact>]
let ``YAML that is no tree of settings is refused`` () =
    refusedYaml "a: 1\na: 2\n" |> contains "line 2: the name 'a' is given twice"
    refusedYaml "{[1, 2]: 3}" |> contains "a name is not a plain text"
    refusedYaml ("a: " + String('x', 5 <<< 20)) |> contains "at most"
    refusedYaml "a: [1" |> contains "is not a readable YAML file"

[<Fact>]
let ``damaged YAML is read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.yaml")

        File.WriteAllText(
            path,
            "%YAML 1.2\n---\na: &x !tag {b: \"q\\u0041\", 'c': |\n  text\n}\nd: [*x, >-\n  folded, - 1]\n? e\n: f # end\n...\n---\n- 1\n"
        )

        survivesFlips 500 (Yaml.Read >> ignore) path
        File.WriteAllText(path, "a: &x {b: \"q\", 'c': [1, 2]}\nd: [*x, *x]\ne: |\n  text\n")
        survivesFlips 500 (Yaml.Read >> ignore) path)

/// An archive with one entry: a header, and these bytes, which the directory of the archive says are `claimed` in all.
let private writeArchive (path: string) (shape: string) (data: byte array) (claimed: int option) =
    let header = $"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"

    using (ZipFile.Open(path, ZipArchiveMode.Create)) (fun archive ->
        use entry = archive.CreateEntry("x.npy", CompressionLevel.Fastest).Open()
        entry.Write(ReadOnlySpan [| 0x93uy |])
        entry.Write(ReadOnlySpan "NUMPY\001\000"B)
        entry.Write(ReadOnlySpan(BitConverter.GetBytes(uint16 header.Length)))
        entry.Write(ReadOnlySpan(Encoding.Latin1.GetBytes header))
        entry.Write(ReadOnlySpan data))

    match claimed with
    | Some bytes ->
        let file = File.ReadAllBytes path
        let directory = file.AsSpan().LastIndexOf(ReadOnlySpan "PK\001\002"B)
        BitConverter.TryWriteBytes(file.AsSpan(directory + 24), 10 + header.Length + bytes) |> ignore
        File.WriteAllBytes(path, file)
    | None -> ()

[<Fact>]
let ``an npz that expands to more than its header says, or than is read at all, is refused before it does``
    ()
    =
    inTemporaryFolder (fun folder ->
        let refusedFor (reason: string) (shape: string) (data: byte array) (claimed: int option) =
            let path = Path.Combine(folder, "x.npz")
            File.Delete path
            writeArchive path shape data claimed
            let before = GC.GetAllocatedBytesForCurrentThread()
            refused path (fun () -> Npz.Read path |> ignore) |> contains reason
            let allocated = GC.GetAllocatedBytesForCurrentThread() - before
            Expect.isTrue (allocated < (1L <<< 20)) $"{allocated} bytes were allocated"

        refusedFor "not what it claims" "(3,)" (Array.zeroCreate (20 <<< 20)) None
        // As large as its header and its directory say, and not impossible for what is compressed.
        let random: byte array = Array.zeroCreate (1 <<< 20)
        Random(1).NextBytes random
        refusedFor "expands" $"({600 <<< 20},)" random (Some(600 <<< 20)))

let private startsAndEnds (program: string) (arguments: string list) =
    use running = Process.Start(program, arguments)
    running.WaitForExit()
    Expect.equal running.ExitCode 0 program

/// A test that needs pipes with names.
type UnixFactAttribute() as fact =
    inherit FactAttribute()

    do
        if OperatingSystem.IsWindows() then
            fact.Skip <- "Windows has no pipes among its files."

[<UnixFact>]
let ``a pipe in the place of a file is refused, not waited for`` () =
    inTemporaryFolder (fun folder ->
        let pipe = Path.Combine(folder, "pipe")
        startsAndEnds "mkfifo" [ pipe ]
        let link = Path.Combine(folder, "link")
        File.CreateSymbolicLink(link, pipe) |> ignore

        let readers: (string * (string -> unit)) list =
            [
                "npz", Npz.Read >> ignore
                "safetensors", SafeTensors.Read >> ignore
                "pt", PyTorchFile.Read >> ignore
                "event file", EventFile.Read >> ignore
                "text", (fun path -> InputFile.ReadText(path, "text") |> ignore)
                "drone", Distill.Environments.Quadrotor.ParameterFile.Read >> ignore
            ]

        for path in [ pipe; link; "/dev/zero" ] do
            for name, read in readers do
                let work = Threading.Tasks.Task.Run(fun () -> survives read path name)
                Expect.isTrue (work.Wait 20_000) $"reading {path} as {name} has not ended"

        refused pipe (fun () -> Npz.Read pipe |> ignore) |> contains "not a plain file"
        Expect.equal (Seq.length (Yaml.Read pipe)) 0 "settings in a pipe")

[<Fact>]
let ``a file far larger than its kind is refused before it is read`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "metrics.jsonl")
        // Without content on the disk.
        using (File.Create path) (fun stream -> stream.SetLength(20L <<< 30))

        for read in
            [
                MetricsLog.Read >> ignore
                (fun _ -> SafeTensors.Read path |> ignore)
                (fun _ -> PyTorchFile.Read path |> ignore)
                (fun _ -> Yaml.Read path |> ignore)
                (fun _ -> InputFile.ReadText(path, "text") |> ignore)
            ] do
            refused path (fun () -> read folder) |> contains "can be read"

        Expect.equal (InputFile.ReadBeginning(path, "text", 3)) "\000\000\000" "beginning")

[<Fact>]
let ``a message has one line, no characters that control a terminal, and a sane length`` () =
    let message = DistillException("a\027[2Jb\r\nc\u202Ed\u0085e").Message
    Expect.equal message "a [2Jb  c d e" "message"
    let long = DistillException(String('x', 1 <<< 20) + " the end").Message
    Expect.isTrue (long.Length < 2100 && long.EndsWith " the end") $"{long.Length} characters"
