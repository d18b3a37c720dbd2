namespace Distill

open System

/// Charts in the plane: lines, points, bars, distributions, functions of two variables, many axes side by side.
[<AutoOpen>]
module Chart2D =
    type Chart with
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

            Chart.Of(
                "scatter",
                [
                    "x", Some(Json.ofSeq x)
                    "y", Some(Json.ofSeq y)
                    "mode", Some(Json.Text mode)
                    yield! Chart.Info(Name, ShowLegend, Opacity)
                    "text", Option.map Json.ofSeq Text
                    "line", Some(Chart.LineStyle(Some colour, Some(defaultArg LineWidth 1.8), LineDash))
                    "marker",
                    Some(
                        Json.ofOptions
                            [ "color", Some colour; "size", Some(Json.Number(defaultArg MarkerSize 6.)) ]
                    )
                ]
            )

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
                            Chart.LineStyle(Some(Json.Text colour), Some(defaultArg LineWidth 1.8), LineDash)
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

        static member internal Bars
            (
                orientation: string,
                values: seq<#IConvertible>,
                keys: seq<string> option,
                name,
                showLegend,
                opacity,
                colour,
                text
            ) =
            let value, key = if orientation = "v" then "y", "x" else "x", "y"

            Chart.Of(
                "bar",
                [
                    value, Some(Json.ofSeq values)
                    key, Option.map Json.ofSeq keys
                    "orientation", Some(Json.Text orientation)
                    yield! Chart.Info(name, showLegend, opacity)
                    "text", Option.map Json.ofSeq text
                    "marker", Some(Json.Object [ "color", Chart.Colour colour ])
                ]
            )

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
            Chart.Bars("v", values, Keys, Name, ShowLegend, Opacity, MarkerColor, MultiText)

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
            Chart.Bars("h", values, Keys, Name, ShowLegend, Opacity, MarkerColor, MultiText)

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
            Chart.Of(
                "histogram",
                [
                    "x", Some(Json.ofSeq data)
                    "nbinsx", NBinsX |> Option.map (float >> Json.Number)
                    "histnorm", Option.map Json.Text HistNorm
                    yield! Chart.Info(Name, ShowLegend, Opacity)
                    "marker", Some(Json.Object [ "color", Chart.Colour MarkerColor ])
                ]
            )

        static member internal Spread
            (kind: string, y: seq<#IConvertible>, x: seq<string> option, name, showLegend, colour, own)
            =
            let colour = Chart.Colour colour

            Chart.Of(
                kind,
                [
                    "y", Some(Json.ofSeq y)
                    "x", Option.map Json.ofSeq x
                    "name", Option.map Json.Text name
                    // Without groups the name stands below the box.
                    "showlegend", Some(Json.Bool(defaultArg showLegend (Option.isSome x)))
                    "marker", Some(Json.Object [ "color", colour; "size", Json.Number 4. ])
                    "line", Some(Json.Object [ "width", Json.Number 1.5 ])
                ]
                @ own
            )

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
                Y,
                X,
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
                Y,
                X,
                Name,
                ShowLegend,
                MarkerColor,
                [ "box", Some(Json.Object [ "visible", Json.Bool true ]); "points", Some(Json.Bool false) ]
            )

        // Functions of two variables, `zData` row by row from the bottom

        static member internal Field
            (
                kind: string,
                zData: seq<#seq<#IConvertible>>,
                x: seq<#IConvertible> option,
                y: seq<#IConvertible> option,
                colorScale,
                showScale,
                own
            ) =
            let rows = zData |> Seq.map (fun row -> Json.ofSeq row) |> Seq.toList

            Chart.Of(
                kind,
                [
                    "z", Some(Json.List rows)
                    "x", Option.map Json.ofSeq x
                    "y", Option.map Json.ofSeq y
                    "colorscale", Some(defaultArg colorScale (Json.Text "Viridis"))
                    "showscale", Option.map Json.Bool showScale
                    "colorbar", Some(Chart.ColorBar)
                ]
                @ own
            )

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
                        |> List.mapi (fun i colour ->
                            Json.List [ Json.Number(float i / last); Json.Text colour ])

                    Some(Json.List stops), Some(Json.Object [ "color", Json.Text Chart.TextOnCells ])
                | _ -> Option.map Json.Text ColorScale, None

            Chart.Field(
                "heatmap",
                zData,
                X,
                Y,
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
            Chart.Field("contour", zData, X, Y, Option.map Json.Text ColorScale, ShowScale, [])

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

            Chart.Parallel(
                keyValues |> Seq.map dimension |> Seq.toList,
                Option.map Json.ofSeq Color,
                ColorScale
            )

        static member internal Parallel
            (dimensions: Json list, color: Json option, colorScale: string option)
            =
            let line =
                match color with
                | Some values ->
                    Json.Object
                        [
                            "color", values
                            "colorscale", Json.Text(defaultArg colorScale "Viridis")
                            "showscale", Json.Bool true
                            "colorbar", Chart.ColorBar
                        ]
                | None -> Json.Object [ "color", Json.Text "@series" ]

            Chart.Of(
                "parcoords",
                [
                    "dimensions", Some(Json.List dimensions)
                    "line", Some line
                    "labelfont", Some(Json.Object [ "size", Json.Number 13. ])
                ]
            )
            |> Chart.withLayout
                [
                    "margin",
                    Json.Object
                        [
                            "l", Json.Number 60.
                            "r", Json.Number 40.
                            "t", Json.Number 60.
                            "b", Json.Number 24.
                        ]
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
