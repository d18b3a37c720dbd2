/// Settings that change from iteration to iteration: their values, their texts, and what they do in the algorithms.
module Distill.Tests.ScheduleTests

open System
open System.IO
open Xunit
open FsCheck
open FsCheck.FSharp
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Networks
open Distill.Tests.DistillationTestbed

let private parse (text: string) =
    match Schedule.TryParse text with
    | true, schedule -> schedule
    | _ -> failwith $"'{text}' was not understood."

[<Fact>]
let ``schedules have the values of their formulas`` () =
    for text, iteration, value in
        [
            "0.25", 7, 0.25
            "linear(1,0,4)", 0, 1.0
            "linear(1,0,4)", 3, 0.25
            "linear(1,0,4)", 9, 0.0
            "exponential(1e-2,1e-4,10)", 5, 1e-3
            "exponential(1e-2,1e-4,10)", 11, 1e-4
            "cosine(2,1,8)", 0, 2.0
            "cosine(2,1,8)", 2, 1.0 + 0.5 * (1.0 + sqrt 0.5)
            "cosine(2,1,8)", 8, 1.0
            "decay(3,0.5)", 4, 3.0 / 16.0
            "piecewise(2:1,4:0,6:3)", 0, 1.0
            "piecewise(2:1,4:0,6:3)", 3, 0.5
            "piecewise(2:1,4:0,6:3)", 5, 1.5
            "piecewise(2:1,4:0,6:3)", 60, 3.0
        ] do
        Expect.close 1e-12 ((parse text).At iteration) value $"{text} at {iteration}"

[<Fact>]
let ``the text of a schedule is read back as the same schedule`` () =
    let number = ArbMap.defaults |> ArbMap.generate<NormalFloat> |> Gen.map _.Get
    let count = Gen.choose (1, 10000)

    let schedules =
        Gen.oneof
            [
                Gen.map (fun (x: float) -> Schedule.op_Implicit x) number
                Gen.map3 (fun a b n -> Schedule.Linear(a, b, n)) number number count
                Gen.map3 (fun a b n -> Schedule.Cosine(a, b, n)) number number count
                Gen.map3
                    (fun a b n -> Schedule.Exponential(exp (a % 20.0), exp (b % 20.0), n))
                    number
                    number
                    count
                Gen.map2 (fun a b -> Schedule.Decay(a, b)) number number
                Gen.map3 (fun a b n -> Schedule.Piecewise(struct (0, a), struct (n, b))) number number count
            ]

    Check.QuickThrowOnFailure(
        Prop.forAll (Arb.fromGen schedules) (fun schedule -> parse (string schedule) = schedule)
    )

[<Fact>]
let ``what is no schedule is not read as one`` () =
    for text in
        [
            ""
            "linear"
            "linear(1,2)"
            "linear(1,2,0)"
            "linear(1,2,1.5)"
            "linear(1,nan,3)"
            "linear(1,2,3"
            "linear(1,2,3))"
            "exponential(1,0,3)"
            "exponential(-1,1,3)"
            "decay(1)"
            "piecewise()"
            "piecewise(1)"
            "piecewise(2:1,2:3)"
            "piecewise(-1:1)"
            "step(1,2,3)"
            "infinity"
        ] do
        Expect.isTrue (not (fst (Schedule.TryParse text))) text

[<Fact>]
let ``a schedule that varies is no number`` () =
    Expect.throws<InvalidOperationException>(fun () -> Schedule.Linear(1.0, 0.0, 3).Value |> ignore)
    |> ignore

let private scheduled =
    DistillationConfig(
        Seed = 4UL,
        Iterations = 5,
        Environment = CartPoleConfig(Envs = 40, EpisodeLimit = 30),
        Student = GruStudent(Hidden = 6),
        Acting = Mixed(Schedule.Linear(1.0, 0.0, 4)),
        Retention = FirstInFirstOut 3000L,
        Sampling = LossPrioritized(Schedule.Linear(0.2, 1.0, 4), 1e-3),
        Loss = CrossEntropy(Schedule.Decay(0.2, 0.5)),
        Collection = StepsPerIteration 24,
        SequenceLength = 12,
        NumLearningEpochs = Schedule.Linear(3.0, 1.0, 4),
        MiniBatchSize = Schedule.Piecewise(struct (0, 8.0), struct (2, 40.0), struct (4, 16.0)),
        GradientLength = Schedule.Linear(3.0, 12.0, 4),
        Optimizer =
            AdamConfig(
                LearningRate = Schedule.Exponential(1e-2, 1e-3, 4),
                MaxGradNorm = Schedule.Cosine(1.0, 0.1, 4),
                WeightDecay = Schedule.Linear(0.0, 1e-2, 4)
            )
    )

let private number (value: float) : Schedule = Schedule.op_Implicit value

/// What the settings are in one iteration, written down by hand.
let private by (iteration: int) =
    let i = float iteration

    let rate =
        if iteration = 4 then
            1e-3
        else
            1e-2 * (1e-3 / 1e-2) ** (i / 4.0)

    let clip =
        if iteration = 4 then
            0.1
        else
            0.1 + (1.0 - 0.1) * (1.0 + cos (Math.PI * (i / 4.0))) / 2.0

    DistillationConfig(
        Seed = 4UL,
        Iterations = 5,
        Environment = scheduled.Environment,
        Student = scheduled.Student,
        Acting = Mixed(number (1.0 - i / 4.0)),
        Retention = scheduled.Retention,
        Sampling = LossPrioritized(number (0.2 + (1.0 - 0.2) * (i / 4.0)), 1e-3),
        Loss = CrossEntropy(number (0.2 * 0.5 ** i)),
        Collection = scheduled.Collection,
        SequenceLength = 12,
        NumLearningEpochs = (let epochs = [| 3; 2; 2; 2; 1 |] in epochs[iteration]),
        MiniBatchSize = (let sizes = [| 8; 24; 40; 28; 16 |] in sizes[iteration]),
        GradientLength = (let lengths = [| 3; 5; 8; 10; 12 |] in lengths[iteration]),
        Optimizer =
            AdamConfig(LearningRate = rate, MaxGradNorm = clip, WeightDecay = number (1e-2 * (i / 4.0)))
    )

[<Fact>]
let ``a distillation with schedules is one whose settings are changed between its iterations`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()
    use whole = new Distillation(scheduled, teacher, pool)

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")

        for iteration in 0..4 do
            whole.Iterate() |> ignore
            use single = new Distillation(by iteration, teacher, pool)

            if iteration > 0 then
                load path single.Visit

            single.Iterate() |> ignore
            sameState (bytes single.Visit) (bytes whole.Visit) $"iteration {iteration}"
            save path single.Visit)

[<Fact>]
let ``restored in the middle of its schedules a distillation goes on bit for bit`` () =
    use pool = new WorkerPool(2)
    use teacher = cartPoleTeacher ()
    use whole = new Distillation(scheduled, teacher, pool)
    use resumed = new Distillation(scheduled, teacher, pool)

    for _ in 1..2 do
        whole.Iterate() |> ignore

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        save path whole.Visit
        load path resumed.Visit)

    for _ in 1..3 do
        whole.Iterate() |> ignore
        resumed.Iterate() |> ignore

    sameState (bytes resumed.Visit) (bytes whole.Visit) "state"

[<Fact>]
let ``a schedule that leaves what is possible is refused with its iteration`` () =
    let refused (config: DistillationConfig) =
        (Expect.throws<DistillException> config.Validate).Message

    let environment = CartPoleConfig()

    let falling =
        DistillationConfig(
            Environment = environment,
            Optimizer = AdamConfig(LearningRate = Schedule.Linear(1e-3, -1e-3, 10))
        )

    Expect.equal
        (refused falling)
        "In iteration 6: learning_rate=0 cannot work; it must be above 0, in the range of single precision."
        "rate"

    let half = DistillationConfig(Environment = environment, NumLearningEpochs = 2.5)
    Expect.equal (refused half) "num_learning_epochs=2.5 cannot work; it must be a whole number." "epochs"

    let both =
        PpoConfig(Optimizer = AdamConfig(LearningRate = Schedule.Linear(1e-3, 1e-4, 10)))

    let message = (Expect.throws<DistillException> both.Validate).Message
    Expect.isTrue (message.Contains "schedule=fixed") message
