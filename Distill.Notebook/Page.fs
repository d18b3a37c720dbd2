/// A notebook with its outputs as a page that needs nothing else.
module Distill.Notebook.Page

open System
open System.Net
open System.Text
open System.Text.Json.Nodes
open Markdig

let private style =
    """
:root { color-scheme: light dark; --ink: light-dark(#1c1c1e, #e6e6e6); --quiet: light-dark(#6b6b70, #98989d);
  --paper: light-dark(#ffffff, #1b1c1f); --code: light-dark(#f5f5f4, #26272b); --line: light-dark(#dcdcdc, #3c3d42);
  --error: light-dark(#b3261e, #ff8a80); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1, h2, h3 { line-height: 1.25; }
pre, code { font: 0.86rem/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
pre { margin: 0.5rem 0; overflow-x: auto; }
.code { background: var(--code); border-left: 3px solid var(--line); padding: 0.6rem 0.9rem; border-radius: 3px; }
.output { margin: 0.5rem 0 1rem; overflow-x: auto; }
.output pre { color: var(--quiet); }
.output pre.stream { max-height: 20rem; overflow-y: auto; }
.output pre.error { color: var(--error); white-space: pre-wrap; }
:not(pre) > code { background: var(--code); padding: 0.1em 0.3em; border-radius: 3px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid var(--line); text-align: left; }
img, svg { max-width: 100%; }
"""

let private pipeline =
    MarkdownPipelineBuilder().UsePipeTables().UseMathematics().UseAutoLinks().Build()

let private encode (text: string) = WebUtility.HtmlEncode text

/// The richest form that a page can show.
let private form (forms: Map<string, string>) =
    let images = [ "image/png"; "image/jpeg" ]

    match forms.TryFind "text/html", forms.TryFind "image/svg+xml" with
    | Some html, _ -> html
    | None, Some svg -> svg
    | None, None ->
        match
            images |> List.tryFind forms.ContainsKey,
            forms.TryFind "text/markdown",
            forms.TryFind "text/plain"
        with
        | Some image, _, _ -> $"<img alt=\"\" src=\"data:{image};base64,{forms[image].Trim()}\">"
        | None, Some markdown, _ -> Markdown.ToHtml(markdown, pipeline)
        | None, None, Some text -> $"<pre>{encode text}</pre>"
        | None, None, None -> ""

let private output (node: JsonNode | null) =
    match node with
    | :? JsonObject as node ->
        match Json.text "output_type" node with
        | "stream" ->
            let text = encode (Json.joined node["text"])
            $"<pre class=\"stream\">{text}</pre>"
        | "error" ->
            let trace = Json.texts "traceback" node |> String.concat "\n" |> encode
            $"<pre class=\"error\">{trace}</pre>"
        | _ ->
            form (
                Map
                    [
                        for KeyValue(mimeType, value) in Json.object "data" node ->
                            mimeType, Json.joined value
                    ]
            )
    | _ -> ""

let private cell (cell: NotebookFile.Cell) =
    if cell.IsCode then
        let outputs =
            match cell.Node["outputs"] with
            | :? JsonArray as outputs when outputs.Count > 0 ->
                let shown = outputs |> Seq.map output |> String.concat "\n"
                $"<div class=\"output\">\n{shown}\n</div>\n"
            | _ -> ""

        $"<pre class=\"code\"><code>{encode cell.Source}</code></pre>\n{outputs}"
    else
        Markdown.ToHtml(cell.Source, pipeline)

let html (title: string) (notebook: NotebookFile.Notebook) =
    let page = StringBuilder()

    let line (text: string) =
        page.Append(text).Append('\n') |> ignore

    line "<!doctype html>"
    line "<html lang=\"en\">"

    line
        "<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"

    line $"<title>{encode title}</title>"
    line $"<style>{style}</style></head>"
    line "<body><main>"
    notebook.Cells |> List.iter (cell >> line)
    line "</main></body>"
    line "</html>"
    page.ToString()
