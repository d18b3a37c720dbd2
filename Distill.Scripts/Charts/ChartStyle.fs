namespace Distill

open System

/// How charts look: titles, axes, sizes, traces.
[<AutoOpen>]
module ChartStyle =
    type Chart with
        /// Settings of every trace.
        static member internal WithTraces(settings: (string * Json option) list) =
            let settings = Json.ofOptions settings

            fun (chart: GenericChart) ->
                Chart.With(
                    chart,
                    cells =
                        fun cell ->
                            { cell with
                                Series =
                                    cell.Series
                                    |> List.map (List.map (fun trace -> Json.merge trace settings))
                            }
                )

        static member withTitle(title: string) =
            fun (chart: GenericChart) -> Chart.With(chart, title = title)

        static member internal AxisStyle
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
                    |> Option.map (fun text ->
                        Json.Object [ "text", Json.Text text; "standoff", Json.Number 8. ])
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
                    yield! Chart.Info(Name, ShowLegend, Opacity)
                    "legendgroup", Option.map Json.Text LegendGroup
                ]

        static member withLineStyle(?Color: string, ?Width: float, ?Dash: string) =
            Chart.WithTraces [ "line", Some(Chart.LineStyle(Option.map Json.Text Color, Width, Dash)) ]

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
