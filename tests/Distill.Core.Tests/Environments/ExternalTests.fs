/// Environments of another process: what they say, what they show where episodes end, and how they fail.
module Distill.Tests.ExternalTests

open System
open System.Diagnostics
open System.IO
open System.Net.Sockets
open System.Runtime.InteropServices
open System.Threading
open Xunit
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Environments.External
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Distill.Tests.Tools

let private script (name: string) = Storage.fixture $"external/{name}"

let private command python (arguments: string) =
    let words = arguments.Split(' ', 2)
    let rest = if words.Length > 1 then words[1] else ""
    $"{python} \"{script words[0]}\" {rest}"

let private simulator (arguments: string) envs =
    ExternalConfig(Command = command (Option.defaultValue "python3" numpy.Value) arguments, Envs = envs)

let private create (config: ExternalConfig) (seed: uint64) =
    config.Create(config.Envs, seed) :?> ExternalEnvironment

/// A group of all environments, `[envs][size]`.
let private look (environment: IBatchedEnvironment) (group: string) =
    let index = environment.Spec.Group group
    let size = environment.Spec.Groups[index].Size

    [|
        for panel in 0 .. Panel.Count environment.Count - 1 do
            let values = Array.zeroCreate<float32>(size * Panel.Width)
            environment.Observe(panel, index, values)

            for lane in 0 .. min Panel.Width (environment.Count - panel * Panel.Width) - 1 do
                Array.init size (fun i -> float values[i * Panel.Width + lane])
    |]

let private resetAll (environment: IBatchedEnvironment) =
    for panel in 0 .. Panel.Count environment.Count - 1 do
        environment.Reset panel

/// Reward, terminated, truncated and the measures of all environments, `[envs][3 + measures]`, for one action each.
let private step (environment: ExternalEnvironment) (action: int -> float) =
    let panels = Panel.Count environment.Count
    let rows = 3 + environment.Spec.Measures.Count
    let actions = Array.init (panels * Panel.Width) (action >> float32)
    let outcomes = Array.zeroCreate<float32>(panels * rows * Panel.Width)
    environment.Step(ReadOnlySpan actions, Span outcomes)

    Array.init environment.Count (fun env ->
        let first = env / Panel.Width * rows * Panel.Width + env % Panel.Width
        Array.init rows (fun row -> float outcomes[first + row * Panel.Width]))

let private counts (environment: ExternalEnvironment) env =
    let counted = environment.Counted(env / Panel.Width)
    counted.IsEmpty || counted[env % Panel.Width] <> 0uy

let private sentence (work: unit -> unit) =
    (Expect.throws<DistillException> work).Message

[<NumpyFact>]
let ``a simulator says what it is, and the process that was asked serves the first environments`` () =
    let config = simulator "walker.py known" 40
    let spec = (config :> IEnvironmentConfig).Spec
    Expect.equal spec.Name "walker" "name"

    Expect.equal
        [ for group in spec.Groups -> group.Name, [ for part in group.Components -> part.Name, part.Size ] ]
        [ for name in [ "state"; "teacher"; "student" ] -> name, [ "place, m", 1; "share of the time", 1 ] ]
        "groups"

    Expect.equal
        (spec.Actions.Size, spec.Actions.Discrete, spec.Actions.Meaning)
        (1, false, "clipped to -0.5 to 0.5")
        "actions"

    Expect.equal (spec.EpisodeLimit, spec.StepSeconds, spec.Resumes) (20, 0.1, false) "limits"
    Expect.equal (List.ofSeq spec.Variants) [ "left"; "right" ] "variants"

    Expect.equal
        (List.ofSeq spec.Measures)
        [ EnvironmentMeasure("reach", "m", MeasureOver.Max, HigherIsBetter = true) ]
        "measures"

    let running () =
        Process.GetProcesses()
        |> Array.filter (fun p -> p.ProcessName.StartsWith "python")
        |> Array.map _.Id

    let before = running ()
    use training = create config 3UL

    Expect.isTrue
        (Array.contains training.ProcessId.Value before)
        "the process that was asked serves another time"

    use second = create config 3UL
    Expect.isTrue (second.ProcessId <> training.ProcessId) "two batches share a process"
    Expect.isTrue training.Lost "no episode was begun"
    resetAll training
    let first = look training "state"
    Expect.isTrue (not training.Lost) "episodes are lost"

    Expect.equal
        [ for env in 0..39 -> training.VariantOf env ]
        [ for env in 0..39 -> env % 2 ]
        "variant of each"

    // What is known already moves and is clipped; the same seed begins the same episodes, another seed others.
    resetAll second
    Expect.equal (look second "student") first "the same seed"
    let outcome = step training (fun _ -> 7.0)
    let next = look training "state"

    for env in 0..39 do
        if outcome[env][1] = 0.0 then
            Expect.close
                0.45
                (Array.head next[env] - Array.head first[env])
                0.5
                "a clipped action and its noise"

            Expect.close 1e-6 (Array.last outcome[env]) (abs (Array.head next[env])) "the measure"
            Expect.close 1e-6 (Array.last next[env]) 0.05 "the time"

    // One panel of two begins other episodes.
    training.Reset 1
    let after = look training "state"
    Expect.equal after[..31] next[..31] "the first panel goes on"
    Expect.isTrue (after[32..] |> Array.forall (fun values -> values[1] = 0.0)) "the second begins"
    training.Rewind()
    Expect.isTrue training.Lost "nothing is under way after going back"
    resetAll training
    Expect.equal (look training "state") first "as at first"
    use other = create config 4UL
    resetAll other
    Expect.isTrue (look other "state" <> first) "another seed begins other episodes"

    // Nothing is left: names in shared memory from now on, processes when the environments are disposed of.
    let names () =
        if Directory.Exists "/dev/shm" then
            Directory.GetFiles("/dev/shm", $"distill-{Environment.ProcessId}-*").Length
        else
            0

    Expect.equal (names ()) 0 "names in shared memory"
    let id = other.ProcessId.Value
    (other :> IDisposable).Dispose()
    Expect.throws<ArgumentException>(fun () -> Process.GetProcessById id |> ignore) |> ignore

/// What the pendulum's own numbers become in a step: cosine, sine, speed.
let private swung (state: float[]) (action: float) =
    let torque = Math.Clamp(float (float32 action), -2.0, 2.0)
    let angle = Math.Atan2(state[1], state[0])

    let speed =
        Math.Clamp(state[2] + 0.05 * (15.0 * sin angle + 3.0 * torque), -8.0, 8.0)

    let next = angle + 0.05 * speed
    [| cos next; sin next; speed |], -(angle ** 2.0 + 0.1 * state[2] ** 2.0 + 0.001 * torque ** 2.0)

/// Steps pendulums and compares each with the equations: what a step led to is shown, and then the next episode.
let private followsTheEquations (environment: ExternalEnvironment) group limit =
    let random = Random 1
    resetAll environment
    let ends = Array.zeroCreate<int> environment.Count
    let mutable paused = 0

    for number in 0 .. 3 * limit do
        let before = look environment group
        let counted = Array.init environment.Count (counts environment)
        let actions = Array.init 96 (fun _ -> 3.0 - 6.0 * random.NextDouble())
        let outcome = step environment (Array.get actions)

        if environment.ShowsEnds then
            environment.ShowEnds true

        let arrived = look environment group
        environment.ShowEnds false
        let now = look environment group

        for env in 0 .. environment.Count - 1 do
            let what = $"step {number}, environment {env}"
            let expected, reward = swung before[env] actions[env]
            let ended = outcome[env][2] = 1.0
            Expect.equal (outcome[env].[1]) 0.0 $"{what}: a pendulum never terminates"

            if counted[env] then
                Expect.close 1e-4 (Array.head outcome[env]) reward $"{what}: reward"
            else
                paused <- paused + 1

                Expect.equal
                    (Array.head outcome[env], ended)
                    (0.0, false)
                    $"{what}: a step that begins an episode"

            if counted[env] && (environment.ShowsEnds || not ended) then
                Expect.closeAll 1e-5 arrived[env] expected $"{what}: reached"

            if ended then
                ends[env] <- ends[env] + 1

            // Episodes begin with a speed within 1, and there is another state than the last.
            if ended && not environment.Pauses || not counted[env] then
                Expect.isTrue
                    (abs (Array.last now[env]) <= 1.0 && now[env] <> expected)
                    $"{what}: no episode begins"

    Expect.equal (Array.distinct ends) [| (if environment.Pauses then 2 else 3) |] "episodes that ended"
    Expect.equal (paused > 0) environment.Pauses "steps that begin episodes"

[<NumpyFact>]
let ``every convention of Gymnasium shows the state that an episode ends in, and then the next episode`` () =
    for mode in [ "next_step"; "same_step"; "old"; "disabled" ] do
        use environment = create (simulator $"pendulum.py {mode} 7" 40) 1UL
        Expect.equal environment.ShowsEnds true mode
        Expect.equal environment.Pauses (mode = "next_step") mode
        followsTheEquations environment "teacher" 7

[<TorchFact>]
let ``an rsl_rl environment with tensors works in both forms`` () =
    for form in [ "dict"; "tuple" ] do
        let config =
            ExternalConfig(
                Command = command torch.Value.Value $"pendulum_rsl_rl.py {form}",
                Envs = 40,
                Shared = true
            )

        use environment = create config 1UL
        let spec = environment.Spec

        Expect.equal
            [ for group in spec.Groups -> group.Name, group.Size ]
            [ "policy", 4; "teacher", 3; "student", 4 ]
            form

        Expect.equal (spec.EpisodeLimit, spec.StepSeconds) (200, 0.05) form
        Expect.isTrue (not environment.ShowsEnds) "rsl_rl does not show where episodes end"
        resetAll environment
        let first = look environment "teacher"
        let mutable before = first

        for number in 1..200 do
            let outcome = step environment (fun _ -> 1.0)
            let now = look environment "teacher"

            for env in 0..39 do
                let expected, reward = swung before[env] 1.0
                Expect.close 1e-4 (Array.head outcome[env]) reward "reward"

                Expect.equal
                    (Array.sub outcome[env] 1 2)
                    [| 0.0; (if number = 200 then 1.0 else 0.0) |]
                    "time-outs"

                if number < 200 then
                    Expect.closeAll 1e-5 now[env] expected "reached"

            before <- now

        environment.Rewind()
        resetAll environment
        Expect.equal (look environment "teacher") first "the same seed"

        if form = "dict" then
            use pool = new WorkerPool(1)

            let settings =
                PpoConfig(StepsPerEnv = 4, TimeOutBootstrap = Nullable Bootstrap.Reached)

            Storage.contains
                "does not show the states in which its episodes end"
                (sentence (fun () -> (new Ppo(settings, config, pool)).Dispose()))

let private parameters (policy: Policy) =
    [|
        for view in policy.Network.Views do
            yield! policy.Network.Parameters.Slice(view.Offset, view.Length).ToArray()

        match policy.Normalizer with
        | null -> ()
        | normalizer -> yield! normalizer.Mean
    |]

[<NumpyFact>]
let ``a teacher and a student of another process's cart poles have the same bits on any number of threads``
    ()
    =
    let config = simulator "cartpole.py next_step 30" 70

    let trained (threads: int) =
        use pool = new WorkerPool(threads)

        let settings =
            PpoConfig(
                Actor = dense "teacher" [ 8 ] true,
                Critic = GruStudent(ObservationGroup = "teacher", Hidden = 4),
                StepsPerEnv = 25
            )

        use ppo = new Ppo(settings, config, pool)

        for _ in 1..2 do
            ppo.Iterate() |> ignore

        let state = bytes ppo.Visit

        let distillation =
            DistillationConfig(
                Environment = config,
                Student = GruStudent(Hidden = 4),
                Collection = StepsPerIteration 40,
                Acting = LinearBeta 2,
                Loss = CrossEntropy()
            )

        use teacher = cartPoleTeacher ()
        use distillation = new Distillation(distillation, teacher, pool)

        for _ in 1..2 do
            distillation.Iterate() |> ignore

        use evaluator = new Evaluator(config, 50, 3UL, pool)
        let result = evaluator.Run distillation.Student

        Expect.equal
            (evaluator.Run distillation.Student).Returns
            result.Returns
            "evaluations of one policy are paired"

        state, bytes distillation.Visit, result.Returns

    let state, distilled, returns = trained 1
    let stateOfTwo, distilledOfTwo, returnsOfTwo = trained 2
    sameState stateOfTwo state "PPO"
    sameState distilledOfTwo distilled "distillation"
    Paths.sameBits returnsOfTwo returns "returns"

[<NumpyFact>]
let ``what goes on from a checkpoint begins other episodes and remembers nothing of the old ones`` () =
    let config = simulator "pendulum.py same_step 50" 40
    use pool = new WorkerPool(1)

    let settings =
        PpoConfig(Actor = GruStudent(ObservationGroup = "student", Hidden = 4), StepsPerEnv = 20)

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state")
        use ppo = new Ppo(settings, config, pool)

        for _ in 1..2 do
            ppo.Iterate() |> ignore

        save path ppo.Visit
        let report = ppo.Iterate()
        Expect.equal report.MeanEpisodeLength.HasValue true "episodes of 50 steps have ended after 60"
        use again = new Ppo(settings, config, pool)
        load path again.Visit
        let report = again.Iterate()
        Expect.equal report.Iteration 2 "it goes on"
        Expect.equal report.MeanEpisodeLength.HasValue false "episodes that were cut have ended"

        for _ in 1..2 do
            Expect.isTrue (Double.IsFinite(again.Iterate().ValueLoss)) "it learns")

/// A simulator that waits for connections until the work is done.
let private listening (work: string -> Process -> unit) =
    Storage.inTemporaryFolder (fun folder ->
        let socket = Path.Combine(folder, "socket")

        let start =
            ProcessStartInfo(
                numpy.Value.Value,
                [ script "walker.py"; "listen"; socket ],
                RedirectStandardOutput = true,
                RedirectStandardError = true
            )

        start.Environment["PYTHONPATH"] <- Path.Combine(AppContext.BaseDirectory, "python")
        use running = Process.Start start |> nonNull

        try
            Storage.contains "Waiting for Distill" (string (running.StandardOutput.ReadLine()))
            work socket running
        finally
            running.Kill()
            running.WaitForExit())

[<NumpyFact>]
let ``a simulator that runs serves training and evaluation, one after the other`` () =
    listening (fun socket running ->
        let config = ExternalConfig(Socket = socket, Envs = 40, StartTimeout = 20)
        use pool = new WorkerPool(1)
        use policy = randomPolicy 1 0.5f (NetworkSpec.GruStack(2, 4, 4, 0, 1)) "state" false

        let evaluated () =
            use evaluator = new Evaluator(config, 100, 3UL, pool)
            evaluator.Run policy

        let alone = evaluated ()

        let same what =
            let again = evaluated ()
            Paths.sameBits again.Returns alone.Returns what

        Expect.equal alone.Episodes 100 "three rounds of 40 environments, the last of 20"
        Expect.equal (Array.distinct alone.Returns).Length 100 "episodes of different rounds differ"
        Expect.equal (List.ofSeq alone.Variants) [ for episode in 0..99 -> episode % 40 % 2 ] "variants"

        // Another connection, and beside a training that then begins anew.
        use training = create config 1UL
        resetAll training
        step training (fun _ -> 0.1) |> ignore
        use ppo = new Ppo(PpoConfig(StepsPerEnv = 5), config, pool)
        Expect.isTrue (not training.Lost) "nobody else has used it yet"
        ppo.Iterate() |> ignore
        Expect.isTrue training.Lost "another training has used it"
        same "the same episodes"
        Expect.equal (ppo.Iterate()).Iteration 1 "training goes on"
        same "the same episodes again"
        (training :> IDisposable).Dispose()

        Storage.contains
            "has 40 environments, not 41: add envs=40"
            (sentence (fun () ->
                ppo.Dispose()

                (ExternalConfig(Socket = socket, Envs = 41, StartTimeout = 20) :> IEnvironmentConfig).Spec
                |> ignore))

        // Whoever comes next is told when it has gone.
        use last = create config 1UL
        running.Kill()
        running.WaitForExit()
        resetAll last

        Storage.contains
            "has closed the connection in a reset"
            (sentence (fun () -> look last "state" |> ignore)))

/// What uses a simulator that fails: its facts, environments, some steps.
let private failing (config: ExternalConfig) =
    sentence (fun () ->
        use environment = create config 1UL
        resetAll environment

        for _ in 1..12 do
            step environment (fun _ -> 0.0) |> ignore)

/// The output that a sentence says is kept, which is removed.
let private output (message: string) =
    let start =
        message.IndexOf(Path.Combine(Path.GetTempPath(), "distill-simulator-"), StringComparison.Ordinal)

    let path =
        message.Substring(start, message.IndexOf(".log", start, StringComparison.Ordinal) + 4 - start)

    let text = File.ReadAllText path
    File.Delete path
    text

[<NumpyFact>]
let ``every failure of a simulator is one sentence`` () =
    let walker how =
        ExternalConfig(
            Command = command numpy.Value.Value $"walker.py {how}",
            Envs = 40,
            StepTimeout = 20,
            StartTimeout = 20
        )

    for config, parts in
        [
            ExternalConfig(), [ "needs a command that starts it or the socket of one that runs" ]
            ExternalConfig(Command = "a", Socket = "b"), [ "and not both" ]
            ExternalConfig(Command = "a", Envs = 0), [ "envs=0 cannot work" ]
            ExternalConfig(Command = "no-such-program x"),
            [ "`no-such-program x` cannot be started: there is no program 'no-such-program'" ]
            ExternalConfig(Socket = "/no/such/socket"), [ "No simulator waits at /no/such/socket" ]
        ] do
        let message = failing config
        List.iter (fun part -> Storage.contains part message) parts

    let cases =
        [|
            walker "import", [ "ended with exit code 1:"; "No module named 'no_such_module'" ], "Traceback"
            walker "make",
            [ "failed in being made: \"?RuntimeError: no licence \\(walker.py, line \\d+\\)" ],
            "Traceback"
            walker "version", [ "speaks version 99 of distill_environment.py and Distill version 1" ], ""
            walker "range", [ "says that number 0 of its actions is within 1 and -1" ], ""
            walker "groups", [ "observation group 'state' has 0 numbers" ], ""
            walker "fixed", [ "has 7 environments, not 40: add envs=7" ], ""
            walker "raise",
            [ "failed in a step: ValueError: the knee is stuck \\(walker.py, line \\d+\\)" ],
            "fail()"
            walker "exit",
            [ "ended with exit code 3: no more memory"; "That was in a step" ],
            "no more memory"
            walker "shape", [ "the reward has the shape \\[39\\], not \\[40\\]" ], "Traceback"
            walker "limit", [ "episodes have 10 steps at most, but the one of environment \\d+ goes on" ], ""
            ExternalConfig(Command = (walker "hang").Command, Envs = 40, StepTimeout = 0.3),
            [ "has not finished a step within 0.3 s \\(step_timeout\\) and was ended" ],
            ""
            ExternalConfig(Command = (walker "sleep").Command, StartTimeout = 0.3),
            [ "has not called serve of distill_environment within 0.3 s \\(start_timeout\\)" ],
            ""
        |]

    cases
    |> Array.Parallel.iter (fun (config, parts, kept) ->
        let message = failing config

        for part in parts do
            Assert.Matches(part, message)

        Expect.isTrue
            (message.Contains $"`{config.Command.TrimEnd()}" || message.Contains config.Command)
            $"which simulator: {message}"

        // What a sentence names is kept, and else nothing.
        if message.Contains ".log" then
            Storage.contains kept (output message)
        else
            Expect.equal kept "" "no output is named")

[<NumpyFact>]
let ``a simulator that is killed or gives what is no number ends a training with a sentence`` () =
    use pool = new WorkerPool(2)

    let settings =
        PpoConfig(StepsPerEnv = 6, Actor = dense "state" [ 4 ] false, Critic = dense "state" [ 4 ] false)

    let message =
        sentence (fun () ->
            use ppo = new Ppo(settings, simulator "walker.py nan" 40, pool)
            ppo.Iterate() |> ignore)

    Storage.contains "Iteration 1: the actor's observation of environment 5 is NaN at step 3" message
    let config = simulator "walker.py" 40
    (config :> IEnvironmentConfig).Spec |> ignore
    use evaluated = create config 1UL
    use ppo = new Ppo(settings, config, pool)
    ppo.Iterate() |> ignore
    resetAll evaluated
    let id = evaluated.ProcessId.Value
    Process.GetProcessById(id).Kill()
    // A kill is not yet an end.
    Process.GetProcessById(id).WaitForExit()

    let message =
        sentence (fun () ->
            for _ in 1..3 do
                step evaluated (fun _ -> 0.0) |> ignore)

    Storage.contains "was ended by signal 9" message
    output message |> ignore
    // It is said again, and others are not touched.
    Expect.equal (sentence (fun () -> step evaluated (fun _ -> 0.0) |> ignore)) message "again"
    ppo.Iterate() |> ignore

[<NumpyFact>]
let ``a simulator goes when Distill has gone, even out of a step that hangs, and not by Ctrl-C`` () =
    let left (how: string) (talk: Socket -> Process -> unit) =
        Storage.inTemporaryFolder (fun folder ->
            let path = Path.Combine(folder, "socket")

            use listener =
                new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)

            listener.Bind(UnixDomainSocketEndPoint path)
            listener.Listen()

            let start =
                ProcessStartInfo(
                    numpy.Value.Value,
                    [ script "walker.py"; how ],
                    RedirectStandardError = true
                )

            start.Environment["PYTHONPATH"] <- Path.Combine(AppContext.BaseDirectory, "python")
            start.Environment["DISTILL_SOCKET"] <- path
            use running = Process.Start start |> nonNull

            (use connection = listener.Accept()
             talk connection running)

            Expect.isTrue (running.WaitForExit 20_000) $"{how}: it goes on")

    let read (connection: Socket) =
        connection.Receive(Array.zeroCreate<byte> 65536) |> ignore

    [|
        fun () -> left "well" (fun connection _ -> read connection)
        fun () ->
            left "well" (fun connection running ->
                read connection
                Expect.equal (startIn "" "kill" [ "-INT"; string running.Id ]) (Some(0, "")) "kill"
                Expect.isTrue (not (running.WaitForExit 300)) "Ctrl-C ends it")
        // Waits in a step for ever; what it does otherwise is of no matter.
        fun () ->
            left "hang" (fun connection _ ->
                read connection

                let tell (text: string) =
                    connection.Send(
                        Array.append (BitConverter.GetBytes text.Length) (Text.Encoding.UTF8.GetBytes text)
                    )
                    |> ignore

                tell """{"envs": 4, "seed": 0}"""
                read connection
                use memory = new SharedMemory(4096)

                let place shape offset =
                    $"""{{"offset": {offset}, "shape": {shape}}}"""

                tell
                    $"""{{"path": "{memory.Path}", "bytes": {memory.Bytes}, "actions": {place "[4, 1]" 0}, "reward": {place "[4]" 64},
                    "terminated": {place "[4]" 128}, "truncated": {place "[4]" 192}, "mask": {place "[4]" 256}, "measures": {{"reach": {place "[4]" 320}}},
                    "observations": {{"state": {place "[4, 2]" 384}}}, "final": {{"state": {place "[4, 2]" 448}}}}}"""

                read connection
                memory.Span[64] <- 1f
                memory.Span.Slice(64, 4).Fill 1f
                connection.Send(Array.append "R"B (BitConverter.GetBytes 1L)) |> ignore
                read connection

                for _ in 1..2 do
                    connection.Send "S"B |> ignore
                    read connection

                connection.Send "S"B |> ignore)
    |]
    |> Array.Parallel.iter (fun test -> test ())

/// Walkers that spend the step after the end of an episode on the beginning of the next, and meanwhile show and pay what has no
/// meaning.
type private Pausing(envs: int, seed: uint64, junk: float32) =
    let random = RandomStream(seed, "pausing")

    let state =
        Array.init envs (fun _ -> {| Place = 0f; Steps = 0; Episode = 0u; Paused = false |})

    let final = Array.zeroCreate<float32> envs
    let ended = Array.zeroCreate<bool> envs
    let mutable shown = false

    let begun env =
        let episode = state[env].Episode + 1u

        state[env] <-
            {|
                Place = random.Uniform(uint32 env, episode) - 0.5f
                Steps = 0
                Episode = episode
                Paused = false
            |}

    let counted = Array.zeroCreate<byte>(Panel.Count envs * Panel.Width)

    interface ILockstepEnvironment with
        member _.Spec =
            let part = [| ObservationComponent("place", 1) |]

            EnvironmentSpec(
                "pausing",
                [| ObservationGroup("teacher", part); ObservationGroup("student", part) |],
                ActionSpace(1, false),
                9,
                0.1
            )

        member _.Count = envs

        member _.Reset panel =
            for env in panel * 32 .. min envs (panel * 32 + 32) - 1 do
                begun env

        member _.Observe(panel, _, observation) =
            for env in panel * 32 .. min envs (panel * 32 + 32) - 1 do
                observation[env % 32] <-
                    if shown && ended[env] then final[env]
                    elif state[env].Paused then junk
                    else state[env].Place

        member _.Step(_: int, _: ReadOnlySpan<float32>, _: StepOutcome) : unit = failwith "one panel alone"

        member _.Step(actions: ReadOnlySpan<float32>, outcomes: Span<float32>) : unit =
            for env in 0 .. envs - 1 do
                let own = state[env]
                let first = env / 32 * 96 + env % 32
                ended[env] <- false
                outcomes[first + 32] <- 0f
                outcomes[first + 64] <- 0f

                if own.Paused then
                    outcomes[first] <- junk
                    begun env
                else
                    let place = own.Place + 0.3f * Math.Clamp(actions[env], -1f, 1f)
                    let terminated, late = abs place > 1f, own.Steps = 8
                    outcomes[first] <- -place * place
                    outcomes[first + 32] <- if terminated then 1f else 0f
                    outcomes[first + 64] <- if late && not terminated then 1f else 0f
                    final[env] <- place
                    ended[env] <- terminated || late
                    state[env] <- {| own with Place = place; Steps = own.Steps + 1; Paused = ended[env] |}

        member _.ShowsEnds = true
        member _.ShowEnds now = shown <- now
        member _.Pauses = true

        member _.Counted panel =
            for env in panel * 32 .. min envs (panel * 32 + 32) - 1 do
                counted[env] <- if state[env].Paused then 0uy else 1uy

            ReadOnlySpan(counted, panel * 32, 32)

        member _.Rewind() = ()
        member _.Visit _ = ()
        member _.Dispose() = ()

[<Fact>]
let ``nothing is learned from steps that only begin an episode`` () =
    let pausing junk =
        { new IEnvironmentConfig with
            member _.Envs = 40
            member config.Spec = config.Create(1, 0UL).Spec
            member _.Create(envs, seed) = new Pausing(envs, seed, junk)
        }

    let ppo actor junk =
        use pool = new WorkerPool(2)

        let settings =
            PpoConfig(
                StepsPerEnv = 15,
                Actor = actor,
                Critic = dense "teacher" [ 6 ] true,
                InitStd = Nullable 0.8
            )

        use ppo = new Ppo(settings, pausing junk, pool)

        let reports =
            [|
                for _ in 1..3 do
                    let report = ppo.Iterate()
                    report.ValueLoss
                    report.Entropy
                    report.KlDivergence
                    report.MeanReturn.Value
                    report.MeanEpisodeLength.Value
            |]

        Expect.isTrue (reports[4] <= 9.0) "an episode has at most 9 steps"
        Array.append (parameters ppo.Actor) (parameters ppo.Critic), reports

    let sac junk =
        use pool = new WorkerPool(1)

        let settings =
            SacConfig(
                StepsPerEnv = 40,
                WarmupSteps = 200,
                LearningStarts = 200,
                UpdateToData = 0.01,
                MiniBatchSize = 32
            )

        use sac = new Sac(settings, pausing junk, pool)
        let report = sac.Iterate()
        parameters sac.Actor, [| float report.Transitions; report.MeanReturn.Value |]

    let distilled junk =
        use pool = new WorkerPool(1)
        use teacher = randomPolicy 1 1f (NetworkSpec.Mlp(1, [ 4 ], 1)) "teacher" false

        let settings =
            DistillationConfig(
                Environment = pausing junk,
                Student = GruStudent(Hidden = 4, NormalizeObservations = true),
                Collection = StepsPerIteration 30,
                Acting = LinearBeta 3
            )

        use distillation = new Distillation(settings, teacher, pool)

        let reports =
            [|
                for _ in 1..2 do
                    let report = distillation.Iterate()
                    report.Loss
                    report.MeanReturn.Value
                    report.MeanEpisodeLength.Value
            |]

        parameters distillation.Student, reports

    for name, train in
        [
            "PPO", ppo (dense "student" [ 6 ] true)
            "PPO with a memory", ppo (GruStudent(Hidden = 4, NormalizeObservations = true))
            "SAC", sac
            "distillation", distilled
        ] do
        let weights, reports = train 0.1f
        let otherWeights, otherReports = train -3.7f
        Paths.sameBits otherWeights weights $"{name}: weights"
        Expect.equal otherReports reports $"{name}: reports"
