/// A distillation on a GPU against the same one on the processor.
module Distill.Tests.CudaDistillationTests

open System
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Compute.Cuda
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Networks.Cuda
open Distill.Policies
open Distill.Storage
open Distill.Tests.CudaDriver
open Distill.Tests.DistillationTestbed

/// Flies the quadrotor somehow.
let private teacher head =
    randomPolicy 3 0.3f (NetworkSpec.Mlp(26, [ 12 ], 4, Activation.Tanh, head)) "teacher" true

let private rows (device: ComputeDevice) =
    DistillationConfig(
        Seed = 9UL,
        Device = device,
        Environment = QuadrotorConfig(Envs = 37, EpisodeLimit = 9),
        Student = MlpStudent(Hidden = [ 10; 7 ], NormalizeObservations = true),
        Acting = TeacherUntil 1,
        Retention = FirstInFirstOut 500L,
        Collection = StepsPerIteration 5,
        NumLearningEpochs = 2,
        MiniBatchSize = 100,
        Iterations = 4,
        GradientLength = 4
    )

let private sequences (device: ComputeDevice) =
    DistillationConfig(
        Seed = 4UL,
        Device = device,
        Environment = QuadrotorConfig(Envs = 35, EpisodeLimit = 7, Task = QuadrotorTask.FigureEight),
        Student = GruStudent(Hidden = 5, NormalizeObservations = true),
        Acting = Mixed 0.5,
        Retention = FirstInFirstOut 700L,
        Collection = StepsPerIteration 6,
        SequenceLength = 3,
        NumLearningEpochs = 2,
        MiniBatchSize = 30,
        Iterations = 4,
        GradientLength = 2
    )

let private start (config: DistillationConfig) (teacher: Policy) pool =
    new Distillation(config, teacher, pool)

let private metrics (report: IterationReport) =
    [ for metric in report.Metrics -> metric.Key, metric.Value ]

let private episodes (device: ComputeDevice) =
    DistillationConfig(
        Seed = 5UL,
        Device = device,
        Environment = QuadrotorConfig(EpisodeLimit = 7, Sampled = DroneSampling(Number = 3)),
        Student = MlpStudent(Hidden = [ 8 ], Activation = Activation.Relu),
        Loss = Huber 0.1,
        Acting = LinearBeta 2,
        Retention = NewestRollout(),
        Sampling = LossPrioritized(),
        Collection = EpisodesPerEpoch 34,
        Optimizer = AdamConfig(MaxGradNorm = 0.05, WeightDecay = 0.01),
        NumLearningEpochs = 2,
        MiniBatchSize = 50,
        Iterations = 3
    )

/// One of each processor: what a device must report as the processor does.
let private pairOf (config: ComputeDevice -> DistillationConfig) (start: DistillationConfig -> Distillation) =
    (device ()).Dispose()
    let theirs = start (config ComputeDevice.Cuda)
    Expect.isTrue (not (theirs.RunsOn.StartsWith "processor")) "the GPU computes"
    theirs, start (config ComputeDevice.Cpu)

let private pair config (teacher: Policy) pool =
    pairOf config (fun config -> start config teacher pool)

/// Runs one iteration of both and compares all that they report, and the students.
let private iterate (what: string) (theirs: Distillation, ours: Distillation) =
    let expected, actual = ours.Iterate(), theirs.Iterate()
    Expect.equal (metrics actual) (metrics expected) $"{what}, iteration {ours.Iteration}: metrics"

    Paths.sameBits
        (floats theirs.Student.Network.Parameters)
        (floats ours.Student.Network.Parameters)
        $"{what}, iteration {ours.Iteration}: student"

/// All iterations, and all that a checkpoint has after them.
let private alikeWith
    (what: string)
    (config: ComputeDevice -> DistillationConfig)
    (start: WorkerPool -> DistillationConfig -> Distillation)
    =
    use pool = new WorkerPool 2
    let theirs, ours = pairOf config (start pool)
    use theirs = theirs
    use ours = ours

    for _ in 1 .. ours.Config.Iterations do
        iterate what (theirs, ours)

    sameState (bytes theirs.Visit) (bytes ours.Visit) what

let private alike what config (teacher: Policy) =
    alikeWith what config (fun pool config -> start config teacher pool)

[<CudaFact>]
let ``a distillation on a GPU is that of the processor, to the last bit`` () =
    use plain = teacher Head.Plain
    alike "rows" rows plain

[<CudaFact>]
let ``with a recurrent student, too, through windows, sequences and their memories`` () =
    use gaussian = teacher Head.Gaussian
    alike "sequences" sequences gaussian

[<CudaFact>]
let ``with whole episodes of several drones, too, whose rows do not all count`` () =
    use plain = teacher Head.Plain
    alike "episodes" episodes plain

/// Five drones for three policies that normalize, wider than what a block of a product takes at once.
let private several head =
    let spec = NetworkSpec.Mlp(26, [ 70; 37 ], 4, Activation.Elu, head)

    new TeacherPolicies(
        [| for seed in 1..3 -> randomPolicy seed 0.2f spec "teacher" true |],
        [| 2; 0; 1; 1; 0 |]
    )

let private drones limit assignment =
    QuadrotorConfig(
        Envs = 35,
        EpisodeLimit = limit,
        Sampled = DroneSampling(Number = 5),
        DroneAssignment = assignment
    )

[<CudaFact>]
let ``with a teacher for each drone, too, whose episodes are packed and corrected as RAPTOR's are`` () =
    use teachers = several Head.Gaussian

    let raptor (pack: bool) device =
        DistillationConfig(
            Seed = 6UL,
            Device = device,
            Environment = drones 34 DroneAssignment.InTurn,
            Student = GruStudent(Hidden = 3),
            Acting = TeacherUntil 1,
            Retention = NewestRollout(),
            Collection = EpisodesPerEpoch(35, pack),
            SteadyStateEpisodes = 1,
            ActiveTeachers = RandomActiveTeachers 3,
            NumLearningEpochs = 1,
            // Three episodes may all have ended before the last windows.
            MiniBatchSize = Schedule.op_Implicit (if pack then 8 else 3),
            Iterations = 3,
            GradientLength = Schedule.op_Implicit (if pack then 34 else 10)
        )

    for pack in [ true; false ] do
        alikeWith $"packed: {pack}" (raptor pack) (fun pool config ->
            new Distillation(config, teachers, pool))

[<CudaFact>]
let ``drones that change from iteration to iteration have the same bits, and so has a sample of the data``
    ()
    =
    let changing reservoir device =
        DistillationConfig(
            Seed = 3UL,
            Device = device,
            Environment = drones 12 DroneAssignment.InBlocks,
            Student = MlpStudent(Hidden = [ 6 ], NormalizeObservations = true),
            Acting = Mixed 0.3,
            Retention =
                (if reservoir then
                     Reservoir 450L :> Retention
                 else
                     FirstInFirstOut 500L),
            Collection = EpisodesPerEpoch 35,
            VariantFocus = 0.7,
            SteadyStateEpisodes = 1,
            NumLearningEpochs = 1,
            MiniBatchSize = 200,
            Iterations = 4
        )

    use teachers = several Head.Plain
    alikeWith "several" (changing true) (fun pool config -> new Distillation(config, teachers, pool))
    use remembering = raptorTeacher ()
    alike "one that remembers" (changing false) remembering

[<CudaFact>]
let ``episodes that failed or are held out count as on the processor, and passes end as early`` () =
    use plain = teacher Head.Plain

    let weighed (recurrent: bool) (passes: Schedule) patience device =
        DistillationConfig(
            Seed = 8UL,
            Device = device,
            Environment = QuadrotorConfig(Envs = 24, EpisodeLimit = 50),
            Student =
                (if recurrent then
                     GruStudent(Hidden = 3) :> StudentConfig
                 else
                     MlpStudent(Hidden = [ 9 ], NormalizeObservations = true)),
            Acting = TeacherUntil 1,
            Retention = FirstInFirstOut 1200L,
            Sampling =
                (if recurrent then
                     Permutation() :> Sampling
                 else
                     LossPrioritized()),
            Collection = StepsPerIteration 30,
            SequenceLength = 15,
            FailedWeight = 0.3,
            HeldOut = 0.25,
            EarlyStopping = patience,
            Optimizer = AdamConfig(LearningRate = 0.02),
            NumLearningEpochs = passes,
            MiniBatchSize = Schedule.op_Implicit (if recurrent then 20 else 400),
            Iterations = 3,
            GradientLength = 15
        )

    alike "rows" (weighed false (Schedule.op_Implicit 2) 0) plain
    alike "early" (weighed false (Schedule.op_Implicit 6) 1) plain
    alike "sequences" (weighed true (Schedule.op_Implicit 4) 1) plain

[<CudaFact>]
let ``who explores, draws or is recorded does and is so with the bits of the processor`` () =
    let noisy device =
        DistillationConfig(
            Seed = 7UL,
            Device = device,
            Environment = drones 15 DroneAssignment.InTurn,
            Student = MlpStudent(Hidden = [ 6 ], Head = Head.Gaussian),
            Acting = LinearBeta 2,
            Retention = FirstInFirstOut 600L,
            Collection = StepsPerIteration 6,
            TeacherDeterministic = false,
            Exploration = Schedule.Linear(1.0, 0.0, 2),
            Recorded = [| "privileged"; "student_action" |],
            NumLearningEpochs = 1,
            MiniBatchSize = 100,
            Iterations = 3
        )

    use teachers = several Head.Gaussian
    alikeWith "several" noisy (fun pool config -> new Distillation(config, teachers, pool))
    use one = teacher Head.Gaussian
    alike "one" noisy one

[<CudaFact>]
let ``what begins with recorded rows, whose weights differ, has the same bits`` () =
    use plain = teacher Head.Plain

    Storage.inTemporaryFolder (fun folder ->
        let recorded = IO.Path.Combine(folder, "rows.npz")

        (use pool = new WorkerPool 1
         use distillation = start (rows ComputeDevice.Cpu) plain pool
         distillation.Iterate() |> ignore
         distillation.ExportDataset recorded)

        let held = List.ofSeq (Npz.Read recorded)

        let count =
            (held |> List.find (fun array -> array.Name = "rewards" || array.Name = "actions")).Shape[0]

        let weights =
            [| for row in 0 .. int count - 1 -> [| 1f; 0.3f; 0f; 1e-3f |][row % 4] |]

        Npz.Write(recorded, held @ [ Tensor.OfFloats("weights", ReadOnlySpan weights, int count) ])

        let seeded (recurrent: bool) device =
            DistillationConfig(
                Seed = 9UL,
                Device = device,
                Environment = QuadrotorConfig(Envs = 33, EpisodeLimit = 9),
                Student =
                    (if recurrent then
                         GruStudent(Hidden = 3, NormalizeObservations = true) :> StudentConfig
                     else
                         MlpStudent(Hidden = [ 7 ], NormalizeObservations = true)),
                Acting = TeacherUntil 1,
                Retention = FirstInFirstOut 400L,
                Collection =
                    (if recurrent then
                         EpisodesPerEpoch(33, true) :> Collection
                     else
                         StepsPerIteration 5),
                SeedData = [| recorded |],
                NumLearningEpochs = 1,
                MiniBatchSize = Schedule.op_Implicit (if recurrent then 20 else 100),
                Iterations = 3,
                GradientLength = 9
            )

        for recurrent in [ false; true ] do
            alike $"recurrent: {recurrent}" (seeded recurrent) plain)

[<CudaFact>]
let ``a dataset of several chunks has the same bits, and so has a teacher that remembers`` () =
    use remembering = raptorTeacher ()

    let many device =
        DistillationConfig(
            Seed = 2UL,
            Device = device,
            Environment = QuadrotorConfig(Envs = 70, EpisodeLimit = 20),
            Student = MlpStudent(Hidden = [ 3 ]),
            Acting = LinearBeta 9,
            Collection = StepsPerIteration 6,
            Sampling = InOrder(),
            NumLearningEpochs = 1,
            MiniBatchSize = 3000,
            Iterations = 11
        )

    alike "chunks" many remembering

[<CudaFact>]
let ``what was begun on a GPU goes on on the processor, and the other way round`` () =
    use plain = teacher Head.Plain
    use pool = new WorkerPool 1

    for what, config in [ "rows", rows; "sequences", sequences ] do
        let began, reference = pair config plain pool
        use began = began
        use reference = reference

        for _ in 1..2 do
            began.Iterate() |> ignore
            reference.Iterate() |> ignore

        let folder = IO.Directory.CreateTempSubdirectory("distill-cuda-resume-").FullName

        try
            let onGpu, onProcessor =
                IO.Path.Combine(folder, "gpu"), IO.Path.Combine(folder, "cpu")

            save onGpu began.Visit
            save onProcessor reference.Visit
            // A walk that saves leaves all as it was.
            iterate what (began, reference)
            let theirs, ours = pair config plain pool
            use theirs = theirs
            use ours = ours
            load onProcessor theirs.Visit
            load onGpu ours.Visit

            for _ in 3 .. ours.Config.Iterations do
                iterate what (theirs, ours)

            reference.Iterate() |> ignore
            sameState (bytes theirs.Visit) (bytes reference.Visit) $"{what}, from the processor"
            sameState (bytes ours.Visit) (bytes reference.Visit) $"{what}, from the GPU"
        finally
            IO.Directory.Delete(folder, true)

[<CudaFact>]
let ``nothing but marks, metrics and orders crosses the bus`` () =
    (device ()).Dispose()
    use plain = teacher Head.Plain
    use pool = new WorkerPool 1
    let config = rows ComputeDevice.Cuda
    let teachers = TeacherPolicies.Of(plain, config.Environment.Spec)

    use engine =
        new CudaEngine(config, (fun environment -> (teachers :> ITeachers).Teach environment), pool)

    /// Bytes and launches of a phase.
    let cost (phase: unit -> unit) =
        let bus, launches = engine.Device.BusBytes, engine.Device.Launches
        phase ()
        engine.Device.BusBytes - bus, engine.Device.Launches - launches

    let envs, steps, observation = 37L, 5L, 22L
    let held = envs * steps

    let collect () = cost (fun () -> engine.Collect(0.5, 0))

    // Of every row reward and mark, of every environment what was not finite; and of what a step consists.
    let brought = held * 8L + envs * 12L
    let bytes, launches = collect ()
    Expect.equal launches 1L "all steps are one kernel"
    Expect.isTrue (bytes > brought && bytes < brought + 4096L) $"{bytes} bytes"
    // Each step observes, normalizes and runs both networks, chooses, flies and takes.
    engine.Device.JoinsSteps <- false
    Expect.equal (collect ()) (brought, steps * ((2L + 2L) + (2L + 3L) + 3L)) "collecting"

    // The moments, and what the student is normalized with.
    Expect.equal (cost engine.Add) (observation * (2L * 8L + 2L * 4L), 3L) "adding"
    let parameters = int64 engine.Student.Network.Parameters.Length
    let batches = 2L * ((held + 99L) / 100L)

    // The order of each pass with what differs from mini-batch to mini-batch, then the losses of segments and mini-batches, the student,
    // Adam's moments and its progress.
    let bytes =
        2L * held * 4L + batches * (12L + 8L) + held * 4L + batches * 8L + parameters * 12L + 2L * 24L

    // A mini-batch is gathered, goes forward and backward, and is a step.
    let kernels = 1L + 3L + 3L + (2L + 2L * 3L + 2L) + 4L
    Expect.equal batches 4L "every other mini-batch is not full"
    Expect.equal (cost (fun () -> engine.Train 0 |> ignore)) (bytes, 2L * (1L + kernels)) "training"
    engine.Device.MakesGraphs <- false

    Expect.equal
        (cost (fun () -> engine.Train 1 |> ignore))
        (bytes, batches * kernels)
        "training, kernel by kernel"

[<CudaFact>]
let ``mini-batches that are graphs have the bits of kernels that are started one by one`` () =
    (device ()).Dispose()
    use plain = teacher Head.Plain
    use pool = new WorkerPool 1

    for what, config in [ "rows", rows; "sequences", sequences ] do
        let config = config ComputeDevice.Cuda
        let teachers = TeacherPolicies.Of(plain, config.Environment.Spec)

        let student (graphs: bool) =
            use engine =
                new CudaEngine(config, (fun environment -> (teachers :> ITeachers).Teach environment), pool)

            engine.Device.MakesGraphs <- graphs

            for iteration in 0..2 do
                engine.Collect(0.5, iteration)
                engine.Add()
                engine.Train iteration |> ignore

            floats engine.Student.Network.Parameters, engine.Device.Launches

        let (graphs, few), (kernels, many) = student true, student false
        Paths.sameBits graphs kernels what
        Expect.isTrue (few < many) $"{what}: {few} launches instead of {many}"

[<CudaFact>]
let ``steps that are one kernel have the bits of steps of many`` () =
    (device ()).Dispose()
    use plain = teacher Head.Gaussian
    use pool = new WorkerPool 1

    for what, config in [ "rows", rows; "sequences", sequences; "episodes", episodes ] do
        let config = config ComputeDevice.Cuda
        let teachers = TeacherPolicies.Of(plain, config.Environment.Spec)

        let engine joins =
            let engine =
                new CudaEngine(config, (fun environment -> (teachers :> ITeachers).Teach environment), pool)

            engine.Device.JoinsSteps <- joins
            engine

        use joined = engine true
        use single = engine false

        for iteration in 0..2 do
            let losses =
                [
                    for engine in [ joined; single ] do
                        engine.Collect(0.5, iteration)
                        engine.Add()
                        engine.Train iteration
                ]

            Expect.equal losses[0] losses[1] $"{what}, iteration {iteration}: losses"

            Paths.sameBits
                (floats joined.Student.Network.Parameters)
                (floats single.Student.Network.Parameters)
                $"{what}, iteration {iteration}: student"

        Expect.isTrue (joined.Device.Launches < single.Device.Launches) $"{what}: launches"

[<CudaFact>]
let ``what is not finite is said as on the processor`` () =
    use plain = teacher Head.Plain
    use pool = new WorkerPool 1

    let said (config: ComputeDevice -> DistillationConfig) (teacher: Policy) =
        let theirs, ours = pair config teacher pool
        use theirs = theirs
        use ours = ours

        let sentence (distillation: Distillation) =
            (Expect.throws<DistillException>(fun () ->
                for _ in 1..3 do
                    distillation.Iterate() |> ignore))
                .Message

        let expected = sentence ours
        Expect.equal (sentence theirs) expected "sentence"

        Paths.sameBits
            (floats theirs.Student.Network.Parameters)
            (floats ours.Student.Network.Parameters)
            expected

        expected

    use broken = teacher Head.Plain
    broken.Network.Parameters.Span[3] <- nanf

    said rows broken
    |> Storage.contains "Iteration 1: the teacher's action of environment 0 is NaN at step 0"

    // Where and when a factor leads beyond all numbers depends on what is flown.
    for factor in [ 3e37f; 1e38f; 3e38f ] do
        use huge =
            new Policy(NetworkSpec.Mlp(26, [], 4, Activation.Relu, Head.Plain), "teacher")

        huge.Network.Parameters.Span[12] <- factor
        said rows huge |> Storage.contains "must be finite"

    // Steps so large that what the student gives, or its square, is beyond all numbers.
    for rate in [ 1e22; 1e30 ] do
        let wild device =
            DistillationConfig(
                Seed = 9UL,
                Device = device,
                Environment = QuadrotorConfig(Envs = 37, EpisodeLimit = 9),
                Student = MlpStudent(Hidden = [ 10 ], Activation = Activation.Relu),
                Acting = TeacherAlways(),
                Collection = StepsPerIteration 5,
                NumLearningEpochs = 3,
                MiniBatchSize = 100,
                Optimizer = AdamConfig(LearningRate = rate)
            )

        said wild plain |> Storage.contains "lower the learning rate"

[<CudaFact>]
let ``what does not run on a GPU yet is refused in a sentence, and auto takes the processor`` () =
    (device ()).Dispose()
    use plain = teacher Head.Plain
    use pool = new WorkerPool 1

    let config device (sampling: Sampling) =
        DistillationConfig(
            Device = device,
            Environment = QuadrotorConfig(Envs = 32),
            Student = MlpStudent(),
            Collection = StepsPerIteration 5,
            Sampling = sampling
        )

    let refused (config: DistillationConfig) (teacher: Policy) =
        (Expect.throws<DistillException>(fun () -> (start config teacher pool).Dispose())).Message

    let sentence =
        "device=cuda cannot train an ensemble (sampling) yet; use device=cpu."

    Expect.equal (refused (config ComputeDevice.Cuda (DisagreementPrioritized())) plain) sentence "sampling"
    use auto = start (config ComputeDevice.Auto (DisagreementPrioritized())) plain pool
    Expect.equal auto.RunsOn $"processor ({sentence})" "a processor"
    use possible = start (config ComputeDevice.Auto (Permutation())) plain pool
    Expect.isTrue (not (possible.RunsOn.StartsWith "processor")) "a GPU"

    use cart = cartPoleTeacher ()

    Expect.equal
        (refused
            (DistillationConfig(
                Device = ComputeDevice.Cuda,
                Environment = CartPoleConfig(),
                Student = MlpStudent(),
                Loss = CrossEntropy()
            ))
            cart)
        "device=cuda cannot fly anything but quadrotors (environment) yet; use device=cpu."
        "environment"

    let refusedTeachers (policies: Policy array) =
        let teachers = new TeacherPolicies(policies, [| 0 |])

        (Expect.throws<DistillException>(fun () ->
            (new Distillation(config ComputeDevice.Cuda (Permutation()), teachers, pool)).Dispose()))
            .Message

    use other = randomPolicy 3 0.3f (NetworkSpec.Mlp(26, [ 8 ], 4)) "teacher" false

    Expect.equal
        (refusedTeachers [| plain; other |])
        "device=cuda cannot run these teachers yet: they must have the same layers and read the same observation group; use device=cpu."
        "teachers that differ"

    use remembering = raptorTeacher ()

    Expect.equal
        (refusedTeachers [| remembering; remembering |])
        "device=cuda cannot run several teachers that remember yet; use device=cpu."
        "teachers with memory"

[<EmulatorFact>]
let ``a dataset that will not fit the GPU is refused before anything begins, and what would fit is named``
    ()
    =
    (device ()).Dispose()
    use plain = teacher Head.Plain
    use pool = new WorkerPool 1

    let config rows device =
        DistillationConfig(
            Device = device,
            Environment = QuadrotorConfig(Envs = 32),
            Student = MlpStudent(Hidden = [ 8 ]),
            Collection = StepsPerIteration 5,
            Retention = FirstInFirstOut rows,
            MiniBatchSize = 64
        )

    let limited (rows: int64) =
        emulating "memory" (16L <<< 20) (8L <<< 30) (fun () ->
            use distillation = start (config rows ComputeDevice.Auto) plain pool
            distillation.RunsOn)

    let refused = limited 1_000_000L
    // 22 + 4 numbers and a mark a row, with its place in an order and its loss.
    refused |> Storage.contains "The distillation would take 11"
    refused |> Storage.contains "MiB of the GPU's memory but emulated device has 1"

    let fits =
        (Text.RegularExpressions.Regex.Match(refused, "max_buffer_size=([0-9]+) would fit")).Groups[1].Value
        |> int64

    Expect.isTrue (fits > 100_000L && fits < 145_000L) $"{fits} rows fit"
    Expect.isTrue (not ((limited fits).StartsWith "processor")) "they do"
    Expect.isTrue ((limited (fits + 20L)).StartsWith "processor") "no more do"

/// The argument of note_losses.
[<Struct>]
type private NoteArguments =
    {
        Losses: nativeint
        Weights: CudaPanels
        Places: nativeint
        Turns: CudaTurns
        SegmentLosses: nativeint
        Noted: nativeint
        Segments: int
        Steps: int
        Terms: int
        IsFirst: int
        IsLast: int
    }

[<CudaFact>]
let ``the losses of a segment are added up from a window's last step to its first`` () =
    use device = device ()
    let steps, lanes, segments = 5, 16, 3
    // From the last to the first 1e16 swallows what comes before -1e16; the other way round it would be something else.
    let ofSteps = [| 3.0; -1e16; 1.0; 1e16; 2.0 |]
    use losses = new CudaBuffer<double>(device, int64 (steps * lanes), "losses")

    losses.Write(
        ReadOnlySpan
            [|
                for loss in ofSteps do
                    yield! Array.create lanes loss
            |]
    )

    use weights = new CudaBuffer<float32>(device, int64 (steps * lanes), "weights")
    weights.Write(ReadOnlySpan(Array.create (steps * lanes) 1f))
    use places = new CudaBuffer<int>(device, int64 segments, "places")
    places.Write(ReadOnlySpan [| 2; 0; 1 |])
    // One that begins with the first place, and the number of that one.
    use turns = new CudaBuffer<int>(device, 4L, "turns")
    use sums = new CudaBuffer<double>(device, int64 (2 * lanes), "sums")
    use noted = new CudaBuffer<float32>(device, int64 segments, "losses")

    let arguments =
        {
            Losses = losses.Address
            Weights = CudaPanels.Of(weights, 1, lanes)
            Places = places.Address
            Turns = CudaTurns(turns.Address, turns.Address)
            SegmentLosses = sums.Address
            Noted = noted.Address
            Segments = segments
            Steps = steps
            Terms = 1
            IsFirst = 1
            IsLast = 1
        }

    device.Kernel<NoteArguments>("note_losses").Start(&arguments, int64 segments)
    let result = Array.zeroCreate<float32> segments
    noted.Read(Span result)
    let sum = Array.foldBack (fun loss sum -> sum + loss) ofSteps 0.0
    Expect.isTrue (sum <> Array.fold (+) 0.0 ofSteps) "the order matters"
    Expect.equal result (Array.create segments (float32 (sum / 5.0))) "losses"
