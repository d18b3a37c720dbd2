namespace Distill

open System
open System.IO
open Distill.Algorithms

/// Where the runs of a comparison are kept, and how many there are of every variant.
type ComparisonOptions =
    {
        /// The folder of all experiments.
        Logs: string

        /// Runs of every variant: with the experiment's seed, the next one, and so on.
        Seeds: int
    }

/// One experiment with different answers to "who acts", over several seeds.
type ActingComparison internal (rows: (string * (SweepTrial * TrialResult) list) list) =
    let measures =
        [ "student_return"; "minus_teacher"; "share_terminated"; "final_student_return" ]

    let over (measure: string) (runs: (SweepTrial * TrialResult) list) =
        runs |> List.map (fun (_, result) -> Measure.shown measure result[measure]) |> Statistics.mean95

    let bySeed (runs: (SweepTrial * TrialResult) list) =
        runs |> List.map (fun (trial, result) -> trial.Seed, result.Score)

    let comparisons =
        match rows with
        | [] -> []
        | (first, runsOfFirst) :: others ->
            others
            |> List.choose (fun (label, runs) ->
                Statistics.paired (label, bySeed runs) (first, bySeed runsOfFirst))

    let table =
        Table(
            "who acts" :: [ for name in measures -> Measure.heading name + " [95 %]" ] @ [ "seeds" ],
            [
                for label, runs in rows do
                    [
                        box label
                        for measure in measures do
                            over measure runs
                        runs.Length
                    ]
            ]
        )

    let warnings =
        rows |> List.collect snd |> List.collect (fun (_, result) -> result.Warnings) |> List.distinct

    /// Variant and runs, a run with its result for each seed.
    member _.Rows = rows

    /// Each variant but the first against the first, on the same seeds.
    member _.Comparisons: PairedComparison list = comparisons
    member _.ToHtml() = table.ToHtml()

    /// One row per run.
    member _.WriteCsv(path: string) =
        Csv.write
            path
            ("who_acts" :: "run" :: measures)
            [
                for label, runs in rows do
                    for run, result in runs do
                        label
                        :: Command.shortest run.Folder
                        :: [ for measure in measures -> Csv.number result[measure] ]
            ]

    override _.ToString() =
        String.Join(
            Environment.NewLine,
            [
                string table
                "Means with Student's 95 % interval over seeds; each student is the best of its run, on episodes that training never saw."
                for comparison in comparisons do
                    string comparison
                for warning in warnings do
                    $"Warning: {warning}"
            ]
        )

module internal ActingComparison =
    let defaults = { Logs = Training.options.Logs; Seeds = 3 }

    let run
        (settings: string list)
        (options: ComparisonOptions)
        (variants: int -> (string * Acting) list)
        (experiment: Experiment)
        =
        Training.atLeastOne "seeds" options.Seeds

        let phase1 =
            match experiment.Config.Acting.Phase(0, experiment.Config.Iterations) with
            | phase when phase.Number = 2 -> 0
            | phase when phase.Name = "teacher" -> phase.Length
            | _ -> fail "The comparison varies the length of phase 1, so acting must be teacher_until."

        let root = Path.GetFullPath(Path.Combine(options.Logs, experiment.Config.Name))
        let hashOf = Fingerprint.hasher ()

        let one (label: string) (acting: Acting) =
            let config = experiment.Config |> Settings.set <@ _.Acting @> acting
            KeptRun.distil root hashOf settings { experiment with Config = config } label

        let comparison =
            ActingComparison
                [
                    for label, acting in variants phase1 do
                        label, KeptRun.seeds options.Seeds experiment |> List.map (one label acting)
                ]

        let path = Path.Combine(options.Logs, experiment.Config.Name, "comparison.csv")
        comparison.WriteCsv path
        say $"{Environment.NewLine}Table: {Command.shortest path}"
        comparison
