// Students of each task by SAC that begin with the collective network's advice and outgrow it, beside the same SAC without: after how
// many steps they have 90 % success. It goes on where it was stopped; teacher=environment:expert asks the scripted experts instead.
// dotnet fsi build.fsx run experiments/multitask/5-student.fsx [tasks=[reach]] [seeds=N] [iterations=THOUSANDS_OF_STEPS] [name=value ...]
#load "../../Distill.Scripts/load.fsx"

open System
open System.Collections.Generic
open Distill
open Distill.Algorithms
open Distill.Environments.Manipulation

/// Which students.
type Wanted =
    {
        Tasks: IReadOnlyList<ManipulationTask>

        /// Of each task, with the bonus and without.
        Seeds: int
    }

let encoder = "logs/multitask/encoder.safetensors"
let collective = "logs/multitask/collective/students/cls-0.safetensors"

let training (task: ManipulationTask) =
    { TrainTeacher.single with
        Environment =
            Manipulation.tasks [ task ] { envs = 32 }
            // As long as experts' episodes.
            |> Settings.set <@ _.EpisodeLimit @> 100
            |> Environment.encoded { encoder = encoder; states = "reduced" }
        BestBy = "success"
        TargetMeasure = Nullable 0.9
        EvaluationInterval = 5
        EvaluationEpisodes = 50
        FinalEpisodes = 50
    }

/// About thousands of steps.
let iterations (task: ManipulationTask) =
    if task = ManipulationTask.Reach then 100 else 200

// It has faded after 100,000 steps. The network learned actions alone, so that its own deviation means nothing.
let imitating =
    ImitationBonus(Weight = Schedule.piecewise [ 10, 10.0; 100, 0.0 ], Deviation = Nullable 0.5)

/// Steps to the target, if it was reached.
let student
    (settings: string list)
    (task: ManipulationTask)
    (name: string, bonus: ImitationBonus | null)
    seed
    =
    let folder = $"logs/multitask/students/{task}-{name}-{seed}"

    let sac =
        SacConfig.Manipulation
        |> Settings.set <@ _.Iterations @> (iterations task)
        |> Settings.set <@ _.Imitation @> bonus

    Run.stageFrom (encoder :: collective :: settings) folder (fun own ->
        Run.guidedSacWith (settings @ own @ [ $"seed={seed}" ]) (training task) (Teacher.load collective) sac)

    (RunRecord.read folder).StepsToTarget

Script.main (fun arguments ->
    let own, settings =
        arguments
        |> List.partition (fun argument -> argument.StartsWith "tasks=" || argument.StartsWith "seeds=")

    let wanted =
        Settings.apply1
            own
            {
                Tasks = [ ManipulationTask.Reach; ManipulationTask.Push; ManipulationTask.PickPlace ]
                Seeds = 3
            }

    for task in wanted.Tasks do
        for arm in [ "with", imitating; "without", null ] do
            let steps = List.init wanted.Seeds (student settings task arm)
            let reached = List.choose id steps

            let each =
                [ for steps in steps -> steps |> Option.map string |> Option.defaultValue "not reached" ]

            let mean =
                if reached.Length = steps.Length then
                    $", mean {Statistics.mean95 reached}"
                else
                    ""

            printfn
                $"""{task} {fst arm} the bonus, steps to 90 %% success: {String.Join("; ", each)}{mean}""")
