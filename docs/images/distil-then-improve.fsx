// Draws the picture of docs/distil-then-improve.md from a sweep over seeds. It needs Chromium.
// dotnet fsi build.fsx sweep distil-then-improve seed=0,1,2
// dotnet fsi build.fsx run docs/images/distil-then-improve.fsx logs/distil-then-improve/sweep
#load "../../Distill.Scripts/load.fsx"

open System.IO
open Distill

let draw (sweep: string) =
    let runs =
        Directory.GetDirectories(sweep, "seed-*") |> Array.sort |> Array.map RunRecord.read

    let curves =
        [
            for run in runs do
                Chart.Line(
                    run.Series "evaluation/mean_return",
                    Name = Path.GetFileName(run.Folder).Substring(0, 6)
                )
            Chart.Line(runs[0].Series "evaluation/teacher_return", Name = "teacher", LineDash = "dot")
        ]

    Chart.combine curves
    |> Chart.withXAxisStyle "iteration"
    |> Chart.withYAxisStyle "closed-loop return"
    |> Chart.saveSVG (
        Path.Combine(__SOURCE_DIRECTORY__, "distil-then-improve.svg"),
        Width = 800,
        Height = 340
    )

Script.main (function
    | [ folder ] -> draw folder
    | _ -> raise (DistillException "This script takes the folder of a sweep: logs/distil-then-improve/sweep."))
