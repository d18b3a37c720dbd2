namespace Distill

open System
open System.IO
open System.Text.RegularExpressions
open Distill.Storage

/// Trials as a job array. sbatch reads SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT and their like from the environment,
/// so that a cluster's own needs no settings here.
module internal Slurm =
    let private listName = "trials.jsonl"
    let private foldersName = "folders.txt"

    /// Holds the job's number, and how many tasks it has.
    let private jobName = "job"

    /// Tasks that an array can have: their numbers lie below MaxArraySize. More trials than that share tasks.
    let private maxTasks () =
        match Shell.run "scontrol" [ "show"; "config" ] with
        | Ok text ->
            let size = Regex.Match(text, @"^MaxArraySize\s*=\s*(\d+)", RegexOptions.Multiline)
            // Slurm's own default.
            if size.Success then
                max 1 (int size.Groups[1].Value)
            else
                1001
        | Error reason -> fail $"Slurm does not answer: {reason}"

    let private quote (text: string) = "'" + text.Replace("'", "'\\''") + "'"

    /// The script of one array task, which runs every trial whose number leaves the task's when divided by the tasks. Before
    /// its time limit ends, Slurm sends USR1: the trial writes its checkpoint and the task asks to be queued again. TERM
    /// (scancel, preemption, requeue) makes the trial write its checkpoint, too, but whether the task is queued again is
    /// Slurm's to say. A trial whose process ends before it can say why has the end of the task's log for its message.
    let batchScript
        (name: string)
        (folder: string)
        (workingFolder: string)
        (tasks: int)
        (trials: int)
        (threads: int)
        (command: string list)
        =
        let line = command |> List.map quote |> String.concat " "

        [
            "#!/bin/bash"
            $"#SBATCH --job-name={name}"
            "#SBATCH --open-mode=append"
            $"#SBATCH --cpus-per-task={threads}"
            "#SBATCH --requeue"
            "#SBATCH --signal=B:USR1@60"
            $"cd {quote workingFolder} || exit 1"
            "export DOTNET_PROCESSOR_COUNT=${SLURM_CPUS_PER_TASK:-1}"
            "again=0 stop=0 failed=0"
            "trap 'again=1; stop=1; kill -TERM $child 2>/dev/null' USR1"
            "trap 'stop=1; kill -TERM $child 2>/dev/null' TERM"
            $"mapfile -t folders <{quote (Path.Combine(folder, foldersName))}"
            $"for ((i = SLURM_ARRAY_TASK_ID; i < {trials} && !stop; i += {tasks})); do"
            "    [ -e \"${folders[i]}/result.csv\" ] && continue"
            $"    {line} \"$i\" &"
            "    child=$!"
            "    # A signal ends wait before the child has ended."
            "    wait $child; code=$?"
            "    while kill -0 $child 2>/dev/null; do wait $child; code=$?; done"
            "    # One that was stopped or killed goes on from its checkpoint when it is submitted again."
            "    [ $stop = 1 ] || [ $code = 0 ] && continue"
            "    failed=1"
            "    [ $code = 137 ] || [ $code = 143 ] || [ -e \"${folders[i]}/error.txt\" ] && continue"
            "    { echo \"The trial's process ended with exit code $code.\""
            $"      tail -c 2000 {quote folder}/\"$SLURM_ARRAY_TASK_ID.log\"; }} >\"${{folders[i]}}/error.txt\""
            "done"
            "if [ $again = 1 ]; then"
            "    scontrol requeue \"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\" ||"
            "        echo 'Not queued again; the command that submitted the sweep submits what is left.'"
            "fi"
            "[ $stop = 1 ] && exit 143"
            "exit $failed"
            ""
        ]
        |> String.concat "\n"

    let private submissions (root: string) =
        let folder = Path.Combine(root, "slurm")

        if Directory.Exists folder then
            Directory.GetDirectories folder
            |> Array.filter (fun submission -> File.Exists(Path.Combine(submission, jobName)))
            |> Array.toList
        else
            []

    /// Numbers of the job's tasks that wait or run.
    let private tasksOf (job: string) : Set<int> =
        match Shell.run "squeue" [ "--noheader"; "--array"; "--jobs"; job; "--format=%K" ] with
        | Ok text -> text.Split('\n', StringSplitOptions.RemoveEmptyEntries) |> Seq.map int |> set
        // Slurm forgets jobs some minutes after their end.
        | Error reason when reason.Contains "Invalid job id" -> Set.empty
        | Error reason -> fail $"Slurm does not answer: {reason}"

    /// The number of a job that was submitted, and how many tasks it has.
    let private readJob (path: string) : string * int =
        match InputFile.ReadText(path, "number of a job").Split '\n' |> Array.toList with
        | job :: tasks :: _ when Regex.IsMatch(job, @"\A\d+\z") && fst (Int32.TryParse tasks) && int tasks > 0 ->
            job, int tasks
        | _ -> fail $"{path} does not hold the number of a job and that of its tasks."

    /// Hashes of the trials whose tasks have not ended.
    let private queued (root: string) : Set<string> =
        set
            [
                for submission in submissions root do
                    let job = readJob (Path.Combine(submission, jobName))
                    let tasks = tasksOf (fst job)

                    if not tasks.IsEmpty then
                        let trials = TrialRecord.readAll (Path.Combine(submission, listName))

                        for line, trial in List.indexed trials do
                            if tasks.Contains(line % snd job) then
                                trial.Hash
            ]

    let private writeText (path: string) (text: string) = AtomicFile.WriteText(path, text)

    /// The argument that says where the tasks log. Slurm takes `%` in it for the beginning of a pattern, and in a line of the
    /// script would take a space for its end.
    let logs (submission: string) =
        let folder = submission.Replace("%", "%%")
        $"--output={folder}/%%a.log"

    /// Submits the trials as one array, of which at most `Workers` tasks run at a time (0: no limit), and says the job's number and
    /// the folder with its list of trials, its script and its logs.
    let private submit (launch: Launch) : unit =
        let script =
            match Script.current with
            | Some(script, _) -> script
            | None -> fail "Slurm runs sweeps of scripts only: dotnet fsi build.fsx sweep SCRIPT --on slurm."

        let folders = List.map fst launch.Trials
        let time = DateTime.Now.ToString "yyyy-MM-dd_HH-mm-ss"
        let submission = Path.Combine(launch.Root, "slurm", time)
        Directory.CreateDirectory submission |> ignore
        let list = Path.Combine(submission, listName)

        let writeLines (path: string) (line: TrialFolder -> string) =
            folders |> List.map (fun folder -> line folder + "\n") |> String.concat "" |> writeText path

        writeLines list (fun folder -> TrialRecord.toJson folder.Trial)
        writeLines (Path.Combine(submission, foldersName)) _.Path
        let tasks = min folders.Length (maxTasks ())

        let command =
            fst (Local.interpreter ())
            :: Local.arguments (Path.GetFullPath script) launch.KeepStates launch.Root list

        let job = Path.Combine(submission, "job.sh")

        batchScript
            launch.Name
            submission
            Environment.CurrentDirectory
            tasks
            folders.Length
            launch.Threads
            command
        |> writeText job

        let limit = if launch.Workers > 0 then $"%%{launch.Workers}" else ""

        match Shell.run "sbatch" [ "--parsable"; logs submission; $"--array=0-{tasks - 1}{limit}"; job ] with
        | Ok answer ->
            // NUMBER or NUMBER;CLUSTER.
            let number = answer.Split(';')[0]
            writeText (Path.Combine(submission, jobName)) $"{number}\n{tasks}\n"
            let what = Names.counted folders.Length "trial"

            say $"Job {number}: {what}; list, script and logs in {Command.shortest submission}"
        | Error reason ->
            Directory.Delete(submission, true)
            fail $"Slurm did not take the job: {reason}"

    let launcher: Launcher =
        { Name = "slurm"; Waits = false; Queued = queued; Submit = submit }
