/// Sweeps of scripts, their trials in processes of their own: sudden death, signals, Slurm.
module Distill.Tests.SweepScriptTests

open System
open System.Diagnostics
open System.IO
open System.Threading
open Distill.Tests.RunTests
open Xunit

/// A script in the workplace that distils for some seconds, so that a test can meet it halfway.
let private script (place: Workplace) =
    let teacher = place.Path "teacher.safetensors"
    saveTeacher teacher

    let library (name: string) =
        Path.Combine(AppContext.BaseDirectory, name)

    File.WriteAllText(
        place.Path "pole.fsx",
        $"""
#r @"{library "Distill.Core.dll"}"
#r @"{library "Distill.Scripts.dll"}"
open Distill

distillation {{
    name "pole"
    environment (CartPole.balance {{ envs = 32 }})
    teacher (Teacher.load @"{teacher}")
    student (Student.gru {{ hidden = 8 }})
    acting (Acting.teacherUntil 10)
    retain (Retain.latest 10_000)
    loss (Loss.crossEntropy 0.0)
    collect (Collect.stepsPerEnv 50)
    iterations 400
    evaluationInterval 20
    saveInterval 4
    finalEpisodes 64
}}
|> Run.distil
"""
    )

    place.Path "pole.fsx"

let private start (path: string) (arguments: string list) =
    let info =
        ProcessStartInfo(
            "dotnet",
            [ "fsi"; "--quiet"; path; "sweep" ] @ arguments,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        )

    nonNull (Process.Start info)

let private finish (running: Process) =
    let error = running.StandardError.ReadToEndAsync()
    let output = running.StandardOutput.ReadToEnd()
    running.WaitForExit()
    running.ExitCode, output + error.Result

let private run (path: string) (arguments: string list) = finish (start path arguments)

let private succeed (path: string) (arguments: string list) =
    let code, output = run path arguments
    Assert.True((code = 0), output)
    output

let private ask (program: string) (arguments: string list) =
    use running =
        nonNull (
            Process.Start(
                ProcessStartInfo(
                    program,
                    arguments,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true
                )
            )
        )

    let code, output = finish running
    Assert.True((code = 0), output)
    output.Trim()

let private results (logs: string) =
    File.ReadAllText(Path.Combine(logs, "pole", "sweep", "results.csv"))

let private waitUntil (what: string) (holds: unit -> bool) =
    let watch = Stopwatch.StartNew()

    while not (holds ()) do
        if watch.Elapsed > TimeSpan.FromMinutes 3.0 then
            failwith $"Waited 3 minutes in vain for {what}."

        Thread.Sleep 50

/// Whether some trial is between its first checkpoint and its end.
let private underWay (logs: string) () =
    let root = Path.Combine(logs, "pole", "sweep")

    Directory.Exists root
    && Directory.GetDirectories(root, "*seed*")
       |> Array.exists (fun trial ->
           Directory.GetFiles(trial, "student_*.safetensors", SearchOption.AllDirectories).Length > 0
           && not (File.Exists(Path.Combine(trial, "result.csv"))))

[<Fact>]
let ``killed and run again, a sweep has the results of an undisturbed one`` () =
    use place = new Workplace()
    let path = script place
    let whole, killed = place.Path "whole", place.Path "killed"
    let arguments = [ "phase1_iterations=5,200"; "--workers"; "2" ]
    succeed path ($"logs={whole}" :: arguments) |> ignore
    use running = start path ($"logs={killed}" :: arguments)
    waitUntil "a trial under way" (underWay killed)
    running.Kill(entireProcessTree = true)
    running.WaitForExit()
    Assert.False(File.Exists(Path.Combine(killed, "pole", "sweep", "results.csv")))
    succeed path ($"logs={killed}" :: arguments) |> ignore
    Assert.Equal(results whole, results killed)
    // A trial that was under way went on from its checkpoint.
    let logOf (trial: string) =
        File.ReadAllText(Path.Combine(trial, "log.txt"))

    let starts =
        Directory.GetDirectories(Path.Combine(killed, "pole", "sweep"), "*seed*")
        |> Array.map logOf
        |> Array.filter (fun log -> log.Split("Teacher alone:").Length > 2)

    Assert.Contains(starts, fun log -> log.Split("[  1/400]").Length = 2)
    Assert.Contains("2 finished, 0 to run", succeed path ($"logs={killed}" :: arguments))

[<Fact>]
let ``SIGTERM reaches the trials, which write their checkpoints`` () =
    use place = new Workplace()
    let path = script place
    let logs = place.Path "logs"
    let arguments = [ $"logs={logs}"; "iterations=5000"; "seed=0,1"; "--workers"; "2" ]
    use running = start path arguments
    waitUntil "a trial under way" (underWay logs)
    // Each trial gets it twice, from here and from the sweep, as when a whole group is told.
    let trials = (ask "pgrep" [ "-P"; string running.Id ]).Split '\n'
    ask "kill" ("-TERM" :: string running.Id :: List.ofArray trials) |> ignore
    let code, output = finish running
    Assert.Equal(143, code)
    Assert.Contains("Stopped with 2 trials left", output)

    // The one that was under way, at least; the other may not have begun.
    let trialLogs =
        Directory.GetFiles(logs, "log.txt", SearchOption.AllDirectories) |> Array.map File.ReadAllText

    Assert.Contains(trialLogs, fun log -> log.Contains "Stopped after iteration")
    let list = succeed path [ "list"; $"logs={logs}" ]
    Assert.Contains("interrupted", list)
    Assert.DoesNotContain("running", list)

[<Fact>]
let ``one trial that cannot run does not stop the others, and the exit code tells`` () =
    use place = new Workplace()
    let path = script place
    let logs = place.Path "logs"

    let arguments =
        [ $"logs={logs}"; "iterations=3"; "loss=mse,cross_entropy"; "--workers"; "2" ]

    let code, output = run path arguments
    Assert.Equal(1, code)
    Assert.Contains("1 trial did not finish: 1 failed", output)
    let list = succeed path [ "list"; $"logs={logs}" ]
    Assert.Contains("failed: ", list)
    Assert.Contains("cross_entropy", list)
    Assert.Contains("Best: ", succeed path [ "best"; $"logs={logs}" ])

/// A test that needs Slurm's daemons and root to start them.
type SlurmFactAttribute() as fact =
    inherit FactAttribute()

    let missing =
        [ "slurmctld"; "slurmd"; "munged"; "sbatch" ]
        |> List.filter (fun program ->
            [ "/usr/sbin"; "/usr/bin" ]
            |> List.forall (fun folder -> not (File.Exists(Path.Combine(folder, program)))))

    do
        if not missing.IsEmpty then
            let names = String.Join(", ", missing)

            fact.Skip <-
                $"Slurm is not installed here ({names} missing): apt-get install --no-install-recommends slurm-wlm munge"
        elif Environment.UserName <> "root" then
            fact.Skip <- "Only root can start the daemons of Slurm."

/// The Slurm of tests/slurm, as long as this lives.
type private OneNode(place: Workplace) =
    let folder = place.Path "slurm"

    let scripts =
        let rec up (folder: DirectoryInfo | null) =
            match folder with
            | null -> failwith $"No tests/slurm above {AppContext.BaseDirectory}."
            | folder when Directory.Exists(Path.Combine(folder.FullName, "tests", "slurm")) ->
                Path.Combine(folder.FullName, "tests", "slurm")
            | folder -> up folder.Parent

        up (DirectoryInfo AppContext.BaseDirectory)

    let call (name: string) =
        use running = Process.Start(Path.Combine(scripts, name), [ folder ])
        running.WaitForExit()
        running.ExitCode

    do
        Assert.Equal(0, call "slurm-up.sh")
        Environment.SetEnvironmentVariable("SLURM_CONF", Path.Combine(folder, "slurm.conf"))

    interface IDisposable with
        member _.Dispose() =
            call "slurm-down.sh" |> ignore
            Environment.SetEnvironmentVariable("SLURM_CONF", null)

[<SlurmFact>]
let ``on Slurm a sweep has the same results, though a task is queued again halfway`` () =
    use place = new Workplace()
    use _ = new OneNode(place)
    let path = script place
    let here, there = place.Path "here", place.Path "there"
    let arguments = [ "phase1_iterations=5,200" ]
    succeed path ($"logs={here}" :: arguments) |> ignore

    let submit () =
        succeed path ([ $"logs={there}"; "--on"; "slurm" ] @ arguments)

    Assert.Contains("Job 1: 2 trials", submit ())
    Assert.Contains("2 queued, 0 to run", submit ())
    waitUntil "a trial under way" (underWay there)
    // Those that still run are stopped with SIGTERM, write their checkpoints, and wait in the queue again.
    ask "scontrol" [ "requeue"; "1" ] |> ignore
    waitUntil "the end of the job" (fun () -> ask "squeue" [ "--noheader"; "--jobs"; "1" ] = "")
    Assert.Contains("Tables: ", succeed path [ "results"; $"logs={there}" ])
    Assert.Equal(results here, results there)

    let logs =
        Directory.GetFiles(Path.Combine(there, "pole", "sweep"), "log.txt", SearchOption.AllDirectories)
        |> Array.map File.ReadAllText

    Assert.Contains(logs, fun log -> log.Contains "Stopped after iteration")
