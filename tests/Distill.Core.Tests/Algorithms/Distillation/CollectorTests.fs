/// What a collection records, against a replay of the recorded rows and against what the environment was asked to do.
module Distill.Tests.CollectorTests

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
open Distill.Tests.DistillationTestbed

let private acting = RandomStream(3UL, "acting")

/// What a rollout holds, taken out before the next collection overwrites it.
type private Recorded =
    {
        Student: float32[]
        Teacher: float32[]
        TeacherActions: float32[]
        StudentActions: float32[]
        Rewards: float32[]
        Memory: float32[]
        Ends: byte[]
        Valid: byte[]
        Starts: byte[]
    }

let private take teacherGroup (rollout: Rollout) =
    {
        Student = readColumn rollout "observation"
        Teacher = readColumn rollout teacherGroup
        TeacherActions = readColumn rollout "label"
        StudentActions = readColumn rollout RolloutCollector.StudentAction
        Rewards = floats rollout.Rewards
        Memory = floats rollout.Memory
        Ends = Array.copy rollout.Ends
        Valid = Array.copy rollout.Valid
        Starts = Array.copy rollout.EpisodeStart
    }

type private Setting =
    {
        Make: unit -> IBatchedEnvironment
        Teacher: unit -> Policy
        TeacherNoise: Nullable<RandomStream>
        Student: unit -> Policy
        Steps: int
    }

let private cartPole limit =
    {
        Make = fun () -> CartPoleConfig(EpisodeLimit = limit).Create(40, 7UL)
        Teacher = cartPoleTeacher
        TeacherNoise = Nullable()
        Student =
            fun () ->
                randomPolicy
                    1
                    0.5f
                    (NetworkSpec.Mlp(4, [ 8 ], 2, Activation.Elu, Head.Categorical))
                    "student"
                    true
        Steps = 33
    }

/// Both have a memory, and actions that always differ.
let private quadrotor =
    {
        Make = fun () -> QuadrotorConfig(EpisodeLimit = 25).Create(40, 7UL)
        Teacher = raptorTeacher
        TeacherNoise = Nullable()
        Student = fun () -> randomPolicy 2 0.3f (NetworkSpec.GruStack(22, 8, 6, 0, 4)) "student" false
        Steps = 17
    }

/// Teacher and student read different groups.
let private views =
    { quadrotor with
        Teacher = fun () -> randomPolicy 3 0.3f (NetworkSpec.Mlp(26, [ 8 ], 4, Activation.Elu)) "teacher" true
        Student =
            fun () -> randomPolicy 4 0.3f (NetworkSpec.Mlp(22, [ 8 ], 4, Activation.Elu)) "tracking" false
    }

/// The teacher's actions are drawn: a standard deviation of 0.2, 0.4, 0.6 and 0.8.
let private drawn =
    { views with
        Teacher =
            fun () ->
                let teacher =
                    randomPolicy
                        3
                        0.3f
                        (NetworkSpec.Mlp(26, [ 8 ], 4, Activation.Elu, Head.Gaussian))
                        "teacher"
                        true

                for i in 0..3 do
                    teacher.Network["log_std"][i] <- log (0.2f * float32 (i + 1))

                teacher
        TeacherNoise = Nullable(RandomStream(3UL, "teacher"))
    }

/// Everything that can be recorded.
let private recording (student: Policy) (teacher: Policy) actions =
    Columns
        [|
            struct ("observation", student.Network.Spec.Inputs)
            struct ("label", actions)
            struct (teacher.ObservationGroup, teacher.Network.Spec.Inputs)
            struct (RolloutCollector.StudentAction, actions)
        |]

/// Collects once for each share; the environment's log covers all collections.
let private collect setting whole threads (shares: float list) =
    use pool = new WorkerPool(threads)
    let environment = new Recording(setting.Make())
    let spec = (environment :> IBatchedEnvironment).Spec
    use teacher = setting.Teacher()
    use student = setting.Student()

    use rollout =
        new Rollout(40, setting.Steps, recording student teacher spec.Actions.Floats, student.MemorySize)

    use collector =
        new RolloutCollector(
            environment,
            new PolicyTeacher([| teacher |], environment, noise = setting.TeacherNoise),
            student,
            rollout,
            acting,
            whole,
            pool
        )

    let recorded =
        [
            for share in shares do
                collector.Collect share
                take teacher.ObservationGroup rollout
        ]

    (environment :> IDisposable).Dispose()
    recorded, environment.Log

/// Feeds recorded observations to a policy; memory as given, cleared where an episode starts. Advances the memory.
let replay (policy: Policy) steps (observations: float32[]) (starts: byte[]) (memory: float32[][]) =
    let inputs, size = policy.Network.Spec.Inputs, policy.ActionFloats
    let actions = Array.zeroCreate<float32>(starts.Length * size)
    let action = Array.zeroCreate<float32>(size * Panel.Width)

    for panel in 0 .. Panel.Count memory.Length - 1 do
        let lanes = min Panel.Width (memory.Length - panel * Panel.Width)
        let carried = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)

        for lane in 0 .. lanes - 1 do
            memory[panel * Panel.Width + lane]
            |> Array.iteri (fun i v -> carried[i * Panel.Width + lane] <- v)

        for step in 0 .. steps - 1 do
            let row lane =
                (panel * Panel.Width + lane) * steps + step

            for lane in 0 .. lanes - 1 do
                if starts[row lane] <> 0uy then
                    for i in 0 .. policy.MemorySize - 1 do
                        carried[i * Panel.Width + lane] <- 0f

            let x =
                Array.init (inputs * Panel.Width) (fun i ->
                    let lane = i % Panel.Width

                    if lane < lanes then
                        observations[row lane * inputs + i / Panel.Width]
                    else
                        0f)

            act policy x carried action |> ignore

            for lane in 0 .. lanes - 1 do
                for i in 0 .. size - 1 do
                    actions[row lane * size + i] <- action[i * Panel.Width + lane]

        for lane in 0 .. lanes - 1 do
            memory[panel * Panel.Width + lane] <-
                Array.init policy.MemorySize (fun i -> carried[i * Panel.Width + lane])

    actions

[<Fact>]
let ``labels are the teacher's actions on the recorded observations, its memory surviving from one collection to the next``
    ()
    =
    for setting in [ cartPole 20; quadrotor; views ] do
        let recorded, _ = collect setting false 2 [ 0.0; 0.3; 1.0 ]
        use teacher = setting.Teacher()
        let memory = Array.init 40 (fun _ -> Array.zeroCreate<float32> teacher.MemorySize)

        for number, part in List.indexed recorded do
            let expected = replay teacher setting.Steps part.Teacher part.Starts memory
            Paths.sameBits part.TeacherActions expected $"collection {number}"

[<Fact>]
let ``recorded observations are the environment's, of each policy's own group`` () =
    for setting in [ quadrotor; views ] do
        let recorded, log = collect setting false 1 [ 1.0; 0.0 ]
        use environment = setting.Make()
        use teacher = setting.Teacher()
        use student = setting.Student()

        for panel in 0..1 do
            environment.Reset panel

            for number, part in List.indexed recorded do
                for step in 0 .. setting.Steps - 1 do
                    for policy, values in [ teacher, part.Teacher; student, part.Student ] do
                        let size = policy.Network.Spec.Inputs
                        let x = Array.zeroCreate<float32>(size * Panel.Width)
                        environment.Observe(panel, environment.Spec.Group policy.ObservationGroup, x)

                        for lane in 0 .. min Panel.Width (40 - panel * Panel.Width) - 1 do
                            let row = (panel * Panel.Width + lane) * setting.Steps + step
                            let expected = Array.init size (fun i -> x[i * Panel.Width + lane])
                            Paths.sameBits (Array.sub values (row * size) size) expected $"row {row}"

                    let scrap () = Array.zeroCreate<float32> Panel.Width
                    let passed = log[panel].[number * setting.Steps + step]
                    environment.Step(panel, passed.Actions, scrap (), scrap (), scrap ())

[<Fact>]
let ``the student's actions follow from the recorded memory, observations and episode starts`` () =
    for setting in [ cartPole 20; quadrotor; views ] do
        let recorded, _ = collect setting false 2 [ 0.0; 0.3; 1.0 ]
        use student = setting.Student()
        let mutable carried: float32[][] option = None

        for number, part in List.indexed recorded do
            let memory =
                Array.init 40 (fun env -> Array.sub part.Memory (env * student.MemorySize) student.MemorySize)

            // What is recorded is what the last collection ended with, cleared where an episode starts.
            match carried with
            | None -> Expect.isTrue (Array.forall (Array.forall ((=) 0f)) memory) "memory at the start"
            | Some before ->
                for env in 0..39 do
                    let expected =
                        if part.Starts[env * setting.Steps] <> 0uy then
                            Array.zeroCreate student.MemorySize
                        else
                            before[env]

                    Paths.sameBits memory[env] expected $"collection {number}, memory of environment {env}"

            let expected = replay student setting.Steps part.Student part.Starts memory
            Paths.sameBits part.StudentActions expected $"collection {number}"
            carried <- Some memory

/// (environment, step in the log) of all real lanes.
let private logged (log: ResizeArray<Passed>[]) =
    [ for env in 0..39 -> env, log[env / Panel.Width] ]

[<Fact>]
let ``the executed action is the student's at share 0, the teacher's at 1, and drawn per environment and step between``
    ()
    =
    let steps = quadrotor.Steps
    let shares = [ 0.0; 0.3; 1.0; 0.3; 0.3; 0.3 ]
    let recorded, log = collect quadrotor false 2 shares
    let mutable byTeacher, mixed = 0, 0

    for number, (share, part) in List.indexed (List.zip shares recorded) do
        for env, entries in logged log do
            for step in 0 .. steps - 1 do
                let actions = entries[number * steps + step].Actions
                let executed = Array.init 4 (fun i -> actions[i * Panel.Width + env % Panel.Width])

                let of' (values: float32[]) =
                    Array.sub values ((env * steps + step) * 4) 4

                let isTeacher = executed = of' part.TeacherActions
                Expect.isTrue (isTeacher || executed = of' part.StudentActions) "an action of nobody"

                // A function of environment and step alone, whatever the number of the collection.
                let expected =
                    float (acting.Uniform(uint32 env, uint32 (number * steps + step))) < share

                Expect.equal isTeacher expected $"share {share}, environment {env}, step {step}"

                if share = 0.3 then
                    mixed <- mixed + 1
                    byTeacher <- byTeacher + (if isTeacher then 1 else 0)

    let deviation = sqrt (float mixed * 0.3 * 0.7)
    Expect.close (4.0 * deviation) (float byTeacher) (0.3 * float mixed) "steps that the teacher drove"

[<Fact>]
let ``rewards, ends and starts are the environment's`` () =
    for setting in [ cartPole 20; quadrotor; views ] do
        let recorded, log = collect setting false 2 [ 0.0; 0.5; 0.0 ]
        let seen = Collections.Generic.HashSet<byte>()

        for env, entries in logged log do
            let mutable starts = true

            for number, part in List.indexed recorded do
                for step in 0 .. setting.Steps - 1 do
                    let row = env * setting.Steps + step
                    let passed = entries[number * setting.Steps + step]
                    let lane = env % Panel.Width
                    let what = $"environment {env}, collection {number}, step {step}"
                    Expect.equal part.Rewards[row] passed.Reward[lane] $"{what}: reward"
                    Expect.equal (part.Starts[row] = 1uy) starts $"{what}: start"
                    Expect.equal part.Valid[row] 1uy $"{what}: valid"

                    let ending =
                        if passed.Terminated[lane] <> 0f then EpisodeEnd.Terminated
                        elif passed.Truncated[lane] <> 0f then EpisodeEnd.Truncated
                        else EpisodeEnd.None

                    Expect.equal part.Ends[row] ending $"{what}: end"
                    starts <- ending <> EpisodeEnd.None
                    seen.Add ending |> ignore

        Expect.isTrue (seen.Count >= 2) "no episode ended"

[<Fact>]
let ``whole episodes start anew, and rows after their end are not valid`` () =
    for setting in [ { cartPole 33 with Steps = 33 }; { quadrotor with Steps = 25 } ] do
        let recorded, log = collect setting true 2 [ 0.0; 1.0 ]
        let mutable masked = 0

        for number, part in List.indexed recorded do
            Expect.isTrue (Array.forall ((=) 0f) part.Memory) "memory at the start of an episode"

            for env, entries in logged log do
                let mutable alive = true

                for step in 0 .. setting.Steps - 1 do
                    let row = env * setting.Steps + step
                    let passed = entries[number * setting.Steps + step]
                    let lane = env % Panel.Width
                    Expect.equal (part.Valid[row] = 1uy) alive $"environment {env}, step {step}: valid"
                    masked <- masked + (if alive then 0 else 1)
                    alive <- alive && passed.Terminated[lane] = 0f && passed.Truncated[lane] = 0f

                Expect.equal part.Starts[env * setting.Steps] 1uy $"environment {env}: start"
                // The limit of the episode is the length of the rollout.
                Expect.isTrue (not alive) $"environment {env}: its episode did not end"

        Expect.isTrue (setting.Steps = 25 || masked > 100) $"only {masked} rows were masked"

[<Fact>]
let ``the number of threads does not matter`` () =
    for setting in [ quadrotor; drawn ] do
        let one, _ = collect setting false 1 [ 0.3; 0.3 ]
        let three, _ = collect setting false 3 [ 0.3; 0.3 ]
        Expect.isTrue (one = three) "threads"

[<Fact>]
let ``a teacher that is not deterministic draws its actions, and what is executed is the label`` () =
    let recorded, log = collect drawn false 1 [ 1.0; 1.0 ]
    use teacher = drawn.Teacher()
    let rows = 40 * drawn.Steps
    let deviations = Array.init 4 (fun _ -> ResizeArray<float>())

    for part in recorded do
        let means =
            replay teacher drawn.Steps part.Teacher part.Starts (Array.create 40 [||])

        for i in 0 .. rows * 4 - 1 do
            deviations[i % 4].Add(float (part.TeacherActions[i] - means[i]) / (0.2 * float (i % 4 + 1)))

    // Limits: six standard errors.
    let error = 1.0 / sqrt (float (2 * rows))

    for drawn in deviations do
        Expect.close (6.0 * error) (Seq.average drawn) 0.0 "mean of the draws"
        Expect.close (6.0 * sqrt 2.0 * error) (drawn |> Seq.averageBy (fun d -> d * d)) 1.0 "their variance"

    let all = Seq.concat deviations |> Seq.distinct |> Seq.length
    Expect.isTrue (all > 2 * rows * 4 * 99 / 100) "draws repeat"

    for number, part in List.indexed recorded do
        for env in 0..39 do
            for step in 0 .. drawn.Steps - 1 do
                let executed = log[env / Panel.Width].[number * drawn.Steps + step].Actions

                for i in 0..3 do
                    Expect.equal
                        executed[i * Panel.Width + env % Panel.Width]
                        part.TeacherActions[(env * drawn.Steps + step) * 4 + i]
                        $"environment {env}, step {step}"

[<Fact>]
let ``a teacher without a distribution cannot draw its actions`` () =
    let refused =
        Expect.throws<DistillException>(fun () ->
            collect { views with TeacherNoise = drawn.TeacherNoise } false 1 [ 1.0 ] |> ignore)

    Assert.Contains("teacher_deterministic=true", refused.Message)

[<Fact>]
let ``the memory recorded before each sequence makes the student act as it did`` () =
    use pool = new WorkerPool(2)
    use environment = quadrotor.Make()
    use teacher = quadrotor.Teacher()
    use student = quadrotor.Student()
    let size = student.MemorySize

    // Episodes of 25 steps, so that most sequences begin inside one.
    use rollout = new Rollout(40, 18, recording student teacher 4, size, 6)

    use collector =
        new RolloutCollector(
            environment,
            new PolicyTeacher([| teacher |], environment),
            student,
            rollout,
            acting,
            false,
            pool
        )

    for _ in 1..2 do
        collector.Collect 0.5
        let memory = rollout.Memory.Span.ToArray() |> Array.chunkBySize size
        Expect.equal memory.Length (40 * 3) "records of memory"

        let expected =
            replay student 6 (readColumn rollout "observation") rollout.EpisodeStart memory

        Paths.sameBits
            (readColumn rollout RolloutCollector.StudentAction)
            expected
            "student actions, sequence by sequence"
