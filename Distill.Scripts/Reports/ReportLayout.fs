/// What the pages of runs and of sweeps are made of: a header with the main numbers, sections of figures and tables.
module internal Distill.ReportLayout

open System

let escape = Page.escape

/// A number with as many digits as a reader needs.
let significant (value: float) = Table.Number value

let count (number: int) = significant (float number)

let percent (share: float) = significant (100. * share) + " %"

let duration (seconds: float) =
    let time = TimeSpan.FromSeconds seconds

    if time.TotalHours >= 1. then
        $"{int time.TotalHours} h {time.Minutes} min"
    elif time.TotalMinutes >= 1. then
        $"{time.Minutes} min {time.Seconds} s"
    else
        seconds.ToString "0.# s"

/// Title, a line below it, and the numbers that a reader looks for first: label, number, remark.
let header (title: string) (line: string) (numbers: (string * string * string) list) =
    let numbers =
        numbers
        |> List.map (fun (label, number, remark) ->
            $"<div><dt>{escape label}</dt><dd>{escape number}<small>{escape remark}</small></dd></div>")
        |> String.concat ""

    $"<header><h1>{escape title}</h1><p class=\"muted\">{escape line}</p><dl class=\"figures\">{numbers}</dl></header>"

/// What is wrong with all that follows.
let warnings (sentences: string list) =
    sentences
    |> List.map (fun sentence ->
        $"<p class=\"warning\" role=\"alert\"><strong>Warning:</strong> {escape sentence}</p>")
    |> String.concat ""

/// A chart, or other elements, above a caption.
let captioned (caption: string) (elements: string) =
    $"<figure>{elements}<figcaption>{escape caption}</figcaption></figure>"

let figure (caption: string, chart: GenericChart) = captioned caption (chart.ToElement())

/// A table under a heading of its own, or under none; nothing where it has no rows.
let table (heading: string) (table: Table) =
    let heading = if heading = "" then "" else $"<h3>{escape heading}</h3>"

    if table.RowCount = 0 then
        ""
    else
        $"<div>{heading}{table.ToElement()}</div>"

/// A table as wide as the page, for one with many columns.
let wideTable (content: Table) =
    "<div class=\"across\">" + table "" content + "</div>"

let namesAndValues (what: string) (pairs: (string * string) list) =
    Table(
        [ what; "value" ],
        [
            for name, value in pairs do
                [ name; value ]
        ]
    )

let private sectionOf (grid: string) (title: string) (parts: string list) =
    match String.concat "\n" parts with
    | "" -> ""
    | parts -> $"<section><h2>{escape title}</h2><div class=\"{grid}\">{parts}</div></section>"

/// Figures and tables under a heading, side by side where there is room; nothing where there are none.
let section (title: string) (parts: string list) = sectionOf "charts" title parts

/// As `section`, one below the other.
let column (title: string) (parts: string list) = sectionOf "charts column" title parts

/// A whole page that needs no network.
let page (title: string) (body: string) =
    Page.html title (Page.chartScript PlotlyJs.Embedded + Table.Script) ("<main>" + body + "</main>")
