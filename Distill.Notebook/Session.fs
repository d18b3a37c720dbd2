namespace Distill.Notebook

#nowarn "44" // ControlledExecution is marked obsolete for general use, but it alone stops code that does not cooperate.

open System
open System.Diagnostics
open System.IO
open System.Reflection
open System.Runtime
open System.Text.RegularExpressions
open System.Threading
open System.Threading.Tasks
open FSharp.Compiler.Diagnostics
open FSharp.Compiler.EditorServices
open FSharp.Compiler.Interactive.Shell
open FSharp.Compiler.Symbols
open FSharp.Compiler.Tokenization

/// Runs cells, and stops code that does not cooperate, but never the compiler: a compiler that is stopped midway can wait
/// for itself for ever. It announces its phases as activities; the one that runs compiled code is called "Run Bindings".
type private CellRunner() =
    let gate = obj ()
    let mutable source: CancellationTokenSource option = None
    let mutable requested = false
    let mutable runsCode = false
    let onCellThread = new ThreadLocal<bool>()

    let stop () =
        let found = lock gate (fun () -> if requested && runsCode then source else None)

        found |> Option.iter _.Cancel()

    /// The runtime can miss to stop code that has only just begun.
    let stopSoon () =
        Task.Delay(20).ContinueWith(fun (_: Task) -> stop ()) |> ignore

    let entered (activity: Activity) =
        if onCellThread.Value then
            lock gate (fun () -> runsCode <- (activity.OperationName = "Run Bindings"))

            if runsCode && requested then
                stopSoon ()

    let listener =
        new ActivityListener(
            ShouldListenTo = _.Name.StartsWith("fsc"),
            Sample = (fun _ -> ActivitySamplingResult.PropagationData),
            ActivityStarted = entered
        )

    do ActivitySource.AddActivityListener listener

    /// Does the work; gives what it raised: OperationCanceledException if it was stopped.
    member _.Run(work: unit -> unit) : exn option =
        let cancellation = new CancellationTokenSource()
        let mutable raised = None

        let run () =
            onCellThread.Value <- true

            try
                ControlledExecution.Run(work, cancellation.Token)
            with error ->
                raised <- Some error

        lock gate (fun () ->
            source <- Some cancellation
            requested <- false
            runsCode <- false)

        // A thread of its own: the runtime stops a thread reliably only once. Its stack is large because the compiler
        // recurses deeply on long expressions.
        let thread = Thread(run, 64 <<< 20, IsBackground = true)
        thread.Start()
        thread.Join()
        lock gate (fun () -> source <- None)
        raised

    /// Stops the work: now, or as soon as compiled code runs. Does nothing when there is no work.
    member _.Stop() =
        lock gate (fun () -> requested <- source.IsSome)
        stopSoon ()

    interface IDisposable with
        member _.Dispose() =
            listener.Dispose()
            onCellThread.Dispose()

module private Slots =
    /// Where the libraries, which cannot refer to this program, leave what stops their work.
    [<Literal>]
    let Interrupt = "distill.interrupt"

/// One F# Interactive session in which the cells of a notebook run. It owns the console and the current folder of the
/// process until it is disposed of.
/// `current`: the folder in which relative paths start.
/// `folder`: where the code is or might be; `#load` and `#r` start there.
/// `emit`: receives the outputs in order; text comes in pieces collected over `interval`.
type Session(current: string, folder: string, emit: Output -> unit, interval: TimeSpan) =
    let before = Environment.CurrentDirectory, Console.In, Console.Out, Console.Error
    let queue = OutputQueue(emit, interval)

    do
        Environment.CurrentDirectory <- current
        Console.SetIn TextReader.Null
        Console.SetOut(new CellWriter("stdout", queue))
        Console.SetError(new CellWriter("stderr", queue))

    let session =
        let settings = FSharp.Compiler.Interactive.Settings.fsi
        settings.ShowProperties <- false
        settings.PrintWidth <- 100

        FsiEvaluationSession.Create(
            FsiEvaluationSession.GetDefaultConfiguration(settings, false),
            [|
                "Distill.Notebook"
                "--nologo"
                "--noninteractive"
                "--optimize+"
                // Without these two, errors while running lose their lines.
                "--debug+"
                "--multiemit+"
                "-I:" + folder
                "-r:" + settings.GetType().Assembly.Location
            |],
            TextReader.Null,
            TextWriter.Null,
            TextWriter.Null
        )

    let runner = new CellRunner()

    let plain (value: obj) =
        session.FormatValue(value, value.GetType())

    // The session cannot refer to this program's types, so `display` goes through the AppContext.
    do
        let show (value: obj) =
            queue.Add(Displayed(Formatting.bundle plain value))

        AppContext.SetData("distill.display", Action<obj> show)

        let prelude =
            "let display (value: 'T) = (System.AppContext.GetData \"distill.display\" :?> System.Action<obj>).Invoke(box value)"

        match session.EvalInteractionNonThrowing(prelude, "prelude") with
        | Choice1Of2 _, _ -> ()
        | Choice2Of2 error, _ -> raise error

    /// A cell's own name, or the path of a loaded script from the current folder.
    let place (file: string) =
        if Path.IsPathRooted file then
            Path.GetRelativePath(current, file)
        else
            file

    let describe (code: string) (name: string) (diagnostic: FSharpDiagnostic) =
        // The compiler's own name for what it only checks.
        let own =
            diagnostic.FileName = name || Path.GetFileName diagnostic.FileName = "stdin.fsx"

        let file = if own then name else place diagnostic.FileName

        let severity =
            if diagnostic.Severity = FSharpDiagnosticSeverity.Error then
                "error"
            else
                "warning"

        let sentence =
            $"{file}, line {diagnostic.StartLine}, column {diagnostic.StartColumn + 1}: {severity} {diagnostic.ErrorNumberText}: {diagnostic.Message}"

        let lines = code.Split '\n'

        if own && diagnostic.StartLine >= 1 && diagnostic.StartLine <= lines.Length then
            [
                sentence
                "    " + lines[diagnostic.StartLine - 1]
                "    " + String(' ', diagnostic.StartColumn) + "^"
            ]
        else
            [ sentence ]

    /// The compiler often has two messages for one mistake, a few columns apart.
    let distinct (diagnostics: FSharpDiagnostic seq) =
        diagnostics |> Seq.distinctBy (fun d -> d.FileName, d.StartLine, d.Message) |> List.ofSeq

    let notCompiled (code: string) (name: string) (errors: FSharpDiagnostic list) =
        {
            Name = $"error {errors.Head.ErrorNumberText}"
            Message = errors.Head.Message
            Trace = errors |> List.collect (describe code name)
        }

    /// The places in code with known lines that the exception came through, innermost first.
    let places (error: exn) =
        [
            for frame in StackTrace(error, true).GetFrames() do
                match frame.GetFileName() with
                | null -> ()
                | file -> $"   {place file}, line {frame.GetFileLineNumber()}"
        ]

    let rec notRun (error: exn) =
        let causes =
            match error with
            | :? AggregateException as all -> List.ofSeq all.InnerExceptions
            | error ->
                match error.InnerException with
                | null -> []
                | inner -> [ inner ]

        {
            Name = error.GetType().Name
            Message = error.Message
            Trace =
                [
                    $"{error.GetType().FullName}: {error.Message}"
                    yield! places error
                    for cause in causes do
                        yield! (notRun cause).Trace
                ]
        }

    let isError (diagnostic: FSharpDiagnostic) =
        diagnostic.Severity = FSharpDiagnosticSeverity.Error

    let interrupted =
        { Name = "Interrupted"; Message = "The cell was interrupted."; Trace = [ "Interrupted" ] }

    /// Line `row` (from 1) of the text and the column in it of the character at `position`.
    let locate (code: string) (position: int) =
        let before = code.Substring(0, position)
        let start = before.LastIndexOf '\n' + 1
        let row = 1 + (before |> Seq.filter ((=) '\n') |> Seq.length)

        let line =
            match code.IndexOf('\n', position) with
            | -1 -> code.Substring start
            | stop -> code.Substring(start, stop - start)

        row, line, position - start

    /// Runs the code of a cell; gives the failure, which was also put out, if it fails or is interrupted.
    /// `name`: what errors call it.
    member _.Run(name: string, code: string) : Failure option =
        let mutable failure = None

        let work () =
            match session.EvalInteractionNonThrowing(code, name) with
            | Choice1Of2 value, diagnostics ->
                for warning in distinct diagnostics do
                    if warning.Severity = FSharpDiagnosticSeverity.Warning then
                        describe code name warning |> List.iter Console.Error.WriteLine

                // What is shown of a value runs its code, too: a sequence, a property, ToHtml.
                match value with
                | Some value when value.ReflectionType <> typeof<unit> ->
                    queue.Add(Result(Formatting.bundle plain value.ReflectionValue))
                | _ -> ()
            | Choice2Of2 error, diagnostics ->
                failure <-
                    match distinct diagnostics |> List.filter isError with
                    | [] -> Some(notRun error)
                    | errors -> Some(notCompiled code name errors)

        match runner.Run work with
        | None -> ()
        | Some(:? OperationCanceledException) -> failure <- Some interrupted
        | Some error -> failure <- Some(notRun error)

        failure |> Option.iter (Failed >> queue.Add)
        queue.Flush()
        failure

    /// Stops the cell that runs, from another thread: by force, unless its code has asked to stop by itself, to save what it
    /// has, and this is the first request.
    member _.Interrupt() =
        match AppContext.GetData Slots.Interrupt with
        | :? Func<bool> as stopsItself when stopsItself.Invoke() -> ()
        | _ -> runner.Stop()

    /// Whether the code that runs stops by itself.
    static member StopsItself() =
        not (isNull (AppContext.GetData Slots.Interrupt))

    /// Checks the code without running it; gives the failure if it would not compile.
    member _.Check(name: string, code: string) : Failure option =
        let _, results, _ = session.ParseAndCheckInteraction code

        match distinct results.Diagnostics |> List.filter isError with
        | [] -> None
        | errors -> Some(notCompiled code name errors)

    /// The names that may stand at the position, and where the name already begun there starts.
    member _.Complete(code: string, position: int) : string list * int =
        let row, line, column = locate code position
        let parsed, results, _ = session.ParseAndCheckInteraction code
        let partial = QuickParse.GetPartialLongNameEx(line, column - 1)
        let declarations = results.GetDeclarationListInfo(Some parsed, row, line, partial)

        let names =
            declarations.Items
            |> Seq.map _.NameInCode
            |> Seq.filter _.StartsWith(partial.PartialIdent, StringComparison.OrdinalIgnoreCase)
            |> Seq.distinct
            |> List.ofSeq

        names, position - partial.PartialIdent.Length

    /// Signature and documentation of the name at the position.
    member _.Inspect(code: string, position: int) : string option =
        let row, line, column = locate code position

        QuickParse.GetCompleteIdentifierIsland false line column
        |> Option.bind (fun (name, stop, _) ->
            let _, results, _ = session.ParseAndCheckInteraction code
            results.GetSymbolUseAtLocation(row, stop, line, List.ofArray (name.Split '.')))
        |> Option.map (fun found ->
            let signature, documentation =
                match found.Symbol with
                | :? FSharpMemberOrFunctionOrValue as value ->
                    $"{value.DisplayName} : {value.FullType.Format found.DisplayContext}", value.XmlDoc
                | :? FSharpField as field ->
                    $"{field.DisplayName} : {field.FieldType.Format found.DisplayContext}", field.XmlDoc
                | :? FSharpUnionCase as case ->
                    $"{case.DisplayName} : {case.ReturnType.Format found.DisplayContext}", case.XmlDoc
                | :? FSharpEntity as entity -> $"{entity.DisplayName} : {entity.AccessPath}", entity.XmlDoc
                | symbol -> symbol.FullName, FSharpXmlDoc.None

            match documentation with
            | FSharpXmlDoc.FromXmlText text ->
                let text = Regex.Replace(String.Join('\n', text.UnprocessedLines), "<[^>]*>", "")
                $"{signature}\n\n{text.Trim()}".Trim()
            | _ -> signature)

    interface IDisposable with
        member _.Dispose() =
            (session :> IDisposable).Dispose()
            (runner :> IDisposable).Dispose()
            let currentFolder, input, output, errors = before
            Environment.CurrentDirectory <- currentFolder
            Console.SetIn input
            Console.SetOut output
            Console.SetError errors
