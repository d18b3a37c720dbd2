namespace Distill

open System
open System.Collections.Concurrent
open System.Diagnostics
open System.Runtime.InteropServices
open System.Threading

/// Trials as child processes of this one, some at a time. A process for each keeps a crash or a lack of memory of one from
/// the others.
module internal Local =
    [<DllImport("libc")>]
    extern int private kill(int pid, int signal)

    /// `dotnet` and F# Interactive as they run this process.
    let interpreter () =
        string Environment.ProcessPath, Environment.GetCommandLineArgs()[0]

    /// The arguments of `dotnet` for the trial on a line of a file; the line's number follows them.
    let arguments (script: string) (keepStates: bool) (root: string) (file: string) =
        [
            "exec"
            snd (interpreter ())
            "--optimize+"
            "--quiet"
            script
            "trial"
            if keepStates then
                TrialJob.keepingState
            root
            file
        ]

    let private sigterm = 15
    let private sigkill = 9

    /// Runs one trial until it ends, or a signal stops or kills it. A signal to this process is passed on; where the child had
    /// it, too, as on Ctrl-C, it counts once.
    let private runOne
        (interruption: Script.Interruption)
        (arguments: TrialFolder -> string list)
        (folder: TrialFolder)
        : TrialState =
        let start =
            ProcessStartInfo(
                fst (interpreter ()),
                arguments folder,
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true
            )

        use child = nonNull (Process.Start start)
        let output = child.StandardOutput.ReadToEndAsync()
        let error = child.StandardError.ReadToEndAsync()
        let mutable passedOn = false

        while not (child.WaitForExit 50) do
            if interruption.ExitCode <> 0 && not passedOn then
                passedOn <- true
                kill (child.Id, sigterm) |> ignore

        match folder.State, child.ExitCode with
        | (Finished _ | Failed _ | Paused _ as state), _ -> state
        | state, code when interruption.ExitCode <> 0 || code = 128 + sigterm || code = 128 + sigkill -> state
        | _ ->
            // It ended before it could say why: a script that no longer compiles, a crash.
            let said = (error.Result.Trim() + "\n" + output.Result.Trim()).Trim()
            let last = said.Substring(max 0 (said.Length - 2000))

            let message =
                $"The trial's process ended with exit code {child.ExitCode}. {last}".Trim()

            folder.Fail message
            Failed message

    /// Runs the trials in processes of their own, `workers` at a time. Reports each that ended before the launch was stopped.
    /// Where a trial cannot be run at all, or its message not be written, as on a full disk, no other is begun, and the error
    /// is thrown at the end.
    let private runApart
        (interruption: Script.Interruption)
        (script: string)
        (workers: int)
        (launch: Launch)
        : unit =
        let waiting = ConcurrentQueue(List.map fst launch.Trials)
        let errors = ConcurrentQueue<exn>()

        let ofTrial (folder: TrialFolder) =
            arguments script launch.KeepStates folder.Root folder.Record @ [ "0" ]

        let rec work () =
            match waiting.TryDequeue() with
            | true, folder when interruption.ExitCode = 0 && errors.IsEmpty ->
                let watch = Stopwatch.StartNew()

                let state = runOne interruption ofTrial folder

                if state.IsFinished || state.IsFailed || interruption.ExitCode = 0 then
                    lock waiting (fun () ->
                        launch.Report { Folder = folder; State = state; Elapsed = watch.Elapsed })

                work ()
            | _ -> ()

        let guarded () =
            try
                work ()
            with error ->
                errors.Enqueue error

        let threads = List.init (min workers waiting.Count) (fun _ -> Thread(guarded))

        for thread in threads do
            thread.Start()

        for thread in threads do
            thread.Join()

        match errors.TryPeek() with
        | true, error ->
            raise (
                DistillException(
                    $"The sweep has stopped; the same command goes on with it. {Script.describe error}",
                    error
                )
            )
        | _ -> ()

    let private runScript (script: string) (launch: Launch) =
        use interruption =
            new Script.Interruption("Stopping: the trials save what they have; again to stop now.")

        let workers =
            if launch.Workers > 0 then
                launch.Workers
            else
                max 1 (Environment.ProcessorCount / launch.Threads)

        runApart interruption script workers launch

        if interruption.ExitCode <> 0 then
            let left =
                launch.Trials
                |> List.filter (fun (folder, _) -> not (folder.State.IsFinished || folder.State.IsPaused))

            let what = Names.counted left.Length "trial"

            raise (
                Script.Stopped(
                    interruption.ExitCode,
                    $"Stopped with {what} left; the same command goes on where they stopped."
                )
            )

    /// The trials in this process, one after another with all cores: where there is no script to run in others. Ends at one that
    /// is interrupted.
    let private runHere (launch: Launch) =
        let runOne (folder: TrialFolder, job: Job) =
            let watch = Stopwatch.StartNew()

            try
                TrialJob.run launch.KeepStates 0 folder (fun () -> job)
                launch.Report { Folder = folder; State = folder.State; Elapsed = watch.Elapsed }
                true
            with Script.Stopped _ ->
                say "The sweep was interrupted; the same call goes on with it."
                false

        launch.Trials |> List.forall runOne |> ignore

    let launcher: Launcher =
        {
            Name = "local"
            Waits = true
            Queued = fun _ -> Set.empty
            Submit =
                fun launch ->
                    match Script.current with
                    | Some(script, _) -> runScript script launch
                    | None -> runHere launch
        }
