/// Distillation from many teachers, each for its own variant of the environment.
module Distill.Tests.ManyTeachersTests

open System
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.CollectorTests
open Distill.Tests.DistillationTestbed

let private drones = [| "crazyflie"; "x500_real"; "race"; "mrs"; "fs" |]

let private envs = 75

let private environment (assignment: DroneAssignment) : IEnvironmentConfig =
    QuadrotorConfig(Envs = envs, Drones = drones, EpisodeLimit = 25, DroneAssignment = assignment)

let private mlp = NetworkSpec.Mlp(26, [ 8; 8 ], 4, Activation.Tanh)

/// A teacher for each drone, the last two the same.
let private teachers (spec: NetworkSpec) normalize =
    new TeacherPolicies(
        [| for seed in 1..4 -> randomPolicy seed 0.4f spec "teacher" normalize |],
        [| 0; 1; 2; 3; 3 |]
    )

/// The labels of the teachers, what they read, and which rows count.
let private collect assignment (set: TeacherPolicies) steps whole share threads =
    use pool = new WorkerPool(threads)
    use environment = (environment assignment).Create(envs, 7UL)

    use student =
        randomPolicy 9 0.3f (NetworkSpec.GruStack(22, 8, 6, 0, 4)) "student" false

    use rollout =
        new Rollout(
            envs,
            steps,
            Columns [| struct ("observation", 22); struct ("label", 4); struct ("teacher", 26) |],
            student.MemorySize
        )

    use collector =
        new RolloutCollector(
            environment,
            set.Teach environment,
            student,
            rollout,
            RandomStream(3UL, "acting"),
            whole,
            pool
        )

    [
        for _ in 1..2 do
            collector.Collect share

            readColumn rollout "label",
            readColumn rollout "teacher",
            Array.copy rollout.EpisodeStart,
            Array.copy rollout.Valid
    ],
    [| for env in 0 .. envs - 1 -> set.OfVariant[environment.VariantOf env] |]

let private ofValid (valid: byte[]) (labels: float32[]) =
    labels |> Array.mapi (fun i v -> if valid[i / 4] = 0uy then 0f else v)

[<Fact>]
let ``each environment's labels are its own teacher's, whoever drives, however drones are spread`` () =
    for spec, normalize in [ mlp, true; NetworkSpec.GruStack(26, 8, 6, 0, 4), false ] do
        use set = teachers spec normalize

        for assignment in Enum.GetValues<DroneAssignment>() do
            for share, whole, steps in
                [ 0.0, true, 25; 0.0, false, 40; 0.0, false, 64; 0.5, false, 40; 1.0, true, 25 ] do
                let what = $"{spec}, {assignment}, {share}, {steps}"
                let rollouts, policyOf = collect assignment set steps whole share 1

                let mutable memories =
                    [|
                        for policy in set.Policies ->
                            Array.init envs (fun _ -> Array.zeroCreate<float32> policy.MemorySize)
                    |]

                for labels, read, starts, valid in rollouts do
                    let single =
                        [|
                            for i, policy in Seq.indexed set.Policies ->
                                replay policy steps read starts memories[i]
                        |]

                    let expected =
                        Array.init labels.Length (fun i -> single[policyOf[i / 4 / steps]][i])

                    Paths.sameBits (ofValid valid labels) (ofValid valid expected) what
                    Expect.isTrue (Array.contains 1uy valid) what

                for threads in [ 2; 4 ] do
                    Expect.isTrue
                        (fst (collect assignment set steps whole share threads) = rollouts)
                        $"{what}: {threads} threads"

                for path in Paths.all do
                    Expect.isTrue
                        (Paths.on path (fun () -> fst (collect assignment set steps whole share 2)) = rollouts)
                        $"{what}: {path}"

/// Distillations that use all there is for variants.
let private configs =
    let quadrotors assignment =
        QuadrotorConfig(Envs = 40, Drones = drones, EpisodeLimit = 25, DroneAssignment = assignment)

    let common =
        DistillationConfig(
            Seed = 5UL,
            Environment = quadrotors DroneAssignment.InTurn,
            Student = GruStudent(Hidden = 6),
            Acting = TeacherUntil 1,
            Retention = NewestRollout(),
            NumLearningEpochs = 1,
            GradientLength = 25
        )

    [
        "on-policy, the worst, packed",
        DistillationConfig(
            Seed = common.Seed,
            Environment = common.Environment,
            Student = common.Student,
            Acting = common.Acting,
            Retention = common.Retention,
            NumLearningEpochs = 1,
            GradientLength = 25,
            Collection = EpisodesPerEpoch(45, true),
            MiniBatchSize = 4,
            ActiveTeachers = WorstActiveTeachers 3,
            SteadyStateEpisodes = 2
        ),
        true
        "aggregated, by loss, in blocks",
        DistillationConfig(
            Seed = common.Seed,
            Environment = quadrotors DroneAssignment.InBlocks,
            Student = common.Student,
            Acting = LinearBeta 3,
            Retention = FirstInFirstOut 3000L,
            Sampling = LossPrioritized(),
            Collection = StepsPerIteration 40,
            ActiveTeachers = RandomActiveTeachers 4,
            GradientLength = 10
        ),
        true
        "flown by need, by age",
        DistillationConfig(
            Seed = common.Seed,
            Environment = quadrotors DroneAssignment.InPanels,
            Student = common.Student,
            Acting = TeacherUntil 1,
            Retention = Reservoir 2000L,
            Sampling = RecencyWeighted 0.1,
            Collection = EpisodesPerEpoch 45,
            VariantFocus = Schedule.Linear(0.2, 0.9, 5),
            SteadyStateEpisodes = 2,
            GradientLength = 10
        ),
        // Which teacher is whose is found anew in every iteration.
        false
    ]

let private start (config: DistillationConfig) (spec: NetworkSpec) (pool: WorkerPool) =
    let set = teachers spec false
    set, new Distillation(config, set, pool)

let private iterate (count: int) (distillation: Distillation) =
    for _ in 1..count do
        distillation.Iterate() |> ignore

[<Fact>]
let ``distillations from many teachers have the same bits on 1, 2 and 4 threads and on every path`` () =
    for name, config, _ in configs do
        for spec in [ mlp; NetworkSpec.GruStack(26, 8, 6, 0, 4) ] do
            let run threads =
                use pool = new WorkerPool(threads)
                let set, distillation = start config spec pool
                use _ = set
                use distillation = distillation
                iterate 4 distillation
                bytes distillation.Visit

            let expected = run 1

            for threads in [ 2; 4 ] do
                sameState (run threads) expected $"{name}: {threads} threads"

            for path in Paths.all.Tail do
                sameState (Paths.on path (fun () -> run 2)) expected $"{name}: {path}"

[<Fact>]
let ``distillations from many teachers go on from a state as if nothing had happened`` () =
    Storage.inTemporaryFolder (fun folder ->
        for name, config, _ in configs do
            for spec, at in [ mlp, 1; NetworkSpec.GruStack(26, 8, 6, 0, 4), 2; mlp, 3 ] do
                let path = IO.Path.Combine(folder, "state.safetensors")
                use pool = new WorkerPool(2)
                let set, undisturbed = start config spec pool
                use _ = set
                use undisturbed = undisturbed
                iterate at undisturbed
                save path undisturbed.Visit
                iterate 3 undisturbed
                let other, resumed = start config spec pool
                use _ = other
                use resumed = resumed
                load path resumed.Visit
                iterate 3 resumed
                sameState (bytes resumed.Visit) (bytes undisturbed.Visit) $"{name}, after {at}")

[<Fact>]
let ``after warm-up an iteration with many teachers allocates its report and no more`` () =
    for name, config, lean in configs do
        if lean then
            use pool = new WorkerPool(1)
            let set, distillation = start config mlp pool
            use _ = set
            use distillation = distillation
            iterate 6 distillation
            let before = GC.GetAllocatedBytesForCurrentThread()
            distillation.Iterate() |> ignore
            let allocated = GC.GetAllocatedBytesForCurrentThread() - before
            Expect.isTrue (allocated < 768L) $"{name}: {allocated} bytes"

[<Fact>]
let ``of variants that are not chosen no row is trained on, from the first iteration that the student drives``
    ()
    =
    let config =
        DistillationConfig(
            Environment = QuadrotorConfig(Drones = drones, EpisodeLimit = 25),
            Student = GruStudent(Hidden = 6),
            Acting = TeacherUntil 2,
            Retention = NewestRollout(),
            Collection = EpisodesPerEpoch 50,
            ActiveTeachers = BestActiveTeachers 2
        )

    use pool = new WorkerPool(2)
    let set, distillation = start config mlp pool
    use _ = set
    use distillation = distillation
    let reports = [ for _ in 1..4 -> distillation.Iterate() ]
    let rows = 50L * 25L

    Expect.equal
        [ for report in reports -> report.DatasetRows ]
        [ rows; rows; rows * 2L / 5L; rows * 2L / 5L ]
        "rows"

    Expect.equal
        [ for report in reports -> report.RowsAdded ]
        [ rows; rows; rows * 2L / 5L; rows * 2L / 5L ]
        "added"

    Expect.equal [ for report in reports -> report.Variants.HasValue ] [ false; false; true; true ] "returns"

[<Fact>]
let ``packed episodes are all their valid rows and no other, in whole mini-batches`` () =
    let random = Random 4
    use rollout = new Rollout(7, 10, columns 2 1, 3)
    let lengths = [| 10; 3; 1; 7; 10; 2; 5 |]
    writeColumn rollout "observation" float32

    for env in 0..6 do
        for step in 0..9 do
            rollout.Valid[env * 10 + step] <- if step < lengths[env] then 1uy else 0uy
            rollout.EpisodeStart[env * 10 + step] <- if step = 0 then 1uy else 0uy

    rollout.Kept[4] <- 0uy
    fill rollout.Memory (fun _ -> float32 (random.NextDouble()))
    let packing = EpisodePacking(rollout, RandomStream(1UL, "packing"))
    packing.Begin 3L
    Expect.equal packing.Rows 28 "rows"

    use dataset =
        new AggregatedDataset(columns 2 1, 10, 3, 70L, NewestRollout(), RandomStream(1UL, "retention"))

    // Memory that an earlier rollout leaves behind.
    dataset.Add rollout
    dataset.Add(rollout, packing, 2)
    let order = Array.zeroCreate<int> 7
    RandomStream(1UL, "packing").Permutation(Span order, 3u)

    let expected =
        [|
            for env in order do
                if env <> 4 then
                    for step in 0 .. lengths[env] - 1 ->
                        float32 (2 * (env * 10 + step)), (if step = 0 then 0f else 1f)
        |]

    let held = contentOf dataset 2 1 3 |> Array.map snd
    Expect.equal held.Length 2 "sequences"

    for i in 0..1 do
        Expect.equal (Array.sub held[i] 0 3) [| 0f; 0f; 0f |] "memory"

        let rows =
            held[i][3..] |> Array.chunkBySize 5 |> Array.map (fun row -> row[0], row[4])

        Expect.equal rows (Array.sub expected (10 * i) 10) $"sequence {i}"

[<Fact>]
let ``what cannot be chosen, focused or corrected is refused by one sentence`` () =
    let refused part (config: DistillationConfig) =
        use pool = new WorkerPool(1)
        use set = teachers mlp false
        use balance = cartPoleTeacher ()

        let make () =
            if config.Environment :? QuadrotorConfig then
                new Distillation(config, set, pool)
            else
                new Distillation(config, balance, pool)

        let message =
            (Expect.throws<DistillException>(fun () -> (make ()).Dispose())).Message

        Storage.contains part message
        Expect.isTrue (message.EndsWith '.' && not (message.Contains '\n')) $"not one sentence: {message}"

    let quadrotors = QuadrotorConfig(Drones = drones)
    let pole = CartPole.CartPoleConfig()
    let mlp: StudentConfig = MlpStudent()

    refused
        "variant_focus=0.5 cannot work where episodes go on"
        (DistillationConfig(Environment = quadrotors, VariantFocus = 0.5))

    refused "variant_focus=2 cannot work" (DistillationConfig(Environment = quadrotors, VariantFocus = 2.0))

    refused
        "number=0 cannot work"
        (DistillationConfig(Environment = quadrotors, ActiveTeachers = BestActiveTeachers 0))

    refused
        "are all alike"
        (DistillationConfig(
            Environment = pole,
            Student = mlp,
            Loss = CrossEntropy(),
            ActiveTeachers = BestActiveTeachers 1
        ))

    refused
        "has no tasks that come to rest"
        (DistillationConfig(Environment = pole, Student = mlp, Loss = CrossEntropy(), SteadyStateEpisodes = 1))

    refused
        "steady_state_episodes=-1 "
        (DistillationConfig(Environment = quadrotors, SteadyStateEpisodes = -1))

[<Fact>]
let ``a label that is not finite is reported with its environment and step, whenever it is computed`` () =
    use set = teachers mlp false
    set.Policies[2].Network.Parameters.Span[ 3 ] <- nanf
    use pool = new WorkerPool(2)

    for acting in [ StudentAlways() :> Acting; TeacherAlways() ] do
        let config =
            DistillationConfig(
                Environment = environment DroneAssignment.InTurn,
                Student = GruStudent(Hidden = 6),
                Acting = acting,
                Collection = StepsPerIteration 20
            )

        use distillation = new Distillation(config, set, pool)

        (Expect.throws<DistillException>(fun () -> distillation.Iterate() |> ignore)).Message
        |> Storage.contains "Iteration 1: the teacher's action of environment 2 is NaN at step 0"
