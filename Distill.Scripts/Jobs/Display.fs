namespace Distill

open System
open System.Collections.Generic
open Spectre.Console

/// What one iteration of an algorithm did, in the terms that all algorithms share.
type Progress =
    {
        /// From 0.
        Iteration: int

        /// Who drives and where in that phase the iteration is: "phase 2 (student) 3/700". Empty for one phase.
        Phase: string

        /// Name and value, such as "behavior".
        Losses: (string * float) list

        /// Mean over the last training episodes; None before the first has ended.
        MeanReturn: float option
        MeanEpisodeLength: float option

        /// Since the start of the run.
        StepsCollected: int64
        CollectionSeconds: float
        LearningSeconds: float

        /// For the line of every iteration: "rows +40000, 480000/1000000", or what is measured where there are no returns.
        Data: string

        /// Lines that are worth saying once: a new phase, a dataset that grew.
        Events: string list

        /// What has gone wrong just now, in sentences that the run folder keeps for its report.
        Warnings: string list
        Metrics: (string * float) list
    }

module internal Progress =
    let metrics (own: KeyValuePair<string, float> seq) =
        [
            for metric in own do
                metric.Key, metric.Value
        ]

    /// What the scheduled settings of the records were in an iteration.
    let schedules (records: obj list) (iteration: int) =
        Settings.schedules records
        |> List.map (fun (name, schedule) -> "schedule/" + name, schedule.At iteration)

/// How far a run is.
type Clock = { Iterations: int; Elapsed: TimeSpan; Remaining: TimeSpan; StepsPerSecond: float }

/// Where a run tells what it does.
type Display =
    {
        /// A line that stays.
        Say: string -> unit

        /// One more iteration is done.
        Advance: Progress -> Clock -> unit
    }

module Display =
    let private width = 80
    let private labels = 40

    let private number (value: float) =
        if Double.IsNaN value then "-" else value.ToString "F4"

    let duration (time: TimeSpan) =
        let clock = time.ToString @"h\:mm\:ss"
        if time.Days > 0 then $"{time.Days} d {clock}" else clock

    let private optional (format: float -> string) (value: float option) =
        value |> Option.map format |> Option.defaultValue "-"

    /// All about one iteration, 80 columns wide, laid out as rsl_rl does.
    let block (progress: Progress) (clock: Clock) =
        let title = $"Learning iteration {progress.Iteration + 1}/{clock.Iterations}"

        let row (label: string, text: string) =
            (label + ":").PadLeft labels + " " + text

        let rows =
            [
                "Total steps", string progress.StepsCollected
                "Steps per second", $"{clock.StepsPerSecond:F0}"
                "Collection time", $"{progress.CollectionSeconds:F3}s"
                "Learning time", $"{progress.LearningSeconds:F3}s"
                for name, value in progress.Losses do
                    $"Mean {name} loss", number value
                "Mean reward", progress.MeanReturn |> optional (fun value -> $"{value:F2}")
                "Mean episode length", progress.MeanEpisodeLength |> optional (fun value -> $"{value:F2}")
                if progress.Phase <> "" then
                    "Phase", progress.Phase
                if progress.Data <> "" then
                    "Dataset", progress.Data
            ]

        let times =
            [
                "Iteration time", $"{progress.CollectionSeconds + progress.LearningSeconds:F2}s"
                "Time elapsed", duration clock.Elapsed
                "ETA", duration clock.Remaining
            ]

        [
            String('#', width)
            title.PadLeft((width + title.Length) / 2)
            ""
            yield! List.map row rows
            String('-', width)
            yield! List.map row times
        ]

    /// One iteration on one line.
    let line (progress: Progress) (clock: Clock) =
        let total = string clock.Iterations

        let place = string (progress.Iteration + 1)

        [
            if progress.Phase <> "" then
                progress.Phase
            for name, value in progress.Losses do
                $"{name} loss {number value}"
            match progress.MeanReturn, progress.MeanEpisodeLength with
            | Some value, Some length ->
                $"return {value:F1}"
                $"length {length:F0}"
            | _ -> ()
            if progress.Data <> "" then
                progress.Data
            $"{progress.CollectionSeconds + progress.LearningSeconds:F2} s"
        ]
        |> String.concat " | "
        |> fun text -> $"[{place.PadLeft total.Length}/{total}] {text}"

    let interactive () =
        not Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Interactive

    /// Plain lines, one per iteration.
    let private plain =
        {
            // Asked for at each line: notebooks and tests put others in its place.
            Say = say
            Advance = fun progress clock -> say (line progress clock)
        }

    /// The live line: short enough for 80 columns, or the terminal would break it.
    let private short (progress: Progress) (clock: Clock) =
        [
            $"{progress.Iteration + 1}/{clock.Iterations} {progress.Phase}".TrimEnd()
            match progress.Losses with
            | (_, loss) :: _ -> "loss " + number loss
            | [] -> ()
            match progress.MeanReturn with
            | Some value -> $"return {value:F0}"
            | None when progress.Data <> "" -> progress.Data
            | None -> ()
            $"{clock.StepsPerSecond / 1000.0:F0}k/s"
            duration clock.Remaining
        ]
        |> String.concat ", "
        |> fun text -> text.Substring(0, min text.Length (AnsiConsole.Profile.Width - 1))

    /// A line at the bottom that lives, with the lines that stay scrolling above it.
    let private live (work: Display -> 'Result) : 'Result =
        AnsiConsole
            .Progress()
            .AutoClear(true)
            .Columns(TaskDescriptionColumn(Alignment = Justify.Left))
            .Start(fun context ->
                let task = context.AddTask("starting")

                work
                    {
                        Say = AnsiConsole.WriteLine
                        Advance =
                            fun progress clock ->
                                task.MaxValue <- float clock.Iterations
                                task.Value <- float (progress.Iteration + 1)
                                task.Description <- Markup.Escape(short progress clock)
                    })

    /// Does the work with a live line in a terminal, with plain lines elsewhere.
    let around (work: Display -> 'Result) : 'Result =
        if interactive () then live work else work plain
