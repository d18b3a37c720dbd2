namespace Distill

open System
open System.IO
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.ReportLayout

/// The results of flight tests, beside those of another policy in the same episodes where one was asked for.
type FlightTestReport
    (folder: string, name: string, tested: FlightTestResults, beside: (string * FlightTestResults) option) =
    let all = (name, tested) :: Option.toList beside

    /// The same episodes of both policies, a row for each policy and label.
    let comparison (of': FlightTestResults -> (string * EvaluationResult) list) : Table =
        let episodes (i: int) (results: FlightTestResults) = of' results |> List.item i |> snd

        Table(
            [
                "episodes of"
                "policy"
                "return"
                "std"
                if beside.IsSome then
                    $"minus {fst beside.Value} [95 %%]"
                "length"
                "terminated %"
                "episodes"
            ],
            [
                for i, (label, _) in List.indexed (of' tested) do
                    for policy, results in all do
                        let flown = episodes i results

                        [
                            box label
                            policy
                            flown.MeanReturn
                            flown.StdReturn
                            match beside with
                            | Some(other, reference) when other <> policy ->
                                Statistics.difference flown.Returns (episodes i reference).Returns
                            | Some _ -> "–"
                            | None -> ()
                            flown.MeanLength
                            100.0 * flown.ShareTerminated
                            flown.Episodes
                        ]
            ]
        )

    let ofDrones (results: FlightTestResults) =
        ("sampled drones", results.Drones.All)
        :: [ for task, result in results.Tasks -> $"the same, {task} alone", result ]

    let main = comparison ofDrones

    /// Lines of both policies through points.
    let lines (points: FlightTestResults -> (float * float) list) =
        Chart.combine
            [ for policy, results in all -> Chart.Line(points results, ShowMarkers = true, Name = policy) ]

    let axes (x: string) (y: string) (chart: GenericChart) =
        chart |> Chart.withXAxisStyle (TitleText = x) |> Chart.withYAxisStyle (TitleText = y)

    let distribution =
        Chart.combine
            [
                for policy, results in all ->
                    Chart.Histogram(
                        results.Drones.Results |> Array.map _.MeanReturn,
                        NBinsX = 60,
                        Name = policy,
                        Opacity = 0.6
                    )
            ]
        |> axes "mean return of a drone" "drones"

    let quantities: (string * (DroneFigures -> float)) list =
        [
            "thrust to weight", _.ThrustToWeight
            "arm, m", _.ArmLength
            "torque to inertia, 1/s²", _.TorqueToInertia
            "rotors rise, s", _.TimeConstantRising
            "rotors fall, s", _.TimeConstantFalling
            "disturbance to weight", _.DisturbanceToWeight
        ]

    /// Means over twelve groups of as many drones, in the order of a quantity.
    let grouped
        (quantity: DroneFigures -> float)
        (measure: EvaluationResult -> float)
        (drones: DroneResults)
        =
        Array.zip (drones.Figures |> Array.map quantity) (drones.Results |> Array.map measure)
        |> Array.sortBy fst
        |> Array.splitInto 12
        |> Array.map (fun group -> Array.averageBy fst group, Array.averageBy snd group)
        |> List.ofArray

    let against (label: string) (measure: EvaluationResult -> float) =
        [
            for quantity, of' in quantities ->
                lines (fun results -> grouped of' measure results.Drones) |> axes quantity label
        ]
        |> Chart.Grid(2, 3)

    let figureEights =
        [
            lines (fun results ->
                [ for seconds, flown in results.FigureEights -> seconds, flown.Mean "position_error" ])
            |> axes "seconds of a loop" "mean distance to the reference, m"
            lines (fun results ->
                [ for seconds, flown in results.FigureEights -> seconds, 100.0 * flown.ShareTerminated ])
            |> axes "seconds of a loop" "terminated, %"
        ]
        |> Chart.Grid(1, 2)

    let recovery =
        lines (fun results -> [ for degrees, share in results.Recovery -> degrees, 100.0 * share ])
        |> axes "initial tilt, degrees" "recovered, %"

    let response (i: int) =
        [
            for number, (policy, results) in List.indexed all do
                let response = results.Responses[i]

                for share, dash in [ 0.5, "solid"; 0.9, "dot" ] do
                    let points =
                        [
                            for step in 0..5 .. response.Distances.Length - 1 ->
                                float step * response.StepSeconds,
                                Statistics.quantile share (response.Distances[step] |> Seq.map float)
                        ]

                    let what = if share = 0.5 then "median" else "90 %"
                    Chart.Line(points, Name = $"{policy}, {what}", LineColor = $"@{number}", LineDash = dash)
        ]
        |> Chart.combine
        |> axes "time, s" "distance, m"
        |> Chart.withVerticalLine tested.Responses[i].ChangeAt

    let probes () =
        [
            for (policy, results), dash in List.zip all (List.truncate all.Length [ "solid"; "dot" ]) do
                for number, probe in List.indexed results.Probes ->
                    Chart.Line(
                        Seq.zip probe.Times (probe.RSquared |> Array.map (max 0.0)),
                        Name = $"{policy}: {probe.Parameter}",
                        LineColor = $"@{number}",
                        LineDash = dash
                    )
        ]
        |> Chart.combine
        |> axes "seconds since the start" "R² on other drones"

    let page () =
        let flown = tested.Drones.All

        let numbers =
            [
                "return", significant flown.MeanReturn, $"of {count tested.Drones.Figures.Length} drones"
                "terminated", percent flown.ShareTerminated, $"of {count flown.Episodes} episodes"
                match tested.Probes with
                | probe :: _ ->
                    "R² of thrust to weight",
                    (Array.last probe.RSquared).ToString "F3",
                    "after a second, from the memory"
                | [] -> ()
            ]

        [
            header "Flight tests" name numbers
            section
                "Drones"
                [ wideTable main; figure ("Mean return of each drone over its episodes.", distribution) ]
            column
                "Where it fails"
                [
                    figure (
                        "Mean return of a twelfth of the drones, in the order of a quantity.",
                        against "return" _.MeanReturn
                    )
                    figure (
                        "Share of their episodes that ended in a terminal state.",
                        against "terminated, %" (fun result -> 100.0 * result.ShareTerminated)
                    )
                ]
            section "Named airframes" [ wideTable (comparison _.Airframes) ]
            column
                "Figures of eight"
                [
                    figure (
                        "A lying figure of eight, 2 m long, at the speed that the seconds of a loop say; one episode of each drone. A policy of absolute positions reads them relative to the reference here.",
                        figureEights
                    )
                ]
            section
                "Recovery"
                [
                    figure (
                        "Share of drones that, tilted at the start, are within 0.3 m and 30° of level after five seconds. Nothing ends these flights.",
                        recovery
                    )
                ]
            section
                "Changes in flight"
                [
                    for i, change in List.indexed tested.Responses ->
                        figure ($"Distance to the reference; at the line: {change.What}.", response i)
                ]
            if all |> List.exists (fun (_, results) -> not results.Probes.IsEmpty) then
                section
                    "What the memory knows"
                    [
                        figure (
                            "How well a linear function of the memory, fitted to four of five drones, tells a parameter of the others.",
                            probes ()
                        )
                    ]
        ]
        |> String.concat "\n"
        |> fun body -> ReportLayout.page "Flight tests" body

    let drones () =
        Csv.write
            (Path.Combine(folder, "drones.csv"))
            [
                "drone"
                for quantity in
                    [
                        "thrust_to_weight"
                        "arm_length"
                        "torque_to_inertia"
                        "rising"
                        "falling"
                        "disturbance"
                    ] do
                    quantity
                for policy, _ in all do
                    $"return_{policy}"
                    $"share_terminated_{policy}"
            ]
            [
                for i, figures in Array.indexed tested.Drones.Figures do
                    [
                        figures.Name
                        for _, quantity in quantities do
                            Csv.number (quantity figures)
                        for _, results in all do
                            Csv.number results.Drones.Results[i].MeanReturn
                            Csv.number results.Drones.Results[i].ShareTerminated
                    ]
            ]

    /// The policy that was tested.
    member _.Tested = tested

    /// The other one, with its name.
    member _.Beside = beside

    /// Mean difference of the return on the sampled drones from the other policy's in the same episodes.
    member _.Difference =
        beside
        |> Option.map (fun (_, other) ->
            Statistics.difference tested.Drones.All.Returns other.Drones.All.Returns)

    /// Writes flight-tests.html, and drones.csv with the results of every drone; returns the page's path.
    member _.Save() : string =
        let path = Path.Combine(folder, "flight-tests.html")
        Page.save path (page ())
        drones ()
        path

    member _.ToHtml() = main.ToHtml()

    override _.ToString() =
        String.Join(Environment.NewLine, [ string main; string (comparison _.Airframes) ])
