// Records the episodes that the trajectory encoder learns from: of the scripted experts, from clean to so noisy that many fail, and
// of the experts that 1-experts.fsx trained, where they stand. States are the reduced observation; nothing in them names the task.
// dotnet fsi build.fsx run experiments/multitask/2-trajectories.fsx [episodes=N] [trajectories=FILE]
#load "../../Distill.Scripts/load.fsx"

open System.IO
open Distill
open Distill.Environments.Manipulation

let tasks =
    [ ManipulationTask.Reach; ManipulationTask.Push; ManipulationTask.PickPlace ]

let hands = Manipulation.tasks tasks { envs = 96 }

let noisy deviation =
    {
        Environment = hands |> Settings.set <@ _.ExpertNoise @> (ExpertNoise(Deviation = deviation))
        Driver = Teacher.environment "noisy_expert"
    }

let trained =
    let experts = "logs/multitask/experts"

    if File.Exists $"{experts}/teachers.csv" then
        [ { Environment = hands; Driver = Teacher.set experts } ]
    else
        []

{ RecordTrajectories.defaults with
    Trajectories = "logs/multitask/trajectories.safetensors"
    States = "reduced"
    Episodes = 100
}
|> Run.trajectories (List.map noisy [ 0.; 0.25; 0.5; 1. ] @ trained)
