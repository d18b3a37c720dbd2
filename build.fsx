// The one door to this repository: `dotnet fsi build.fsx` lists what it does.
// It uses no packages and little text formatting, so that it starts about as fast as F# Interactive itself.

open System
open System.Diagnostics
open System.IO
open System.Runtime.InteropServices

let root = __SOURCE_DIRECTORY__
let inRoot (path: string) = Path.Combine(root, path)

/// Ends the program with this exit code after printing the sentence.
exception Stop of code: int * sentence: string

/// Ends the program with exit code 2, for what was asked cannot be done.
let refuse (sentence: string) = raise (Stop(2, sentence))

/// The candidates most like the name, best first; empty when none is near.
let near (name: string) (candidates: string seq) =
    let distance (a: string) (b: string) =
        let mutable row = [| 0 .. b.Length |]

        for i in 1 .. a.Length do
            let next = Array.create (b.Length + 1) i

            for j in 1 .. b.Length do
                let change = row[j - 1] + (if a[i - 1] = b[j - 1] then 0 else 1)
                next[j] <- min change (1 + min row[j] next[j - 1])

            row <- next

        row[b.Length]

    candidates
    |> Seq.map (fun candidate -> candidate, distance name candidate)
    |> Seq.filter (fun (candidate, d) -> d <= 1 + (max name.Length candidate.Length) / 2)
    |> Seq.sortBy snd
    |> Seq.map fst
    |> Seq.truncate 3
    |> Seq.toList

let orOf (names: string list) = String.Join(" or ", names)

// Child processes. They inherit the console. A signal that arrives here reaches the running child, which may have work to
// save, and this program waits for it.

[<DllImport("libc")>]
extern int private kill(int pid, int signal)

let private gate = obj ()
let mutable private child: Process = null
let mutable private interrupted = 0

let private registrations =
    let on (signal: PosixSignal) (number: int) =
        PosixSignalRegistration.Create(
            signal,
            fun context ->
                context.Cancel <- true

                lock gate (fun () ->
                    interrupted <- 128 + number

                    if isNull child then
                        exit interrupted
                    // On Windows the console tells the child itself. On Ctrl-C a terminal does, too; the child takes the two
                    // for one.
                    elif not (OperatingSystem.IsWindows()) && not child.HasExited then
                        kill (child.Id, number) |> ignore)
        )

    [ on PosixSignal.SIGHUP 1; on PosixSignal.SIGINT 2; on PosixSignal.SIGTERM 15 ]

/// The `dotnet` that runs this script, so that children use the same SDK.
let private host = Environment.ProcessPath

/// F# Interactive of that SDK: this process runs it.
let private interactive = Environment.GetCommandLineArgs()[0]

/// Runs `dotnet ARGUMENTS` in the folder with the console of this process; returns its exit code.
let private dotnetIn (folder: string) (environment: (string * string) list) (arguments: string list) =
    let start = ProcessStartInfo(host, arguments, WorkingDirectory = folder)

    for name, value in environment do
        start.Environment[name] <- value

    let running =
        lock gate (fun () ->
            if interrupted <> 0 then
                exit interrupted

            child <- Process.Start start
            child)

    running.WaitForExit()
    lock gate (fun () -> child <- null)
    running.ExitCode

let private dotnet = dotnetIn root

/// What `dotnet ARGUMENTS` prints.
let private output (arguments: string list) =
    use running =
        Process.Start(
            ProcessStartInfo(host, arguments, WorkingDirectory = root, RedirectStandardOutput = true)
        )

    let text = running.StandardOutput.ReadToEnd()
    running.WaitForExit()
    text.Split('\n', StringSplitOptions.RemoveEmptyEntries ||| StringSplitOptions.TrimEntries)

let private stepIn
    (folder: string)
    (name: string)
    (environment: (string * string) list)
    (arguments: string list)
    =
    let code = dotnetIn folder environment arguments

    if code <> 0 then
        raise (Stop(code, $"Step '{name}' failed with exit code {string code}."))

let private step = stepIn root

// Freshness. A stamp holds the fingerprint that the inputs of a step had when it last succeeded.

let private skipped = set [ "bin"; "obj"; "node_modules" ]

let rec private filesUnder (folder: string) : FileInfo seq =
    seq {
        let info = DirectoryInfo folder

        if info.Exists then
            yield! info.EnumerateFiles()

            for inner in info.EnumerateDirectories() do
                if not (skipped.Contains inner.Name) then
                    yield! filesUnder inner.FullName
    }

let private fingerprint (files: FileInfo seq) =
    let lines =
        files
        |> Seq.filter _.Exists
        |> Seq.map (fun f -> String.Join(' ', f.FullName, string f.LastWriteTimeUtc.Ticks, string f.Length))
        |> Seq.sort

    String.Join('\n', lines)
    |> Text.Encoding.UTF8.GetBytes
    |> Security.Cryptography.SHA256.HashData
    |> Convert.ToHexString

let private stampPath (name: string) = inRoot ("obj/stamps/" + name)

let private readStamp (name: string) =
    if File.Exists(stampPath name) then
        File.ReadAllLines(stampPath name)
    else
        [||]

let private writeStamp (name: string) (lines: string list) =
    File.WriteAllLines(stampPath name, lines)

/// One build of this checkout at a time: a second one waits.
let private exclusively (work: unit -> unit) =
    Directory.CreateDirectory(inRoot "obj/stamps") |> ignore

    let rec enter (told: bool) =
        try
            new FileStream(stampPath "lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None)
        with :? IOException ->
            if not told then
                Console.Error.WriteLine "Waiting for another build of this checkout."

            Threading.Thread.Sleep 100
            enter true

    use _ = enter false
    work ()

// Packages and tools

let private projects () =
    File.ReadLines(inRoot "Distill.slnx")
    |> Seq.collect _.Split('"')
    |> Seq.filter _.EndsWith("proj")
    |> Seq.map (inRoot >> FileInfo)
    |> Seq.toList

let private settings () =
    [
        "dotnet-tools.json"
        "paket.dependencies"
        "paket.lock"
        "Directory.Build.props"
        "Directory.Build.targets"
        "global.json"
    ]
    |> Seq.map (inRoot >> FileInfo)

/// The feed, for paket.dependencies: the variable if it is set, otherwise the machine's first enabled package source.
let private feed =
    lazy
        (let source =
            match Environment.GetEnvironmentVariable "NUGET_SOURCE" with
            | null
            | "" ->
                output [ "nuget"; "list"; "source"; "--format"; "short" ]
                |> Array.tryFind (fun line -> line.StartsWith 'E')
                |> Option.map (fun line -> line.Substring(line.IndexOf ' ' + 1))
            | source -> Some source

         match source with
         | Some source -> [ ("NUGET_SOURCE", source) ]
         | None ->
             refuse
                 "No package source is enabled on this machine: add one with `dotnet nuget add source`, or set NUGET_SOURCE.")

/// Paket alone: what builds does not wait for what formats.
let private restoreTools () =
    step "restore tools" [] [ "tool"; "restore"; "--tool-manifest"; "dotnet-tools.json" ]

/// Tools and packages, fetched when the lock, the tool manifest or a project changed, or what was fetched is gone.
let private restore () =
    let projects = projects ()

    let references =
        projects |> Seq.map (fun project -> FileInfo(project.DirectoryName + "/paket.references"))

    let inputs = Seq.concat [ settings (); projects; references ] |> fingerprint

    let fetched () =
        projects
        |> Seq.forall (fun project -> File.Exists(project.DirectoryName + "/obj/project.assets.json"))

    match readStamp "restored" with
    | [| stamp; packages |] when stamp = inputs && Directory.Exists packages && fetched () -> ()
    | _ ->
        restoreTools ()
        step "restore packages" feed.Value [ "paket"; "restore" ]
        step "restore projects" feed.Value [ "restore"; "Distill.slnx"; "-nologo"; "-v"; "quiet" ]

        let packages = (output [ "nuget"; "locals"; "global-packages"; "--list" ])[0]
        writeStamp "restored" [ inputs; packages.Substring(packages.IndexOf ' ' + 1) ]

// Targets

let private compile (project: string) =
    Console.Error.WriteLine("Building " + project)
    step "build" feed.Value [ "msbuild"; project; "-p:Configuration=Release"; "-m"; "-nologo"; "-v:quiet" ]

/// What is built on demand: the project, and the folders of its sources.
let private libraries =
    "Distill.Scripts/Distill.Scripts.fsproj", [ "Distill.Core"; "Distill.Scripts" ]

let private notebookHost =
    "Distill.Notebook/Distill.Notebook.fsproj", [ "Distill.Notebook" ]

let private benchmarks =
    "benchmarks/Distill.Benchmarks.csproj", [ "Distill.Core"; "benchmarks" ]

let private nameOf (project: string, _: string list) =
    Path.GetFileNameWithoutExtension project

let private assembly (product: string * string list) =
    inRoot $"{Path.GetDirectoryName(fst product)}/bin/Release/net10.0/{nameOf product}.dll"

let private sources (folders: string list) =
    folders |> Seq.collect (inRoot >> filesUnder) |> Seq.append (settings ()) |> fingerprint

/// Builds a project or the solution, and remembers from which sources the products in it came.
let private compileProducts (project: string) (products: (string * string list) list) =
    let inputs =
        products |> List.map (fun product -> nameOf product, sources (snd product))

    restore ()
    compile project

    for name, stamp in inputs do
        writeStamp name [ stamp ]

let private ensure (product: string * string list) =
    let fresh () =
        readStamp (nameOf product) = [| sources (snd product) |] && File.Exists(assembly product)

    if not (fresh ()) then
        exclusively (fun () ->
            if not (fresh ()) then
                compileProducts (fst product) [ product ])

let build () =
    exclusively (fun () -> compileProducts "Distill.slnx" [ libraries; notebookHost; benchmarks ])

let format (check: bool) =
    exclusively (fun () ->
        restore ()
        step "restore formatters" [] [ "tool"; "restore"; "--tool-manifest"; ".config/dotnet-tools.json" ])

    if check then
        step "format --check, C#" [] [ "csharpier"; "check"; "." ]
        step "format --check, F#" [] [ "fantomas"; "--check"; "." ]
    else
        step "format, C#" [] [ "csharpier"; "format"; "." ]
        step "format, F#" [] [ "fantomas"; "." ]

let test () =
    format true
    build ()

    // Each test project writes PROJECT.trx here: Directory.Build.targets.
    let results = inRoot "obj/tests"

    if Directory.Exists results then
        Directory.Delete(results, true)

    let code =
        dotnet [] [ "test"; "Distill.slnx"; "-c"; "Release"; "--no-build"; "-nologo" ]

    if code <> 0 then
        Console.Error.WriteLine("Step 'test' failed with exit code " + string code + ".")

    let elements =
        filesUnder results
        |> Seq.filter (fun f -> f.Extension = ".trx")
        |> Seq.collect (fun f -> Xml.Linq.XDocument.Load(f.FullName).Descendants())
        |> Seq.toList

    let named (name: string) =
        elements |> List.filter (fun e -> e.Name.LocalName = name)

    let attribute (name: string) (element: Xml.Linq.XElement) =
        element.Attribute(Xml.Linq.XName.Get name).Value

    let count (name: string) =
        named "Counters" |> List.sumBy (attribute name >> int)

    let skippedTests =
        named "UnitTestResult" |> List.filter (fun test -> attribute "outcome" test = "NotExecuted")

    let passed, executed, total = count "passed", count "executed", count "total"
    let failed, skipped = executed - passed, total - executed

    Console.WriteLine(string passed + " passed, " + string failed + " failed, " + string skipped + " skipped")

    for reason, tests in skippedTests |> List.groupBy _.Value.Trim() do
        Console.WriteLine("Skipped: " + (if reason = "" then "no reason given" else reason))

        for test in tests do
            Console.WriteLine("  " + attribute "testName" test)

    if code = 0 && total = 0 then
        raise (Stop(1, "No test ran."))

    code

/// Runs a script in F# Interactive on freshly built libraries, in the repository root; returns its exit code.
let private script (path: string) (arguments: string list) =
    ensure libraries

    // Compiled code is then written in place instead of through a second mapping: about 0.1 s less until a run begins.
    dotnet
        [ ("DOTNET_EnableWriteXorExecute", "0") ]
        ([ "exec"; interactive; "--optimize+"; "--quiet"; path ] @ arguments)

let private filesIn (folder: string) (pattern: string) =
    if Directory.Exists(inRoot folder) then
        Directory.GetFiles(inRoot folder, pattern)
        |> Seq.map (fun path -> folder + "/" + Path.GetFileName path)
        |> Seq.sort
        |> Seq.toList
    else
        []

/// The script of this path, or of this name in experiments/.
let private tryFindScript (path: string) =
    [ Path.GetFullPath path; inRoot path; inRoot $"experiments/{path}.fsx" ] |> List.tryFind File.Exists

let private findScript (path: string) =
    match tryFindScript path with
    | Some found when not (found.EndsWith ".fsx") ->
        refuse $"{path} is not a script: the name of one ends in .fsx."
    | Some found -> found
    | None ->
        let names = filesIn "experiments" "*.fsx"

        let hint =
            match
                near
                    (Path.GetFileNameWithoutExtension path)
                    (names |> List.map Path.GetFileNameWithoutExtension)
            with
            | [] -> "those of this repository are: " + String.Join(", ", names)
            | names -> $"did you mean {orOf names}?"

        refuse $"There is no script {path}; {hint}"

let run (path: string) (arguments: string list) = script (findScript path) arguments

/// The folder of a run: as it is given, or of the run that began last for `latest`.
let private runFolder (name: string) =
    if name <> "latest" || Directory.Exists name then
        name
    else
        let commands =
            if Directory.Exists(inRoot "logs") then
                Directory.GetFiles(inRoot "logs", "command.json", SearchOption.AllDirectories)
            else
                [||]

        if commands.Length = 0 then
            refuse "There is no run in logs yet."

        let newest = commands |> Array.maxBy File.GetLastWriteTimeUtc
        // logs/NAME/RUN/params/command.json
        let folder = Path.GetDirectoryName(Path.GetDirectoryName newest)
        Console.WriteLine("latest is " + Path.GetRelativePath(Environment.CurrentDirectory, folder))
        folder

/// What params/command.json in the folder of a run says of the script that made it.
let private scriptOf (folder: string) =
    let command = FileInfo(Path.Combine(folder, "params", "command.json"))

    if not command.Exists then
        refuse $"{folder} is not the folder of a run: it has no params/command.json."

    let broken () =
        refuse $"{command.FullName} does not say which script made the run."

    // A pipe has no length and is not waited for.
    if command.Length = 0L || command.Length > (1L <<< 20) || not (isNull command.LinkTarget) then
        broken ()

    try
        use json = Text.Json.JsonDocument.Parse(File.ReadAllText command.FullName)
        json.RootElement.GetProperty("script").GetString() |> Option.ofObj |> Option.defaultWith broken
    with
    | :? Text.Json.JsonException
    | :? InvalidOperationException
    | :? Collections.Generic.KeyNotFoundException -> broken ()

/// Whether the file lies in the folder.
let private isIn (folder: string) (path: string) =
    (Path.GetFullPath path).StartsWith(Path.GetFullPath(folder + "/"), StringComparison.Ordinal)

/// Goes on with a run: params/command.json of its folder says which script it belongs to. The folder may be somebody else's,
/// so that a script that is not this repository's own runs only if it is trusted.
let resume (folder: string) (arguments: string list) =
    let folder = runFolder folder

    match scriptOf folder with
    | "" -> refuse $"{folder} was not made by a script, so only what made it can go on with it."
    | path ->
        let trust, arguments = arguments |> List.partition ((=) "--trust")
        let script = findScript path

        let own =
            isIn root script && not (isIn (inRoot "logs") script || isIn folder script)

        if not own && trust.IsEmpty then
            refuse
                $"The run would go on with {script}, which is not one of this repository's scripts: look at it, then add --trust."

        run script ($"resume={Path.GetFullPath folder}" :: arguments)

/// Runs Distill.Scripts/NAME.fsx, which does something with the runs in a folder.
let page (name: string) (folder: string) (arguments: string list) =
    script (inRoot $"Distill.Scripts/{name}.fsx") (Path.GetFullPath(runFolder folder) :: arguments)

/// Runs Distill.Scripts/export.fsx, which writes a policy in another form.
let export (file: string) (kind: string) (target: string list) =
    script
        (inRoot "Distill.Scripts/export.fsx")
        (Path.GetFullPath file :: kind :: List.map Path.GetFullPath target)

let bench (arguments: string list) =
    ensure libraries
    ensure benchmarks
    dotnet [] (assembly benchmarks :: arguments)

/// Compiles the kernels of GPUs, or says whether the text in the repository is what their sources make.
let ptx (check: bool) =
    let target = inRoot "cuda/kernels.ptx.gz"
    let made = Path.GetTempFileName()

    try
        let compiler =
            try
                Process.Start(
                    ProcessStartInfo(
                        "clang++-19",
                        [ "@flags"; "kernels.cu"; "-o"; made ],
                        WorkingDirectory = inRoot "cuda"
                    )
                )
            with :? System.ComponentModel.Win32Exception ->
                refuse "The kernels are compiled by clang-19 (on Debian: apt-get install clang-19)."

        compiler.WaitForExit()

        if compiler.ExitCode <> 0 then
            raise (Stop(1, "The kernels did not compile; the messages are above."))

        let text = File.ReadAllText made

        if check then
            use file =
                new Compression.GZipStream(File.OpenRead target, Compression.CompressionMode.Decompress)

            use reader = new StreamReader(file)

            if reader.ReadToEnd() <> text then
                raise (
                    Stop(
                        1,
                        "cuda/kernels.ptx.gz is not what the sources make; `dotnet fsi build.fsx ptx` makes it anew."
                    )
                )
        else
            use file =
                new Compression.GZipStream(File.Create target, Compression.CompressionLevel.SmallestSize)

            use writer = new StreamWriter(file)
            writer.Write text
    finally
        File.Delete made

/// Packs the tests and the benchmark of GPUs for a machine with NVIDIA's driver and without .NET, which unpacks the file and
/// calls run.sh.
let gpu (target: string) =
    let folder = Directory.CreateTempSubdirectory("distill-gpu-").FullName
    let packed = Path.Combine(folder, "distill-gpu")
    let inside (path: string) = Path.Combine(packed, path)

    try
        exclusively (fun () ->
            restore ()

            for project in [ "tests/Distill.Core.Tests"; "benchmarks" ] do
                step
                    "publish"
                    feed.Value
                    [
                        "publish"
                        project
                        "--configuration"
                        "Release"
                        "--runtime"
                        "linux-x64"
                        "--self-contained"
                        "--output"
                        inside "bin"
                        // Tests have none of their own.
                        "-p:UseAppHost=true"
                        "-nologo"
                        "-v:quiet"
                    ])

        // What the tests look up in a checkout.
        for folder in [ "cuda"; "tests/cuda-emulator"; "tests/fixtures/raptor" ] do
            Directory.CreateDirectory(inside folder) |> ignore

            for file in filesUnder (inRoot folder) do
                file.CopyTo(inside (Path.Combine(folder, file.Name))) |> ignore

        File.Copy(inRoot "Distill.slnx", inside "Distill.slnx")
        File.Copy(inRoot "benchmarks/gpu/run.sh", inside "run.sh")

        use packing =
            Process.Start("tar", [ "-C"; folder; "-czf"; Path.GetFullPath target; "distill-gpu" ])

        packing.WaitForExit()

        if packing.ExitCode <> 0 then
            raise (Stop(1, $"tar could not write {target}."))

        let size = FileInfo(target).Length / (1L <<< 20)

        Console.WriteLine
            $"{target} ({string size} MiB): on the machine with the GPU, tar -xzf {Path.GetFileName target} && distill-gpu/run.sh"
    finally
        Directory.Delete(folder, true)

/// Executes notebooks/NAME.ipynb, or without a name all notebooks, up to the first error; executed copies and pages go to
/// logs/notebooks. A value of the form name=value stands for the one in the notebook's cell tagged `parameters`.
let notebooks (arguments: string list) =
    let values, names = arguments |> List.partition _.Contains('=')
    let found = filesIn "notebooks" "*.ipynb"
    let all = String.Join(", ", found |> List.map Path.GetFileNameWithoutExtension)

    let chosen =
        match names with
        | [] when found.IsEmpty -> refuse "The folder notebooks/ has no notebook."
        | [] -> found
        | names ->
            names
            |> List.map (fun name ->
                if List.contains $"notebooks/{name}.ipynb" found then
                    $"notebooks/{name}.ipynb"
                else
                    refuse $"There is no notebook {name}; there are: {all}")

    ensure libraries
    ensure notebookHost

    let execute (code: int) (path: string) =
        if code <> 0 then
            code
        else
            dotnet [] ([ assembly notebookHost; "run"; path; "logs/notebooks" ] @ values)

    List.fold execute 0 chosen

/// Makes the Jupyter kernel of this checkout known under the name.
let installKernel (name: string list) =
    ensure libraries
    ensure notebookHost
    dotnet [] (assembly notebookHost :: "install" :: name)

/// Resolves the versions anew. Some feeds show Paket the dependencies of a package only once it is in the package cache, so
/// that one pass finds one level: repeat until the lock stays the same.
let lockPackages () =
    restoreTools ()
    let path = inRoot "paket.lock"

    let before =
        if File.Exists path then
            Some(File.ReadAllText path)
        else
            None

    let rec settle (pass: int) (previous: string) =
        if pass > 12 then
            raise (Stop(1, "The lock still changes after 12 passes of `paket install`."))

        File.Delete path
        step $"lock, pass {string pass}" feed.Value [ "paket"; "install" ]
        let text = File.ReadAllText path

        if text = previous then text else settle (pass + 1) text

    try
        let text = settle 1 ""
        // No address of a feed is written in the repository.
        File.WriteAllText(path, text.Replace(snd feed.Value.Head, "%NUGET_SOURCE%"))
    with _ ->
        before |> Option.iter (fun text -> File.WriteAllText(path, text))
        reraise ()

/// Runs Paket in the current folder. A bare `dotnet build` calls it through this, from each project's folder at the same
/// time and with paths from there: Directory.Build.targets.
let paket (arguments: string list) =
    exclusively (fun () ->
        restoreTools ()
        stepIn Environment.CurrentDirectory "paket" feed.Value ("paket" :: arguments))

let info () =
    ensure libraries

    let simd =
        let core =
            Path.Combine(Path.GetDirectoryName(assembly libraries), "Distill.Core.dll")

        Reflection.Assembly.LoadFrom(core).GetType "Distill.Compute.Simd"

    let value (name: string) =
        try
            simd.GetProperty(name).GetValue null
        with error ->
            refuse (error.GetBaseException().Message)

    let available =
        value "Available" :?> Collections.IEnumerable |> Seq.cast<obj> |> Seq.map string

    let memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (1L <<< 20)
    Console.WriteLine("SDK      " + (output [ "--version" ])[0])
    Console.WriteLine("OS       " + RuntimeInformation.OSDescription)
    Console.WriteLine("cores    " + string Environment.ProcessorCount)
    Console.WriteLine("memory   " + string memory + " MiB")

    Console.WriteLine(
        "kernels  " + string (value "Path") + " (available: " + String.Join(", ", available) + ")"
    )

let clean () =
    let folders =
        projects ()
        |> Seq.collect (fun project -> [ project.DirectoryName + "/bin"; project.DirectoryName + "/obj" ])
        |> Seq.append [ inRoot "obj" ]

    for folder in folders |> Seq.filter Directory.Exists do
        Directory.Delete(folder, true)

let private sweepVerbs = [ "list"; "results"; "best"; "compare"; "show" ]

/// What can be called: name, arguments, purpose, and what it does: None where the arguments do not fit, else the exit code.
let private targets: (string * string * string * (string list -> int option)) list =
    let target name arguments purpose work = name, arguments, purpose, work

    let simple (work: unit -> unit) (arguments: string list) =
        if arguments.IsEmpty then
            work ()
            Some 0
        else
            None

    let tested (arguments: string list) =
        if arguments.IsEmpty then Some(test ()) else None

    let scripted (work: string -> string list -> int) (arguments: string list) =
        match arguments with
        | name :: values -> Some(work name values)
        | [] -> None

    let replayed (arguments: string list) =
        match arguments with
        | [ folder ]
        | [ folder; "--video" ] -> Some(page "replay" folder arguments.Tail)
        | _ -> None

    let exported (arguments: string list) =
        match arguments with
        | [ file; "--to"; kind ] -> Some(export file kind [])
        | [ file; "--to"; kind; "--out"; path ] -> Some(export file kind [ path ])
        | _ -> None

    let swept (arguments: string list) =
        match arguments with
        | [] -> None
        | what :: rest when List.contains what sweepVerbs ->
            scripted (fun path values -> run path ("sweep" :: what :: values)) rest
        | what :: _ :: _ when
            (tryFindScript what).IsNone && not (what.EndsWith ".fsx" || near what sweepVerbs = [])
            ->
            refuse
                $"There is no script {what} and no `sweep {what}`; did you mean sweep {orOf (near what sweepVerbs)}?"
        | _ -> scripted (fun path values -> run path ("sweep" :: values)) arguments

    let formatted (arguments: string list) =
        match arguments with
        | [ "--check" ] -> simple (fun () -> format true) []
        | _ -> simple (fun () -> format false) arguments

    let kernel (arguments: string list) =
        match arguments with
        | "install" :: ([] | [ _ ] as name) -> Some(installKernel name)
        | _ -> None

    let paketed (arguments: string list) = simple (fun () -> paket arguments) []

    [
        target "build" "" "build everything (Release)" (simple build)
        target "test" "" "check the formatting, build everything, run all tests" tested
        target "run" "SCRIPT [name=value ...]" "run a script on freshly built libraries" (scripted run)
        target
            "sweep"
            "[list|results|best|compare|show] SCRIPT [name=value,value ...]"
            "run the trials of a script"
            swept
        target
            "resume"
            "RUN_FOLDER [--trust] [name=value ...]"
            "go on with a run from its last checkpoint"
            (scripted resume)
        target "report" "FOLDER" "write the report of a run, or of a sweep, anew" (function
            | [ folder ] -> Some(page "report" folder [])
            | _ -> None)
        target "replay" "RUN_FOLDER [--video]" "write the replay of a run anew, or film it" replayed
        target
            "export"
            "FILE --to onnx|c|pt [--out PATH]"
            "write a policy for machines that have no Distill"
            exported
        target "inspect" "FILE" "say what a file holds: a policy, an encoder, episodes" (function
            | [ file ] -> Some(script (inRoot "Distill.Scripts/inspect.fsx") [ Path.GetFullPath file ])
            | _ -> None)
        target "board" "[LOGS]" "write the page that lists all runs and sweeps, logs/board.html" (function
            | [] -> Some(page "board" (inRoot "logs") [])
            | [ folder ] -> Some(page "board" folder [])
            | _ -> None)
        target
            "bench"
            "[list] [NAME ...] [--profile] [--peer=FOLDER] [--threads=1,4]"
            "measure speed beside peers, all or by name"
            (bench >> Some)
        target
            "notebooks"
            "[NAME] [name=value ...]"
            "execute notebooks, results in logs/notebooks"
            (notebooks >> Some)
        target "kernel" "install [NAME]" "make the F# kernel known to Jupyter" kernel
        target "format" "[--check]" "format the sources, or name those that are not" formatted
        target "ptx" "[--check]" "compile the kernels of GPUs, or check that they are compiled" (function
            | [] ->
                Some(
                    ptx false
                    0
                )
            | [ "--check" ] ->
                Some(
                    ptx true
                    0
                )
            | _ -> None)
        target
            "gpu"
            "[FILE]"
            "pack the tests and benchmark of GPUs for a machine without .NET"
            (fun arguments ->
                match arguments with
                | []
                | [ _ ] ->
                    gpu (List.tryHead arguments |> Option.defaultValue "distill-gpu.tar.gz")
                    Some 0
                | _ -> None)
        target "lock" "" "resolve the package versions anew" (simple (fun () -> exclusively lockPackages))
        target "paket" "ARGUMENTS" "run Paket on the package source of this machine" paketed
        target "info" "" "print the SDK, the machine and the instruction set in use" (simple info)
        target
            "clean"
            "[runs [LOGS]]"
            "delete everything that was built, or the states of finished runs"
            (function
             | [] -> simple clean []
             | [ "runs" ] -> Some(page "clean" (inRoot "logs") [])
             | [ "runs"; folder ] -> Some(page "clean" folder [])
             | _ -> None)
    ]

let private call (name: string) (arguments: string) =
    "dotnet fsi build.fsx " + (name + " " + arguments).TrimEnd()

/// More about targets, for `help TARGET`.
let private details =
    let settings =
        "SCRIPT is a path, or the name of a script in experiments/. `SCRIPT help` lists its settings with their values,\n"
        + "`help SETTING` says what one of them means. Any setting is given by its name: learning_rate=3e-4 student=mlp."

    dict
        [
            "run", settings
            "sweep",
            settings
            + "\nSeveral values make the trials: max_buffer_size=50_000,200_000 seed=0,1,2. --search asha --sampler tpe --trials 60 --min 5 searches a large space. See docs/sweeping.md."
            "resume",
            "RUN_FOLDER is one below logs/, or `latest`. The result has the bits of a run that never stopped."
            "report", "FOLDER is that of a run or of a sweep, or `latest` for the run that began last."
            "export",
            "FILE is a policy, such as logs/NAME/RUN/checkpoints/best_student.safetensors; what is written goes to exported/ beside\n"
            + "it, or to PATH. onnx: a graph of one step. c: a header in C99 for micro-controllers. pt: a checkpoint, and the Python\n"
            + "that runs it. See docs/export.md."
            "replay", "RUN_FOLDER is one below logs/, or `latest`. --video needs Chromium and ffmpeg."
        ]

let private list () =
    Console.WriteLine "dotnet fsi build.fsx TARGET, where TARGET is one of"

    for name, arguments, purpose, _ in targets do
        let call = "  " + name + " " + arguments
        // A long call has a line of its own.
        Console.WriteLine(
            if call.Length < 38 then
                call.PadRight 38 + purpose
            else
                call + "\n" + String(' ', 38) + purpose
        )

let private main (arguments: string list) =
    let find (name: string) =
        targets |> List.tryFind (fun (target, _, _, _) -> target = name)

    match arguments with
    | []
    | [ "help" ] ->
        list ()

        Console.WriteLine
            "`help TARGET` says more about one, `help SETTING` what a setting of experiments means."

        0
    | [ "help"; name ] ->
        match find name with
        | Some(_, arguments, purpose, _) ->
            Console.WriteLine(call name arguments)
            Console.WriteLine purpose

            if details.ContainsKey name then
                Console.WriteLine details[name]

            0
        | None -> script (inRoot "Distill.Scripts/help.fsx") [ name ]
    | name :: arguments ->
        match find name with
        | Some(_, expected, _, work) ->
            match work arguments with
            | Some code -> code
            | None -> refuse $"Target {name} is called so: {call name expected}"
        | None ->
            let hint =
                match near name (targets |> List.map (fun (target, _, _, _) -> target)) with
                | [] -> "`dotnet fsi build.fsx` lists them."
                | names -> $"did you mean {orOf names}?"

            refuse $"There is no target {name}; {hint}"

exit (
    try
        main (List.tail (List.ofArray fsi.CommandLineArgs))
    with Stop(code, sentence) ->
        Console.Error.WriteLine sentence
        if interrupted <> 0 then interrupted else code
)
