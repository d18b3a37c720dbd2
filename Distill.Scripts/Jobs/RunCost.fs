namespace Distill

open System
open System.Diagnostics
open System.IO
open Distill.Storage

/// What a run has cost.
type RunCost =
    {
        /// Steps of environments that it trained on.
        Steps: int64

        /// CPU time of its process, all threads, summed over resumes: seconds. A trial's process counts from its start, a run in
        /// a notebook from the run's.
        CoreSeconds: float
    }

module RunCost =
    let private path (folder: string) = Path.Combine(folder, "cost.csv")

    /// What the run in the folder has cost so far; None for one of a Distill that did not count.
    let read (folder: string) : RunCost option =
        let path = path folder

        if not (File.Exists path) then
            None
        else
            let number (column: string) (row: Map<string, string>) =
                row.TryFind column
                |> Option.bind Names.number
                |> Option.filter (fun value -> value >= 0.0 && value < 1e18)

            match Csv.read (InputFile.ReadText(path, "cost of a run")) with
            | Some(_, [ row ]) ->
                match number "steps" row, number "core_seconds" row with
                | Some steps, Some seconds -> Some { Steps = int64 steps; CoreSeconds = seconds }
                | _ -> fail $"'{path}' does not say steps and core_seconds; delete it."
            | _ -> fail $"'{path}' is not the cost of a run; delete it."

    let internal write (folder: string) (cost: RunCost) =
        Csv.write
            (path folder)
            [ "steps"; "core_seconds" ]
            [
                [
                    string cost.Steps
                    cost.CoreSeconds.ToString("F3", Globalization.CultureInfo.InvariantCulture)
                ]
            ]

/// Counts what the run in a folder costs, after what it cost before it was stopped. It is written down every two seconds, so
/// that a killed run loses no more, and when this is disposed of.
type internal CostMeter(folder: string, resume: bool) =
    let before =
        (if resume then RunCost.read folder else None)
        |> Option.defaultValue { Steps = 0L; CoreSeconds = 0.0 }

    let start =
        match Script.current with
        | Some(_, "trial" :: _) -> TimeSpan.Zero
        | _ -> Environment.CpuUsage.TotalTime

    let mutable steps = before.Steps
    let mutable written = Stopwatch.GetTimestamp()

    let write () =
        let own = (Environment.CpuUsage.TotalTime - start).TotalSeconds
        RunCost.write folder { Steps = steps; CoreSeconds = before.CoreSeconds + own }
        written <- Stopwatch.GetTimestamp()

    /// The run has collected this many steps in all.
    member _.Advance(collected: int64) =
        steps <- collected

        if Stopwatch.GetElapsedTime written > TimeSpan.FromSeconds 2.0 then
            write ()

    interface IDisposable with
        member _.Dispose() = write ()
