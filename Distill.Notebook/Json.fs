/// Reading of JSON that somebody else made, where what is missing or of another type gives the default; and writing.
module Distill.Notebook.Json

open System.Collections.Generic
open System.Text.Json
open System.Text.Json.Nodes

let private (|Text|_|) (node: JsonNode | null) =
    match node with
    | :? JsonValue as value when value.GetValueKind() = JsonValueKind.String ->
        Option.ofObj (value.GetValue<string | null>())
    | _ -> None

/// A text, or one that was split into an array of lines, as notebooks allow; otherwise empty.
let joined (node: JsonNode | null) : string =
    match node with
    | Text text -> text
    | :? JsonArray as lines ->
        let line =
            function
            | Text text -> text
            | _ -> ""

        lines |> Seq.map line |> String.concat ""
    | _ -> ""

let text (name: string) (node: JsonObject) : string =
    match node[name] with
    | Text text -> text
    | _ -> ""

let texts (name: string) (node: JsonObject) : string list =
    match node[name] with
    | :? JsonArray as items ->
        items
        |> Seq.choose (function
            | Text text -> Some text
            | _ -> None)
        |> List.ofSeq
    | _ -> []

/// The object of this name, or an empty one.
let object (name: string) (node: JsonObject) : JsonObject =
    match node[name] with
    | :? JsonObject as inner -> inner
    | _ -> JsonObject()

let integer (name: string) (node: JsonObject) : int =
    match node[name] with
    | null -> 0
    | found ->
        match System.Int32.TryParse(found.ToJsonString()) with
        | true, number -> number
        | _ -> 0

let flag (name: string) (otherwise: bool) (node: JsonObject) : bool =
    match node[name] with
    | null -> otherwise
    | found ->
        match found.GetValueKind() with
        | JsonValueKind.True -> true
        | JsonValueKind.False -> false
        | _ -> otherwise

/// The object that a text holds, or None; a text that gives a name twice holds none.
let parse (text: string) : JsonObject option =
    try
        match
            JsonNode.Parse(text, documentOptions = JsonDocumentOptions(AllowDuplicateProperties = false))
        with
        | :? JsonObject as root -> Some root
        | _ -> None
    with :? JsonException ->
        None

let node (value: 'T) : JsonNode | null = JsonSerializer.SerializeToNode value

let fields (pairs: (string * (JsonNode | null)) list) : JsonObject =
    JsonObject [ for name, value in pairs -> KeyValuePair(name, value) ]
