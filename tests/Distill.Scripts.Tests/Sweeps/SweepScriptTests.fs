/// Sweeps of scripts, their trials in processes of their own: sudden death and signals.
module Distill.Tests.SweepScriptTests

open System
open System.Diagnostics
open System.IO
open System.Threading
open Distill.Tests.RunTests
open Xunit

/// A script in the workplace that distils for some seconds, so that a test can meet it halfway.
let script (place: Workplace) =
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
    iterations 250
    evaluationInterval 20
    saveInterval 4
    finalEpisodes 64
}}
|> Run.distil
"""
    )

    place.Path "pole.fsx"

let start (path: string) (arguments: string list) =
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

let run (path: string) (arguments: string list) = finish (start path arguments)

let succeed (path: string) (arguments: string list) =
    let code, output = run path arguments
    Assert.True((code = 0), output)
    output

let ask (program: string) (arguments: string list) =
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

let results (logs: string) =
    File.ReadAllText(Path.Combine(logs, "pole", "sweep", "results.csv"))

let waitUntil (what: string) (holds: unit -> bool) =
    let watch = Stopwatch.StartNew()

    while not (holds ()) do
        if watch.Elapsed > TimeSpan.FromMinutes 3.0 then
            failwith $"Waited 3 minutes in vain for {what}."

        Thread.Sleep 50

/// Whether the trial in the folder has a state to go on from, and has not ended. The state is written after the student's file,
/// so the second file tells that the first state is whole.
let trialUnderWay (folder: string) () =
    Directory.Exists folder
    && Directory.GetFiles(folder, "student_*.safetensors", SearchOption.AllDirectories).Length > 1
    && not (File.Exists(Path.Combine(folder, "result.csv")))

/// The folder of the first trial that is under way.
let private underWay (logs: string) : string option =
    let root = Path.Combine(logs, "pole", "sweep")

    if Directory.Exists root then
        Directory.GetDirectories(root, "*seed*") |> Array.tryFind (fun folder -> trialUnderWay folder ())
    else
        None

[<Fact>]
let ``killed and run again, a sweep has the results of an undisturbed one`` () =
    use place = new Workplace()
    let path = script place
    let whole, killed = place.Path "whole", place.Path "killed"
    let arguments = [ "phase1_iterations=5,200"; "--workers"; "2" ]
    succeed path ($"logs={whole}" :: arguments) |> ignore
    use running = start path ($"logs={killed}" :: arguments)
    waitUntil "a trial under way" (fun () -> (underWay killed).IsSome)
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

    Assert.Contains(starts, fun log -> log.Split("[  1/250]").Length = 2)
    Assert.Contains("2 finished, 0 to run", succeed path ($"logs={killed}" :: arguments))

/// Ids of the processes that a process started, and that those started.
let rec private descendants (id: string) : string list =
    let children =
        ask "ps" [ "--no-headers"; "-eo"; "pid,ppid" ]
        |> _.Split('\n')
        |> Array.map _.Split(' ', StringSplitOptions.RemoveEmptyEntries)
        |> Array.filter (fun line -> line[1] = id)
        |> Array.map Array.head
        |> List.ofArray

    children @ List.collect descendants children

[<Fact>]
let ``a trial that is killed is interrupted, and goes on when the sweep is run again`` () =
    use place = new Workplace()
    let path = script place
    let logs = place.Path "logs"
    let arguments = [ $"logs={logs}"; "seed=0,1"; "--workers"; "2" ]
    use running = start path arguments
    waitUntil "a trial under way" (fun () -> (underWay logs).IsSome)
    let victim = (underWay logs).Value

    let trialProcess =
        descendants (string running.Id)
        |> List.find (fun id -> (ask "ps" [ "--no-headers"; "-o"; "args"; "-p"; id ]).Contains victim)

    ask "kill" [ "-KILL"; trialProcess ] |> ignore
    let code, output = finish running
    Assert.Equal(1, code)
    Assert.Contains("seed-", output)
    Assert.Contains("1 trial did not finish: 1 interrupted.", output)
    Assert.False(File.Exists(Path.Combine(victim, "error.txt")))
    let root = Path.Combine(logs, "pole", "sweep")

    let states () =
        (Distill.Sweep.load root).Trials |> List.map (fun trial -> string trial.State)

    Assert.Equal<string list>([ "finished"; "interrupted" ], List.sort (states ()))
    Assert.Contains("1 finished, 1 to run", succeed path arguments)
    Assert.Equal<string list>([ "finished"; "finished" ], states ())
    let log = File.ReadAllText(Path.Combine(victim, "log.txt"))
    // It began once, and went on.
    Assert.Equal(2, log.Split("[  1/250]").Length)
    Assert.Equal(3, log.Split("Teacher alone:").Length)

[<Fact>]
let ``SIGTERM reaches the trials, which write their checkpoints`` () =
    use place = new Workplace()
    let path = script place
    let logs = place.Path "logs"
    let arguments = [ $"logs={logs}"; "iterations=5000"; "seed=0,1"; "--workers"; "2" ]
    use running = start path arguments
    waitUntil "a trial under way" (fun () -> (underWay logs).IsSome)
    // Each process gets it from here and from its parent, as when a whole group is told.
    let processes = string running.Id :: descendants (string running.Id)
    ask "kill" ("-TERM" :: processes) |> ignore
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

/// A disk of 64 KiB in the workplace, as long as this lives; or why there can be none.
let private mount (folder: string) : Result<unit, string> =
    Directory.CreateDirectory folder |> ignore

    use mounting =
        nonNull (
            Process.Start(
                ProcessStartInfo(
                    "mount",
                    [ "-t"; "tmpfs"; "-o"; "size=64k"; "tmpfs"; folder ],
                    RedirectStandardError = true
                )
            )
        )

    let error = mounting.StandardError.ReadToEnd()
    mounting.WaitForExit()
    if mounting.ExitCode = 0 then Ok() else Error error

/// A test that needs a disk of its own, which only root can mount, and in a container not always.
type SmallDiskFactAttribute() as fact =
    inherit FactAttribute()

    do
        if not (OperatingSystem.IsLinux()) || Environment.UserName <> "root" then
            fact.Skip <- "Only root on Linux can mount a small disk."
        else
            use place = new Workplace()

            match mount (place.Path "disk") with
            | Ok() -> ask "umount" [ place.Path "disk" ] |> ignore
            | Error reason -> fact.Skip <- $"A small disk cannot be mounted here: {reason.Trim()}"

[<SmallDiskFact>]
let ``a sweep on a full disk says so and ends`` () =
    use place = new Workplace()
    let path = script place
    let disk = place.Path "disk"
    Assert.Equal(Ok(), mount disk)

    try
        let code, output = run path [ $"logs={disk}"; "seed=0,1"; "--workers"; "2" ]
        Assert.InRange(code, 1, 2)
        Assert.Contains("No space left on device", output)
        Assert.DoesNotContain("Unhandled", output)
    finally
        ask "umount" [ disk ] |> ignore
