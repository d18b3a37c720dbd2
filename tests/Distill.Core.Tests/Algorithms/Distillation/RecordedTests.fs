/// Recorded data: in the dataset before a run begins, as the only data, and exported.
module Distill.Tests.RecordedTests

open System
open System.IO
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Recorded
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.DistillationTestbed
open Distill.Tests.Storage

let private envs, steps = 40, 25

type private Choices =
    {
        Student: StudentConfig
        Collection: Collection
        Seeds: string list
        Labels: SeedLabels
        Epochs: int
        Sequence: int
        HeldOut: float
        FailedWeight: float
        Retention: Retention
        Environment: IEnvironmentConfig
        Sampling: Sampling
        Stopping: int
        MiniBatch: int
    }

let private driven =
    {
        Student = MlpStudent(Hidden = [ 12 ], NormalizeObservations = true)
        Collection = StepsPerIteration steps
        Seeds = []
        Labels = SeedLabels.Recorded
        Epochs = 1
        Sequence = 0
        HeldOut = 0.0
        FailedWeight = 1.0
        Retention = FirstInFirstOut 100_000L
        Environment = CartPoleConfig(Envs = envs, EpisodeLimit = 12)
        Sampling = Permutation()
        Stopping = 0
        MiniBatch = 0
    }

let private recurrent = GruStudent(Hidden = 6, NormalizeObservations = true)

let private config (choices: Choices) =
    DistillationConfig(
        Seed = 9UL,
        Environment = choices.Environment,
        Student = choices.Student,
        Acting = TeacherAlways(),
        Retention = choices.Retention,
        Sampling = choices.Sampling,
        Loss = CrossEntropy(),
        Collection = choices.Collection,
        NumLearningEpochs = choices.Epochs,
        SequenceLength = choices.Sequence,
        HeldOut = choices.HeldOut,
        FailedWeight = choices.FailedWeight,
        EarlyStopping = choices.Stopping,
        MiniBatchSize = choices.MiniBatch,
        GradientLength = 10,
        SeedData = List.toArray choices.Seeds,
        SeedLabels = choices.Labels
    )

let private nobody (_: IBatchedEnvironment) : ITeacher = failwith "nobody labels"

let private start (choices: Choices) (pool: WorkerPool) =
    new Distillation(config choices, nobody, pool)

let private iterate (count: int) (distillation: Distillation) =
    [ for _ in 1..count -> distillation.Iterate() ]

/// Iterations in which a teacher may be asked, then the work.
let private run (choices: Choices) (threads: int) (iterations: int) (work: Distillation -> 'T) : 'T =
    use pool = new WorkerPool(threads)
    use teacher = cartPoleTeacher ()
    use distillation = new Distillation(config choices, teacher, pool)
    iterate iterations distillation |> ignore
    work distillation

/// Weights and statistics of the student.
let private learned (distillation: Distillation) =
    [|
        yield! distillation.Student.Network.Parameters.Span.ToArray()

        match distillation.Student.Normalizer with
        | null -> ()
        | normalizer ->
            yield! normalizer.Mean
            yield! normalizer.Variance
    |]

let private arraysOf (path: string) =
    Npz.Read path |> Seq.map (fun array -> array.Name, array) |> Map.ofSeq

/// The arrays of rows of one environment after another, `[envs * steps, size]`, as `[time, envs, size]`.
let private byTime (path: string) (target: string) =
    let rearranged (array: Tensor) =
        let values = array.ToFloats()
        let size = values.Length / (envs * steps)

        let ordered =
            [|
                for time in 0 .. steps - 1 do
                    for env in 0 .. envs - 1 do
                        yield! Array.sub values ((env * steps + time) * size) size
            |]

        match List.ofSeq array.Shape with
        | [ _ ] -> Tensor.OfFloats(array.Name, ReadOnlySpan ordered, steps, envs)
        | _ -> Tensor.OfFloats(array.Name, ReadOnlySpan ordered, steps, envs, size)

    Npz.Write(
        target,
        [
            for array in Npz.Read path do
                if array.Name <> "metadata" && not (array.Name = "held_out" || array.Name = "failed") then
                    rearranged array
        ]
    )

[<Fact>]
let ``a student from recorded rows alone is that of a teacher-driven run of the same rows, bit for bit`` () =
    inTemporaryFolder (fun folder ->
        for name, choices in
            [
                "dense", driven
                "recurrent", { driven with Student = recurrent }
                "sequences", { driven with Student = recurrent; Sequence = 5 }
                "by loss", { driven with Sampling = LossPrioritized(1.0, 0.1) }
            ] do
            let path = Path.Combine(folder, "rows.npz")

            let expected =
                run { choices with Epochs = 6 } 2 1 (fun distillation ->
                    distillation.ExportDataset path
                    learned distillation)

            let alone = { choices with Collection = SeedDataOnly steps; Seeds = [ path ] }

            // However its passes are cut into iterations.
            for epochs, iterations in [ 6, 1; 2, 3; 1, 6 ] do
                Paths.sameBits
                    (run { alone with Epochs = epochs } 1 iterations learned)
                    expected
                    $"{name}, {iterations} iterations"

            let changed = { alone with Seeds = [ path; path ]; Epochs = 6 }
            Expect.isTrue (run changed 2 1 learned <> expected) $"{name}: twice the rows do not matter")

[<Fact>]
let ``so is one from rows by time and environment, with episodes that are held out and that failed`` () =
    inTemporaryFolder (fun folder ->
        let rows, path =
            Path.Combine(folder, "rows.npz"), Path.Combine(folder, "by-time.npz")

        for name, student in [ "dense", driven.Student; "recurrent", recurrent ] do
            // The pole falls where nobody pushes well.
            let choices =
                { driven with
                    Student = student
                    HeldOut = 0.3
                    FailedWeight = 0.25
                    Environment = CartPoleConfig(Envs = envs, EpisodeLimit = 12)
                }

            let expected, losses =
                run { choices with Epochs = 3 } 2 1 (fun distillation ->
                    distillation.ExportDataset rows

                    learned distillation,
                    bytes distillation.Visit |> Array.filter (fun (name, _) -> name.Contains "chunk"))

            byTime rows path

            let alone =
                { choices with Collection = SeedDataOnly steps; Seeds = [ path ]; Epochs = 3 }

            let actual, blocks =
                run alone 2 1 (fun distillation ->
                    learned distillation,
                    bytes distillation.Visit |> Array.filter (fun (name, _) -> name.Contains "chunk"))

            sameState blocks losses name
            Paths.sameBits actual expected name)

/// Rows with a number that tells which they are.
let private writeRows (path: string) (first: int) (rows: int) (ends: int list) (others: Tensor list) =
    let flags = Array.init rows (fun row -> List.contains row ends)

    Npz.Write(
        path,
        [
            Tensor.OfFloats(
                "observations/student",
                ReadOnlySpan(Array.init (rows * 4) (fun i -> float32 (first * 4 + i))),
                rows,
                4
            )
            Tensor.OfIntegers(
                "actions",
                ReadOnlySpan(Array.init rows (fun row -> int64 ((first + row) % 2))),
                rows
            )
            Tensor.OfBools("terminated", ReadOnlySpan flags, rows)
        ]
        @ others
    )

[<Fact>]
let ``rows of several files and folders are exported as they came, with their weights and the ends of episodes``
    ()
    =
    inTemporaryFolder (fun folder ->
        let inner = Directory.CreateDirectory(Path.Combine(folder, "more")).FullName
        let one = Path.Combine(folder, "one.npz")
        writeRows one 0 70 [ 9; 33 ] []
        writeRows (Path.Combine(inner, "b.npz")) 170 30 [ 5 ] []
        let weights = Array.init 100 (fun i -> float32 (i % 3))

        writeRows
            (Path.Combine(inner, "a.npz"))
            70
            100
            []
            [ Tensor.OfFloats("weights", ReadOnlySpan weights, 100) ]

        for student, sequence in [ driven.Student, 0; recurrent, 10 ] do
            let choices =
                { driven with
                    Student = student
                    Sequence = sequence
                    Seeds = [ one; inner ]
                    Collection = SeedDataOnly 20
                    FailedWeight = 0.5
                }

            let target = Path.Combine(folder, "out.npz")

            let report, arrays =
                use pool = new WorkerPool(2)
                use distillation = start choices pool
                let report = distillation.Iterate()
                Expect.equal (distillation.Iterate().RowsAdded) 0L "rows of the second iteration"
                distillation.ExportDataset target
                nonNull report.Seed, arraysOf target

            Expect.equal (report.Files, report.Rows, report.Episodes) (3, 200L, 6L) "report"
            Expect.equal (arrays["observations/student"].ToFloats()) (Array.init 800 float32) "observations"

            Expect.equal
                (arrays["actions"].ToFloats())
                (Array.init 200 (fun row -> float32 (row % 2)))
                "actions"

            Expect.equal
                (arrays["weights"].ToFloats())
                [| yield! Array.create 70 1f; yield! weights; yield! Array.create 30 1f |]
                "weights"

            let marked (name: string) =
                arrays[name].ToFloats()
                |> Seq.indexed
                |> Seq.filter (fun (_, flag) -> flag = 1f)
                |> Seq.map fst
                |> Set.ofSeq

            Expect.equal (marked "terminated") (set [ 9; 33; 175 ]) "ends in a terminal state"
            Expect.equal (marked "truncated") (set [ 69; 169; 199 ]) "other ends"
            // Rows of an episode that failed, across the pieces that it was cut into.
            Expect.equal (marked "failed") (set [ 0..33 ] + set [ 170..175 ]) "failed")

[<Fact>]
let ``exported actions are what the teacher does, also where labels are distributions of what is squashed later``
    ()
    =
    inTemporaryFolder (fun folder ->
        use pool = new WorkerPool(1)

        let squashed (group: string) =
            MlpStudent(ObservationGroup = group, Hidden = [| 5 |], Head = Head.SquashedGaussian)

        use teacher =
            (squashed "teacher").Create(26, 4, Head.SquashedGaussian, RandomStream(1UL, "teacher"))

        use distillation =
            new Distillation(
                DistillationConfig(
                    Environment = Quadrotor.QuadrotorConfig(Envs = 32),
                    Student = squashed "student",
                    Acting = TeacherAlways(),
                    Loss = KullbackLeibler(),
                    Collection = StepsPerIteration 3
                ),
                teacher,
                pool
            )

        distillation.Iterate() |> ignore
        let target = Path.Combine(folder, "out.npz")
        distillation.ExportDataset target
        let arrays = arraysOf target
        let distributions = arrays["action_distributions"].ToFloats() |> Array.chunkBySize 8

        Expect.equal
            (arrays["actions"].ToFloats())
            (distributions |> Array.collect (Array.take 4 >> Array.map MathF.Tanh))
            "actions")

[<Fact>]
let ``episodes are held out as a whole, across the pieces that rows are cut into`` () =
    inTemporaryFolder (fun folder ->
        let path, target = Path.Combine(folder, "in.npz"), Path.Combine(folder, "out.npz")
        writeRows path 0 2000 [ 36..37..1999 ] []

        use pool = new WorkerPool(1)

        let choices =
            { driven with Seeds = [ path ]; Collection = SeedDataOnly 20; HeldOut = 0.4 }

        use distillation = start choices pool
        let report = distillation.Iterate()
        Expect.isTrue (report.HeldOutLoss.HasValue) "loss on what is held out"
        distillation.ExportDataset target

        let arrays = arraysOf target
        let flags = arrays["held_out"].ToFloats()
        let held = flags |> Array.chunkBySize 37 |> Array.map Array.distinct

        Expect.isTrue (held |> Array.forall (fun flags -> flags.Length = 1)) "parts of an episode differ"
        let share = held |> Array.averageBy (fun flags -> float flags[0])
        Expect.isTrue (share > 0.2 && share < 0.6) $"{share} of the episodes are held out")

[<Fact>]
let ``a row of weight 2 is two rows, and one of weight 0 is none`` () =
    inTemporaryFolder (fun folder ->
        let random = Random 4
        let rows = 64

        let observations =
            Array.init (rows * 4) (fun _ -> float32 (random.NextDouble() - 0.5))

        let actions = Array.init rows (fun _ -> int64 (random.Next 2))
        let weights = Array.init rows (fun _ -> random.Next 3)

        let write (name: string) (order: int[]) (weights: float32[]) =
            let path = Path.Combine(folder, name)

            Npz.Write(
                path,
                [
                    Tensor.OfFloats(
                        "observation",
                        ReadOnlySpan(order |> Array.collect (fun i -> observations[i * 4 .. i * 4 + 3])),
                        order.Length,
                        4
                    )
                    Tensor.OfIntegers(
                        "actions",
                        ReadOnlySpan(Array.map (fun i -> actions[i]) order),
                        order.Length
                    )
                    Tensor.OfFloats("weights", ReadOnlySpan weights, order.Length)
                ]
            )

            { driven with
                Student = MlpStudent(Hidden = [ 12 ])
                Seeds = [ path ]
                Collection = SeedDataOnly 8
            }

        let weighed =
            write "weighed.npz" [| 0 .. rows - 1 |] [| for w in weights -> float32 w |]

        let repeated =
            [|
                for i in 0 .. rows - 1 do
                    yield! Array.create weights[i] i
            |]

        let plain = write "repeated.npz" repeated (Array.create repeated.Length 1f)

        // One optimizer step over everything.
        let step (choices: Choices) =
            use pool = new WorkerPool(1)
            use distillation = start { choices with MiniBatch = 1000 } pool
            distillation.Iterate() |> ignore
            learned distillation |> Seq.map float

        Expect.closeAll 1e-5 (step weighed) (step plain) "parameters")

[<Fact>]
let ``a teacher labels recorded rows, with its memory running through every environment's rows in order`` () =
    inTemporaryFolder (fun folder ->
        let path, target = Path.Combine(folder, "in.npz"), Path.Combine(folder, "out.npz")
        let times, side, length = 31, 5, 7
        let random = Random 8

        let seen =
            Array.init (times * side * 4) (fun _ -> float32 (random.NextDouble() - 0.5))

        Npz.Write(
            path,
            [
                Tensor.OfFloats("observations/student", ReadOnlySpan seen, times, side, 4)
                Tensor.OfFloats("observations/state", ReadOnlySpan seen, times, side, 4)
                // Every seventh step ends all episodes.
                Tensor.OfBools(
                    "truncated",
                    ReadOnlySpan(Array.init (times * side) (fun row -> row / side % length = length - 1)),
                    times,
                    side
                )
            ]
        )

        use teacher =
            randomPolicy 3 0.9f (NetworkSpec.GruStack(4, 5, 5, 0, 2, Head.Categorical)) "state" false

        let choices =
            { driven with Seeds = [ path ]; Labels = SeedLabels.Teacher; Collection = SeedDataOnly 10 }

        use pool = new WorkerPool(2)
        use distillation = new Distillation(config choices, teacher, pool)
        distillation.Iterate() |> ignore
        distillation.ExportDataset target
        let arrays = arraysOf target
        let rows = arrays["observations/student"].ToFloats() |> Array.chunkBySize 4
        let actual = Array.zip rows (arrays["actions"].ToFloats()) |> dict
        Expect.equal actual.Count (times * side) "rows"

        // One environment after another, step by step.
        for env in 0 .. side - 1 do
            let memory = Array.zeroCreate<float32>(teacher.MemorySize * Panel.Width)
            let action = Array.zeroCreate<float32> Panel.Width

            for time in 0 .. times - 1 do
                if time % length = 0 then
                    Array.fill memory 0 memory.Length 0f

                let row = Array.sub seen ((time * side + env) * 4) 4
                let x = Array.init (4 * Panel.Width) (fun i -> row[i / Panel.Width])
                act teacher x memory action |> ignore
                let label = actual |> Seq.find (fun pair -> pair.Key = row)
                Expect.equal label.Value action[0] $"environment {env}, time {time}")

[<Fact>]
let ``recorded data give the same bits on any threads, and go on from a checkpoint before and after they were read``
    ()
    =
    inTemporaryFolder (fun folder ->
        let path, state =
            Path.Combine(folder, "rows.npz"), Path.Combine(folder, "state.safetensors")

        run { driven with FailedWeight = 0.5 } 1 1 (fun distillation -> distillation.ExportDataset path)

        for choices in
            [
                { driven with Student = recurrent; Seeds = [ path ]; Collection = SeedDataOnly steps }
                { driven with Seeds = [ path ]; HeldOut = 0.2; Stopping = 1; Retention = Reservoir 700L }
            ] do
            let expected = run choices 1 4 (fun distillation -> bytes distillation.Visit)
            sameState (run choices 3 4 (fun distillation -> bytes distillation.Visit)) expected "3 threads"

            for before in [ 0; 1; 3 ] do
                run choices 2 before (fun distillation -> save state distillation.Visit)

                let resumed =
                    run choices 2 0 (fun distillation ->
                        load state distillation.Visit
                        iterate (4 - before) distillation |> ignore
                        bytes distillation.Visit)

                sameState resumed expected $"after {before} iterations")

[<Fact>]
let ``damaged recorded data are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "rows.npz")
        let weights = Array.init 12 float32
        writeRows path 0 12 [ 5 ] [ Tensor.OfFloats("weights", ReadOnlySpan weights, 12) ]
        use pool = new WorkerPool(1)

        let read (path: string) =
            use distillation =
                start { driven with Seeds = [ path ]; Collection = SeedDataOnly 5 } pool

            distillation.Iterate() |> ignore

        read path
        survivesFlips 300 read path)
