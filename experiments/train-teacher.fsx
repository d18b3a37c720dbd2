// Trains a teacher from scratch by PPO and keeps the best of its evaluations. The teacher that comes with Distill was made by
// dotnet fsi build.fsx run experiments/train-teacher.fsx save_to=assets/teachers/crazyflie.safetensors
#load "../Distill.Scripts/load.fsx"
open Distill
open Distill.Algorithms

let training =
    { TeacherTraining.defaults with
        Name = "train-teacher"
        Environment = Quadrotor.mixture { envs = 4096 }
        EvaluationInterval = 10
        EvaluationEpisodes = 1000
    }

// Returns are scaled to about 1 for the critic; a little noise is enough to find out how to hover.
let ppo =
    PpoConfig(
        Iterations = 250,
        NumMiniBatches = 32,
        DesiredKl = 0.015,
        EntropyCoef = 0.004,
        CriticLearningRate = 1e-3,
        RewardScale = 0.02,
        InitStd = 0.3
    )

Run.trainTeacher training ppo
