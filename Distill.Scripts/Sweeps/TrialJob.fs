namespace Distill

open System
open System.IO
open System.Threading

/// One trial in this process.
module internal TrialJob =
    /// Waits while another process runs the trial: one that outlived the sweep that started it, or another sweep.
    let private lock (folder: TrialFolder) : IDisposable =
        let rec enter (told: bool) =
            match folder.TryLock() with
            | Some held -> held
            | None ->
                if not told then
                    say $"Another process runs trial {folder.Trial.FolderName}; waiting for it."

                Thread.Sleep 200
                enter true

        enter false

    /// Makes a trial ready that is to run now, until so many iterations are completed or else (0) to its end: a message of
    /// failure is forgotten, and with `restart` the checkpoint, too.
    let prepare (restart: bool) (until: int) (folder: TrialFolder) : unit =
        folder.Prepare()
        folder.StopAfter until

        if folder.Error.IsSome then
            use _ = lock folder

            if restart then folder.Clear() else folder.ForgetError()

    /// Whether the trial has come as far as it shall, and can go on from there.
    let private isPaused (folder: TrialFolder) =
        folder.Until > 0 && Runner.hasState folder.RunFolder && (folder.ReturnAfter folder.Until).IsSome

    /// Runs the trial, if it has not finished or come as far as it shall, from its checkpoint or else from its start, on these
    /// threads unless it asks for a number itself. Throws Script.Stopped where it was interrupted.
    let private goOn
        (report: bool)
        (keepState: bool)
        (threads: int)
        (folder: TrialFolder)
        (job: unit -> Job)
        =
        if folder.Result.IsNone && not (isPaused folder) then
            folder.ForgetError()
            let options = { Training.options with Report = report; Until = folder.Until }

            let options =
                if Runner.hasState folder.RunFolder then
                    { options with Resume = folder.Path }
                else
                    folder.Clear()
                    { options with Folder = folder.Path }

            let job = job ()

            let job =
                if Job.threads job = 0 then
                    job.With [ $"threads={threads}" ]
                else
                    job

            job.Run options folder.Trial.Changes

            if not keepState then
                File.Delete(Runner.statePath folder.RunFolder)

    /// Runs the trial to its end with its report, in a process that is there for it; errors are thrown.
    let runAlone (folder: TrialFolder) (job: Job) : unit =
        folder.Prepare()
        use _ = lock folder
        goOn true true 0 folder (fun () -> job)

    /// Runs the trial from its checkpoint, or from its start, and leaves its result or the message of its failure in its
    /// folder. Throws Script.Stopped when a signal ended it; the checkpoint is written then.
    let run (keepState: bool) (threads: int) (folder: TrialFolder) (job: unit -> Job) : unit =
        use _ = lock folder

        try
            // One of many: the report of the sweep writes those of its trials.
            goOn false keepState threads folder job
        with
        | Script.Stopped _ when isPaused folder -> ()
        | Script.Stopped _ -> reraise ()
        | error ->
            Console.Error.WriteLine error

            folder.Fail(Script.describe error)

    /// The word in the command line of a trial that makes it keep its state.
    let keepingState = "--keep-states"

    /// The job of a child process: the trial on a line of a file, with what it prints in log.txt, but for what keeps it from
    /// writing its result or its message. Returns the exit code.
    let main (sweep: Sweep<'T>) (keepState: bool) (root: string) (file: string) (line: int) : int =
        let trial = TrialRecord.read file line
        let folder = TrialFolder(root, trial)
        folder.Prepare()
        let error = Console.Error
        let log = new StreamWriter(folder.Log, append = true, AutoFlush = true)
        Script.useConsole log log

        try
            run keepState 1 folder (fun () -> Trials.recover trial sweep)
            if folder.Result.IsSome || isPaused folder then 0 else 1
        with
        | Script.Stopped _ -> reraise ()
        | _ ->
            Console.SetError error
            reraise ()
