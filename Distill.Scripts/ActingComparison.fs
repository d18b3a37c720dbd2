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
    /// Mean and standard deviation over the seeds.
    let spread (measure: TrialResult -> float) (runs: (SweepTrial * TrialResult) list) =
        let values = runs |> List.map (snd >> measure)

        {
            PlusMinus.Mean = List.average values
            Spread =
                if values.Length < 2 then
                    0.0
                else
                    Statistics.deviation values
        }

    let measures =
        [
            "student return", (fun (result: TrialResult) -> result.StudentReturn)
            "student / teacher", _.Ratio
            "terminated %", (fun result -> 100.0 * result.ShareTerminated)
            "final student return", _.FinalStudentReturn
        ]

    let table =
        Table(
            "who acts" :: List.map fst measures @ [ "seeds" ],
            [
                for label, runs in rows do
                    [
                        box label
                        for _, measure in measures do
                            spread measure runs
                        runs.Length
                    ]
            ]
        )

    /// Variant and runs, a run with its result for each seed.
    member _.Rows = rows
    member _.ToHtml() = table.ToHtml()

    /// One row per run.
    member _.WriteCsv(path: string) =
        Csv.write
            path
            ("who_acts" :: "run" :: (measures |> List.map (fun (name, _) -> name.Replace(' ', '_'))))
            [
                for label, runs in rows do
                    for run, result in runs do
                        label
                        :: Command.shortest run.Folder
                        :: (measures |> List.map (fun (_, measure) -> Csv.number (measure result)))
            ]

    override _.ToString() =
        string table
        + Environment.NewLine
        + "Mean ± standard deviation over seeds; each student is the best of its run, on episodes that training never saw."

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
            match experiment.Config.Acting with
            | :? TeacherUntil as until -> until.Phase1Iterations
            | _ ->
                raise (
                    DistillException
                        "The comparison varies the length of phase 1, so acting must be teacher_until."
                )

        let root = Path.GetFullPath(Path.Combine(options.Logs, experiment.Config.Name))
        let hashOf = TrialRecord.hasher ()

        // Each run is known by its content, as the trials of a sweep are: one that has finished is not run again, one that was
        // stopped goes on.
        let one (label: string) (acting: Acting) (seed: uint64) =
            let config =
                experiment.Config
                |> Settings.change (nameof experiment.Config.Acting) (box acting)
                |> Settings.change (nameof experiment.Config.Seed) (box seed)

            let experiment = { experiment with Config = config }
            let own = Experiment.settings experiment

            let folder =
                TrialFolder(
                    root,
                    {
                        Hash = hashOf own
                        Label = $"{label.Replace(' ', '-')}_seed-{seed}"
                        Settings = Map.ofList own
                        Changes = settings
                        Arguments = []
                    }
                )

            Console.Out.WriteLine $"{Environment.NewLine}--- {label}, seed {seed} ---"

            if folder.Result.IsSome then
                Console.Out.WriteLine $"Finished before, in {Command.shortest folder.Path}"

            try
                TrialJob.runAlone folder experiment
            with Script.Stopped(code, _) ->
                raise (Script.Stopped(code, "Stopped; the same command goes on where it stopped."))

            SweepTrial.ofFolder (lazy experiment) folder, folder.Result.Value

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
