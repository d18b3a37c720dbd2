/// The report of a sweep: grids and random searches, failed and missing trials, what the page does in a browser.
module Distill.Tests.SweepReportTests

open System
open System.Collections.Generic
open System.IO
open Distill
open Distill.Storage
open Distill.Tests.ChartTests
open Distill.Tests.RunTests
open Xunit

let private rootIn (work: Workplace) = work.Path "logs/rates/sweep"

/// A trial with these settings whose student has this return, or none: then it has not begun.
let private addTrial (root: string) (number: int) (settings: (string * string) list) (value: float option) =
    let record: TrialRecord =
        {
            Kind = "distillation"
            Hash = number.ToString "x64"
            Label = $"trial-{number}"
            Settings = Map(("iterations", "20") :: ("note", "<b>") :: settings)
            Changes = []
            Arguments = [ "rate=1,2" ]
        }
    // Folders are found by the first eight letters of the hash.
    let record = { record with Hash = number.ToString "x8" + record.Hash.Substring 8 }
    let folder = TrialFolder(root, record)
    folder.Prepare()

    match value with
    | None -> ()
    | Some value ->
        let run = RunFolder.CreateAt folder.Path
        run.WriteParameters("agent", dict [ "iterations", box 20 ])

        File.WriteAllText(
            Path.Combine(run.Path, "params", "command.json"),
            "{\"script\":\"experiments/rates.fsx\",\"commit\":\"abc123\",\"machine\":\"here\",\"started\":\"2026-01-02T03:04:05Z\"}"
        )

        use log = MetricsLog.Create run.Path

        for i in 4..5..19 do
            log.Append(int64 i, [ KeyValuePair("evaluation/mean_return", value * float (i + 1) / 20.) ])

        File.WriteAllText(
            Path.Combine(run.Path, "result.csv"),
            "policy,mean_return,std_return,mean_length,share_terminated,episodes\n"
            + $"teacher,100,10,500,0,64\nbest student,{value},20,499,0.25,64\nfinal student,{value},30,498,0.5,64\n"
        )

    folder

/// Two settings, two seeds each.
let private grid (root: string) =
    for i, (rate, rows, seed) in
        List.indexed
            [
                for rate in [ 1; 20 ] do
                    for rows in [ 500; 5000 ] do
                        for seed in [ 0; 1 ] -> rate, rows, seed
            ] do
        addTrial
            root
            i
            [ "optimizer.rate", string rate; "max_rows", string rows; "seed", string seed ]
            (Some(50. + float rate + float rows / 1000. + float seed))
        |> ignore

/// The page, without the places where long names may break.
let private write (root: string) =
    File.ReadAllText(SweepReport.write root).Replace("<wbr>", "")

let private count (text: string) (html: string) = html.Split(text).Length - 1

[<Fact>]
let ``the page of a grid has its charts, tables and provenance`` () =
    use work = new Workplace()
    let root = rootIn work
    grid root
    let html = write root

    for text in
        [
            "8 trials: 8 finished"
            // 50 + 20 + 5 + 0.5, two seeds.
            "Best student return</dt><dd>75.5<"
            "Best of 4: <strong>max_rows=5000 rate=20</strong>"
            "\"type\":\"parcoords\""
            "\"type\":\"heatmap\""
            "max_rows 5,000<br>rate 20<br>student return 75.5 [69.15, 81.85], 2 trials"
            "dotnet fsi build.fsx sweep experiments/rates.fsx rate=1,2"
            // The teacher's 100.
            "Minus teacher</dt><dd>-24.5<"
            "is the best of 4 variants by these same numbers"
            "abc123"
            "2026-01-02 03:04:05"
            "href=\"trial-7-00000007/report.html\""
        ] do
        Assert.Contains(text.Replace("<br>", "\\u003Cbr\\u003E"), html.Replace("<br>", "\\u003Cbr\\u003E"))

    Assert.Equal(1, count "id=\"packed-plotly.js\"" html)
    Assert.DoesNotContain("Not finished", html)
    // A setting with one value has no axis.
    Assert.DoesNotContain("\"label\":\"iterations\"", html)
    Assert.DoesNotContain("<b>", html)
    Assert.True(html.Length < 6_000_000)
    Assert.True(File.Exists(Path.Combine(root, "trial-7-00000007", "report.html")))

[<Fact>]
let ``what is worth its price is a front in the page and in sweep best, and dominated trials are faint`` () =
    use work = new Workplace()
    let root = rootIn work
    grid root
    // Nothing is known of the cost: nothing is said.
    Assert.DoesNotContain("Pareto", write root)

    // By rate and rows: 51.5 for 4 s, 56 for 3 s, 70.5 for 9 s, 75 for 8 s; with the seed half a point more and a second.
    for trial in (Sweep.load root).Trials do
        let rate, rows = trial.Settings["optimizer.rate"], trial.Settings["max_rows"]

        let seconds =
            (if rate = "1" then 4.0 else 9.0) - (if rows = "5000" then 1.0 else 0.0) + float trial.Seed

        RunCost.write trial.Folder { Steps = 1000L; CoreSeconds = seconds }

    let results = Sweep.load root

    Assert.Equal<(float * float * bool) list>(
        [ 3.5, 56.5, true; 4.5, 52.0, false; 8.5, 75.5, true; 9.5, 71.0, false ],
        results.Costs
        |> List.map (fun variant -> variant.CoreSeconds.Estimate, variant.Main.Estimate, variant.OnFront)
    )

    Assert.Equal(2, results.Front.RowCount)
    Assert.Contains("8.5 [2.147, 14.85]", string results.Front)
    let html = write root

    for text in [ "\"name\":\"Pareto front\""; "\"name\":\"dominated\""; "The Pareto front"; "@muted/0.35" ] do
        Assert.Contains(text, html)

    // A variant of which one trial's cost is not known has none.
    File.Delete(Path.Combine(root, "trial-0-00000000", "cost.csv"))
    Assert.Equal(3, (Sweep.load root).Costs.Length)

[<Fact>]
let ``the reports of trials are written once, and again when the trial has gone on`` () =
    use work = new Workplace()
    let root = rootIn work
    grid root
    write root |> ignore
    let page = Path.Combine(root, "trial-0-00000000", "report.html")
    let before = File.GetLastWriteTimeUtc page
    write root |> ignore
    Assert.Equal(before, File.GetLastWriteTimeUtc page)

    File.SetLastWriteTimeUtc(
        Path.Combine(root, "trial-0-00000000", "metrics.jsonl"),
        DateTime.UtcNow.AddMinutes 1.
    )

    write root |> ignore
    Assert.NotEqual(before, File.GetLastWriteTimeUtc page)

[<Fact>]
let ``the table of a large sweep links to folders, for its trials get no reports of their own`` () =
    use work = new Workplace()
    let root = rootIn work

    for seed in 0..50 do
        addTrial root seed [ "seed", string seed ] (Some(float seed)) |> ignore

    // A report that somebody asked for.
    Report.write (Path.Combine(root, "trial-7-00000007")) |> ignore
    let html = write root
    Assert.False(File.Exists(Path.Combine(root, "trial-8-00000008", "report.html")))
    Assert.Contains("href=\"trial-7-00000007/report.html\"", html)
    Assert.Contains("href=\"trial-8-00000008/\"", html)

[<Fact>]
let ``drawn settings are named with as many digits as a reader needs`` () =
    use work = new Workplace()
    let root = rootIn work

    for i in 0..1 do
        addTrial
            root
            i
            [
                "rate", string (0.0012345678901 + 1e-12 * float i)
                "rows", "200000"
                "seed", "0"
                "style", $"s{i}"
            ]
            (Some(float i))
        |> ignore

    Assert.Equal(Some "rate=0.0012346 style=s1", (Sweep.load root).Best |> Option.map fst)
    Assert.Contains("Best of 2: <strong>rate=0.0012346 style=s1</strong>", write root)

[<Fact>]
let ``a random search is drawn as points on logarithmic axes`` () =
    use work = new Workplace()
    let root = rootIn work

    for i in 0..9 do
        let rate = Math.Pow(10., -5. + 0.041 * float (i * i))

        addTrial
            root
            i
            [ "rate", string rate; "norm", string (0.3 + 0.11 * float i); "seed", "0" ]
            (Some(float i))
        |> ignore

    let html = write root
    Assert.DoesNotContain("\"type\":\"heatmap\"", html)
    Assert.Contains("\"type\":\"log\"", html)
    // The marks of the logarithmic axis are powers of ten, the places their logarithms.
    Assert.Contains("\"tickvals\":[-5,-4,-3,-2],\"ticktext\":[\"1e-5\",\"0.0001\",\"0.001\",\"0.01\"]", html)

[<Fact>]
let ``failed and missing trials are named with their message`` () =
    use work = new Workplace()
    let root = rootIn work
    grid root

    let failed =
        addTrial root 8 [ "optimizer.rate", "300"; "max_rows", "500"; "seed", "0" ] None

    failed.Fail "The loss is not a <number>."
    addTrial root 9 [ "optimizer.rate", "300"; "max_rows", "500"; "seed", "1" ] None |> ignore
    let html = write root
    Assert.Contains("10 trials: 8 finished, 1 failed, 1 waiting", html)
    Assert.Contains("The loss is not a &lt;number&gt;.", html)
    Assert.Contains("has not begun", html)

[<Fact>]
let ``a sweep without a finished trial, and one of seeds only, have a page`` () =
    use work = new Workplace()
    let root = rootIn work
    addTrial root 0 [ "seed", "0" ] None |> ignore
    Assert.Contains("1 trial: 1 waiting", write root)
    addTrial root 1 [ "seed", "1" ] (Some 10.) |> ignore
    addTrial root 2 [ "seed", "2" ] (Some 12.) |> ignore
    let html = write root
    Assert.Contains("Best student return</dt><dd>11<", html)
    Assert.DoesNotContain("parcoords\"", html)

[<Fact>]
let ``a folder that is no sweep's is refused`` () =
    use work = new Workplace()

    let error =
        Expect.throws<DistillException>(fun () -> SweepReport.write (work.Path "none") |> ignore)

    Assert.Contains("is not the folder of a sweep", error.Message)

[<Fact>]
let ``the board lists sweeps and leads to their reports`` () =
    use work = new Workplace()
    let root = rootIn work
    grid root

    let board () =
        File.ReadAllText(Board.write (work.Path "logs"))

    Assert.DoesNotContain("href=\"rates/sweep/report.html\"", board ())
    write root |> ignore
    let html = board ()
    Assert.Contains("0 runs, 1 sweep", html)
    Assert.Contains("href=\"rates/sweep/report.html\"", html)
    Assert.Contains("rows=5000 rate=20", html)

[<BrowserFact>]
let ``the page of a sweep works in a browser`` () =
    use work = new Workplace()
    let root = rootIn work

    for i in 0..11 do
        addTrial
            root
            i
            [
                "rate", string (1 + i % 2)
                "rows", string (10 * (1 + i / 2 % 3))
                "student", (if i < 6 then "gru" else "mlp")
                "seed", "0"
            ]
            (Some(float i))
        |> ignore

    let value (browser: Browser) (expression: string) =
        (browser.Evaluate expression).ToString()

    let desktop (browser: Browser) =
        browser.Resize(1400, 900, 1., false)
        value browser "distill.drawn()" |> ignore

        let drawn () =
            // Cells of a heat map are one picture.
            expectDrawn browser "#fields" ".heatmaplayer image" 1

        // What stands beside the axes, not what the figure asks for.
        let shown (axis: string) =
            value browser $"document.querySelector('#fields .{axis}title').textContent"

        Assert.Equal(("rate", "rows"), (shown "x", shown "y"))
        drawn ()

        let pick (id: string) (field: int) =
            value
                browser
                $"(() => {{ const p = document.getElementById('{id}'); p.value = {field}; p.dispatchEvent(new Event('change')); return distill.drawn(); }})()"
            |> ignore

        pick "field-x" 2
        Assert.Equal(("student", "rows"), (shown "x", shown "y"))
        drawn ()
        // The other picker takes the one that was replaced.
        pick "field-y" 2
        Assert.Equal(("rows", "student"), (shown "x", shown "y"))
        drawn ()

        // Two picks at once: the second is what stays.
        value
            browser
            "(() => { const p = document.getElementById('field-x'); for (const i of [0, 1]) { p.value = i; p.dispatchEvent(new Event('change')); } return distill.drawn(); })()"
        |> ignore

        Assert.Equal(("rows", "student"), (shown "x", shown "y"))
        drawn ()
        expectDrawn browser ".distill-chart:has(.parcoords)" "canvas.gl-canvas-context" 1

    let phone (browser: Browser) =
        browser.Resize(390, 844, 1., true)
        value browser "distill.drawn()" |> ignore
        Assert.Equal(0, (browser.Evaluate "document.documentElement.scrollWidth - innerWidth").GetInt32())

    let page = SweepReport.write root
    browse [ page, desktop; page, phone ]
