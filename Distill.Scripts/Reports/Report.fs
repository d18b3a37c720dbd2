namespace Distill

open System
open System.IO
open Distill.ReportLayout

/// The report of one run: a page that holds everything and needs no network.
module Report =
    /// Metrics that have a chart of their own, or whose chart shows them along with others.
    let private shown =
        set
            [
                "evaluation/mean_return"
                "evaluation/std_return"
                "evaluation/mean_length"
                "evaluation/share_terminated"
                "evaluation/teacher_return"
                "evaluation/teacher_share_terminated"
                "evaluation/steps_to_target"
                "data_collection/mean_return"
                "data_collection/std_return"
                "data_collection/share_terminated"
                "data_collection/teacher_share"
                "data_collection/episodes"
                "Train/mean_reward"
                "Train/mean_episode_length"
                "Perf/total_fps"
                "Perf/windows_per_second"
                "Perf/collection_time"
                "Perf/learning_time"
                "Loss/learning_rate"
                "training/loss"
                "dataset/rows"
                "dataset/capacity"
                "Dataset/rows"
                "phase"
                "Phase/number"
            ]

    let private teacher = "@muted"
    let private student = "@0"

    /// The first of these metrics that the run has.
    let private series (run: RunRecord) (names: string list) =
        names
        |> List.tryPick (fun name ->
            match run.Series name with
            | [] -> None
            | points -> Some points)
        |> Option.defaultValue []

    let private setting (run: RunRecord) (name: string) =
        run.Parameters |> List.collect snd |> List.tryFind (fst >> Names.means name) |> Option.map snd

    // Phases

    /// Where a phase begins: iterations completed before it, and what it is.
    let private switches (run: RunRecord) =
        let share = run.Series "data_collection/teacher_share" |> Map.ofList

        series run [ "phase"; "Phase/number" ]
        |> List.pairwise
        |> List.filter (fun ((_, before), (_, after)) -> before <> after)
        |> List.map (fun (_, (iteration, phase)) ->
            let who =
                match share.TryFind iteration with
                | Some 0. -> ": student drives"
                | Some 1. -> ": teacher drives"
                | _ -> ""

            iteration - 1, $"phase {phase}{who}")

    let private overIterations (run: RunRecord) (title: string) (chart: GenericChart) =
        let chart =
            chart
            |> Chart.withXAxisStyle (TitleText = "iteration", MinMax = (0., float (max 1 run.Iterations)))
            |> Chart.withYAxisStyle (TitleText = title)
            |> Chart.withSize (Height = 300)
            |> Chart.withLayout [ "hovermode", Json.Text "x unified" ]

        (chart, switches run)
        ||> List.fold (fun chart (iteration, words) ->
            chart |> Chart.withVerticalLine (iteration, Text = words))

    let private level (run: RunRecord) (value: float) (name: string) =
        Chart.Line(
            [ 0; max 1 run.Iterations ],
            [ value; value ],
            Name = name,
            LineColor = teacher,
            LineDash = "dash",
            LineWidth = 1.5
        )

    // Charts

    let private withBand (run: RunRecord) (mean: string) (std: string) (name: string) (colour: string) =
        let points = run.Series mean
        let spread = run.Series std |> Map.ofList

        if points |> List.forall (fst >> spread.ContainsKey) then
            let x, y = List.unzip points

            let edge sign =
                points |> List.map (fun (i, value) -> value + sign * spread[i])

            Chart.Range(x, y, edge 1., edge -1., Name = name, LineColor = colour)
        else
            Chart.Line(points, Name = name, LineColor = colour)

    /// The teacher's level of a measure, where the run compares with a teacher.
    let private ofTeacher (run: RunRecord) (metric: string) (measure: PolicyResult -> float) =
        if run.Role = "teacher" then
            []
        else
            run.OfTeacher metric
            |> Option.orElse (run.Result "teacher" |> Option.map measure)
            |> Option.map (fun value -> level run value "teacher")
            |> Option.toList

    /// The closed-loop return of what is trained over the iterations, with the teacher's return and the switch of phases.
    let returnChart (run: RunRecord) : GenericChart =
        withBand run "evaluation/mean_return" "evaluation/std_return" run.Role student
        :: ofTeacher run "return" _.MeanReturn
        |> Chart.combine
        |> overIterations run "return"

    /// Metrics of evaluations by the name of what they measure: of all episodes, or of those of each variant.
    let private measured (run: RunRecord) : (string * (string * string) list) list =
        run.MetricNames
        |> List.choose (fun name ->
            match name.Split '/' with
            | [| "evaluation"; measure |] when not (shown.Contains name) -> Some(measure, (run.Role, name))
            | parts when parts.Length > 2 && parts[0] = "variants" ->
                Some(Array.last parts, (String.Join("/", parts[1 .. parts.Length - 2]), name))
            | _ -> None)
        |> List.groupBy fst
        |> List.map (fun (measure, lines) -> measure, List.map snd lines)

    let private evaluation (run: RunRecord) =
        [
            if not (run.Series("evaluation/mean_return").IsEmpty) then
                $"Return of the {run.Role} alone, on environments of its own: mean and standard deviation over episodes."
                + (if (run.OfTeacher "return").IsSome then
                       " The teacher's level is of the same episodes."
                   else
                       ""),
                returnChart run
            match run.Series "evaluation/share_terminated" with
            | [] -> ()
            | points ->
                "Share of these episodes that ended in a terminal state.",
                Chart.Line(points, Name = run.Role, LineColor = student)
                :: ofTeacher run "share_terminated" _.ShareTerminated
                |> Chart.combine
                |> overIterations run "terminated"
                |> Chart.withYAxisStyle (TickFormat = ".0%", MinMax = (-0.03, 1.03))
            for measure, lines in measured run do
                $"Mean {measure} of these episodes" + (if lines.Length > 1 then ", by variant." else "."),
                Chart.combine
                    [
                        for who, metric in lines do
                            Chart.Line(run.Series metric, Name = who)
                    ]
                |> overIterations run measure
        ]

    let private isLoss (name: string) =
        name.StartsWith "Loss/" && name <> "Loss/learning_rate"

    let private training (run: RunRecord) =
        let losses =
            match run.MetricNames |> List.filter isLoss with
            | [] -> run.MetricNames |> List.filter ((=) "training/loss")
            | names -> names

        let collected = run.MetricNames |> List.contains "data_collection/mean_return"

        [
            match losses with
            | [] -> ()
            | names ->
                let all = names |> List.map (fun name -> name, run.Series name)

                let positive =
                    all |> List.collect snd |> List.forall (fun (_, value) -> not (value <= 0.))

                (if names |> List.contains "Loss/newest" then
                     "Loss, mean over an iteration; on the newest rollout and on the rest of the dataset, at the last pass"
                     + (if names |> List.contains "Loss/held_out" then
                            "; on the episodes that are never trained on, after it."
                        else
                            ".")
                 else
                     "Loss, mean over an iteration."),
                Chart.combine
                    [
                        for name, points in all do
                            Chart.Line(points, Name = name.Substring(name.IndexOf '/' + 1))
                    ]
                |> overIterations run "loss"
                |> Chart.withYAxisStyle (AxisType = (if positive then "log" else "linear"), TickFormat = "~g")
            if collected || not (run.Series("Train/mean_reward").IsEmpty) then
                (if collected then
                     "Return of the last 100 training episodes, or of all of an epoch, whoever drove: mean and standard deviation."
                 else
                     "Return of the last 100 training episodes, or of all of an epoch."),
                (if collected then
                     withBand
                         run
                         "data_collection/mean_return"
                         "data_collection/std_return"
                         "training"
                         student
                 else
                     withBand run "Train/mean_reward" "" "training" student)
                |> overIterations run "return"
            for name in run.MetricNames |> List.filter _.StartsWith("schedule/") do
                let setting = name.Substring(name.IndexOf '/' + 1)

                $"Schedule of {setting}.",
                Chart.Line(run.Series name, Name = setting, LineColor = student)
                |> overIterations run (Names.leaf setting)
            match run.Series "Train/mean_episode_length" with
            | [] -> ()
            | points ->
                "Length of the last 100 training episodes, or of all of an epoch.",
                Chart.combine
                    [
                        Chart.Line(points, Name = "training", LineColor = student)
                        match run.Series "evaluation/mean_length" with
                        | [] -> ()
                        | points -> Chart.Line(points, Name = "evaluation", LineColor = "@1")
                    ]
                |> overIterations run "steps"
                |> Chart.withYAxisStyle (ZeroLine = false)
            match series run [ "dataset/rows"; "Dataset/rows" ] with
            | [] -> ()
            | points ->
                let limit = setting run "max_buffer_size" |> Option.bind Names.number

                "Rows of the dataset and, dashed, the most that it keeps.",
                Chart.combine
                    [
                        Chart.Line(points, Name = "rows", LineColor = student)
                        match limit with
                        | Some limit when limit < 20. * (points |> List.map snd |> List.max) ->
                            level run limit "limit"
                        | _ -> ()
                    ]
                |> overIterations run "rows"
        ]

    let private timing (run: RunRecord) =
        let parts =
            [ "collection", "Perf/collection_time"; "learning", "Perf/learning_time" ]
            |> List.map (fun (name, metric) -> name, run.Series metric)
            |> List.filter (fun (_, points) -> not points.IsEmpty)

        [
            if not parts.IsEmpty then
                "Seconds of an iteration, one on top of the other.",
                Chart.combine
                    [
                        for name, points in parts do
                            Chart.Line(points, Name = name, LineWidth = 0.8)
                            |> Chart.withTrace
                                [ "stackgroup", Json.Text "time"; "fillcolor", Json.Text "@series/0.45" ]
                    ]
                |> overIterations run "s"
            match run.Series "Perf/windows_per_second" with
            | [] -> ()
            | points ->
                "Windows per second.",
                Chart.Line(points, Name = "windows", LineColor = student) |> overIterations run "windows / s"
            match run.Series "Perf/total_fps" with
            | [] -> ()
            | points ->
                "Environment steps per second, learning included.",
                Chart.Line(points, Name = "steps", LineColor = student) |> overIterations run "steps / s"
        ]

    let private others (run: RunRecord) =
        let before = measured run |> List.collect (snd >> List.map snd) |> set

        run.MetricNames
        |> List.filter (fun name ->
            not (shown.Contains name || before.Contains name || isLoss name || name.StartsWith "schedule/"))
        |> List.map (fun name ->
            name,
            Chart.Line(run.Series name, Name = name, LineColor = student)
            |> overIterations run ""
            |> Chart.withSize (Height = 220))

    /// How far each recorded flight is from its reference: the distance, and along each axis.
    let private tracking (flights: (string * FlightRecording) list) =
        let chart (title: string) (error: FlightRecording -> float[]) =
            Chart.combine
                [
                    for i, (who, flight) in List.indexed flights do
                        let colour =
                            match who with
                            | "teacher" -> teacher
                            | "student" -> student
                            | _ -> Theme.series (i + 1)

                        let time = Array.init flight.Steps (fun step -> float step * flight.StepTime)
                        Chart.Line(time, error flight, Name = who, LineColor = colour)
                ]
            |> Chart.withXAxisStyle (TitleText = "s")
            |> Chart.withYAxisStyle (TitleText = title)
            |> Chart.withSize (Height = 260)
            |> Chart.withLayout [ "hovermode", Json.Text "x unified" ]

        let along (axis: int) (flight: FlightRecording) =
            Array.map2
                (fun (p: float[]) (r: float[]) -> p[axis] - r[axis])
                flight.Position
                flight.ReferencePosition

        if flights.IsEmpty then
            []
        else
            [
                "Distance to the reference on the recorded flight.", chart "distance, m" _.PositionError
                for axis, name in List.indexed [ "x"; "y"; "z" ] do
                    $"Position minus reference along {name}, world frame.",
                    chart $"{name} error, m" (along axis)
            ]

    // Encodings

    /// How well tasks are told apart, over the steps seen.
    let private separation
        (title: string)
        (measure: TaskSeparation -> float)
        (records: EncodingRecord list)
        : GenericChart =
        Chart.combine
            [
                for i, record in List.indexed records do
                    Chart.Line(
                        [ for one in record.Separations -> one.Seen, measure one ],
                        ShowMarkers = true,
                        Name = record.Encoder,
                        LineColor = if i = 0 then student else teacher
                    )
            ]
        |> Chart.withXAxisStyle (TitleText = "steps seen", AxisType = "log")
        |> Chart.withYAxisStyle (TitleText = title)
        |> Chart.withSize (Height = 300)

    let private plane (record: EncodingRecord) : GenericChart =
        Chart.combine
            [
                for task, points in record.Points |> List.groupBy _.Task do
                    Chart.Point(
                        [ for point in points -> point.X ],
                        [ for point in points -> point.Y ],
                        Name = task,
                        MarkerSize = 5.
                    )
            ]
        |> Chart.withXAxisStyle (TitleText = "first component")
        |> Chart.withYAxisStyle (TitleText = "second component")
        |> Chart.withSize (Height = 360)

    let private encodings (records: EncodingRecord list) =
        [
            if not records.IsEmpty then
                "Share of held-out episodes whose task a linear probe finds in the encoding. The untrained encoder is the same network before its first update.",
                separation "tasks found" _.Accuracy records
                |> Chart.withYAxisStyle (TickFormat = ".0%", MinMax = (0., 1.03))

                "Mean silhouette of the encodings by task: 1 for tight clusters far apart, 0 for none.",
                separation "silhouette" _.Silhouette records
            for record in records do
                $"Encodings of held-out episodes after {record.Seen} steps, {record.Encoder}: the plane in which they differ most.",
                plane record
        ]

    // Words

    let private total (run: RunRecord) (name: string) =
        run.Series name |> List.sumBy (fun (_, value) -> if Double.IsFinite value then value else 0.)

    /// The numbers that a reader looks for first: label, number, remark.
    let private mainNumbers (run: RunRecord) (encodings: EncodingRecord list) =
        let result =
            match run.Result "best student" with
            | Some result -> Some result
            | None -> run.Result "final student"

        match run.Result "teacher", result with
        | Some reference, Some result ->
            let difference =
                result.MinusTeacher |> Option.defaultValue { Estimate = nan; Low = nan; High = nan }

            let interval =
                if Double.IsNaN difference.Low then
                    "of the mean returns"
                else
                    $"95 %% interval {significant difference.Low} to {significant difference.High}, in the same episodes"

            let ratio = Statistics.ratio result.MeanReturn reference.MeanReturn

            let share =
                if Double.IsNaN ratio then
                    ""
                else
                    $"; {ratio:F3} of the teacher's return"

            [
                "Teacher return",
                significant reference.MeanReturn,
                $"standard deviation {significant reference.StdReturn}"
                "Student return",
                significant result.MeanReturn,
                $"standard deviation {significant result.StdReturn}"
                "Student − teacher", significant difference.Estimate, interval + share
                "Student terminated",
                percent result.ShareTerminated,
                $"of {string result.Episodes} episodes; teacher {percent reference.ShareTerminated}"
            ]
        | _ ->
            [
                for record in encodings do
                    match record.Separations |> List.tryFind (fun one -> one.Seen = record.Seen) with
                    | Some found ->
                        $"Tasks found, {record.Encoder}",
                        percent found.Accuracy,
                        $"of held-out episodes after {record.Seen} steps, silhouette {significant found.Silhouette}"
                    | None -> ()
                match run.Results, run.BestEvaluation with
                | result :: _, _ when result.Policy = PolicyResult.tasksFound ->
                    match run.Result PolicyResult.encoderLoss with
                    | Some loss ->
                        "Validation loss", significant -loss.MeanReturn, "the lowest: that encoder is kept"
                    | None -> ()
                | result :: _, _ when result.Policy = PolicyResult.byLoss ->
                    "Loss of the best student",
                    significant -result.MeanReturn,
                    "on the episodes that are held out, where some are"
                | result :: _, _ ->
                    "Return",
                    significant result.MeanReturn,
                    $"{result.Policy}, standard deviation {significant result.StdReturn}"

                    "Terminated", percent result.ShareTerminated, $"of {string result.Episodes} episodes"
                | [], Some(iteration, value) ->
                    match run.OfTeacher "return" with
                    | Some teacher -> "Teacher return", significant teacher, "on the same episodes"
                    | None -> ()

                    "Best return so far", significant value, $"evaluation after iteration {iteration}"
                | _ -> ()
                match run.Series "evaluation/share_terminated" |> List.tryLast with
                | Some(iteration, share) when run.Results.IsEmpty ->
                    "Terminated", percent share, $"evaluation after iteration {iteration}"
                | _ -> ()
                match run.Series "Loss/behavior" |> List.tryLast with
                | Some(iteration, loss) -> "Loss", significant loss, $"in iteration {iteration}"
                | _ -> ()
            ]

    let private status (run: RunRecord) =
        match run.Iterations, run.Planned with
        | 0, _ -> "no iterations yet"
        | n, _ when run.Finished -> $"finished after {count n} iterations"
        | n, Some planned -> $"stopped or running: {count n} of {count planned} iterations"
        | n, None -> $"{count n} iterations"

    let private heading (run: RunRecord) (encodings: EncodingRecord list) =
        let busy = total run "Perf/collection_time" + total run "Perf/learning_time"

        let line =
            [
                run.Run
                status run
                if busy > 0. then
                    duration busy + " of training"
            ]
            |> String.concat " · "

        header run.Experiment line (mainNumbers run encodings) + warnings run.Warnings

    let private results (run: RunRecord) =
        Table(
            [ "policy"; "return"; "std"; "minus teacher [95 %]"; "length"; "terminated, %"; "episodes" ]
            @ (if run.StepsToTarget.IsSome then
                   [ "steps to target" ]
               else
                   []),
            [
                for result in run.Results do
                    [
                        box result.Policy
                        result.MeanReturn
                        result.StdReturn
                        result.MinusTeacher
                        result.MeanLength
                        100. * result.ShareTerminated
                        result.Episodes
                        if run.StepsToTarget.IsSome then
                            result.StepsToTarget
                    ]
            ]
        )

    let private timeTable (run: RunRecord) =
        let parts =
            [ "collection", "Perf/collection_time"; "learning", "Perf/learning_time" ]
            |> List.map (fun (name, metric) -> name, total run metric)
            |> List.filter (fun (_, seconds) -> seconds > 0.)

        let all = parts |> List.sumBy snd

        Table(
            [ "part"; "s"; "share, %" ],
            [
                for name, seconds in parts do
                    [ name; Math.Round(seconds, 1); Math.Round(100. * seconds / all, 1) ]
            ]
        )

    /// The page of a run.
    let ofRun (run: RunRecord) : string =
        let flights = FlightRecording.ofRun run.Folder
        let encoders = EncodingRecord.read run.Folder

        let replay =
            if File.Exists(Path.Combine(run.Folder, "replay.html")) then
                "<p><a href=\"replay.html\">Replay of the recorded flights</a></p>"
            else
                ""

        let provenance =
            [ yield! run.Command |> List.filter (fun (_, value) -> value <> ""); "run folder", run.Folder ]

        let checkpoints =
            Table(
                [ "checkpoint"; "KiB" ],
                [
                    for name, bytes in run.Checkpoints do
                        [ name; Math.Round(float bytes / 1024., 1) ]
                ]
            )

        let body =
            [
                heading run encoders
                section "Encodings" (List.map figure (encodings encoders))
                section
                    "Evaluation"
                    (List.map figure (evaluation run)
                     @ [
                         if encoders.IsEmpty && not run.Results.IsEmpty then
                             wideTable (results run)
                     ])
                section "Training" (List.map figure (training run))
                section "Tracking" (List.map figure (tracking flights))
                replay
                section "Time" (List.map figure (timing run) @ [ table "" (timeTable run) ])
                section "Other metrics" (List.map figure (others run))
                section
                    "Parameters"
                    [
                        for name, settings in run.Parameters do
                            table name (namesAndValues "setting" settings)
                    ]
                section "Provenance" [ table "" (namesAndValues "origin" provenance); table "" checkpoints ]
            ]
            |> String.concat "\n"

        page $"{run.Experiment} {run.Run}" body

    /// Writes `report.html` into the run's folder; returns its path.
    let save (run: RunRecord) : string =
        let path = Path.Combine(run.Folder, "report.html")
        Page.save path (ofRun run)
        path

    /// Writes `report.html` into a run folder; returns its path.
    let write (folder: string) : string = save (RunRecord.read folder)
