/// The notebook host as its users meet it: a program that is given files.
module Distill.Tests.NotebookTests

open System
open System.Diagnostics
open System.IO
open System.Text.Json.Nodes
open System.Text.RegularExpressions
open Xunit

let private root = RepositoryRules.root

let private fixture (name: string) =
    Path.Combine(root, "tests", "fixtures", name)

let private host =
    // Both projects are built in the same configuration.
    let configuration = DirectoryInfo(AppContext.BaseDirectory).Parent |> nonNull
    Path.Combine(root, "Distill.Notebook", "bin", configuration.Name, "net10.0", "Distill.Notebook.dll")

type private Outcome = { Code: int; Out: string; Error: string }

let private startIn
    (folder: string)
    (environment: (string * string) list)
    (program: string)
    (arguments: string list)
    =
    let start =
        ProcessStartInfo(
            program,
            arguments,
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        )

    for name, value in environment do
        start.Environment[name] <- value

    use running = Process.Start start |> nonNull
    let error = running.StandardError.ReadToEndAsync()
    let out = running.StandardOutput.ReadToEnd()

    if not (running.WaitForExit(TimeSpan.FromMinutes 3.0)) then
        running.Kill true
        failwith $"{program} did not end within three minutes."

    { Code = running.ExitCode; Out = out; Error = error.Result }

let private start = startIn root

let private run (arguments: string list) = start [] "dotnet" (host :: arguments)

let private inTemporaryFolder (test: string -> unit) =
    let folder = Directory.CreateTempSubdirectory "distill-notebooks-"

    try
        test folder.FullName
    finally
        folder.Delete true

let private execute (folder: string) (name: string) (parameters: string list) =
    run ([ "run"; fixture $"notebooks/{name}.ipynb"; folder ] @ parameters)

let private outputsOf (notebook: string) =
    let root = JsonNode.Parse(File.ReadAllText notebook) |> nonNull

    (root["cells"] |> nonNull).AsArray()
    |> Seq.map (fun cell -> cell |> nonNull)
    |> Seq.choose (fun cell ->
        match cell["outputs"] with
        | null -> None
        | outputs -> Some((nonNull cell["id"]).GetValue<string>(), outputs.ToJsonString()))
    |> Map

let private expectOutputs (cell: string) (expected: string) (outputs: Map<string, string>) =
    Assert.Equal((JsonNode.Parse expected |> nonNull).ToJsonString(), outputs[cell])

[<Fact>]
let ``a notebook is executed in order, with every kind of output`` () =
    inTemporaryFolder (fun folder ->
        let outcome = execute folder "tour" []
        Assert.Equal(("", 0), (outcome.Error, outcome.Code))
        Assert.Contains("10 cells in ", outcome.Out)
        let outputs = outputsOf (Path.Combine(folder, "tour.ipynb"))

        outputs |> expectOutputs "load" "[]"
        outputs |> expectOutputs "unit" "[]"

        outputs
        |> expectOutputs
            "arithmetic"
            """[{"output_type":"execute_result","execution_count":3,"data":{"text/plain":"12"},"metadata":{}}]"""

        outputs
        |> expectOutputs
            "order"
            """[{"output_type":"stream","name":"stdout","text":"first\n"},
                {"output_type":"display_data","data":{"text/plain":"1.0"},"metadata":{}},
                {"output_type":"stream","name":"stderr","text":"second"},
                {"output_type":"stream","name":"stdout","text":"third"},
                {"output_type":"execute_result","execution_count":4,"data":{"text/plain":"\"fourth\""},"metadata":{}}]"""

        outputs
        |> expectOutputs
            "html"
            """[{"output_type":"execute_result","execution_count":6,
                 "data":{"text/html":"<b>rich</b>","text/plain":"rich"},"metadata":{}}]"""

        outputs
        |> expectOutputs
            "convention"
            """[{"output_type":"execute_result","execution_count":7,
                 "data":{"text/html":"<i>chart</i> of returns","text/plain":"chart of returns"},"metadata":{}}]"""

        outputs
        |> expectOutputs
            "expected"
            """[{"output_type":"error","ename":"Exception","evalue":"as announced",
                 "traceback":["System.Exception: as announced","   cell 9, line 1"]}]"""

        Assert.Contains("cell 8, line 1, column 7: warning FS0025", outputs["warning"])

        // Numbers to the right, the empty option as an empty cell, text escaped.
        let table = Regex.Unescape(outputs["table"])

        Assert.Contains("<th>Name</th><th>Return</th><th>Solved</th>", table)
        Assert.Contains(">&lt;run 1&gt;</td><td style=\"text-align:right\">0.333333</td>", table)
        Assert.Contains("<td style=\"text-align:left\"></td></tr>", table)
        Assert.Contains("<td style=\"text-align:right\">3</td></tr></tbody></table>", table))

[<Fact>]
let ``the page of a notebook holds its text, code and outputs`` () =
    inTemporaryFolder (fun folder ->
        Assert.Equal(0, (execute folder "tour" []).Code)
        let page = File.ReadAllText(Path.Combine(folder, "tour.html"))
        Assert.Contains("<title>tour</title>", page)
        Assert.Contains("A tour</h1>", page)
        Assert.Contains("<pre class=\"code\"><code>let total = List.sum [ 1..iterations ]", page)
        Assert.Contains("<pre>12</pre>", page)
        Assert.Contains("<b>rich</b>", page)
        Assert.Contains("<td style=\"text-align:left\">&lt;run 1&gt;</td>", page)
        Assert.Contains("<th>a</th>", page)
        Assert.Contains("System.Exception: as announced", page)
        // It needs no network.
        Assert.DoesNotContain("http", page))

[<Fact>]
let ``parameters are given anew after the cell that binds them`` () =
    inTemporaryFolder (fun folder ->
        let outcome = execute folder "tour" [ "iterations=2 + 2" ]
        Assert.Equal(("", 0), (outcome.Error, outcome.Code))
        let outputs = outputsOf (Path.Combine(folder, "tour.ipynb"))

        outputs
        |> expectOutputs
            "arithmetic"
            """[{"output_type":"execute_result","execution_count":4,"data":{"text/plain":"20"},"metadata":{}}]"""

        let unknown = execute folder "tour" [ "iteration=4" ]
        Assert.Equal(2, unknown.Code)
        Assert.Contains("has no parameter iteration; it has: iterations, scale", unknown.Error)
        let none = execute folder "fails-to-run" [ "iterations=4" ]
        Assert.Equal(2, none.Code)
        Assert.Contains("has no cell tagged 'parameters'", none.Error))

[<Fact>]
let ``a cell that does not compile is named with line, column and caret`` () =
    inTemporaryFolder (fun folder ->
        let outcome = execute folder "fails-to-compile" []
        Assert.Equal(1, outcome.Code)
        Assert.Contains("cell 2 failed.", outcome.Error)
        Assert.Contains("cell 2, line 4, column 5: error FS0001: ", outcome.Error)
        Assert.Contains("    x + \"one\"\n        ^\n", outcome.Error)

        // The copy shows the error, and that nothing after it ran.
        let outputs = outputsOf (Path.Combine(folder, "fails-to-compile.ipynb"))
        Assert.Contains("error FS0001", outputs["bad"])
        outputs |> expectOutputs "after" "[]")

[<Fact>]
let ``a cell that fails while running is named with the lines it came through`` () =
    inTemporaryFolder (fun folder ->
        let outcome = execute folder "fails-to-run" []
        Assert.Equal(1, outcome.Code)

        Assert.EndsWith(
            "cell 2 failed.\nSystem.Exception: too large\n   cell 1, line 2\n   cell 2, line 3\n",
            outcome.Error
        ))

[<Fact>]
let ``a notebook that ends the process has not succeeded`` () =
    inTemporaryFolder (fun folder ->
        let outcome = execute folder "ends-the-process" []
        Assert.Equal(1, outcome.Code)
        Assert.Contains("cell 1 ended the process.", outcome.Error))

[<Fact>]
let ``packages and the libraries can be referred to`` () =
    inTemporaryFolder (fun folder ->
        let package = execute folder "package" []
        Assert.Equal(("", 0), (package.Error, package.Code))
        Assert.Contains("<em>a</em>", File.ReadAllText(Path.Combine(folder, "package.ipynb")))

        let libraries = execute folder "libraries" []
        Assert.Equal(("", 0), (libraries.Error, libraries.Code))
        let outputs = outputsOf (Path.Combine(folder, "libraries.ipynb"))
        Assert.Contains("\"text/html\":", outputs["chart"])

        // plotly.js comes with the first cell, and with it alone.
        if Distill.Page.canEmbed then
            Assert.Contains("packed-plotly.js", outputs["load"])
            Assert.InRange(outputs["chart"].Length, 1, 20_000)

        Assert.Contains("\"text/plain\":\"true\"", outputs["kernels"]))

[<Theory>]
[<InlineData("[]", "it is not a JSON object")>]
[<InlineData("{ \"cells\": [", "it is not a JSON object")>]
[<InlineData("{ \"nbformat\": 3, \"worksheets\": [] }", "is not a notebook of format 4")>]
[<InlineData("{ \"nbformat\": 4, \"cells\": [ 1 ] }", "cell 1 of the file is not a JSON object")>]
[<InlineData("{ \"nbformat\": 4, \"cells\": [ { \"cell_type\": \"code\", \"metadata\": { \"dotnet_interactive\": { \"language\": \"csharp\" } } } ] }",
             "cell 1 of the file is in csharp; only fsharp can be executed")>]
let ``a file that is no F# notebook is refused in a sentence`` (content: string) (sentence: string) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "input.ipynb")
        File.WriteAllText(path, content)
        let outcome = run [ "run"; path; Path.Combine(folder, "out") ]
        Assert.Equal(2, outcome.Code)
        Assert.Contains(sentence, outcome.Error)
        Assert.False(Directory.Exists(Path.Combine(folder, "out"))))

[<Fact>]
let ``code in documents runs, and errors have the document's lines`` () =
    let documents =
        [ "runs"; "fails"; "does-not-compile" ]
        |> List.map (fun name -> $"tests/fixtures/documents/{name}.md")

    let outcome = run ("check" :: "experiments" :: documents)
    Assert.Equal(1, outcome.Code)
    Assert.Contains("runs.md: 4 blocks of F#", outcome.Out)
    Assert.DoesNotContain("runs.md", outcome.Error)

    Assert.Contains(
        "System.Exception: line nine\n   tests/fixtures/documents/fails.md, line 9\n",
        outcome.Error
    )

    Assert.Contains("does-not-compile.md, line 8, column 9: error FS0039", outcome.Error)

let private readme = Path.Combine(root, "README.md")

let private guides =
    Directory.GetFiles(Path.Combine(root, "docs"), "*.md") |> List.ofArray

let private documents = readme :: guides

/// Runs documents' F# in a temporary folder, so that what it writes does not stay.
let private expectToRun (arguments: string list) =
    use place = new RunTests.Workplace()
    let assets = "assets"

    Directory.CreateSymbolicLink(place.Path assets, Path.Combine(root, assets)) |> ignore

    let outcome =
        startIn
            (place.Path ".")
            []
            "dotnet"
            (host :: "check" :: Path.Combine(root, "experiments") :: arguments)

    if outcome.Code <> 0 || outcome.Error <> "" then
        failwith $"exit code {outcome.Code}: {outcome.Error}"

[<Fact>]
let ``the F# of the guides runs`` () = expectToRun guides

[<Fact>]
let ``the F# of the README runs, here as a shorter experiment`` () =
    expectToRun [ readme; "iterations=2"; "phase1_iterations=1"; "final_episodes=50" ]

[<Fact>]
let ``the commands of the documentation exist`` () =
    let targets =
        (start [] "dotnet" [ "fsi"; Path.Combine(root, "build.fsx") ]).Out.Split '\n'
        |> Seq.filter _.StartsWith("  ")
        |> Seq.map (fun line -> line.Trim().Split(' ')[0])
        |> set

    Assert.Contains("notebooks", targets)

    let block =
        Regex(@"^```(?:bash|sh)\n(.*?)^```", RegexOptions.Multiline ||| RegexOptions.Singleline)

    let command = Regex @"^\s*dotnet fsi build\.fsx +([^\s#]+)(?: +([\w./-]+\.fsx))?"

    let wrong =
        [
            for document in documents do
                for found in block.Matches(File.ReadAllText document) do
                    for line in found.Groups[1].Value.Split '\n' do
                        let call = command.Match line
                        let target, script = call.Groups[1].Value, call.Groups[2].Value

                        if call.Success && not (targets.Contains target) then
                            $"{document}: there is no target {target}"

                        if script <> "" && not (File.Exists(Path.Combine(root, script))) then
                            $"{document}: there is no script {script}"
        ]

    Assert.Equal<string list>([], wrong)

[<Fact>]
let ``a notebook that is empty or gives a name twice is refused by a sentence`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "a.ipynb")

        for text, reason in
            [
                "", "it is empty, or not a plain file"
                """{"nbformat":4,"nbformat":4,"cells":[]}""", "gives a name twice"
                """{"nbformat":4,"cells":[{"cell_type":"code","source":"1","source":"2"}]}""",
                "gives a name twice"
            ] do
            File.WriteAllText(path, text)
            let outcome = run [ "run"; path; folder ]
            Assert.Equal(2, outcome.Code)
            Assert.Contains(reason, outcome.Error)
            Assert.Equal(1, outcome.Error.Trim().Split('\n').Length))

[<Fact>]
let ``the notebooks are committed as their README says`` () =
    let found = Directory.GetFiles(Path.Combine(root, "notebooks"), "*.ipynb")
    Assert.NotEmpty found

    for path in found do
        let notebook = JsonNode.Parse(File.ReadAllText path) |> nonNull

        let number (name: string) =
            (nonNull notebook[name]).GetValue<int>()

        Assert.Equal((path, 4, 5), (path, number "nbformat", number "nbformat_minor"))

        let cells =
            [ for cell in (nonNull notebook["cells"]).AsArray() -> (nonNull cell).AsObject() ]

        let ids = [ for cell in cells -> (nonNull cell["id"]).GetValue<string>() ]
        Assert.Equal<string list>(List.distinct ids, ids)

        let code = cells |> List.filter (fun cell -> string cell["cell_type"] = "code")

        for cell in code do
            Assert.Empty((nonNull cell["outputs"]).AsArray())
            Assert.Null cell["execution_count"]

        let text (cell: JsonObject) = (nonNull cell["source"]).ToJsonString()
        Assert.Contains("#load \\u0022../Distill.Scripts/load.fsx\\u0022", text code.Head)
        Assert.Contains("\"parameters\"", (nonNull (code[1]["metadata"])).ToJsonString())

// The kernel, driven by Jupyter's own client. Debian's packages: libzmq5 jupyter-client jupyter-nbconvert.

/// A Python that has Jupyter's client, and `jupyter nbconvert`; or why there is none.
let private jupyter =
    lazy
        (let works (program: string) (arguments: string list) =
            try
                (start [] program arguments).Code = 0
            with :? ComponentModel.Win32Exception ->
                false

         let python =
             [ "python3"; "/usr/bin/python3" ]
             |> List.tryFind (fun python -> works python [ "-c"; "import jupyter_client" ])

         match python with
         | Some python when works "jupyter" [ "nbconvert"; "--version" ] -> Ok python
         | _ ->
             Error
                 "Jupyter's client is not installed: apt-get install libzmq5 jupyter-client jupyter-nbconvert")

/// A fact about the kernel in Jupyter; skipped where Jupyter is not installed.
type JupyterFactAttribute() as this =
    inherit FactAttribute()

    do
        match jupyter.Value with
        | Ok _ -> ()
        | Error reason -> this.Skip <- reason

let private withKernel (test: string -> (string * string) list -> unit) =
    inTemporaryFolder (fun folder ->
        let environment = [ "JUPYTER_DATA_DIR", folder ]
        let installed = start environment "dotnet" [ host; "install" ]
        Assert.Equal(("", 0), (installed.Error, installed.Code))
        test folder environment)

[<JupyterFact>]
let ``the kernel serves Jupyter's client`` () =
    withKernel (fun folder environment ->
        RunTests.saveTeacher (Path.Combine(folder, "teacher.safetensors"))
        let python = jupyter.Value |> Result.defaultValue ""

        let outcome =
            start
                environment
                python
                [ fixture "notebooks/drive_kernel.py"; ".net-fsharp"; AppContext.BaseDirectory; folder ]

        Assert.Equal(("", 0), (outcome.Error, outcome.Code))
        let seen = JsonNode.Parse outcome.Out |> nonNull
        let text (name: string) = (nonNull seen[name]).ToJsonString()

        Assert.Contains("\"protocol_version\":\"5.3\"", text "info")
        Assert.Contains("""["stream",{"name":"stdout","text":"hi\n"}]""", text "value")
        Assert.Contains("""["execute_result",{"execution_count":1,"data":{"text/plain":"6"}""", text "value")
        Assert.Contains("""["display_data",{"data":{"text/plain":"{| a = 1 |}"}""", text "display")
        Assert.StartsWith("""{"iopub":[],""", text "silent")
        Assert.Contains("\"execution_count\":3", text "count")
        Assert.Contains("""["error",{"ename":"Exception","evalue":"too large",""", text "fails")
        Assert.Contains("   cell 4, line 2", text "fails")
        Assert.Contains("late", text "stream")
        Assert.Contains("""["numbers"],"cursor_start":15,"cursor_end":20""", text "complete")
        Assert.Contains("""["Head"],"cursor_start":8,"cursor_end":11""", text "members")
        Assert.Contains("numbers : int list", text "inspect")
        Assert.Contains("\"found\":false", text "unknown")
        Assert.Contains("unknown", text "is_complete")
        Assert.Contains("\"history\":[]", text "history")
        Assert.Contains("\"comms\":{}", text "comm_info")
        Assert.Equal("true", text "alive")
        Assert.Contains("\"ename\":\"Interrupted\"", text "interrupted")
        Assert.Contains("\"status\":\"aborted\"", text "waiting")
        Assert.Contains("\"ename\":\"Interrupted\"", text "interrupted_again")
        Assert.Contains("\"text/plain\":\"3\"", text "after")
        Assert.Contains("\"text/plain\":\"3\"", text "malformed")
        Assert.Contains("\"ename\":\"error FS0039\"", text "injected")
        Assert.Contains("\"text/plain\":\"1\"", text "replays")
        Assert.Contains("\"status\":\"ok\"", text "setup")
        Assert.Contains("\"status\":\"ok\"", text "run_interrupted")
        Assert.Contains("go on with: the same call with the setting", text "run_result")
        Assert.Contains("32 episodes; Stopped after iteration", text "run_result")
        Assert.Contains("\"ename\":\"error FS0039\"", text "forgotten")

        Assert.Contains(
            """["execute_result",{"execution_count":2,"data":{"text/plain":"2"}""",
            text "restarted"
        )

        Assert.Equal("true", text "ended"))

[<JupyterFact>]
let ``nbconvert executes a notebook with the outputs of the headless host`` () =
    withKernel (fun folder environment ->
        let convert =
            [
                "nbconvert"
                "--execute"
                "--to"
                "notebook"
                fixture "notebooks/tour.ipynb"
                "--output-dir"
                Path.Combine(folder, "converted")
            ]

        let converted = start environment "jupyter" convert
        Assert.True((converted.Code = 0), converted.Error)
        Assert.Equal(0, (execute folder "tour" []).Code)

        // nbconvert writes text as lines and sorts the fields.
        let normal (path: string) =
            outputsOf path
            |> Map.map (fun _ outputs ->
                [
                    for output in (JsonNode.Parse outputs |> nonNull).AsArray() do
                        let output = (nonNull output).AsObject()

                        let joined (node: JsonNode | null) =
                            match node with
                            | :? JsonArray as lines ->
                                lines
                                |> Seq.map (fun line -> (nonNull line).GetValue<string>())
                                |> String.concat ""
                            | null -> ""
                            | node -> node.ToString()

                        let data =
                            match output["data"] with
                            | :? JsonObject as data ->
                                [ for KeyValue(name, form) in data -> name, joined form ]
                            | _ -> []

                        joined output["output_type"],
                        joined output["text"],
                        joined output["traceback"],
                        set data
                ])

        Assert.Equal<Map<string, (string * string * string * Set<string * string>) list>>(
            normal (Path.Combine(folder, "tour.ipynb")),
            normal (Path.Combine(folder, "converted", "tour.ipynb"))
        ))

[<Fact>]
let ``the kernel of somebody else is not replaced`` () =
    inTemporaryFolder (fun folder ->
        let spec = Path.Combine(folder, "kernels", ".net-fsharp", "kernel.json")
        Directory.CreateDirectory(nonNull (Path.GetDirectoryName spec)) |> ignore
        File.WriteAllText(spec, """{ "display_name": ".NET (F#)" }""")

        let install arguments =
            start [ "JUPYTER_DATA_DIR", folder ] "dotnet" (host :: "install" :: arguments)

        let refused = install []
        Assert.Equal(2, refused.Code)
        Assert.Contains("Another kernel named .net-fsharp, '.NET (F#)', is in", refused.Error)
        Assert.Equal("""{ "display_name": ".NET (F#)" }""", File.ReadAllText spec)
        Assert.Equal(2, (install [ "../outside" ]).Code)
        Assert.Equal(0, (install [ "distill-fsharp" ]).Code)
        // Its own it replaces.
        Assert.Equal(0, (install [ "distill-fsharp" ]).Code))
