// A pendulum in Python: a teacher by PPO that sees the velocity, then a student that has two steps of the angle instead.
// dotnet fsi build.fsx run experiments/bridges/pendulum.fsx [name=value ...]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Networks

let simulator =
    External.command "python3 tests/fixtures/external/pendulum.py same_step" { envs = 128 }

let folder = "logs/bridges/pendulum"

let training =
    { TrainTeacher.defaults with Environment = simulator; EvaluationEpisodes = 256 }

let network sizes =
    Student.mlp { hidden = sizes } |> Student.reading "teacher"

let ppo =
    PpoConfig(Iterations = 250, StepsPerEnv = 50, Gamma = 0.95, RewardScale = 0.1, EntropyCoef = 0.0)
    |> Settings.set <@ _.Actor @> (network [ 32; 32 ])
    |> Settings.set <@ _.Critic @> (network [ 64; 64 ])

let student =
    distillation {
        name "pendulum"
        environment simulator
        teacher (Teacher.load $"{folder}/teacher/checkpoints/best_teacher.safetensors")
        student (Student.mlp { hidden = [ 64; 64 ] })
        acting (Acting.teacherUntil 3)
        optimizer (AdamConfig(LearningRate = Schedule.linear 1e-3 1e-5 60))
        collect (Collect.stepsPerEnv 100)
        iterations 60
        evaluationInterval 60
    }

Script.main (fun settings ->
    Run.stage $"{folder}/teacher" (fun own -> Run.trainTeacherWith (own @ settings) training ppo)
    Run.stage $"{folder}/student" (fun own -> Run.distilWith (own @ settings) student))
