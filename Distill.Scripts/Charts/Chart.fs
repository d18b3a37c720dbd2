namespace Distill

open System
open System.ComponentModel
open System.Diagnostics
open System.IO
open System.Text
open System.Text.Json

/// Charts by plotly.js, with the names of Plotly.NET. Data are numbers of any type, texts or dates. Colours are CSS colours;
/// left out, series get those of a palette that people with colour vision deficiencies can tell apart.
type Chart =
    static member private OfSeries(series: Json list) =
        let cell =
            {
                Series = [ series ]
                X = Json.Object []
                Y = Json.Object []
                Z = Json.Object []
                Title = ""
                Marks = []
            }

        GenericChart([ cell ], 1, "", (None, None), Json.Object [], Json.Object [])

    static member private Trace(kind: string, fields: (string * Json option) list) =
        Json.merge (Json.Object [ "type", Json.Text kind ]) (Json.ofOptions fields)

    static member private Colour(colour: string option) = Json.Text(defaultArg colour "@series")

    // Lines and points

    /// Points, lines or both. Mode: "lines", "markers", "lines+markers", "text" and combinations.
    static member Scatter
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            mode: string,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?Text: seq<string>,
            ?Color: string,
            ?LineWidth: float,
            ?LineDash: string,
            ?MarkerSize: float
        ) =
        let colour = Chart.Colour Color

        Chart.OfSeries
            [
                Chart.Trace(
                    "scatter",
                    [
                        "x", Some(Json.ofSeq x)
                        "y", Some(Json.ofSeq y)
                        "mode", Some(Json.Text mode)
                        "name", Option.map Json.Text Name
                        "showlegend", Option.map Json.Bool ShowLegend
                        "opacity", Option.map Json.Number Opacity
                        "text", Option.map Json.ofSeq Text
                        "line",
                        Some(
                            Json.ofOptions
                                [
                                    "color", Some colour
                                    "width", Some(Json.Number(defaultArg LineWidth 1.8))
                                    "dash", Option.map Json.Text LineDash
                                ]
                        )
                        "marker",
                        Some(
                            Json.ofOptions
                                [ "color", Some colour; "size", Some(Json.Number(defaultArg MarkerSize 6.)) ]
                        )
                    ]
                )
            ]

    /// A line through points in the order given. LineDash: "dash", "dot", "dashdot".
    static member Line
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            ?ShowMarkers: bool,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?Text: seq<string>,
            ?LineColor: string,
            ?LineWidth: float,
            ?LineDash: string
        ) =
        let mode =
            if defaultArg ShowMarkers false then
                "lines+markers"
            else
                "lines"

        Chart.Scatter(
            x,
            y,
            mode,
            ?Name = Name,
            ?ShowLegend = ShowLegend,
            ?Opacity = Opacity,
            ?Text = Text,
            ?Color = LineColor,
            ?LineWidth = LineWidth,
            ?LineDash = LineDash
        )

    /// A line through points (x, y).
    static member Line
        (
            xy: seq<#IConvertible * #IConvertible>,
            ?ShowMarkers: bool,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?LineColor: string,
            ?LineWidth: float,
            ?LineDash: string
        ) =
        let x, y = xy |> Seq.toArray |> Array.unzip

        Chart.Line(
            x,
            y,
            ?ShowMarkers = ShowMarkers,
            ?Name = Name,
            ?ShowLegend = ShowLegend,
            ?Opacity = Opacity,
            ?LineColor = LineColor,
            ?LineWidth = LineWidth,
            ?LineDash = LineDash
        )

    /// Points.
    static member Point
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?Text: seq<string>,
            ?MarkerColor: string,
            ?MarkerSize: float
        ) =
        Chart.Scatter(
            x,
            y,
            "markers",
            ?Name = Name,
            ?ShowLegend = ShowLegend,
            ?Opacity = Opacity,
            ?Text = Text,
            ?Color = MarkerColor,
            ?MarkerSize = MarkerSize
        )

    /// Points (x, y).
    static member Point
        (
            xy: seq<#IConvertible * #IConvertible>,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?MarkerColor: string,
            ?MarkerSize: float
        ) =
        let x, y = xy |> Seq.toArray |> Array.unzip

        Chart.Point(
            x,
            y,
            ?Name = Name,
            ?ShowLegend = ShowLegend,
            ?Opacity = Opacity,
            ?MarkerColor = MarkerColor,
            ?MarkerSize = MarkerSize
        )

    /// A line with a band around it: means over seeds with an interval.
    static member Range
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            upper: seq<#IConvertible>,
            lower: seq<#IConvertible>,
            ?Name: string,
            ?ShowLegend: bool,
            ?LineColor: string,
            ?LineWidth: float,
            ?LineDash: string
        ) =
        let x = Json.ofSeq x
        let colour = defaultArg LineColor "@series"
        let group = Name |> Option.map Json.Text

        let edge (values: Json) (fill: (string * Json option) list) =
            Chart.Trace(
                "scatter",
                [
                    "x", Some x
                    "y", Some values
                    "mode", Some(Json.Text "lines")
                    "line", Some(Json.Object [ "width", Json.Number 0.; "color", Json.Text colour ])
                    "hoverinfo", Some(Json.Text "skip")
                    "showlegend", Some(Json.Bool false)
                    "legendgroup", group
                ]
                @ fill
            )

        // plotly.js itself makes another colour half transparent.
        let band =
            if colour.StartsWith '@' then
                Some(Json.Text(Theme.faded 0.18 colour))
            else
                None

        let line =
            Chart.Trace(
                "scatter",
                [
                    "x", Some x
                    "y", Some(Json.ofSeq y)
                    "mode", Some(Json.Text "lines")
                    "name", group
                    "legendgroup", group
                    "showlegend", Option.map Json.Bool ShowLegend
                    "line",
                    Some(
                        Json.ofOptions
                            [
                                "color", Some(Json.Text colour)
                                "width", Some(Json.Number(defaultArg LineWidth 1.8))
                                "dash", Option.map Json.Text LineDash
                            ]
                    )
                ]
            )

        Chart.OfSeries
            [
                edge (Json.ofSeq lower) []
                edge (Json.ofSeq upper) [ "fill", Some(Json.Text "tonexty"); "fillcolor", band ]
                line
            ]

    // Bars and distributions

    static member private Bars
        (orientation: string, values: Json, keys: Json option, name, showLegend, opacity, colour, text)
        =
        let value, key = if orientation = "v" then "y", "x" else "x", "y"

        Chart.OfSeries
            [
                Chart.Trace(
                    "bar",
                    [
                        value, Some values
                        key, keys
                        "orientation", Some(Json.Text orientation)
                        "name", Option.map Json.Text name
                        "showlegend", Option.map Json.Bool showLegend
                        "opacity", Option.map Json.Number opacity
                        "text", Option.map Json.ofSeq text
                        "marker", Some(Json.Object [ "color", Chart.Colour colour ])
                    ]
                )
            ]

    /// Vertical bars.
    static member Column
        (
            values: seq<#IConvertible>,
            ?Keys: seq<string>,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?MarkerColor: string,
            ?MultiText: seq<string>
        ) =
        Chart.Bars(
            "v",
            Json.ofSeq values,
            Option.map Json.ofSeq Keys,
            Name,
            ShowLegend,
            Opacity,
            MarkerColor,
            MultiText
        )

    /// Horizontal bars.
    static member Bar
        (
            values: seq<#IConvertible>,
            ?Keys: seq<string>,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?MarkerColor: string,
            ?MultiText: seq<string>
        ) =
        Chart.Bars(
            "h",
            Json.ofSeq values,
            Option.map Json.ofSeq Keys,
            Name,
            ShowLegend,
            Opacity,
            MarkerColor,
            MultiText
        )

    /// Counts in bins. HistNorm: "percent", "probability", "density".
    static member Histogram
        (
            data: seq<#IConvertible>,
            ?NBinsX: int,
            ?HistNorm: string,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?MarkerColor: string
        ) =
        Chart.OfSeries
            [
                Chart.Trace(
                    "histogram",
                    [
                        "x", Some(Json.ofSeq data)
                        "nbinsx", NBinsX |> Option.map (float >> Json.Number)
                        "histnorm", Option.map Json.Text HistNorm
                        "name", Option.map Json.Text Name
                        "showlegend", Option.map Json.Bool ShowLegend
                        "opacity", Option.map Json.Number Opacity
                        "marker", Some(Json.Object [ "color", Chart.Colour MarkerColor ])
                    ]
                )
            ]

    static member private Spread(kind: string, y: Json, x: Json option, name, showLegend, colour, own) =
        let colour = Chart.Colour colour

        Chart.OfSeries
            [
                Chart.Trace(
                    kind,
                    [
                        "y", Some y
                        "x", x
                        "name", Option.map Json.Text name
                        // Without groups the name stands below the box.
                        "showlegend", Some(Json.Bool(defaultArg showLegend (Option.isSome x)))
                        "marker", Some(Json.Object [ "color", colour; "size", Json.Number 4. ])
                        "line", Some(Json.Object [ "width", Json.Number 1.5 ])
                    ]
                    @ own
                )
            ]

    /// Median, quartiles and whiskers. X: the group of each value. BoxPoints: "all", "outliers", "false".
    static member BoxPlot
        (
            Y: seq<#IConvertible>,
            ?X: seq<string>,
            ?Name: string,
            ?ShowLegend: bool,
            ?MarkerColor: string,
            ?BoxPoints: string
        ) =
        Chart.Spread(
            "box",
            Json.ofSeq Y,
            Option.map Json.ofSeq X,
            Name,
            ShowLegend,
            MarkerColor,
            [
                "boxpoints",
                BoxPoints
                |> Option.map (fun points ->
                    if points = "false" then
                        Json.Bool false
                    else
                        Json.Text points)
            ]
        )

    /// Estimated densities with a box inside. X: the group of each value.
    static member Violin
        (Y: seq<#IConvertible>, ?X: seq<string>, ?Name: string, ?ShowLegend: bool, ?MarkerColor: string)
        =
        Chart.Spread(
            "violin",
            Json.ofSeq Y,
            Option.map Json.ofSeq X,
            Name,
            ShowLegend,
            MarkerColor,
            [ "box", Some(Json.Object [ "visible", Json.Bool true ]); "points", Some(Json.Bool false) ]
        )

    // Functions of two variables, `zData` row by row from the bottom

    static member private Field
        (
            kind: string,
            zData: seq<#seq<#IConvertible>>,
            x: Json option,
            y: Json option,
            colorScale,
            showScale,
            own
        ) =
        let rows = zData |> Seq.map (fun row -> Json.ofSeq row) |> Seq.toList

        Chart.OfSeries
            [
                Chart.Trace(
                    kind,
                    [
                        "z", Some(Json.List rows)
                        "x", x
                        "y", y
                        "colorscale", Some(defaultArg colorScale (Json.Text "Viridis"))
                        "showscale", Option.map Json.Bool showScale
                        "colorbar",
                        Some(Json.Object [ "outlinewidth", Json.Number 0.; "thickness", Json.Number 12. ])
                    ]
                    @ own
                )
            ]

    /// Colours of cells with texts: as ordered as Viridis, and each light enough for `TextOnCells`.
    static member internal CellScale = [ "#7c8fe0"; "#35a7b5"; "#52c78a"; "#a8dc4f"; "#fde725" ]

    static member internal TextOnCells = "#14181b"

    /// Coloured cells. Columns and rows are named by `X` and `Y`. With texts and no scale of your own, the colours are those
    /// on which texts can be read.
    static member Heatmap
        (
            zData: seq<#seq<#IConvertible>>,
            ?X: seq<#IConvertible>,
            ?Y: seq<#IConvertible>,
            ?ColorScale: string,
            ?ShowScale: bool,
            ?ZText: string
        ) =
        // Plotly's own choice of dark or light text has a contrast below 4 on the middle of Viridis.
        let scale, font =
            match ColorScale, ZText with
            | None, Some _ ->
                let last = float (Chart.CellScale.Length - 1)

                let stops =
                    Chart.CellScale
                    |> List.mapi (fun i colour -> Json.List [ Json.Number(float i / last); Json.Text colour ])

                Some(Json.List stops), Some(Json.Object [ "color", Json.Text Chart.TextOnCells ])
            | _ -> Option.map Json.Text ColorScale, None

        Chart.Field(
            "heatmap",
            zData,
            Option.map Json.ofSeq X,
            Option.map Json.ofSeq Y,
            scale,
            ShowScale,
            [
                "texttemplate", Option.map Json.Text ZText
                "textfont", font
                "xgap", Some(Json.Number 1.)
                "ygap", Some(Json.Number 1.)
            ]
        )

    /// Lines of equal value.
    static member Contour
        (
            zData: seq<#seq<#IConvertible>>,
            ?X: seq<#IConvertible>,
            ?Y: seq<#IConvertible>,
            ?ColorScale: string,
            ?ShowScale: bool
        ) =
        Chart.Field(
            "contour",
            zData,
            Option.map Json.ofSeq X,
            Option.map Json.ofSeq Y,
            Option.map Json.Text ColorScale,
            ShowScale,
            []
        )

    /// A surface above the plane.
    static member Surface
        (
            zData: seq<#seq<#IConvertible>>,
            ?X: seq<#IConvertible>,
            ?Y: seq<#IConvertible>,
            ?ColorScale: string,
            ?ShowScale: bool
        ) =
        Chart.Field(
            "surface",
            zData,
            Option.map Json.ofSeq X,
            Option.map Json.ofSeq Y,
            Option.map Json.Text ColorScale,
            ShowScale,
            []
        )

    // Space

    /// Points, lines or both in space. Mode as in `Scatter`.
    static member Scatter3D
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            z: seq<#IConvertible>,
            mode: string,
            ?Name: string,
            ?ShowLegend: bool,
            ?Opacity: float,
            ?Color: string,
            ?LineWidth: float,
            ?MarkerSize: float
        ) =
        let colour = Chart.Colour Color

        Chart.OfSeries
            [
                Chart.Trace(
                    "scatter3d",
                    [
                        "x", Some(Json.ofSeq x)
                        "y", Some(Json.ofSeq y)
                        "z", Some(Json.ofSeq z)
                        "mode", Some(Json.Text mode)
                        "name", Option.map Json.Text Name
                        "showlegend", Option.map Json.Bool ShowLegend
                        "opacity", Option.map Json.Number Opacity
                        "line",
                        Some(Json.Object [ "color", colour; "width", Json.Number(defaultArg LineWidth 4.) ])
                        "marker",
                        Some(Json.Object [ "color", colour; "size", Json.Number(defaultArg MarkerSize 3.) ])
                    ]
                )
            ]

    /// Points in space.
    static member Point3D
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            z: seq<#IConvertible>,
            ?Name: string,
            ?ShowLegend: bool,
            ?MarkerColor: string,
            ?MarkerSize: float
        ) =
        Chart.Scatter3D(
            x,
            y,
            z,
            "markers",
            ?Name = Name,
            ?ShowLegend = ShowLegend,
            ?Color = MarkerColor,
            ?MarkerSize = MarkerSize
        )

    /// A line in space.
    static member Line3D
        (
            x: seq<#IConvertible>,
            y: seq<#IConvertible>,
            z: seq<#IConvertible>,
            ?Name: string,
            ?ShowLegend: bool,
            ?LineColor: string,
            ?LineWidth: float
        ) =
        Chart.Scatter3D(
            x,
            y,
            z,
            "lines",
            ?Name = Name,
            ?ShowLegend = ShowLegend,
            ?Color = LineColor,
            ?LineWidth = LineWidth
        )

    /// Many variables side by side, a line per item: `[ "max_buffer_size", sizes; "return", returns ]`. Texts are put in
    /// the order in which they first occur. Color: a value per item.
    static member ParallelCoord
        (keyValues: seq<string * #seq<#IConvertible>>, ?Color: seq<#IConvertible>, ?ColorScale: string)
        =
        let dimension (name: string, values: seq<#IConvertible>) =
            match Json.ofSeq values with
            | Json.List texts ->
                let distinct = List.distinct texts

                let places =
                    texts |> List.map (fun text -> float (List.findIndex ((=) text) distinct))

                Json.Object
                    [
                        "label", Json.Text name
                        "values", Json.Numbers(Array.ofList places)
                        "tickvals", Json.Numbers(Array.init distinct.Length float)
                        "ticktext", Json.List distinct
                    ]
            | numbers -> Json.Object [ "label", Json.Text name; "values", numbers ]

        Chart.Parallel(keyValues |> Seq.map dimension |> Seq.toList, Option.map Json.ofSeq Color, ColorScale)

    static member private Parallel(dimensions: Json list, color: Json option, colorScale: string option) =
        let line =
            match color with
            | Some values ->
                Json.Object
                    [
                        "color", values
                        "colorscale", Json.Text(defaultArg colorScale "Viridis")
                        "showscale", Json.Bool true
                        "colorbar",
                        Json.Object [ "outlinewidth", Json.Number 0.; "thickness", Json.Number 12. ]
                    ]
            | None -> Json.Object [ "color", Json.Text "@series" ]

        Chart.OfSeries
            [
                Chart.Trace(
                    "parcoords",
                    [
                        "dimensions", Some(Json.List dimensions)
                        "line", Some line
                        "labelfont", Some(Json.Object [ "size", Json.Number 13. ])
                    ]
                )
            ]
        |> Chart.withLayout
            [
                "margin",
                Json.Object
                    [ "l", Json.Number 60.; "r", Json.Number 40.; "t", Json.Number 60.; "b", Json.Number 24. ]
            ]

    /// `ParallelCoord` of axes with marks of their own: name, a place per item, and places with texts; no marks for the
    /// usual ones.
    static member internal ParallelAxes
        (axes: (string * float[] * (float * string) list) list, color: seq<#IConvertible>)
        =
        let dimension (name: string, values: float[], marks: (float * string) list) =
            let places, texts = List.unzip marks

            Json.ofOptions
                [
                    "label", Some(Json.Text name)
                    "values", Some(Json.Numbers values)
                    "tickvals",
                    (if marks.IsEmpty then
                         None
                     else
                         Some(Json.Numbers(Array.ofList places)))
                    "ticktext", (if marks.IsEmpty then None else Some(Json.ofSeq texts))
                ]

        Chart.Parallel(List.map dimension axes, Some(Json.ofSeq color), None)

    // Several charts

    /// One coordinate system with the series of all. Settings of later charts win.
    static member combine(charts: seq<GenericChart>) =
        let charts = List.ofSeq charts

        if charts.IsEmpty then
            raise (DistillException "Chart.combine was given no charts; it needs at least one.")

        if charts |> List.exists (fun chart -> chart.Cells.Length > 1) then
            raise (
                DistillException
                    "Chart.combine was given a grid; combine the charts first and then make the grid."
            )

        let join (a: Cell) (b: Cell) =
            {
                Series = a.Series @ b.Series
                X = Json.merge a.X b.X
                Y = Json.merge a.Y b.Y
                Z = Json.merge a.Z b.Z
                Title = if b.Title = "" then a.Title else b.Title
                Marks = a.Marks @ b.Marks
            }

        let last (choose: GenericChart -> 'T option) =
            charts |> List.rev |> List.tryPick choose

        GenericChart(
            [ charts |> List.map _.Cells.Head |> List.reduce join ],
            1,
            last (fun chart -> if chart.Title = "" then None else Some chart.Title) |> Option.defaultValue "",
            (last (fun chart -> fst chart.Size), last (fun chart -> snd chart.Size)),
            charts |> List.map _.Layout |> List.reduce Json.merge,
            charts |> List.map _.Config |> List.reduce Json.merge
        )

    /// Charts side by side, row by row; their titles become titles of the cells.
    static member Grid(nRows: int, nCols: int) =
        fun (charts: #seq<GenericChart>) ->
            let charts = List.ofSeq charts

            if charts.Length > nRows * nCols || charts.IsEmpty then
                raise (
                    DistillException
                        $"Chart.Grid({nRows}, {nCols}) was given {charts.Length} charts; it takes 1 to {nRows * nCols}."
                )

            let cell (chart: GenericChart) =
                match chart.Cells with
                | [ cell ] -> { cell with Title = chart.Title }
                | _ -> raise (DistillException "Chart.Grid was given a grid; a grid cannot hold another.")

            GenericChart(List.map cell charts, nCols, "", (None, None), Json.Object [], Json.Object [])

    // Settings

    static member private With
        (
            chart: GenericChart,
            ?cells: Cell -> Cell,
            ?title: string,
            ?size: int option * int option,
            ?layout: Json,
            ?config: Json
        ) =
        GenericChart(
            chart.Cells |> List.map (defaultArg cells id),
            chart.Columns,
            defaultArg title chart.Title,
            defaultArg size chart.Size,
            Json.merge chart.Layout (defaultArg layout (Json.Object [])),
            Json.merge chart.Config (defaultArg config (Json.Object []))
        )

    /// Settings of every trace.
    static member private WithTraces(settings: (string * Json option) list) =
        let settings = Json.ofOptions settings

        fun (chart: GenericChart) ->
            Chart.With(
                chart,
                cells =
                    fun cell ->
                        { cell with
                            Series =
                                cell.Series |> List.map (List.map (fun trace -> Json.merge trace settings))
                        }
            )

    static member withTitle(title: string) =
        fun (chart: GenericChart) -> Chart.With(chart, title = title)

    static member private AxisStyle
        (
            titleText: string option,
            minMax: (float * float) option,
            axisType,
            showGrid,
            tickFormat,
            tick0,
            dTick,
            zeroLine
        ) =
        Json.ofOptions
            [
                "title",
                titleText
                |> Option.map (fun text -> Json.Object [ "text", Json.Text text; "standoff", Json.Number 8. ])
                "range",
                minMax
                |> Option.map (fun (low, high) ->
                    // On a logarithmic axis plotly.js counts in powers of ten.
                    let place = if axisType = Some "log" then Math.Log10 else id
                    Json.Numbers [| place low; place high |])
                "type", Option.map Json.Text axisType
                "showgrid", Option.map Json.Bool showGrid
                "tickformat", Option.map Json.Text tickFormat
                "tick0", Option.map Json.Number tick0
                "dtick", Option.map Json.Number dTick
                "zeroline", Option.map Json.Bool zeroLine
            ]

    /// AxisType: "linear", "log", "date", "category". TickFormat: d3's, such as ".0%".
    static member withXAxisStyle
        (
            ?TitleText: string,
            ?MinMax: float * float,
            ?AxisType: string,
            ?ShowGrid: bool,
            ?TickFormat: string,
            ?Tick0: float,
            ?DTick: float,
            ?ZeroLine: bool
        ) =
        let style =
            Chart.AxisStyle(TitleText, MinMax, AxisType, ShowGrid, TickFormat, Tick0, DTick, ZeroLine)

        fun (chart: GenericChart) ->
            Chart.With(chart, cells = fun cell -> { cell with X = Json.merge cell.X style })

    /// As `withXAxisStyle`.
    static member withYAxisStyle
        (
            ?TitleText: string,
            ?MinMax: float * float,
            ?AxisType: string,
            ?ShowGrid: bool,
            ?TickFormat: string,
            ?Tick0: float,
            ?DTick: float,
            ?ZeroLine: bool
        ) =
        let style =
            Chart.AxisStyle(TitleText, MinMax, AxisType, ShowGrid, TickFormat, Tick0, DTick, ZeroLine)

        fun (chart: GenericChart) ->
            Chart.With(chart, cells = fun cell -> { cell with Y = Json.merge cell.Y style })

    /// The third axis of charts in space.
    static member withZAxisStyle
        (?TitleText: string, ?MinMax: float * float, ?AxisType: string, ?ShowGrid: bool)
        =
        let style =
            Chart.AxisStyle(TitleText, MinMax, AxisType, ShowGrid, None, None, None, None)

        fun (chart: GenericChart) ->
            Chart.With(chart, cells = fun cell -> { cell with Z = Json.merge cell.Z style })

    /// Pixels. Without a width a chart is as wide as its page.
    static member withSize(?Width: int, ?Height: int) =
        fun (chart: GenericChart) ->
            let width, height = chart.Size
            Chart.With(chart, size = (Option.orElse width Width, Option.orElse height Height))

    /// Any setting of plotly.js's layout: `[ "bargap", Json.Number 0.1 ]`.
    static member withLayout(settings: (string * Json) list) =
        fun (chart: GenericChart) -> Chart.With(chart, layout = Json.Object settings)

    /// Any setting of plotly.js's configuration: `[ "displayModeBar", Json.Bool false ]`.
    static member withConfig(settings: (string * Json) list) =
        fun (chart: GenericChart) -> Chart.With(chart, config = Json.Object settings)

    /// Any setting of all traces: `[ "hovertemplate", Json.Text "%{y:.3f}" ]`.
    static member withTrace(settings: (string * Json) list) =
        Chart.WithTraces(settings |> List.map (fun (name, value) -> name, Some value))

    static member withTraceInfo(?Name: string, ?ShowLegend: bool, ?Opacity: float, ?LegendGroup: string) =
        Chart.WithTraces
            [
                "name", Option.map Json.Text Name
                "showlegend", Option.map Json.Bool ShowLegend
                "opacity", Option.map Json.Number Opacity
                "legendgroup", Option.map Json.Text LegendGroup
            ]

    static member withLineStyle(?Color: string, ?Width: float, ?Dash: string) =
        Chart.WithTraces
            [
                "line",
                Some(
                    Json.ofOptions
                        [
                            "color", Option.map Json.Text Color
                            "width", Option.map Json.Number Width
                            "dash", Option.map Json.Text Dash
                        ]
                )
            ]

    static member withMarkerStyle(?Color: string, ?Size: float, ?Symbol: string) =
        Chart.WithTraces
            [
                "marker",
                Some(
                    Json.ofOptions
                        [
                            "color", Option.map Json.Text Color
                            "size", Option.map Json.Number Size
                            "symbol", Option.map Json.Text Symbol
                        ]
                )
            ]

    static member withLegend(show: bool) =
        Chart.withLayout [ "showlegend", Json.Bool show ]

    /// A dotted vertical line with words beside it: "student drives" at the switch of phases.
    static member withVerticalLine(x: #IConvertible, ?Text: string) =
        let mark = x.ToDouble null, defaultArg Text ""

        fun (chart: GenericChart) ->
            Chart.With(chart, cells = fun cell -> { cell with Marks = cell.Marks @ [ mark ] })

    // Out

    /// The chart as a page of its own that works without a network, or that loads plotly.js when asked to.
    static member saveHtml(path: string, ?PlotlyJs: PlotlyJs) =
        fun (chart: GenericChart) ->
            Page.save path (chart.ToPage(defaultArg PlotlyJs Distill.PlotlyJs.Embedded))

    /// Opens the chart in the default browser; where there is none, says where the page is.
    static member show(chart: GenericChart) =
        let path =
            Path.Combine(Path.GetTempPath(), $"distill-chart-{Guid.NewGuid():N}.html")

        Page.save path (chart.ToPage PlotlyJs.Embedded)

        try
            use _ = Process.Start(ProcessStartInfo(path, UseShellExecute = true))
            ()
        with :? Win32Exception ->
            Console.WriteLine $"The chart is in {path}"

    static member private Image
        (path: string, format: string, width: int, height: int, scale: float, dark: bool)
        =
        fun (chart: GenericChart) ->
            let page =
                Path.Combine(Path.GetTempPath(), $"distill-chart-{Guid.NewGuid():N}.html")

            Page.save page (chart.ToPage PlotlyJs.Embedded)

            try
                use browser = Browser.Start $"Saving a chart as {format.ToUpperInvariant()}"
                browser.Resize(width, height, 1., dark)
                browser.Open page

                let size =
                    JsonSerializer.Serialize
                        {| format = format; width = width; height = height; scale = scale |}

                let image = browser.Evaluate($"distill.image({size})").GetString() |> string
                let data = image.Substring(image.IndexOf ',' + 1)

                let bytes =
                    if format = "svg" then
                        Encoding.UTF8.GetBytes(Uri.UnescapeDataString data)
                    else
                        Convert.FromBase64String data

                Storage.AtomicFile.Write(path, fun stream -> stream.Write(ReadOnlySpan bytes))
            finally
                File.Delete page

    /// A picture, `Scale` pixels to a pixel of the page. Needs Chromium.
    static member savePNG(path: string, ?Width: int, ?Height: int, ?Scale: float, ?Dark: bool) =
        fun (chart: GenericChart) ->
            let width = Width |> Option.orElse chart.Width |> Option.defaultValue 800
            let height = Height |> Option.defaultValue chart.Height
            Chart.Image (path, "png", width, height, defaultArg Scale 2., defaultArg Dark false) chart

    /// A vector graphic. Needs Chromium.
    static member saveSVG(path: string, ?Width: int, ?Height: int, ?Dark: bool) =
        fun (chart: GenericChart) ->
            let width = Width |> Option.orElse chart.Width |> Option.defaultValue 800
            let height = Height |> Option.defaultValue chart.Height
            Chart.Image (path, "svg", width, height, 1., defaultArg Dark false) chart
