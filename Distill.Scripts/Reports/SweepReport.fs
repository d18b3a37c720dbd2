namespace Distill

open System
open System.Globalization
open System.IO
open Distill.ReportLayout

/// The report of a whole sweep, finished or under way: a page that holds everything and needs no network.
module SweepReport =
    /// Most configurations whose learning curves have a chart of their own.
    let private highlighted = 12

    /// Most trials of which each gets a report of its own, of 2 MB.
    let private mostReports = 50

    /// A trial as the page shows it.
    type private Row =
        {
            Trial: SweepTrial
            /// Values of the settings that vary.
            Values: string option list
        }

    let private capital (words: string) =
        string (Char.ToUpperInvariant words[0]) + words.Substring 1

    let private numbers (values: float seq) = Json.Numbers(Array.ofSeq values)

    let private texts (values: string seq) =
        Json.List [ for value in values -> Json.Text value ]

    /// Mean and interval as a sentence for a hover.
    let private interval (results: SweepResults) (values: float list) =
        let what = Measure.words results.Main
        let mean = Statistics.mean95 values

        let trials = Names.counted values.Length "trial"

        if Double.IsNaN mean.Low then
            $"{what} {significant mean.Estimate}, {trials}"
        else
            $"{what} {significant mean.Estimate} [{significant mean.Low}, {significant mean.High}], {trials}"

    // Charts of the finished trials

    /// Colours of thin lines: neither end is lost on a light or a dark page.
    let private lineScale =
        Json.List
            [
                for i, colour in List.indexed [ "#8a6fd1"; "#2b93d1"; "#1fa187"; "#6fa821"; "#d99000" ] ->
                    Json.List [ Json.Number(float i / 4.); Json.Text colour ]
            ]

    let private axes (results: SweepResults) =
        let values = results.Finished |> List.map (fun (values, _, _) -> values)
        results.Names |> List.mapi (fun i name -> SettingAxis.make name (values |> List.map (List.item i)))

    let private parallelCoordinates (results: SweepResults) (axes: SettingAxis list) =
        let trials = results.Finished

        let measure (name: string) =
            trials |> List.map (fun (_, _, result) -> Measure.shown name result[name])

        Chart.ParallelAxes(
            [
                for i, axis in List.indexed axes do
                    let values, marks =
                        SettingAxis.spread axis (trials |> List.map (fun (values, _, _) -> values[i]))

                    axis.Name, values, marks
                for name in results.Beside @ [ results.Main ] do
                    Measure.heading name, Array.ofList (measure name), []
            ],
            measure results.Main
        )
        |> Chart.withTrace [ "line", Json.Object [ "colorscale", lineScale ] ]

    let private named (axis: SettingAxis) (value: string option) = $"{axis.Name} {SettingAxis.text value}"

    /// Two settings against each other: cells where the values form a grid, else points.
    let private pair (results: SweepResults) (axes: SettingAxis list) (i: int) (j: int) : GenericChart =
        let x, y = axes[i], axes[j]

        let groups =
            results.Finished
            |> List.groupBy (fun (values, _, _) -> values[i], values[j])
            |> List.map (fun (place, trials) ->
                place, trials |> List.map (fun (_, _, result) -> result.Score))

        let hover ((a, b), returns) =
            $"{named x a}<br>{named y b}<br>{interval results returns}"

        let chart =
            if 2 * groups.Length >= x.Values.Length * y.Values.Length then
                let found = Map.ofList groups

                let cells choose =
                    [ for b in y.Values -> [ for a in x.Values -> choose (a, b) (found.TryFind(a, b)) ] ]

                Chart.Heatmap(
                    cells (fun _ returns -> returns |> Option.map List.average |> Option.defaultValue nan),
                    X = List.map SettingAxis.text x.Values,
                    Y = List.map SettingAxis.text y.Values,
                    ZText = "%{z:.4~g}"
                )
                |> Chart.withTrace
                    [
                        "hoverongaps", Json.Bool false
                        "hovertemplate", Json.Text "%{hovertext}<extra></extra>"
                        "hovertext",
                        Json.List(
                            cells (fun place returns ->
                                returns
                                |> Option.map (fun returns -> hover (place, returns))
                                |> Option.defaultValue "")
                            |> List.map texts
                        )
                    ]
                |> Chart.withXAxisStyle (TitleText = x.Name, AxisType = "category", ShowGrid = false)
                |> Chart.withYAxisStyle (TitleText = y.Name, AxisType = "category", ShowGrid = false)
            else
                Chart.Point(
                    groups |> List.map (fun ((a, _), _) -> SettingAxis.onChart x a),
                    groups |> List.map (fun ((_, b), _) -> SettingAxis.onChart y b),
                    Text = List.map hover groups
                )
                |> Chart.withTrace
                    [
                        "hovertemplate", Json.Text "%{text}<extra></extra>"
                        "marker",
                        Json.Object
                            [
                                "size", Json.Number 12.
                                "color", numbers (groups |> List.map (snd >> List.average))
                                "colorscale", Json.Text "Viridis"
                                "showscale", Json.Bool true
                                "line", Json.Object [ "width", Json.Number 1.; "color", Json.Text "@muted" ]
                                "colorbar", Chart.ColorBar
                            ]
                    ]
                |> Chart.withXAxisStyle (TitleText = x.Name, AxisType = x.Kind, TickFormat = "~g")
                |> Chart.withYAxisStyle (TitleText = y.Name, AxisType = y.Kind, TickFormat = "~g")

        chart |> Chart.withSize (Height = 420)

    /// One setting, its values against the main measure.
    let private single (results: SweepResults) (axis: SettingAxis) : GenericChart =
        let means =
            results.Variants
            |> List.map (fun (values, returns) -> values.Head, Statistics.mean95 returns, returns)

        Chart.combine
            [
                Chart.Point(
                    results.Finished |> List.map (fun (values, _, _) -> SettingAxis.onChart axis values.Head),
                    results.Finished |> List.map (fun (_, _, result) -> result.Score),
                    Name = "trial",
                    MarkerColor = "@muted/0.6",
                    MarkerSize = 5.
                )
                Chart.Point(
                    means |> List.map (fun (value, _, _) -> SettingAxis.onChart axis value),
                    means |> List.map (fun (_, mean, _) -> mean.Estimate),
                    Name = "mean over seeds",
                    Text =
                        (means
                         |> List.map (fun (value, _, returns) ->
                             $"{named axis value}<br>{interval results returns}")),
                    MarkerColor = "@0",
                    MarkerSize = 9.
                )
                |> Chart.withTrace
                    [
                        "hovertemplate", Json.Text "%{text}<extra></extra>"
                        "error_y",
                        Json.Object
                            [
                                "type", Json.Text "data"
                                "color", Json.Text "@0"
                                "array",
                                numbers (
                                    means
                                    |> List.map (fun (_, mean, _) ->
                                        if Double.IsNaN mean.High then
                                            0.
                                        else
                                            mean.High - mean.Estimate)
                                )
                            ]
                    ]
            ]
        |> Chart.withXAxisStyle (TitleText = axis.Name, AxisType = axis.Kind, TickFormat = "~g")
        |> Chart.withYAxisStyle (TitleText = Measure.words results.Main)
        |> Chart.withSize (Height = 360)

    let private options (axes: SettingAxis list) (chosen: int) =
        axes
        |> List.mapi (fun i axis ->
            let selected = if i = chosen then " selected" else ""
            $"<option value=\"{i}\"{selected}>{escape axis.Name}</option>")
        |> String.concat ""

    /// The settings against each other: with pickers where there are more than two.
    let private fields (results: SweepResults) (axes: SettingAxis list) : string list =
        let caption =
            $"Mean {Measure.words results.Main} of the trials with these values; its 95 %% interval shows on hover."

        match axes with
        | [] -> []
        | [ axis ] ->
            [
                figure (
                    $"{capital (Measure.words results.Main)}: every trial, and the mean with its 95 %% interval.",
                    single results axis
                )
            ]
        | [ _; _ ] -> [ figure (caption, pair results axes 0 1) ]
        | _ ->
            let figures =
                Json.List
                    [
                        for i in 0 .. axes.Length - 1 ->
                            Json.List
                                [
                                    for j in 0 .. axes.Length - 1 ->
                                        if i = j then Json.Null else (pair results axes i j).Figure
                                ]
                    ]

            [
                captioned
                    (caption + " The other settings vary within a cell.")
                    ($"<p class=\"pickers\"><label>Horizontal <select id=\"field-x\">{options axes 0}</select></label> "
                     + $"<label>Vertical <select id=\"field-y\">{options axes 1}</select></label></p>"
                     + "<div id=\"fields\" class=\"distill-chart\" style=\"min-height:420px\"></div>"
                     + "<script>{const pairs="
                     + Json.toText figures
                     + ";"
                     + Page.text "sweep.js"
                     + "}</script>")
            ]

    /// The settings of a configuration in words, numbers shortened.
    let private describe (names: string list) (values: string option list) =
        if names.IsEmpty then
            "all seeds"
        else
            List.map2 (fun name value -> $"{name} {SettingAxis.text value}") names values
            |> String.concat ", "

    // Cost

    /// The variants' main measure against their core-seconds: those on the front joined, the others faint.
    let private pareto (results: SweepResults) : GenericChart =
        let onFront, dominated = results.Costs |> List.partition _.OnFront

        let hover (variant: VariantCost) =
            $"{describe results.Names variant.Values}<br>{Measure.words results.Main} {variant.Main}<br>"
            + $"{variant.CoreSeconds} core-seconds, {variant.Steps:N0} steps"

        let reach (interval: Interval) =
            if Double.IsNaN interval.High then
                0.
            else
                interval.High - interval.Estimate

        let bars (axis: string) (color: string) (intervals: Interval list) =
            axis,
            Json.Object
                [
                    "type", Json.Text "data"
                    "color", Json.Text color
                    "thickness", Json.Number 1.
                    "array", numbers (intervals |> List.map reach)
                ]

        let series (name: string) (mode: string) (color: string) (variants: VariantCost list) =
            Chart.Scatter(
                variants |> List.map _.CoreSeconds.Estimate,
                variants |> List.map _.Main.Estimate,
                mode,
                Name = name,
                Text = List.map hover variants,
                Color = color,
                MarkerSize = 7.
            )
            |> Chart.withTrace
                [
                    "hovertemplate", Json.Text "%{text}<extra></extra>"
                    bars "error_x" color (variants |> List.map _.CoreSeconds)
                    bars "error_y" color (variants |> List.map _.Main)
                ]

        Chart.combine
            [
                series "dominated" "markers" "@muted/0.35" dominated
                series "Pareto front" "lines+markers" "@0" onFront
            ]
        |> Chart.withXAxisStyle (TitleText = "core-seconds", TickFormat = "~g")
        |> Chart.withYAxisStyle (TitleText = Measure.words results.Main)
        |> Chart.withSize (Height = 380)

    let private cost (results: SweepResults) : string list =
        if results.Costs.Length < 2 then
            []
        else
            [
                figure (
                    $"{capital (Measure.words results.Main)} against what a trial cost: CPU time of its process, all threads, over all "
                    + "resumes. Mean over seeds with 95 % intervals where there are two seeds or more. On the front no other "
                    + "configuration reaches more for as little.",
                    pareto results
                )
                table "The Pareto front" results.Front
            ]

    // Learning curves

    /// Iterations that all runs have evaluated, and the returns of each run there.
    let private common (runs: RunRecord list) =
        let curves =
            runs |> List.map (fun run -> Map.ofList (run.Series "evaluation/mean_return"))

        [
            for iteration in Seq.sort curves.Head.Keys do
                match curves |> List.choose _.TryFind(iteration) with
                | returns when returns.Length = curves.Length && List.forall Double.IsFinite returns ->
                    iteration, returns
                | _ -> ()
        ]

    let private learning (names: string list) (rows: Row list) : string list =
        let curves =
            rows
            |> List.choose (fun row ->
                match row.Trial.Run with
                | Some run when
                    not row.Trial.State.IsFailed && not (run.Series("evaluation/mean_return").IsEmpty)
                    ->
                    Some(row.Values, run)
                | _ -> None)
            |> List.groupBy fst
            |> List.map (fun (values, runs) -> values, common (List.map snd runs))
            |> List.filter (fun (_, points) -> not points.IsEmpty)
            |> List.sortByDescending (fun (_, points) -> points |> List.map (snd >> List.average) |> List.max)

        if curves.IsEmpty then
            []
        else
            // Intervals of few seeds are wider than anything that was measured: the axis shows what was.
            let measured = curves |> List.collect snd |> List.collect snd
            let low, high = List.min measured, List.max measured
            let margin = max 1e-9 (0.06 * (high - low))
            let last = curves |> List.collect snd |> List.map fst |> List.max

            // One series of all means, with gaps between them.
            let others =
                curves
                |> List.collect (fun (_, points) ->
                    (points |> List.map (fun (x, returns) -> float x, List.average returns)) @ [ nan, nan ])

            let chart (values: string option list, points: (int * float list) list) =
                let x = List.map fst points
                let means = points |> List.map (snd >> Statistics.mean95)
                let mean = means |> List.map _.Estimate

                let own =
                    if means |> List.exists (fun mean -> Double.IsNaN mean.Low) then
                        Chart.Line(x, mean, Name = "mean", LineColor = "@0", ShowMarkers = (x.Length < 3))
                    else
                        let low, high = means |> List.map _.Low, means |> List.map _.High
                        Chart.Range(x, mean, high, low, Name = "mean", LineColor = "@0")

                describe names values,
                Chart.combine
                    [
                        Chart.Line(others, Name = "others", LineColor = "@muted/0.4", LineWidth = 1.)
                        |> Chart.withTrace [ "hoverinfo", Json.Text "skip" ]
                        own
                    ]
                |> Chart.withXAxisStyle (TitleText = "iteration", MinMax = (0., float last))
                |> Chart.withYAxisStyle (TitleText = "return", MinMax = (low - margin, high + margin))
                |> Chart.withSize (Height = 240)
                |> Chart.withLegend false

            let most =
                if curves.Length > highlighted then
                    $" These are the {highlighted} with the highest curves."
                else
                    ""

            $"<p class=\"muted across\">Return of what is trained, alone, during training: mean over the seeds of a configuration, "
            + $"with its 95 %% interval where there are two seeds or more; grey, the means of all configurations.{most}</p>"
            :: (curves |> List.truncate highlighted |> List.map (chart >> figure))

    // Tables

    /// The trial's name, which leads to its report or else to its folder.
    let private link (row: Row) : Link =
        let folder = Uri.EscapeDataString(string (Path.GetFileName row.Trial.Folder)) + "/"

        let page =
            if File.Exists(Path.Combine(row.Trial.Folder, "report.html")) then
                "report.html"
            else
                ""

        { Text = row.Trial.Record.Hash.Substring(0, 8); Address = folder + page }

    let private cells (values: string option list) : (obj | null) list =
        values
        |> List.map (fun value ->
            match value, value |> Option.bind Names.number with
            | _, Some number -> box number
            | Some text, None -> text
            | None, None -> null)

    let private trialTable (names: string list) (rows: Row list) (results: SweepResults) =
        let measures =
            if results.Count = 0 then
                []
            else
                results.Main :: results.Beside

        let hasInterval (name: string) (result: TrialResult) =
            result.Measures |> List.exists (fst >> (=) (name + "_low"))

        let heading (name: string) =
            if results.Finished |> List.exists (fun (_, _, result) -> hasInterval name result) then
                Measure.heading name + " [95 % over episodes]"
            else
                Measure.heading name

        let cell (name: string) (result: TrialResult) : obj =
            if hasInterval name result then
                result.Interval name
            else
                Measure.shown name result[name]

        Table(
            [ "trial" ] @ names @ [ "seed"; "state" ] @ List.map heading measures,
            [
                for row in rows do
                    [ link row ]
                    @ cells row.Values
                    @ [
                        float row.Trial.Seed
                        string row.Trial.State
                        for name in measures do
                            row.Trial.Result |> Option.map (cell name) |> Option.toObj
                    ]
            ]
        )

    let private missing (names: string list) (rows: Row list) =
        Table(
            [ "trial"; "settings"; "seed"; "state"; "message" ],
            [
                for row in rows do
                    let message =
                        match row.Trial.State with
                        | Failed message -> Some message
                        | Running
                        | Interrupted
                        | Paused _ ->
                            row.Trial.Run
                            |> Option.map (fun run ->
                                match run.Planned with
                                | Some planned -> $"{run.Iterations} of {planned} iterations"
                                | None -> $"{run.Iterations} iterations")
                        | _ -> Some "has not begun"

                    if not row.Trial.State.IsFinished then
                        [
                            link row
                            describe names row.Values
                            float row.Trial.Seed
                            string row.Trial.State
                            Option.toObj message
                        ]
            ]
        )

    let private heading (name: string) (rows: Row list) (results: SweepResults) =
        let states =
            rows
            |> List.countBy (fun row -> string row.Trial.State)
            |> List.map (fun (state, n) -> $"{n} {state}")
            |> String.concat ", "

        let trials = Names.counted rows.Length "trial"

        let best =
            match results.Best with
            | None -> []
            | Some(_, mean) ->
                let chosen = results.ResultsOfBest

                let uncertain (mean: Interval) =
                    if Double.IsNaN mean.Low then
                        "one seed"
                    else
                        $"95 %% interval {significant mean.Low} to {significant mean.High}, {chosen.Length} seeds"

                [
                    $"Best {Measure.words results.Main}", significant mean.Estimate, uncertain mean
                    for name in results.Beside do
                        let values = chosen |> List.map (fun result -> result[name])
                        let mean = Statistics.mean95 values

                        if Measure.isShare name then
                            capital (Measure.words name),
                            percent mean.Estimate,
                            "of the best configuration's episodes"
                        else
                            capital (Measure.words name),
                            significant mean.Estimate,
                            $"of the best configuration; {uncertain mean}"
                ]

        let configurations = results.Variants.Length

        header
            name
            $"sweep · {trials}: {states}"
            (best @ [ "Configurations", string configurations, "with a finished trial" ])
        + warnings results.Warnings

    /// The best configuration in words, and how it compares with the next.
    let private verdict (results: SweepResults) =
        match results.Best with
        | Some(best, _) when results.Variants.Length > 1 ->
            let comparison =
                match results.Comparisons with
                | next :: _ -> $"<p>{escape (string next)}.</p>"
                | [] -> ""

            $"<p>Best of {results.Variants.Length}: <strong>{escape best}</strong></p>{comparison}"
        | _ -> ""

    let private provenance (root: string) (rows: Row list) =
        let commands =
            rows |> List.choose (fun row -> row.Trial.Run |> Option.map _.Command)

        let all (name: string) =
            commands
            |> List.collect (List.filter (fun (known, value) -> known = name && value <> ""))
            |> List.map snd
            |> List.distinct

        let starts =
            all "started"
            |> List.choose (fun text ->
                match DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture) with
                | true, time -> Some time
                | _ -> None)

        let script = all "script" |> List.tryHead |> Option.defaultValue "SCRIPT"

        let sweeps =
            rows
            |> List.map (fun row ->
                String.Join(
                    ' ',
                    [ "dotnet fsi build.fsx sweep"; script ]
                    @ SweepOptions.withoutPoint row.Trial.Record.Arguments
                ))
            |> List.distinct

        namesAndValues
            "origin"
            [
                for command in sweeps do
                    "command", command
                for name in [ "commit"; "machine"; "system"; "runtime"; "sdk"; "instruction_set" ] do
                    match all name with
                    | [] -> ()
                    | values -> name, String.Join(", ", values)
                if not starts.IsEmpty then
                    "first trial started", (List.min starts).ToString "yyyy-MM-dd HH:mm:ss zzz"
                    "last trial started", (List.max starts).ToString "yyyy-MM-dd HH:mm:ss zzz"
                "folder", root
            ]

    /// Settings that all trials have with one value.
    let private shared (rows: Row list) =
        let settings = rows |> List.map _.Trial.Settings

        [
            for KeyValue(name, value) in settings.Head do
                if settings |> List.forall (fun other -> other.TryFind name = Some value) then
                    name, value
        ]

    let private read (root: string) : string list * Row list =
        let trials = SweepTrial.readAll Map.empty root

        if trials.IsEmpty then
            fail $"'{root}' is not the folder of a sweep: it has no trials."

        let fullNames = trials |> List.map _.Record |> Trials.varyingOf

        Trials.shortNames fullNames,
        [ for trial in trials -> { Trial = trial; Values = fullNames |> List.map trial.Settings.TryFind } ]

    /// Where the experiment of the sweep has its name from: logs/NAME/sweep.
    let private nameOf (root: string) =
        Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath root)) |> string

    let private ofRows (root: string) (names: string list) (rows: Row list) : string =
        let results = rows |> List.map _.Trial |> SweepResults
        let axes = axes results
        let name = nameOf root

        [
            heading name rows results
            column
                "Results"
                [
                    verdict results
                    table "" (if results.Count > 0 then results.Table else Table([], []))
                    table "Each setting on its own" results.Effects
                ]
            column "Not finished" [ table "" (missing names rows) ]
            column
                "Settings and results"
                [
                    if results.Count > 1 && not axes.IsEmpty then
                        figure (
                            "A line for every finished trial, coloured by the measure on the right. Drag along an axis to keep "
                            + "only the lines through that part of it, or drag a name to move the axis.",
                            parallelCoordinates results axes
                        )
                    if results.Count > 0 then
                        yield! fields results axes
                ]
            column "Cost" (cost results)
            section "Learning" (learning names rows)
            column "Trials" [ table "" (trialTable names rows results) ]
            section "Provenance" [ table "" (provenance root rows) ]
            section "Settings of all trials" [ table "" (namesAndValues "setting" (shared rows)) ]
        ]
        |> String.concat "\n"
        |> page $"{name} sweep"

    /// Whether the folder is that of a sweep.
    let isSweep (folder: string) : bool = TrialFolders.isRoot folder

    /// Whether the report of the trial's run is older than what it reports.
    let private outdated (run: RunRecord) =
        let time (name: string) =
            File.GetLastWriteTimeUtc(Path.Combine(run.Folder, name))

        time "report.html" < max (time "metrics.jsonl") (time "result.csv")

    /// Writes `report.html` into the folder of a sweep and, in one of at most 50 trials, into those of its trials that have
    /// none or an old one; returns the path of the sweep's.
    let write (root: string) : string =
        let root = Path.GetFullPath root
        let names, rows = read root

        if rows.Length <= mostReports then
            for run in rows |> List.choose _.Trial.Run |> List.filter outdated do
                Report.save run |> ignore

        let path = Path.Combine(root, "report.html")
        Page.save path (ofRows root names rows)
        path
