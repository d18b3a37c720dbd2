/// Closed-loop evaluation, and the statistics of training episodes.
module Distill.Tests.EvaluatorTests

open System
open Xunit
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.DistillationTestbed

let private cartPole: IEnvironmentConfig = CartPoleConfig(EpisodeLimit = 60)
let private quadrotor: IEnvironmentConfig = QuadrotorConfig(EpisodeLimit = 80)

/// A pole balancer that fails now and then, and a drone pilot with a memory.
let private cases: (string * IEnvironmentConfig * (unit -> Policy)) list =
    [
        "cart pole",
        cartPole,
        (fun () ->
            let policy = cartPoleTeacher ()

            fill policy.Network.Parameters (fun i ->
                [| 0f; 0f; -1f; 0f; 0f; 0f; 1f; 0f; 0.01f; 0f |][i % 10])

            policy)
        "quadrotor", quadrotor, raptorTeacher
    ]

let private evaluate (config: IEnvironmentConfig) (policy: Policy) episodes seed threads =
    use pool = new WorkerPool(threads)
    use evaluator = new Evaluator(config, episodes, seed, pool)
    evaluator.Run policy

let private same (actual: EvaluationResult) (expected: EvaluationResult) what =
    Paths.sameBits actual.Returns expected.Returns what
    Expect.equal actual.Lengths expected.Lengths what
    Expect.equal actual.Terminated expected.Terminated what

/// One episode of every environment, each lane on its own.
let private replay (config: IEnvironmentConfig) (policy: Policy) episodes (seed: uint64) =
    use environment = config.Create(episodes, RandomStream(seed, "evaluation").Seed())

    let group = environment.Spec.Group policy.ObservationGroup

    [|
        for panel in 0 .. Panel.Count episodes - 1 do
            environment.Reset panel
            let memory = Array.zeroCreate<float32>(policy.MemorySize * Panel.Width)
            let x = Array.zeroCreate<float32>(policy.Network.Spec.Inputs * Panel.Width)

            let action =
                Array.zeroCreate<float32>(environment.Spec.Actions.Floats * Panel.Width)

            let steps =
                [|
                    for _ in 1 .. environment.Spec.EpisodeLimit do
                        environment.Observe(panel, group, x)
                        act policy x memory action |> ignore

                        let reward, terminated, truncated =
                            Array.zeroCreate<float32> 32,
                            Array.zeroCreate<float32> 32,
                            Array.zeroCreate<float32> 32

                        environment.Step(panel, action, reward, terminated, truncated)
                        reward, terminated, truncated
                |]

            for lane in 0 .. min Panel.Width (episodes - panel * Panel.Width) - 1 do
                let last =
                    steps |> Array.findIndex (fun (_, t, c) -> t[lane] <> 0f || c[lane] <> 0f)

                let rewards = steps[..last] |> Array.map (fun (r, _, _) -> r[lane])
                let _, terminated, _ = steps[last]
                Array.fold (+) 0f rewards, last + 1, terminated[lane] <> 0f
    |]

[<Fact>]
let ``the record of an evaluation has what every step of its episodes showed, did and brought`` () =
    for name, config, make in cases do
        use policy = make ()
        use pool = new WorkerPool(2)
        use evaluator = new Evaluator(config, 45, 3UL, pool)
        use record = new EpisodeRecord(config.Spec, 45)
        let result = evaluator.Run(policy, record)
        same result (evaluator.Run policy) $"{name}: recording changes nothing"

        Storage.inTemporaryFolder (fun folder ->
            let path = IO.Path.Combine(folder, "episodes.npz")
            record.Write(path, result, 3UL, "me")
            let arrays = Npz.Read path |> Seq.map (fun array -> array.Name, array) |> dict

            let rows (array: string) =
                let tensor = arrays[array]
                tensor.ToFloats() |> Array.chunkBySize (Seq.fold (*) 1 (Seq.skip 1 tensor.Shape))

            let groups =
                [ for group in config.Spec.Groups -> rows $"observations/{group.Name}" ]

            let actions, rewards = rows "actions", rows "rewards"
            let terminated, truncated = rows "terminated", rows "truncated"
            Expect.equal rewards.Length (Array.sum result.Lengths) $"{name}: rows"

            // The same episodes, by hand.
            use environment = config.Create(45, RandomStream(3UL, "evaluation").Seed())
            let starts = Array.scan (+) 0 result.Lengths

            for panel in 0..1 do
                environment.Reset panel
                let running = Array.init Panel.Width (fun lane -> panel * Panel.Width + lane < 45)
                let mutable step = 0

                while Array.contains true running do
                    let seen =
                        [
                            for group in 0 .. config.Spec.Groups.Count - 1 do
                                let values =
                                    Array.zeroCreate<float32>(config.Spec.Groups[group].Size * Panel.Width)

                                environment.Observe(panel, group, values)
                                values
                        ]

                    let action = Array.zeroCreate<float32>(config.Spec.Actions.Floats * Panel.Width)

                    let ofLane (values: float32 array) lane =
                        [| lane..32 .. values.Length - 1 |] |> Array.map (Array.get values)

                    for lane in 0..31 do
                        if running[lane] then
                            let row = starts[panel * 32 + lane] + step

                            List.iter2
                                (fun (all: float32 array array) values ->
                                    Paths.sameBits all[row] (ofLane values lane) name)
                                groups
                                seen

                            actions[row] |> Array.iteri (fun i value -> action[i * 32 + lane] <- value)

                    let reward, ended, late =
                        Array.zeroCreate 32, Array.zeroCreate 32, Array.zeroCreate 32

                    environment.Step(panel, action, reward, ended, late)

                    for lane in 0..31 do
                        if running[lane] then
                            let row = starts[panel * 32 + lane] + step

                            Expect.equal
                                (rewards[row][0], terminated[row][0], truncated[row][0])
                                (reward[lane], ended[lane], late[lane])
                                name

                            running[lane] <- ended[lane] = 0f && late[lane] = 0f

                    step <- step + 1)

[<Fact>]
let ``trajectories are the recorded episodes that went on to the limit`` () =
    for name, config, make in cases do
        use policy = make ()
        use pool = new WorkerPool(2)
        use evaluator = new Evaluator(config, 45, 3UL, pool)
        use record = new EpisodeRecord(config.Spec, 45)
        let result = evaluator.Run(policy, record)
        let group = config.Spec.Groups[0].Name
        use alone = new EpisodeRecord(config.Spec, 45, [| group |])
        // Who drives as a teacher does the same, and is recorded likewise.
        use teachers = TeacherPolicies.Of(policy, config.Spec)
        same result (evaluator.Run(teachers, alone)) $"{name}: as a teacher"
        let limit = config.Spec.EpisodeLimit

        let whole =
            [| 0..44 |] |> Array.filter (fun episode -> result.Lengths[episode] = limit)

        Expect.isTrue (whole.Length > 0 && whole.Length < 45) $"{name}: {whole.Length}"

        for record in [ record; alone ] do
            let data = record.Trajectories(result, group)
            Expect.equal (data.Episodes, data.Steps) (whole.Length, limit) name

            Storage.inTemporaryFolder (fun folder ->
                let path = IO.Path.Combine(folder, "episodes.npz")
                record.Write(path, result, 3UL, "me")
                let arrays = Npz.Read path |> Seq.map (fun array -> array.Name, array) |> dict

                let rows (array: string) =
                    let tensor = arrays[array]
                    tensor.ToFloats() |> Array.chunkBySize (Seq.fold (*) 1 (Seq.skip 1 tensor.Shape))

                let starts = Array.scan (+) 0 result.Lengths

                let states, actions, rewards =
                    rows $"observations/{group}", rows "actions", rows "rewards"

                for i in 0 .. whole.Length - 1 do
                    for step in [ 0; limit - 1 ] do
                        let row = starts[whole[i]] + step
                        Paths.sameBits (data.State(i, step).ToArray()) states[row] name
                        Paths.sameBits (data.Action(i, step).ToArray()) actions[row] name
                        Expect.equal [| data.Reward(i, step) |] rewards[row] name)

[<Fact>]
let ``returns, lengths and terminations are those of each lane's first episode`` () =
    for name, config, make in cases do
        use policy = make ()
        let result = evaluate config policy 45 3UL 2
        let expected = replay config policy 45 3UL
        Expect.equal result.Episodes 45 name
        Paths.sameBits result.Returns (expected |> Array.map (fun (r, _, _) -> r)) name
        Expect.equal result.Lengths (expected |> Array.map (fun (_, n, _) -> n)) name
        Expect.equal result.Terminated (expected |> Array.map (fun (_, _, t) -> t)) name
        let returns = Array.map float result.Returns
        let mean = Array.average returns
        Expect.close 1e-9 result.MeanReturn mean name

        Expect.close
            1e-9
            result.StdReturn
            (sqrt (returns |> Array.averageBy (fun v -> (v - mean) ** 2.0)))
            name

        Expect.close 1e-9 result.MeanLength (result.Lengths |> Array.averageBy float) name

        Expect.close
            1e-9
            result.ShareTerminated
            (result.Terminated |> Array.averageBy (fun t -> if t then 1.0 else 0.0))
            name

        Expect.isTrue (Array.distinct result.Returns |> Array.length > 5) $"{name}: episodes are alike"

[<Fact>]
let ``the same seed gives the same results again, after another policy, on any threads and every path`` () =
    for name, config, make in cases do
        use policy = make ()
        let expected = evaluate config policy 70 5UL 1
        use pool = new WorkerPool(3)
        use evaluator = new Evaluator(config, 70, 5UL, pool)
        use other = make ()
        fill other.Network.Parameters (fun _ -> 0.1f)
        same (evaluator.Run policy) expected $"{name}: first"
        evaluator.Run other |> ignore
        same (evaluator.Run policy) expected $"{name}: again"

        for path in Paths.all do
            same (Paths.on path (fun () -> evaluator.Run policy)) expected $"{name}: {path}"

        let different = evaluate config policy 70 6UL 1
        Expect.isTrue (different.Returns <> expected.Returns) $"{name}: another seed, the same episodes"

[<Fact>]
let ``the first episodes do not depend on how many are flown`` () =
    use policy = raptorTeacher ()
    let few = evaluate quadrotor policy 10 3UL 1
    let many = evaluate quadrotor policy 70 3UL 1
    Paths.sameBits many.Returns[..9] few.Returns "returns"

[<Fact>]
let ``a policy that does not fit is refused`` () =
    use policy = raptorTeacher ()

    let message =
        (Expect.throws<DistillException>(fun () -> evaluate cartPole policy 4 1UL 1 |> ignore)).Message

    Storage.contains "The policy reads 22 numbers" message

[<Fact>]
let ``some of the episodes are a result of their own`` () =
    let result =
        EvaluationResult([| 0f .. 9f |], [| 10..19 |], [| for i in 0..9 -> i % 4 = 1 |])

    let part = result.Where((fun i -> i % 4 = 1), "the second")
    Expect.equal part.Returns [| 1f; 5f; 9f |] "returns"
    Expect.equal part.Lengths [| 11; 15; 19 |] "lengths"
    Expect.equal part.ShareTerminated 1.0 "terminated"
    Expect.equal (result.Where((fun _ -> true), "all")).Returns result.Returns "all"

    (Expect.throws<DistillException>(fun () -> result.Where((fun i -> i = 11), "the twelfth") |> ignore))
        .Message
    |> Storage.contains "none for the twelfth"

[<Fact>]
let ``statistics cover the last hundred episodes`` () =
    Property.checkMany 30 (fun (seed: int) ->
        let random = Random seed
        let envs = 1 + random.Next 7
        let statistics = EpisodeStatistics envs
        let finished = ResizeArray<float * int * bool>()
        let running = Array.create envs (0.0, 0)

        Expect.isTrue
            (not statistics.MeanReturn.HasValue && not statistics.StdReturn.HasValue)
            "before the first episode"

        for _ in 1 .. random.Next 3000 do
            let env = random.Next envs
            let reward = random.NextSingle()
            let terminated, truncated = random.Next 8 = 0, random.Next 8 = 0

            if random.Next 50 = 0 then
                statistics.Abandon env
                running[env] <- 0.0, 0

            statistics.Add(env, reward, terminated, truncated)
            let sum, length = running[env]
            running[env] <- sum + float reward, length + 1

            if terminated || truncated then
                finished.Add(fst running[env], snd running[env], terminated)
                running[env] <- 0.0, 0

        Expect.equal statistics.Finished (int64 finished.Count) "finished"
        let last = finished |> Seq.skip (max 0 (finished.Count - 100)) |> Seq.toList

        if not last.IsEmpty then
            let returns = last |> List.map (fun (r, _, _) -> r)
            let mean = List.average returns
            Expect.close 1e-9 statistics.MeanReturn.Value mean "mean return"

            Expect.close
                1e-9
                statistics.StdReturn.Value
                (sqrt (returns |> List.averageBy (fun r -> (r - mean) ** 2.0)))
                "deviation"

            Expect.close
                1e-9
                statistics.MeanLength.Value
                (last |> List.averageBy (fun (_, n, _) -> float n))
                "length"

            Expect.close
                1e-9
                statistics.ShareTerminated.Value
                (last |> List.averageBy (fun (_, _, t) -> if t then 1.0 else 0.0))
                "terminated"

        true)
