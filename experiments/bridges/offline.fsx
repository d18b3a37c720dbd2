// A student from recorded rows alone: the teacher's flights are written to a file, and nobody flies again until the student is
// judged, beside its teacher in the same episodes.
// Run it:     dotnet fsi build.fsx run experiments/bridges/offline.fsx
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Networks

let crazyflies =
    distillation {
        environment (Quadrotor.mixture { envs = 64 })
        teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
        student (Student.gru { hidden = 16 } |> Student.reading "tracking")
        gradientLength 500
        optimizer (AdamConfig(LearningRate = 2e-3))
    }

// With what the teacher reads, so that another teacher could label the rows again.
let rows = "logs/bridges/offline-rows"

let flights =
    "acting=teacher_always steps_per_env=500 recorded=[teacher] iterations=8 num_learning_epochs=1".Split ' '

Run.stage rows (fun settings -> Run.distilWith (settings @ List.ofArray flights) crazyflies)

let alone =
    [
        "name=offline"
        "collection=seed_data_only"
        "steps_per_env=500"
        $"seed_data=[{rows}/dataset.npz]"
        "held_out=0.1"
        "iterations=80"
        "evaluation_interval=10"
    ]

crazyflies |> Experiment.withSettings alone |> Run.distil
