namespace Distill

open System
open System.IO
open Distill.Algorithms
open Distill.Evaluation
open Distill.Policies
open Distill.Storage

/// What a comparison of students measures, and where it is kept.
type StudentComparisonOptions =
    {
        /// The folder of all experiments.
        Logs: string

        /// Runs of every student: with the experiment's seed, the next one, and so on.
        Seeds: int

        /// What is compared: return, length, share_terminated, or a measure of the environment's, such as success.
        Measure: string

        /// Episodes of each variant of the environments, such as a task. Raise it for narrower intervals.
        Episodes: int

        /// Seed of these episodes' starts: not one that training uses, which picks its best students in episodes of its own.
        EpisodesSeed: uint64
    }

/// What a way to make a policy reaches on a variant of the environments.
type StudentScore =
    {
        /// The variant, or "all".
        Variant: string

        /// The student's name, or "teacher".
        Student: string
        Seeds: int

        /// The measure: the mean of the seeds' means, with Student's 95 % interval over seeds.
        Score: Interval

        /// The difference from the first student, seed by seed; None for the first.
        Difference: Interval option

        /// The share of what the teacher reaches; NaN where that is not above 0.
        OfTeacher: float
    }

/// Students of one teacher by a measure, variant by variant, all in the same episodes.
type StudentComparison
    internal
    (
        measure: string,
        variants: string list,
        teacher: EvaluationResult,
        students: (string * (uint64 * EvaluationResult) list) list
    ) =
    /// The measure by variant, and of all episodes last.
    let means (result: EvaluationResult) =
        [
            if not variants.IsEmpty then
                for one in result.ByVariant(Array.ofList variants) do
                    one.Mean measure
            result.Mean measure
        ]

    let first, ofFirst = students.Head

    let bySeed (place: int) =
        List.map (fun (seed: uint64, result) -> seed, (means result)[place])

    let scores =
        [
            for place, variant in List.indexed (variants @ [ "all" ]) do
                let reached = (means teacher)[place]

                let score (name: string) (values: (uint64 * float) list) (difference: Interval option) =
                    let mean = values |> List.map snd |> Statistics.mean95

                    {
                        Variant = variant
                        Student = name
                        Seeds = values.Length
                        Score = mean
                        Difference = difference
                        OfTeacher = Statistics.ratio mean.Estimate reached
                    }

                let against name values =
                    Statistics.paired (name, values) (first, bySeed place ofFirst) |> Option.map _.Mean

                for name, results in students do
                    let values = bySeed place results
                    score name values (if name = first then None else against name values)

                // It is the same with every seed, which is no reason to trust it more.
                let everySeed = ofFirst |> List.map (fun (seed, _) -> seed, reached)
                { score "teacher" [ 0UL, reached ] (against "teacher" everySeed) with Seeds = 1 }
        ]

    let table =
        lazy
            Table(
                [
                    "variant"
                    "student"
                    $"{measure} [95 %%]"
                    $"minus {first} [95 %%]"
                    "% of teacher's"
                    "seeds"
                ],
                [
                    for score in scores do
                        [
                            box score.Variant
                            score.Student
                            score.Score
                            Option.toObj (score.Difference |> Option.map box)
                            100.0 * score.OfTeacher
                            score.Seeds
                        ]
                ]
            )

    /// Variant by variant, "all" last, and of each every student and the teacher.
    member _.Scores = scores

    member _.WriteCsv(path: string) =
        let numbers (interval: Interval option) =
            match interval with
            | Some interval -> [ interval.Estimate; interval.Low; interval.High ] |> List.map Csv.number
            | None -> [ ""; ""; "" ]

        Csv.write
            path
            [
                "variant"
                "student"
                "seeds"
                yield! [ ""; "_low"; "_high" ] |> List.map (fun bound -> measure + bound)
                yield! [ ""; "_low"; "_high" ] |> List.map (fun bound -> $"minus_{first}{bound}")
                "share_of_teacher"
            ]
            [
                for score in scores do
                    [
                        score.Variant
                        score.Student
                        string score.Seeds
                        yield! numbers (Some score.Score)
                        yield! numbers score.Difference
                        Csv.number score.OfTeacher
                    ]
            ]

    /// Writes the table and a picture of it as a page.
    member _.SaveHtml(path: string) =
        let bars =
            [
                for name, own in scores |> List.groupBy _.Student ->
                    Chart.Column(
                        own |> List.map _.Score.Estimate,
                        Keys = (own |> List.map _.Variant),
                        Name = name
                    )
            ]
            |> Chart.combine
            |> Chart.withYAxisStyle (TitleText = measure)

        [
            ReportLayout.section
                "Students"
                [
                    ReportLayout.figure (
                        $"{measure} of the students and their teacher in the same episodes, means over seeds.",
                        bars
                    )
                ]
            ReportLayout.section "Numbers" [ ReportLayout.wideTable table.Value ]
        ]
        |> String.concat "\n"
        |> ReportLayout.page "Comparison of students"
        |> Page.save path

    member _.ToHtml() = table.Value.ToHtml()

    override _.ToString() =
        $"{table.Value}{Environment.NewLine}Means with Student's 95 %% interval over seeds, in episodes that neither training nor the choice of the best student has seen."

module StudentComparison =
    let defaults: StudentComparisonOptions =
        {
            Logs = Training.options.Logs
            Seeds = 3
            Measure = "return"
            Episodes = 50
            EpisodesSeed = 1_000_000UL
        }

    let internal run
        (settings: string list)
        (options: StudentComparisonOptions)
        (students: (string * StudentConfig) list)
        (experiment: Experiment)
        : StudentComparison =
        Training.atLeastOne "seeds" options.Seeds
        Training.atLeastOne "episodes" options.Episodes

        if students.IsEmpty then
            fail "There are no students to compare."

        let config = experiment.Config
        let root = Path.GetFullPath(Path.Combine(options.Logs, config.Name))
        let hashOf = Fingerprint.hasher ()

        let runs =
            [
                for name, student in students do
                    let own =
                        { experiment with Config = config |> Settings.set <@ _.Student @> student }

                    name,
                    KeptRun.seeds options.Seeds own |> List.map (KeptRun.distil root hashOf settings own name)
            ]

        use pool = Training.pool config.Threads
        let variants = List.ofSeq config.Environment.Spec.Variants
        let episodes = max 1 variants.Length * options.Episodes

        use evaluator =
            new Evaluator(config.Environment, episodes, options.EpisodesSeed, pool, config.Device)

        use teachers =
            Labelling.labellers experiment
            |> Option.defaultWith (fun () -> fail "A comparison of students needs a teacher.")

        let policies = Path.Combine(root, "students")
        Directory.CreateDirectory policies |> ignore

        let flown (name: string) (trial: SweepTrial, _) =
            let best = Path.Combine(trial.Folder, "checkpoints", "best_student.safetensors")

            AtomicFile.Write(
                Path.Combine(policies, $"{name}-{trial.Seed}.safetensors"),
                fun stream ->
                    use file = File.OpenRead best
                    file.CopyTo stream
            )

            use policy = PolicyFile.Load best
            trial.Seed, evaluator.Run policy

        let comparison =
            StudentComparison(
                options.Measure,
                variants,
                evaluator.Run teachers,
                [ for name, trials in runs -> name, List.map (flown name) trials ]
            )

        let file (ending: string) = Path.Combine(root, "students" + ending)
        comparison.WriteCsv(file ".csv")
        comparison.SaveHtml(file ".html")

        say
            $"""{Environment.NewLine}Table and page: {Command.shortest (file ".csv")}, students.html; policies: students/NAME-SEED.safetensors"""

        comparison
