// Draws the picture of docs/foundation-policy.md: the student that comes with Distill beside the one that RAPTOR's authors released,
// on a thousand drones that neither saw. It needs Chromium.
// dotnet fsi build.fsx run docs/images/foundation.fsx
#load "../../Distill.Scripts/load.fsx"

open System.IO
open Distill

let policies =
    [
        "Distill, GRU of 32", "assets/students/foundation.safetensors"
        "RAPTOR, GRU of 16", "tests/fixtures/raptor/raptor-student.safetensors"
    ]

Script.main (fun _ ->
    let tested =
        [
            for name, file in policies do
                let report =
                    Run.flightTestsWith
                        [ $"policy={file}"; "output=logs/foundation-picture" ]
                        FlightTests.defaults

                name, report.Tested
        ]

    // Means over twenty groups of as many drones, from the most sluggish to the most agile.
    let failures (drones: DroneResults) =
        Array.zip (drones.Figures |> Array.map _.TorqueToInertia) drones.Results
        |> Array.sortBy fst
        |> Array.splitInto 20
        |> Array.map (fun group ->
            Array.averageBy fst group,
            100.0 * (group |> Array.averageBy (fun (_, flown) -> flown.ShareTerminated)))

    [
        Chart.combine [ for name, results in tested -> Chart.Line(failures results.Drones, Name = name) ]
        |> Chart.withXAxisStyle "torque to inertia, 1/s²"
        |> Chart.withYAxisStyle "episodes that end in a crash, %"
        Chart.combine
            [
                for name, results in tested do
                    let probe = results.Probes.Head
                    Chart.Line(Seq.zip probe.Times probe.RSquared, Name = name)
            ]
        |> Chart.withXAxisStyle "seconds since the start"
        |> Chart.withYAxisStyle "R² of thrust to weight from the memory"
    ]
    |> Chart.Grid(1, 2)
    |> Chart.saveSVG (Path.Combine(__SOURCE_DIRECTORY__, "foundation.svg"), Width = 900, Height = 340))
