// Trains a teacher for each sampled drone, many side by side. It goes on where it was stopped.
// dotnet fsi build.fsx run experiments/foundation/2-teachers.fsx [ppo | sac] [number=N]
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let training =
    { TrainTeacher.defaults with
        Environment = Quadrotor.mixture { envs = 64 } |> Quadrotor.flying (Drones.sample { number = 4; seed = 0 })
        EvaluationInterval = 20
        EvaluationEpisodes = 100
        FinalEpisodes = 100
    }

let ppo = PpoConfig.Quadrotor |> Settings.set <@ _.Iterations @> 20
Run.trainTeachers { TrainTeachers.defaults with Set = "logs/foundation/teachers" } training (Reinforcement.ppo Experiment.empty.Teacher ppo)
