/// Environments made from functions of a single one, and episodes looked at step by step.
module Distill.Tests.EnvironmentDefinitionTests

open System
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Xunit

/// A walker on a line, pushed by noise; it falls off beyond 1, and episodes last at most 8 steps.
let private walk: EnvironmentDefinition =
    {
        Name = "walk"
        Envs = 40
        EpisodeLimit = 8
        StepSeconds = 0.1
        StateSize = 2
        Actions = Actions.continuous 1
        Reset =
            fun random state ->
                state[0] <- random.Uniform(-0.5, 0.5)
                state[1] <- random.Normal(0.0, 1.0)
        Step =
            fun random state action ->
                state[0] <- state[0] + action[0] + random.Normal(0.0, 0.3)
                { Reward = state[0]; Terminated = abs state[0] > 1.0 }
        Views =
            [
                {
                    Group = "teacher"
                    Components = [ "place, m", 1; "luck", 1 ]
                    Observe = fun state seen -> Array.blit state 0 seen 0 2
                }
                {
                    Group = "student"
                    Components = [ ("place from the edge, m", 1) ]
                    Observe = fun state seen -> seen[0] <- 1.0 - abs state[0]
                }
            ]
    }

let private create (definition: EnvironmentDefinition) (envs: int) (seed: uint64) =
    (definition :> IEnvironmentConfig).Create(envs, seed)

let private resetAll (environment: IBatchedEnvironment) =
    for panel in 0 .. Panel.Count environment.Count - 1 do
        environment.Reset panel

/// What one step brings in a panel: the teacher's observation before, reward, terminated, truncated.
let private step (environment: IBatchedEnvironment) (panel: int) (action: float32) =
    let observation: float32[] = Array.zeroCreate (2 * Panel.Width)
    let lanes () : float32[] = Array.zeroCreate Panel.Width
    let reward, terminated, truncated = lanes (), lanes (), lanes ()
    environment.Observe(panel, 0, observation)
    let actions: float32[] = Array.create Panel.Width action
    environment.Step(panel, actions, reward, terminated, truncated)
    observation, reward, terminated, truncated

[<Fact>]
let ``views write the groups of the specification`` () =
    use environment = create walk 40 1UL
    resetAll environment
    Assert.Equal("walk", environment.Spec.Name)

    Assert.Equal<(string * int) list>(
        [ "teacher", 2; "student", 1 ],
        [ for group in environment.Spec.Groups -> group.Name, group.Size ]
    )

    let whole: float32[] = Array.zeroCreate (2 * Panel.Width)
    let edge: float32[] = Array.zeroCreate Panel.Width
    environment.Observe(1, 0, whole)
    environment.Observe(1, 1, edge)

    for lane in 0 .. Panel.Width - 1 do
        Expect.close 1e-6 (float edge[lane]) (1.0 - abs (float whole[lane])) "distance from the edge"

[<Fact>]
let ``an environment's numbers do not depend on how many there are beside it`` () =
    use few = create walk 3 5UL
    use many = create walk 70 5UL
    use other = create walk 3 6UL
    List.iter resetAll [ few; many; other ]

    let followed =
        [
            for _ in 1..20 ->
                let a, ra, ta, ua = step few 0 0.1f
                let b, rb, tb, ub = step many 0 0.1f
                Assert.Equal<float32[]>(a, b)
                Assert.Equal<float32[]>(ra, rb)
                Assert.Equal<float32[]>(ta, tb)
                Assert.Equal<float32[]>(ua, ub)
                let c, _, _, _ = step other 0 0.1f
                a[0] <> c[0]
        ]

    Assert.All(followed, Assert.True)

    // Neighbours, steps and episodes have numbers of their own.
    let a, _, _, _ = step many 0 0.0f
    let b, _, _, _ = step many 1 0.0f
    Assert.Equal(64, Array.append a[0..31] b[0..31] |> Array.distinct |> Array.length)

[<Fact>]
let ``an episode ends where the step says so or at the limit, and the next one starts`` () =
    use environment = create walk 32 2UL
    resetAll environment
    let lengths = Array.zeroCreate<int> Panel.Width
    let ends = ResizeArray<int * bool>()

    for _ in 1..200 do
        let before, reward, terminated, truncated = step environment 0 0.0f
        let after: float32[] = Array.zeroCreate (2 * Panel.Width)
        environment.Observe(0, 0, after)

        for lane in 0 .. Panel.Width - 1 do
            lengths[lane] <- lengths[lane] + 1
            Assert.Equal((abs reward[lane] > 1.0f), (terminated[lane] = 1.0f))
            Assert.False(terminated[lane] = 1.0f && truncated[lane] = 1.0f)

            if terminated[lane] + truncated[lane] > 0.0f then
                ends.Add(lengths[lane], truncated[lane] = 1.0f)
                lengths[lane] <- 0
                // The new episode's first state.
                Assert.InRange(after[lane], -0.5f, 0.5f)
                Assert.NotEqual(before[Panel.Width + lane], after[Panel.Width + lane])
            else
                Assert.Equal(reward[lane], after[lane])
                Assert.Equal(before[Panel.Width + lane], after[Panel.Width + lane])

    Assert.All(ends, fun (length, truncated) -> Assert.True(if truncated then length = 8 else length <= 8))
    Assert.Contains(ends, fun (_, truncated) -> truncated)
    Assert.Contains(ends, fun (_, truncated) -> not truncated)

[<Fact>]
let ``a restored state goes on as if nothing had happened`` () =
    use first = create walk 33 9UL
    use second = create walk 33 9UL
    List.iter resetAll [ first; second ]

    for _ in 1..11 do
        step first 1 0.05f |> ignore

    let saved = Collections.Generic.Dictionary()

    first.Visit
        { new State() with
            member _.Visit(name, values) = saved[name] <- values.ToArray()
        }

    second.Visit
        { new State() with
            member _.Visit(name, values) = saved[name].AsSpan().CopyTo values
        }

    for _ in 1..20 do
        Assert.Equal(step first 1 0.05f, step second 1 0.05f)

[<Fact>]
let ``choices arrive as their index`` () =
    let choosing =
        { walk with
            Actions = Actions.choices 3
            StateSize = 1
            Reset = fun _ _ -> ()
            Step =
                fun _ state action ->
                    state[0] <- action[0]
                    { Reward = action[0]; Terminated = false }
            Views =
                [
                    {
                        Group = "student"
                        Components = [ ("last choice", 1) ]
                        Observe = fun state seen -> seen[0] <- state[0]
                    }
                ]
        }

    use environment = create choosing 32 0UL
    resetAll environment
    let lanes () : float32[] = Array.zeroCreate Panel.Width
    let actions = Array.init Panel.Width (fun lane -> float32 (lane % 3))
    let reward = lanes ()
    environment.Step(0, actions, reward, lanes (), lanes ())
    Assert.Equal<float32[]>(actions, reward)
    Assert.Equal(1, environment.Spec.Actions.Floats)

[<Fact>]
let ``evaluations of one policy are the same, whatever the number of threads`` () =
    use policy =
        new Policy(NetworkSpec(2, [| Dense(1, Activation.Identity) |]), "teacher")

    policy.Network.Parameters.Span[0] <- -0.5f

    let evaluate (threads: int) =
        use pool = new WorkerPool(threads)
        use evaluator = new Evaluator(walk, 100, 3UL, pool)
        let first, second = evaluator.Run policy, evaluator.Run policy
        Assert.Equal<float32[]>(first.Returns, second.Returns)
        first.Returns

    Assert.Equal<float32[]>(evaluate 1, evaluate 3)

[<Fact>]
let ``a definition that cannot work is refused in a sentence`` () =
    let refused (definition: EnvironmentDefinition) (envs: int) =
        (Expect.throws<DistillException>(fun () -> (create definition envs 0UL).Dispose())).Message

    Assert.Equal("walk: envs is 0; it must be between 1 and 16777216.", refused walk 0)
    Assert.Contains("episode_limit is 0; it must be between", refused { walk with EpisodeLimit = 0 } 1)
    Assert.Contains("state_size is 0; it must be at least 1", refused { walk with StateSize = 0 } 1)
    Assert.Contains("views is 0; it must be at least 1", refused { walk with Views = [] } 1)

[<Fact>]
let ``its numbers can be set by name, its functions cannot`` () =
    match Settings.apply [ "envs=128"; "episode_limit=20" ] [ walk ] with
    | [ :? EnvironmentDefinition as changed ] ->
        Assert.Equal((128, 20), (changed.Envs, changed.EpisodeLimit))
        Assert.Same(walk.Step, changed.Step)
    | _ -> failwith "It is no longer a definition."

    let refusal =
        Expect.throws<DistillException>(fun () -> Settings.apply [ "step=1" ] [ walk ] |> ignore)

    Assert.Equal("step can only be set in the script.", refusal.Message)

[<Fact>]
let ``a run on a defined environment stops and goes on like any other`` () =
    use place = new RunTests.Workplace()
    let file = place.Path "teacher.safetensors"

    do
        use policy =
            new Policy(NetworkSpec(2, [| Dense(1, Activation.Identity) |]), "teacher")

        policy.Network.Parameters.Span[0] <- -0.5f
        PolicyFile.Save(file, policy)

    let run (settings: string list) =
        distillation {
            name "walk"
            environment walk
            teacher (Teacher.load file)
            student (Student.mlp { hidden = [ 8 ] })
            acting (Acting.teacherUntil 2)
            retain (Retain.latest 2_000)
            collect (Collect.stepsPerEnv 10)
            iterations 4
            finalEpisodes 32
        }
        |> Run.distilWith (settings @ [ "logs=" + place.Path "logs" ])

    let whole = run []
    let half = run [ "iterations=2" ]
    let resumed = run [ $"resume={half.Folder}"; "iterations=4" ]
    Assert.Equal<float32[]>(whole.FinalStudent.Returns, resumed.FinalStudent.Returns)

// Inspection

[<Fact>]
let ``a teacher that looks on at itself agrees`` () =
    use place = new RunTests.Workplace()
    let teacher = place.Path "teacher.safetensors"
    RunTests.saveTeacher teacher

    let episode =
        Inspect.episode (CartPole.balance { envs = 1 }) (Teacher.load teacher) teacher 0UL

    Assert.Equal(500, episode.Steps)
    Assert.False episode.Terminated
    Assert.Equal(500.0, Array.sum episode.Reward)
    Assert.All(episode.Disagreement, fun difference -> Assert.Equal(0.0, difference))
    Assert.All(episode.Memory, fun row -> Assert.Empty row)
    Assert.All(episode.Observation, fun row -> Assert.Equal(4, row.Length))
    Expect.close 1e-9 (Array.last episode.Time) 9.98 "time"

[<Fact>]
let ``an untrained student is caught out, and its memory moves`` () =
    use place = new RunTests.Workplace()

    let teacher, student =
        place.Path "teacher.safetensors", place.Path "student.safetensors"

    RunTests.saveTeacher teacher

    do
        use policy =
            new Policy(NetworkSpec.GruStack(4, 8, 6, 0, 2, Head.Categorical), "student")

        policy.Network.Initialize(RandomStream(1UL, "student"))
        PolicyFile.Save(student, policy)

    let inspect () =
        Inspect.episode (CartPole.balance { envs = 1 }) (Teacher.load teacher) student 4UL

    let episode = inspect ()
    Assert.True episode.Terminated
    Assert.InRange(episode.Steps, 5, 200)
    Assert.Contains(episode.Disagreement, fun difference -> difference = 1.0)
    Assert.All(episode.Memory, fun row -> Assert.Equal(6, row.Length))
    Assert.NotEqual<float[]>(episode.Memory[0], episode.Memory[1])
    Assert.Equal<float[][]>(episode.Student, (inspect ()).Student)
