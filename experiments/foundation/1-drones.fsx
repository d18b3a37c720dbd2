// Draws the drones of a foundation policy by RAPTOR's published procedure: a parameter file for each in rl-tools' JSON form,
// drones.csv beside them, and a picture of their distribution with the quantiles of rl-tools' own sampler.
// dotnet fsi build.fsx run experiments/foundation/1-drones.fsx [FOLDER]    Without FOLDER: logs/drones.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Environments.Quadrotor

// The 5, 50 and 95 % quantiles of a thousand drones that rl-tools' sampler drew; dotted lines in the picture.
let published: (string * (DroneFigures -> float) * float list) list =
    [
        "thrust to weight", _.ThrustToWeight, [ 1.705; 3.320; 4.835 ]
        "mass, kg", _.Mass, [ 0.0446; 1.010; 4.482 ]
        "arm, m", _.ArmLength, [ 0.0411; 0.1151; 0.1967 ]
        "torque to inertia, 1/s²", _.TorqueToInertia, [ 109.; 624.; 1143. ]
        "drag torque per thrust, m", _.RotorTorqueConstant, [ 0.00685; 0.0287; 0.0480 ]
        "rotors rise, s", _.TimeConstantRising, [ 0.0333; 0.0647; 0.0966 ]
        "rotors fall, s", _.TimeConstantFalling, [ 0.0452; 0.1696; 0.2876 ]
        "disturbance to weight", _.DisturbanceToWeight, [ 0.0017; 0.0274; 0.1335 ]
    ]

Script.main (fun arguments ->
    let folder = arguments |> List.tryHead |> Option.defaultValue "logs/drones"
    let drones = Drones.sample { number = 1000; seed = 0 }
    drones |> Drones.write folder
    printfn $"The drones, their table and their picture are in {folder}:"

    [
        for name, figure, marks in published do
            let values = drones |> Drones.figures |> List.map figure
            let ours = List.map (fun q -> Statistics.quantile q values) [ 0.05; 0.5; 0.95 ]
            printfn $"{name}: {ours[0]:G3} {ours[1]:G3} {ours[2]:G3}, published %A{marks}"
            let bars = Chart.Histogram(values, NBinsX = 30, ShowLegend = false, Opacity = 0.5)

            (bars |> Chart.withTitle name, marks)
            ||> List.fold (fun c mark -> c |> Chart.withVerticalLine mark)
    ]
    |> Chart.Grid(2, 4)
    |> Chart.saveHtml $"{folder}/distribution.html")
