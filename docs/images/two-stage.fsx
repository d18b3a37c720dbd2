// Draws the picture of the README from a run of the quickstart, for light and for dark pages. It needs Chromium.
// dotnet fsi build.fsx run experiments/quickstart.fsx evaluation_interval=1
// dotnet fsi build.fsx run docs/images/two-stage.fsx logs/quickstart/RUN
#load "../../Distill.Scripts/load.fsx"

open System.IO
open Distill

let draw (folder: string) =
    let chart = Report.returnChart (RunRecord.read folder)

    for name, dark in [ "two-stage", false; "two-stage-dark", true ] do
        let path = Path.Combine(__SOURCE_DIRECTORY__, name + ".svg")
        chart |> Chart.saveSVG (path, Width = 800, Height = 340, Dark = dark)

Script.main (function
    | [ folder ] -> draw folder
    | _ -> raise (DistillException "This script takes a run folder: logs/quickstart/RUN."))
