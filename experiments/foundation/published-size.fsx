// The published network, a GRU of 16, with the published observations, absolute position among them: distilled from the privileged
// teacher of from-nothing.fsx, then improved by PPO as there. It goes on where it was stopped.
// dotnet fsi build.fsx run experiments/foundation/published-size.fsx [FOLDER] [name=value ...]
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Environments.Quadrotor

let sampled = Drones.sample { number = 1000; seed = 0 }
let sluggish = sampled |> Settings.set <@ _.TorqueToInertia @> Spread.LogUniform

let flying drones (envs: int) =
    Quadrotor.mixture { envs = envs } |> Quadrotor.flying drones

let published =
    [
        "student.hidden=16"
        "student.observation_group=student"
        "variant_focus=0.6"
        "iterations=200"
        "learning_rate=exponential(2e-3,1e-4,200)"
    ]

Script.main (fun arguments ->
    let settings, folders = arguments |> List.partition _.Contains('=')
    let folder = folders |> List.tryHead |> Option.defaultValue "logs/foundation"

    let file (stage: string) (name: string) =
        $"{folder}/{stage}/checkpoints/{name}.safetensors"

    let privileged = Teacher.load (file "teacher" "best_teacher")

    let distillation =
        distillation {
            name "published-size"
            environment (flying sampled 1024)
            teacher privileged
            preset Preset.foundation
        }

    Run.stage $"{folder}/published" (fun own -> distillation |> Run.distilWith (own @ published @ settings))

    Run.stage $"{folder}/published-improved" (fun own ->
        let actor =
            Student.load (file "published" "best_student") |> Student.reading "student"

        let critic = Student.load (file "teacher" "critic") |> Student.reading "privileged"

        PpoConfig.GoOn(actor, critic, 400)
        |> Settings.set <@ _.StepsPerEnv @> 48
        |> Settings.set <@ _.InitStd @> (System.Nullable 0.03)
        |> Run.improveWith
            (own @ settings)
            { TrainTeacher.defaults with Environment = flying sluggish 2048; EvaluationEpisodes = 2000 }
            privileged))
