module Distill.Tests.CudaQuadrotorTests

open System
open Distill.Compute
open Distill.Compute.Cuda
open Distill.Environments
open Distill.Environments.Quadrotor
open Distill.Tests.CudaDriver
open Distill.Tests.QuadrotorTestbed

/// Two environments of one configuration, one of them on the device, and buffers for all that passes between.
type private Pair(config: QuadrotorConfig) =
    let device = device ()
    let ours = new QuadrotorEnvironment(config, 7UL)
    let shown = new QuadrotorEnvironment(config, 7UL)
    let theirs = new CudaQuadrotors(device, shown)
    let panels = Panel.Count ours.Count
    let rows = StepOutcome.Rows + ours.Spec.Measures.Count

    let buffer (rows: int) =
        new CudaBuffer<float32>(device, int64 (panels * rows * Panel.Width), "rows")

    let actions, outcomes = buffer 4, buffer rows
    let random = Random 11

    member _.Device = device
    member _.Theirs = theirs
    member _.Envs = ours.Count

    /// Steps both with the same random actions, some out of range, and gives what both were told.
    member _.Step() =
        let chosen =
            Array.init (panels * 4 * Panel.Width) (fun _ -> float32 (random.NextDouble() * 2.6 - 1.3))

        let expected = Array.zeroCreate<float32>(panels * rows * Panel.Width)

        for panel in 0 .. panels - 1 do
            ours.Step(
                panel,
                ReadOnlySpan(chosen, panel * 4 * Panel.Width, 4 * Panel.Width),
                StepOutcome(Span(expected, panel * rows * Panel.Width, rows * Panel.Width))
            )

        actions.Write(ReadOnlySpan chosen)
        theirs.Step(actions, outcomes)
        let actual = Array.zeroCreate<float32> expected.Length
        outcomes.Read(Span actual)
        actual, expected

    /// The states of both.
    member _.States() =
        theirs.Download()
        bits shown, bits ours

    /// What a group shows of both.
    member _.Observe(name: string) =
        let group = ours.Spec.Group name
        let size = ours.Spec.Groups[group].Size
        use seen = buffer size
        theirs.Observe(group, seen)
        let actual = Array.zeroCreate<float32>(panels * size * Panel.Width)
        seen.Read(Span actual)
        let expected = Array.zeroCreate<float32> actual.Length

        for panel in 0 .. panels - 1 do
            ours.Observe(panel, group, Span(expected, panel * size * Panel.Width, size * Panel.Width))

        actual, expected

    interface IDisposable with
        member _.Dispose() =
            outcomes.Dispose()
            actions.Dispose()
            theirs.Dispose()
            shown.Dispose()
            ours.Dispose()
            device.Dispose()

let private configurations =
    [
        "one drone that follows nothing", QuadrotorConfig(Envs = 40, EpisodeLimit = 7)
        "sampled drones that follow Langevin references",
        QuadrotorConfig(Envs = 96, EpisodeLimit = 30, Sampled = DroneSampling(Number = 50))
        "figures of eight", QuadrotorConfig(Envs = 33, EpisodeLimit = 25, Task = QuadrotorTask.FigureEight)
    ]

[<CudaFact>]
let ``quadrotors on a GPU fly as those of the processor, to the last bit`` () =
    for name, config in configurations do
        use pair = new Pair(config)
        let mutable ended = 0

        for step in 1..60 do
            let actual, expected = pair.Step()
            Paths.sameBits actual expected $"{name}, step {step}"
            ended <- ended + (Array.filter ((=) 1.0f) expected).Length

        Expect.isTrue (ended > pair.Envs) $"{name}: only {ended} episodes ended"
        let actual, expected = pair.States()
        Expect.equal actual expected $"{name}: states"

        for group in [ "teacher"; "student"; "tracking"; "privileged" ] do
            let actual, expected = pair.Observe group
            Paths.sameBits actual expected $"{name}, {group}"

[<CudaFact>]
let ``a rollout copies nothing but what is asked for`` () =
    use pair = new Pair(snd configurations[1])
    pair.Step() |> ignore
    let bus, launches = pair.Device.BusBytes, pair.Device.Launches

    use actions =
        new CudaBuffer<float32>(pair.Device, pair.Theirs.Lanes * 4L, "actions")

    use outcomes =
        new CudaBuffer<float32>(pair.Device, pair.Theirs.Lanes * 5L, "outcomes")

    for _ in 1..10 do
        pair.Theirs.Step(actions, outcomes)

    Expect.equal (pair.Device.BusBytes, pair.Device.Launches) (bus, launches + 10L) "bytes and launches"

[<EmulatorFact>]
let ``a kernel that touches what is not its own is named`` () =
    use pair = new Pair(snd configurations[0])
    use actions = new CudaBuffer<float32>(pair.Device, 64L, "too few actions")

    use outcomes =
        new CudaBuffer<float32>(pair.Device, pair.Theirs.Lanes * 5L, "outcomes")

    let said =
        (Expect.throws<Distill.DistillException>(fun () -> pair.Theirs.Step(actions, outcomes))).Message

    Expect.equal
        said
        "The GPU emulated device failed in the kernel quadrotor_step: an illegal memory access was encountered (CUDA error 700)."
        "sentence"
