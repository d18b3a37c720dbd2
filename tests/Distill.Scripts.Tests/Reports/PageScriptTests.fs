/// The scripts report.fsx, replay.fsx and board.fsx, as build.fsx runs them: pages where there is something to show, else one
/// sentence and exit code 2.
module Distill.Tests.PageScriptTests

open System
open System.IO
open Distill
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

/// The script of this name in the repository that these tests were built from.
let private scriptPath (name: string) =
    let rec up (folder: DirectoryInfo) =
        let path = Path.Combine(folder.FullName, "Distill.Scripts", name + ".fsx")

        if File.Exists path then
            path
        else
            up (nonNull folder.Parent)

    up (DirectoryInfo AppContext.BaseDirectory)

/// Exit code, standard output and standard error of a page's script. It is run with the libraries of these tests.
let private run (place: Workplace) (name: string) (arguments: string list) =
    let library (name: string) =
        "#r @\"" + Path.Combine(AppContext.BaseDirectory, name) + "\""

    let path = place.Path $"{name}.fsx"

    File.WriteAllLines(
        path,
        [
            for line in File.ReadAllLines(scriptPath name) do
                if line.StartsWith "#load" then
                    library "Distill.Core.dll"
                    library "Distill.Scripts.dll"
                else
                    line
        ]
    )

    let code, output, error = ScriptTests.run path arguments
    code, output, error.Trim()

/// A policy that gives all rotors about the thrust of hovering.
let private saveHover (path: string) =
    use policy = new Policy(NetworkSpec.Mlp(22, [ 4 ], 4), "student")
    policy.Network.Parameters.Span.Clear()
    PolicyFile.Save(path, policy)

let private quadrotors (policy: string) =
    distillation {
        name "hover"
        environment (Quadrotor.pointControl { envs = 32 })
        teacher (Teacher.load policy)
        student (Student.mlp { hidden = [ 4 ] } |> Student.reading "tracking")
        acting (Acting.teacherUntil 1)
        collect (Collect.stepsPerEnv 5)
        iterations 4
        evaluationEpisodes 32
        saveInterval 2
        finalEpisodes 32
    }

/// A run as it is after it was stopped: it has checkpoints, but neither results nor pages.
let private interrupted (place: Workplace) =
    let teacher = place.Path "teacher.safetensors"
    saveHover teacher
    let logs = place.Path "logs"
    let result = Run.distilWith [ $"logs={logs}"; "report=false" ] (quadrotors teacher)
    let folder = (RunFolder.Open result.Folder).Path
    File.Delete(Path.Combine(folder, "result.csv"))

    for name in [ "final_student.safetensors"; "final_student.pt" ] do
        File.Delete(Path.Combine(folder, "checkpoints", name))

    folder

[<Fact>]
let ``report, replay and board write their pages`` () =
    use place = new Workplace()
    let folder = interrupted place
    let code, output, error = run place "replay" [ folder ]
    Assert.Equal((0, ""), (code, error))
    Assert.Contains("Replay: ", output)
    let replay = File.ReadAllText(Path.Combine(folder, "replay.html"))
    Assert.Contains("after 4 iterations", replay)
    Assert.Contains("\"name\":\"teacher\"", replay)
    Assert.Contains("\"name\":\"student\"", replay)
    // What the end of the run will record is not there yet.
    Assert.False(Directory.Exists(Path.Combine(folder, "flights")))

    let code, output, error = run place "report" [ folder ]
    Assert.Equal((0, ""), (code, error))
    Assert.Contains("report.html", output)
    Assert.Contains("<h1>hover</h1>", File.ReadAllText(Path.Combine(folder, "report.html")))

    let code, output, error = run place "board" [ place.Path "logs" ]
    Assert.Equal((0, ""), (code, error))
    Assert.Contains("board.html", output)
    Assert.Contains("1 run, 0 sweeps", File.ReadAllText(place.Path "logs/board.html"))

[<Theory>]
[<InlineData("report", "is not a run folder")>]
[<InlineData("replay", "is not a run folder")>]
[<InlineData("board", "There is no folder")>]
let ``an unknown folder is one sentence and exit code 2`` (name: string) (sentence: string) =
    use place = new Workplace()
    let code, output, error = run place name [ place.Path "none" ]
    Assert.Equal((2, ""), (code, output))
    Assert.Contains(sentence, error)
    Assert.Single(error.Split '\n') |> ignore

[<Fact>]
let ``the newest student flies where none is the best yet`` () =
    use place = new Workplace()
    let folder = interrupted place

    let checkpoint (name: string) =
        Path.Combine(folder, "checkpoints", name)

    File.Delete(checkpoint "best_student.safetensors")

    let rewards (replay: Replay) =
        replay.Flights |> List.last |> snd |> _.Reward

    let newest = rewards (UnfinishedReplay.ofRun folder)
    File.Delete(checkpoint "student_4.safetensors")
    Assert.NotEqual<float[]>(newest, rewards (UnfinishedReplay.ofRun folder))
    File.Delete(checkpoint "student_2.safetensors")

    let error =
        Expect.throws<DistillException>(fun () -> UnfinishedReplay.ofRun folder |> ignore)

    Assert.Contains("no checkpoint of a student yet", error.Message)

[<Fact>]
let ``a run that is not about quadrotors has no replay`` () =
    use place = new Workplace()
    let run = RunFolder.Create(place.Path "logs", "pole")
    run.WriteParameters("env", dict [ "kind", box "cart_pole" ])

    let error =
        Expect.throws<DistillException>(fun () -> UnfinishedReplay.ofRun run.Path |> ignore)

    Assert.Contains("only runs of quadrotors", error.Message)
