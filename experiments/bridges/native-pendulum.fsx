// A pendulum in C, swung up by a teacher of PPO, and distilled into a student that does not see how fast it turns.
// dotnet fsi build.fsx run experiments/bridges/native-pendulum.fsx [FOLDER]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open System.IO
open Distill
open Distill.Algorithms

let source = Path.Combine(__SOURCE_DIRECTORY__, "..", "..", "native", "pendulum.c")

Script.main (fun arguments ->
    let folder = arguments |> List.tryHead |> Option.defaultValue "logs/native-pendulum"
    let library = Native.compile source $"{folder}/libpendulum.so"

    let teacher =
        { TrainTeacher.defaults with
            Name = "teacher"
            Environment = Native.library library { envs = 1024 }
            EvaluationEpisodes = 500
        }

    Run.stage $"{folder}/teacher" (fun own ->
        PpoConfig(Iterations = 300, Gamma = 0.97, RewardScale = 0.1, EntropyCoef = 0.0, StepsPerEnv = 32)
        |> Run.trainTeacherWith own teacher)

    Run.stage $"{folder}/student" (fun own ->
        distillation {
            name "student"
            environment (Native.library library { envs = 128 })
            teacher (Teacher.load $"{folder}/teacher/checkpoints/best_teacher.safetensors")
            student (Student.gru { hidden = 16 })
            acting (Acting.teacherUntil 5)
            collect (Collect.stepsPerEnv 200)
            iterations 60
            finalEpisodes 1000
        }
        |> Run.distilWith own))
