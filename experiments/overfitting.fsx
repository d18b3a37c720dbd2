// A student made to overfit: 300 rows with noisy labels, passed over 60 times an iteration, for a large network. The same with
// passes that stop early, five seeds each: dotnet fsi build.fsx run experiments/overfitting.fsx
#load "../Distill.Scripts/load.fsx"
open Distill

let overfitting =
    distillation {
        name "overfitting"
        environment (Quadrotor.mixture { envs = 64 })
        teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
        teacherDeterministic false
        student (Student.mlp { hidden = [ 256; 256 ] } |> Student.reading "tracking")
        acting (Acting.teacherUntil 10)
        retain (Retain.reservoir 300)
        collect (Collect.stepsPerEnv 50)
        epochs 60
        heldOut 0.2
        iterations 30
        evaluationInterval 30
    }

// Held-out loss, mean over the last ten iterations, and return.
let measured arguments (patience: int) (seed: int) =
    let own = [ $"seed={seed}"; $"early_stopping={patience}" ]
    let result = overfitting |> Run.distilWith (arguments @ own)
    let losses = (RunRecord.read result.Folder).Series "Loss/held_out" |> List.map snd
    List.average (losses |> List.rev |> List.truncate 10), result.Student.MeanReturn

Script.main (fun arguments ->
    let all = List.map (measured arguments 0) [ 0..4 ]
    let stopped = List.map (measured arguments 5) [ 0..4 ]

    for name, value in [ "held-out loss", fst; "return", snd ] do
        let mean, change =
            List.averageBy value, List.map2 (fun a b -> value b - value a) all stopped

        printfn $"{name}: {mean all:G4}, stopped early {mean stopped:G4}: {Statistics.mean95 change}")
