/// The loop that all training shares, with an algorithm of which every number is known; and what a distillation tells it.
module Distill.Tests.RunnerTests

open System
open System.Threading
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Xunit

/// An "algorithm" whose policy balances the pole after those iterations that are good, and falls after the others. Each
/// iteration says that it collected 300 steps in 1 s and learned for 2 s, and takes as long as it is told.
type private Fake(place: Workplace, good: Set<int>, takes: TimeSpan, warnings: string list) =
    let policy =
        let path = place.Path "pole.safetensors"
        saveTeacher path
        PolicyFile.Load path

    let adam = new Adam(policy.Network, AdamConfig(), 1)
    let weights = policy.Network.Parameters.Span.ToArray()
    let iteration = [| 0 |]

    let iterate () : Progress =
        iteration[0] <- iteration[0] + 1
        Thread.Sleep takes

        if good.Contains iteration[0] then
            weights.CopyTo policy.Network.Parameters.Span
        else
            policy.Network.Parameters.Span.Clear()

        {
            Iteration = iteration[0] - 1
            Phase = ""
            Losses = [ "behavior", 0.5 ]
            MeanReturn = Some 7.0
            MeanEpisodeLength = Some 8.0
            // The steps of an earlier iteration were more.
            StepsCollected = 1000L + 300L * int64 iteration[0]
            CollectionSeconds = 1.0
            LearningSeconds = 2.0
            Data = ""
            Events = []
            Warnings = warnings |> List.map (fun warning -> $"{warning} {iteration[0]}")
            Metrics = []
        }

    member _.Algorithm: Algorithm =
        {
            Role = "student"
            Policy = policy
            Optimizer = adam
            Completed = fun () -> iteration[0]
            Iterate = iterate
            Visit = fun state -> state.Block("iteration", Span<int>(iteration))
            Critics = []
            Reference = []
            Warnings = []
        }

    interface IDisposable with
        member _.Dispose() =
            adam.Dispose()
            policy.Dispose()

let private byReturn = { Measure = "return"; Highest = true }

/// Runs a plan, evaluating after each iteration; returns the clock after each.
let private runPlan
    (change: Plan -> Plan)
    (warnings: string list)
    (takes: TimeSpan)
    (place: Workplace)
    (folder: RunFolder)
    (resume: bool)
    (good: int list)
    (iterations: int)
    : Clock list =
    use fake = new Fake(place, set good, takes, warnings)
    use pool = new WorkerPool(1)
    use evaluator = new Evaluator(CartPoleConfig(Envs = 32), 32, 0UL, pool)
    use interruption = new Script.Interruption("")

    let plan =
        {
            Iterations = iterations
            SaveInterval = 1
            EvaluationInterval = 1
            EvaluationEpisodes = 32
            FinalEpisodes = 32
            Best = byReturn
            Target = None
            Variants = []
        }
        |> change

    let clocks = ResizeArray<Clock>()
    let display = { Say = ignore; Advance = fun _ clock -> clocks.Add clock }
    Runner.run folder resume plan 0 (Some evaluator) interruption display fake.Algorithm |> ignore
    List.ofSeq clocks

let private runFor takes = runPlan id [] takes

let private run (place: Workplace) (folder: RunFolder) (resume: bool) (good: int list) (iterations: int) =
    runFor TimeSpan.Zero place folder resume good iterations |> ignore

let private iterationOfBest (folder: RunFolder) =
    use best = PolicyFile.Load(folder.Checkpoint "best_student.safetensors")
    int best.Metadata["iteration"]

[<Fact>]
let ``a run that goes on keeps the best student that it had`` () =
    use place = new Workplace()
    let folder = RunFolder.CreateAt(place.Path "run")
    run place folder false [ 1 ] 2
    Assert.Equal(1, iterationOfBest folder)
    let before = IO.File.ReadAllBytes(folder.Checkpoint "best_student.safetensors")
    run place folder true [] 4
    Assert.Equal<byte array>(before, IO.File.ReadAllBytes(folder.Checkpoint "best_student.safetensors"))
    // A better one still takes its place.
    let other = RunFolder.CreateAt(place.Path "other")
    run place other false [] 2
    run place other true [ 4 ] 5
    Assert.Equal(4, iterationOfBest other)

[<Fact>]
let ``of equals the earlier is the best, and only its file has the return that chose it`` () =
    use place = new Workplace()
    let folder = RunFolder.CreateAt(place.Path "run")
    run place folder false [ 2; 3 ] 4
    Assert.Equal(2, iterationOfBest folder)

    let hasReturn (name: string) =
        use policy = PolicyFile.Load(folder.Checkpoint $"{name}.safetensors")
        policy.Metadata.ContainsKey "evaluation_return"

    Assert.Equal<bool list>(
        [ true; false; false ],
        [ "best_student"; "student_3"; "final_student" ] |> List.map hasReturn
    )

[<Fact>]
let ``the best is that of the measure that was asked for, the highest or the lowest, also over a restart``
    ()
    =
    use place = new Workplace()

    let best (measure: Best) =
        let folder = RunFolder.CreateAt(place.Path measure.Measure)

        let run =
            runPlan (fun plan -> { plan with Best = measure }) [] TimeSpan.Zero place folder
        // The pole stays up after iterations 2 and 5 only.
        run false [ 2; 5 ] 3 |> ignore
        run true [ 2; 5 ] 6 |> ignore
        iterationOfBest folder

    let measure name =
        Best.by (CartPoleConfig() :> Environments.IEnvironmentConfig).Spec name

    Assert.Equal(2, best (measure "length"))
    Assert.Equal(2, best (measure "share_terminated"))
    Assert.False (measure "share_terminated").Highest

    let unknown = Expect.throws<DistillException>(fun () -> measure "speed" |> ignore)

    Assert.Equal(
        "best_by=speed cannot work; evaluations of cart_pole measure return, length, share_terminated.",
        unknown.Message
    )

[<Fact>]
let ``an environment's own measure says which is the best, lower errors being better`` () =
    let spec =
        (Environments.Quadrotor.QuadrotorConfig() :> Environments.IEnvironmentConfig).Spec

    Assert.Equal({ Measure = "position_error"; Highest = false }, Best.by spec "position_error")

    let result =
        EvaluationResult(
            [| 1f; 2f |],
            [| 3; 5 |],
            [| true; false |],
            Measures = readOnlyDict [ "position_error", [| 0.25f; 0.75f |] ]
        )

    Assert.Equal<float list>(
        [ 1.5; 4.0; 0.5; 0.5 ],
        [ "return"; "length"; "share_terminated"; "position_error" ] |> List.map result.Mean
    )

[<Fact>]
let ``the steps after which an evaluation first reached a return are told, kept over a restart, and logged``
    ()
    =
    use place = new Workplace()

    let steps (name: string) (target: float) (good: int list) =
        let folder = RunFolder.CreateAt(place.Path name)

        let run =
            runPlan (fun plan -> { plan with Target = Some("return", target) }) [] TimeSpan.Zero place folder

        run false good 3 |> ignore
        run true good 6 |> ignore
        (RunRecord.read folder.Path).Series "evaluation/steps_to_target"

    // The second iteration ends with 1,600 steps; what comes after it changes nothing.
    Assert.Equal<(int * float) list>([ for i in 2..6 -> i, 1600.0 ], steps "early" 400.0 [ 2; 4 ])
    Assert.Equal<(int * float) list>([ for i in 5..6 -> i, 2500.0 ], steps "late" 400.0 [ 5 ])
    Assert.Empty(steps "never" 501.0 [ 2 ])
    use without = new Workplace()
    let folder = RunFolder.CreateAt(without.Path "run")
    run without folder false [ 1 ] 2
    Assert.Equal(None, (RunRecord.read folder.Path).StepsToTarget)

[<Fact>]
let ``what goes wrong under way is kept for the report, once also where it is done again`` () =
    use place = new Workplace()
    let folder = RunFolder.CreateAt(place.Path "run")
    let go = runPlan id [ "It overfits after" ] TimeSpan.Zero place folder
    go false [] 2 |> ignore
    let state = IO.File.ReadAllBytes(folder.Checkpoint "state.safetensors")
    go true [] 3 |> ignore
    // As if it had been killed before the last checkpoint.
    IO.File.WriteAllBytes(folder.Checkpoint "state.safetensors", state)
    go true [] 4 |> ignore

    Assert.Equal<string list>(
        [ for i in 1..4 -> $"It overfits after {i}" ],
        (RunRecord.read folder.Path).Warnings
    )

[<Fact>]
let ``a run that goes on counts the time before, and expects the rest at the pace of now`` () =
    use place = new Workplace()
    let folder = RunFolder.CreateAt(place.Path "run")
    let before = runFor (TimeSpan.FromSeconds 0.1) place folder false [] 2 |> List.last
    let after = (runFor TimeSpan.Zero place folder true [] 4).Head
    Assert.True(after.Elapsed >= before.Elapsed && before.Elapsed.TotalSeconds >= 0.2)
    // One iteration is done in this session, and one is left.
    let session = after.Elapsed - before.Elapsed
    Expect.close 1e-6 after.Remaining.TotalSeconds session.TotalSeconds "remaining time"

[<Fact>]
let ``what was logged after the last checkpoint is logged anew`` () =
    use place = new Workplace()
    let folder = RunFolder.CreateAt(place.Path "run")
    run place folder false [] 2
    let state = IO.File.ReadAllBytes(folder.Checkpoint "state.safetensors")
    run place folder true [] 4
    IO.File.WriteAllBytes(folder.Checkpoint "state.safetensors", state)
    run place folder true [] 3

    Assert.Equal<int64 list>([ 0L; 1L; 2L ], MetricsLog.Read folder.Path |> Seq.map _.Iteration |> List.ofSeq)

[<Fact>]
let ``steps per second are those of the iteration, of collecting and learning together`` () =
    use place = new Workplace()
    let folder = RunFolder.CreateAt(place.Path "run")
    run place folder false [] 3

    let rates = (RunRecord.read folder.Path).Series "Perf/total_fps" |> List.map snd

    // Where the steps before the first of a session are not known, their mean: here 1,300 of one iteration.
    Assert.Equal<float list>([ 1300.0 / 3.0; 100.0; 100.0 ], rates)

let private report: IterationReport =
    IterationReport(
        Iteration = 40,
        Phase = ActingPhase("student", 2, 10, 70),
        TeacherShare = 0.125,
        Loss = 0.5,
        NewestLoss = 0.75,
        HistoricalLoss = 0.25,
        LearningRate = 1e-3,
        GradientNorm = 3.0,
        OptimizerSteps = 8L,
        ClippedSteps = 6L,
        RowsAdded = 640L,
        DatasetRows = 2000L,
        DatasetLimit = 4000L,
        GrownFrom = 3000L,
        GrownTo = 3000L,
        MeanReturn = 11.0,
        StdReturn = 12.0,
        MeanEpisodeLength = 13.0,
        ShareTerminated = 0.375,
        EpisodesFinished = 14L,
        StepsCollected = 15L,
        CollectionSeconds = 16.0,
        LearningSeconds = 17.0
    )

let private told (report: IterationReport) =
    Distil.progress (DistillationConfig(Environment = CartPoleConfig(Envs = 32))) report

[<Fact>]
let ``every number of an iteration is logged under its own name`` () =
    Assert.Equal<(string * float) list>(
        [
            "Loss/behavior", 0.5
            "Loss/newest", 0.75
            "Loss/historical", 0.25
            "Loss/learning_rate", 1e-3
            "training/loss", 0.5
            "training/gradient_norm", 3.0
            "training/optimizer_steps", 8.0
            "training/clipped_share", 0.75
            "phase", 2.0
            "data_collection/teacher_share", 0.125
            "data_collection/mean_return", 11.0
            "data_collection/std_return", 12.0
            "data_collection/share_terminated", 0.375
            "data_collection/episodes", 14.0
            "dataset/rows", 2000.0
            "dataset/capacity", 3000.0
        ],
        (told report).Metrics
    )

    let progress = told report

    Assert.Equal(
        (40, 15L, 16.0, 17.0),
        (progress.Iteration, progress.StepsCollected, progress.CollectionSeconds, progress.LearningSeconds)
    )

    Assert.Equal((Some 11.0, Some 13.0), (progress.MeanReturn, progress.MeanEpisodeLength))
    // What is not known is left out; without an optimizer step nothing was clipped.
    let bare =
        report
        |> Settings.set <@ _.NewestLoss @> (Nullable())
        |> Settings.set <@ _.OptimizerSteps @> 0L
        |> Settings.set <@ _.ClippedSteps @> 0L
        |> told

    Assert.DoesNotContain(bare.Metrics, fun (name, _) -> name = "Loss/newest")
    Assert.Contains(("training/clipped_share", 0.0), bare.Metrics)

[<Fact>]
let ``the line of an iteration says where in its phase it is, and which rows came`` () =
    Assert.Equal("phase 2 (student) 11/70", (told report).Phase)
    Assert.Equal("rows +640, 2000/4000", (told report).Data)

[<Fact>]
let ``the switch of phases and the growth of the dataset are said when they happen`` () =
    Assert.Empty (told report).Events

    Assert.Equal<string list>(
        [ "Phase 2 begins with iteration 41: student drives" ],
        (told (report |> Settings.set <@ _.Phase @> (ActingPhase("student", 2, 0, 70)))).Events
    )

    // The first phase begins with the run.
    Assert.Empty (told (report |> Settings.set <@ _.Phase @> (ActingPhase("teacher", 1, 0, 30)))).Events

    Assert.Equal<string list>(
        [ "Dataset grew from 3000 to 6000 rows" ],
        (told (report |> Settings.set <@ _.GrownTo @> 6000L)).Events
    )

[<Fact>]
let ``monitoring is logged where it is on`` () =
    let names (report: IterationReport) =
        (told report).Metrics |> List.map fst |> set

    let monitored =
        report
        |> Settings.set <@ _.HeldOutLoss @> (Nullable 0.125)
        |> Settings.set <@ _.Passes @> (Nullable 3)

    Assert.Equal<Set<string>>(set [ "Loss/held_out"; "training/passes" ], names monitored - names report)
    Assert.Contains(("Loss/held_out", 0.125), (told monitored).Metrics)
    Assert.Equal<(string * float) list>([ "behavior", 0.5; "held-out", 0.125 ], (told monitored).Losses)

[<Fact>]
let ``the warning of overfitting comes with advice that the settings leave open`` () =
    let warning (config: DistillationConfig) (report: IterationReport) =
        (Distil.progress config report).Warnings |> String.concat "|"

    let environment = CartPoleConfig(Envs = 32)
    let overfits = report |> Settings.set <@ _.BeginsToOverfit @> true
    Assert.Equal("", warning (DistillationConfig(Environment = environment)) report)
    let words = warning (DistillationConfig(Environment = environment)) overfits
    Assert.StartsWith("The student overfits at iteration 41", words)

    for advice in
        [
            "early_stopping=2"
            "fewer num_learning_epochs than 4"
            "weight_decay=1e-4"
            "more environments"
            "smaller"
        ] do
        Assert.Contains(advice, words)

    let taken =
        DistillationConfig(
            Environment = environment,
            NumLearningEpochs = 1,
            HeldOut = 0.1,
            EarlyStopping = 1,
            Optimizer = AdamConfig(WeightDecay = 1e-3),
            Retention = FirstInFirstOut 4000L
        )

    let full = overfits |> Settings.set <@ _.DatasetRows @> 4000L
    let words = warning taken full
    Assert.Contains("a max_buffer_size above 4000", words)

    for advice in [ "early_stopping"; "num_learning_epochs"; "weight_decay" ] do
        Assert.DoesNotContain(advice, words)
