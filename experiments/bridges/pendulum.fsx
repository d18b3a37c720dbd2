// A pendulum in Python (Gymnasium's vector interface, observations by group): a teacher by PPO that sees the velocity, then a student
// that has two steps of the angle instead.
// dotnet fsi build.fsx run experiments/bridges/pendulum.fsx [name=value ...]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let simulator =
    External.command "python3 tests/fixtures/external/pendulum.py same_step" { envs = 128 }

let folder = "logs/bridges/pendulum"

let training =
    { TrainTeacher.defaults with Environment = simulator; EvaluationEpisodes = 256 }

let ppo =
    PpoConfig(
        Iterations = 100,
        StepsPerEnv = 50,
        Gamma = 0.95,
        RewardScale = 0.1,
        EntropyCoef = 0.0,
        Actor = (Student.mlp { hidden = [ 32; 32 ] } |> Student.reading "teacher"),
        Critic = (Student.mlp { hidden = [ 64; 64 ] } |> Student.reading "teacher")
    )

let student =
    distillation {
        name "pendulum"
        environment simulator
        teacher (Teacher.load $"{folder}/teacher/checkpoints/best_teacher.safetensors")
        student (Student.mlp { hidden = [ 64; 64 ] })
        acting (Acting.teacherUntil 3)
        collect (Collect.stepsPerEnv 100)
        iterations 60
    }

Script.main (fun settings ->
    Run.stage $"{folder}/teacher" (fun own -> Run.trainTeacherWith (own @ settings) training ppo)
    Run.stage $"{folder}/student" (fun own -> Run.distilWith (own @ settings) student))
