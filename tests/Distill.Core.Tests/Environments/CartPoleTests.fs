/// CartPole's kernels against its equations in double precision, and its episodes.
module Distill.Tests.CartPoleTests

open System
open Xunit
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Tests.QuadrotorTestbed

/// (x, x', angle, angle') of Gym's CartPole-v1 after one explicit Euler step.
let private oracle (right: bool) (x: float, v: float, angle: float, rate: float) =
    let gravity, cart, pole, half, dt = 9.8, 1.0, 0.1, 0.5, 0.02
    let total = cart + pole
    let force = if right then 10.0 else -10.0
    let temp = (force + pole * half * rate * rate * sin angle) / total

    let angular =
        (gravity * sin angle - cos angle * temp)
        / (half * (4.0 / 3.0 - pole * cos angle * cos angle / total))

    let acceleration = temp - pole * half * angular * cos angle / total
    x + dt * v, v + dt * acceleration, angle + dt * rate, rate + dt * angular

let private terminal (x: float, _, angle: float, _) =
    max (abs x / 2.4) (abs angle / (12.0 * 2.0 * Math.PI / 360.0)) - 1.0

let private values (env: CartPoleEnvironment) = Blocks.floats env.Visit

let private write (env: CartPoleEnvironment) (block: float32[]) =
    Blocks.write
        [ "cart_pole.state", block |> Array.collect (fun (value: float32) -> BitConverter.GetBytes value) ]
        env.Visit

let private observe (env: CartPoleEnvironment) panel (group: string) =
    let values = Array.zeroCreate<float32>(4 * Panel.Width)
    env.Observe(panel, env.Spec.Group group, values)
    Array.init Panel.Width (fun lane -> Array.init 4 (fun i -> float (values[i * Panel.Width + lane])))

let private step (env: CartPoleEnvironment) panel (actions: float32[]) =
    let reward = Array.zeroCreate<float32> Panel.Width
    let terminated = Array.zeroCreate<float32> Panel.Width
    let truncated = Array.zeroCreate<float32> Panel.Width
    env.Step(panel, actions, reward, terminated, truncated)
    reward, terminated, truncated

[<Fact>]
let ``a step agrees with the equations and has the same bits on every path`` () =
    let mutable ends = 0

    Property.checkMany 60 (fun (seed: int) ->
        let random = Random seed

        let within limit =
            float32 (limit * (2.0 * random.NextDouble() - 1.0))

        let before =
            Array.init Panel.Width (fun _ -> within 2.45, within 3.0, within 0.22, within 3.0)

        let actions = Array.init Panel.Width (fun _ -> float32 (random.Next 2))

        let results =
            onEveryPath (fun () ->
                use env = new CartPoleEnvironment(CartPoleConfig(), 1UL)
                let block = values env

                before
                |> Array.iteri (fun lane (x, v, a, r) ->
                    [ x; v; a; r ] |> List.iteri (fun i value -> block[i * Panel.Width + lane] <- value))

                write env block
                let outcome = step env 0 actions
                observe env 0 "state", outcome, values env |> Array.map BitConverter.SingleToInt32Bits)

        for path, (after, (reward, terminated, truncated), bits) in results do
            for lane in 0 .. Panel.Width - 1 do
                let x, v, a, r = before[lane]
                let next = oracle (actions[lane] = 1.0f) (float x, float v, float a, float r)
                let excess = terminal next

                if abs excess > 1e-6 then
                    Expect.equal (terminated[lane] = 1.0f) (excess > 0.0) $"{path}: terminated {lane}"

                Expect.equal (reward[lane], truncated[lane]) (1.0f, 0.0f) "reward and truncated"

                if terminated[lane] = 0.0f then
                    let x, v, a, r = next
                    Expect.closeAll 4e-7 after[lane] [ x; v; a; r ] $"{path}: state {lane}"
                else
                    ends <- ends + 1

                    Expect.isTrue
                        (after[lane] |> Array.forall (fun value -> abs value <= 0.05))
                        "a new episode"

            let _, (_, first, firstBits) = List.head results

            Expect.isTrue
                (bits = firstBits && (reward, terminated, truncated) = first)
                $"seed {seed}: bits on {path} differ"

        true)

    Expect.isTrue (ends > 100) $"only {ends} terminal states were tried"

[<Fact>]
let ``episodes start uniformly within 0.05 and differ`` () =
    use env = new CartPoleEnvironment(CartPoleConfig(Envs = 3200), 2UL)
    let states = Array.init 100 (fun panel -> observe env panel "state") |> Array.concat

    for i in 0..3 do
        let sample = states |> Array.map (fun s -> s[i])
        Expect.isTrue (sample |> Array.forall (fun x -> abs x <= 0.05)) "range"
        Expect.close 0.002 (Array.average sample) 0.0 "mean"
        Expect.close 0.02 (Array.averageBy (fun x -> x * x) sample * 3.0 / 0.0025) 1.0 "variance"

    Expect.equal (Array.distinct states).Length 3200 "all differ"

/// Balances by a linear rule, which keeps the pole up for 500 steps.
let private balance (state: float[][]) =
    state
    |> Array.map (fun s ->
        if s[0] * 0.1 + s[1] * 0.4 + s[2] * 5.0 + s[3] > 0.0 then
            1.0f
        else
            0.0f)

[<Fact>]
let ``a balanced episode is truncated after 500 steps with return 500`` () =
    use env = new CartPoleEnvironment(CartPoleConfig(), 3UL)
    let mutable total = Array.zeroCreate<float32> Panel.Width

    for t in 1..500 do
        let reward, terminated, truncated = observe env 0 "student" |> balance |> step env 0
        total <- Array.map2 (+) total reward
        Expect.isTrue (terminated |> Array.forall ((=) 0.0f)) $"terminated at {t}"
        Expect.isTrue (truncated |> Array.forall ((=) (if t = 500 then 1.0f else 0.0f))) $"truncated at {t}"

    Expect.equal total (Array.create Panel.Width 500.0f) "return"

    Expect.isTrue
        (observe env 0 "teacher" |> Array.forall (Array.forall (fun x -> abs x <= 0.05)))
        "a new episode"

[<Fact>]
let ``a saved batch goes on bit for bit, panels are independent, and nothing is allocated`` () =
    let config = CartPoleConfig(Envs = 70)

    let actions t panel =
        Array.init Panel.Width (fun lane -> float32 ((lane * 7 + t * 3 + panel) % 5 % 2))

    let run (env: CartPoleEnvironment) first last (order: int list) =
        for panel in order do
            for t in first..last do
                step env panel (actions t panel) |> ignore

    use undisturbed = new CartPoleEnvironment(config, 4UL)
    run undisturbed 1 60 [ 0; 1; 2 ]
    let saved = values undisturbed
    run undisturbed 61 200 [ 0; 1; 2 ]
    use resumed = new CartPoleEnvironment(config, 4UL)
    write resumed saved
    run resumed 61 200 [ 2; 0; 1 ]
    Expect.isTrue (values resumed = values undisturbed) "resumed"
    use other = new CartPoleEnvironment(config, 5UL)
    run other 1 200 [ 0; 1; 2 ]
    Expect.isTrue (values other <> values undisturbed) "another seed"

    let action, outcome =
        actions 1 0, Array.zeroCreate<float32>(StepOutcome.Rows * Panel.Width)

    let fly () =
        for _ in 1..200 do
            resumed.Step(0, ReadOnlySpan action, StepOutcome(Span outcome))

    fly ()
    let before = GC.GetAllocatedBytesForCurrentThread()
    fly ()
    Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L "bytes allocated"

[<Fact>]
let ``the specification is that of a discrete task, and bad configurations are refused`` () =
    use env = new CartPoleEnvironment(CartPoleConfig(), 1UL)

    Expect.equal
        [ for group in env.Spec.Groups -> group.Name, group.Size ]
        [ "state", 4; "teacher", 4; "student", 4 ]
        "groups"

    Expect.equal
        (env.Spec.Actions.Size, env.Spec.Actions.Floats, env.Spec.Actions.Discrete)
        (2, 1, true)
        "actions"

    Expect.equal (env.Spec.EpisodeLimit, env.Spec.StepSeconds) (500, 0.02) "limits"

    let refused (config: CartPoleConfig) =
        (Expect.throws<DistillException>(fun () -> (new CartPoleEnvironment(config, 1UL)).Dispose())).Message

    Expect.isTrue ((refused (CartPoleConfig(Envs = 0))).Contains "envs") "envs"
    Expect.isTrue ((refused (CartPoleConfig(EpisodeLimit = 0))).Contains "episode_limit") "limit"
