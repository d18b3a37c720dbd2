/// Teachers that are no single policy: the environments themselves, several that an observation group chooses from, functions.
module Distill.Tests.TeachersTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Xunit

/// A cart on a rail that is pushed by a force, or to the left or right. Beside its state it shows what an expert would do, which is as
/// simple as to be exact in single precision: push against the place, or against the velocity, as a number says that each episode draws.
/// `broken` is what becomes of the numbers that an expert gives: group, environment's place, number.
let private rail (discrete: bool) (broken: string -> float -> float -> float) =
    let groups: (string * int * (float[] -> float[])) list =
        let expert (state: float[]) =
            if state[2] = 0.0 then -0.5 * state[0] else -state[1]

        let choice state = if expert state > 0.0 then 1.0 else 0.0

        [
            "teacher", 2, (fun state -> state[..1])
            "student", 2, (fun state -> state[..1])
            "index", 1, (fun state -> [| state[2] |])
            "expert", 1, (fun state -> [| (if discrete then choice else expert) state |])
            "probabilities",
            2,
            (fun state ->
                [| 0.5 + 0.4 * (0.5 - choice state) * 2.0; 0.5 - 0.4 * (0.5 - choice state) * 2.0 |])
            "three", 3, (fun _ -> Array.zeroCreate 3)
        ]

    { new ISingleEnvironment with
        member _.Spec =
            EnvironmentSpec(
                "rail",
                [|
                    for name, size, _ in groups do
                        ObservationGroup(name, [| ObservationComponent(name, size) |])
                |],
                ActionSpace((if discrete then 2 else 1), discrete),
                9,
                0.1
            )

        member _.StateSize = 3

        member _.Reset(random, state) =
            state[0] <- random.Uniform(-1.0, 1.0)
            state[1] <- random.Uniform(-1.0, 1.0)
            state[2] <- if random.Uniform(0.0, 1.0) < 0.5 then 0.0 else 1.0

        member _.Step(random, state, action) =
            let push =
                if discrete then
                    2.0 * action[0] - 1.0
                else
                    max -1.0 (min 1.0 action[0])

            state[1] <- state[1] + 0.25 * push + random.Normal(0.0, 0.05)
            state[0] <- state[0] + 0.25 * state[1]
            struct (1.0 - abs state[0], abs state[0] > 1.5)

        member _.Observe(group, state, observation) =
            let name, _, see = groups[group]

            for i, value in Seq.indexed (see state) do
                observation[i] <- broken name state[0] value
    }

let private config (single: ISingleEnvironment) =
    { new IEnvironmentConfig with
        member _.Envs = 64
        member _.Spec = PerEnvironment.CheckedSpec(single, 64)

        member _.Create(envs, seed) = new PerEnvironment(single, envs, seed)
    }

let private sound _ _ (value: float) = value

/// The policy that pushes against the place, or that against the velocity.
let private pusher (discrete: bool) (index: int) =
    let policy =
        new Policy(
            NetworkSpec.Mlp(
                2,
                [],
                (if discrete then 2 else 1),
                Activation.Elu,
                if discrete then Head.Categorical else Head.Plain
            ),
            "teacher"
        )

    fill policy.Network.Parameters (fun _ -> 0f)
    let against = if index = 0 then -0.5f else -1f

    if discrete then
        policy.Network.Parameters.Span[index] <- -against
        policy.Network.Parameters.Span[2 + index] <- against
    else
        policy.Network.Parameters.Span[index] <- against

    policy

let private settingsWith
    (loss: Loss)
    deterministic
    (student: StudentConfig)
    (environment: IEnvironmentConfig)
    =
    DistillationConfig(
        Environment = environment,
        Student = student,
        Acting = LinearBeta 3,
        Loss = loss,
        TeacherDeterministic = deterministic,
        Collection = StepsPerIteration 8,
        NumLearningEpochs = 2,
        Seed = 4UL
    )

let private lossOf discrete : Loss =
    if discrete then CrossEntropy() else MeanSquared()

let private settings (discrete: bool) = settingsWith (lossOf discrete) true

let private students: StudentConfig list =
    [ MlpStudent(Hidden = [ 4 ]); GruStudent(Hidden = 3) ]

/// Everything after some iterations.
let private trained (config: DistillationConfig) (teachers: ITeachers) threads =
    use pool = new WorkerPool(threads)
    use distillation = new Distillation(config, teachers, pool)

    for _ in 1..4 do
        distillation.Iterate() |> ignore

    // A teacher's memory is its own.
    bytes distillation.Visit |> Array.filter (fun (name, _) -> not (name.Contains "teacher_memory"))

let private chosen discrete (environment: IEnvironmentConfig) =
    TeacherPolicies.Choosing([| pusher discrete 0; pusher discrete 1 |], environment.Spec, "index")

let private byFunction discrete : ITeachers =
    let expert (seen: float[]) (action: float[]) =
        let push = if seen[2] = 0.0 then -0.5 * seen[0] else -seen[1]
        action[0] <- if discrete then (if push > 0.0 then 1.0 else 0.0) else push

    new FunctionTeachers("teacher+index", expert)

[<Fact>]
let ``an expert in the environment, policies that a group chooses from and a function that does the same give the same student``
    ()
    =
    for discrete in [ false; true ] do
        for student in students do
            let environment = config (rail discrete sound)
            let settings = settings discrete student environment
            use several = chosen discrete environment
            let expected = trained settings several 1
            let what = $"discrete {discrete}, {student.GetType().Name}"

            for threads in [ 1; 3 ] do
                let same (teachers: ITeachers) name =
                    sameState
                        (trained settings teachers threads)
                        expected
                        $"{what}, {name}, {threads} threads"

                same several "policies"
                same (new EnvironmentTeachers("expert")) "the environment"

                same (byFunction discrete) "a function"

                if discrete then
                    same (new EnvironmentTeachers("probabilities")) "probabilities"

            // Who is asked matters.
            use first = TeacherPolicies.Of(pusher discrete 0, environment.Spec)
            let other = trained settings first 1

            Expect.isTrue
                (Seq.exists2 (fun (_, a) (_, b) -> a <> b) other expected)
                $"{what}: one policy alone"

[<Fact>]
let ``one of the policies everywhere is that policy alone, and experts fly as policies do`` () =
    for discrete in [ false; true ] do
        let only value =
            config (rail discrete (fun group _ number -> if group = "index" then value else number))

        for index in [ 0; 1 ] do
            let environment = only (float index)
            use several = chosen discrete environment
            use alone = TeacherPolicies.Of(pusher discrete index, environment.Spec)
            let settings = settings discrete students.Head environment
            sameState (trained settings several 2) (trained settings alone 2) $"policy {index}"

        let environment = config (rail discrete sound)
        use pool = new WorkerPool(2)
        use evaluator = new Evaluator(environment, 70, 3UL, pool)
        use several = chosen discrete environment

        let returns (teachers: ITeachers) =
            let result = evaluator.Run teachers
            result.Returns, result.Lengths

        let expected = returns several
        Expect.equal (returns (new EnvironmentTeachers("expert"))) expected "the environment flies"

        Expect.equal (returns (byFunction discrete)) expected "a function flies"

/// An environment whose groups are arrays of a test: it does not move.
let private still (group: string) (observation: unit -> float32[]) (size: int) (choices: int) =
    let groups =
        [|
            ObservationGroup("teacher", [| ObservationComponent("x", 2) |])
            ObservationGroup(group, [| ObservationComponent("y", size) |])
        |]

    { new IBatchedEnvironment with
        member _.Spec =
            EnvironmentSpec(
                "still",
                groups,
                (if choices > 0 then
                     ActionSpace(choices, Discrete = true)
                 else
                     ActionSpace(1, Discrete = false)),
                100,
                0.1
            )

        member _.Count = 32
        member _.Reset _ = ()

        member _.Observe(_, which, target) =
            if which = 1 then
                observation().AsSpan().CopyTo target
            else
                for i in 0 .. target.Length - 1 do
                    target[i] <- float32 (i % 7) / 7f

        member _.Step(_, _, _) = ()
        member _.Rewind() = ()
        member _.Visit _ = ()
        member _.Dispose() = ()
    }

let private everywhere = Array.create Panel.Width 1uy

/// Actions and outputs of one step.
let private ask (teacher: ITeacher) step =
    use own = new Workspace()
    let watch = FiniteWatch Panel.Width
    let action = Array.zeroCreate<float32> Panel.Width
    let outputs = Array.zeroCreate<float32>(teacher.Outputs * Panel.Width)

    let fine =
        teacher.Act(
            0,
            step,
            int64 step,
            Panel(Span action, 1),
            Panel(Span outputs, teacher.Outputs),
            watch,
            ReadOnlySpan everywhere,
            own
        )

    watch.Check()
    Expect.isTrue fine "is fine"
    action, outputs

[<Fact>]
let ``a chosen policy with memory remembers the steps since it was chosen, whatever others do beside it`` () =
    let spec = NetworkSpec.GruStack(2, 4, 3, 0, 1)
    let policies = [| for seed in 1..3 -> randomPolicy seed 1f spec "teacher" false |]
    let random = Random 5
    let mutable index = Array.zeroCreate<float32> Panel.Width
    use environment = still "index" (fun () -> index) 1 0

    let teacher () =
        new PolicyTeacher(policies, environment, chosenBy = "index")

    let mutable asked = teacher ()
    let x = Array.zeroCreate<float32>(2 * Panel.Width)
    environment.Observe(0, 0, Span x)
    let size = policies[0].MemorySize
    // Of every lane alone: what it remembers, and of which policy.
    let memories =
        Array.init Panel.Width (fun _ -> Array.zeroCreate<float32>(size * Panel.Width))

    let mutable before = Array.create Panel.Width -1f

    for step in 0..29 do
        index <-
            Array.init Panel.Width (fun lane ->
                if random.Next 3 = 0 then
                    float32 (random.Next 3)
                else
                    index[lane])

        if step % 7 = 3 then
            // An episode starts in every other lane.
            let keep = Array.init Panel.Width (fun lane -> float32 (lane % 2))
            asked.Forget(0, ReadOnlySpan keep)

            for lane in 0..2..31 do
                Array.Clear memories[lane]

        let action, _ = ask asked step

        for lane in 0 .. Panel.Width - 1 do
            if index[lane] <> before[lane] then
                Array.Clear memories[lane]

            let expected = Array.zeroCreate<float32> Panel.Width
            act policies[int index[lane]] x memories[lane] expected |> ignore
            Expect.equal action[lane] expected[lane] $"step {step}, lane {lane}"

        before <- index

        if step = 12 then
            let saved = Blocks.read asked.Visit
            asked <- teacher ()
            Blocks.write saved asked.Visit

[<Fact>]
let ``probabilities are given as their logarithms, the likeliest choice is the action, or one is drawn`` () =
    let numbers = [| 0.7f; 0.2f; 0.1f |]

    let rows =
        Array.init (3 * Panel.Width) (fun i ->
            let choice, lane = i / Panel.Width, i % Panel.Width

            if lane = 5 then
                (if choice = 2 then 1f else 0f)
            else
                numbers[(choice + lane) % 3])

    use environment = still "expert" (fun () -> rows) 3 3
    use teacher = (new EnvironmentTeachers("expert")).Teach environment
    Expect.equal teacher.Outputs 3 "outputs"
    let action, outputs = ask teacher 0

    for lane in 0 .. Panel.Width - 1 do
        let best = if lane = 5 then 2 else (3 - lane % 3) % 3
        Expect.equal action[lane] (float32 best) "the likeliest"

        for choice in 0..2 do
            let i = choice * Panel.Width + lane
            Expect.close 1e-6 (exp (float outputs[i])) (float rows[i]) "logarithm"
            Expect.isTrue (Single.IsFinite outputs[i]) "finite"

    use drawing =
        (new EnvironmentTeachers("expert")).Teach(environment, RandomStream(1UL, "draw"))

    let drawn = [| for step in 1..500 -> fst (ask drawing step) |]

    let share lane choice =
        float (drawn |> Seq.filter (fun actions -> actions[lane] = choice) |> Seq.length) / 500.0

    Expect.close 0.07 (share 0 0f) 0.7 "drawn"
    Expect.close 0.07 (share 1 0f) 0.2 "drawn"
    Expect.equal (share 5 2f) 1.0 "certain"

[<Fact>]
let ``a student learns the distribution that an expert in the environment gives`` () =
    let environment = config (rail true sound)

    let config =
        DistillationConfig(
            Environment = environment,
            Student = MlpStudent(Hidden = [ 8 ]),
            Acting = TeacherAlways(),
            Loss = KullbackLeibler(),
            Optimizer = AdamConfig(LearningRate = 0.02),
            Collection = StepsPerIteration 20
        )

    use pool = new WorkerPool(1)

    use distillation =
        new Distillation(config, new EnvironmentTeachers("probabilities"), pool)

    let first = distillation.Iterate().Loss
    let last = List.last [ for _ in 1..25 -> distillation.Iterate().Loss ]
    Expect.isTrue (last < 0.6 * first) $"from {first} to {last} nats"

[<Fact>]
let ``what an expert gives and cannot be stops with environment, step and what it must be`` () =
    // Where the cart of one environment is at some time, so that the fault comes in the midst of an episode.
    let broken group value =
        fun name place number -> if name = group && place > 1.2 then value number else number

    for discrete, group, value, said in
        [
            false, "expert", (fun _ -> nan), "the expert's action of environment"
            false, "expert", (fun _ -> infinity), "must be finite"
            true, "expert", (fun _ -> 2.0), "is 2 at step"
            true, "expert", (fun _ -> 0.5), "it must be a whole number from 0 to 1"
            true, "expert", (fun _ -> -1.0), "is -1 at step"
            true, "probabilities", (fun number -> number + 0.01), "as a sum of probabilities of environment"
            true, "probabilities", (fun number -> number - 0.2), "it must be at least 0"
            true, "probabilities", (fun _ -> nan), "must be finite"
        ] do
        let environment = config (rail discrete (broken group value))
        let settings = settings discrete students.Head environment
        let teachers = new EnvironmentTeachers(group)

        for threads in [ 1; 3 ] do
            let message =
                (Expect.throws<DistillException>(fun () -> trained settings teachers threads |> ignore))
                    .Message

            Storage.contains said message
            Storage.contains ": the expert's action" message

    for value, said in
        [ 2.0, "is 2 at step 0; it must be a whole number from 0 to 1."; 0.25, "is 0.25 at step 0" ] do
        let environment =
            config (
                rail false (fun group place number ->
                    if group = "index" && place > 0.9 then value else number)
            )

        use several = chosen false environment

        let message =
            (Expect.throws<DistillException>(fun () ->
                trained (settings false students.Head environment) several 2 |> ignore))
                .Message

        Storage.contains "the index of the teacher of environment" message
        Storage.contains said message

    let environment = config (rail true sound)
    let wrong = new FunctionTeachers("teacher", (fun _ action -> action[0] <- 3.0))

    (Expect.throws<DistillException>(fun () ->
        trained (settings true students.Head environment) wrong 1 |> ignore))
        .Message
    |> Storage.contains
        "the teacher's action of environment 0 is 3 at step 0; it must be a whole number from 0 to 1."

[<Fact>]
let ``what does not fit together is refused before anything runs`` () =
    let refusedWith loss deterministic (group: string) discrete (teachers: ITeachers) =
        let student = MlpStudent(Hidden = [ 4 ], ObservationGroup = group)

        let settings =
            settingsWith loss deterministic student (config (rail discrete sound))

        (Expect.throws<DistillException>(fun () -> trained settings teachers 1 |> ignore)).Message

    let reading group discrete =
        refusedWith (lossOf discrete) true group discrete

    let refused = reading "student"

    let drawing discrete =
        refusedWith (lossOf discrete) false "student" discrete

    let environment (group: string) : ITeachers = new EnvironmentTeachers(group)
    let spec = (config (rail false sound)).Spec

    for message, said in
        [
            refused false (environment "sonar"), "has no observation group 'sonar'"
            refused false (environment "three"),
            "has 3 numbers, so it cannot carry an expert's action: that is 1 numbers."
            refused true (environment "three"),
            "1 number, the index of a choice, or 2, a probability for each"
            reading "student+expert" false (environment "expert"),
            "The student reads 'student+expert', but the observation group 'expert' carries its teacher's action"
            reading "expert" false (environment "expert"), "The student reads 'expert'"
            drawing false (environment "expert"), "teacher_deterministic=false cannot work with this teacher"
            drawing true (environment "expert"), "gives actions, not a distribution"
            refusedWith (KullbackLeibler()) true "student" true (environment "expert"),
            "the teacher has no distribution over actions"
            refused false (TeacherPolicies.Choosing([| pusher false 0 |], spec, "teacher")),
            "has 2 numbers; one that chooses a teacher has 1, its index."
        ] do
        Storage.contains said message
