// A student that begins as its teacher and ends above it: distillation that turns into PPO. The teacher is one whose training was
// stopped early:
// dotnet fsi build.fsx run experiments/train-teacher.fsx iterations=60 evaluation_interval=20 seed=1 save_to=assets/teachers/crazyflie-early.safetensors
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Networks

let training =
    { TrainTeacher.defaults with
        Name = "distil-then-improve"
        Environment = Quadrotor.mixture { envs = 2048 }
        EvaluationInterval = 10
        EvaluationEpisodes = 500
    }

let teacher = Teacher.load "assets/teachers/crazyflie-early.safetensors"

// Until iteration 30 the student imitates; the critic learns beside it. Over the next 20 the teacher lets go.
let ppo =
    PpoConfig.Quadrotor
    |> Settings.set <@ _.Iterations @> 150
    |> Settings.set <@ _.Actor @> (Student.mlp { hidden = [ 64; 64 ] } |> Student.reading "tracking")
    |> Settings.set <@ _.DistillationCoef @> (Schedule.piecewise [ 30, 1.0; 50, 0.0 ])
    |> Settings.set <@ _.PpoCoef @> (Schedule.piecewise [ 30, 0.0; 50, 1.0 ])
    |> Settings.set <@ _.Beta @> (Schedule.linear 1.0 0.0 20)
    |> Settings.set <@ _.InitStd @> (System.Nullable 0.1)

Run.improve training teacher ppo
