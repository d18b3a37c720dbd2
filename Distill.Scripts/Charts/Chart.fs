namespace Distill

/// Charts by plotly.js, with the names of Plotly.NET. Data are numbers of any type, texts or dates. Colours are CSS colours;
/// left out, series get those of a palette that people with colour vision deficiencies can tell apart.
type Chart =
    static member internal OfSeries(series: Json list) =
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

    static member internal Trace(kind: string, fields: (string * Json option) list) =
        Json.merge (Json.Object [ "type", Json.Text kind ]) (Json.ofOptions fields)

    /// A chart of one series.
    static member internal Of(kind: string, fields: (string * Json option) list) =
        Chart.OfSeries [ Chart.Trace(kind, fields) ]

    /// What the legend says of a series, and how opaque it is.
    static member internal Info(name: string option, showLegend: bool option, opacity: float option) =
        [
            "name", Option.map Json.Text name
            "showlegend", Option.map Json.Bool showLegend
            "opacity", Option.map Json.Number opacity
        ]

    static member internal LineStyle(color: Json option, width: float option, dash: string option) =
        Json.ofOptions
            [ "color", color; "width", Option.map Json.Number width; "dash", Option.map Json.Text dash ]

    static member internal ColorBar =
        Json.Object [ "outlinewidth", Json.Number 0.; "thickness", Json.Number 12. ]

    static member internal Colour(colour: string option) = Json.Text(defaultArg colour "@series")

    /// One coordinate system with the series of all. Settings of later charts win.
    static member combine(charts: seq<GenericChart>) =
        let charts = List.ofSeq charts

        if charts.IsEmpty then
            fail "Chart.combine was given no charts; it needs at least one."

        if charts |> List.exists (fun chart -> chart.Cells.Length > 1) then
            fail "Chart.combine was given a grid; combine the charts first and then make the grid."

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
                fail
                    $"Chart.Grid({nRows}, {nCols}) was given {charts.Length} charts; it takes 1 to {nRows * nCols}."

            let cell (chart: GenericChart) =
                match chart.Cells with
                | [ cell ] -> { cell with Title = chart.Title }
                | _ -> fail "Chart.Grid was given a grid; a grid cannot hold another."

            GenericChart(List.map cell charts, nCols, "", (None, None), Json.Object [], Json.Object [])

    static member internal With
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
