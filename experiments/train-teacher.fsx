// Trains a teacher from scratch by PPO. The teacher that comes with Distill was made by
// dotnet fsi build.fsx run experiments/train-teacher.fsx save_to=assets/teachers/crazyflie.safetensors
#load "../Distill.Scripts/load.fsx"
open Distill
open Distill.Algorithms

let training =
    { TeacherTraining.defaults with
        Name = "train-teacher"
        Environment = Quadrotor.mixture { envs = 4096 }
    }

Run.trainTeacher training (PpoConfig(Iterations = 300))
