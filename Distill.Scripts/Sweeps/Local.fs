namespace Distill

open System
open System.Collections.Concurrent
open System.Diagnostics
open System.Runtime.InteropServices
open System.Threading

/// How the trials of a launch ended.
type internal TrialEnd = { Folder: TrialFolder; State: TrialState; Elapsed: TimeSpan }

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
        | (Finished _ | Failed _ as state), _ -> state
        | state, code when interruption.ExitCode <> 0 || code = 128 + sigterm || code = 128 + sigkill -> state
        | _ ->
            // It ended before it could say why: a script that no longer compiles, a crash.
            let said = (error.Result.Trim() + "\n" + output.Result.Trim()).Trim()
            let last = said.Substring(max 0 (said.Length - 2000))

            let message =
                $"The trial's process ended with exit code {child.ExitCode}. {last}".Trim()

            folder.Fail message
            Failed message

    /// Runs the trials, `workers` at a time. Reports each that ended before the launch was stopped. Where a trial cannot be run
    /// at all, or its message not be written, as on a full disk, no other is begun, and the error is thrown at the end.
    let run
        (interruption: Script.Interruption)
        (workers: int)
        (keepStates: bool)
        (script: string)
        (report: TrialEnd -> unit)
        (folders: TrialFolder list)
        : unit =
        let waiting = ConcurrentQueue folders
        let errors = ConcurrentQueue<exn>()

        let ofTrial (folder: TrialFolder) =
            arguments script keepStates folder.Root folder.Record @ [ "0" ]

        let rec work () =
            match waiting.TryDequeue() with
            | true, folder when interruption.ExitCode = 0 && errors.IsEmpty ->
                let watch = Stopwatch.StartNew()

                let state = runOne interruption ofTrial folder

                if state.IsFinished || state.IsFailed || interruption.ExitCode = 0 then
                    lock waiting (fun () ->
                        report { Folder = folder; State = state; Elapsed = watch.Elapsed })

                work ()
            | _ -> ()

        let guarded () =
            try
                work ()
            with error ->
                errors.Enqueue error

        let threads = List.init (min workers folders.Length) (fun _ -> Thread(guarded))

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
