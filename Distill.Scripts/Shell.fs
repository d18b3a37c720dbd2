/// Programs of the machine.
module internal Distill.Shell

open System.ComponentModel
open System.Diagnostics

/// What `PROGRAM ARGUMENTS` prints, or why it failed.
let run (program: string) (arguments: string list) : Result<string, string> =
    try
        use running =
            Process.Start(
                ProcessStartInfo(
                    program,
                    arguments,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true
                )
            )
            |> nonNull

        let error = running.StandardError.ReadToEndAsync()
        let output = running.StandardOutput.ReadToEnd().Trim()
        running.WaitForExit()

        if running.ExitCode = 0 then
            Ok output
        else
            Error(error.Result.Trim())
    with :? Win32Exception ->
        Error $"{program} is not installed here."
