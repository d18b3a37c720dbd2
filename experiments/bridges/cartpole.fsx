// A cart pole in Python that nobody wrote for Distill (Gymnasium's vector interface): a teacher by PPO, then its student.
// dotnet fsi build.fsx run experiments/bridges/cartpole.fsx [name=value ...]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let simulator =
    External.command "python3 tests/fixtures/external/cartpole.py next_step" { envs = 128 }

let folder = "logs/bridges/cartpole"

let training =
    { TrainTeacher.defaults with Environment = simulator; EvaluationEpisodes = 128 }

let ppo =
    PpoConfig(
        Iterations = 60,
        Actor = Student.mlp { hidden = [ 32; 32 ] },
        Critic = Student.mlp { hidden = [ 64; 64 ] }
    )

let student =
    distillation {
        name "cartpole"
        environment simulator
        teacher (Teacher.load $"{folder}/teacher/checkpoints/best_teacher.safetensors")
        student (Student.mlp { hidden = [ 16; 16 ] })
        loss (Loss.crossEntropy 0.0)
        acting (Acting.teacherUntil 3)
        collect (Collect.stepsPerEnv 100)
        iterations 30
    }

Script.main (fun settings ->
    Run.stage $"{folder}/teacher" (fun own -> Run.trainTeacherWith (own @ settings) training ppo)
    Run.stage $"{folder}/student" (fun own -> Run.distilWith (own @ settings) student))
