/// Whole iterations of distillation against plain loops in double precision: which rows are held, in which order and in which
/// mini-batches they are trained on, and what is reported.
module Distill.Tests.DistillationTwinTests

open System
open Xunit
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationReference
open Distill.Tests.DistillationTestbed

/// The twin of a run. Its own student collects, with the product's collector, which has tests of its own.
type private Twin(config: DistillationConfig, teacher: Policy, first: Policy, threads) =
    let shape = DistillationShape.Of config

    let environment =
        config.Environment.Create(shape.Envs, RandomStream(config.Seed, "training").Seed())

    let spec = first.Network.Spec
    let student = new Policy(spec, first.ObservationGroup, first.Normalizer <> null)
    do first.Network.Parameters.Span.CopyTo student.Network.Parameters.Span

    let rollout =
        new Rollout(
            shape.Envs,
            shape.Steps,
            columns spec.Inputs teacher.ActionFloats,
            student.MemorySize,
            shape.SegmentLength
        )

    let noise =
        if config.TeacherDeterministic then
            Nullable()
        else
            Nullable(RandomStream(config.Seed, "teacher"))

    let pool = new WorkerPool(threads)

    let collector =
        new RolloutCollector(
            environment,
            new PolicyTeacher([| teacher |], environment, noise = noise),
            student,
            rollout,
            RandomStream(config.Seed, "acting"),
            shape.WholeEpisodes,
            pool
        )

    let learner =
        Learner(student, config.Loss, config.Optimizer, min config.GradientLength.Whole shape.SegmentLength)

    let limit =
        if config.Retention :? NewestRollout then
            int64 rollout.Rows
        else
            config.Retention.Limit

    let memory = Memory(config, int (limit / int64 shape.SegmentLength))
    let statistics = NetworksReference.Statistics spec.Inputs
    let mutable iteration = 0
    let mutable epoch = 0L

    let normalize (added: Segment[]) =
        match student.Normalizer with
        | null -> ()
        | normalizer ->
            for segment in added do
                for row in segment.Rows do
                    if row.Valid then
                        statistics.Add row.X

            statistics.Refresh()

            for i in 0 .. spec.Inputs - 1 do
                normalizer.Mean[i] <- float32 statistics.Mean[i]
                normalizer.Variance[i] <- float32 statistics.Variance[i]

            normalizer.Refresh()

    let train (places: int[]) =
        let lesson =
            learner.Train(places |> Array.map (fun place -> memory.Held[place].Segment))

        Array.iter2 (fun place loss -> memory.Held[place].Loss <- Some loss) places lesson.MeanLosses
        lesson.Sum, lesson.Rows

    member _.Parameters = learner.Parameters

    /// Loss, loss of the newest rollout and of the rest, norm of the last gradient, optimizer steps, rows held.
    member _.Iterate() =
        Array.map float32 learner.Parameters |> _.CopyTo(student.Network.Parameters.Span)
        collector.Collect(config.Acting.TeacherShare iteration)
        let added = segments rollout shape.SegmentLength
        normalize added
        memory.Add added
        let before = learner.Steps

        let parts =
            [
                for _ in 1 .. config.NumLearningEpochs.Whole do
                    let order = memory.Order(epoch, added.Length)
                    epoch <- epoch + 1L

                    let batch =
                        if config.MiniBatchSize.Whole > 0 then
                            config.MiniBatchSize.Whole
                        else
                            Math.Clamp(
                                order.Length / config.NumMiniBatches.Whole,
                                1,
                                (if shape.SegmentLength > 1 then 64 else 512)
                            )

                    for places in Array.chunkBySize batch order do
                        train places
            ]

        iteration <- iteration + 1
        let newest = memory.Added - int64 added.Length
        let norm = learner.Gradient |> Array.sumBy (fun g -> g * g) |> sqrt

        [
            "loss", List.sumBy fst parts / float (List.sumBy snd parts)
            for name, chosen in
                [
                    "newest loss", fun (held: Held) -> held.Birth >= newest
                    "historical loss", fun held -> held.Birth < newest
                ] do
                match memory.MeanLoss chosen with
                | Some loss -> name, loss
                | None -> ()
            "gradient norm", norm
            "optimizer steps", float (learner.Steps - before)
            "rows", float (memory.Held.Count * shape.SegmentLength)
        ]

    interface IDisposable with
        member _.Dispose() =
            collector.Dispose()
            rollout.Dispose()
            student.Dispose()
            environment.Dispose()

let private numbers (report: IterationReport) =
    [
        "loss", report.Loss
        if report.NewestLoss.HasValue then
            "newest loss", report.NewestLoss.Value
        if report.HistoricalLoss.HasValue then
            "historical loss", report.HistoricalLoss.Value
        "gradient norm", report.GradientNorm
        "optimizer steps", float report.OptimizerSteps
        "rows", float report.DatasetRows
    ]

/// Four iterations of both.
let private agree what (config: DistillationConfig) (teacher: Policy) =
    use pool = new WorkerPool(2)
    use distillation = new Distillation(config, teacher, pool)
    let network = distillation.Student.Network

    let parameters () =
        network.Parameters.Slice(0, network.ParameterCount).ToArray() |> Array.map float

    let start = parameters ()
    use twin = new Twin(config, teacher, distillation.Student, pool.Threads)

    for iteration in 0..3 do
        let what = $"{what}, iteration {iteration}"
        let expected = twin.Iterate()
        let actual = numbers (distillation.Iterate())
        Expect.equal (List.map fst actual) (List.map fst expected) $"{what}: reported"

        for (name, a), (_, e) in List.zip actual expected do
            Expect.close (1e-6 + 2e-4 * abs e) a e $"{what}: {name}"

        let now = parameters ()
        let moved = Array.map2 (-) now start |> Array.map abs |> Array.max
        let off = Array.map2 (-) now twin.Parameters |> Array.map abs |> Array.max
        Expect.isTrue (moved > 1e-2 && off < 3e-4 * moved) $"{what}: moved by {moved:G4}, off by {off:G4}"

let private optimizer = AdamConfig(LearningRate = 5e-3, Epsilon = 1e-3)

[<Fact>]
let ``iterations on rows are those of plain loops, whatever is kept and drawn`` () =
    use teacher = cartPoleTeacher ()

    for retention, sampling, collection, batch in
        [
            FirstInFirstOut 1800L :> Retention,
            Permutation() :> Sampling,
            StepsPerIteration 20 :> Collection,
            0
            Reservoir 1500L, RecencyWeighted 0.3, StepsPerIteration 20, 190
            Reservoir 900L, Permutation(), EpisodesPerEpoch 35, 0
            NewestRollout(), LossPrioritized(0.8, 0.02), StepsPerIteration 20, 0
            FirstInFirstOut 5000L, LossPrioritized(0.5, 0.1), EpisodesPerEpoch 8, 30
            FirstInFirstOut 2000L, InOrder(), StepsPerIteration 20, 0
        ] do
        let config =
            DistillationConfig(
                Seed = 17UL,
                Environment = CartPoleConfig(Envs = 40, EpisodeLimit = 25),
                Student = MlpStudent(Hidden = [ 9 ], NormalizeObservations = true),
                Acting = LinearBeta 3,
                Retention = retention,
                Sampling = sampling,
                Loss = CrossEntropy 0.02,
                Collection = collection,
                NumLearningEpochs = 2,
                NumMiniBatches = 5,
                MiniBatchSize = batch,
                Optimizer = optimizer
            )

        agree $"{retention}, {sampling}, {collection}" config teacher

[<Fact>]
let ``iterations on sequences are those of plain loops, whatever is kept and drawn`` () =
    use teacher = raptorTeacher ()

    for student, retention, sampling, loss in
        [
            GruStudent(Hidden = 5) :> StudentConfig,
            FirstInFirstOut 1400L :> Retention,
            Permutation() :> Sampling,
            MeanSquared() :> Loss
            GruStudent(Hidden = 5), Reservoir 1000L, LossPrioritized(0.7, 0.01), GaussianLogLikelihood()
            LstmStudent(Hidden = 5), NewestRollout(), RecencyWeighted 0.1, Huber 0.2
        ] do
        let config =
            DistillationConfig(
                Seed = 18UL,
                Environment = QuadrotorConfig(Envs = 40, EpisodeLimit = 15),
                Student = student,
                Acting = TeacherUntil 2,
                Retention = retention,
                Sampling = sampling,
                Loss = loss,
                Collection = StepsPerIteration 20,
                SequenceLength = 10,
                GradientLength = 4,
                NumLearningEpochs = 2,
                NumMiniBatches = 3,
                Optimizer = optimizer
            )

        agree $"{retention}, {sampling}, {loss}" config teacher
