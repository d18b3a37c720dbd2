/// Notebooks as files: Jupyter's notebook format, version 4.5 (https://nbformat.readthedocs.io).
/// What this module does not know of is kept as it is.
module Distill.Notebook.NotebookFile

open System
open System.IO
open System.Text.Encodings.Web
open System.Text.Json
open System.Text.Json.Nodes
open System.Text.RegularExpressions

/// Larger files are refused.
let private maxBytes = 64L <<< 20

type Cell =
    {
        /// The cell in the notebook's tree.
        Node: JsonObject
        Source: string
        IsCode: bool
        Tags: string list
    }

type Notebook = { Path: string; Root: JsonObject; Cells: Cell list }

let private readCell (path: string) (index: int) (node: JsonNode | null) =
    match node with
    | :? JsonObject as node ->
        let isCode = Json.text "cell_type" node = "code"
        let metadata = Json.object "metadata" node

        let languages =
            [
                metadata |> Json.object "polyglot_notebook" |> Json.text "kernelName"
                metadata |> Json.object "dotnet_interactive" |> Json.text "language"
            ]

        match languages |> List.tryFind (fun language -> language <> "" && language <> "fsharp") with
        | Some language when isCode ->
            refuse $"{path}: cell {index + 1} of the file is in {language}; only fsharp can be executed."
        | _ -> ()

        {
            Node = node
            Source = (Json.joined node["source"]).ReplaceLineEndings "\n"
            IsCode = isCode
            Tags = Json.texts "tags" metadata
        }
    | _ -> refuse $"{path}: cell {index + 1} of the file is not a JSON object."

let read (path: string) : Notebook =
    if not (File.Exists path) then
        refuse $"There is no notebook {path}."

    let length = FileInfo(path).Length

    // A pipe has no length either, and reading it can wait for ever.
    if length = 0L then
        refuse $"{path} is not a notebook: it is empty, or not a plain file."

    if length > maxBytes then
        refuse $"{path} is larger than {maxBytes >>> 20} MiB: clear its outputs."

    match Json.parse (File.ReadAllText path) with
    | None -> refuse $"{path} is not a notebook: it is not a JSON object, or gives a name twice."
    | Some root ->
        match root["cells"] with
        | :? JsonArray as cells when Json.integer "nbformat" root = 4 ->
            { Path = path; Root = root; Cells = cells |> Seq.mapi (readCell path) |> List.ofSeq }
        | _ -> refuse $"{path} is not a notebook of format 4: save it with a current Jupyter."

/// A bundle as an object.
let bundle (forms: Bundle) =
    Json.fields [ for mimeType, form in forms -> mimeType, Json.node form ]

/// Name, message and trace of a failure, as they stand in files and in messages.
let failure (failure: Failure) : (string * (JsonNode | null)) list =
    [
        "ename", Json.node failure.Name
        "evalue", Json.node failure.Message
        "traceback", Json.node failure.Trace
    ]

let private output (count: int) (output: Output) : JsonObject =
    let fields (kind: string) (rest: (string * (JsonNode | null)) list) =
        Json.fields (("output_type", Json.node kind) :: rest)

    match output with
    | Written(name, text) -> fields "stream" [ "name", Json.node name; "text", Json.node text ]
    | Displayed forms -> fields "display_data" [ "data", bundle forms; "metadata", JsonObject() ]
    | Result forms ->
        fields
            "execute_result"
            [ "execution_count", Json.node count; "data", bundle forms; "metadata", JsonObject() ]
    | Failed error -> fields "error" (failure error)

/// Consecutive pieces of text in one stream as one output.
let private joinStreams (outputs: Output list) =
    let join (output: Output) (rest: Output list) =
        match output, rest with
        | Written(name, first), Written(next, second) :: rest when name = next ->
            Written(name, first + second) :: rest
        | _ -> output :: rest

    List.foldBack join outputs []

/// Forgets what an earlier execution of the cell gave.
let clearOutputs (cell: Cell) =
    cell.Node["execution_count"] <- null
    cell.Node["outputs"] <- JsonArray()

/// Notes what the execution of the cell, as number `count`, gave.
let setOutputs (cell: Cell) (count: int) (outputs: Output list) =
    cell.Node["execution_count"] <- Json.node count

    cell.Node["outputs"] <-
        JsonArray [| for one in joinStreams outputs -> output count one :> JsonNode | null |]

/// The names that the cell tagged `parameters` binds by `let`.
let private parameterNames (cell: Cell) =
    Regex.Matches(cell.Source, @"^let +(?:mutable +)?(\w+)", RegexOptions.Multiline)
    |> Seq.map _.Groups[1].Value
    |> List.ofSeq

/// The notebook with a cell after the one tagged `parameters` that gives some of its values anew, as papermill does.
/// A value is an F# expression.
let withParameters (values: (string * string) list) (notebook: Notebook) : Notebook =
    match values with
    | [] -> notebook
    | values ->
        match notebook.Cells |> List.tryFindIndex (fun cell -> List.contains "parameters" cell.Tags) with
        | None ->
            refuse
                $"{notebook.Path} has no cell tagged 'parameters', so that {fst values.Head} cannot be set."
        | Some index ->
            let known = parameterNames notebook.Cells[index]

            for name, _ in values do
                if not (List.contains name known) then
                    let names = String.Join(", ", known)
                    refuse $"{notebook.Path} has no parameter {name}; it has: {names}"

            let source =
                values |> List.map (fun (name, value) -> $"let {name} = {value}") |> String.concat "\n"

            let tags = [ "injected-parameters" ]

            let node =
                Json.fields
                    [
                        "cell_type", Json.node "code"
                        "id", Json.node "injected-parameters"
                        "metadata", Json.fields [ "tags", Json.node tags ]
                        "source", Json.node source
                    ]

            match notebook.Root["cells"] with
            | :? JsonArray as cells -> cells.Insert(index + 1, node)
            | _ -> ()

            let injected = { Node = node; Source = source; IsCode = true; Tags = tags }

            { notebook with Cells = List.insertAt (index + 1) injected notebook.Cells }

/// Replaces the file's text as a whole, or leaves the file as it was.
let writeAtomically (path: string) (content: string) =
    let temporary = path + ".part"
    File.WriteAllText(temporary, content)
    File.Move(temporary, path, true)

let private options =
    JsonSerializerOptions(
        WriteIndented = true,
        IndentSize = 1,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping
    )

let write (path: string) (notebook: Notebook) =
    writeAtomically path (notebook.Root.ToJsonString options + "\n")
