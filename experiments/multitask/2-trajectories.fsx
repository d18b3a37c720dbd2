// Records the episodes that the trajectory encoder learns from: of the scripted experts, from clean to so noisy that many fail, and
// of the experts that 1-experts.fsx trained, where they stand. States are the reduced observation; nothing in them names the task.
// dotnet fsi build.fsx run experiments/multitask/2-trajectories.fsx [episodes=N] [trajectories=FILE]
#load "../../Distill.Scripts/load.fsx"

open System.IO
open Distill
open Distill.Environments.Manipulation

let tasks =
    [ ManipulationTask.Reach; ManipulationTask.Push; ManipulationTask.PickPlace ]

let noisy deviation =
    let config =
        Manipulation.tasks tasks { envs = 96 }
        |> Settings.set <@ _.ExpertNoise @> (ExpertNoise(Deviation = deviation))

    { Environment = config; Driver = Teacher.environment "noisy_expert" }

let trained =
    [
        for task in tasks do
            let expert =
                $"logs/multitask/experts/{Names.snake (string task)}/checkpoints/best_teacher.safetensors"

            if File.Exists expert then
                { Environment = Manipulation.tasks [ task ] { envs = 96 }; Driver = Teacher.load expert }
    ]

{ RecordTrajectories.defaults with
    Trajectories = "logs/multitask/trajectories.safetensors"
    States = "reduced"
    Episodes = 100
}
|> Run.trajectories (List.map noisy [ 0.; 0.25; 0.5; 1. ] @ trained)
