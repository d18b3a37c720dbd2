/// Manipulation on MuJoCo: the binding, the tasks, and that everything goes on bit for bit. The promises that all environments make are
/// in ContractTests.
module Distill.Tests.ManipulationTests

open System
open System.Globalization
open System.IO
open System.Text.RegularExpressions
open System.Threading.Tasks
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Manipulation
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Distill.Tests.Tools
open Xunit

let private zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)

let private createOf tasks envs limit seed =
    ManipulationConfig(Envs = envs, EpisodeLimit = limit, Tasks = tasks)
    |> fun config -> (config :> IEnvironmentConfig).Create(envs, seed)

let private create envs limit seed =
    createOf (ManipulationConfig().Tasks) envs limit seed

let private all = Enum.GetValues<ManipulationTask>()

/// Those with a drawer and a button.
let private furnished =
    [| ManipulationTask.DrawerOpen; ManipulationTask.ButtonPress |]

/// A task for each scene.
let private scenes = Array.append [| ManipulationTask.Push |] furnished

let private see (environment: IBatchedEnvironment) panel (group: string) =
    let group = environment.Spec.Group group
    let values = zeros environment.Spec.Groups[group].Size
    environment.Observe(panel, group, values)
    values

/// The numbers of a lane.
let private lane (values: float32[]) lane =
    [| for i in lane .. Panel.Width .. values.Length - 1 -> float values[i] |]

/// Some numbers of a lane.
let private part values l first last =
    Array.sub (lane values l) first (last - first + 1)

/// A number of a lane.
let private number (values: float32[]) l i = float values[i * Panel.Width + l]

let private measures = 4

/// Lets a group's actions be done and returns the outcome.
let private follow (environment: IBatchedEnvironment) panel group =
    let outcome = zeros (StepOutcome.Rows + measures)
    environment.Step(panel, see environment panel group, StepOutcome(Span outcome))
    outcome

/// What steps of all panels show and bring, each panel by itself.
let private run (environment: IBatchedEnvironment) group steps panel =
    Array.concat
        [
            for _ in 1..steps do
                follow environment panel group
                see environment panel "teacher"
        ]

// The binding

let private fields (kind: Type) =
    [
        for field in kind.GetFields() ->
            Regex.Replace(field.Name, "(?<!^)([A-Z])", "_$1").ToLowerInvariant(),
            field.GetRawConstantValue() :?> int
    ]

/// The numbers that a dump has under a heading.
let private printed (dump: string) (name: string) =
    let found =
        Regex.Match(dump, $@"(?m)^\s*{name.ToUpperInvariant()}\s*=?\s*((?:[-+0-9.einfa]+\s+)+)")

    Expect.isTrue found.Success $"the dump has {name}"

    [|
        for number in found.Groups[1].Value.Split([| ' '; '\n' |], StringSplitOptions.RemoveEmptyEntries) ->
            Double.Parse(number, CultureInfo.InvariantCulture)
    |]

[<MujocoFact>]
let ``Fields are where MuJoCo itself prints them from`` () =
    for task in scenes do
        let table = Tabletop.Load task
        let world = World(table, MujocoCalls.MakeData table.Model)
        let start = Starts.Draw(task, RandomStream(3UL, "dump"), 0, 1L)

        Storage.inTemporaryFolder (fun folder ->
            world.Reset &start

            for step in 1..20 do
                let mutable warnings = 0
                world.Step(0.3, -0.2, -1.0, float step / 20.0, 0, &warnings) |> ignore

            let file name = Path.Combine(folder, name)
            MujocoCalls.Print(table.Model, world.Data, file "model", file "data")
            let model, data = File.ReadAllText(file "model"), File.ReadAllText(file "data")

            for name, place in fields typeof<MujocoLayout.Count> do
                let expected =
                    match Regex.Match(model, $@"(?m)^{name}\s+(\d+)") with
                    | found when found.Success -> int found.Groups[1].Value
                    | _ -> 0 // Zeros are not printed.

                Expect.equal (MujocoCalls.Integer(table.Model, place)) expected name

            for name, place in fields typeof<MujocoLayout.Number> do
                Expect.equal [| MujocoCalls.Number(world.Data, place) |] (printed data name) name

            let arrays = fields typeof<MujocoLayout.Array>
            Expect.equal arrays.Length 6 "arrays"

            for name, place in arrays do
                let expected = printed data name
                Expect.isTrue (Array.exists ((<>) 0.0) expected) $"{name} says something"

                Expect.equal
                    (MujocoCalls.Numbers(world.Data, place, expected.Length).ToArray())
                    expected
                    $"{task}: {name}")

        MujocoCalls.DeleteData world.Data

let private header = "/usr/include/mujoco/mujoco.h"

type private MujocoHeaderFactAttribute() =
    inherit
        ToolFactAttribute(gcc.Value && File.Exists header, "gcc and MuJoCo's headers", "gcc libmujoco-dev")

[<MujocoHeaderFact>]
let ``The layout is what its generator prints`` () =
    let root = Path.GetDirectoryName NativeLibraries.folder |> nonNull

    Storage.inTemporaryFolder (fun folder ->
        let program = Path.Combine(folder, "layout")
        let source = Path.Combine(NativeLibraries.folder, "mujoco_layout.c")
        succeedIn folder "gcc" [ "-Wall"; "-Wextra"; "-Werror"; source; "-o"; program ] |> ignore

        let kept =
            Path.Combine(root, "Distill.Core/Environments/Manipulation/MujocoLayout.cs")

        Expect.equal (succeedIn folder program []) (File.ReadAllText kept) "layout")

[<MujocoFact>]
let ``The shared models are never written`` () =
    let dump task =
        let table = Tabletop.Load task

        Storage.inTemporaryFolderOf (fun folder ->
            let data = MujocoCalls.MakeData table.Model
            let file name = Path.Combine(folder, name)
            MujocoCalls.Print(table.Model, data, file "model", file "data")
            MujocoCalls.DeleteData data
            File.ReadAllText(file "model"))

    let before = Array.map dump scenes
    Expect.equal (Array.distinct before).Length 3 "scenes"
    use environment = createOf all 10 30 3UL
    run environment "noisy_expert" 70 0 |> ignore
    Expect.equal (Array.map dump scenes) before "models"

[<Fact>]
let ``Settings without sense are refused with a sentence`` () =
    for config, part in
        [
            ManipulationConfig(Envs = 0), "envs is 0; it must be between 1 and 65536"
            ManipulationConfig(EpisodeLimit = 0), "episode_limit is 0"
            ManipulationConfig(Tasks = [||]), "tasks is empty; it must be a list of at least one"
            ManipulationConfig(Tasks = [| enum 9 |]),
            "tasks is 9; it must be of: Reach, Push, PickPlace, DrawerOpen, ButtonPress"
            ManipulationConfig(Tasks = [| ManipulationTask.Push; ManipulationTask.Push |]),
            "tasks is a list with repetitions"
            ManipulationConfig(ExpertNoise = ExpertNoise(Deviation = nan)), "expert_noise.deviation is NaN"
            ManipulationConfig(ExpertNoise = ExpertNoise(Held = 0.7)), "expert_noise.ended is 0.7"
        ] do
        let told =
            Expect.throws<DistillException>(fun () -> (config :> IEnvironmentConfig).Spec |> ignore)

        Assert.Contains(part, told.Message)

// The tasks

[<Fact>]
let ``Rewards and successes are those of the formulas`` () =
    let random = Random 5
    let gains = Collections.Generic.HashSet<string>()

    for trial in 1..20_000 do
        let spread = 10.0 ** -(float (trial % 4))

        let near (p: float[]) =
            [| for x in p -> x + spread * 0.15 * (2.0 * random.NextDouble() - 1.0) |]

        let start = near [| 0.0; 0.65; 0.02 |]
        let goal = near [| 0.0; 0.85; 0.1 |]
        let puck = near (if trial % 3 = 0 then goal else near [| 0.0; 0.7; 0.05 |])
        let tip, hand = near puck, near puck
        let half = 0.02 + 0.03 * random.NextDouble()

        let scene: ManipulationReference.Scene =
            {
                Hand = hand
                Tip = tip
                LeftPad = tip[1] + half
                RightPad = tip[1] - half
                Opening = if trial % 7 = 0 then 0.0 else 20.0 * half
                Object = puck
                Goal = goal
                StartTip = [| 0.0; 0.6; 0.155 |]
                StartLeftPad = 0.647
                StartRightPad = 0.553
                StartObject = start
                Close = 2.5 * random.NextDouble() - 1.0
            }

        let point (p: float[]) = Point(p[0], p[1], p[2])

        let frame (p: float[]) opening =
            Frame(point hand, opening, point p, 0.0, 0.0, 0.0, 1.0)

        let mutable episode = Episode()
        episode.Goal <- point goal
        episode.Now <- frame puck scene.Opening
        episode.Start <- frame start 1.0
        episode.StartGrip <- Grip(point scene.StartTip, scene.StartLeftPad, scene.StartRightPad)
        let grip = Grip(point tip, scene.LeftPad, scene.RightPad)

        for task, reference, far in
            [
                ManipulationTask.Reach, ManipulationReference.reach, ManipulationReference.distance tip goal
                ManipulationTask.Push, ManipulationReference.push, ManipulationReference.distance puck goal
                ManipulationTask.PickPlace,
                ManipulationReference.pickPlace,
                ManipulationReference.distance puck goal
                ManipulationTask.DrawerOpen,
                ManipulationReference.drawerOpen,
                ManipulationReference.distance puck goal
                ManipulationTask.ButtonPress, ManipulationReference.buttonPress, abs (puck[2] - goal[2])
            ] do
            let gain = Rewards.Of(task, &episode, &grip, scene.Close)
            let reward, success = reference scene
            Expect.close 1e-12 gain.Reward reward $"{task}, trial {trial}"
            Expect.equal gain.Success success $"{task}, trial {trial}: success"
            Expect.close 1e-12 gain.ToGoal far $"{task}, trial {trial}: distance"

            gains.Add $"{task} {success} {reward = 10.0} {reward > 1.0} {reward > 0.01}" |> ignore

    Expect.isTrue (gains.Count >= 19) $"all cases: {gains.Count}"

[<MujocoFact>]
let ``Observations, starts and goals are MetaWorld's`` () =
    use environment = create 64 30 7UL
    let spec = environment.Spec

    Expect.equal
        [ for group in spec.Groups -> group.Name, group.Size ]
        [ "teacher", 39; "student", 39; "reduced", 21; "task", 3; "expert", 4; "noisy_expert", 4 ]
        "groups"

    Expect.equal (List.ofSeq spec.Variants) [ "reach"; "push"; "pick_place" ] "variants"

    let push =
        (ManipulationConfig(EpisodeLimit = 9) :> IEnvironmentConfig).Only 1 |> nonNull

    Expect.equal (List.ofSeq push.Spec.Variants, push.Spec.EpisodeLimit) ([ "push" ], 9) "push alone"

    for panel in 0..1 do
        for round in 1..40 do
            environment.Reset panel
            let seen = see environment panel "teacher"
            let tasks = see environment panel "task"

            for l in 0 .. Panel.Width - 1 do
                let o = lane seen l
                let task = environment.VariantOf(32 * panel + l)
                Expect.equal task ((32 * panel + l) % 3) "in turn"
                Expect.equal (lane tasks l) (Array.init 3 (fun i -> if i = task then 1.0 else 0.0)) "task"
                Expect.closeAll 1e-6 o[0..3] [ 0.0; 0.6; 0.2; 1.0 ] "hand"
                Expect.equal o[18..35] o[0..17] "a step before"
                Expect.equal o[7..17] [| 0.0; 0.0; 0.0; 1.0; 0.0; 0.0; 0.0; 0.0; 0.0; 0.0; 0.0 |] "upright"
                let within low high x = x >= low - 1e-6 && x <= high + 1e-6
                Expect.isTrue (within -0.1 0.1 o[4] && within 0.6 0.7 o[5]) "puck"
                Expect.close 1e-6 o[6] 0.02 "on the table"
                Expect.isTrue (within -0.1 0.1 o[36] && within 0.8 0.9 o[37]) "goal"

                Expect.isTrue
                    (if task = 1 then
                         abs (o[38] - 0.02) < 1e-6
                     else
                         within 0.05 0.3 o[38])
                    "height"

                Expect.isTrue
                    (ManipulationReference.distance o[4..5] o[36..37] >= 0.15 - 1e-6)
                    "puck and goal are apart"

    let before = see environment 0 "teacher"
    follow environment 0 "noisy_expert" |> ignore
    let after, reduced = see environment 0 "teacher", see environment 0 "reduced"

    for l in 0 .. Panel.Width - 1 do
        Expect.equal (part after l 18 35) (part before l 0 17) "a step before"
        Expect.isTrue ((part after l 0 2) <> (part before l 0 2)) "the hand moved"
        Expect.equal (lane reduced l) (Array.append (part after l 0 17) (part after l 36 38)) "reduced"

[<MujocoFact>]
let ``Drawers and buttons are seen as MetaWorld shows them`` () =
    use environment = createOf furnished 64 30 7UL

    Expect.equal
        [ for group in environment.Spec.Groups -> group.Name, group.Size ]
        [ "teacher", 39; "student", 39; "reduced", 21; "task", 5; "expert", 4; "noisy_expert", 4 ]
        "groups"

    Expect.equal (List.ofSeq environment.Spec.Variants) [ "drawer_open"; "button_press" ] "variants"
    let places = Array.init 2 (fun _ -> ResizeArray<float[]>())

    for round in 1..10 do
        for panel in 0..1 do
            environment.Reset panel
            let seen, tasks = see environment panel "teacher", see environment panel "task"

            for l in 0 .. Panel.Width - 1 do
                let o, task = lane seen l, l % 2
                places[task].Add o[4..6]
                Expect.equal (lane tasks l) (Array.init 5 (fun i -> if i = 3 + task then 1.0 else 0.0)) "task"
                Expect.equal o[18..35] o[0..17] "a step before"
                Expect.equal o[7..17] [| 0.0; 0.0; 0.0; 1.0; 0.0; 0.0; 0.0; 0.0; 0.0; 0.0; 0.0 |] "upright"
                let y = if task = 0 then 0.6 else 0.4
                Expect.closeAll 1e-6 o[0..3] [ 0.0; y; 0.2; 1.0 ] "hand"
                // The chest is at y 0.9, its handle 0.17 before it; the button is 0.193 above its box.
                let toGoal =
                    if task = 0 then
                        [ 0.0; -0.19; 0.0 ]
                    else
                        [ 0.0; 0.0; -0.093 ]

                Expect.closeAll 1e-6 [ for i in 0..2 -> o[36 + i] - o[4 + i] ] toGoal "goal"

    for task, low, high in
        [ 0, [ -0.1; 0.73; 0.09 ], [ 0.1; 0.73; 0.09 ]; 1, [ -0.1; 0.8; 0.308 ], [ 0.1; 0.9; 0.308 ] ] do
        for i in 0..2 do
            let numbers = places[task] |> Seq.map (Array.item i)
            Expect.close (0.02 * (high[i] - low[i]) + 1e-6) (Seq.min numbers) low[i] $"least of {i}"
            Expect.close (0.02 * (high[i] - low[i]) + 1e-6) (Seq.max numbers) high[i] $"most of {i}"

[<MujocoFact>]
let ``The hand goes a centimetre a step, within its box, and closes where it is told`` () =
    use environment = create 1 1000 1UL

    let go (action: float32 list) steps =
        let actions, outcome = zeros 4, zeros 3
        action |> List.iteri (fun i x -> actions[i * Panel.Width] <- x)

        for _ in 1..steps do
            environment.Step(0, actions, StepOutcome(Span outcome))

        lane (see environment 0 "teacher") 0

    let o = go [ -1f; 7f; 1f; -1f ] 10
    // Where it is welded to is 0.1 m away, and it follows.
    let o =
        if o[0] > -0.01 then
            failwith "does not move"
        else
            go [ 0f; 0f; 0f; -1f ] 40

    Expect.closeAll 1e-3 o[0..3] [ -0.1; 0.7; 0.3; 1.0 ] "moved"
    let o = go [ 1f; 1f; -1f; 1f ] 200
    Expect.closeAll 5e-3 o[0..3] [ 0.5; 1.0; 0.05; 0.2 ] "in the corner, closed"
    let o = go [ 0f; 0f; 0f; -1f ] 50
    Expect.close 1e-3 o[3] 1.0 "open"

[<MujocoFact>]
let ``Scripted experts reach their goals and stay there`` () =
    use environment = createOf all 160 130 12UL
    let reached = zeros 5

    for panel in 0..4 do
        for step in 1..130 do
            let outcome = follow environment panel "expert"

            let rows row =
                Array.sub outcome (row * Panel.Width) Panel.Width

            if step < 130 then
                Expect.equal (Array.sum (rows 1) + Array.sum (rows 2)) 0f "goes on"
            else
                Expect.equal (rows 2) (Array.create 32 1f) "the limit"
                Expect.equal (Array.sum (rows 6)) 0f "warnings"

                for l in 0 .. Panel.Width - 1 do
                    let task = environment.VariantOf(32 * panel + l)
                    reached[task] <- reached[task] + (rows 3)[l]
                    Expect.isTrue ((rows 3)[l] = 0f || (rows 5)[l] <= 0.07f) "where it should be"

    // 32 episodes of each task.
    Expect.equal reached[0..4] (Array.create 5 32f) "successes"

[<MujocoFact>]
let ``The noise of the noisy expert fades during an episode`` () =
    use environment = create 96 100 12UL
    let differences = Array.zeroCreate 100

    for step in 0..99 do
        for panel in 0..2 do
            let clean, noisy =
                see environment panel "expert", see environment panel "noisy_expert"

            Paths.sameBits (see environment panel "noisy_expert") noisy "asked again"
            // Those that would leave the range of actions are cut.
            let inner =
                Array.zip clean noisy |> Array.filter (fun (c, n) -> abs c < 0.3f && abs n < 0.99f)

            let squares = inner |> Array.sumBy (fun (c, n) -> float (n - c) ** 2.0)
            differences[step] <- differences[step] + squares / float (max 1 inner.Length) / 3.0
            follow environment panel "noisy_expert" |> ignore

    let deviation a b = sqrt (Array.average differences[a..b])
    Expect.isTrue (deviation 0 19 > 0.3) $"strong at first: {deviation 0 19}"
    Expect.close 0.08 (deviation 40 49) 0.25 "half"
    Expect.equal (deviation 70 99) 0.0 "none"

[<MujocoFact>]
let ``A state that is not finite ends the episode, is counted, and disturbs nobody else`` () =
    let go broken =
        use environment = create 3 50 5UL
        let results = ResizeArray()

        for step in 1..20 do
            let actions = see environment 0 "expert"

            if broken && step = 7 then
                actions[1] <- nanf

            let outcome = zeros 7
            environment.Step(0, actions, StepOutcome(Span outcome))
            results.Add(outcome, see environment 0 "teacher")

        results.ToArray()

    let broken, sound = go true, go false

    for step in 0..19 do
        let (outcome, seen), (expected, expectedSeen) = broken[step], sound[step]

        for other in [ 0; 2 ] do
            Expect.equal (lane outcome other) (lane expected other) "others' outcomes"
            Expect.equal (lane seen other) (lane expectedSeen other) "others' observations"

        Expect.isTrue (Array.forall Single.IsFinite seen && Array.forall Single.IsFinite outcome) "finite"
        // Reward, terminated, truncated, success, success_any, object_to_goal, warnings.
        Expect.equal (number outcome 1 1) (if step = 6 then 1.0 else 0.0) "terminated"

        if step = 6 then
            Expect.equal (number outcome 1 0) 0.0 "no reward"
            Expect.isTrue ((number outcome 1 6) >= 1.0) "counted"
            Expect.closeAll 1e-6 (part seen 1 0 2) [ 0.0; 0.6; 0.2 ] "another episode"
        else
            Expect.equal (number outcome 1 6) 0.0 "no warnings"

// Bits

[<MujocoFact>]
let ``Panels give the same bits on any threads, and other bits for other seeds`` () =
    let panels seed (each: (int -> unit) -> unit) =
        use environment = createOf all 96 40 seed
        let results = Array.zeroCreate 3
        each (fun panel -> results[panel] <- run environment "noisy_expert" 60 panel)
        Array.concat results

    let inTurn seed =
        panels seed (fun go -> List.iter go [ 2; 0; 1 ])

    let atOnce = panels 9UL (fun go -> Parallel.For(0, 3, go) |> ignore)

    Paths.sameBits atOnce (inTurn 9UL) "threads"
    Expect.isTrue (inTurn 10UL <> atOnce) "another seed"

/// What environments show after 100 steps: hand, opening, what is moved, and the reward.
let private hundredSteps (environment: IBatchedEnvironment) =
    [
        for step in 1..100 do
            let outcome = follow environment 0 "noisy_expert"

            if step = 100 then
                for l in 0 .. environment.Count - 1 do
                    let o = lane (see environment 0 "teacher") l
                    [ yield! o[0..6]; (number outcome l 0) ]
    ]

[<MujocoFact>]
let ``A trajectory is as it was`` () =
    use environment = create 3 200 1UL
    use furnished = createOf furnished 2 200 1UL
    let seen = hundredSteps environment @ hundredSteps furnished

    // MuJoCo's functions for sines differ in the last bits between machines, which contacts make larger.
    List.iter2
        (fun (actual: float list) expected -> Expect.closeAll 1e-3 actual expected $"trajectory %A{seen}")
        seen
        [
            [ -0.1064694; 0.8144116; 0.1779940; 0.7410199; 0.0375716; 0.6072683; 0.0198578; 10.0 ]
            [ -0.0092563; 0.8006181; 0.0599537; 0.5118879; -0.0007290; 0.7997894; 0.0246106; 10.0 ]
            [ 0.0422179; 0.9032642; 0.1305895; 0.5208892; 0.0558933; 0.9006764; 0.0982474; 10.0 ]
            [ 0.0243600; 0.5241135; 0.0839024; 1.0; 0.0375716; 0.5395775; 0.0900000; 9.4538870 ]
            [ -0.0196562; 0.8499619; 0.2792314; 0.1967139; -0.0116701; 0.8511233; 0.2332552; 8.2505579 ]
        ]

[<MujocoFact>]
let ``An environment that is restored goes on bit for bit, in the middle of a grip`` () =
    use undisturbed = createOf all 34 90 6UL
    // In the second episode, in which everything stands elsewhere.
    let steps = 90 + 75

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")

        for panel in 0..1 do
            run undisturbed "expert" steps panel |> ignore

        save path undisturbed.Visit
        let expected = [ for panel in 0..1 -> run undisturbed "noisy_expert" 40 panel ]
        use resumed = createOf all 34 90 6UL
        run resumed "noisy_expert" 33 0 |> ignore
        load path resumed.Visit

        for panel in 0..1 do
            Paths.sameBits (run resumed "noisy_expert" 40 panel) expected[panel] $"panel {panel}")

[<MujocoFact>]
let ``Stepping allocates nothing`` () =
    use environment = create 32 30 6UL
    let actions, outcome, seen = zeros 4, zeros 7, zeros 39

    let some () =
        for _ in 1..35 do
            environment.Observe(0, 5, actions)
            environment.Observe(0, 0, seen)
            environment.Step(0, actions, StepOutcome(Span outcome))

    some ()
    let before = GC.GetAllocatedBytesForCurrentThread()
    some ()
    Expect.equal (GC.GetAllocatedBytesForCurrentThread() - before) 0L "bytes"

[<MujocoFact>]
let ``SAC on manipulation goes on bit for bit, with any number of threads`` () =
    let config =
        SacConfig(
            StepsPerEnv = 5,
            LearningStarts = 100,
            WarmupSteps = 70,
            UpdateToData = 0.02,
            MiniBatchSize = 50,
            ReplayCapacity = 1000,
            Actor = dense "student" [ 8 ] true,
            Critic = dense "teacher+task" [ 8 ] true
        )

    let environment = ManipulationConfig(Envs = 40, EpisodeLimit = 12)

    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "state.safetensors")
        use one = new WorkerPool(1)
        use three = new WorkerPool(3)
        use undisturbed = new Sac(config, environment, one)

        for _ in 1..7 do
            undisturbed.Iterate() |> ignore

        (use first = new Sac(config, environment, three)

         for _ in 1..4 do
             first.Iterate() |> ignore

         save path first.Visit)

        use resumed = new Sac(config, environment, three)
        load path resumed.Visit

        for _ in 1..3 do
            resumed.Iterate() |> ignore

        sameState (bytes resumed.Visit) (bytes undisturbed.Visit) "resumed")

[<MujocoFact>]
let ``The scripted expert labels like any teacher`` () =
    use pool = new WorkerPool(2)
    let environment = ManipulationConfig(Envs = 40, EpisodeLimit = 30)

    let config =
        DistillationConfig(
            Environment = environment,
            Student = dense "reduced+task" [ 16 ] true,
            Collection = StepsPerIteration 8
        )

    use distillation = new Distillation(config, new EnvironmentTeachers("expert"), pool)
    let first = distillation.Iterate()

    for _ in 1..8 do
        distillation.Iterate() |> ignore

    Expect.isTrue (distillation.Iterate().Loss < first.Loss) "learns"
