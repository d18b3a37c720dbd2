namespace Distill

open System
open System.Globalization

/// What a variant reached and cost: means over its seeds, with Student's 95 % intervals.
type VariantCost =
    {
        /// Values of what varies, in the order of the tables.
        Values: string option list

        /// The main measure.
        Main: Interval
        CoreSeconds: Interval

        /// Training steps, the mean over seeds.
        Steps: float

        /// Whether no other variant has more of the main measure for as few core-seconds.
        OnFront: bool
    }

/// The trials of a sweep, and the finished ones as tables. What is compared is the main measure of their jobs, such as the return
/// of the best student of each run.
type SweepResults internal (all: SweepTrial list) =
    let finished =
        all |> List.choose (fun trial -> trial.Result |> Option.map (fun result -> trial.Record, result))

    let fullNames = finished |> List.map fst |> Trials.varyingOf
    let names = Trials.shortNames fullNames

    let cell (value: string) : obj =
        match Names.number value with
        | Some number -> number
        | None -> value

    /// Numbers by size, texts by letters.
    let order (value: string option) =
        match value |> Option.map cell with
        | Some(:? float as number) -> 0, number, ""
        | Some text -> 1, 0.0, string text
        | None -> 2, 0.0, ""

    let valuesOf (trial: TrialRecord) =
        fullNames |> List.map trial.Settings.TryFind

    let place (trial: TrialRecord) =
        valuesOf trial |> List.map order, trial.Seed, trial.Hash

    let trials = finished |> List.sortBy (fst >> place)

    /// Values of the settings that vary, and the trials that have them.
    let variants = trials |> List.groupBy (fst >> valuesOf)

    /// The measures of tables, the main one first.
    let main, beside =
        match trials with
        | (_, result) :: _ -> result.Main, result.Beside
        | [] -> "", []

    let valuesOfMeasure (name: string) trials =
        trials |> List.map (fun (_, result: TrialResult) -> result[name])

    let scores trials = valuesOfMeasure main trials

    let bySeed trials =
        trials |> List.map (fun (trial: TrialRecord, result: TrialResult) -> trial.Seed, result.Score)

    /// A value in words: numbers as one would type them, to 5 significant digits.
    let short (value: string) =
        match cell value with
        | :? float as number when number <> Math.Round number ->
            number.ToString("G5", CultureInfo.InvariantCulture)
        | _ -> value

    let nameOf (values: string option list) =
        if names.IsEmpty then
            "the only variant"
        else
            List.zip names values
            |> List.choose (fun (name, value) -> value |> Option.map (fun value -> $"{name}={short value}"))
            |> String.concat " "

    /// Best first, and last those whose return is not a number.
    let ranked =
        variants
        |> List.sortByDescending (fun (_, trials) ->
            let mean = List.average (scores trials)
            if Double.IsNaN mean then -infinity else mean)

    /// Where some variant has the seeds for it, the interquartile mean; a variant with fewer has none.
    let middle =
        if variants |> List.exists (fun (_, trials) -> trials.Length >= Statistics.fewest) then
            Some(fun trials -> Statistics.stratifiedBootstrap Statistics.interquartileMean [ scores trials ])
        else
            None

    let cells (values: string option list) =
        values |> List.map (Option.map cell >> Option.toObj)

    let heading (name: string) =
        if Measure.isShare name then
            Measure.heading name
        else
            Measure.words name + " [95 %]"

    /// A measure of a variant: the mean of shares, and of all else with its interval, too.
    let summary (name: string) trials : obj =
        let values = valuesOfMeasure name trials

        if Measure.isShare name then
            Measure.shown name (List.average values)
        else
            Statistics.mean95 values

    let table =
        lazy
            Table(
                names
                @ [ "seeds"; heading main ]
                @ (middle |> Option.map (fun _ -> "interquartile mean [95 %]") |> Option.toList)
                @ List.map heading beside,
                [
                    for values, trials in variants do
                        cells values
                        @ [ trials.Length; Statistics.mean95 (scores trials) ]
                        @ (middle |> Option.map (fun middle -> box (middle trials)) |> Option.toList)
                        @ [ for name in beside -> summary name trials ]
                ]
            )

    let costs =
        lazy
            (let ofTrials =
                all
                |> List.choose (fun trial -> trial.Cost |> Option.map (fun cost -> trial.Record.Hash, cost))
                |> Map.ofList

             let known =
                 [
                     for values, trials in variants do
                         let costs = trials |> List.choose (fun (trial, _) -> ofTrials.TryFind trial.Hash)

                         if costs.Length = trials.Length then
                             values,
                             Statistics.mean95 (scores trials),
                             costs |> List.map _.CoreSeconds |> Statistics.mean95,
                             costs |> List.averageBy (fun cost -> float cost.Steps)
                 ]
                 |> List.filter (fun (_, main, _, _) -> Double.IsFinite main.Estimate)

             let front =
                 known |> List.map (fun (_, main, cost, _) -> cost.Estimate, main.Estimate) |> Pareto.front

             List.map2
                 (fun (values, main, seconds, steps) onFront ->
                     {
                         Values = values
                         Main = main
                         CoreSeconds = seconds
                         Steps = steps
                         OnFront = onFront
                     })
                 known
                 front
             |> List.sortBy (fun variant -> variant.CoreSeconds.Estimate, -variant.Main.Estimate))

    /// Trials of A beside those of B that differ from them in nothing but the settings of these places; refuses a choice
    /// that has several of them.
    let pairs (apart: int list) trialsOfA trialsOfB =
        let common (trial: TrialRecord, _) =
            trial.Seed,
            valuesOf trial |> List.indexed |> List.filter (fun (i, _) -> not (List.contains i apart))

        let single trials =
            [
                for (seed, _) as key, same in List.groupBy common trials do
                    match same with
                    | [ _, result: TrialResult ] -> key, result.Score
                    | several ->
                        let what = several |> List.map (fst >> valuesOf >> nameOf) |> String.concat " and "

                        fail
                            $"One side of the comparison has several trials with seed {seed}: {what}. Say more of their settings."
            ]

        let ofB = Map.ofList (single trialsOfB)

        single trialsOfA
        |> List.choose (fun (key, value) ->
            ofB.TryFind key |> Option.map (fun other -> fst key, value - other))

    /// The mean of the pairs of each seed: only seeds are independent of each other.
    let bySeedMean (pairs: (uint64 * float) list) =
        pairs |> List.groupBy fst |> List.map (fun (_, pairs) -> List.averageBy snd pairs)

    let effects =
        lazy
            Table(
                [ "setting"; "value"; "against"; "difference of returns [95 %]"; "seeds"; "pairs" ],
                [
                    for i, name in List.indexed names do
                        match trials |> List.groupBy (fst >> valuesOf >> List.item i) with
                        | [] -> ()
                        | (first, trialsOfFirst) :: others ->
                            for value, trials in others do
                                match pairs [ i ] trials trialsOfFirst with
                                // In a random search no two trials differ in one setting alone.
                                | [] -> ()
                                | pairs ->
                                    let differences = bySeedMean pairs

                                    [
                                        box name
                                        value |> Option.map cell |> Option.toObj
                                        first |> Option.map cell |> Option.toObj
                                        Statistics.mean95 differences
                                        differences.Length
                                        pairs.Length
                                    ]
                ]
            )

    /// All trials, in the order of the tables, also those that have not finished.
    member _.Trials = all |> List.sortBy (fun trial -> place trial.Record)

    /// Short names of the settings that vary.
    member internal _.Names = names

    /// The trials that have finished, and their values of what varies.
    member internal _.Finished =
        trials |> List.map (fun (trial, result) -> valuesOf trial, trial, result)

    /// Values of what varies, and the returns of the trials with them, in the order of the table.
    member internal _.Variants =
        variants |> List.map (fun (values, trials) -> values, scores trials)

    /// What was wrong from the start of finished trials, such as a teacher that fails; each sentence once.
    member _.Warnings =
        trials |> List.collect (fun (_, result) -> result.Warnings) |> List.distinct

    /// How many trials have finished.
    member _.Count = trials.Length

    /// The measure that is compared; empty where no trial has finished.
    member _.Main = main

    /// The measures that tables show beside it.
    member _.Beside = beside

    /// A row for every variant: mean over seeds with Student's 95 % interval, other measures likewise and, from five seeds, the
    /// interquartile mean with a bootstrap interval.
    member _.Table = table.Value

    /// A row for every value of every setting that varies but the first: the mean difference of returns from trials that
    /// have the first value and are the same in all else, with Student's 95 % interval over seeds.
    member _.Effects = effects.Value

    /// The variant with the highest mean return, in words; None where no trial has finished.
    member _.Best =
        ranked
        |> List.tryHead
        |> Option.map (fun (values, trials) -> nameOf values, Statistics.mean95 (scores trials))

    /// What each variant reached and cost, the cheapest first; without those that have a trial whose cost is not known.
    member _.Costs: VariantCost list = costs.Value

    /// The variants that are worth their price, the cheapest first: the Pareto front of the main measure against core-seconds.
    member _.Front =
        Table(
            names @ [ heading main; "core-seconds [95 %]"; "steps" ],
            [
                for variant in costs.Value do
                    if variant.OnFront then
                        cells variant.Values @ [ variant.Main; variant.CoreSeconds; variant.Steps ]
            ]
        )

    /// What the trials of the variant with the highest mean return measured; empty where no trial has finished.
    member internal _.ResultsOfBest =
        ranked |> List.tryHead |> Option.map (snd >> List.map snd) |> Option.defaultValue []

    /// The best variant against each of the others on the same seeds, next best first.
    member _.Comparisons: PairedComparison list =
        match ranked with
        | [] -> []
        | (best, trialsOfBest) :: others ->
            others
            |> List.choose (fun (values, trials) ->
                Statistics.paired (nameOf best, bySeed trialsOfBest) (nameOf values, bySeed trials))
            |> List.map (fun comparison -> { comparison with PickedFrom = ranked.Length })

    /// Any two variants, or groups of them, against each other: trials of A minus those of B that differ in nothing but the
    /// settings that tell A from B. Where other settings vary as well, the pairs of each seed are averaged.
    member _.Compare(a: SweepTrial -> bool, b: SweepTrial -> bool) : PairedComparison =
        let chosen (side: string) (choice: SweepTrial -> bool) =
            match all |> List.filter choice with
            | [] -> fail $"No trial is {side} of the comparison."
            | trials ->
                match
                    trials |> List.choose (fun trial -> trial.Result |> Option.map (fun r -> trial.Record, r))
                with
                | [] -> fail $"No trial that is {side} of the comparison has finished."
                | finished -> finished

        let ofA, ofB = chosen "A" a, chosen "B" b

        let valuesAt i trials =
            trials |> List.map (fst >> valuesOf >> List.item i) |> List.distinct

        let apart =
            [
                for i in 0 .. names.Length - 1 do
                    let other = valuesAt i ofB

                    if valuesAt i ofA |> List.forall (fun value -> not (List.contains value other)) then
                        i
            ]

        if apart.IsEmpty then
            fail "The two sides of a comparison must differ in the values of a setting."

        let name trials =
            apart
            |> List.map (fun i ->
                let values =
                    valuesAt i trials |> List.map (Option.map short >> Option.defaultValue "none")

                $"""{names[i]}={String.concat "," values}""")
            |> String.concat " "

        match pairs apart ofA ofB |> bySeedMean |> Statistics.ofDifferences (name ofA) (name ofB) with
        | Some comparison -> comparison
        | None ->
            fail
                $"{name ofA} and {name ofB} have no two finished trials with the same seed that are the same in all else."

    /// Each trial on a line: what varies, seed and results, with all digits and nothing that depends on time or machine.
    member _.WriteCsv(path: string) =
        let measures =
            trials |> List.collect (fun (_, result) -> List.map fst result.Measures) |> List.distinct

        Csv.write
            path
            (names
             @ [
                 "seed"
                 for name in measures do
                     name
                 "trial"
             ])
            [
                for trial, result in trials do
                    (valuesOf trial |> List.map (Option.defaultValue ""))
                    @ [
                        string trial.Seed
                        for name in measures do
                            Csv.number result[name]
                        trial.Hash.Substring(0, 8)
                    ]
            ]

    /// Each variant on a line, with all digits; NaN for what so few seeds cannot give.
    member _.WriteSummary(path: string) =
        Csv.write
            path
            (names
             @ [
                 "seeds"
                 "mean"
                 "mean_low"
                 "mean_high"
                 "interquartile_mean"
                 "interquartile_mean_low"
                 "interquartile_mean_high"
             ])
            [
                for values, trials in variants do
                    let mean = Statistics.mean95 (scores trials)

                    let middle =
                        Statistics.stratifiedBootstrap Statistics.interquartileMean [ scores trials ]

                    (values |> List.map (Option.defaultValue ""))
                    @ [ string trials.Length ]
                    @ [
                        for value in
                            [ mean.Estimate; mean.Low; mean.High; middle.Estimate; middle.Low; middle.High ] do
                            Csv.number value
                    ]
            ]

    override results.ToString() =
        if trials.IsEmpty then
            "No trial has finished."
        else
            [
                string results.Table
                if results.Effects.RowCount > 0 then
                    ""
                    string results.Effects
                match results.Comparisons with
                | [] -> ()
                | next :: _ ->
                    ""
                    string next
                for warning in results.Warnings do
                    ""
                    $"Warning: {warning}"
            ]
            |> String.concat "\n"

    member results.ToHtml() =
        let effects =
            if results.Effects.RowCount > 0 then
                results.Effects.ToHtml()
            else
                ""

        let warnings =
            results.Warnings
            |> List.map (fun warning -> $"<p><strong>Warning:</strong> {Page.escape warning}</p>")

        String.Join("", results.Table.ToHtml() :: effects :: warnings)

/// Sweeps as values.
module Sweep =
    /// The sweep of one job, which the command line can widen.
    let internal ofJob (one: Job) : Sweep<unit> = sweep { job (fun () -> one) }

    /// The trials of a sweep from its folder, logs/NAME/sweep, without its script.
    let load (folder: string) : SweepResults =
        match SweepTrial.readAll Map.empty (IO.Path.GetFullPath folder) with
        | [] -> fail $"{folder} is not the folder of a sweep: it has no trials. Give logs/NAME/sweep."
        | trials -> SweepResults trials
