/// Whole iterations of distillation against plain loops in double precision: which rows are held, in which order and in which
/// mini-batches they are trained on, and what is reported.
module Distill.Tests.DistillationTwinTests

open System
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationReference
open Distill.Tests.DistillationTestbed

/// Variance over the members of what they give, as actions or probabilities, on a segment: the mean over its rows and outputs.
let private disagreement (head: Head) (given: float[][][] list) (batch: Segment[]) segment =
    let describe (outputs: float[]) =
        if head = Head.Categorical then
            let total = Array.sumBy exp outputs
            outputs |> Array.map (fun logit -> exp logit / total)
        else
            outputs

    let ofRow row =
        let outputs = [ for member' in given -> describe (Array.get member'[segment] row) ]

        [
            for output in 0 .. outputs.Head.Length - 1 do
                let values = [ for o in outputs -> o[output] ]
                let mean = List.average values
                values |> List.averageBy (fun v -> (v - mean) ** 2.0)
        ]
        |> List.average

    let weigh = weight false
    let rows = batch[segment].Rows
    let total = Array.sumBy weigh rows

    if total = 0.0 then
        0.0
    else
        Array.sum
            [|
                for i in 0 .. rows.Length - 1 -> if weigh rows[i] > 0.0 then weigh rows[i] * ofRow i else 0.0
            |]
        / total

/// Where the teachers of a quadrotor's drones come to rest, in plain loops: mean position over the second half of their episodes.
let private rest (config: DistillationConfig) (teachers: TeacherPolicies) : float32[][] =
    let atRest = nonNull config.Environment.AtRest
    let drones = atRest.Spec.Variants.Count
    let limit = atRest.Spec.EpisodeLimit
    let envs = drones * config.SteadyStateEpisodes
    use environment = atRest.Create(envs, RandomStream(config.Seed, "at rest").Seed())
    let sums = Array.init drones (fun _ -> Array.zeroCreate<float> 3)

    for panel in 0 .. Panel.Count envs - 1 do
        environment.Reset panel
        let lanes = min Panel.Width (envs - panel * Panel.Width)
        let last = Array.init lanes (fun _ -> Array.zeroCreate<float32> 3)
        let ended = Array.create lanes false

        for step in 0 .. limit - 1 do
            let seen = Array.zeroCreate<float32>(22 * Panel.Width)
            environment.Observe(panel, environment.Spec.Group "student", seen)
            let actions = Array.zeroCreate<float32>(4 * Panel.Width)

            for lane in 0 .. lanes - 1 do
                let drone = environment.VariantOf(panel * Panel.Width + lane)

                if not ended[lane] then
                    last[lane] <- Array.init 3 (fun i -> seen[i * Panel.Width + lane])

                if step >= limit / 2 then
                    for i in 0..2 do
                        sums[drone][i] <- sums[drone][i] + float (Array.get last[lane] i)

                let policy = teachers.Policies[teachers.OfVariant[drone]]
                let x = Array.zeroCreate<float32>(policy.Network.Spec.Inputs * Panel.Width)
                environment.Observe(panel, environment.Spec.Group policy.ObservationGroup, x)
                let own = Array.zeroCreate<float32>(4 * Panel.Width)
                act policy x [||] own |> ignore

                for i in 0..3 do
                    actions[i * Panel.Width + lane] <- own[i * Panel.Width + lane]

            let outcome = Array.zeroCreate<float32>(3 * Panel.Width)
            environment.Step(panel, actions, StepOutcome(Span outcome))

            for lane in 0 .. lanes - 1 do
                ended[lane] <-
                    ended[lane] || outcome[Panel.Width + lane] <> 0f || outcome[2 * Panel.Width + lane] <> 0f

    let steps = float (config.SteadyStateEpisodes * (limit - limit / 2))
    [| for sum in sums -> [| for value in sum -> float32 (value / steps) |] |]

/// The twin of a run. Its own student collects, with the product's collector, which has tests of its own.
type private Twin(config: DistillationConfig, teachers: TeacherPolicies, first: Policy, threads) =
    let teacher = teachers.Policies[0]
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
            columns
                spec.Inputs
                (if config.Loss.LabelIsDistribution then
                     teacher.Network.OutputSize
                 else
                     teacher.ActionFloats),
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
            teachers.Teach(environment, noise),
            student,
            rollout,
            RandomStream(config.Seed, "acting"),
            shape.WholeEpisodes,
            pool,
            RandomStream(config.Seed, "exploration"),
            config.Loss.LabelIsDistribution
        )

    let learner =
        Learner(student, config.Loss, config.Optimizer, min config.GradientLength.Whole shape.SegmentLength)

    let limit =
        if config.Retention :? NewestRollout then
            int64 rollout.Rows
        else
            config.Retention.Limit

    let memory = Memory(config, int (limit / int64 shape.SegmentLength))

    /// The students beside the one that counts, each from its own draw.
    let others =
        [
            for member' in 1 .. config.Sampling.Ensemble - 1 do
                let other =
                    config.Student.Create(
                        spec.Inputs,
                        spec.Outputs,
                        spec.Head,
                        RandomStream(config.Seed, $"student {member'}")
                    )

                other.Normalizer <- student.Normalizer

                Learner(
                    other,
                    config.Loss,
                    config.Optimizer,
                    min config.GradientLength.Whole shape.SegmentLength
                )
        ]

    let heldOut = RandomStream(config.Seed, "held out")
    let begun = Array.zeroCreate<int> shape.Envs

    /// Of each row of the rollout whether it is held out, and its weight, episode by episode.
    let marks () =
        let held, weight =
            Array.zeroCreate<bool> rollout.Rows, Array.create rollout.Rows 1.0

        for env in 0 .. shape.Envs - 1 do
            let rows = [ env * shape.Steps .. (env + 1) * shape.Steps - 1 ]

            let episodes =
                (rows, [])
                ||> List.foldBack (fun row episodes ->
                    match episodes with
                    | episode :: others when rollout.EpisodeStart[List.head episode] = 0uy ->
                        (row :: episode) :: others
                    | others -> [ row ] :: others)

            for episode in episodes do
                if rollout.EpisodeStart[episode.Head] = 1uy && rollout.Valid[episode.Head] = 1uy then
                    begun[env] <- begun[env] + 1

                let isHeld = float (heldOut.Uniform(uint32 env, uint32 begun[env])) < config.HeldOut

                let failed = rollout.Ends[List.last episode] = EpisodeEnd.Terminated

                for row in episode do
                    held[row] <- isHeld

                    if failed then
                        weight[row] <- config.FailedWeight.Value

        fun row -> held[row], weight[row]

    let drones = environment.Spec.Variants.Count

    /// Mean return of the student on each drone when it last drove.
    let means = Array.create drones nan

    let offsets =
        if config.SteadyStateEpisodes > 0 then
            rest config teachers
        else
            [||]

    let focus iteration =
        let share = config.VariantFocus.At iteration

        if share > 0.0 then
            let known = means |> Array.filter (Double.IsNaN >> not)

            let shortfall =
                if known.Length = 0 then
                    Array.zeroCreate<float> drones
                else
                    means
                    |> Array.map (fun mean ->
                        Array.max known - (if Double.IsNaN mean then Array.min known else mean))

            let total = Array.sum shortfall

            let due =
                shortfall
                |> Array.map (fun value ->
                    let fair = 1.0 / float drones

                    if total > 0.0 then
                        share * value / total + (1.0 - share) * fair
                    else
                        fair)

            let upTo = Array.scan (+) 0.0 due |> Array.tail
            let offset = float (RandomStream(config.Seed, "variants").Uniform(uint32 iteration))

            let chosen =
                [|
                    for env in 0 .. shape.Envs - 1 ->
                        match
                            upTo
                            |> Array.tryFindIndex (fun sum -> float env + offset < sum * float shape.Envs)
                        with
                        | Some drone -> drone
                        | None -> drones - 1
                |]

            (environment :?> IAssignableEnvironment).Assign(ReadOnlySpan chosen)
            collector.Use(teachers.Teach environment)

    /// The drones whose rows are kept.
    let select iteration =
        if config.Acting.TeacherShare iteration < 1.0 then
            let flown = Array.init drones (fun _ -> ResizeArray<float>())

            for env in 0 .. shape.Envs - 1 do
                let rows = [ env * shape.Steps .. (env + 1) * shape.Steps - 1 ]

                flown[environment.VariantOf env]
                    .Add(
                        rows
                        |> List.sumBy (fun row ->
                            if rollout.Valid[row] = 1uy then
                                float rollout.Rewards.Span[row]
                            else
                                0.0)
                    )

            flown
            |> Array.iteri (fun drone returns ->
                if returns.Count > 0 then
                    means[drone] <- Seq.average returns)

            let best =
                [ 0 .. drones - 1 ]
                |> List.sortBy (fun drone ->
                    if Double.IsNaN means[drone] then
                        infinity
                    else
                        -means[drone])

            match config.ActiveTeachers with
            | :? BestActiveTeachers as best' -> List.truncate best'.Number best
            | :? WorstActiveTeachers as worst -> List.truncate worst.Number (List.rev best)
            | :? RandomActiveTeachers as random ->
                let order = Array.zeroCreate<int> drones
                RandomStream(config.Seed, "active teachers").Permutation(Span order, uint32 iteration)
                List.truncate random.Number (List.ofArray order)
            | _ -> best
        else
            [ 0 .. drones - 1 ]

    /// What the dataset takes of the rollout's segments.
    let taken iteration (all: Segment[]) =
        if drones <= 1 then
            all
        else
            let active = select iteration

            let corrected =
                all
                |> Array.mapi (fun i segment ->
                    if offsets.Length = 0 then
                        segment
                    else
                        let offset = offsets[environment.VariantOf(i * shape.SegmentLength / shape.Steps)]

                        let correct (x: float[]) =
                            x |> Array.mapi (fun i v -> if i < 3 then float (float32 v - offset[i]) else v)

                        { segment with
                            Rows = [| for row in segment.Rows -> { row with X = correct row.X } |]
                        })

            let ofEnv = corrected |> Array.chunkBySize (shape.Steps / shape.SegmentLength)

            let isActive env =
                List.contains (environment.VariantOf env) active

            if config.Collection.Packs then
                let order = Array.zeroCreate<int> shape.Envs
                RandomStream(config.Seed, "packing").Permutation(Span order, uint32 iteration)

                let sequences =
                    [|
                        for env in order do
                            if isActive env then
                                for segment in ofEnv[env] do
                                    yield! segment.Rows |> Array.filter _.Valid
                    |]
                    |> Array.chunkBySize shape.SegmentLength
                    |> Array.filter (fun rows -> rows.Length = shape.SegmentLength)
                    |> Array.map (fun rows -> { Memory = Array.zeroCreate student.MemorySize; Rows = rows })

                let batch = config.MiniBatchSize.Whole

                if batch > 0 then
                    Array.truncate (sequences.Length / batch * batch) sequences
                else
                    sequences
            else
                [|
                    for env in 0 .. shape.Envs - 1 do
                        if isActive env then
                            yield! ofEnv[env]
                |]

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
        let batch = places |> Array.map (fun place -> memory.Held[place].Segment)
        let lesson = learner.Train batch
        Array.iter2 (fun place loss -> memory.Held[place].Loss <- Some loss) places lesson.MeanLosses

        if not others.IsEmpty then
            let given = lesson.Outputs :: [ for other in others -> (other.Train batch).Outputs ]

            Array.iteri
                (fun i place -> memory.Held[place].Disagreement <- Some(disagreement spec.Head given batch i))
                places

        lesson.Sum, lesson.Weight

    /// Passes until the held-out loss has not fallen for so many, and back to the best of them.
    let stopEarly (pass: unit -> (float * float) list) =
        let rec go passes parts (best: (float * (unit -> unit)) option) since =
            if
                passes = config.NumLearningEpochs.Whole
                || config.EarlyStopping > 0 && since = config.EarlyStopping
            then
                if since > 0 then
                    best |> Option.iter (fun (_, restore) -> restore ())

                passes, parts
            else
                let parts = parts @ pass ()

                match learner.HeldOut [| for held in memory.Held -> held.Segment |] with
                | Some loss when config.EarlyStopping > 0 ->
                    match best with
                    | Some(lowest, _) when loss >= lowest -> go (passes + 1) parts best (since + 1)
                    | _ ->
                        let snapshots = learner.Snapshot() :: [ for other in others -> other.Snapshot() ]

                        let restore () =
                            for restore in snapshots do
                                restore ()

                        go (passes + 1) parts (Some(loss, restore)) 0
                | _ -> go (passes + 1) parts best 0

        go 0 [] None 0

    member _.Parameters = learner.Parameters

    /// Loss, loss of the newest rollout and of the rest, norm of the last gradient, optimizer steps, rows held.
    member _.Iterate() =
        Array.map float32 learner.Parameters |> _.CopyTo(student.Network.Parameters.Span)
        focus iteration
        collector.Collect(config.Acting.TeacherShare iteration, exploration = config.Exploration.At iteration)
        let collected = marked rollout shape.SegmentLength (marks ())
        normalize collected
        let added = taken iteration collected
        memory.Add added
        let before = learner.Steps

        let pass () =
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

            [
                for places in Array.chunkBySize (batch * config.GradientAccumulation.Whole) order do
                    train places
            ]

        let passes, parts = stopEarly pass
        iteration <- iteration + 1
        let newest = memory.Added - int64 added.Length
        let norm = learner.Gradient |> Array.sumBy (fun g -> g * g) |> sqrt

        [
            "loss", List.sumBy fst parts / List.sumBy snd parts
            for name, chosen in
                [
                    "newest loss", fun (held: Held) -> held.Birth >= newest
                    "historical loss", fun held -> held.Birth < newest
                ] do
                match memory.MeanLoss chosen with
                | Some loss -> name, loss
                | None -> ()
            match learner.HeldOut [| for held in memory.Held -> held.Segment |] with
            | Some loss -> "held-out loss", loss
            | None -> ()
            if config.EarlyStopping > 0 then
                "passes", float passes
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
        if report.HeldOutLoss.HasValue then
            "held-out loss", report.HeldOutLoss.Value
        if report.Passes.HasValue then
            "passes", float report.Passes.Value
        "gradient norm", report.GradientNorm
        "optimizer steps", float report.OptimizerSteps
        "rows", float report.DatasetRows
    ]

/// Four iterations of both.
let private agreeAll what (config: DistillationConfig) (teachers: TeacherPolicies) =
    use pool = new WorkerPool(2)
    use distillation = new Distillation(config, teachers, pool)
    let network = distillation.Student.Network

    let parameters () =
        network.Parameters.Slice(0, network.ParameterCount).ToArray() |> Array.map float

    let start = parameters ()
    use twin = new Twin(config, teachers, distillation.Student, pool.Threads)

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

let private agree what (config: DistillationConfig) (teacher: Policy) =
    agreeAll what config (TeacherPolicies.Of(teacher, config.Environment.Spec))

let private optimizer = AdamConfig(LearningRate = 5e-3, Epsilon = 1e-3)

[<Fact>]
let ``iterations on rows are those of plain loops, whatever is kept and drawn`` () =
    use teacher = cartPoleTeacher ()

    for retention, sampling, collection, batch, loss in
        [
            FirstInFirstOut 1800L :> Retention,
            Permutation() :> Sampling,
            StepsPerIteration 20 :> Collection,
            0,
            CrossEntropy 0.02 :> Loss
            Reservoir 1500L, RecencyWeighted 0.3, StepsPerIteration 20, 190, CrossEntropy 0.02
            Reservoir 900L, Permutation(), EpisodesPerEpoch 35, 0, CrossEntropy 0.02
            NewestRollout(), LossPrioritized(0.8, 0.02), StepsPerIteration 20, 0, CrossEntropy 0.02
            FirstInFirstOut 5000L, LossPrioritized(0.5, 0.1), EpisodesPerEpoch 8, 30, CrossEntropy 0.02
            FirstInFirstOut 2000L, InOrder(), StepsPerIteration 20, 0, KullbackLeibler()
        ] do
        let config =
            DistillationConfig(
                Seed = 17UL,
                Environment = CartPoleConfig(Envs = 40, EpisodeLimit = 25),
                Student = MlpStudent(Hidden = [ 9 ], NormalizeObservations = true),
                Acting = LinearBeta 3,
                Retention = retention,
                Sampling = sampling,
                Loss = loss,
                Exploration = Schedule.Linear(1.0, 0.0, 3),
                Collection = collection,
                NumLearningEpochs = 2,
                NumMiniBatches = 5,
                MiniBatchSize = batch,
                Optimizer = optimizer
            )

        agree $"{retention}, {sampling}, {collection}, {loss}" config teacher

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

[<Fact>]
let ``monitored iterations on rows are those of plain loops: held out, stopped early, weighed, balanced`` () =
    use teacher = cartPoleTeacher ()

    let entropy: Loss = CrossEntropy 0.02

    for retention, sampling, failed, accumulation, loss in
        [
            FirstInFirstOut 1800L :> Retention, Permutation() :> Sampling, 1.0, 1, entropy
            Reservoir 1500L, ClassBalanced 1.0, 0.5, 2, entropy
            ClassBalancedReservoir 900L, InOrder(), 0.0, 3, entropy
            NewestRollout(), DisagreementPrioritized(3, 0.8, 0.02), 0.25, 1, entropy
            // The class of a label that is a distribution is its likeliest choice.
            ClassBalancedReservoir 1200L, ClassBalanced 0.5, 1.0, 1, KullbackLeibler()
        ] do
        let config =
            DistillationConfig(
                Seed = 19UL,
                Environment = CartPoleConfig(Envs = 40, EpisodeLimit = 25),
                Student = MlpStudent(Hidden = [ 9 ], NormalizeObservations = true),
                Acting = LinearBeta 3,
                Retention = retention,
                Sampling = sampling,
                Loss = loss,
                Collection = StepsPerIteration 20,
                NumLearningEpochs = 4,
                NumMiniBatches = 5,
                GradientAccumulation = accumulation,
                Optimizer = AdamConfig(LearningRate = 2e-2, Epsilon = 1e-3),
                HeldOut = 0.3,
                EarlyStopping = 1,
                FailedWeight = failed
            )

        agree $"{retention}, {sampling}, {failed}" config teacher

[<Fact>]
let ``monitored iterations on sequences are those of plain loops`` () =
    use teacher = raptorTeacher ()

    for sampling, failed, stopping in
        [
            Permutation() :> Sampling, 0.3, 1
            DisagreementPrioritized(2, 0.7, 0.01), 1.0, 2
            DisagreementPrioritized(3, 0.7, 0.01), 0.0, 0
        ] do
        let config =
            DistillationConfig(
                Seed = 20UL,
                Environment = QuadrotorConfig(Envs = 40, EpisodeLimit = 15),
                Student = GruStudent(Hidden = 5),
                Acting = TeacherUntil 2,
                Retention = FirstInFirstOut 1400L,
                Sampling = sampling,
                Collection = StepsPerIteration 20,
                SequenceLength = 10,
                GradientLength = 4,
                NumLearningEpochs = 3,
                NumMiniBatches = 3,
                Optimizer = AdamConfig(LearningRate = 2e-2, Epsilon = 1e-3),
                HeldOut = 0.3,
                EarlyStopping = stopping,
                FailedWeight = failed
            )

        agree $"{sampling}, {failed}, {stopping}" config teacher

[<Fact>]
let ``iterations with many teachers are those of plain loops: chosen, corrected, flown by need, packed`` () =
    let spec = NetworkSpec.Mlp(26, [ 7 ], 4, Activation.Tanh)

    use teachers =
        new TeacherPolicies(
            [| for seed in 1..3 -> randomPolicy seed 0.5f spec "teacher" false |],
            [| 0; 1; 2; 1; 0 |]
        )

    for active, focus, rest, pack, batch, student, retention in
        [
            WorstActiveTeachers 2 :> ActiveTeachers,
            0.0,
            3,
            false,
            0,
            GruStudent(Hidden = 5) :> StudentConfig,
            NewestRollout() :> Retention
            BestActiveTeachers 3, 0.6, 0, true, 0, GruStudent(Hidden = 5), NewestRollout()
            RandomActiveTeachers 2, 0.0, 2, true, 4, LstmStudent(Hidden = 4), NewestRollout()
            AllActiveTeachers(), 1.0, 2, true, 3, GruStudent(Hidden = 5), FirstInFirstOut 900L
            WorstActiveTeachers 4,
            0.3,
            0,
            false,
            0,
            MlpStudent(Hidden = [ 8 ], ObservationGroup = "student"),
            Reservoir 700L
        ] do
        let config =
            DistillationConfig(
                Seed = 23UL,
                Environment =
                    QuadrotorConfig(
                        Envs = 33,
                        Drones = [| "crazyflie"; "x500_real"; "race"; "mrs"; "fs" |],
                        EpisodeLimit = 30
                    ),
                Student = student,
                Acting = TeacherUntil 1,
                ActiveTeachers = active,
                VariantFocus = focus,
                SteadyStateEpisodes = rest,
                Retention = retention,
                Collection = EpisodesPerEpoch(33, pack),
                GradientLength = 4,
                NumLearningEpochs = 2,
                NumMiniBatches = 3,
                MiniBatchSize = batch,
                Optimizer = optimizer
            )

        agreeAll $"{active}, {focus}, {rest}, {pack}, {student}" config teachers
