namespace Distill

open System
open System.Diagnostics
open System.IO
open System.Runtime.InteropServices
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

/// CPU time of threads.
module internal CpuTime =
    [<Struct; StructLayout(LayoutKind.Sequential)>]
    type private Time =
        val mutable Seconds: int64
        val mutable Nanoseconds: int64

    [<DllImport("libc")>]
    extern int private clock_gettime(int clock, Time& time)

    let private ofThread = if OperatingSystem.IsMacOS() then 16 else 3

    /// Of the thread that asks, since it began.
    let thread () : TimeSpan =
        let mutable time = Time()

        if clock_gettime (ofThread, &time) <> 0 then
            failwith "The system does not tell the CPU time of a thread."

        TimeSpan.FromSeconds(float time.Seconds + 1e-9 * float time.Nanoseconds)

    /// Of the process of a run: a trial counts from its start, a run in a notebook from the run's.
    let ofRun () : unit -> TimeSpan =
        let start =
            match Script.current with
            | Some(_, "trial" :: _) -> TimeSpan.Zero
            | _ -> Environment.CpuUsage.TotalTime

        fun () -> Environment.CpuUsage.TotalTime - start

/// Counts what the run in a folder costs, after what it cost before it was stopped, by a clock of CPU time that begins with it. It
/// is written down every two seconds, so that a killed run loses no more, and when this is disposed of.
type internal CostMeter(folder: string, resume: bool, clock: unit -> TimeSpan) =
    let before =
        (if resume then RunCost.read folder else None)
        |> Option.defaultValue { Steps = 0L; CoreSeconds = 0.0 }

    let mutable steps = before.Steps
    let mutable written = Stopwatch.GetTimestamp()

    let write () =
        RunCost.write folder { Steps = steps; CoreSeconds = before.CoreSeconds + clock().TotalSeconds }
        written <- Stopwatch.GetTimestamp()

    /// The run has collected this many steps in all.
    member _.Advance(collected: int64) =
        steps <- collected

        if Stopwatch.GetElapsedTime written > TimeSpan.FromSeconds 2.0 then
            write ()

    interface IDisposable with
        member _.Dispose() = write ()
