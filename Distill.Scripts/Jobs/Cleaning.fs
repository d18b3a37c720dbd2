namespace Distill

open System
open System.IO
open Distill.Storage

/// States of finished runs: what is left of them that nobody needs who wants no more iterations.
module internal Cleaning =
    /// The states below a folder, each with the folder of its run: of single runs and of trials.
    let private states (logs: string) : (FileInfo * RunFolder) list =
        let options =
            EnumerationOptions(
                RecurseSubdirectories = true,
                AttributesToSkip = (FileAttributes.ReparsePoint ||| FileAttributes.Hidden)
            )

        [
            for state in DirectoryInfo(logs).GetFiles(Runner.stateName, options) |> Array.sortBy _.FullName do
                match state.Directory with
                | null -> ()
                | checkpoints ->
                    match checkpoints.Parent with
                    | null -> ()
                    | run when
                        checkpoints.Name = "checkpoints"
                        && Directory.Exists(Path.Combine(run.FullName, "params"))
                        ->
                        state, RunFolder run.FullName
                    | _ -> ()
        ]

    /// Removes the states of the runs below a folder that have finished and are not at work, and says which. All other runs
    /// keep theirs.
    let removeStates (logs: string) : unit =
        if not (Directory.Exists logs) then
            fail $"There is no folder '{logs}' with runs."

        let states = states logs

        let remove (state: FileInfo, run: RunFolder) =
            use held = run.TryLock()

            if not (isNull held) && File.Exists(Training.results run) then
                let bytes = state.Length
                state.Delete()
                say $"Removed {Command.shortest state.FullName}, {Names.mebibytes bytes}"
                Some bytes
            else
                None

        let removed = states |> List.choose remove
        let kept = states.Length - removed.Length
        let finished = Names.counted removed.Length "finished run"

        say (
            $"States of {finished} removed, {Names.mebibytes (List.sum removed)}; "
            + $"{kept} kept, of runs that have not finished."
        )
