/// What the tests of distillation share: teachers, rollouts with known content, and state through real files.
module Distill.Tests.DistillationTestbed

open System
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Networks
open Distill.Policies
open Distill.Storage

let fill (buffer: FloatBuffer) (value: int -> float32) =
    let span = buffer.Span

    for i in 0 .. span.Length - 1 do
        span[i] <- value i

let floats (buffer: FloatBuffer) = buffer.Span.ToArray()

/// What the rows of a distillation consist of.
let columns (observation: int) (label: int) =
    Columns [| struct ("observation", observation); struct ("label", label) |]

/// A column of a rollout, row after row.
let readColumn (rollout: Rollout) (name: string) =
    let column = rollout.Table.Columns[name]

    [|
        for row in 0 .. rollout.Rows - 1 do
            yield! rollout.Table.Cell(row, column).ToArray()
    |]

let writeColumn (rollout: Rollout) (name: string) (value: int -> float32) =
    let column = rollout.Table.Columns[name]

    for row in 0 .. rollout.Rows - 1 do
        let cell = rollout.Table.Cell(row, column)

        for i in 0 .. column.Size - 1 do
            cell[i] <- value (row * column.Size + i)

/// The deterministic action of one step of one panel, and the outputs it comes from; advances the memory.
let act (policy: Policy) (x: float32[]) (memory: float32[]) (action: float32[]) =
    use own = new Workspace()

    let outputs =
        policy.Forward(Panel(Span x, policy.Network.Spec.Inputs), Panel(Span memory, policy.MemorySize), own)

    policy.Decide(outputs, Panel(Span action, policy.ActionFloats))
    outputs.Values.ToArray()

/// Balances the pole for whole episodes: pushes towards where it falls and drifts.
let cartPoleTeacher () =
    let teacher =
        new Policy(NetworkSpec.Mlp(4, [], 2, Activation.Elu, Head.Categorical), "teacher")

    let gains = [| 0.5f; 1.0f; 10f; 3f |]

    fill teacher.Network.Parameters (fun i ->
        if i < 4 then -gains[i]
        elif i < 8 then gains[i - 4]
        else 0f)

    teacher

/// The released foundation policy, which flies the quadrotor from the student's observations.
let raptorTeacher () =
    PolicyFile.Load(Storage.fixture "raptor/raptor-student.safetensors")

/// A policy whose parameters are uniform within +-range.
let randomPolicy (seed: int) (range: float32) (spec: NetworkSpec) group normalize =
    let policy = new Policy(spec, group, normalize)
    let random = Random seed

    for view in policy.Network.Views do
        let values = policy.Network.Parameters.Slice(view.Offset, view.Length)

        for i in 0 .. values.Length - 1 do
            values[i] <- range * float32 (2.0 * random.NextDouble() - 1.0)

    match policy.Normalizer with
    | null -> ()
    | normalizer ->
        for i in 0 .. normalizer.Size - 1 do
            normalizer.Mean[i] <- float32 (random.NextDouble() - 0.5)
            normalizer.Variance[i] <- float32 (0.1 + random.NextDouble())

        normalizer.Count <- 1000L
        normalizer.Refresh()

    policy

/// Random numbers, marks and memory; labels may be choices.
let randomRollout (random: Random) envs steps observation action memory (choices: int) =
    let rollout = new Rollout(envs, steps, columns observation action, memory)

    let number _ =
        float32 (2.0 * random.NextDouble() - 1.0)

    writeColumn rollout "observation" number

    writeColumn
        rollout
        "label"
        (if choices = 0 then
             number
         else
             (fun _ -> float32 (random.Next choices)))

    fill rollout.Memory number

    for row in 0 .. rollout.Rows - 1 do
        rollout.Valid[row] <- if random.Next 4 = 0 then 0uy else 1uy
        rollout.EpisodeStart[row] <- if random.Next 5 = 0 then 1uy else 0uy

    rollout

/// All numbers of a rollout's segments: memory, then observation, action, weight and keep of every row.
let segmentsOf (rollout: Rollout) length =
    let memory = floats rollout.Memory

    Array.init (rollout.Rows / length) (fun segment ->
        [|
            yield! Array.sub memory (segment * rollout.MemorySize) rollout.MemorySize

            for row in segment * length .. (segment + 1) * length - 1 do
                yield! rollout.Table.Rows(row, 1).ToArray()
                float32 rollout.Valid[row]
                1f - float32 rollout.EpisodeStart[row]
        |])

/// What a dataset holds, in the same form, with the number of each segment, in the order of its places.
let contentOf (dataset: AggregatedDataset) observation action memory =
    use own = new Workspace()
    let rows = Array.zeroCreate<float32>((observation + action) * Panel.Width)
    let h = Array.zeroCreate<float32>(memory * Panel.Width)

    let weight, keep =
        Array.zeroCreate<float32> Panel.Width, Array.zeroCreate<float32> Panel.Width

    let column (panel: float32[]) size lane =
        Array.init size (fun i -> panel[i * Panel.Width + lane])

    [|
        for places in Array.chunkBySize Panel.Width [| 0 .. dataset.Count - 1 |] do
            let values = Array.init places.Length (fun _ -> ResizeArray<float32>())
            dataset.GatherMemory(places, Panel(Span h, memory))
            values |> Array.iteri (fun lane v -> v.AddRange(column h memory lane))

            for step in 0 .. dataset.SegmentLength - 1 do
                dataset.Gather(
                    places,
                    step,
                    Panel(rows, rows.Length / Panel.Width),
                    Panel(weight, 1),
                    Panel(keep, 1),
                    own
                )

                values
                |> Array.iteri (fun lane v ->
                    v.AddRange(column rows (observation + action) lane)
                    v.Add weight[lane]
                    v.Add keep[lane])

            for lane in 0 .. places.Length - 1 do
                dataset.Birth places[lane], values[lane].ToArray()
    |]

/// An actor or critic of dense layers.
let dense (group: string) (hidden: int list) (normalize: bool) : StudentConfig =
    MlpStudent(ObservationGroup = group, Hidden = List.toArray hidden, NormalizeObservations = normalize)

let save (path: string) (visit: State -> unit) = StateFile.Save(path, visit)

let load (path: string) (visit: State -> unit) = StateFile.Load(path, visit)

type private Collector() =
    inherit State()
    member val Blocks = ResizeArray<string * byte[]>()
    override this.Visit(name, values) = this.Blocks.Add(name, values.ToArray())

/// Everything that a walk visits, as bytes by name.
let bytes (visit: State -> unit) =
    let collector = Collector()
    visit collector
    collector.Blocks.ToArray()

let sameState (actual: (string * byte[])[]) (expected: (string * byte[])[]) (what: string) =
    Expect.equal (Array.map fst actual) (Array.map fst expected) $"{what}: blocks"

    for (name, a), (_, e) in Array.zip actual expected do
        Expect.isTrue (a.AsSpan().SequenceEqual e) $"{what}: block '{name}' differs"

/// One step of an environment that was passed on.
type Passed = { Actions: float32[]; Reward: float32[]; Terminated: float32[]; Truncated: float32[] }

/// An environment that notes what it was asked to do, panel by panel.
type Recording(inner: IBatchedEnvironment) =
    let log = Array.init (Panel.Count inner.Count) (fun _ -> ResizeArray<Passed>())
    member _.Log = log

    interface IBatchedEnvironment with
        member _.Spec = inner.Spec
        member _.Count = inner.Count
        member _.Reset panel = inner.Reset panel

        member _.Observe(panel, group, observation) =
            inner.Observe(panel, group, observation)

        member _.Step(panel, actions, outcome) =
            let asked = actions.ToArray()
            inner.Step(panel, actions, outcome)

            log[panel].Add
                {
                    Actions = asked
                    Reward = outcome.Reward.ToArray()
                    Terminated = outcome.Terminated.ToArray()
                    Truncated = outcome.Truncated.ToArray()
                }

        member _.Rewind() = inner.Rewind()
        member _.Visit state = inner.Visit state
        member _.Dispose() = inner.Dispose()
