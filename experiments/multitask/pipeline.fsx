// Many tasks, one network, from nothing: experts, their trajectories, an encoder, the collective network beside its rivals, a student that
// outgrows it. Each stage is the script of its number, in a process of its own; started again, it goes on where it was stopped and does
// nothing where its output stands.
// dotnet fsi build.fsx run experiments/multitask/pipeline.fsx
#load "../../Distill.Scripts/load.fsx"

open System.Diagnostics
open Distill

let script (name: string) (arguments: string list) =
    printfn $"--- {name}"

    let own = [ "fsi"; "--optimize+"; "--quiet"; $"{__SOURCE_DIRECTORY__}/{name}.fsx" ]

    use child = Process.Start("dotnet", own @ arguments)
    child.WaitForExit()

    if child.ExitCode <> 0 then
        raise (Script.Stopped(child.ExitCode, $"{name} has not finished; the same command goes on."))

Script.main (fun _ ->
    script "1-experts" []
    script "2-trajectories" []
    // A training that was stopped is resumed, one that has finished is left alone.
    Run.stage "logs/multitask/encoder" (script "3-encoder")
    script "4-collective" []
    script "5-student" [])
