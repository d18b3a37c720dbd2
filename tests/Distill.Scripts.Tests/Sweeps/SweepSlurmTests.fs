/// Sweeps as job arrays: the script of a task, and a real Slurm.
module Distill.Tests.SweepSlurmTests

open System
open System.Diagnostics
open System.IO
open System.Threading
open Distill
open Distill.Tests.RunTests
open Distill.Tests.SweepScriptTests
open Xunit

let private tasksOf (tasks: int) (trials: int) (place: Workplace) (command: string list) =
    Slurm.batchScript "pole" (place.Path "") (place.Path "") tasks trials 2 command

/// Runs a task's script as Slurm does, its output in TASK.log, with a scontrol that notes what it was asked; sends the signal
/// when the trial says that it runs. Returns the exit code.
let private runTask (place: Workplace) (task: int) (signal: string option) (text: string) : int =
    File.WriteAllText(place.Path "job.sh", text)
    File.WriteAllText(place.Path "scontrol", "#!/bin/bash\necho \"$@\" >>asked\n")
    ask "chmod" [ "+x"; place.Path "scontrol" ] |> ignore
    let log = place.Path $"{task}.log"

    let start =
        ProcessStartInfo(
            "bash",
            [ "-c"; $"exec bash job.sh >{task}.log 2>&1" ],
            WorkingDirectory = place.Path ""
        )

    for name, value in
        [
            "SLURM_ARRAY_TASK_ID", string task
            "SLURM_ARRAY_JOB_ID", "7"
            "PATH", place.Path "" + ":" + Environment.GetEnvironmentVariable "PATH"
        ] do
        start.Environment[name] <- value

    use running = nonNull (Process.Start start)

    match signal with
    | Some signal ->
        waitUntil "the trial" (fun () -> File.Exists log && (File.ReadAllText log).Contains "runs")
        ask "kill" [ $"-{signal}"; string running.Id ] |> ignore
    | None -> ()

    running.WaitForExit()
    running.ExitCode

/// Folders for the trials of a task's script.
let private makeFolders (place: Workplace) (count: int) =
    let folders = List.init count (fun i -> place.Path $"trial {i}")

    for folder in folders do
        Directory.CreateDirectory folder |> ignore

    File.WriteAllLines(place.Path "folders.txt", folders)
    folders

[<Fact>]
let ``a task asks Slurm for what its trials need`` () =
    use place = new Workplace()
    let lines = (tasksOf 2 5 place [ "run it"; "don't" ]).Split '\n'
    Assert.Equal("#!/bin/bash", lines[0])

    for line in
        [
            "#SBATCH --job-name=pole"
            "#SBATCH --open-mode=append"
            "#SBATCH --cpus-per-task=2"
            "#SBATCH --requeue"
            "#SBATCH --signal=B:USR1@60"
            "for ((i = SLURM_ARRAY_TASK_ID; i < 5 && !stop; i += 2)); do"
            "    'run it' 'don'\\''t' \"$i\" &"
        ] do
        Assert.Contains(line, lines)

[<Fact>]
let ``a task logs where the sweep is, whatever its path`` () =
    Assert.Equal("--output=/a b/100%%/5%%a/%a.log", Slurm.logs "/a b/100%/5%a")

[<Fact>]
let ``trials share tasks, and those that have finished are passed over`` () =
    use place = new Workplace()
    let folders = makeFolders place 5
    File.WriteAllText(Path.Combine(folders[2], "result.csv"), "")
    let text = tasksOf 2 5 place [ "bash"; "-c"; "echo trial $0" ]
    Assert.Equal(0, runTask place 0 None text)
    Assert.Equal<string array>([| "trial 0"; "trial 4" |], File.ReadAllLines(place.Path "0.log"))
    Assert.Equal(0, runTask place 1 None text)
    Assert.Equal<string array>([| "trial 1"; "trial 3" |], File.ReadAllLines(place.Path "1.log"))

[<Fact>]
let ``a trial whose process fails before it can say why leaves a message, and the next one runs`` () =
    use place = new Workplace()
    let folders = makeFolders place 3
    // The first fails, the second says itself why, the third is killed.
    let command =
        [
            "bash"
            "-c"
            "case $0 in 0) echo no memory; exit 3;; 1) echo own >'trial 1/error.txt'; exit 1;; 2) kill -KILL $$;; esac"
        ]

    Assert.Equal(1, runTask place 0 None (tasksOf 1 3 place command))

    let message (folder: string) =
        File.ReadAllText(Path.Combine(folder, "error.txt"))

    Assert.Equal("The trial's process ended with exit code 3.\nno memory\n", message folders[0])
    Assert.Equal("own\n", message folders[1])
    Assert.False(File.Exists(Path.Combine(folders[2], "error.txt")))

/// A trial that writes its checkpoint when it gets SIGTERM.
let private trial =
    [
        "bash"
        "-c"
        "trap 'echo saved $0; exit 143' TERM; echo runs; for ((k = 0; k < 600; k++)); do sleep 0.1; done"
    ]

[<Theory>]
[<InlineData("USR1", "requeue 7_0")>]
[<InlineData("TERM", "")>]
let ``a signal ends the task after the trial's checkpoint, and before the time limit queues it again``
    (signal: string)
    (asked: string)
    =
    use place = new Workplace()
    makeFolders place 2 |> ignore
    Assert.Equal(143, runTask place 0 (Some signal) (tasksOf 1 2 place trial))
    Assert.Equal<string array>([| "runs"; "saved 0" |], File.ReadAllLines(place.Path "0.log"))
    let note = place.Path "asked"

    Assert.Equal(
        asked,
        (if File.Exists note then
             File.ReadAllText(note).Trim()
         else
             "")
    )

    Assert.False(File.Exists(place.Path "trial 0/error.txt"))

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

/// Which Slurm is meant is a variable of the whole process, and tests of other files run at the same time.
let private turn = new SemaphoreSlim 1

/// The Slurm of tests/slurm, as long as this lives; there is one at a time.
type OneNode(place: Workplace, configuration: string list) =
    let folder = place.Path "slurm"

    let scripts =
        let rec up (folder: DirectoryInfo | null) =
            match folder with
            | null -> failwith $"No tests/slurm above {AppContext.BaseDirectory}."
            | folder when Directory.Exists(Path.Combine(folder.FullName, "tests", "slurm")) ->
                Path.Combine(folder.FullName, "tests", "slurm")
            | folder -> up folder.Parent

        up (DirectoryInfo AppContext.BaseDirectory)

    let call (name: string) (arguments: string list) =
        use running = Process.Start(Path.Combine(scripts, name), folder :: arguments)
        running.WaitForExit()
        running.ExitCode

    do
        turn.Wait()

        if call "slurm-up.sh" configuration <> 0 then
            turn.Release() |> ignore
            failwith "Slurm did not come up."

        Environment.SetEnvironmentVariable("SLURM_CONF", Path.Combine(folder, "slurm.conf"))

    interface IDisposable with
        member _.Dispose() =
            call "slurm-down.sh" [] |> ignore
            Environment.SetEnvironmentVariable("SLURM_CONF", null)
            turn.Release() |> ignore

[<SlurmFact>]
let ``on Slurm a sweep has the same results, though tasks are queued again, cancelled and shared`` () =
    use place = new Workplace()
    use _ = new OneNode(place, [ "MaxArraySize=3" ])
    let path = script place
    // A path of letters that mean something to Slurm or to a shell.
    let here, there = place.Path "here", place.Path "100% $HOME; there's 5%a"
    let arguments = [ "phase1_iterations=5,200"; "seed=0,1" ]
    // The array has three tasks, so that the first has two trials.
    let submit () =
        succeed path ([ $"logs={there}"; "--on"; "slurm" ] @ arguments)

    let root = Path.Combine(there, "pole", "sweep")
    let jobHasEnded () = ask "squeue" [ "--noheader" ] = ""
    Assert.Contains("Job 1: 4 trials", submit ())

    let list =
        Directory.GetFiles(root, "trials.jsonl", SearchOption.AllDirectories) |> Array.exactlyOne

    let folderOf (line: int) =
        TrialFolder(root, TrialRecord.read list line).Path
    // As Slurm does before the time limit.
    waitUntil "the first task's trial" (trialUnderWay (folderOf 0))
    ask "scancel" [ "--signal=USR1"; "--batch"; "1_0" ] |> ignore
    waitUntil "the second task's trial" (trialUnderWay (folderOf 1))
    ask "scancel" [ "1_1" ] |> ignore

    waitUntil "the end of the second task" (fun () ->
        ask "squeue" [ "--noheader"; "--array"; "--jobs=1_1" ] = "")

    let states () =
        [ for line in 0..3 -> string (TrialFolder(root, TrialRecord.read list line)).State ]

    Assert.Equal("interrupted", (states ())[1])
    // What was cancelled is submitted again, what waits or runs is not.
    Assert.Contains(": 1 trial;", submit ())
    succeed path ($"logs={here}" :: arguments) |> ignore
    waitUntil "the end of the jobs" jobHasEnded
    Assert.Contains("Tables: ", succeed path [ "results"; $"logs={there}" ])
    Assert.Equal<string list>([ for _ in 0..3 -> "finished" ], states ())
    Assert.Equal(results here, results there)

    for line in 0..1 do
        let log = File.ReadAllText(Path.Combine(folderOf line, "log.txt"))
        Assert.Equal(2, log.Split("Stopped after iteration").Length)
        Assert.Equal(2, log.Split("[  1/250]").Length)
