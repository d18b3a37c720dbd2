/// Reports of runs and the board of all runs: finished runs, interrupted ones, and those with broken files.
module Distill.Tests.ReportTests

open System
open System.Collections.Generic
open System.IO
open Distill
open Distill.Evaluation
open Distill.Storage
open Distill.Tests.ChartTests
open Distill.Tests.RunTests
open Xunit

let private results =
    "policy,mean_return,std_return,mean_length,share_terminated,episodes\n"
    + "teacher,600,10,500,0.002,1000\nbest student,570,20,499,0.004,1000\nfinal student,560,30,498,0.005,1000\n"

/// A run folder with that many iterations of which the first half is driven by the teacher.
let private makeRun (logs: string) (name: string) (iterations: int) (finished: bool) =
    let run = RunFolder.Create(logs, "two-stage", name)

    run.WriteParameters(
        "agent",
        dict [ "iterations", box 20; "max_buffer_size", box 1000; "name", box "<b>" ]
    )

    let command =
        "{\"script\":\"experiments/a.fsx\",\"settings\":[\"a=1\",\"b=2\"],\"commit\":\"abc123\",\"cores\":4}"

    File.WriteAllText(Path.Combine(run.Path, "params", "command.json"), command)
    use log = MetricsLog.Create run.Path

    for i in 0 .. iterations - 1 do
        let value = float (i + 1)

        log.Append(
            int64 i,
            [
                "Loss/behavior", (if i = 0 then nan else 1. / value)
                "phase", (if i < 10 then 1. else 2.)
                "data_collection/teacher_share", (if i < 10 then 1. else 0.)
                "dataset/rows", 100. * value
                "Perf/collection_time", 0.5
                "Perf/learning_time", 1.5
                "Policy/noise", 0.1
                if (i + 1) % 5 = 0 then
                    "evaluation/mean_return", 10. * value
                    "evaluation/std_return", 1.
                    "evaluation/share_terminated", 1. / value
                    "evaluation/teacher_return", 610.
                    "evaluation/teacher_share_terminated", 0.
            ]
            |> List.map KeyValuePair
        )

    if finished then
        File.WriteAllText(Path.Combine(run.Path, "result.csv"), results)

    run.Path

let private reportOf (folder: string) = File.ReadAllText(Report.write folder)

[<Fact>]
let ``a run folder is read as it is`` () =
    use work = new Workplace()
    let run = RunRecord.read (makeRun (work.Path "logs") "" 20 true)

    Assert.Equal(
        ("two-stage", 20, Some 20, true),
        (run.Experiment, run.Iterations, run.Planned, run.Finished)
    )

    Assert.Equal<(int * float) list>(
        [ 5, 50.; 10, 100.; 15, 150.; 20, 200. ],
        run.Series "evaluation/mean_return"
    )

    Assert.Equal(Some(20, 200.), run.BestEvaluation)
    Assert.Equal(Some 570., run.Result "best student" |> Option.map _.MeanReturn)
    Assert.Contains(("settings", "a=1 b=2"), run.Command)
    Assert.Contains(("max_buffer_size", "1000"), List.collect snd run.Parameters)

[<Fact>]
let ``the report of a finished run has its numbers, the switch of phases, parameters and provenance`` () =
    use work = new Workplace()
    let html = reportOf (makeRun (work.Path "logs") "" 20 true)

    for text in
        [
            "finished after 20 iterations"
            "Teacher return</dt><dd>600<"
            "Student return</dt><dd>570<"
            // A table without differences, as it was once: the difference of the means, and no interval.
            "Student − teacher</dt><dd>-30<small>of the mean returns; 0.950 of the teacher&#39;s return<"
            "Student terminated</dt><dd>0.4 %<"
            "phase 2: student drives"
            "Policy/noise"
            "abc123"
            "40 s of training"
        ] do
        Assert.Contains(text, html)

    // The last iteration of phase 1 is the tenth.
    Assert.Contains("\"x0\":10,\"x1\":10", html)
    Assert.DoesNotContain("<b>", html)
    Assert.True(html.Length < 6_000_000)

let private withDifferences (teacher: float) =
    "policy,mean_return,std_return,mean_length,share_terminated,episodes,minus_teacher,minus_teacher_low,minus_teacher_high\n"
    + $"teacher,{teacher},10,500,0.75,1000,,,\n"
    + $"best student,{teacher - 5.},20,499,0.75,1000,-5,-7.5,-2.5\nfinal student,{teacher - 6.},30,498,0.75,1000,-6,-9,-3\n"

[<Fact>]
let ``what student and teacher differ by is shown with its interval, and a ratio only where it says something``
    ()
    =
    use work = new Workplace()
    let folder = makeRun (work.Path "logs") "" 20 true

    let report (teacher: float) =
        File.WriteAllText(Path.Combine(folder, "result.csv"), withDifferences teacher)
        let run = RunRecord.read folder

        Assert.Equal<Interval option list>(
            [
                None
                Some { Estimate = -5.; Low = -7.5; High = -2.5 }
                Some { Estimate = -6.; Low = -9.; High = -3. }
            ],
            run.Results |> List.map _.MinusTeacher
        )

        Report.ofRun run

    let good = report 500.
    Assert.Contains("<dd>-5<small>95 % interval -7.5 to -2.5, in the same episodes; 0.990 of the", good)
    Assert.Contains("-6 [-9, -3]", good)
    let negative = report -500.
    Assert.Contains("<dd>-5<small>95 % interval -7.5 to -2.5, in the same episodes</small>", negative)
    Assert.Contains("-5 [-7.5, -2.5]", File.ReadAllText(Board.write (work.Path "logs")))

[<Fact>]
let ``what was wrong from the start stands above all else in the report`` () =
    use work = new Workplace()
    let folder = makeRun (work.Path "logs") "" 20 true
    Assert.DoesNotContain("Warning", Report.ofRun (RunRecord.read folder))
    RunRecord.addWarnings folder [ "The teacher <falls>."; "Its record is higher." ]
    let html = Report.ofRun (RunRecord.read folder)
    Assert.Contains("<strong>Warning:</strong> The teacher &lt;falls&gt;.</p>", html)
    Assert.Contains("Its record is higher.", html)
    Assert.True(html.IndexOf "Warning" < html.IndexOf "<h2>")
    // What a run says while it goes on is added, and once.
    RunRecord.addWarnings folder [ "It overfits."; "Its record is higher." ]

    Assert.Equal<string list>(
        [ "The teacher <falls>."; "Its record is higher."; "It overfits." ],
        (RunRecord.read folder).Warnings
    )

[<Fact>]
let ``the steps to a target return stand with the policy that was trained, in the table and in sweeps`` () =
    use work = new Workplace()
    let folder = work.Path "run"
    Directory.CreateDirectory folder |> ignore
    let flown = EvaluationResult([| 1f; 2f |], [| 3; 3 |], [| false; false |])

    let written (steps: float option) =
        let comparison =
            Comparison(
                "policy",
                [ "teacher", flown; "best student", flown ],
                "teacher",
                stepsToTarget = ("best student", steps)
            )

        comparison.WriteCsv(Path.Combine(folder, "result.csv"))

        comparison.Target("return", 490.0),
        RunRecord.readResults folder |> List.map PolicyResult.stepsToTarget

    Assert.Equal(
        ([ "Steps to a return of 490: 12000" ], [ []; [ "steps_to_target", 12000.0 ] ]),
        written (Some 12000.0)
    )

    Assert.Equal(([ "Steps to a return of 490: not reached" ], [ []; [] ]), written None)

[<Fact>]
let ``an interrupted run is reported as far as it went`` () =
    use work = new Workplace()
    let html = reportOf (makeRun (work.Path "logs") "" 7 false)
    Assert.Contains("stopped or running: 7 of 20 iterations", html)
    Assert.Contains("Best return so far</dt><dd>50<", html)
    Assert.Contains("Teacher return</dt><dd>610<", html)
    // The teacher's line.
    Assert.Contains("\"y\":[610,610]", html)
    Assert.DoesNotContain("<h2>Tracking</h2>", html)

[<Fact>]
let ``a run without an iteration is reported, too`` () =
    use work = new Workplace()
    let html = reportOf (makeRun (work.Path "logs") "" 0 false)
    Assert.Contains("no iterations yet", html)
    Assert.DoesNotContain("<h2>Evaluation</h2>", html)
    let run = RunFolder.Create(work.Path "logs", "bare")
    Assert.Contains("no iterations yet", reportOf run.Path)

[<Fact>]
let ``broken files of a run are named`` () =
    use work = new Workplace()

    let message (file: string) (text: string) =
        let folder = makeRun (work.Path "logs") "" 1 false
        File.WriteAllText(Path.Combine(folder, file), text)
        (Expect.throws<DistillException>(fun () -> Report.write folder |> ignore)).Message

    Assert.Contains("agent.yaml' is not a readable YAML file", message "params/agent.yaml" "a: [1")
    Assert.Contains("command.json' is not readable JSON", message "params/command.json" "{")
    Assert.Contains("command.json' holds no JSON object", message "params/command.json" "[]")
    Assert.Contains("result.csv' is not a table of results", message "result.csv" "a,b\n")

    Assert.Contains(
        "result.csv' is not a table of results",
        message "result.csv" (results.Replace("570", "many"))
    )

    let error =
        Expect.throws<DistillException>(fun () -> Report.write (work.Path "none") |> ignore)

    Assert.Contains("is not a run folder", error.Message)

[<Fact>]
let ``the board lists all runs and leads to their reports`` () =
    use work = new Workplace()
    let logs = work.Path "logs"
    let first = makeRun logs "first" 20 true
    makeRun logs "second" 7 false |> ignore
    Directory.CreateDirectory(Path.Combine(logs, "two-stage", "other")) |> ignore
    Report.write first |> ignore
    let html = File.ReadAllText(Board.write logs)
    Assert.Contains("2 runs, 0 sweeps", html)
    Assert.Contains($"href=\"two-stage/{Path.GetFileName first}/report.html\"", html)
    Assert.Contains("not finished", html)
    Assert.Throws<DistillException>(fun () -> Board.write (work.Path "none") |> ignore) |> ignore

[<Fact>]
let ``a run that cannot be read does not keep the others from the board`` () =
    use work = new Workplace()
    let logs = work.Path "logs"
    makeRun logs "first" 20 true |> ignore
    let second = makeRun logs "second" 7 false
    File.WriteAllText(Path.Combine(second, "params", "agent.yaml"), "{{{")
    let html = File.ReadAllText(Board.write logs)
    Assert.Contains("1 run, 0 sweeps", html)
    Assert.Contains("Not readable", html)
    Assert.Contains("is not a readable YAML file", html)

[<BrowserFact>]
let ``reports and the board work in a browser`` () =
    use work = new Workplace()
    let logs = work.Path "logs"
    let first = makeRun logs "first" 20 true

    for name in [ "second"; "third" ] do
        makeRun logs name 10 false |> ignore

    let drawn (browser: Browser) =
        browser.Evaluate "distill.drawn()" |> ignore
        expectHeight browser ".distill-chart"

        let lines =
            browser.Evaluate
                "[...document.querySelectorAll('.distill-chart')].map((c) => Math.max(...[...c.querySelectorAll('path.js-line')].map((p) => p.getBoundingClientRect().width)))"

        Assert.NotEqual(0, lines.GetArrayLength())
        Assert.All(lines.EnumerateArray(), fun width -> Assert.InRange(width.GetDouble(), 100., 2000.))

    let board (browser: Browser) =
        let value (expression: string) =
            (browser.Evaluate expression).ToString()

        let firstRow =
            "document.querySelector('tbody tr:not([hidden])').cells[1].textContent"

        value "document.querySelectorAll('th button')[3].click()" |> ignore
        Assert.Contains("first", value firstRow)
        value "document.querySelectorAll('th button')[3].click()" |> ignore
        Assert.DoesNotContain("first", value firstRow)

        let filter =
            "(() => { const f = document.getElementById('filter'); f.value = 'SECOND'; f.dispatchEvent(new Event('input')); })()"

        value filter |> ignore
        Assert.Contains("second", value firstRow)
        Assert.Equal("1 of 3", value "document.getElementById('matching').textContent")

        // One is ticked, and drawn, after the other; then all but one are unticked.
        let tick (i: int) =
            value $"document.querySelectorAll('tbody input')[{i}].click()" |> ignore
            value "distill.drawn()" |> ignore

        for i in 0..2 do
            tick i
            expectDrawn browser "#overlay" ".scatterlayer path.js-line" (i + 1)

        Assert.Equal("3", value "document.querySelectorAll('#overlay .legendtext').length")
        tick 0
        tick 2
        expectDrawn browser "#overlay" ".scatterlayer path.js-line" 1
        // All at once.
        value "for (const i of [0, 2]) document.querySelectorAll('tbody input')[i].click()" |> ignore
        value "distill.drawn()" |> ignore
        expectDrawn browser "#overlay" ".scatterlayer path.js-line" 3

    let phone (browser: Browser) =
        browser.Resize(390, 844, 1., true)
        drawn browser
        Assert.Equal(0, (browser.Evaluate "document.documentElement.scrollWidth - innerWidth").GetInt32())

    // No column of the results is cut off on a screen.
    let desktop (browser: Browser) =
        drawn browser

        let hidden =
            "(() => { const t = document.querySelector('.across .distill-table'); return t.scrollWidth - t.clientWidth; })()"

        Assert.Equal(0, (browser.Evaluate hidden).GetInt32())

    let report = Report.write first
    browse [ report, desktop; Board.write logs, board; report, phone ]
