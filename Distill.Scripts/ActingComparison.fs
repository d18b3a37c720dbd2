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
type ActingComparison(rows: (string * DistillationResult list) list) =
    /// Mean and standard deviation over the seeds.
    let spread (measure: DistillationResult -> float) (results: DistillationResult list) =
        let values = results |> List.map measure
        let mean = List.average values

        let deviation =
            if values.Length < 2 then
                0.0
            else
                sqrt ((values |> List.sumBy (fun value -> (value - mean) ** 2.0)) / float (values.Length - 1))

        mean, deviation

    let measures =
        [
            "student return", (fun (result: DistillationResult) -> result.Student.MeanReturn)
            "student / teacher", _.Ratio
            "terminated %", (fun result -> 100.0 * result.Student.ShareTerminated)
            "final student return", _.FinalStudent.MeanReturn
        ]

    let table =
        Table(
            "who acts" :: List.map fst measures @ [ "seeds" ],
            [
                for label, results in rows do
                    [
                        box label
                        for _, measure in measures do
                            let mean, deviation = spread measure results
                            { PlusMinus.Mean = mean; Spread = deviation }
                        results.Length
                    ]
            ]
        )

    /// Variant and results, a result for each seed.
    member _.Rows = rows
    member _.ToHtml() = table.ToHtml()

    /// One row per run.
    member _.WriteCsv(path: string) =
        Csv.write
            path
            ("who_acts" :: "run" :: (measures |> List.map (fun (name, _) -> name.Replace(' ', '_'))))
            [
                for label, results in rows do
                    for result in results do
                        label
                        :: result.Folder
                        :: (measures |> List.map (fun (_, measure) -> Csv.number (measure result)))
            ]

    override _.ToString() =
        string table
        + Environment.NewLine
        + "Mean ± standard deviation over seeds; each student is the best of its run, on episodes that training never saw."

module internal ActingComparison =
    let defaults = { Logs = "logs"; Seeds = 3 }

    let run
        (settings: string list)
        (options: ComparisonOptions)
        (variants: int -> (string * Acting) list)
        (experiment: Experiment)
        =
        if options.Seeds < 1 then
            raise (DistillException $"seeds={options.Seeds} cannot work; it must be at least 1.")

        let phase1 =
            match experiment.Config.Acting with
            | :? TeacherUntil as until -> until.Phase1Iterations
            | _ ->
                raise (
                    DistillException
                        "The comparison varies the length of phase 1, so acting must be teacher_until."
                )

        let one (label: string) (acting: Acting) (seed: uint64) =
            let config =
                experiment.Config
                |> Settings.change (nameof experiment.Config.Acting) (box acting)
                |> Settings.change (nameof experiment.Config.Seed) (box seed)
                |> Settings.change
                    (nameof experiment.Config.RunName)
                    (box $"{label.Replace(' ', '-')}_seed{seed}")

            Console.Out.WriteLine $"{Environment.NewLine}--- {label}, seed {seed} ---"

            try
                Distilling.run
                    { Training.options with Logs = options.Logs }
                    settings
                    { experiment with Config = config }
            with Script.Stopped(code, _) ->
                raise (Script.Stopped(code, "Stopped; a comparison of several runs starts anew."))

        let comparison =
            ActingComparison
                [
                    for label, acting in variants phase1 do
                        let seeds = List.init options.Seeds (fun i -> experiment.Config.Seed + uint64 i)
                        label, seeds |> List.map (one label acting)
                ]

        let path = Path.Combine(options.Logs, experiment.Config.Name, "comparison.csv")
        comparison.WriteCsv path
        Console.Out.WriteLine $"{Environment.NewLine}Table: {Command.shortest path}"
        comparison
