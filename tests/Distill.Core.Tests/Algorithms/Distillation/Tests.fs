/// The whole loop: phases, learning, equal bits, checkpoints, settings.
module Distill.Tests.DistillationTests

open System
open System.Collections
open System.Collections.Generic
open System.IO
open System.Reflection
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed

/// The choices that tests vary, on a small CartPole.
type private Choices =
    {
        Environment: IEnvironmentConfig
        Student: StudentConfig
        Acting: Acting
        Retention: Retention
        Sampling: Sampling
        Loss: Loss
        Exploration: float
        Collection: Collection
        Epochs: int
        MiniBatch: int
        Sequence: int
        HeldOut: float
        Stopping: int
        FailedWeight: float
        Accumulation: int
    }

let private small =
    {
        Environment = CartPoleConfig(Envs = 40, EpisodeLimit = 30)
        Student = MlpStudent(Hidden = [ 12 ], NormalizeObservations = true)
        Acting = TeacherUntil 2
        Retention = FirstInFirstOut 3000L
        Sampling = Permutation()
        Loss = CrossEntropy()
        Exploration = 0.0
        Collection = StepsPerIteration 25
        Epochs = 2
        MiniBatch = 0
        Sequence = 0
        HeldOut = 0.0
        Stopping = 0
        FailedWeight = 1.0
        Accumulation = 1
    }

let private recurrent =
    { small with Student = GruStudent(Hidden = 6, NormalizeObservations = true) }

let private config (choices: Choices) =
    DistillationConfig(
        Seed = 9UL,
        Environment = choices.Environment,
        Student = choices.Student,
        Acting = choices.Acting,
        Retention = choices.Retention,
        Sampling = choices.Sampling,
        Loss = choices.Loss,
        Exploration = choices.Exploration,
        Collection = choices.Collection,
        NumLearningEpochs = choices.Epochs,
        MiniBatchSize = choices.MiniBatch,
        SequenceLength = choices.Sequence,
        HeldOut = choices.HeldOut,
        EarlyStopping = choices.Stopping,
        FailedWeight = choices.FailedWeight,
        GradientAccumulation = choices.Accumulation,
        GradientLength = 10
    )

/// Runs iterations and returns their reports.
let private iterate (count: int) (distillation: Distillation) =
    [ for _ in 1..count -> distillation.Iterate() ]

let private start choices (teacher: Policy) pool =
    new Distillation(config choices, teacher, pool)

// Phases and reports

[<Fact>]
let ``two stages: the teacher drives until exactly phase1_iterations, then the student`` () =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()
    use distillation = start { small with Acting = TeacherUntil 3 } teacher pool
    let reports = iterate 6 distillation

    let expected =
        [
            "teacher", 1, 0, 1.0
            "teacher", 1, 1, 1.0
            "teacher", 1, 2, 1.0
            "student", 2, 0, 0.0
            "student", 2, 1, 0.0
            "student", 2, 2, 0.0
        ]

    let actual =
        [ for r in reports -> r.Phase.Name, r.Phase.Number, r.Phase.Within, r.TeacherShare ]

    Expect.equal actual expected "phases"
    Expect.equal [ for r in reports -> r.Iteration ] [ 0..5 ] "iterations"

[<Fact>]
let ``the schedules of acting`` () =
    let shares (acting: Acting) =
        [ for i in [ 0; 1; 2; 10; 30 ] -> acting.TeacherShare i ]

    Expect.equal (shares (StudentAlways())) [ 0.0; 0.0; 0.0; 0.0; 0.0 ] "student"
    Expect.equal (shares (TeacherAlways())) [ 1.0; 1.0; 1.0; 1.0; 1.0 ] "teacher"
    Expect.equal (shares (TeacherUntil 2)) [ 1.0; 1.0; 0.0; 0.0; 0.0 ] "two-stage"
    Expect.equal (shares (TeacherUntil 0)) [ 0.0; 0.0; 0.0; 0.0; 0.0 ] "no first stage"
    Expect.closeAll 1e-12 (shares (LinearBeta 20)) [ 1.0; 0.95; 0.9; 0.5; 0.0 ] "linear"

    Expect.closeAll
        1e-12
        (shares (ExponentialBeta 0.5))
        [ 1.0; 0.5; 0.25; 0.5 ** 10.0; 0.5 ** 30.0 ]
        "exponential"

    Expect.closeAll
        1e-12
        (shares (Mixed(Schedule.Of("own", fun i -> float i / 4.0 - 0.25))))
        [ 0.0; 0.0; 0.25; 1.0; 1.0 ]
        "own"

[<Fact>]
let ``every schedule says which phase an iteration is in, and how long that lasts`` () =
    let phase (acting: Acting) iteration =
        let phase = acting.Phase(iteration, 10)
        phase.Name, phase.Number, phase.Within, phase.Length

    Expect.equal (phase (Mixed(Schedule.Of("own", fun _ -> 0.0))) 7) ("mixed", 1, 7, 10) "own"
    Expect.equal (phase (LinearBeta 3) 7) ("mixed", 1, 7, 10) "linear"
    Expect.equal (phase (StudentAlways()) 7) ("student", 1, 7, 10) "student"
    Expect.equal (phase (TeacherAlways()) 7) ("teacher", 1, 7, 10) "teacher"
    Expect.equal (phase (TeacherUntil 4) 3) ("teacher", 1, 3, 4) "first stage"
    Expect.equal (phase (TeacherUntil 4) 4) ("student", 2, 0, 6) "second stage"
    Expect.equal (phase (TeacherUntil 40) 9) ("teacher", 1, 9, 10) "a first stage longer than the run"

[<Fact>]
let ``reports count rows, growth, steps and optimizer steps`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()

    use distillation =
        start { small with Retention = FirstInFirstOut 12_500L; Epochs = 3 } teacher pool

    Expect.equal
        (distillation.DatasetCapacity, distillation.DatasetLimit)
        (10_000L, 12_500L)
        "ten rollouts, and the limit"

    for i, report in List.indexed (iterate 14 distillation) do
        let rows = min 12_500L (1000L * int64 (i + 1))
        let batch = min 512L (rows / 8L)
        Expect.equal report.RowsAdded 1000L "rows added"
        Expect.equal (report.DatasetRows, report.DatasetLimit) (rows, 12_500L) "rows"
        Expect.equal report.StepsCollected (1000L * int64 (i + 1)) "steps"

        Expect.equal
            report.OptimizerSteps
            (3L * ((rows + batch - 1L) / batch))
            $"iteration {i}: optimizer steps"

        let before, after =
            (if i <= 10 then 10_000L else 12_500L), (if i < 10 then 10_000L else 12_500L)

        Expect.equal (report.GrownFrom, report.GrownTo) (before, after) $"iteration {i}: growth"
        Expect.isTrue (Double.IsFinite report.Loss && report.GradientNorm > 0.0) "loss"

    Expect.equal distillation.Iteration 14 "iterations"

[<Fact>]
let ``the losses on the newest rollout and on the rest make up the loss of a single pass`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()

    for choices in [ small; recurrent ] do
        use distillation = start { choices with Epochs = 1 } teacher pool
        let first = distillation.Iterate()
        Expect.close 1e-6 first.NewestLoss.Value first.Loss "all is new"
        Expect.equal first.HistoricalLoss (Nullable()) "nothing is old"

        for report in iterate 4 distillation do
            let old = float (report.DatasetRows - report.RowsAdded)

            let mean =
                (report.NewestLoss.Value * float report.RowsAdded + report.HistoricalLoss.Value * old)
                / float report.DatasetRows

            Expect.close 1e-6 mean report.Loss "weighted mean"
            Expect.isTrue (report.NewestLoss.Value <> report.HistoricalLoss.Value) "they differ"

[<Fact>]
let ``recurrent students take one step for each window, the tail included`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()
    // 40 sequences of 25 steps in mini-batches of 5: windows of 10, 10 and 5.
    use distillation = start { recurrent with Epochs = 1; MiniBatch = 5 } teacher pool
    Expect.equal (distillation.Iterate()).OptimizerSteps 24L "optimizer steps"

[<Fact>]
let ``without aggregation only the newest rollout is held`` () =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()
    use distillation = start { small with Retention = NewestRollout() } teacher pool

    for report in iterate 4 distillation do
        Expect.equal report.DatasetRows 1000L "rows"
        Expect.equal report.GrownTo 1000L "capacity"

[<Fact>]
let ``whole episodes: rows after an end are neither counted nor trained on`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()

    let choices =
        { small with
            Environment = CartPoleConfig(EpisodeLimit = 100)
            Acting = StudentAlways()
            Collection = EpisodesPerEpoch 50
        }

    use distillation = start choices teacher pool

    for i, report in List.indexed (iterate 4 distillation) do
        Expect.equal report.RowsAdded 5000L "rows"
        Expect.equal report.EpisodesFinished (50L * int64 (i + 1)) "episodes"

        if i = 0 then
            Expect.close 1e-9 report.MeanReturn.Value report.MeanEpisodeLength.Value "a reward of 1 per step"

            Expect.close
                1e-6
                (float report.StepsCollected)
                (50.0 * report.MeanEpisodeLength.Value)
                "valid steps"

            Expect.isTrue (report.StepsCollected < 4000L) "an untrained student drops the pole"

[<Fact>]
let ``a mini-batch is an eighth of the dataset, at most 512 rows or 64 sequences`` () =
    let size (changes: DistillationConfig) length segments =
        DistillationShape.MiniBatch(changes, length, segments)

    let settings = DistillationConfig(Environment = small.Environment)

    Expect.equal
        [ for n in [ 1; 80; 4095; 4096; 1_000_000 ] -> size settings 1 n ]
        [ 1; 10; 511; 512; 512 ]
        "rows"

    Expect.equal
        [ for n in [ 1; 80; 511; 512; 1_000_000 ] -> size settings 25 n ]
        [ 1; 10; 63; 64; 64 ]
        "sequences"

    let quarter =
        DistillationConfig(Environment = small.Environment, NumMiniBatches = 4)

    Expect.equal (size quarter 1 80) 20 "num_mini_batches"
    let given = DistillationConfig(Environment = small.Environment, MiniBatchSize = 100)
    Expect.equal [ for n in [ 80; 4000 ] -> size given 25 n ] [ 80; 100 ] "mini_batch_size"

[<Fact>]
let ``a full-batch step is one step, however large mini_batch_size is`` () =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()

    use distillation =
        start { small with MiniBatch = Int32.MaxValue; Epochs = 1 } teacher pool

    for report in iterate 3 distillation do
        Expect.equal report.OptimizerSteps 1L "steps"

[<Fact>]
let ``accumulated mini-batches are one larger mini-batch, to the bit`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()

    for choices in [ small; recurrent ] do
        use accumulated =
            start { choices with MiniBatch = 3; Accumulation = 4 } teacher pool

        use large = start { choices with MiniBatch = 12 } teacher pool
        let expected = iterate 3 large
        let actual = iterate 3 accumulated
        Expect.equal [ for r in actual -> r.OptimizerSteps ] [ for r in expected -> r.OptimizerSteps ] "steps"
        sameState (bytes accumulated.Visit) (bytes large.Visit) $"{choices.Student}"

// Monitoring

[<Fact>]
let ``an episode is held out in whole, over rollouts, in about the share that was asked for`` () =
    let envs, steps, share = 50, 20, 0.3
    use rollout = new Rollout(envs, steps, columns 1 1, 0)
    let marks = EpisodeMarks(rollout, share, false, RandomStream(4UL, "held out"))
    let random = Random 1
    rollout.Valid.AsSpan().Fill 1uy
    let last = Array.create envs None
    let mutable held, episodes = 0, 0

    for number in 0..19 do
        for row in 0 .. rollout.Rows - 1 do
            rollout.EpisodeStart[row] <-
                if number = 0 && row % steps = 0 || random.Next 12 = 0 then
                    1uy
                else
                    0uy

        marks.Mark()

        for row in 0 .. rollout.Rows - 1 do
            let env = row / steps

            if rollout.EpisodeStart[row] = 1uy then
                episodes <- episodes + 1
                held <- held + int rollout.HeldOut[row]
            else
                Expect.equal (Some rollout.HeldOut[row]) last[env] "the row before was of the same episode"

            last[env] <- Some rollout.HeldOut[row]

    Expect.close 0.05 (float held / float episodes) share $"share of {episodes} episodes"

[<Fact>]
let ``rows of an episode that ends in a terminal state have failed, back to its start or the rollout's`` () =
    use rollout = new Rollout(1, 12, columns 1 1, 0)
    rollout.Valid.AsSpan().Fill 1uy
    // Still running from before and falling; truncated; falling; still running.
    rollout.Ends[2] <- EpisodeEnd.Terminated
    rollout.Ends[5] <- EpisodeEnd.Truncated
    rollout.Ends[8] <- EpisodeEnd.Terminated

    for start in [ 3; 6; 9 ] do
        rollout.EpisodeStart[start] <- 1uy

    EpisodeMarks(rollout, 0.0, true, RandomStream(4UL, "held out")).Mark()

    Expect.equal
        (List.ofArray rollout.Failed)
        [ 1uy; 1uy; 1uy; 0uy; 0uy; 0uy; 1uy; 1uy; 1uy; 0uy; 0uy; 0uy ]
        "failed"

[<Fact>]
let ``rows that are held out or failed with weight 0 change nothing in the student`` () =
    use pool = new WorkerPool(1)

    for choices in [ small; { recurrent with Sequence = 5 } ] do
        let choices =
            { choices with HeldOut = 0.4; FailedWeight = 0.0; Acting = StudentAlways() }

        let trained (garbage: float32) =
            let settings = config choices

            use rollout =
                randomRollout (Random 5) 40 20 4 1 (if choices.Student :? GruStudent then 6 else 0) 2

            for row in 0 .. rollout.Rows - 1 do
                rollout.HeldOut[row] <- if row % 7 = 0 then 1uy else 0uy
                rollout.Failed[row] <- if row % 5 = 0 then 1uy else 0uy

                if row % 7 = 0 || row % 5 = 0 then
                    rollout.Table.Cell(row, rollout.Table.Columns["label"])[0] <- garbage

            let length = if choices.Student :? GruStudent then 20 else 1

            use dataset =
                new AggregatedDataset(
                    rollout.Table.Columns,
                    length,
                    rollout.MemorySize,
                    1000L,
                    FirstInFirstOut 1000L,
                    RandomStream(1UL, "r"),
                    DatasetNotes(HeldOut = true, Failed = true)
                )

            dataset.FailedWeight <- 0.0
            dataset.Add rollout

            use student =
                settings.Student.Create(4, 2, Head.Categorical, RandomStream(2UL, "student"))

            use trainer =
                new StudentTrainer(student, CrossEntropy(), AdamConfig(), 7, 800 / length, length)

            let struct (sum, weight) =
                trainer.Train(pool, dataset, ReadOnlySpan [| 0 .. 800 / length - 1 |])

            let counted =
                Seq.sum
                    [
                        for row in 0 .. rollout.Rows - 1 do
                            if row % 7 <> 0 && row % 5 <> 0 then
                                float rollout.Valid[row]
                    ]

            Expect.equal weight counted "rows that count"
            sum, floats student.Network.Parameters

        Expect.isTrue (trained 0f = trained 1f) "labels that nobody learns count"

[<Fact>]
let ``the flags of monitoring are exported`` () =
    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "dataset.npz")
        use pool = new WorkerPool(1)
        use teacher = cartPoleTeacher ()

        let names (choices: Choices) =
            use distillation = start choices teacher pool
            distillation.Iterate() |> ignore
            distillation.ExportDataset path
            Distill.Storage.Npz.Read path |> Seq.map (fun tensor -> tensor.Name, tensor) |> dict

        Expect.isTrue (not ((names small).ContainsKey "held_out")) "off"

        let monitored =
            names { small with HeldOut = 0.3; FailedWeight = 0.5; Acting = StudentAlways() }

        for name in [ "held_out"; "failed" ] do
            let flags = monitored[name].Data.ToArray()
            Expect.equal flags.Length 1000 $"{name}: rows"
            Expect.isTrue (Array.contains 1uy flags && Array.contains 0uy flags) $"{name}: both kinds")

[<Fact>]
let ``the warning of overfitting: once, where newest falls and held-out rises, and not with harder data`` () =
    let warned (series: (float * float * float) list) =
        let watch = OverfittingWatch()

        [
            for i, (newest, historical, held) in List.indexed series do
                if watch.Add(TrainingLosses(0.0, newest, historical, held, 1)) then
                    i
        ]

    let random = Random 3
    let noise () = 1.0 + 0.02 * random.NextDouble()
    let falling i = noise () * 0.95 ** float i
    let rising i = 3.0 * noise () * 1.05 ** float i
    let series count make = [ for i in 0 .. count - 1 -> make i ]

    Expect.equal
        (warned (series 30 (fun i -> falling i, falling i, rising i)))
        [ OverfittingWatch.Window - 1 ]
        "overfitting"

    Expect.equal (warned (series 30 (fun i -> falling i, falling i, falling i))) [] "learning"
    Expect.equal (warned (series 30 (fun i -> falling i, rising i, rising i))) [] "harder data"
    Expect.equal (warned (series 30 (fun i -> rising i, rising i, rising i))) [] "a phase begins"

    Expect.equal
        (warned (series 12 (fun i -> falling i, falling i, rising i / 6.0)))
        []
        "held out is little above newest"

    // Jumps of single iterations are none.
    let jumping i =
        if i % 7 = 0 then 1.0, 1.0, 50.0 else 1.0, 1.0, 2.5

    Expect.equal (warned (series 60 jumping)) [] "jumps"

    // Likelihoods can be below zero.
    Expect.equal
        (warned (series 30 (fun i -> -2.0 - 0.1 * float i, -2.0 - 0.1 * float i, 0.1 + 0.1 * float i)))
        [ OverfittingWatch.Window - 1 ]
        "below zero"

    // It learns again, and overfits again.
    let again =
        series 20 (fun i -> falling i, falling i, rising i)
        @ series 30 (fun i -> falling i, falling i, 1.5 * falling i)
        @ series 20 (fun i -> falling i, falling i, rising i)

    Expect.equal (warned again).Length 2 "two onsets"

[<Fact>]
let ``a balanced reservoir keeps as many of each class, as far as it has them, and each alike`` () =
    let trials, places = 300, 60
    // Of class 2 there are fewer than its share.
    let classes =
        [|
            for i in 0..399 ->
                if i % 40 = 7 then 2
                elif i % 8 = 0 then 1
                else 0
        |]

    let counts = Array.zeroCreate<int> classes.Length
    use rollout = new Rollout(100, 1, columns 1 1, 0)
    rollout.Valid.AsSpan().Fill 1uy

    for trial in 1..trials do
        use dataset =
            new AggregatedDataset(
                columns 1 1,
                1,
                0,
                int64 places,
                ClassBalancedReservoir(int64 places),
                RandomStream(uint64 trial, "r"),
                DatasetNotes(Classes = 3)
            )

        for part in 0..3 do
            writeColumn rollout "observation" (fun row -> float32 (part * 100 + row))
            writeColumn rollout "label" (fun row -> float32 classes[part * 100 + row])
            dataset.Add rollout

        let kept = dataset.Read(dataset.Columns["observation"]) |> Array.map int
        Expect.equal (Array.distinct kept).Length places "rows"

        let ofClass k =
            kept |> Array.filter (fun row -> classes[row] = k) |> Array.length

        Expect.equal [ ofClass 0; ofClass 1; ofClass 2 ] [ 25; 25; 10 ] $"trial {trial}"
        Expect.equal [ for k in 0..2 -> dataset.Classes.Held k ] [ 25L; 25L; 10L ] "counted"

        for row in kept do
            counts[row] <- counts[row] + 1

    for k in 0..1 do
        let own =
            [
                for row in 0..399 do
                    if classes[row] = k then
                        float counts[row]
            ]

        let p = 25.0 / float own.Length
        // Six standard deviations of a row's count.
        for count in own do
            Expect.close
                (6.0 * sqrt (float trials * p * (1.0 - p)) + 1.0)
                count
                (p * float trials)
                $"class {k}"

// Learning

/// Ratio of the student's return to the teacher's, on the same episodes.
let private ratio (environment: IEnvironmentConfig) episodes (teacher: Policy) (student: Policy) pool =
    use evaluator = new Evaluator(environment, episodes, 77UL, pool)
    let teacher = evaluator.Run teacher
    let student = evaluator.Run student
    student.MeanReturn / teacher.MeanReturn, teacher.MeanReturn

[<Fact>]
let ``a CartPole student comes to balance as its teacher does`` () =
    use pool = new WorkerPool()
    use teacher = cartPoleTeacher ()
    let environment: IEnvironmentConfig = CartPoleConfig(Envs = 32)

    let mlp: StudentConfig = MlpStudent(Hidden = [ 32 ])
    let priority = LossPrioritized(0.6, 1e-3)

    for student, sampling in
        [ mlp, Permutation() :> Sampling; mlp, priority; GruStudent(Hidden = 16), Permutation() ] do
        let choices =
            { small with
                Environment = environment
                Student = student
                Acting = TeacherUntil 3
                Retention = FirstInFirstOut 100_000L
                Sampling = sampling
                Collection = StepsPerIteration 200
                Epochs = 4
            }

        use distillation = start choices teacher pool
        let before, _ = ratio environment 100 teacher distillation.Student pool
        iterate 12 distillation |> ignore
        let after, teacherReturn = ratio environment 100 teacher distillation.Student pool
        Expect.isTrue (teacherReturn > 490.0) $"the teacher's return is {teacherReturn}"

        Expect.isTrue
            (before < 0.5 && after >= 0.95)
            $"{student}, {sampling}: ratio from {before:F3} to {after:F3}"

[<Fact>]
let ``a GRU student learns to fly from the foundation policy`` () =
    use pool = new WorkerPool()
    use teacher = raptorTeacher ()
    let environment: IEnvironmentConfig = QuadrotorConfig(Envs = 64)

    let config =
        DistillationConfig(
            Seed = 1UL,
            Environment = environment,
            Student = GruStudent(Hidden = 16),
            Acting = TeacherUntil 8,
            Retention = FirstInFirstOut 200_000L,
            Collection = StepsPerIteration 500,
            GradientLength = 500,
            Optimizer = AdamConfig(LearningRate = 1e-3)
        )

    use distillation = new Distillation(config, teacher, pool)
    iterate 25 distillation |> ignore
    let ratio, teacherReturn = ratio environment 200 teacher distillation.Student pool
    Expect.isTrue (ratio >= 0.9) $"ratio {ratio:F3} of the teacher's {teacherReturn:F1}"

// Same seed, same student

let private parameters (distillation: Distillation) =
    floats distillation.Student.Network.Parameters

let private variants =
    let priority = LossPrioritized(0.6, 1e-3)

    [
        "rows", small
        "sequences", recurrent
        "sequences, LSTM", { recurrent with Student = LstmStudent(Hidden = 5, DenseAfter = 4) }
        "short sequences, in order", { recurrent with Sequence = 5; Sampling = InOrder() }
        "mixed acting, recency", { small with Acting = LinearBeta 4; Sampling = RecencyWeighted 0.5 }
        "rows, loss-prioritized", { small with Sampling = priority }
        "sequences, loss-prioritized", { recurrent with Sampling = priority; Acting = ExponentialBeta 0.5 }
        "rows, reservoir", { small with Retention = Reservoir 2500L }
        "sequences, reservoir, recency",
        { recurrent with Retention = Reservoir 2500L; Sampling = RecencyWeighted 0.5 }
        "newest", { small with Retention = NewestRollout() }
        "sequences, newest", { recurrent with Retention = NewestRollout(); Sampling = priority }
        "episodes", { small with Collection = EpisodesPerEpoch 45 }
        "episodes, sequences, reservoir",
        { recurrent with
            Collection = EpisodesPerEpoch 45
            Retention = Reservoir 2700L
            Sampling = priority
        }
        "quadrotor",
        { recurrent with
            Environment = QuadrotorConfig(Envs = 40, EpisodeLimit = 30)
            Acting = LinearBeta 3
            Loss = GaussianLogLikelihood()
            Exploration = 0.5
        }
        "choices, exploring", { small with Loss = KullbackLeibler(); Exploration = 0.5 }
        "rows, monitored",
        { small with
            Epochs = 4
            HeldOut = 0.2
            Stopping = 1
            FailedWeight = 0.5
            Retention = ClassBalancedReservoir 2500L
            Sampling = ClassBalanced 0.8
            Accumulation = 2
        }
        "sequences, monitored",
        { recurrent with
            Acting = StudentAlways()
            Epochs = 4
            Sequence = 5
            HeldOut = 0.4
            Stopping = 2
            FailedWeight = 0.0
            Sampling = DisagreementPrioritized(3, 0.6, 1e-3)
        }
        "quadrotor, monitored, episodes",
        { recurrent with
            Environment = QuadrotorConfig(Envs = 40, EpisodeLimit = 30)
            Loss = MeanSquared()
            Collection = EpisodesPerEpoch 45
            HeldOut = 0.1
            Sampling = DisagreementPrioritized(2, 0.6, 1e-3)
        }
    ]

let private teacherOf (choices: Choices) =
    if choices.Environment :? QuadrotorConfig then
        raptorTeacher ()
    else
        cartPoleTeacher ()

[<Fact>]
let ``the same bits on 1, 2 and 4 threads and on every path`` () =
    for name, choices in variants do
        let run threads =
            use pool = new WorkerPool(threads)
            use teacher = teacherOf choices
            use distillation = start choices teacher pool
            iterate 4 distillation |> ignore
            bytes distillation.Visit

        let expected = run 1

        for threads in [ 2; 4 ] do
            sameState (run threads) expected $"{name}: {threads} threads"

        for path in Paths.all.Tail do
            sameState (Paths.on path (fun () -> run 2)) expected $"{name}: {path}"

[<Fact>]
let ``another seed gives another student`` () =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()

    let run seed =
        let settings =
            DistillationConfig(
                Seed = seed,
                Environment = small.Environment,
                Loss = CrossEntropy(),
                Collection = StepsPerIteration 10
            )

        use distillation = new Distillation(settings, teacher, pool)
        distillation.Iterate() |> ignore
        parameters distillation

    Expect.isTrue (run 1UL <> run 2UL) "students are alike"
    Expect.isTrue (run 1UL = run 1UL) "one seed, two students"

[<Fact>]
let ``the normalizer takes the statistics of the rollout's valid rows`` () =
    for choices in [ small; { small with Collection = EpisodesPerEpoch 40; Acting = StudentAlways() } ] do
        use pool = new WorkerPool(1)
        use teacher = cartPoleTeacher ()
        use distillation = start choices teacher pool
        let settings = config choices
        let shape = DistillationShape.Of settings

        use environment =
            settings.Environment.Create(shape.Envs, RandomStream(settings.Seed, "training").Seed())

        use rollout = new Rollout(shape.Envs, shape.Steps, columns 4 1, 0)
        let acting = RandomStream(settings.Seed, "acting")

        use collector =
            new RolloutCollector(
                environment,
                new PolicyTeacher([| teacher |], environment),
                distillation.Student,
                rollout,
                acting,
                shape.WholeEpisodes,
                pool
            )

        collector.Collect(settings.Acting.TeacherShare 0)
        distillation.Iterate() |> ignore
        let normalizer = nonNull distillation.Student.Normalizer
        let observations = readColumn rollout "observation"

        for i in 0..3 do
            let values =
                [
                    for row in 0 .. rollout.Rows - 1 do
                        if rollout.Valid[row] = 1uy then
                            float observations[row * 4 + i]
                ]

            let mean = List.average values
            Expect.equal normalizer.Count (int64 values.Length) "rows"
            Expect.close 1e-6 (float normalizer.Mean[i]) mean $"mean {i}"
            let variance = values |> List.averageBy (fun v -> (v - mean) ** 2.0)
            Expect.close 1e-6 (float normalizer.Variance[i]) variance $"variance {i}"

// Checkpoints

/// A report without the clock.
let private facts (r: IterationReport) =
    (r.Iteration,
     r.Phase,
     r.TeacherShare,
     r.Loss,
     r.NewestLoss,
     r.HistoricalLoss,
     r.HeldOutLoss,
     r.GradientNorm,
     r.OptimizerSteps,
     r.ClippedSteps),
    (r.Passes, r.BeginsToOverfit, r.DatasetRows, r.GrownFrom, r.GrownTo, r.StepsCollected, r.EpisodesFinished),
    (r.MeanReturn, r.StdReturn, r.MeanEpisodeLength, r.ShareTerminated)

[<Fact>]
let ``saved to a file, restored and continued is the undisturbed run, bit for bit`` () =
    Storage.inTemporaryFolder (fun folder ->
        for name, choices in variants do
            let path = Path.Combine(folder, "state.safetensors")
            use pool = new WorkerPool(2)
            use teacher = teacherOf choices
            use undisturbed = start choices teacher pool
            let expected = iterate 7 undisturbed |> List.skip 3

            (use first = start choices teacher pool
             iterate 3 first |> ignore
             save path first.Visit)

            use resumed = start choices teacher pool
            // What the fresh run did before must leave no trace.
            resumed.Iterate() |> ignore
            load path resumed.Visit
            let actual = iterate 4 resumed
            sameState (bytes resumed.Visit) (bytes undisturbed.Visit) name
            Expect.equal (List.map facts actual) (List.map facts expected) $"{name}: reports"
            Paths.sameBits (parameters resumed) (parameters undisturbed) name)

[<Fact>]
let ``a checkpoint of other settings is refused`` () =
    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        use pool = new WorkerPool(1)
        use teacher = cartPoleTeacher ()

        (use first = start small teacher pool
         first.Iterate() |> ignore
         save path first.Visit)

        for name, other in
            [
                "student", { small with Student = MlpStudent(Hidden = [ 13 ], NormalizeObservations = true) }
                "sequences", recurrent
                "environments", { small with Environment = CartPoleConfig(Envs = 70, EpisodeLimit = 30) }
            ] do
            use distillation = start other teacher pool

            (Expect.throws<DistillException>(fun () -> load path distillation.Visit)).Message
            |> Storage.contains "other settings")

[<Fact>]
let ``a student whose deviations depend on the state is trained on by likelihood, and continued bit for bit``
    ()
    =
    Storage.inTemporaryFolder (fun folder ->
        let file = Path.Combine(folder, "student.safetensors")

        let spec =
            NetworkSpec.RecurrentStack(22, 6, Lstm 5, 0, 4, Head.StateDependentLogStd)

        use before = randomPolicy 3 0.2f spec "student" true
        PolicyFile.Save(file, before)

        let choices =
            { recurrent with
                Environment = QuadrotorConfig(Envs = 40, EpisodeLimit = 30)
                Student = FileStudent(File = file)
                Loss = GaussianLogLikelihood()
            }

        use teacher = raptorTeacher ()

        let run threads =
            use pool = new WorkerPool(threads)
            use distillation = start choices teacher pool
            Expect.equal distillation.Student.Network.Spec spec "the head is kept"
            let first = iterate 2 distillation
            save (Path.Combine(folder, "state.safetensors")) distillation.Visit
            let last = iterate 2 distillation
            Expect.isTrue ((List.last last).Loss < first[0].Loss) "the loss falls"
            bytes distillation.Visit

        let expected = run 1
        sameState (run 2) expected "2 threads"
        use pool = new WorkerPool(2)
        use resumed = start choices teacher pool
        load (Path.Combine(folder, "state.safetensors")) resumed.Visit
        iterate 2 resumed |> ignore
        sameState (bytes resumed.Visit) expected "resumed"
        // The rows of the deviations have learned, too.
        let rows (policy: Policy) =
            policy.Network["2.weight"].Slice(20, 20).ToArray()

        Expect.isTrue (rows resumed.Student <> rows before) "deviations")

[<Fact>]
let ``new students of every distribution learn by likelihood, on any threads with the same bits`` () =
    use teacher = raptorTeacher ()

    for head in [ Head.StateDependentStd; Head.StateDependentLogStd; Head.SquashedGaussian ] do
        let choices =
            { recurrent with
                Environment = QuadrotorConfig(Envs = 40, EpisodeLimit = 30)
                Student = LstmStudent(Hidden = 6, Head = Nullable head)
                Loss = GaussianLogLikelihood()
                Acting = TeacherAlways()
            }

        let run threads =
            use pool = new WorkerPool(threads)
            use distillation = start choices teacher pool
            let losses = iterate 8 distillation |> List.map _.Loss
            Expect.isTrue (List.last losses < losses[0] - 0.1) $"{head}: losses {losses}"
            bytes distillation.Visit

        sameState (run 2) (run 1) $"{head}: 2 threads"

// Memory

[<Fact>]
let ``after warm-up an iteration allocates its report and no more`` () =
    for name, choices in variants do
        use pool = new WorkerPool(1)
        use teacher = teacherOf choices
        use distillation = start choices teacher pool
        iterate 6 distillation |> ignore
        let before = GC.GetAllocatedBytesForCurrentThread()
        let report = distillation.Iterate()
        let allocated = GC.GetAllocatedBytesForCurrentThread() - before
        Expect.isTrue (report.GrownFrom = report.GrownTo) $"{name}: the dataset still grows"
        Expect.isTrue (allocated < 512L) $"{name}: {allocated} bytes"

[<Fact>]
let ``memory is estimated before anything is allocated`` () =
    let settings =
        DistillationConfig(
            Environment = QuadrotorConfig(Envs = 100),
            Retention = FirstInFirstOut 1_000_000L,
            Collection = StepsPerIteration 400
        )

    let available = 1000L <<< 20
    let estimate = MemoryEstimate.Of(settings, available)
    Expect.equal estimate.DatasetBytes (1_000_000L * (22L + 4L) * 4L) "dataset"
    // Sequences of 400: two flags per row; birth, loss, place in the order and the GRU's memory per sequence.
    let bookkeeping = 1_000_000L * 2L + 2_500L * (8L + 4L + 4L + 16L * 4L)
    Expect.equal estimate.BookkeepingBytes bookkeeping "bookkeeping"

    let rollout = 40_000L * ((22L + 4L + 1L) * 4L + 5L) + 100L * 16L * 4L
    Expect.equal estimate.RolloutBytes rollout "rollout"
    Expect.isTrue estimate.Fits "fits"
    Expect.equal estimate.AvailableBytes (available / 10L * 9L) "a tenth is spared"

    let tight = MemoryEstimate.Of(settings, 60L <<< 20)
    Expect.isTrue (not tight.Fits && tight.RowsThatFit < 1_000_000L && tight.RowsThatFit > 0L) "does not fit"
    Expect.equal (MemoryEstimate.Of(settings, 1L <<< 20)).RowsThatFit 0L "no room at all"
    Expect.isTrue ((MemoryEstimate.Of(settings)).AvailableBytes > 0L) "asks the machine"

    let newest =
        DistillationConfig(Environment = QuadrotorConfig(Envs = 100), Retention = NewestRollout())

    Expect.equal (MemoryEstimate.Of(newest, available)).DatasetBytes (40_000L * 26L * 4L) "newest only"

/// The fields of an object; a type does not list the private ones that it inherits.
let rec private fieldsOf (t: Type | null) : FieldInfo list =
    match t with
    | null -> []
    | t ->
        let own =
            t.GetFields(
                BindingFlags.Instance
                ||| BindingFlags.NonPublic
                ||| BindingFlags.Public
                ||| BindingFlags.DeclaredOnly
            )

        List.ofArray own @ fieldsOf t.BaseType

/// Bytes outside the runtime's heap that can be reached from an object.
let private nativeBytes (root: obj) =
    let seen = HashSet<obj>(HashIdentity.Reference)

    let rec visit (value: objnull) =
        match value with
        | null -> 0L
        | :? Delegate
        | :? string
        | :? Type -> 0L
        | value when not (seen.Add value) -> 0L
        | :? NativeBuffer<float32> as buffer -> 4L * int64 buffer.Length
        | :? NativeBuffer<byte> as buffer -> int64 buffer.Length
        | :? NativeBuffer<int64> as buffer -> 8L * int64 buffer.Length
        | :? Array as items ->
            if (nonNull (items.GetType().GetElementType())).IsValueType then
                0L
            else
                Seq.sumBy visit (Seq.cast<objnull> items)
        | value when (string (value.GetType().Namespace)).StartsWith "System.Collections" ->
            Seq.sumBy visit (Seq.cast<objnull>(value :?> IEnumerable))
        | value when (string (value.GetType().Namespace)).StartsWith "Distill" ->
            fieldsOf (value.GetType())
            |> Seq.filter (fun field -> not field.FieldType.IsValueType)
            |> Seq.sumBy (fun field -> visit (field.GetValue value))
        | _ -> 0L

    visit root

/// What a pool's workspaces take once every thread has done every kind of work.
let private workspaces (pool: WorkerPool) =
    int64 pool.Threads
    * (Seq.max [ for worker in 0 .. pool.Threads - 1 -> pool.Workspace(worker).Bytes ])

/// The estimate leaves out the environments and the teacher, and rounds upwards.
let private covers (estimate: int64) (actual: int64) (spared: int64) what =
    Expect.isTrue
        (estimate >= actual - spared && float estimate < 1.25 * float actual + 100_000.0)
        $"{what}: {estimate} bytes are estimated, {actual} are allocated, {spared} of them by environments and teacher"

[<Fact>]
let ``the estimates count what is allocated`` () =
    use raptor = raptorTeacher ()

    let students: StudentConfig list =
        [
            MlpStudent(Hidden = [ 300; 200 ])
            GruStudent(Hidden = 90)
            LstmStudent(Hidden = 20, DenseAfter = 100)
        ]

    for student in students do
        for batch, sequence, sampling in
            [
                0, 0, Permutation() :> Sampling
                5000, 50, Permutation()
                40, 10, Permutation()
                300, 50, DisagreementPrioritized()
            ] do
            let monitored = sampling.Ensemble > 1

            let settings =
                DistillationConfig(
                    Environment = QuadrotorConfig(Envs = 128),
                    Student = student,
                    Threads = 3,
                    Retention = FirstInFirstOut 100_000L,
                    Collection = StepsPerIteration 100,
                    MiniBatchSize = batch,
                    SequenceLength = sequence,
                    Sampling = sampling,
                    HeldOut = (if monitored then 0.2 else 0.0),
                    EarlyStopping = (if monitored then 2 else 0)
                )

            use pool = new WorkerPool(3)
            use distillation = new Distillation(settings, raptor, pool)
            distillation.Iterate() |> ignore
            use environment = settings.Environment.Create(128, 0UL)
            let spared = nativeBytes environment + 4L * nativeBytes raptor + 40_000L
            let estimate = MemoryEstimate.Of settings
            // Flags of the rollout and the order of sampling are on the runtime's heap; so are weights, and what is held out.
            let segments = if student :? MlpStudent then 100_000L else 2000L

            let heap = 12_800L * 5L + 100_000L * 4L + (if monitored then segments * 16L else 0L)

            covers
                estimate.TotalBytes
                (nativeBytes distillation - nativeBytes pool + workspaces pool + heap)
                (spared + heap)
                $"{student}, {batch}, {sequence}, {sampling}"

    for config in
        [
            PpoConfig()
            PpoConfig(Actor = dense "student" [ 400; 300 ] false, Critic = dense "teacher" [ 500 ] false)
            PpoConfig(Actor = GruStudent(Hidden = 40), Critic = LstmStudent(Hidden = 30))
        ] do
        let environment = QuadrotorConfig(Envs = 500)
        use pool = new WorkerPool(3)
        use ppo = new Ppo(config, environment, pool)
        ppo.Iterate() |> ignore
        use inner = (environment :> IEnvironmentConfig).Create(500, 0UL)
        let estimate = PpoMemory.Of(config, environment, 3)
        let actual = nativeBytes ppo - nativeBytes pool + workspaces pool
        covers estimate.TotalBytes actual (nativeBytes inner) $"PPO, {config.Actor}"
        Expect.isTrue estimate.Fits "fits"

        Expect.isTrue
            (not (PpoMemory.Of(config, environment, 3, availableBytes = estimate.TotalBytes)).Fits)
            "no tenth to spare"

[<Fact>]
let ``as many rows as are said to fit do fit, and no sequence more`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed
        let sequence = [| 0; 10; 50 |][random.Next 3]

        let student: StudentConfig =
            if random.Next 2 = 0 then
                MlpStudent(Hidden = [ random.Next(1, 600); random.Next(1, 600) ])
            else
                GruStudent(Hidden = random.Next(1, 200))

        let plans: Sampling list = [ Permutation(); RecencyWeighted() ]

        let batch = if random.Next 2 = 0 then 0 else random.Next 100_000
        let available = 1L <<< random.Next(20, 40)

        let estimate (rows: int64) =
            let config =
                DistillationConfig(
                    Environment = QuadrotorConfig(Envs = 64),
                    Student = student,
                    Retention = FirstInFirstOut rows,
                    Sampling = plans[abs seed % 2],
                    Collection = StepsPerIteration 50,
                    SequenceLength = sequence,
                    MiniBatchSize = batch
                )

            MemoryEstimate.Of(config, available)

        let fit = (estimate 1000L).RowsThatFit

        if fit > 0L then
            Expect.isTrue (estimate fit).Fits $"{fit} rows do not fit"

        let whole = if sequence = 0 then 50 else sequence
        let length = if student :? GruStudent then whole else 1
        Expect.isTrue (not (estimate (fit + int64 length)).Fits) $"more than {fit} rows fit")

[<Fact>]
let ``a network that no machine counts is refused with a sentence`` () =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()

    for hidden in
        [
            [ 65537; 65537 ]
            [ 46341; 46341 ]
            [ Int32.MaxValue ]
            [ 1; Int32.MaxValue; Int32.MaxValue ]
            [ 9_000_000; 1 ]
        ] do
        for student in
            [
                MlpStudent(Hidden = hidden) :> StudentConfig
                GruStudent(Hidden = hidden[0], DenseAfter = List.last hidden)
                LstmStudent(Hidden = hidden[0], DenseAfter = List.last hidden)
            ] do
            let settings = config { small with Student = student }

            for start in
                [
                    fun () -> (new Distillation(settings, teacher, pool)).Dispose()
                    fun () -> MemoryEstimate.Of settings |> ignore
                ] do
                (Expect.throws<DistillException> start).Message |> Storage.contains "is too large with"

        for ppo in
            [
                PpoConfig(Actor = dense "teacher" hidden false)
                PpoConfig(Critic = dense "teacher" hidden false)
            ] do
            (Expect.throws<DistillException>(fun () -> (new Ppo(ppo, small.Environment, pool)).Dispose()))
                .Message
            |> Storage.contains "is too large with"

            (Expect.throws<DistillException>(fun () -> PpoMemory.Of(ppo, small.Environment, 1) |> ignore))
                .Message
            |> Storage.contains "is too large with"

[<Fact>]
let ``a block that a span cannot hold is refused with a sentence`` () =
    (Expect.throws<DistillException>(fun () -> (new FloatBuffer(1L <<< 31)).Dispose())).Message
    |> Storage.contains "A block of 2147483648 numbers is too large"

[<Fact>]
let ``control groups limit what is available: the tightest one, of either version`` () =
    Storage.inTemporaryFolder (fun folder ->
        let write (name: string) (text: string) =
            let path = Path.Combine(folder, name)
            Directory.CreateDirectory(nonNull (Path.GetDirectoryName path)) |> ignore
            File.WriteAllText(path, text)

        let membership = Path.Combine(folder, "self")

        let left () =
            MachineMemory.OfGroups(folder, membership)

        Expect.equal (left ()) Int64.MaxValue "no groups"
        write "self" "0::/slice/job\n"
        write "memory.max" "max\n"
        write "slice/job/memory.max" "max\n"
        Expect.equal (left ()) Int64.MaxValue "no limits"
        write "slice/memory.max" "1000000\n"
        write "slice/memory.current" "300000\n"
        write "slice/memory.stat" "anon 1\ninactive_file 100000\n"
        Expect.equal (left ()) 800_000L "of the group above, cached files left out"
        write "slice/job/memory.max" "500000\n"
        Expect.equal (left ()) 500_000L "its own"
        write "self" "5:devices:/a\n4:cpu,memory:/x/y\n"
        Expect.equal (left ()) Int64.MaxValue "version 1 without limits"
        write "memory/x/memory.limit_in_bytes" "4096"
        Expect.equal (left ()) 4096L "version 1")

// Settings

let private message (settings: DistillationConfig) =
    (Expect.throws<DistillException> settings.Validate).Message

[<Fact>]
let ``settings that cannot work are refused by name, value and what would be right`` () =
    let env = small.Environment

    let cases =
        [
            DistillationConfig(Environment = CartPoleConfig(Envs = 0)),
            "envs=0 cannot work; it must be at least 1."
            DistillationConfig(Environment = env, Iterations = 0), "iterations=0 "
            DistillationConfig(Environment = env, NumLearningEpochs = 0), "num_learning_epochs=0 "
            DistillationConfig(Environment = env, NumMiniBatches = 0), "num_mini_batches=0 "
            DistillationConfig(Environment = env, MiniBatchSize = -1),
            "mini_batch_size=-1 cannot work; it must be 0 for automatic"
            DistillationConfig(Environment = env, GradientLength = 0), "gradient_length=0 "
            DistillationConfig(Environment = env, SaveInterval = 0), "save_interval=0 "
            DistillationConfig(Environment = env, HeldOut = 0.6),
            "held_out=0.6 cannot work; it must be between 0 and 0.5"
            DistillationConfig(Environment = env, HeldOut = nan), "held_out=NaN "
            DistillationConfig(Environment = env, EarlyStopping = -1), "early_stopping=-1 "
            DistillationConfig(Environment = env, EarlyStopping = 2),
            "early_stopping=2 goes by the loss on episodes that are held out; add held_out=0.1"
            DistillationConfig(Environment = env, FailedWeight = 1.5), "failed_weight=1.5 "
            DistillationConfig(Environment = env, FailedWeight = -0.1), "failed_weight=-0.1 "
            DistillationConfig(Environment = env, GradientAccumulation = 0), "gradient_accumulation=0 "
            DistillationConfig(Environment = env, TargetReturn = infinity), "target_return="
            DistillationConfig(Environment = env, EvaluationInterval = 0), "evaluation_interval=0 "
            DistillationConfig(Environment = env, EvaluationEpisodes = 0), "evaluation_episodes=0 "
            DistillationConfig(Environment = env, FinalEpisodes = 0), "final_episodes=0 "
            DistillationConfig(Environment = env, Threads = -1), "threads=-1 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(LearningRate = 0.0)),
            "learning_rate=0 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(LearningRate = nan)),
            "learning_rate=NaN "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(LearningRate = infinity)),
            "learning_rate="
            DistillationConfig(Environment = env, Optimizer = AdamConfig(MaxGradNorm = -1.0)),
            "max_grad_norm=-1 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(Beta1 = 1.0)), "beta1=1 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(Beta2 = -0.1)), "beta2=-0.1 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(Epsilon = 0.0)), "epsilon=0 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(Floor = -1.0)), "floor=-1 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(WeightDecay = nan)),
            "weight_decay=NaN "
            DistillationConfig(Environment = env, Collection = StepsPerIteration 0), "steps_per_env=0 "
            DistillationConfig(Environment = env, Collection = EpisodesPerEpoch 0), "num_episodes=0 "
            DistillationConfig(Environment = env, Acting = TeacherUntil -1), "phase1_iterations=-1 "
            DistillationConfig(Environment = env, Acting = LinearBeta 0), "beta_iterations=0 "
            DistillationConfig(Environment = env, Acting = ExponentialBeta 1.5), "beta_base=1.5 "
            DistillationConfig(Environment = env, Retention = FirstInFirstOut 0L), "max_buffer_size=0 "
            DistillationConfig(Environment = env, Retention = Reservoir Int64.MaxValue),
            "max_buffer_size=9223372036854775807 "
            DistillationConfig(Environment = env, Sampling = RecencyWeighted -0.1), "decay=-0.1 "
            DistillationConfig(Environment = env, Sampling = LossPrioritized(-1.0, 0.1)), "exponent=-1 "
            DistillationConfig(Environment = env, Sampling = LossPrioritized(1.0, 0.0)), "epsilon=0 "
            DistillationConfig(Environment = env, Sampling = DisagreementPrioritized(1, 0.6, 0.1)),
            "members=1 "
            DistillationConfig(Environment = env, Sampling = DisagreementPrioritized(3, 11.0, 0.1)),
            "exponent=11 "
            DistillationConfig(Environment = env, Sampling = DisagreementPrioritized(3, 0.6, 0.0)),
            "epsilon=0 "
            DistillationConfig(Environment = env, Sampling = ClassBalanced -1.0), "exponent=-1 "
            DistillationConfig(Environment = env, Retention = ClassBalancedReservoir 0L), "max_buffer_size=0 "
            DistillationConfig(Environment = env, Loss = Huber 0.0), "delta=0 "
            DistillationConfig(Environment = env, Loss = Huber 1e39), "delta=1E+39 "
            DistillationConfig(Environment = env, Optimizer = AdamConfig(Epsilon = 1e-60)), "epsilon=1E-60 "
            DistillationConfig(Environment = env, Loss = CrossEntropy 1.0), "smoothing=1 "
        ]

    for settings, start in cases do
        let text = message settings
        Expect.isTrue (text.StartsWith start && text.EndsWith '.') text

    DistillationConfig(Environment = env).Validate()

[<Fact>]
let ``a distillation whose parts do not fit is refused`` () =
    use pool = new WorkerPool(1)
    use cartPole = cartPoleTeacher ()
    use raptor = raptorTeacher ()

    let refused choices (teacher: Policy) part =
        (Expect.throws<DistillException>(fun () -> (start choices teacher pool).Dispose())).Message
        |> Storage.contains part

    refused { small with Loss = MeanSquared() } cartPole "which need the loss cross_entropy"
    refused { small with Environment = QuadrotorConfig(Envs = 4) } raptor "is for choices"
    refused small raptor "The teacher reads 22 numbers"

    refused
        { small with Student = MlpStudent(ObservationGroup = "camera") }
        cartPole
        "no observation group 'camera'"

    refused
        { recurrent with Retention = FirstInFirstOut 20L }
        cartPole
        "max_buffer_size=20 is smaller than one sequence of 25"

    refused { small with Student = MlpStudent(Hidden = [ 8; 0 ]) } cartPole "layer without inputs or outputs"

    let flying =
        { recurrent with Environment = QuadrotorConfig(Envs = 4); Loss = MeanSquared() }

    refused { flying with Sampling = ClassBalanced 1.0 } raptor "sampling class_balanced goes by choices"

    refused
        { flying with Retention = ClassBalancedReservoir 1000L }
        raptor
        "retention class_balanced_reservoir goes by choices"

    refused
        { recurrent with Retention = ClassBalancedReservoir 1000L }
        cartPole
        "keeps rows, but this student has a memory"

[<Fact>]
let ``sequences divide a rollout`` () =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()

    let refused =
        Expect.throws<DistillException>(fun () ->
            new Distillation(config { recurrent with Sequence = 7 }, teacher, pool) |> ignore)

    Expect.equal
        refused.Message
        "sequence_length=7 does not divide the 25 steps of a rollout; whole sequences are needed."
        "message"

// Warm starts

/// Trains a little on the student's own states, and keeps the student as .pt with and without Adam's state.
let private trained (folder: string) (loss: Loss) (choices: Choices) =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()
    use distillation = start { choices with Loss = loss } teacher pool
    iterate 3 distillation |> ignore
    let path name = Path.Combine(folder, name)
    PolicyFile.Save(path "whole.pt", distillation.Student, 3L, distillation.Optimizer)
    PolicyFile.Save(path "weights.safetensors", distillation.Student)
    floats distillation.Student.Network.Parameters, distillation.Optimizer.Steps

[<Fact>]
let ``a student that begins from a file has its parameters, its normalizer and, from .pt, its optimizer`` () =
    Storage.inTemporaryFolder (fun folder ->
        for choices in [ small; recurrent ] do
            let parameters, steps = trained folder (CrossEntropy()) choices
            use pool = new WorkerPool(1)
            use teacher = cartPoleTeacher ()

            let from (name: string) (keep: bool) =
                let file =
                    FileStudent(
                        File = Path.Combine(folder, name),
                        KeepOptimizer = keep,
                        ObservationGroup = "student"
                    )

                start { choices with Student = file } teacher pool

            for name, keep, expected in
                [ "whole.pt", true, steps; "whole.pt", false, 0L; "weights.safetensors", true, 0L ] do
                use again = from name keep
                Expect.equal (floats again.Student.Network.Parameters) parameters name
                Expect.equal again.Optimizer.Steps expected $"{name}: steps"
                Expect.isTrue ((nonNull again.Student.Normalizer).Count > 0L) "normaliser"
                again.Iterate() |> ignore

            // The first loss is that of a trained student.
            use fresh = start choices teacher pool
            use warm = from "whole.pt" true
            Expect.isTrue (warm.Iterate().Loss < fresh.Iterate().Loss) "begins where the file ended")

[<Fact>]
let ``a student from a file must fit the environment and the loss`` () =
    Storage.inTemporaryFolder (fun folder ->
        trained folder (CrossEntropy()) small |> ignore
        use pool = new WorkerPool(1)

        let student =
            FileStudent(File = Path.Combine(folder, "whole.pt"), ObservationGroup = "tracking")

        use drone = raptorTeacher ()

        let choices =
            { small with Environment = QuadrotorConfig(Envs = 4); Student = student; Loss = MeanSquared() }

        let refusal =
            Expect.throws<DistillException>(fun () -> start choices drone pool |> ignore)

        Storage.contains "whole.pt" refusal.Message
        Storage.contains "continuous actions" refusal.Message
        use pole = cartPoleTeacher ()
        let unnamed = { small with Student = FileStudent() }

        let refusal =
            Expect.throws<DistillException>(fun () -> start unnamed pole pool |> ignore)

        Storage.contains "student.file=FILE" refusal.Message

        let ensemble =
            { small with Student = student; Sampling = DisagreementPrioritized() }

        let refusal =
            Expect.throws<DistillException>(fun () -> start ensemble pole pool |> ignore)

        Storage.contains "begin from draws of their own" refusal.Message)
