/// Scripts as child processes: exit codes, sentences on the error stream, signals and sudden death.
module Distill.Tests.ScriptTests

open System
open System.Diagnostics
open System.IO
open System.Text.RegularExpressions
open Distill
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

/// Writes a script with the given body; returns its path.
let script (place: Workplace) (body: string) =
    let path = place.Path "experiment.fsx"

    let reference (library: string) =
        let file = Path.Combine(AppContext.BaseDirectory, library)
        $"#r @\"{file}\""

    File.WriteAllLines(
        path,
        [ reference "Distill.Core.dll"; reference "Distill.Scripts.dll"; "open Distill"; body ]
    )

    path

/// A distillation of 40 short iterations.
let private experiment (place: Workplace) =
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher

    script
        place
        $"""
distillation {{
    name "pole"
    environment (CartPole.balance {{ envs = 32 }})
    teacher (Teacher.load @"{teacher}")
    student (Student.gru {{ hidden = 8 }})
    acting (Acting.teacherUntil 10)
    retain (Retain.latest 10_000)
    loss (Loss.crossEntropy 0.0)
    collect (Collect.stepsPerEnv 50)
    iterations 40
    saveInterval 7
    finalEpisodes 64
}}
|> Run.distil
"""

/// F# Interactive of the SDK. `dotnet fsi` would run it in a process of its own, past which not all signals come.
let private interactive =
    lazy
        (use running =
            nonNull (Process.Start(ProcessStartInfo("dotnet", [ "--info" ], RedirectStandardOutput = true)))

         let info = running.StandardOutput.ReadToEnd()
         running.WaitForExit()
         let sdk = Regex.Match(info, @"Base Path:\s+(.+)").Groups[1].Value.Trim()
         Path.Combine(sdk, "FSharp", "fsi.dll"))

/// Starts the script in the folder. Whoever runs the tests may have had signals ignored, which children inherit.
let private startIn (folder: string) (path: string) (arguments: string list) =
    let info =
        ProcessStartInfo(
            "env",
            [ "--default-signal=HUP,INT"; "dotnet"; "exec"; interactive.Value; "--quiet"; path ] @ arguments,
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        )

    nonNull (Process.Start info)

/// Starts F# Interactive on a script.
let start (path: string) (arguments: string list) = startIn "" path arguments

/// Exit code, standard output and standard error of a process that runs to its end.
let finish (running: Process) =
    let error = running.StandardError.ReadToEndAsync()
    let output = running.StandardOutput.ReadToEnd()
    running.WaitForExit()
    running.ExitCode, output, error.Result

/// Exit code, standard output and standard error of a script that runs to its end.
let run (path: string) (arguments: string list) = finish (start path arguments)

/// Reads lines until one begins with the text; kills the script if it ends or goes on for long without.
let waitFor (text: string) (running: Process) =
    let rec read (lines: int) =
        let line = running.StandardOutput.ReadLine()

        match line with
        | null -> give line
        | _ when lines > 2000 -> give line
        | line when line.StartsWith text -> ()
        | _ -> read (lines + 1)

    and give (last: string | null) =
        running.Kill(entireProcessTree = true)
        failwith $"No line begins with '{text}'; the last is '{last}'. {running.StandardError.ReadToEnd()}"

    read 0

let private student (output: string) =
    let folder = Regex.Match(output, "Run folder: (.+)").Groups[1].Value.Trim()
    File.ReadAllBytes((RunFolder.Open folder).Checkpoint "final_student.safetensors")

[<Fact>]
let ``what the user can mend is one sentence and exit code 2`` () =
    use place = new Workplace()
    let path = experiment place
    let code, _, error = run path [ "iteration=3" ]
    Assert.Equal(2, code)
    Assert.Equal("There is no setting 'iteration'; did you mean iterations?", error.Trim())

    let path =
        script place "Script.main (fun _ -> System.IO.File.WriteAllText(\"/nowhere/at/all\", \"\"))"

    let code, _, error = run path []
    Assert.Equal(2, code)
    Assert.Contains("/nowhere/at/all", error)
    Assert.Equal(1, error.Trim().Split('\n').Length)

[<Fact>]
let ``any other failure is a message with a hint and exit code 1`` () =
    use place = new Workplace()

    let path =
        script place "let job _ : unit = invalidOp \"the sky fell\"\nScript.main job"

    let code, _, error = run path []
    Assert.Equal(1, code)
    Assert.StartsWith("InvalidOperationException: the sky fell", error)
    Assert.Contains("DISTILL_TRACE=1", error)
    Assert.DoesNotContain("   at ", error)

[<Fact>]
let ``killed and resumed makes the student of an undisturbed run`` () =
    use place = new Workplace()
    let path = experiment place
    let undisturbed = start path [ $"""logs={place.Path "whole"}""" ]
    let killed = start path [ $"""logs={place.Path "killed"}""" ]
    waitFor "[17/40]" killed
    killed.Kill(entireProcessTree = true)
    killed.WaitForExit()
    let folder = Directory.GetDirectories(place.Path "killed/pole") |> Array.exactlyOne
    let code, output, _ = finish undisturbed
    Assert.Equal(0, code)
    let resumedCode, resumed, _ = run path [ $"resume={folder}" ]
    Assert.Equal(0, resumedCode)
    // Where it goes on depends on how long the kill took, but it is always after a checkpoint.
    let first = int (Regex.Match(resumed, @"\[ *(\d+)/40\]").Groups[1].Value)
    Assert.Equal(0, (first - 1) % 7)
    Assert.InRange(first, 15, 40)
    Assert.Equal<byte array>(student output, student resumed)

/// A small way from a teacher that is told its drone, by a set of teachers, to a student that PPO improves.
let private pipeline (place: Workplace) =
    script
        place
        """
open Distill.Algorithms
open Distill.Environments.Quadrotor

let flying (envs: int) =
    Quadrotor.mixture { envs = envs } |> Quadrotor.flying (Drones.sample { number = 2; seed = 3 })

let training =
    { TrainTeacher.defaults with
        Environment = flying 32
        SaveInterval = 2
        EvaluationInterval = 5
        EvaluationEpisodes = 8
        FinalEpisodes = 16
    }

let short (iterations: int) (ppo: PpoConfig) =
    ppo
    |> Settings.set <@ _.Iterations @> iterations
    |> Settings.set <@ _.NumMiniBatches @> (Schedule.constant 2.0)

Script.main (fun arguments ->
    let folder = List.head arguments

    let stage (name: string) work =
        Run.stage $"{folder}/{name}" (fun own -> work ("report=false" :: "threads=1" :: own))

    let file (stage: string) (name: string) =
        $"{folder}/{stage}/checkpoints/{name}.safetensors"

    let read (stage: string) (name: string) (group: string) =
        Student.load (file stage name) |> Student.reading group

    stage "teacher" (fun given ->
        PpoConfig.Privileged
        |> Settings.set <@ _.Actor @> (Student.mlp { hidden = [ 8 ] } |> Student.reading "privileged")
        |> short 60
        |> Run.trainTeacherWith given training)

    let critic = read "teacher" "critic" "privileged"

    Run.trainTeachersWith
        [ "threads=1" ]
        { TrainTeachers.defaults with Set = $"{folder}/set" }
        training
        (PpoConfig.GoOn(read "teacher" "best_teacher" "privileged", critic, 60)
         |> short 60
         |> Reinforcement.ppo Teacher.none)
    |> ignore

    stage "student" (fun given ->
        distillation {
            environment (flying 32)
            teacher (Teacher.set $"{folder}/set")
            preset Preset.foundation
            student (Student.gru { hidden = 8 } |> Student.reading "tracking")
            collect (Collect.episodes 32)
            iterations 40
            saveInterval 2
            evaluationInterval 10
            evaluationEpisodes 8
            finalEpisodes 16
        }
        |> Run.distilWith given)

    stage "improved" (fun given ->
        PpoConfig.GoOn(read "student" "best_student" "tracking", critic, 60)
        |> short 60
        |> Settings.set <@ _.InitStd @> (System.Nullable 0.1)
        |> Run.improveWith given training (Teacher.load (file "teacher" "best_teacher"))))
"""

[<Fact>]
let ``killed in each of its stages, the way to a foundation policy ends with the same bits`` () =
    use place = new Workplace()
    let path = pipeline place
    let whole, killed = place.Path "whole", place.Path "killed"
    let undisturbed = start path [ whole ]

    /// Every state that some training could go on from.
    let states (stage: string) =
        let folder = Path.Combine(killed, stage)

        if Directory.Exists folder then
            Directory.GetFiles(folder, "state.safetensors", SearchOption.AllDirectories)
        else
            [||]

    for stage, last in
        [
            "teacher", "result.csv"
            "set", "teachers.csv"
            "student", "result.csv"
            "improved", "result.csv"
        ] do
        let running = start path [ killed ]
        let began = DateTime.UtcNow

        let underWay () =
            states stage |> Array.exists (fun state -> File.GetLastWriteTimeUtc state > began)

        while not (underWay () || running.HasExited) do
            Threading.Thread.Sleep 1

        running.Kill(entireProcessTree = true)
        running.WaitForExit()
        Assert.False(File.Exists(Path.Combine(killed, stage, last)), $"{stage} had ended")

    let code, output, error = finish undisturbed
    Assert.True((code = 0), error + output)
    let code, output, error = run path [ killed ]
    Assert.True((code = 0), error + output)

    for policy in
        [
            "teacher/checkpoints/final_teacher.safetensors"
            "teacher/checkpoints/critic.safetensors"
            "set/policies/00000.safetensors"
            "set/policies/00001.safetensors"
            "student/checkpoints/best_student.safetensors"
            "improved/checkpoints/final_student.safetensors"
        ] do
        let parameters (folder: string) =
            use policy = PolicyFile.Load(Path.Combine(folder, policy))
            policy.Network.Parameters.Span.ToArray()

        Assert.Equal<float32 array>(parameters whole, parameters killed)

[<Fact>]
let ``a comparison that was killed keeps its finished runs and goes on when it is run again`` () =
    use place = new Workplace()
    let path = experiment place
    let text = File.ReadAllText path

    File.WriteAllText(
        path,
        text.Replace(
            "|> Run.distil",
            "|> Run.compare (fun phase1 -> [ \"student only\", Acting.studentAlways; \"two stages\", Acting.teacherUntil phase1 ])"
        )
    )

    let arguments (logs: string) =
        [ $"logs={place.Path logs}"; "seeds=1"; "iterations=120" ]

    let undisturbed = start path (arguments "whole")
    let killed = start path (arguments "killed")
    waitFor "--- two stages" killed
    waitFor "[ 17/120]" killed
    killed.Kill(entireProcessTree = true)
    killed.WaitForExit()
    let code, _, _ = finish undisturbed
    Assert.Equal(0, code)
    let code, output, error = run path (arguments "killed")
    Assert.True((code = 0), error)
    Assert.Equal(2, output.Split("Finished before").Length)
    // It went on after its first checkpoint.
    Assert.DoesNotContain("[  1/120]", output)

    let table (logs: string) =
        File.ReadAllText(place.Path $"{logs}/pole/comparison.csv").Replace(place.Path logs, "")

    Assert.Equal(table "whole", table "killed")

let private send (signal: string) (running: Process) =
    use kill = Process.Start("kill", [ $"-{signal}"; string running.Id ])
    kill.WaitForExit()

[<Theory>]
[<InlineData("TERM", 143)>]
[<InlineData("HUP", 129)>]
let ``a signal saves, says how to go on, and ends with its exit code`` (signal: string) (expected: int) =
    use place = new Workplace()
    let path = experiment place
    let logs = place.Path "logs"
    let running = start path [ $"logs={logs}"; "iterations=9000" ]
    waitFor "[   3/9000]" running
    send signal running
    let code, output, error = finish running
    Assert.Contains("Stopping after this iteration; again to stop now.", error)
    Assert.Equal(expected, code)

    let stopped =
        Regex.Match(output, @"Stopped after iteration (\d+) of 9000; go on with: .* resume (.+)")

    Assert.True(stopped.Success, output)
    let done' = int stopped.Groups[1].Value

    let report =
        File.ReadAllText(Regex.Match(output, "Report: (.+)").Groups[1].Value.Trim())

    Assert.Contains($"stopped or running: {done'} of ", report.Replace(",", ""))

    let code, resumed, _ =
        run path [ $"resume={stopped.Groups[2].Value.Trim()}"; $"iterations={done' + 1}" ]

    Assert.Equal(0, code)
    Assert.Contains($"[{done' + 1}/{done' + 1}]", resumed)

[<Fact>]
let ``a misspelt field of an experiment or a sweep names the near one`` () =
    use place = new Workplace()

    for body, wanted in
        [
            "distillation {\n    name \"x\"\n    iteration 5\n    seed 1\n}", "iterations"
            "sweep {\n    name \"x\"\n    seed [ 1 ]\n    search Search.Grid\n}", "seeds"
        ] do
        let code, _, error = run (script place body) []
        Assert.NotEqual(0, code)
        Assert.Contains("Maybe you want one of the following", error)
        Assert.Contains(wanted, error)

[<Fact>]
let ``a second signal ends the process at once`` () =
    use place = new Workplace()

    let path =
        script
            place
            "let asked = new Script.Interruption(\"Soon.\")\nprintfn \"runs\"\nwhile true do System.Threading.Thread.Sleep 10"

    let running = start path []
    waitFor "runs" running
    send "INT" running
    Assert.Equal("Soon.", running.StandardError.ReadLine())
    // Within a second two signals count as one.
    Threading.Thread.Sleep 1100
    send "INT" running
    let code, _, error = finish running
    Assert.Equal(130, code)
    Assert.Equal("Stopped at once; what was saved last is kept.", error.Trim())

[<Fact>]
let ``a reader of the output that ends early does not stop a run`` () =
    use place = new Workplace()
    let path = experiment place
    let logs = place.Path "logs"

    use running =
        Process.Start(
            "bash",
            [ "-c"; $"set -o pipefail; dotnet fsi --quiet '{path}' 'logs={logs}' 2>&1 | head -1 >/dev/null" ]
        )

    running.WaitForExit()
    Assert.Equal(0, running.ExitCode)

    let folder =
        Directory.GetDirectories(Path.Combine(logs, "pole")) |> Array.exactlyOne

    Assert.True(File.Exists(Path.Combine(folder, "result.csv")))

[<Fact>]
let ``output to a full disk does not stop a run`` () =
    use place = new Workplace()
    let path = experiment place
    let logs = place.Path "logs"

    use running =
        Process.Start("bash", [ "-c"; $"dotnet fsi --quiet '{path}' 'logs={logs}' >/dev/full 2>&1" ])

    running.WaitForExit()
    Assert.Equal(0, running.ExitCode)

    let folder =
        Directory.GetDirectories(Path.Combine(logs, "pole")) |> Array.exactlyOne

    Assert.True(File.Exists(Path.Combine(folder, "result.csv")))

/// A repository with the build.fsx of this one, which takes the libraries for built.
let private repository (place: Workplace) =
    let text = File.ReadAllText(Path.Combine(RepositoryRules.root, "build.fsx"))
    Assert.Contains("    ensure libraries\n", text)
    let root = Directory.CreateDirectory(place.Path "repository").FullName
    File.WriteAllText(Path.Combine(root, "build.fsx"), text.Replace("    ensure libraries\n", ""))
    root

[<Fact>]
let ``a signal to build.fsx alone reaches the run`` () =
    use place = new Workplace()
    let path = experiment place
    let logs = place.Path "logs"

    let running =
        startIn (repository place) "build.fsx" [ "run"; path; $"logs={logs}"; "iterations=9000" ]

    waitFor "[   3/9000]" running
    send "INT" running
    let code, output, _ = finish running
    Assert.Equal(130, code)
    Assert.Contains("Stopped after iteration", output)

[<Fact>]
let ``resume runs a script from elsewhere only if it is trusted`` () =
    use place = new Workplace()
    let root = repository place

    let run =
        Directory.CreateDirectory(Path.Combine(root, "logs", "pole", "run", "params")).Parent |> nonNull

    let scriptIn (folder: string) =
        Directory.CreateDirectory folder |> ignore
        let path = Path.Combine(folder, "script.fsx")
        File.WriteAllText(path, "printfn \"ran %s\" fsi.CommandLineArgs[1]")
        path

    let resume (script: string) (arguments: string list) =
        let json = Text.Json.JsonSerializer.Serialize {| script = script; settings = [||] |}
        File.WriteAllText(Path.Combine(run.FullName, "params", "command.json"), json)
        finish (startIn root "build.fsx" ([ "resume"; run.FullName ] @ arguments))

    let ran = $"ran resume={run.FullName}"
    let elsewhere = scriptIn (place.Path "elsewhere")

    for script in [ "../elsewhere/script.fsx"; scriptIn run.FullName ] do
        let code, output, error = resume script []
        Assert.Equal((2, ""), (code, output))
        Assert.Contains("add --trust", error)

    let code, output, _ = resume elsewhere [ "--trust" ]
    Assert.Equal((0, ran), (code, output.Trim()))
    scriptIn (Path.Combine(root, "experiments")) |> ignore
    let code, output, _ = resume "experiments/script.fsx" []
    Assert.Equal((0, ran), (code, output.Trim()))

    File.WriteAllText(Path.Combine(run.FullName, "params", "command.json"), "{\"script\":3}")
    let code, _, error = finish (startIn root "build.fsx" [ "resume"; run.FullName ])
    Assert.Equal(2, code)
    Assert.Contains("command.json does not say which script made the run", error)
