namespace Distill

open System
open System.Globalization

/// The trials of a sweep, and the finished ones as tables. What is compared is the return of the best student of each run.
type SweepResults internal (all: SweepTrial list) =
    let finished =
        all |> List.choose (fun trial -> trial.Result |> Option.map (fun result -> trial.Record, result))

    let fullNames =
        finished
        |> List.map (fun (trial, _) -> Map.toList trial.Settings)
        |> Trials.varying
        |> List.except [ "seed" ]

    let names = Trials.shortNames fullNames

    let cell (value: string) : obj =
        match Double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture) with
        | true, number -> number
        | _ -> value

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

    let score (result: TrialResult) = result.StudentReturn
    let scores trials = trials |> List.map (snd >> score)

    let bySeed trials =
        trials |> List.map (fun (trial: TrialRecord, result) -> trial.Seed, score result)

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

    let ranked = variants |> List.sortByDescending (snd >> scores >> List.average)

    let interval (interval: Interval) : obj =
        if Double.IsNaN interval.Low then
            interval.Estimate
        else
            $"{interval.Estimate:F1} [{interval.Low:F1}, {interval.High:F1}]"

    let half (interval: Interval) : obj =
        if Double.IsNaN interval.Low then
            interval.Estimate
        else
            { PlusMinus.Mean = interval.Estimate; Spread = interval.High - interval.Estimate }

    let iqm = Statistics.stratifiedBootstrap Statistics.interquartileMean

    let cells (values: string option list) =
        values |> List.map (Option.map cell >> Option.toObj)

    let table =
        lazy
            Table(
                names
                @ [
                    "seeds"
                    "student return ± 95 %"
                    "interquartile mean [95 %]"
                    "student / teacher"
                    "terminated %"
                ],
                [
                    for values, trials in variants do
                        yield
                            cells values
                            @ [
                                trials.Length
                                half (Statistics.mean95 (scores trials))
                                interval (iqm [ scores trials ])
                                trials |> List.averageBy (fun (_, result) -> result.Ratio)
                                trials |> List.averageBy (fun (_, result) -> 100.0 * result.ShareTerminated)
                            ]
                ]
            )

    let effects =
        lazy
            Table(
                [ "setting"; "value"; "trials"; "interquartile mean [95 %]" ],
                [
                    for i, name in List.indexed names do
                        let pooled = variants |> List.groupBy (fst >> List.item i)

                        // Of a setting that each variant has with another value, as in a random search, nothing is pooled.
                        for value, variants in (if pooled.Length < variants.Length then pooled else []) do
                            let strata = variants |> List.map (snd >> scores)

                            [
                                box name
                                value |> Option.map cell |> Option.toObj
                                strata |> List.sumBy List.length
                                interval (iqm strata)
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

    /// How many trials have finished.
    member _.Count = trials.Length

    /// A row for every variant: mean over seeds with Student's 95 % interval, interquartile mean with a bootstrap one.
    member _.Table = table.Value

    /// A row for every value of every setting that varies: the interquartile mean of all trials with it, with an interval
    /// from resampling seeds within each combination of the other settings.
    member _.Effects = effects.Value

    /// The variant with the highest mean return, in words; None where no trial has finished.
    member _.Best =
        ranked
        |> List.tryHead
        |> Option.map (fun (values, trials) -> nameOf values, Statistics.mean95 (scores trials))

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

    /// Each trial on a line: what varies, seed and results, with all digits and nothing that depends on time or machine.
    member _.WriteCsv(path: string) =
        Csv.write
            path
            (names
             @ [
                 "seed"
                 "teacher_return"
                 "student_return"
                 "final_student_return"
                 "student_length"
                 "share_terminated"
                 "trial"
             ])
            [
                for trial, result in trials do
                    (valuesOf trial |> List.map (Option.defaultValue ""))
                    @ [
                        string trial.Seed
                        Csv.number result.TeacherReturn
                        Csv.number result.StudentReturn
                        Csv.number result.FinalStudentReturn
                        Csv.number result.StudentLength
                        Csv.number result.ShareTerminated
                        trial.Hash.Substring(0, 8)
                    ]
            ]

    /// Each variant on a line, with all digits.
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
                    let middle = iqm [ scores trials ]

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
                if names.Length > 1 then
                    ""
                    string results.Effects
                match results.Comparisons with
                | [] -> ()
                | next :: _ ->
                    ""
                    string next
            ]
            |> String.concat "\n"

    member results.ToHtml() =
        results.Table.ToHtml() + (if names.Length > 1 then results.Effects.ToHtml() else "")

/// Sweeps as values.
module Sweep =
    /// The sweep of one experiment, which the command line can widen.
    let internal ofExperiment (one: Experiment) : Sweep<unit> = sweep { experiment (fun () -> one) }

    /// The trials of a sweep from its folder, logs/NAME/sweep, without its script.
    let load (folder: string) : SweepResults =
        match SweepTrial.readAll Map.empty (IO.Path.GetFullPath folder) with
        | [] ->
            raise (
                DistillException
                    $"{folder} is not the folder of a sweep: it has no trials. Give logs/NAME/sweep."
            )
        | trials -> SweepResults trials
