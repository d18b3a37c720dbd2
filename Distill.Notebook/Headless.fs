/// Executes a notebook from its first cell to its last.
module Distill.Notebook.Headless

open System
open System.Diagnostics
open System.IO
open System.Runtime.InteropServices

/// Executes the notebook in its own folder and writes NAME.ipynb and NAME.html, with the outputs, to the output folder.
/// Stops at the first cell that fails, unless the cell is tagged `raises-exception`. Gives the exit code.
let run (path: string) (outputFolder: string) (parameters: (string * string) list) : int =
    let console, errors = Console.Out, Console.Error
    let watch = Stopwatch.StartNew()
    let outputFolder = Path.GetFullPath outputFolder

    let notebook =
        NotebookFile.read (Path.GetFullPath path) |> NotebookFile.withParameters parameters

    let cells = notebook.Cells |> List.filter _.IsCode
    cells |> List.iter NotebookFile.clearOutputs
    let outputs = ResizeArray<Output>()
    let mutable current = ""

    // Code that ends the process would otherwise end it as a success.
    AppDomain.CurrentDomain.ProcessExit.Add(fun _ ->
        if current <> "" then
            errors.WriteLine $"{path}: {current} ended the process."
            Environment.ExitCode <- 1)

    let folder = nonNull (Path.GetDirectoryName notebook.Path)
    use session = new Session(folder, folder, outputs.Add, TimeSpan.FromSeconds 1.0)

    // The exit code of the signal that stopped the notebook, or 0.
    let stopped = ref 0

    let stopOn (signal: PosixSignal) (number: int) =
        PosixSignalRegistration.Create(
            signal,
            fun context ->
                context.Cancel <- true
                stopped.Value <- 128 + number

                // What stops by itself has heard the signal, too.
                if not (Session.StopsItself()) then
                    session.Interrupt()
        )

    use _ = stopOn PosixSignal.SIGHUP 1
    use _ = stopOn PosixSignal.SIGINT 2
    use _ = stopOn PosixSignal.SIGTERM 15

    let rec execute (count: int) (cells: NotebookFile.Cell list) =
        match cells with
        | [] -> None
        | cell :: rest ->
            outputs.Clear()
            current <- $"cell {count}"
            let failure = session.Run(current, cell.Source)
            current <- ""
            NotebookFile.setOutputs cell count (List.ofSeq outputs)

            match failure with
            | _ when stopped.Value <> 0 ->
                let message = "A signal stopped the notebook."
                Some(count, { Name = "Stopped"; Message = message; Trace = [ message ] })
            | Some failure when not (List.contains "raises-exception" cell.Tags) -> Some(count, failure)
            | _ -> execute (count + 1) rest

    let failed = execute 1 cells
    let name = nonNull (Path.GetFileNameWithoutExtension path)
    Directory.CreateDirectory outputFolder |> ignore
    NotebookFile.write (Path.Combine(outputFolder, name + ".ipynb")) notebook
    let page = Path.Combine(outputFolder, name + ".html")
    NotebookFile.writeAtomically page (Page.html name notebook)

    match failed with
    | None ->
        console.WriteLine $"{path}: {cells.Length} cells in {watch.Elapsed.TotalSeconds:F1} s, {page}"
        0
    | Some(count, failure) ->
        errors.WriteLine $"{path}: cell {count} failed."

        for line in failure.Trace do
            errors.WriteLine line

        if stopped.Value <> 0 then stopped.Value else 1
