/// Sweeps that run in this process: what is kept, what is run again, and what the tables say.
module Distill.Tests.SweepRunTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Tests.RunTests
open Xunit

/// A distillation of a few short iterations, and where its sweep is kept.
let private pole (place: Workplace) =
    let path = place.Path "teacher.safetensors"

    if not (File.Exists path) then
        saveTeacher path

    distillation {
        name "pole"
        environment (CartPole.balance { envs = 32 })
        teacher (Teacher.load path)
        student (Student.gru { hidden = 4 })
        acting (Acting.teacherUntil 2)
        retain (Retain.latest 2_000)
        loss (Loss.crossEntropy 0.0)
        collect (Collect.stepsPerEnv 10)
        iterations 3
        evaluationInterval 3
        evaluationEpisodes 32
        finalEpisodes 32
    }

let private root (place: Workplace) = place.Path "logs/pole/sweep"

let private run (place: Workplace) (settings: string list) =
    let logs = place.Path "logs"
    Run.sweepWith ($"logs={logs}" :: settings) (Sweep.ofJob (Distil.job (pole place)))

let private table (place: Workplace) =
    File.ReadAllText(Path.Combine(root place, "results.csv"))

/// The trials' folders, and when each result was written.
let private written (place: Workplace) =
    Directory.GetDirectories(root place, "*_seed-*")
    |> Array.map (fun folder ->
        let result = Path.Combine(folder, "result.csv")

        nonNull (Path.GetFileName folder),
        (if File.Exists result then
             File.GetLastWriteTimeUtc result
         else
             DateTime.MinValue))
    |> Map.ofArray

let private folderOf (place: Workplace) (label: string) =
    Directory.GetDirectories(root place, label + "-*") |> Array.exactlyOne

[<Fact>]
let ``a sweep keeps what has finished when it is run again and when it grows`` () =
    use place = new Workplace()
    let first = run place [ "phase1_iterations=0,2"; "seed=0,1" ]
    Assert.Equal(4, first.Count)
    let before, tableBefore = written place, table place
    let again = run place [ "phase1_iterations=0,2"; "seed=0,1" ]
    Assert.Equal(4, again.Count)
    Assert.Equal<Map<string, DateTime>>(before, written place)
    Assert.Equal(tableBefore, table place)
    let grown = run place [ "phase1_iterations=0,1,2"; "seed=0,1" ]
    Assert.Equal(6, grown.Count)
    let after = written place
    Assert.Equal(6, after.Count)

    for KeyValue(folder, time) in before do
        Assert.Equal(time, after[folder])

    // The old lines are in the new table as they were.
    for line in tableBefore.Split '\n' do
        Assert.Contains(line, table place)

    // Another setting varies now: the trials keep their folders.
    let wider = run place [ "phase1_iterations=0,1,2"; "seed=0,1"; "hidden=4,5" ]
    Assert.Equal(12, wider.Count)

    for KeyValue(folder, time) in before do
        Assert.Equal(time, (written place)[folder])

[<Fact>]
let ``a trial's folder is that of a run, and its result is the same`` () =
    use place = new Workplace()
    run place [ "phase1_iterations=0,2"; "--keep-states" ] |> ignore
    let logs = place.Path "single"

    let single =
        Run.distilWith [ $"logs={logs}"; "report=false"; "phase1_iterations=0" ] (pole place)

    let folder = folderOf place "phase1_iterations-0_seed-0"

    let names (folder: string) =
        Directory.GetFiles(folder, "*", SearchOption.AllDirectories)
        |> Array.map (fun path -> Path.GetRelativePath(folder, path))
        |> Array.filter (fun name ->
            not (name.Contains "tfevents") && name <> TrialRecord.fileName && name <> "report.html")
        |> set

    Assert.Equal<Set<string>>(names single.Folder, names folder)

    Assert.Equal(
        File.ReadAllText(Path.Combine(single.Folder, "result.csv")),
        File.ReadAllText(Path.Combine(folder, "result.csv"))
    )

[<Fact>]
let ``a failed trial keeps its message and is tried again on request`` () =
    use place = new Workplace()
    // An MLP learns from rows; a loss for numbers does not fit the choice of the pole's side.
    let settings = [ "loss=cross_entropy,mse"; "seed=0" ]
    let results = run place settings
    Assert.Equal(1, results.Count)
    let folder = folderOf place "loss-mean_squared*"
    let message = File.ReadAllText(Path.Combine(folder, "error.txt"))
    Assert.Contains("cross_entropy", message)
    File.WriteAllText(Path.Combine(folder, "error.txt"), "left alone")
    run place settings |> ignore
    Assert.Equal("left alone", File.ReadAllText(Path.Combine(folder, "error.txt")))
    run place (settings @ [ "--retry-failed" ]) |> ignore
    Assert.Equal(message, File.ReadAllText(Path.Combine(folder, "error.txt")))

[<Fact>]
let ``a failed trial goes on from its checkpoint, or starts afresh`` () =
    use place = new Workplace()
    let whole = run place [ "seed=0"; "--keep-states" ]
    let wholeTable = table place
    let folder = folderOf place "seed-0"
    let file (name: string) = Path.Combine(folder, name)
    let state = file "checkpoints/state.safetensors"

    /// As if the trial had failed after its last checkpoint.
    let fail () =
        File.Delete(file "result.csv")
        File.WriteAllText(file "error.txt", "it failed\n")

    fail ()
    let failed = run place [ "seed=0" ]
    Assert.Equal(0, failed.Count)

    Assert.Equal<string list>(
        [ "it failed" ],
        [
            for trial in failed.Trials do
                match trial.State with
                | Failed message -> message
                | _ -> ()
        ]
    )

    let first = File.ReadAllBytes state
    Assert.Equal(1, (run place [ "seed=0"; "--retry-failed"; "--keep-states" ]).Count)
    Assert.Equal<byte array>(first, File.ReadAllBytes state)
    Assert.False(File.Exists(file "error.txt"))
    Assert.Equal(wholeTable, table place)
    // A checkpoint that cannot be read: only a fresh start helps.
    fail ()
    File.WriteAllText(state, "broken")
    Assert.Equal(0, (run place [ "seed=0"; "--retry-failed" ]).Count)
    Assert.Contains("state.safetensors", File.ReadAllText(file "error.txt"))
    Assert.Equal(1, (run place [ "seed=0"; "--restart-failed" ]).Count)
    Assert.Equal(wholeTable, table place)
    Assert.Equal(1, whole.Count)

[<Fact>]
let ``a sweep is read from its folder as typed records`` () =
    use place = new Workplace()
    let ran = run place [ "phase1_iterations=0,2"; "loss=cross_entropy,mse" ]
    let read = Sweep.load (root place)
    Assert.Equal(string ran, string read)
    Assert.Equal(2, read.Count)
    Assert.Equal(4, read.Trials.Length)

    for fromScript, trial in List.zip ran.Trials read.Trials do
        let config (trial: SweepTrial) =
            trial.Job.Get<DistillationConfig>().ToString()

        Assert.Equal(config fromScript, config trial)
        Assert.Equal(fromScript.Job.Get<TeacherFile>(), trial.Job.Get<TeacherFile>())
        Assert.Equal(fromScript.Folder, trial.Folder)

    for trial in read.Trials do
        let losses = trial.Curve "training/loss"

        match trial.State with
        | Finished result ->
            Assert.Equal<int list>([ 1; 2; 3 ], List.map fst losses)
            Assert.Equal(Some result, trial.Result)
            Assert.Equal(500.0, result["teacher_return"])
        | state ->
            Assert.True(state.IsFailed)
            Assert.Empty losses
            Assert.Equal(None, trial.Result)

    Assert.Equal<int list>(
        [ 0; 0; 2; 2 ],
        read.Trials
        |> List.map (fun trial ->
            (trial.Job.Get<DistillationConfig>().Acting :?> TeacherUntil).Phase1Iterations)
        |> List.sort
    )

    Assert.Contains("<table", read.ToHtml())

    let error =
        Expect.throws<DistillException>(fun () -> Sweep.load (place.Path "logs") |> ignore)

    Assert.Contains("is not the folder of a sweep", error.Message)

/// Makes the trial in the folder one of an earlier Distill, which had settings without some and with others' values.
let private age (folder: string) (change: Map<string, string> -> Map<string, string>) =
    let path = Path.Combine(folder, TrialRecord.fileName)
    let record = TrialRecord.read path 0
    let settings = change record.Settings

    let aged =
        { record with Settings = settings; Hash = Fingerprint.hasher () (Map.toList settings) }

    File.WriteAllText(path, TrialRecord.toJson aged + "\n")
    let renamed = folder.Replace(record.Hash.Substring(0, 8), aged.Hash.Substring(0, 8))
    Directory.Move(folder, renamed)
    renamed

[<Fact>]
let ``a setting that Distill has gained since does not run trials again, a default that changed does`` () =
    use place = new Workplace()
    run place [ "seed=0" ] |> ignore

    let written (folder: string) =
        File.GetLastWriteTimeUtc(Path.Combine(folder, "result.csv"))
    // Before there was a gradient norm to limit, and students had gradient lengths.
    let folder =
        age (folderOf place "seed-0") (fun settings ->
            settings.Remove("optimizer.max_grad_norm").Remove "gradient_length")

    let before = written folder
    let again = run place [ "seed=0" ]
    Assert.Equal(1, again.Trials.Length)
    Assert.Equal(before, written folder)
    Assert.Equal(before, written (folderOf place "seed-0"))
    // Another value of what was added is another trial, and the table tells them apart.
    let two = run place [ "seed=0"; "gradient_length=7" ]
    Assert.Equal(2, two.Count)
    Assert.Equal(2, two.Table.RowCount)
    Assert.StartsWith("gradient_length,seed,", table place)
    Assert.Equal(before, written folder)

    // The default was another when the trial ran: it was another trial.
    use other = new Workplace()
    run other [ "seed=0" ] |> ignore

    let folder =
        age (folderOf other "seed-0") (fun settings -> settings.Add("optimizer.learning_rate", "0.5"))

    let before = written folder
    Assert.Equal(2, (run other [ "seed=0" ]).Count)
    Assert.Equal(before, written folder)
    // Its former value, said, finds it.
    let found = run other [ "seed=0"; "learning_rate=0.5" ]
    Assert.Equal(2, found.Count)
    Assert.Equal(before, written folder)

/// Trainings of a teacher on the pole, for some iterations each.
let private trainings =
    sweep {
        name "ppo"
        parameters (choice [ 2; 4 ])

        job (fun iterations ->
            TrainTeacher.job
                { TrainTeacher.defaults with
                    Environment = CartPole.balance { envs = 32 }
                    EvaluationInterval = 2
                    EvaluationEpisodes = 32
                    FinalEpisodes = 32
                }
                (PpoConfig(Iterations = iterations)))
    }

[<Fact>]
let ``trainings of teachers are swept, compared and reported like distillations`` () =
    use place = new Workplace()
    let logs = place.Path "logs"
    let root = place.Path "logs/ppo/sweep"
    let results = trainings |> Run.sweepWith [ $"logs={logs}" ]
    Assert.Equal((2, "return"), (results.Count, results.Main))

    let header = (File.ReadAllLines(Path.Combine(root, "results.csv")))[0]
    Assert.Equal("iterations,seed,return,std_return,length,share_terminated,trial", header)
    Assert.Equal(3, (File.ReadAllLines(Path.Combine(root, "summary.csv"))).Length)

    // From the folder alone, the jobs are what they were.
    let read = Sweep.load root
    Assert.Equal(string results, string read)

    for trial in read.Trials do
        Assert.Equal(trial.Settings["iterations"], string (trial.Job.Get<PpoConfig>().Iterations))
        let run = trial.Run.Value
        Assert.Equal("teacher", run.Role)
        Assert.Contains(("kind", "ppo"), run.Command)
        let evaluated = run.Result "teacher" |> Option.map _.MeanReturn
        Assert.Equal(evaluated, trial.Result |> Option.map (fun result -> result["return"]))

    let best, mean = read.Best.Value
    Assert.Contains("iterations=", best)
    let report = File.ReadAllText(SweepReport.write root)
    Assert.Contains($"Best return</dt><dd>{ReportLayout.significant mean.Estimate}<", report)
    Assert.Contains("2 trials: 2 finished", report)

    // Nothing is left to do.
    let written =
        read.Trials
        |> List.map (fun trial -> File.GetLastWriteTimeUtc(Path.Combine(trial.Folder, "result.csv")))

    let again = trainings |> Run.sweepWith [ $"logs={logs}" ]

    Assert.Equal<DateTime list>(
        written,
        again.Trials
        |> List.map (fun trial -> File.GetLastWriteTimeUtc(Path.Combine(trial.Folder, "result.csv")))
    )

    let refused (settings: string list) =
        Expect
            .throws<DistillException>(fun () ->
                trainings |> Run.sweepWith ($"logs={logs}" :: settings) |> ignore)
            .Message

    Assert.Contains("one file for all trials", refused [ $"""save_to={place.Path "a.safetensors"}""" ])
    Assert.Contains("--on slum cannot be: did you mean slurm?", refused [ "--on"; "slum" ])

[<Fact>]
let ``a dry run runs and writes nothing`` () =
    use place = new Workplace()
    Assert.Equal(0, (run place [ "seed=0,1"; "--dry-run" ]).Count)
    Assert.False(Directory.Exists(place.Path "logs"))

[<Fact>]
let ``what a killed trial left is cleared where it cannot go on`` () =
    use place = new Workplace()
    run place [ "seed=0,1"; "--keep-states" ] |> ignore
    let whole = table place
    let folder = folderOf place "seed-1"
    // Killed before its first checkpoint, while it wrote its metrics.
    File.Delete(Path.Combine(folder, "result.csv"))
    File.Delete(Path.Combine(folder, "checkpoints", "state.safetensors"))
    File.AppendAllText(Path.Combine(folder, "metrics.csv"), "0,1.5")
    Assert.Equal(2, (run place [ "seed=0,1" ]).Count)
    Assert.Equal(whole, table place)
    // Killed after its last iteration, before its final evaluation.
    File.Delete(Path.Combine(folder, "result.csv"))
    Assert.Equal(2, (run place [ "seed=0,1" ]).Count)
    Assert.Equal(whole, table place)

[<Fact>]
let ``trials drop their states when they finish, unless told to keep them`` () =
    use place = new Workplace()
    run place [ "seed=0" ] |> ignore
    run place [ "seed=1"; "--keep-states" ] |> ignore

    let state (label: string) =
        File.Exists(Path.Combine(folderOf place label, "checkpoints", "state.safetensors"))

    Assert.Equal((false, true), (state "seed-0", state "seed-1"))

[<Fact>]
let ``the results of some trials bring the tables of all up to date`` () =
    use place = new Workplace()
    run place [ "seed=0,1" ] |> ignore
    let whole = table place
    // As when the sweep was submitted to others, who have finished since.
    File.WriteAllLines(Path.Combine(root place, "results.csv"), whole.Split '\n' |> Array.take 2)
    let logs = place.Path "logs"
    Sweeping.main [ "results"; $"logs={logs}"; "seed=0" ] (Sweep.ofJob (Distil.job (pole place)))
    Assert.Equal(whole, table place)

[<Fact>]
let ``the results of a sweep that was given a name are those in its folder`` () =
    use place = new Workplace()
    run place [ "seed=0,1"; "name=other" ] |> ignore
    let path = place.Path "logs/other/sweep/results.csv"
    let whole = File.ReadAllText path
    File.Delete path
    let logs = place.Path "logs"
    Sweeping.main [ "results"; $"logs={logs}"; "name=other" ] (Sweep.ofJob (Distil.job (pole place)))
    Assert.Equal(whole, File.ReadAllText path)

/// A finished trial whose teacher has a return of 100.
let private trialWith (settings: (string * int) list) (value: float) : SweepTrial =
    let record =
        {
            Kind = "distillation"
            Hash =
                String.Join("", settings |> List.map (fun (_, value) -> value.ToString "x8")).PadLeft(64, 'a')
            Label = ""
            Settings =
                Map(("iterations", "9") :: (settings |> List.map (fun (name, value) -> name, string value)))
            Changes = []
            Arguments = []
        }

    let result =
        {
            Measures =
                [
                    "teacher_return", 100.0
                    "student_return", value
                    "final_student_return", value - 1.0
                    "student_length", 9.0
                    "share_terminated", 0.25
                    "minus_teacher", value - 100.0
                    "minus_teacher_low", value - 101.0
                    "minus_teacher_high", value - 99.0
                ]
            Main = "student_return"
            Beside = [ "minus_teacher"; "share_terminated" ]
            Warnings = []
        }

    SweepTrial(record, "", Finished result, lazy (Distil.job Experiment.empty))

let private trial (phase1: int) (seed: int) (value: float) =
    trialWith [ "acting.phase1_iterations", phase1; "seed", seed ] value

[<Fact>]
let ``the tables have a row for every variant, and say which is best`` () =
    let results =
        SweepResults
            [
                for seed in [ 2; 0; 1 ] do
                    trial 10 seed (50.0 + float seed)
                    trial 5 seed (60.1 + 1.1 * float seed)
            ]

    Assert.Equal(2, results.Table.RowCount)
    let best, mean = results.Best.Value
    Assert.Equal("phase1_iterations=5", best)
    Expect.close 1e-9 mean.Estimate 61.2 "mean of the best"
    let comparison = List.exactlyOne results.Comparisons
    Assert.Equal(1, comparison.Sign)
    Assert.Contains("phase1_iterations=5 beats phase1_iterations=10", string results)
    use place = new Workplace()
    let path = place.Path "results.csv"
    results.WriteCsv path

    Assert.Equal<string list>(
        [
            "phase1_iterations,seed,teacher_return,student_return,final_student_return,student_length,share_terminated,minus_teacher,minus_teacher_low,minus_teacher_high,trial"
            "5,0,100,60.1,59.1,9,0.25,-39.9,-40.9,-38.9,aaaaaaaa"
        ],
        File.ReadAllLines path |> Array.toList |> List.take 2
    )

    Assert.Equal("No trial has finished.", string (SweepResults []))

[<Fact>]
let ``a sweep leaves a table of its variants behind`` () =
    use place = new Workplace()
    run place [ "phase1_iterations=0,2"; "seed=0,1" ] |> ignore
    let summary = File.ReadAllLines(Path.Combine(root place, "summary.csv"))
    Assert.StartsWith("phase1_iterations,seeds,mean,mean_low,mean_high,interquartile_mean", summary[0])
    Assert.Equal(3, summary.Length)
    let path = place.Path "summary.csv"
    (SweepResults [ trial 5 0 60.0; trial 5 1 62.0 ]).WriteSummary path
    let cells = (File.ReadAllLines path)[1] |> _.Split(',')
    Assert.Equal<string list>([ "2"; "61" ], List.ofArray cells[0..1])
    // The quantile of one degree of freedom is 12.7; two seeds have no middle half.
    Expect.close 1e-3 (float cells[3]) (61.0 + 12.7062) "upper bound"
    Assert.Equal<string list>([ "NaN"; "NaN"; "NaN" ], List.ofArray cells[4..6])

/// Three values of one setting and two of another, each with three seeds: rows of 10 more are worth 2 + 0.1 per seed, the
/// other setting 5 in the mean and -30 at its second value.
let private grid =
    [
        for seed in 0..2 do
            for rows in [ 10; 20; 30 ] do
                for rate in [ 1; 2 ] do
                    trialWith
                        [ "max_rows", rows; "optimizer.rate", rate; "seed", seed ]
                        (-100.0 + (2.0 + 0.1 * float seed) * float (rows / 10)
                         - (if rate = 2 then 30.0 + float seed else 0.0)
                         + 7.0 * float seed)
    ]

[<Fact>]
let ``negative returns are ranked by their size`` () =
    let results =
        SweepResults
            [
                for seed in 0..1 do
                    trial 1 seed (-200.0 + float seed)
                    trial 2 seed (-10.0 + float seed)
                    trial 3 seed -100.0
                    trial 4 seed nan
            ]

    Assert.Equal(Some "phase1_iterations=2", results.Best |> Option.map fst)

    Assert.Equal<string list>(
        [ "phase1_iterations=3"; "phase1_iterations=1"; "phase1_iterations=4" ],
        results.Comparisons |> List.map _.B
    )

[<Fact>]
let ``the effect of a setting is the paired difference from its first value`` () =
    let lines = (string (SweepResults(grid).Effects)).Split '\n' |> List.ofArray

    let cells (line: string) =
        line.Split("  ", StringSplitOptions.RemoveEmptyEntries ||| StringSplitOptions.TrimEntries)
        |> List.ofArray

    // Student's interval of 2, 2.1, 2.2 over three seeds is 0.2484 to either side, of -30, -31, -32 it is 2.484.
    Assert.Equal<string list list>(
        [
            [ "setting"; "value"; "against"; "difference of returns [95 %]"; "seeds"; "pairs" ]
            [ "max_rows"; "20"; "10"; "2.1 [1.852, 2.348]"; "3"; "6" ]
            [ "max_rows"; "30"; "10"; "4.2 [3.703, 4.697]"; "3"; "6" ]
            [ "rate"; "2"; "1"; "-31 [-33.48, -28.52]"; "3"; "9" ]
        ],
        lines |> List.filter (fun line -> not (line.StartsWith "--")) |> List.map cells
    )

    // In a random search nothing is the same but one setting.
    let random =
        [ for i in 0..3 -> trialWith [ "max_rows", 10 * i; "optimizer.rate", i; "seed", 0 ] (float i) ]

    Assert.Equal(0, SweepResults(random).Effects.RowCount)

[<Fact>]
let ``any two variants are compared on the seeds and settings that they share`` () =
    let results = SweepResults(grid)

    let having (settings: (string * int) list) (trial: SweepTrial) =
        settings |> List.forall (fun (name, value) -> trial.Settings[name] = string value)

    // Two variants that differ in both settings.
    let two =
        results.Compare(
            having [ "max_rows", 30; "optimizer.rate", 1 ],
            having [ "max_rows", 10; "optimizer.rate", 2 ]
        )

    Assert.Equal(("max_rows=30 rate=1", "max_rows=10 rate=2"), (two.A, two.B))
    Expect.closeAll 1e-9 two.Differences [ 34.0; 35.2; 36.4 ] "differences"
    // A setting against the other of its values, whatever the rest.
    let groups = results.Compare(having [ "max_rows", 10 ], having [ "max_rows", 20 ])
    Assert.Equal(("max_rows=10", "max_rows=20"), (groups.A, groups.B))
    Expect.closeAll 1e-9 groups.Differences [ -2.0; -2.1; -2.2 ] "differences of groups"
    Assert.Equal(-1, groups.Sign)

    let refused (sentence: string) a b =
        let error =
            Expect.throws<DistillException>(fun () -> results.Compare(a, b) |> ignore)

        Assert.Contains(sentence, error.Message)

    refused "No trial is A" (having [ "max_rows", 11 ]) (having [ "max_rows", 20 ])
    refused "No trial is B" (having [ "max_rows", 20 ]) (having [ "max_rows", 11 ])
    refused "must differ" (having [ "max_rows", 20 ]) (having [ "optimizer.rate", 1 ])

    refused
        "several trials with seed 0: max_rows=20 rate=1 and max_rows=30 rate=1"
        (having [ "max_rows", 10 ])
        (fun trial -> trial.Settings["max_rows"] <> "10")

    refused
        "no two finished trials with the same seed"
        (having [ "max_rows", 10; "seed", 0 ])
        (having [ "max_rows", 20; "seed", 1 ])

[<Fact>]
let ``compare takes a setting twice for A and B, and once for both`` () =
    use place = new Workplace()
    let results = run place [ "phase1_iterations=0,2"; "hidden=4,5"; "seed=0,1" ]
    let logs = place.Path "logs"

    let compare (settings: string list) =
        Sweeping.compare ($"logs={logs}" :: settings) (Sweep.ofJob (Distil.job (pole place)))

    let one = compare [ "hidden=5"; "phase1_iterations=2"; "phase1_iterations=0" ]

    let returnOf (phase1: string) (seed: uint64) =
        results.Trials
        |> List.find (fun trial ->
            trial.Seed = seed
            && trial.Settings["student.hidden"] = "5"
            && trial.Settings["acting.phase1_iterations"] = phase1)
        |> _.Result
        |> Option.map _.Score
        |> Option.get

    Assert.Equal(("phase1_iterations=2", "phase1_iterations=0"), (one.A, one.B))

    Expect.closeAll
        1e-9
        one.Differences
        [ for seed in [ 0UL; 1UL ] -> returnOf "2" seed - returnOf "0" seed ]
        "one"

    Assert.Equal(2, (compare [ "phase1_iterations=2"; "phase1_iterations=0" ]).Differences.Length)

    let refused (sentence: string) settings =
        Assert.Contains(
            sentence,
            Expect.throws<DistillException>(fun () -> compare settings |> ignore).Message
        )

    refused "two values of a setting" [ "hidden=5" ]
    refused "given 3 times" [ "hidden=5"; "hidden=4"; "hidden=6" ]
    refused "No trial is B" [ "hidden=5"; "hidden=6" ]

[<Fact>]
let ``the best of many variants is said to be picked, and few seeds have no interquartile mean`` () =
    let results (variants: int) (seeds: int) =
        string (
            SweepResults
                [
                    for phase1 in 1..variants do
                        for seed in 1..seeds -> trial phase1 seed (float (10 * phase1 + seed % 3))
                ]
        )

    Assert.Contains("is the best of 3 variants by these same numbers", results 3 2)
    Assert.DoesNotContain("best of", results 2 2)
    Assert.DoesNotContain("interquartile", results 2 4)
    Assert.Contains("interquartile", results 2 5)
    Assert.DoesNotContain("±", results 3 5)

[<Fact>]
let ``evaluations are swept, and a job of another kind is not found`` () =
    use place = new Workplace()
    pole place |> ignore

    let evaluations =
        Sweep.ofJob (
            Evaluate.job
                { Evaluate.defaults with
                    Policy = place.Path "teacher.safetensors"
                    Environment = CartPole.balance { envs = 1 }
                }
        )

    let results =
        evaluations |> Run.sweepWith [ $"""logs={place.Path "logs"}"""; "episodes=8,16"; "seed=0,1" ]

    Assert.Equal(4, results.Count)

    for trial in results.Trials do
        Assert.Equal(500.0, trial.Result.Value["return"])
        Assert.Equal(trial.Settings["episodes"], string (trial.Run.Value.Results.Head.Episodes))

    Assert.Contains(
        "has no PpoConfig",
        Expect.throws<DistillException>(fun () -> results.Trials.Head.Job.Get<PpoConfig>() |> ignore).Message
    )

    let mixed () =
        trainings |> Run.sweepWith [ $"""logs={place.Path "logs"}"""; "name=evaluate" ] |> ignore

    Assert.Contains("has ppo and evaluation", Expect.throws<DistillException>(mixed).Message)
    let unknown = trial 5 0 60.0
    let path = place.Path "trials.jsonl"
    File.WriteAllText(path, TrialRecord.toJson { unknown.Record with Kind = "td3"; Label = "a" } + "\n")

    Assert.Contains(
        "no kind of job 'td3'",
        Expect.throws<DistillException>(fun () -> TrialRecord.read path 0 |> ignore).Message
    )
