namespace Distill

open System
open System.IO

/// A page that lists all sweeps and runs, filters the runs, and overlays the evaluations of those that are ticked.
module Board =
    /// Where the report in this folder is, seen from the board; "" where there is none.
    let private addressOf (logs: string) (folder: string) =
        let page = Path.Combine(folder, "report.html")

        if File.Exists page then
            Path.GetRelativePath(logs, page).Replace('\\', '/')
        else
            ""

    let private row (logs: string) (run: RunRecord) : (obj | null) list =
        let student = run.Result "best student"
        let teacher = run.Result "teacher"

        let teacherReturn =
            teacher |> Option.map _.MeanReturn |> Option.orElse (run.OfTeacher "return")

        [
            run.Experiment
            { Text = run.Run; Address = addressOf logs run.Folder }
            (if run.Finished then "finished" else "not finished")
            run.Iterations
            teacherReturn
            student |> Option.map _.MeanReturn
            student |> Option.bind _.MinusTeacher
            student |> Option.orElse teacher |> Option.map (fun result -> 100. * result.ShareTerminated)
            run.BestEvaluation |> Option.map snd
            run.Series "Loss/behavior" |> List.tryLast |> Option.map snd
        ]

    let private headings =
        [
            "experiment"
            "run"
            "state"
            "iterations"
            "teacher return"
            "student return"
            "student − teacher [95 %]"
            "terminated, %"
            "best evaluation"
            "loss"
        ]

    /// The evaluations of a run, for the overlay.
    let private curve (run: RunRecord) =
        let x, y = List.unzip (run.Series "evaluation/mean_return")

        Json.Object
            [
                "name", Json.Text $"{run.Experiment} {run.Run}"
                "x", Json.Numbers(x |> Seq.map float |> Array.ofSeq)
                "y", Json.Numbers(Array.ofList y)
            ]

    let private sweepHeadings =
        [ "sweep"; "trials"; "finished"; "failed"; "configurations"; "best of them"; "by"; "mean [95 %]" ]

    /// The folders of sweeps below the folder of all experiments.
    let private sweepsIn (logs: string) =
        RunRecord.foldersOfExperiments logs |> Seq.filter TrialFolders.isRoot |> Seq.sort |> Seq.toList

    let private sweepRow (logs: string) (root: string) : (obj | null) list =
        let folders = TrialFolders.ofRoot root
        let results = SweepResults(SweepTrial.readAll Map.empty root)
        let best = results.Best

        [
            { Text = Path.GetRelativePath(logs, root).Replace('\\', '/'); Address = addressOf logs root }
            folders.Length
            results.Count
            folders |> List.filter _.State.IsFailed |> List.length
            results.Variants.Length
            best |> Option.map fst |> Option.toObj
            Measure.words results.Main
            best |> Option.map snd
        ]

    /// The page for runs and sweeps whose folders lie under `logs`, and for folders with what is wrong with them.
    let private ofRuns
        (logs: string)
        (runs: RunRecord list)
        (broken: (string * string) list)
        (sweeps: (obj | null) list list)
        : string =
        let table = Table(headings, runs |> List.map (row logs >> Seq.ofList))

        // What the overlay looks like; board.js puts the ticked runs in the place of its one series.
        let overlay =
            Chart.Line([| 0. |], [| 0. |])
            |> Chart.withXAxisStyle (TitleText = "iteration")
            |> Chart.withYAxisStyle (TitleText = "return of the policy alone")
            |> Chart.withLayout [ "hovermode", Json.Text "x unified" ]

        let data =
            Json.Object [ "runs", Json.List(runs |> List.map curve); "figure", overlay.Figure ]

        let count =
            Names.counted runs.Length "run" + ", " + Names.counted sweeps.Length "sweep"

        let sweepSection =
            if sweeps.IsEmpty then
                ""
            else
                let table = Table(sweepHeadings, sweeps |> List.map Seq.ofList)
                $"<section><h2>Sweeps</h2>{table.ToElement()}</section>"

        let brokenSection =
            if broken.IsEmpty then
                ""
            else
                let rows =
                    broken |> List.map (fun (run, message) -> Seq.ofList [ box run; message ])

                let table = Table([ "folder"; "what is wrong" ], rows)
                $"<section><h2>Not readable</h2>{table.ToElement()}</section>"

        let body =
            String.concat
                "\n"
                [
                    "<main class=\"wide\">"
                    $"<header><h1>Runs</h1><p class=\"muted\">{Page.escape (Path.GetFullPath logs)} · {count}</p></header>"
                    "<p><label>Filter <input id=\"filter\" type=\"search\" autocomplete=\"off\" placeholder=\"words, all of which must occur\"></label> <span id=\"matching\" class=\"muted\"></span></p>"
                    "<div id=\"runs\">" + table.ToElement() + "</div>"
                    "<section><h2>Compare</h2>"
                    "<p id=\"advice\" class=\"muted\">Tick runs to overlay their evaluations.</p>"
                    "<div id=\"overlay\" class=\"distill-chart\"></div></section>"
                    sweepSection
                    brokenSection
                    "</main>"
                    "<script>const board=" + Json.toText data + ";" + Page.text "board.js" + "</script>"
                ]

        Page.html "Runs" (Page.chartScript PlotlyJs.Embedded + Table.Script) body

    /// What the folders hold, and those that cannot be read with what is wrong: one that is broken must not hide the others.
    let private readEach (logs: string) (read: string -> 'T) (folders: string list) =
        let attempt (folder: string) =
            try
                Ok(read folder)
            with error ->
                Error(Path.GetRelativePath(logs, folder), Script.describe error)

        let all = folders |> List.map attempt

        all |> List.choose Result.toOption,
        all
        |> List.choose (function
            | Error broken -> Some broken
            | Ok _ -> None)

    /// Writes `board.html` into a folder of experiments, with a list of what cannot be read; returns its path.
    let write (logs: string) : string =
        let path = Path.GetFullPath(Path.Combine(logs, "board.html"))
        let runs, brokenRuns = RunRecord.foldersIn logs |> readEach logs RunRecord.read
        let sweeps, brokenSweeps = sweepsIn logs |> readEach logs (sweepRow logs)
        Page.save path (ofRuns logs runs (brokenRuns @ brokenSweeps) sweeps)
        path
