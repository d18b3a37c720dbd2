/// Runs the code in documents, so that it stays true.
module Distill.Notebook.Snippets

open System
open System.IO
open Markdig
open Markdig.Syntax

/// A fenced block of F#: its lines in the document, from 0, without the fences; and whether it is only compiled.
type private Block = { First: int; Last: int; OnlyCompiled: bool }

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

/// The document with all lines left blank but those of these blocks that are wanted, so that errors have the document's
/// own lines.
let private only (wanted: string -> bool) (blocks: Block list) (lines: string array) =
    lines
    |> Array.mapi (fun i line ->
        let inBlocks =
            blocks |> List.exists (fun block -> block.First <= i && i <= block.Last)

        if inBlocks && wanted line then line else "")
    |> String.concat "\n"

/// Whether a line tells F# Interactive what to load.
let private isDirective (line: string) = line.TrimStart().StartsWith '#'

/// Runs the `fsharp` blocks of a Markdown document in order, in one session, up to the first that fails. They are taken
/// for scripts in the folder, run in the current folder. A block whose fence says `fsharp no_run` is compiled, after the
/// ones like it before, and only what its directives name is loaded. Gives the exit code.
let run (folder: string) (path: string) : int =
    let console, errors = Console.Out, Console.Error

    if not (File.Exists path) then
        refuse $"There is no document {path}."

    let document = File.ReadAllText(path).ReplaceLineEndings "\n"
    let lines = document.Split '\n'

    use session =
        new Session(Environment.CurrentDirectory, Path.GetFullPath folder, ignore, TimeSpan.FromSeconds 1.0)

    let rec go (compiled: Block list) (blocks: Block list) =
        match blocks with
        | [] -> None
        | block :: rest ->
            let failure, compiled =
                if block.OnlyCompiled then
                    let compiled = compiled @ [ block ]

                    let failure =
                        session.Run(path, only isDirective [ block ] lines)
                        |> Option.orElseWith (fun () ->
                            session.Check(path, only (not << isDirective) compiled lines))

                    failure, compiled
                else
                    session.Run(path, only (fun _ -> true) [ block ] lines), compiled

            match failure with
            | None -> go compiled rest
            | failure -> failure

    let blocks = blocks document

    match go [] blocks with
    | None ->
        console.WriteLine $"{path}: {blocks.Length} blocks of F#"
        0
    | Some failure ->
        errors.WriteLine $"{path}: a block of F# failed."

        for line in failure.Trace do
            errors.WriteLine line

        1
