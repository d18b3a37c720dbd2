// Students of each task by SAC that begin with the collective network's advice and outgrow it, beside the same SAC without: after how
// many steps they have 90 % success. It goes on where it was stopped; teacher=environment:expert asks the scripted experts instead.
// dotnet fsi build.fsx run experiments/multitask/5-student.fsx [iterations=THOUSANDS_OF_STEPS]
#load "../../Distill.Scripts/load.fsx"

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Environments.Manipulation

let training (task: ManipulationTask) =
    { TrainTeacher.single with
        Environment =
            Manipulation.tasks [ task ] { envs = 32 }
            |> Environment.encoded { encoder = "logs/multitask/encoder.safetensors"; states = "reduced" }
        BestBy = "success"
        TargetMeasure = Nullable 0.9
        EvaluationInterval = 5
        EvaluationEpisodes = 50
        FinalEpisodes = 50
    }

let collective = Teacher.load "logs/multitask/collective/students/cls-0.safetensors"

// It has faded after half of the steps. The network learned actions alone, so that its own deviation means nothing.
let imitating =
    ImitationBonus(Weight = Schedule.piecewise [ 10, 10.0; 100, 0.0 ], Deviation = Nullable 0.5)

let student arguments (task: ManipulationTask) (bonus: ImitationBonus | null) (seed: int) =
    let name = if isNull bonus then "without" else "with"
    let folder = $"logs/multitask/students/{task}-{name}-{seed}"

    let sac =
        SacConfig.Manipulation
        |> Settings.set <@ _.Iterations @> 200
        |> Settings.set <@ _.Imitation @> bonus

    let work own =
        Run.guidedSacWith (arguments @ own @ [ $"seed={seed}" ]) (training task) collective sac

    Run.stage folder work
    (RunRecord.read folder).StepsToTarget

Script.main (fun arguments ->
    for task in [ ManipulationTask.Reach; ManipulationTask.Push; ManipulationTask.PickPlace ] do
        for name, bonus in [ "with", imitating; "without", null ] do
            match List.map (student arguments task bonus) [ 0..2 ] |> List.choose id with
            | [] -> printfn $"{task} {name} the bonus: never"
            | steps ->
                printfn $"{task} {name} the bonus: {Statistics.mean95 steps} steps in {steps.Length} of 3")
