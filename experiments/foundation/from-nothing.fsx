// From nothing to a policy that flies every quadrotor: a thousand sampled drones, one teacher that is told which drone it flies, a
// recurrent student that has to find out, flight tests on drones that neither saw, and the student as ONNX and as a C header.
// dotnet fsi build.fsx run experiments/foundation/from-nothing.fsx [FOLDER] [name=value ...]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms

let flying (seed: int) (envs: int) =
    Quadrotor.mixture { envs = envs } |> Quadrotor.flying (Drones.sample { number = 1000; seed = seed })

let training =
    { TrainTeacher.defaults with Environment = flying 0 4096; EvaluationEpisodes = 2000 }

let distillation (privileged: string) =
    distillation {
        name "foundation"
        environment (flying 0 1024)
        teacher (Teacher.load privileged)
        preset Preset.foundation
    }

Script.main (fun arguments ->
    let settings, folders = arguments |> List.partition _.Contains('=')
    let folder = folders |> List.tryHead |> Option.defaultValue "logs/foundation"

    let best (role: string) =
        $"{folder}/{role}/checkpoints/best_{role}.safetensors"

    Run.stage $"{folder}/teacher" (fun own ->
        Run.trainTeacherWith (own @ settings) training PpoConfig.Privileged)

    Run.stage $"{folder}/student" (fun own ->
        Run.distilWith (own @ settings) (distillation (best "teacher")))

    { FlightTests.defaults with
        Policy = best "student"
        Environment = flying 1_000_000 1
        Output = $"{folder}/flight-tests"
    }
    |> Run.flightTestsWith []
    |> printfn "%O"

    for form in [ "onnx"; "h" ] do
        Export.policy (best "student") $"{folder}/student.{form}")
