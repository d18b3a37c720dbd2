namespace Distill.Notebook

#nowarn "44" // ControlledExecution is marked obsolete for general use, but it alone stops code that does not cooperate.

open System
open System.Diagnostics
open System.IO
open System.Reflection
open System.Runtime
open System.Text.RegularExpressions
open System.Threading
open FSharp.Compiler.Diagnostics
open FSharp.Compiler.EditorServices
open FSharp.Compiler.Interactive.Shell
open FSharp.Compiler.Symbols
open FSharp.Compiler.Tokenization

/// One F# Interactive session in which the cells of a notebook run. It owns the console and the current folder of the
/// process until it is disposed of.
/// `folder`: where the notebook is; `#load`, `#r` and relative paths start there.
/// `emit`: receives the outputs in order; text comes in pieces collected over `interval`.
type Session(folder: string, emit: Output -> unit, interval: TimeSpan) =
    let before = Environment.CurrentDirectory, Console.In, Console.Out, Console.Error
    let queue = OutputQueue(emit, interval)

    do
        Environment.CurrentDirectory <- folder
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

    /// A cell's own name, or the path of a loaded script from the notebook's folder.
    let place (file: string) =
        if Path.IsPathRooted file then
            Path.GetRelativePath(folder, file)
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
        diagnostics
        |> Seq.distinctBy (fun d -> d.FileName, d.StartLine, d.Message)
        |> List.ofSeq

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

    /// Runs the code of a cell; gives the failure, which was also put out, if it fails or is cancelled.
    /// `name`: what errors call it.
    member _.Run(name: string, code: string, cancellation: CancellationToken) : Failure option =
        let mutable outcome: (Choice<FsiValue option, exn> * FSharpDiagnostic array) voption = ValueNone

        // ControlledExecution waits without end for a token that cannot be cancelled.
        use stop = CancellationTokenSource.CreateLinkedTokenSource cancellation

        let failure =
            try
                // What is shown of a value runs its code, too: a sequence, a property, ToHtml.
                ControlledExecution.Run(
                    (fun () ->
                        let result, diagnostics = session.EvalInteractionNonThrowing(code, name)
                        outcome <- ValueSome(result, diagnostics)

                        for warning in distinct diagnostics do
                            if warning.Severity = FSharpDiagnosticSeverity.Warning then
                                for line in describe code name warning do
                                    Console.Error.WriteLine line

                        match result with
                        | Choice1Of2(Some value) when value.ReflectionType <> typeof<unit> ->
                            queue.Add(Result(Formatting.bundle plain value.ReflectionValue))
                        | _ -> ()),
                    stop.Token
                )

                match outcome with
                | ValueSome(Choice2Of2 error, diagnostics) ->
                    match distinct diagnostics |> List.filter isError with
                    | [] -> Some(notRun error)
                    | errors -> Some(notCompiled code name errors)
                | _ -> None
            with
            | :? OperationCanceledException when cancellation.IsCancellationRequested ->
                Some
                    {
                        Name = "Interrupted"
                        Message = "The cell was interrupted."
                        Trace = [ "Interrupted" ]
                    }
            | error -> Some(notRun error)

        failure |> Option.iter (Failed >> queue.Add)
        queue.Flush()
        failure

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
            let currentFolder, input, output, errors = before
            Environment.CurrentDirectory <- currentFolder
            Console.SetIn input
            Console.SetOut output
            Console.SetError errors
