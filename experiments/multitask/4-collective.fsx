// Distils the experts of all tasks into one network, and asks what tells it the task best: the encoder's encoding (cls), nothing but the
// state (zeros), the task itself (task), or a memory of its own (gru). Three seeds each; success on 50 held-out goals of each task.
// dotnet fsi build.fsx run experiments/multitask/4-collective.fsx [teacher=FOLDER] [encoder=FILE] [name=value ...]
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Environments.Manipulation
open Distill.Networks

let tasks =
    [ ManipulationTask.Reach; ManipulationTask.Push; ManipulationTask.PickPlace ]

/// All have hidden layers of the published size.
let reading group =
    Student.mlp { hidden = [ 300; 300 ] } |> Student.reading group

let students =
    [
        "cls", reading "reduced+encoding"
        "zeros", reading "reduced"
        "task", reading "reduced+task"
        "gru", Student.gru { hidden = 128 } |> Student.reading "reduced"
    ]
    |> List.map (fun (name, student) ->
        name,
        student
        |> Student.head Head.SquashedGaussian
        // Places are in metres, and all of them near each other.
        |> Settings.set <@ _.NormalizeObservations @> true)

// The scripted experts give actions alone. For experts trained by SAC: teacher=FOLDER loss=mean_and_deviation.
distillation {
    name "multitask/collective"

    environment (
        Manipulation.tasks tasks { envs = 96 }
        |> Environment.encoded { encoder = "logs/multitask/encoder.safetensors"; states = "reduced" }
    )

    teacher (Teacher.environment "expert")
    // The expert's share of the steps falls from 1 to 0 in the first third; then the student drives.
    acting (Acting.linear 7)
    collect (Collect.stepsPerEnv 50)
    loss Loss.mse
    epochs 6
    optimizer (AdamConfig(LearningRate = Schedule.exponential 1e-3 1e-4 20))
    iterations 20
    evaluationInterval 20
    evaluationEpisodes 60
    finalEpisodes 60
    bestBy "success"
}
|> Run.compareStudents students { StudentComparison.defaults with Measure = "success" }
