/// The first number that is not finite stops a run with a sentence, and what does not count reaches nothing.
module Distill.Tests.FiniteTests

open System
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Xunit

/// What an environment does to the numbers it gives: panel, steps so far, whose episode has ended since the last reset
/// (lane by lane), the name of the quantity, and the numbers.
type private Change = delegate of int * int * bool[] * string * Span<float32> -> unit

type private Changing(inner: IBatchedEnvironment, change: Change) =
    let steps = Array.zeroCreate<int>(Panel.Count inner.Count)
    let ended = steps |> Array.map (fun _ -> Array.create Panel.Width false)

    interface IBatchedEnvironment with
        member _.Spec = inner.Spec
        member _.Count = inner.Count

        member _.Reset panel =
            inner.Reset panel
            Array.fill ended[panel] 0 Panel.Width false

        member _.Observe(panel, group, observation) =
            inner.Observe(panel, group, observation)
            change.Invoke(panel, steps[panel], ended[panel], inner.Spec.Groups[group].Name, observation)

        member _.Step(panel, actions, outcome) =
            inner.Step(panel, actions, outcome)
            change.Invoke(panel, steps[panel], ended[panel], "reward", outcome.Reward)
            steps[panel] <- steps[panel] + 1

            for lane in 0 .. Panel.Width - 1 do
                ended[panel][lane] <-
                    ended[panel][lane] || outcome.Terminated[lane] + outcome.Truncated[lane] > 0f

        member _.Rewind() = inner.Rewind()
        member _.Visit state = inner.Visit state
        member _.Dispose() = inner.Dispose()

let private changing (inner: IEnvironmentConfig) (change: Change) =
    { new IEnvironmentConfig with
        member _.Envs = inner.Envs
        member _.Spec = inner.Spec

        member _.Create(envs, seed) =
            new Changing(inner.Create(envs, seed), change)
    }

/// One environment gives one number that is not finite, from a step on; another one later.
let private broken (inner: IEnvironmentConfig) quantity environment step value =
    changing
        inner
        (Change(fun panel now _ name values ->
            if name = quantity && panel = environment / 32 && now >= step then
                values[environment % 32] <- value

            if name = quantity && panel = 0 && now > step then
                values[1] <- value))

let private distillation (environment: IEnvironmentConfig) collection student loss acting =
    DistillationConfig(
        Seed = 3UL,
        Environment = environment,
        Student = student,
        Acting = acting,
        Loss = loss,
        Collection = collection,
        NumLearningEpochs = 1,
        SequenceLength = 10,
        Sampling = Datasets.Permutation()
    )

let private poles = CartPoleConfig(Envs = 70, EpisodeLimit = 30)

let private mlp: StudentConfig =
    MlpStudent(Hidden = [ 8 ], NormalizeObservations = true)

/// The sentence that ends a run, on any number of threads the same, and the iterations completed before.
let private sentence
    (start: WorkerPool -> IDisposable)
    (iterate: IDisposable -> unit)
    (visit: IDisposable -> int)
    =
    let run threads =
        use pool = new WorkerPool(threads)
        use training = start pool

        let refusal =
            Expect.throws<DistillException>(fun () ->
                for _ in 1..10 do
                    iterate training)

        refusal.Message, visit training

    let expected = run 1
    Expect.equal (run 3) expected "3 threads"
    expected

let private distils environment student =
    use teacher = cartPoleTeacher ()

    sentence
        (fun pool ->
            new Distillation(
                distillation environment (StepsPerIteration 10) student (CrossEntropy()) (LinearBeta 3),
                teacher,
                pool
            ))
        (fun training -> (training :?> Distillation).Iterate() |> ignore)
        (fun training ->
            let training = training :?> Distillation
            Expect.isTrue (Elementwise.AllFinite training.Student.Network.Parameters.Span) "weights"
            Expect.isTrue (Elementwise.AllFinite (nonNull training.Student.Normalizer).Mean) "normaliser"
            training.Iteration)

[<Fact>]
let ``SAC stops at the first observation or reward that is not finite`` () =
    // What is seen before a step was seen after the one before.
    for quantity, name, step in
        [
            "reward", "reward", 3
            "tracking", "actor's observation", 2
            "teacher", "critics' observation", 2
        ] do
        let message, completed =
            sentence
                (fun pool ->
                    new Sac(
                        SacConfig(
                            StepsPerEnv = 10,
                            LearningStarts = 700,
                            UpdateToData = 0.01,
                            MiniBatchSize = 32,
                            Actor = dense "tracking" [ 8 ] true,
                            Critic = dense "teacher" [ 8 ] true
                        ),
                        broken (QuadrotorConfig(Envs = 70)) quantity 45 23 nanf,
                        pool
                    ))
                (fun training -> (training :?> Sac).Iterate() |> ignore)
                (fun training ->
                    let sac = training :?> Sac
                    Expect.isTrue (Elementwise.AllFinite sac.Actor.Network.Parameters.Span) "weights"
                    sac.Iteration)

        Expect.equal
            message
            $"Iteration 3: the {name} of environment 45 is NaN at step {step}; observations, actions and rewards must be finite."
            "message"

        Expect.equal completed 2 "iterations completed"

[<Fact>]
let ``distillation stops at the first observation or reward that is not finite`` () =
    for quantity, name in
        [ "reward", "reward"; "student", "student's observation"; "teacher", "teacher's observation" ] do
        for value, text in [ nanf, "NaN"; infinityf, "Infinity" ] do
            let message, completed = distils (broken poles quantity 45 23 value) mlp

            Expect.equal
                message
                $"Iteration 3: the {name} of environment 45 is {text} at step 3; observations, actions and rewards must be finite."
                "message"

            Expect.equal completed 2 "iterations completed"

[<Fact>]
let ``distillation stops at the first action that is not finite, though a choice is an index`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()
    teacher.Network.Parameters.Span[0] <- nanf

    let config =
        distillation poles (StepsPerIteration 10) mlp (CrossEntropy()) (LinearBeta 3)

    use ofTeacher = new Distillation(config, teacher, pool)

    let message (training: Distillation) =
        (Expect.throws<DistillException>(fun () -> training.Iterate() |> ignore)).Message

    Storage.contains
        "Iteration 1: the teacher's action of environment 0 is NaN at step 0;"
        (message ofTeacher)

    use good = cartPoleTeacher ()
    use ofStudent = new Distillation(config, good, pool)
    ofStudent.Student.Network.Parameters.Span[0] <- nanf

    Storage.contains "Iteration 1: the student's action of environment 0 is" (message ofStudent)

[<Fact>]
let ``distillation stops at the first loss that is not finite and leaves the student as it was`` () =
    use pool = new WorkerPool(2)
    use teacher = raptorTeacher ()

    // Finite, but their squares are not.
    let far =
        changing
            (QuadrotorConfig(Envs = 40))
            (Change(fun panel now _ name values ->
                if name = "student" && now = 12 then
                    values[0] <- 1e25f))

    let config =
        distillation
            far
            (StepsPerIteration 10)
            (MlpStudent(Hidden = [ 8 ], Activation = Activation.Relu))
            (MeanSquared())
            (TeacherAlways())

    // The teacher reads another group.
    teacher.ObservationGroup <- "tracking"
    use training = new Distillation(config, teacher, pool)
    training.Iterate() |> ignore

    let refusal =
        Expect.throws<DistillException>(fun () -> training.Iterate() |> ignore)

    Storage.contains "Iteration 2: the loss is Infinity; lower the learning rate" refusal.Message
    Expect.isTrue (Elementwise.AllFinite training.Student.Network.Parameters.Span) "weights"

[<Fact>]
let ``what comes after the end of an episode reaches neither weights nor normalizer nor losses`` () =
    // Drops the pole.
    use teacher =
        randomPolicy 4 1f (NetworkSpec.Mlp(4, [], 2, Activation.Elu, Head.Categorical)) "teacher" false

    let run (environment: IEnvironmentConfig) (student: StudentConfig) iterations =
        use pool = new WorkerPool(2)

        let config =
            distillation environment (EpisodesPerEpoch 45) student (CrossEntropy()) (TeacherAlways())

        use training = new Distillation(config, teacher, pool)
        let reports = [ for _ in 1..iterations -> training.Iterate() ]
        let added = reports |> List.sumBy _.RowsAdded
        Expect.isTrue (added - (List.last reports).StepsCollected > 100L) "rows are masked"

        [|
            for name, values in bytes training.Visit do
                if name.StartsWith "student" || name.StartsWith "normaliser" || name.StartsWith "trainer" then
                    name, values
        |],
        reports |> List.map (fun r -> r.Loss, r.MeanReturn, r.GradientNorm)

    let inner: IEnvironmentConfig = CartPoleConfig(EpisodeLimit = 60)

    for student in [ mlp; GruStudent(Hidden = 6, NormalizeObservations = true) ] do
        // A teacher that sees what is no number acts otherwise after the end, and later iterations get other episodes.
        for iterations, spared in [ 3, "teacher"; 1, "" ] do
            let expected, reports = run inner student iterations

            for garbage in [ nanf; infinityf; Single.MaxValue ] do
                let poisoned =
                    changing
                        inner
                        (Change(fun _ _ ended name values ->
                            for i in 0 .. values.Length - 1 do
                                if name <> spared && ended[i % Panel.Width] then
                                    values[i] <- garbage))

                let what = $"{student}, {garbage}, {iterations} iterations"
                let actual, others = run poisoned student iterations
                sameState actual expected what
                Expect.equal others reports $"{what}: reports"

let private ppo (environment: IEnvironmentConfig) pool =
    new Ppo(
        PpoConfig(
            StepsPerEnv = 10,
            NumLearningEpochs = 1,
            Actor = dense "student" [ 8 ] true,
            Critic = dense "teacher" [ 8 ] true
        ),
        environment,
        pool
    )

[<Fact>]
let ``PPO stops at the first observation or reward that is not finite`` () =
    for inner in [ poles :> IEnvironmentConfig; QuadrotorConfig(Envs = 70) ] do
        for quantity, name in
            [ "reward", "reward"; "student", "actor's observation"; "teacher", "critic's observation" ] do
            let message, completed =
                sentence
                    (fun pool -> ppo (broken inner quantity 69 17 nanf) pool)
                    (fun training -> (training :?> Ppo).Iterate() |> ignore)
                    (fun training ->
                        let training = training :?> Ppo

                        Expect.isTrue
                            (Elementwise.AllFinite training.Actor.Network.Parameters.Span)
                            "weights"

                        Expect.isTrue
                            (Elementwise.AllFinite (nonNull training.Actor.Normalizer).Mean)
                            "normaliser"

                        training.Iteration)

            Expect.equal
                message
                $"Iteration 2: the {name} of environment 69 is NaN at step 7; observations, actions and rewards must be finite."
                "message"

            Expect.equal completed 1 "iterations completed"

[<Fact>]
let ``PPO stops at the first action, loss and weight that is not finite`` () =
    use pool = new WorkerPool(2)

    let message (environment: IEnvironmentConfig) (spoil: Ppo -> unit) =
        use training = ppo environment pool
        training.Iterate() |> ignore
        spoil training
        (Expect.throws<DistillException>(fun () -> training.Iterate() |> ignore)).Message

    let spoilt (training: Ppo) =
        training.Actor.Network.Parameters.Span[3] <- nanf

    message poles spoilt
    |> Storage.contains "Iteration 2: the action of environment 0 is NaN at step 0;"

    // Too far for a float's square, and then for a float.
    let rewards value =
        changing
            poles
            (Change(fun panel now _ name values ->
                if name = "reward" && panel = 1 && now = 13 then
                    values[5] <- value))

    message (rewards 1e25f) ignore |> Storage.contains "Iteration 2: the value loss is Infinity;"

    message (rewards -infinityf) ignore
    |> Storage.contains "the reward of environment 37 is -Infinity at step 3;"

/// Overwrites the first number of a block.
type private Spoiler(block: string, value: float32) =
    inherit State()

    override _.Visit(name, values) =
        if name = block then
            BitConverter.TryWriteBytes(values, value) |> ignore

[<Fact>]
let ``PPO stops at the first value that is not finite`` () =
    use pool = new WorkerPool(2)
    use spoilt = ppo poles pool
    spoilt.Visit(Spoiler("critic.0.weight", nanf))

    (Expect.throws<DistillException>(fun () -> spoilt.Iterate() |> ignore)).Message
    |> Storage.contains "Iteration 1: the value of environment 0 is NaN at step 0;"

[<Fact>]
let ``weights that are not finite end an iteration`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()
    let far = AdamConfig(LearningRate = 1e38, WeightDecay = 1e3, Decoupled = true)

    let config =
        DistillationConfig(
            Environment = poles,
            Student = mlp,
            Loss = CrossEntropy(),
            Collection = StepsPerIteration 10,
            NumLearningEpochs = 1,
            MiniBatchSize = 1_000_000,
            Optimizer = far
        )

    use training = new Distillation(config, teacher, pool)

    (Expect.throws<DistillException>(fun () -> training.Iterate() |> ignore)).Message
    |> Storage.contains "Iteration 1: the student's 0.weight is "

    let settings =
        PpoConfig(NumLearningEpochs = 1, NumMiniBatches = 1, Schedule = RateSchedule.Fixed, Optimizer = far)

    use other = new Ppo(settings, poles, pool)

    (Expect.throws<DistillException>(fun () -> other.Iterate() |> ignore)).Message
    |> Storage.contains "Iteration 1: the actor's 0.weight is "

[<Fact>]
let ``an evaluation stops at the first number that is not finite`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()

    let message environment =
        use evaluator = new Evaluator(environment, 70, 1UL, pool)
        (Expect.throws<DistillException>(fun () -> evaluator.Run teacher |> ignore)).Message

    for quantity, name in [ "reward", "reward"; "teacher", "observation" ] do
        message (broken poles quantity 40 11 nanf)
        |> Storage.contains $"Evaluation: the {name} of environment 40 is NaN at step 11;"

    teacher.Network.Parameters.Span[0] <- nanf

    message poles
    |> Storage.contains "Evaluation: the policy's action of environment 0 is NaN at step 0;"

[<Fact>]
let ``an evaluation does not see what comes after its episodes`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()
    // Terminates soon.
    teacher.Network.Parameters.Span.Slice(0, 8).Clear()

    let returns environment =
        use evaluator = new Evaluator(environment, 70, 1UL, pool)
        (evaluator.Run teacher).Returns

    let poisoned =
        changing
            poles
            (Change(fun _ _ ended _ values ->
                for i in 0 .. values.Length - 1 do
                    if ended[i % Panel.Width] then
                        values[i] <- nanf))

    Expect.equal (returns poisoned) (returns poles) "returns"
