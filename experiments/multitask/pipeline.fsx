// Many tasks, one network, from nothing: experts, their trajectories, an encoder, the collective network beside its rivals, a student that
// outgrows it. Each stage is the script of its number, in a process of its own; started again, it goes on where it was stopped and does
// nothing where its output stands. `small` goes through all of it with a few steps, to see that it runs: in a folder of its own.
// dotnet fsi build.fsx run experiments/multitask/pipeline.fsx [small]
#load "../../Distill.Scripts/load.fsx"

open System.Diagnostics
open System.IO
open Distill

let script (name: string) (arguments: string list) =
    printfn $"--- {name}"

    let own = [ "fsi"; "--optimize+"; "--quiet"; $"{__SOURCE_DIRECTORY__}/{name}.fsx" ]

    use child = Process.Start("dotnet", own @ arguments)
    child.WaitForExit()

    if child.ExitCode <> 0 then
        raise (Script.Stopped(child.ExitCode, $"{name} has not finished; the same command goes on."))

/// What makes a stage small.
let few =
    function
    | "1-experts" ->
        [
            "variant_iterations=[2,2,2]"
            "evaluation_interval=2"
            "evaluation_episodes=6"
            "final_episodes=6"
        ]
    | "2-trajectories" -> [ "episodes=4" ]
    | "3-encoder" -> [ "iterations=2"; "updates_per_iteration=2" ]
    | "4-collective" ->
        [
            "seeds=1"
            "episodes=2"
            "iterations=2"
            "steps_per_env=10"
            "num_learning_epochs=1"
            "evaluation_interval=2"
            "evaluation_episodes=6"
            "final_episodes=6"
        ]
    | _ -> [ "seeds=1"; "iterations=2"; "evaluation_interval=2"; "evaluation_episodes=6"; "final_episodes=6" ]

Script.main (fun arguments ->
    let small = arguments = [ "small" ]

    if small then
        Directory.CreateDirectory "logs/multitask-small" |> _.FullName |> Directory.SetCurrentDirectory

    let script (name: string) (arguments: string list) =
        script name (arguments @ if small then few name else [])

    script "1-experts" []
    script "2-trajectories" []
    // A training that was stopped is resumed, one that has finished is left alone, unless the episodes have changed.
    Run.stageFrom [ "logs/multitask/trajectories.safetensors" ] "logs/multitask/encoder" (script "3-encoder")
    script "4-collective" []
    script "5-student" [])
