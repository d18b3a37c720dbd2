/// Training of a trajectory transformer on synthetic episodes whose tasks show in how states follow actions.
module Distill.Tests.TrajectoryEncodingTests

open System
open System.IO
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.NetworksReference
open Distill.Tests.NetworksTransformerTests
open Xunit

/// Episodes of three tasks: a point follows its actions, or what is left of them after a task's turn; the reward is its place.
let episodes count steps =
    let random = Random 4

    let states, actions =
        Array.zeroCreate (count * steps * 3), Array.zeroCreate (count * steps * 2)

    let rewards = Array.zeroCreate (count * steps)

    for episode in 0 .. count - 1 do
        let mutable x, y = random.NextSingle() - 0.5f, random.NextSingle() - 0.5f

        for step in 0 .. steps - 1 do
            let place = episode * steps + step
            let a, b = random.NextSingle() - 0.5f, random.NextSingle() - 0.5f
            [| x; y; 1f |].CopyTo(states, 3 * place)
            [| a; b |].CopyTo(actions, 2 * place)

            match episode % 3 with
            | 0 ->
                x <- 0.8f * x + a
                y <- 0.8f * y + b
                rewards[place] <- x
            | 1 ->
                x <- 0.8f * x - a
                y <- 0.8f * y + b
                rewards[place] <- y
            | _ ->
                x <- 0.8f * x + b
                y <- 0.8f * y - a
                rewards[place] <- -x

    Trajectories(steps, states, actions, rewards, Array.init count (fun episode -> episode % 3))

let config =
    TrajectoryEncodingConfig(
        Network =
            TransformerConfig(Window = 5, Model = 16, Heads = 4, Layers = 2, FeedForward = 32, Encoding = 4),
        BatchSize = 40,
        UpdatesPerIteration = 15,
        ValidationBatches = 2,
        Iterations = 4,
        Patience = 0,
        Optimizer = AdamConfig(LearningRate = 1e-3, MaxGradNorm = 0)
    )

let private data = lazy (episodes 30 25)

let private parameters (training: TrajectoryEncoding) =
    training.Transformer.Parameters.Span.ToArray()

let private run threads (config: TrajectoryEncodingConfig) iterations =
    use pool = new WorkerPool(threads)
    use training = new TrajectoryEncoding(config, data.Value, pool)
    let reports = [ for _ in 1..iterations -> training.Iterate() ]
    parameters training, reports

[<Theory>]
[<InlineData(false)>]
[<InlineData(true)>]
let ``InfoNCE has PyTorch's loss and gradients`` (masked: bool) =
    let name = if masked then "info_nce_other_tasks" else "info_nce"
    let given = numbers name

    let z, other =
        given "inputs" "z" |> Array.map float32, given "inputs" "other" |> Array.map float32

    let tasks = given "inputs" "tasks" |> Array.map int
    let contrast: Contrast = if masked then OtherTasks() else AllWindows()
    let loss = InfoNce(tasks.Length, 6, contrast, 0.15)
    let dz: float32[] = Array.zeroCreate z.Length
    let dOther: float32[] = Array.zeroCreate z.Length
    let value = loss.Evaluate(z, other, tasks, 1.0, dz, dOther)
    Expect.close 2e-6 (value / (given "outputs" "loss")[0]) 1.0 "loss"
    closeNorm 3e-6 dz (given "gradients" "z") "first views"
    closeNorm 3e-6 dOther (given "gradients" "other") "second views"

[<Fact>]
let ``A fraction of the tokens is masked as BERT does, at least one of each kind in a window`` () =
    let steps = 20

    let masking =
        MaskedView(0.15, RandomStream(1UL, "mask"), RandomStream(1UL, "noise"))

    let valid = Array.zeroCreate<float32>(TrajectoryWindow.Tokens steps * 16)
    let kept, zero, other = ref 0, ref 0, ref 0
    let mutable total = 0
    let counts: int[] = Array.zeroCreate 3

    for sequence in 0..1599 do
        let values = Array.create (TrajectoryWindow.Size(steps, 3, 2)) 7f
        let masked = Array.zeroCreate<float32>(TrajectoryWindow.Tokens steps * 16)
        let lane, length = sequence % 16, 1 + sequence % steps

        masking.Mask(
            TrajectoryWindow(values, valid, steps, 3, 2, true),
            masked,
            lane,
            length,
            sequence,
            0,
            0L,
            counts
        )

        let of' first count =
            [ for token in first .. first + count - 1 -> masked[token * 16 + lane] ]

        let states, actions, rewards = of' 0 20, of' 20 19, of' 39 19
        Expect.isTrue (List.contains 1f states) "a state"

        Expect.equal
            (List.contains 1f actions, List.contains 1f rewards)
            (length > 1, length > 1)
            "the others"

        for tokens, there in [ states, length; actions, length - 1; rewards, length - 1 ] do
            Expect.isTrue (List.forall ((=) 0f) (List.skip there tokens)) "nothing that is not there"

        if length = 20 then
            total <- total + 58

            for token in 0..19 do
                if masked[token * 16 + lane] = 1f then
                    match values[token * 16 + lane] with
                    | 7f -> kept.Value <- kept.Value + 1
                    | 0f -> zero.Value <- zero.Value + 1
                    | _ -> other.Value <- other.Value + 1
                else
                    Expect.equal values[token * 16 + lane] 7f "what is not masked stays"

    let all = float (kept.Value + zero.Value + other.Value)
    Expect.close 0.1 (all / 80.0 / 20.0) 0.16 "share"
    Expect.close 0.1 (float zero.Value / all) 0.8 "zeros"
    Expect.close 0.08 (float kept.Value / all) 0.1 "kept"
    Expect.close 0.08 (float other.Value / all) 0.1 "random"

[<Fact>]
let ``Training has the same bits on all threads and paths, and lowers its loss`` () =
    let once, reports = run 1 config 2
    let again, _ = run 3 config 2
    Paths.sameBits again once "threads"
    Paths.same "paths" (fun () -> run 2 config 1 |> fst) |> ignore
    let first, last = List.head reports, List.last reports
    Expect.isTrue (last.Loss < first.Loss) $"{last.Loss} after {first.Loss}"
    Expect.isTrue (last.Training.State < first.Training.State) "reconstruction"

[<Fact>]
let ``A gradient of the whole loss is that of finite differences`` () =
    let plain =
        TrajectoryEncodingConfig(
            Network =
                TransformerConfig(Window = 3, Model = 8, Heads = 2, Layers = 1, FeedForward = 6, Encoding = 2),
            BatchSize = 20,
            ContrastWeight = 1.0,
            Contrast = AllWindows(),
            Optimizer = AdamConfig(LearningRate = 1e-30, MaxGradNorm = 0)
        )

    use pool = new WorkerPool(1)

    // The same seed draws the same first batch, with the same masks and dropout.
    let lossAt change =
        use training = new TrajectoryEncoding(plain, data.Value, pool)
        change training
        let losses = training.Update()
        losses.Total 1.0, training.Gradient.ToArray()

    let _, gradient = lossAt ignore
    let size = gradient |> Array.map (abs >> float) |> Array.max

    for i in 0..23 .. gradient.Length - 17 do
        let at step =
            lossAt (fun training ->
                training.Transformer.Parameters.Span[i] <- training.Transformer.Parameters.Span[i] + step)
            |> fst

        Expect.close (5e-3 * size) (float gradient[i]) ((at 2e-3f - at -2e-3f) / 4e-3) $"parameter {i}"

[<Fact>]
let ``A training goes on from a checkpoint with the same bits`` () =
    let whole, reports = run 2 config 4
    let path = Path.GetTempFileName()
    use pool = new WorkerPool(2)

    using (new TrajectoryEncoding(config, data.Value, pool)) (fun first ->
        first.Iterate() |> ignore
        first.Iterate() |> ignore
        StateFile.Save(path, (fun state -> first.Visit state))
        first.Restore()
        use best = new TrajectoryEncoding(config, data.Value, pool)
        StateFile.Load(path, (fun state -> best.Visit state))
        best.Restore()
        Paths.sameBits (parameters best) (parameters first) "the best so far")

    use second = new TrajectoryEncoding(config, data.Value, pool)
    StateFile.Load(path, (fun state -> second.Visit state))
    File.Delete path
    let rest = [ second.Iterate(); second.Iterate() ]
    Paths.sameBits (parameters second) whole "parameters"

    Expect.equal
        [ for report in rest -> report.Loss, report.BestLoss, report.Updates ]
        [ for report in List.skip 2 reports -> report.Loss, report.BestLoss, report.Updates ]
        "reports"

    Expect.isTrue second.Finished "all iterations done"

[<Fact>]
let ``Training ends when the loss on held-out episodes has not fallen, and the best is kept`` () =
    use pool = new WorkerPool(2)
    // Steps so large that the loss only rises after a while.
    let hasty =
        config
        |> fun c ->
            TrajectoryEncodingConfig(
                Network = c.Network,
                BatchSize = 32,
                UpdatesPerIteration = 4,
                ValidationBatches = 1,
                Iterations = 60,
                Patience = 2,
                Optimizer = AdamConfig(LearningRate = 0.05, MaxGradNorm = 0)
            )

    use training = new TrajectoryEncoding(hasty, data.Value, pool)
    let kept = ResizeArray<float * float32[]>()

    while not training.Finished do
        let report = training.Iterate()
        kept.Add(report.Loss, parameters training)

    Expect.isTrue (kept.Count < 60) "early"
    training.Restore()
    Paths.sameBits (parameters training) (kept |> Seq.minBy fst |> snd) "the best"

[<Fact>]
let ``Episodes are split whole, in all tasks, and make a file and come back`` () =
    use pool = new WorkerPool(1)
    use training = new TrajectoryEncoding(config, data.Value, pool)
    let held = training.ValidationEpisodes
    Expect.equal (Array.sort (Array.append held training.TrainingEpisodes)) [| 0..29 |] "all, once"

    Expect.equal
        (held |> Array.countBy (fun episode -> episode % 3) |> Array.sort)
        [| 0, 2; 1, 2; 2, 2 |]
        "a fifth"

    let path = Path.GetTempFileName()
    data.Value.Save path
    let again = Trajectories.Load path
    File.Delete path

    Expect.equal
        (again.Episodes, again.Steps, again.StateSize, again.ActionSize, again.Tasks.ToArray())
        (30, 25, 3, 2, data.Value.Tasks.ToArray())
        "shape"

    Paths.sameBits (again.State(29, 24).ToArray()) (data.Value.State(29, 24).ToArray()) "a state"

    let refused =
        Expect.throws<DistillException>(fun () -> Trajectories(2, [||], [||], [| 1f |], [| 0 |]) |> ignore)

    Expect.isTrue (refused.Message.Contains "1 episodes of 2 steps") refused.Message

[<Fact>]
let ``Episodes put together have a task for each name`` () =
    let one task names =
        Trajectories(1, [| float32 task |], [| 0f |], [| 0f |], [| task |], names)

    let all = Trajectories.Of [ one 1 [| "a"; "b" |]; one 0 [| "c" |]; one 0 [| "b" |] ]
    Expect.equal (List.ofSeq all.TaskNames) [ "a"; "b"; "c" ] "names"
    Expect.equal (all.Tasks.ToArray()) [| 1; 2; 1 |] "tasks"
    Expect.equal (all.State(0, 0)[0]) 1f "a state"
    let path = Path.GetTempFileName()
    all.Save path
    let again = Trajectories.Load path
    Expect.equal (List.ofSeq again.TaskNames) [ "a"; "b"; "c" ] "saved"

    SafeTensors.Write(
        path,
        (SafeTensors.Read path).Tensors,
        Collections.Generic.Dictionary(dict [ "distill.tasks", "[1" ])
    )

    for work in [ (fun () -> Trajectories.Load path |> ignore); (fun () -> one 2 [| "a"; "b" |] |> ignore) ] do
        Expect.throws<DistillException> work |> ignore

    File.Delete path

[<Fact>]
let ``An encoder that acts sees what windows of the recorded episode show, over episodes of different lengths``
    ()
    =
    let data = data.Value
    use network = new TrajectoryTransformer(config.Network, 3, 2)
    network.Initialize(RandomStream(2UL, "encoder"))
    use pool = new WorkerPool(2)
    use own = new Workspace()
    // More than a panel; environment e begins a new episode after 3 + e % 9 steps.
    let envs, steps = 40, 24
    use acting = new TrajectoryEncoder(network, envs)
    let lasts = Array.init envs (fun e -> 3 + e % 9)
    let encodings = Array.init 2 (fun _ -> Array.zeroCreate<float32>(4 * 32))

    let place env step =
        (env + step / lasts[env]) % data.Episodes, step % lasts[env]

    let panelWith size (value: int -> float32[]) panel =
        Array.init (size * 32) (fun i -> (value (min (panel * 32 + i % 32) (envs - 1)))[i / 32])

    let stateOf env step =
        let episode, at = place env step
        data.State(episode, at).ToArray()

    let actionOf env step =
        let episode, at = place env step
        data.Action(episode, at).ToArray()

    let rewardOf env step =
        let episode, at = place env step
        [| data.Reward(episode, at) |]

    let begins env step =
        [| (if snd (place env (step + 1)) = 0 then 0f else 1f) |]

    let goOn step panel =
        acting.Take(
            panel,
            panelWith 2 (fun env -> actionOf env step) panel,
            panelWith 1 (fun env -> rewardOf env step) panel
        )

        acting.Forget(panel, panelWith 1 (fun env -> begins env step) panel)

    let saved = Path.GetTempFileName()

    for step in 0 .. steps - 1 do
        for panel in 0..1 do
            let states = panelWith 3 (fun env -> stateOf env step) panel
            acting.See(panel, Panel(states, 3))
            acting.Encode(panel, Panel(encodings[panel], 4), own)
            goOn step panel

        let expected =
            let windows =
                Array.init envs (fun env ->
                    let episode, last = place env step
                    struct (episode, last))

            Encodings.Of(network, data, windows, pool)

        for env in 0 .. envs - 1 do
            let given = [| for i in 0..3 -> encodings[env / 32][i * 32 + env % 32] |]
            Paths.sameBits given (Array.sub expected (4 * env) 4) $"environment {env}, step {step}"

        // What it remembers can be kept and comes back.
        if step = 10 then
            StateFile.Save(saved, (fun state -> acting.Visit state))

        if step = 11 then
            StateFile.Load(saved, (fun state -> acting.Visit state))

            for panel in 0..1 do
                let states = panelWith 3 (fun env -> stateOf env step) panel
                let again = Array.zeroCreate<float32>(4 * 32)
                acting.See(panel, Panel(states, 3))
                acting.Encode(panel, Panel(again, 4), own)
                Paths.sameBits again encodings[panel] "after restoring"
                goOn step panel

    File.Delete saved

[<Fact>]
let ``An encoder's file brings it back, and refuses what is none`` () =
    use network = new TrajectoryTransformer(config.Network, 3, 2)
    network.Initialize(RandomStream(2UL, "encoder"))
    let path = Path.GetTempFileName()
    let note = Collections.Generic.Dictionary(dict [ "note", "of a test" ])
    EncoderFile.Save(path, network, note)
    use again = EncoderFile.Load path
    Expect.equal (again.Config, again.States, again.Actions) (network.Config, 3, 2) "sizes"
    Paths.sameBits (again.Parameters.Span.ToArray()) (network.Parameters.Span.ToArray()) "parameters"
    data.Value.Save path

    let refused =
        Expect.throws<DistillException>(fun () ->
            let none = EncoderFile.Load path
            none.Dispose())

    Expect.isTrue
        (refused.Message.Contains "does not say that it holds a trajectory transformer")
        refused.Message

    File.Delete path

[<Fact>]
let ``Training allocates nothing from its second update on, nor does an encoder that acts`` () =
    use pool = new WorkerPool(1)
    use training = new TrajectoryEncoding(config, data.Value, pool)

    let allocated (work: unit -> unit) =
        work ()
        let before = GC.GetAllocatedBytesForCurrentThread()
        work ()
        GC.GetAllocatedBytesForCurrentThread() - before

    Expect.equal (allocated (fun () -> training.Update() |> ignore)) 0L "an update"
    use acting = new TrajectoryEncoder(training.Transformer, 32)
    use own = new Workspace()

    let zeros count : float32[] = Array.zeroCreate count
    let states, actions, encodings, rewards = zeros 96, zeros 64, zeros 128, zeros 32
    let keep = Array.create 32 1f

    let step () =
        acting.See(0, Panel(states, 3))
        acting.Encode(0, Panel(encodings, 4), own)
        acting.Take(0, actions, rewards)
        acting.Forget(0, keep)

    // Until the window is full, a step needs more memory than the one before.
    for _ in 1..5 do
        step ()

    Expect.equal (allocated step) 0L "a step"
