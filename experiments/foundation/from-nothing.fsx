// From nothing to a policy that flies every quadrotor: a teacher that is told which of a thousand sampled drones it flies, a recurrent
// student that has to find out, PPO on drones that are sluggish more often, flight tests on drones that none of them saw, exports.
// dotnet fsi build.fsx run experiments/foundation/from-nothing.fsx [FOLDER] [name=value ...]     It goes on where it was stopped.
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Environments.Quadrotor

let sampled (seed: int) =
    Drones.sample { number = 1000; seed = seed }

let sluggish = sampled 0 |> Settings.set <@ _.TorqueToInertia @> Spread.LogUniform

let flying drones (envs: int) =
    Quadrotor.mixture { envs = envs } |> Quadrotor.flying drones

let training drones envs =
    { TrainTeacher.defaults with Environment = flying drones envs; EvaluationEpisodes = 2000 }

let distillation (privileged: TeacherFile) =
    distillation {
        name "foundation"
        environment (flying (sampled 0) 1024)
        teacher privileged
        preset Preset.foundation
    }

Script.main (fun arguments ->
    let settings, folders = arguments |> List.partition _.Contains('=')
    let folder = folders |> List.tryHead |> Option.defaultValue "logs/foundation"

    let file (stage: string) (name: string) =
        $"{folder}/{stage}/checkpoints/{name}.safetensors"

    let stage (name: string) work =
        Run.stage $"{folder}/{name}" (fun own -> work (own @ settings))

    let teacher = Teacher.load (file "teacher" "best_teacher")
    let student = file "improved" "best_student"

    stage "teacher" (fun given ->
        Run.trainTeacherWith given (training (sampled 0) 4096) PpoConfig.Privileged)

    stage "student" (fun given -> Run.distilWith given (distillation teacher))

    stage "improved" (fun given ->
        let actor =
            Student.load (file "student" "best_student") |> Student.reading "tracking"

        let critic = Student.load (file "teacher" "critic") |> Student.reading "privileged"

        PpoConfig.GoOn(actor, critic, 400)
        |> Settings.set <@ _.StepsPerEnv @> 48
        |> Settings.set <@ _.InitStd @> (System.Nullable 0.03)
        |> Run.improveWith given (training sluggish 2048) teacher)

    { FlightTests.defaults with
        Policy = student
        Environment = flying (sampled 1_000_000) 1
        Output = $"{folder}/flight-tests"
    }
    |> Run.flightTestsWith []
    |> printfn "%O"

    for form in [ "onnx"; "h" ] do
        Export.policy student $"{folder}/student.{form}")
