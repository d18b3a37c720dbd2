// From nothing to a policy that flies every quadrotor: a thousand sampled drones, one teacher that is told which drone it flies, a
// recurrent student that has to find out, flight tests on drones that neither saw, and the student as ONNX and as a C header.
// dotnet fsi build.fsx run experiments/foundation/from-nothing.fsx [FOLDER] [name=value ...]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Networks

let flying (seed: int) (envs: int) =
    Quadrotor.mixture { envs = envs } |> Quadrotor.flying (Drones.sample { number = 1000; seed = seed })

let privileged = Student.mlp { hidden = [ 64; 64 ] } |> Student.reading "privileged"

let training =
    { TrainTeacher.defaults with
        Environment = flying 0 4096
        EvaluationInterval = 50
        EvaluationEpisodes = 2000
    }

let ppo =
    PpoConfig.Quadrotor
    |> Settings.set <@ _.Iterations @> 300
    |> Settings.set <@ _.Actor @> privileged
    |> Settings.set <@ _.Critic @> privileged

let distillation (teacher: string) =
    distillation {
        name "foundation"
        environment (flying 0 1024)
        teacher (Teacher.load teacher)
        student (Student.gru { hidden = 16 } |> Student.reading "tracking")
        preset Preset.raptor
        acting (Acting.teacherUntil 2)
        collect (Collect.episodes 1024)
        variantFocus (Schedule.constant 0.5)
        miniBatchSize (Schedule.constant 16.0)
        epochs 4
        iterations 100
        optimizer (AdamConfig(LearningRate = Schedule.exponential 2e-3 1e-4 100))
        evaluationInterval 20
        evaluationEpisodes 2000
    }

Script.main (fun arguments ->
    let settings, folders = arguments |> List.partition _.Contains('=')
    let folder = folders |> List.tryHead |> Option.defaultValue "logs/foundation"

    let best (role: string) =
        $"{folder}/{role}/checkpoints/best_{role}.safetensors"

    Run.stage $"{folder}/teacher" (fun own -> Run.trainTeacherWith (own @ settings) training ppo)

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
