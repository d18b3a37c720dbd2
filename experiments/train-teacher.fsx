// Trains a teacher from scratch by PPO and keeps the best of its evaluations. The teacher that comes with Distill was made by
// dotnet fsi build.fsx run experiments/train-teacher.fsx save_to=assets/teachers/crazyflie.safetensors
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let training =
    { TrainTeacher.defaults with
        Name = "train-teacher"
        Environment = Quadrotor.mixture { envs = 4096 }
        EvaluationInterval = 10
        EvaluationEpisodes = 1000
    }

// Settings tuned for quadrotors: 25 million steps.
Run.trainTeacher training PpoConfig.Quadrotor
