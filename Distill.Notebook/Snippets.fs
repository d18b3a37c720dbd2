/// Runs the code in documents, so that it stays true.
module Distill.Notebook.Snippets

open System
open System.IO
open System.Threading
open Markdig
open Markdig.Syntax

/// A fenced block of F#: its lines in the document, from 0, without the fences; and whether it is only compiled.
type private Block =
    {
        First: int
        Last: int
        OnlyCompiled: bool
    }

let private blocks (document: string) =
    Markdown.Parse(document).Descendants<FencedCodeBlock>()
    |> Seq.filter (fun block -> block.Info = "fsharp")
    |> Seq.map (fun block ->
        {
            First = block.Line + 1
            Last = block.Line + block.Lines.Count
            OnlyCompiled = block.Arguments = "no_run"
        })
    |> List.ofSeq

/// The document with everything but these blocks left blank, so that errors have the document's own lines.
let private only (blocks: Block list) (lines: string array) =
    lines
    |> Array.mapi (fun i line ->
        if blocks |> List.exists (fun block -> block.First <= i && i <= block.Last) then
            line
        else
            "")
    |> String.concat "\n"

/// Runs the `fsharp` blocks of a Markdown document in order, in one session in the document's folder, up to the first
/// that fails. A block whose fence says `fsharp no_run` is compiled, after the ones like it before, but not run.
/// Gives the exit code.
let run (path: string) : int =
    let console, errors = Console.Out, Console.Error

    if not (File.Exists path) then
        raise (Refused $"There is no document {path}.")

    let full = Path.GetFullPath path
    let document = File.ReadAllText(full).ReplaceLineEndings "\n"
    let lines = document.Split '\n'
    let blocks = blocks document

    use session =
        new Session(Path.GetDirectoryName full |> nonNull, ignore, TimeSpan.FromSeconds 1.0)

    let name = nonNull (Path.GetFileName path)

    let rec go (compiled: Block list) (blocks: Block list) =
        match blocks with
        | [] -> None
        | block :: rest ->
            let failure, compiled =
                if block.OnlyCompiled then
                    let compiled = compiled @ [ block ]
                    session.Check(name, only compiled lines), compiled
                else
                    session.Run(name, only [ block ] lines, CancellationToken.None), compiled

            match failure with
            | None -> go compiled rest
            | failure -> failure

    match go [] blocks with
    | None ->
        console.WriteLine $"{path}: {blocks.Length} blocks of F#"
        0
    | Some failure ->
        errors.WriteLine $"{path}: a block of F# failed."

        for line in failure.Trace do
            errors.WriteLine line

        1
