namespace Distill

open System
open System.Diagnostics
open System.Threading

/// How charts are shown when nothing else is said; scripts may change it.
type Defaults() =
    /// Where a chart in a notebook has plotly.js from. `PlotlyJs.Embedded`: each chart holds it. `ChartLibrary.Show` sets it.
    static member val PlotlyJs = PlotlyJs.Cdn with get, set

    /// Height of a chart, pixels.
    static member val Height = 360 with get, set

/// plotly.js as a value that a notebook shows once, without anything to see; the charts of all cells then find it there.
[<TypeFormatterSource(typeof<ToHtmlFormatterSource>)>]
type ChartLibrary private () =
    member _.ToHtml() = Page.chartScript PlotlyJs.Embedded

    override _.ToString() =
        "plotly.js, for the charts of this notebook"

    /// Shows it, and leaves it out of charts from then on, where the notebook's host is Distill's and the build has it.
    /// load.fsx does so, so that notebooks hold plotly.js in the output of their first cell and need no network.
    static member Show() =
        match AppContext.GetData "distill.display" with
        | :? Action<obj> as display when Page.canEmbed ->
            display.Invoke(ChartLibrary())
            Defaults.PlotlyJs <- PlotlyJs.None
        | _ -> ()

/// One coordinate system with what is drawn in it.
type internal Cell =
    {
        /// The traces of each series, in order. Their colour "@series" becomes that of their series.
        Series: Json list list
        /// Settings of the axes.
        X: Json
        Y: Json
        Z: Json
        Title: string
        /// Vertical lines: where on the x axis, and what they say.
        Marks: (float * string) list
    }

/// What all figures have in common.
module internal FigureStyle =
    let numbers (values: float list) = Json.Numbers(Array.ofList values)
    let text (value: string) = Json.Text value
    let number (value: float) = Json.Number value

    let private clear = text "rgba(0,0,0,0)"

    let layout =
        Json.Object
            [
                "font",
                Json.Object
                    [
                        "family",
                        text
                            "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
                        "size", number 13.
                        "color", text "@ink"
                    ]
                "plot_bgcolor", clear
                "legend",
                Json.Object
                    [
                        "orientation", text "h"
                        "x", number 0.
                        "xanchor", text "left"
                        "yref", text "container"
                        "y", number 0.
                        "yanchor", text "bottom"
                        "bgcolor", clear
                    ]
                "modebar",
                Json.Object [ "bgcolor", clear; "color", text "@muted"; "activecolor", text "@ink" ]
                "hoverlabel",
                Json.Object
                    [
                        "bgcolor", text "@paper"
                        "bordercolor", text "@grid"
                        "font", Json.Object [ "color", text "@ink" ]
                    ]
            ]

    let config =
        Json.Object
            [
                "responsive", Json.Bool true
                "displaylogo", Json.Bool false
                "modeBarButtonsToRemove",
                Json.List(
                    [ "select2d"; "lasso2d"; "zoomIn2d"; "zoomOut2d"; "autoScale2d"; "sendChartToCloud" ]
                    |> List.map text
                )
            ]

    let title (words: string) =
        if words = "" then
            []
        else
            [
                "title",
                Json.Object
                    [
                        "text", text words
                        "font", Json.Object [ "size", number 15. ]
                        "x", number 0.
                        "xref", text "paper"
                        "xanchor", text "left"
                        "yref", text "container"
                        "y", number 1.
                        "yanchor", text "top"
                        "pad", Json.Object [ "t", number 10.; "b", number 8. ]
                        "automargin", Json.Bool true
                    ]
            ]

    /// plotly.js surrounds the numbers of parallel coordinates with the colour of the paper.
    let paper (traces: Json list) =
        let isParallel (trace: Json) =
            match trace with
            | Json.Object fields -> List.contains ("type", text "parcoords") fields
            | _ -> false

        "paper_bgcolor",
        (if List.exists isParallel traces then
             text "@paper"
         else
             clear)

    let axis (own: (string * Json) list) (style: Json) =
        let common =
            [
                "gridcolor", text "@grid"
                "linecolor", text "@grid"
                "tickcolor", text "@grid"
                "zerolinecolor", text "@grid"
                "zeroline", Json.Bool false
                "automargin", Json.Bool true
                "title", Json.Object [ "font", Json.Object [ "size", number 13. ] ]
            ]

        Json.merge (Json.Object(common @ own)) style

    let note (fields: (string * Json) list) =
        Json.Object(
            [
                "showarrow", Json.Bool false
                "font", Json.Object [ "size", number 12.; "color", text "@muted" ]
            ]
            @ fields
        )

open FigureStyle

/// A chart: what `Chart` makes, changes and saves. Values of it never change.
[<TypeFormatterSource(typeof<ToHtmlFormatterSource>)>]
type GenericChart
    internal
    (cells: Cell list, columns: int, title: string, size: int option * int option, layout: Json, config: Json)
    =

    let rows = (cells.Length + columns - 1) / columns
    let width, height = size

    let figureHeight =
        match height with
        | Some height -> height
        | None when rows > 1 -> rows * 280
        | None -> Defaults.Height

    let ofSeries (index: int) (trace: Json) =
        let rec replace json =
            match json with
            | Json.Text "@series" -> Json.Text(Theme.series index)
            | Json.Text text when text.StartsWith "@series/" ->
                Json.Text(Theme.series index + text.Substring "@series".Length)
            | Json.List values -> Json.List(List.map replace values)
            | Json.Object fields -> Json.Object(fields |> List.map (fun (name, value) -> name, replace value))
            | other -> other

        replace trace

    let fieldOf (name: string) (json: Json) =
        match json with
        | Json.Object fields -> fields |> List.tryFind (fst >> (=) name) |> Option.map snd
        | _ -> None

    /// "" for the first cell's axes, "2" for the second's: plotly.js counts so.
    let suffix (cell: int) =
        if cell = 0 then "" else string (cell + 1)

    /// The part of the figure that a cell takes: from left to right and from bottom to top, 0 to 1.
    let domain (cell: int) =
        let gapX, gapY = 0.09, 0.16
        let w = (1. - gapX * float (columns - 1)) / float columns
        let h = (1. - gapY * float (rows - 1)) / float rows
        let left = float (cell % columns) * (w + gapX)
        let top = 1. - float (cell / columns) * (h + gapY)
        (left, left + w), (max 0. (top - h), top)

    let place (index: int) (cell: Cell) : Json list * (string * Json) list =
        let n = suffix index
        let (left, right), (bottom, top) = domain index
        let box = Json.Object [ "x", numbers [ left; right ]; "y", numbers [ bottom; top ] ]

        let kind =
            match cell.Series |> List.concat |> List.tryPick (fieldOf "type") with
            | Some(Json.Text("scatter3d" | "surface")) -> "space"
            | Some(Json.Text "parcoords") -> "free"
            | _ -> "plane"

        let where =
            match kind with
            | "space" -> [ "scene", text ("scene" + n) ]
            | "free" -> [ "domain", box ]
            | _ -> [ "xaxis", text ("x" + n); "yaxis", text ("y" + n) ]

        let traces =
            cell.Series
            |> List.mapi (fun i series ->
                series |> List.map (fun trace -> Json.merge (ofSeries i trace) (Json.Object where)))
            |> List.concat

        let axes =
            match kind with
            | "space" ->
                let space = axis [ "backgroundcolor", text "rgba(0,0,0,0)" ]

                [
                    "scene" + n,
                    Json.Object
                        [
                            "domain", box
                            "xaxis", space cell.X
                            "yaxis", space cell.Y
                            "zaxis", space cell.Z
                            "camera",
                            Json.Object
                                [ "eye", Json.Object [ "x", number 1.6; "y", number 1.6; "z", number 1.1 ] ]
                        ]
                ]
            | "free" -> []
            | _ ->
                [
                    "xaxis" + n,
                    axis
                        [
                            "domain", numbers [ left; right ]
                            "anchor", text ("y" + n)
                            "ticks", text "outside"
                        ]
                        cell.X
                    "yaxis" + n, axis [ "domain", numbers [ bottom; top ]; "anchor", text ("x" + n) ] cell.Y
                ]

        traces, axes

    let mark (index: int) (x: float, _: string) =
        let n = suffix index

        Json.Object
            [
                "type", text "line"
                "xref", text ("x" + n)
                "yref", text ("y" + n + " domain")
                "x0", number x
                "x1", number x
                "y0", number 0.
                "y1", number 1.
                "line", Json.Object [ "color", text "@muted"; "width", number 1.; "dash", text "dot" ]
            ]

    let markNote (index: int) (x: float, words: string) =
        let n = suffix index

        note
            [
                "xref", text ("x" + n)
                "yref", text ("y" + n + " domain")
                "x", number x
                "y", number 1.
                "xanchor", text "left"
                "yanchor", text "bottom"
                "text", text words
            ]

    let cellTitle (index: int) (cell: Cell) =
        let (left, _), (_, top) = domain index

        note
            [
                "xref", text "paper"
                "yref", text "paper"
                "x", number left
                "y", number top
                "xanchor", text "left"
                "yanchor", text "bottom"
                "text", text cell.Title
                "font", Json.Object [ "size", number 13.; "color", text "@ink" ]
            ]

    /// A name gets one entry in the legend, whatever the number of cells that have it.
    let oneLegend (traces: Json list) =
        let mutable seen = Set.empty

        traces
        |> List.map (fun trace ->
            match fieldOf "name" trace, fieldOf "showlegend" trace with
            | Some(Json.Text name), (None | Some(Json.Bool true)) when cells.Length > 1 ->
                let again = seen.Contains name
                seen <- seen.Add name

                Json.merge
                    trace
                    (Json.Object [ "legendgroup", text name; "showlegend", Json.Bool(not again) ])
            | _ -> trace)

    let figure () =
        let traces, axes = cells |> List.mapi place |> List.unzip
        let traces = oneLegend (List.concat traces)

        let marks =
            cells |> List.mapi (fun i cell -> cell.Marks |> List.map (fun m -> i, m)) |> List.concat

        let titles =
            cells |> List.mapi (fun i cell -> i, cell) |> List.filter (fun (_, cell) -> cell.Title <> "")

        let named =
            traces
            |> List.filter (fun trace ->
                fieldOf "name" trace <> None && fieldOf "showlegend" trace <> Some(Json.Bool false))

        let notes =
            (marks
             |> List.filter (fun (_, (_, words)) -> words <> "")
             |> List.map (fun (i, m) -> markNote i m))
            @ (titles |> List.map (fun (i, cell) -> cellTitle i cell))

        let above = if notes.IsEmpty then 12. else 28.

        let own =
            Json.Object(
                FigureStyle.title title
                @ [
                    paper traces
                    "margin",
                    Json.Object [ "l", number 48.; "r", number 12.; "t", number above; "b", number 40. ]
                    "showlegend", Json.Bool(named.Length > 1)
                    "height", number (float figureHeight)
                    match width with
                    | Some width -> "width", number (float width)
                    | None -> ()
                    if not marks.IsEmpty then
                        "shapes", Json.List(marks |> List.map (fun (i, m) -> mark i m))
                    if not notes.IsEmpty then
                        "annotations", Json.List notes
                ]
                @ List.concat axes
            )

        Json.Object
            [
                "data", Json.List traces
                "layout", Json.merge (Json.merge FigureStyle.layout own) layout
                "config", Json.merge FigureStyle.config config
            ]

    /// Pixels that the chart needs to be readable: columns of a grid or many axes side by side do not shrink with a page,
    /// which then scrolls them.
    let leastWidth =
        let axes =
            cells
            |> List.collect _.Series
            |> List.concat
            |> List.choose (fieldOf "dimensions")
            |> List.sumBy (function
                | Json.List axes -> axes.Length
                | _ -> 0)

        if axes > 0 then 110 * (axes + 1)
        elif columns > 1 then 270 * columns
        else 0

    static let mutable made = 0

    member internal _.Cells = cells
    member internal _.Columns = columns
    member internal _.Title = title
    member internal _.Size = size
    member internal _.Layout = layout
    member internal _.Config = config

    /// Width if it is fixed (otherwise that of the page), and height, pixels.
    member _.Width = width
    member _.Height = figureHeight

    /// The figure with colours named as Theme.fs says.
    member internal _.Figure = figure ()

    /// The figure in plotly.js's own form, `{ "data": …, "layout": …, "config": … }`, in the light theme.
    member _.ToFigureJson() =
        Json.toText (Theme.resolve Theme.light (figure ()))

    /// The element that holds the chart; the page has `Page.chartScript` before it.
    member _.ToElement() =
        let id = $"chart-{Environment.ProcessId}-{Interlocked.Increment &made}"

        let fixedWidth =
            width |> Option.map (fun width -> $";width:{width}px") |> Option.defaultValue ""

        let least = if leastWidth > 0 then $";min-width:{leastWidth}px" else ""

        let element =
            $"""<div class="distill-chart" id="{id}" style="min-height:{figureHeight}px{least}{fixedWidth}"></div>"""

        (if leastWidth > 0 then
             $"""<div style="overflow-x:auto">{element}</div>"""
         else
             element)
        + $"""<script>distill.chart("{id}",{Json.toText (figure ())});</script>"""

    /// HTML for a notebook, with plotly.js as said.
    member chart.ToHtml(plotlyJs: PlotlyJs) =
        Page.chartScript plotlyJs + "\n" + chart.ToElement()

    /// HTML for a notebook, with plotly.js as `Defaults.PlotlyJs` says.
    member chart.ToHtml() = chart.ToHtml Defaults.PlotlyJs

    /// A whole page.
    member chart.ToPage(plotlyJs: PlotlyJs) =
        let name = if title = "" then "Chart" else title
        Page.html name "" ("<main>" + chart.ToHtml plotlyJs + "</main>")

    override _.ToString() =
        let series = cells |> List.sumBy _.Series.Length
        let name = if title = "" then "" else $" '{title}'"
        $"Chart{name} with {series} series"
