/// Recorded flights and their replay.
module Distill.Tests.ReplayTests

open System
open System.IO
open Distill
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.ChartTests
open Distill.Tests.RunTests
open Xunit

let private record (throttle: float32) (seed: uint64) (steps: int) =
    use policy = new Policy(NetworkSpec.Mlp(22, [ 4 ], 4), "student")
    // The last four parameters are the biases of the output: a policy that commands a constant.
    policy.Network.Parameters.Span.Clear()
    policy.Network.Parameters.Span.Slice(policy.Network.ParameterCount - 4).Fill throttle

    FlightRecording.record
        (QuadrotorConfig(Task = QuadrotorTask.Langevin, EpisodeLimit = 60))
        policy
        seed
        steps

[<Fact>]
let ``policies fly the same episode of a seed`` () =
    let strong, weak = record 0.5f 3UL 20, record 0.2f 3UL 20
    Assert.Equal<float[]>(strong.Position[0], weak.Position[0])
    Assert.Equal<float[]>(strong.Reference[15], weak.Reference[15])
    Assert.True(strong.Position[15][2] > weak.Position[15][2])
    Assert.NotEqual<float[]>(strong.Position[0], (record 0.5f 4UL 20).Position[0])

[<Fact>]
let ``a recording is the flight that was flown`` () =
    let flight = record 0.3f 3UL 20
    Assert.Equal(20, flight.Steps)
    Assert.False flight.Terminated
    Assert.Equal("crazyflie", flight.Drone)

    for step in 0 .. flight.Steps - 1 do
        let length = flight.Orientation[step] |> Array.sumBy (fun q -> q * q)
        Expect.close 1e-5 length 1. $"length of the quaternion in step {step}"
        Assert.All(flight.Rotors[step], fun state -> Assert.InRange(state, -1e-6, 1. + 1e-6))
        Expect.closeAll 1e-6 (flight.Command[step]) (Array.create 4 0.3) $"command in step {step}"

    // The position moves with the velocity.
    for step in 1 .. flight.Steps - 2 do
        let moved =
            (flight.Position[step + 1][2] - flight.Position[step - 1][2]) / (2. * flight.StepTime)

        Expect.close 2e-3 moved (flight.Velocity[step][2]) $"vertical velocity in step {step}"

[<Fact>]
let ``a flight ends with its episode`` () =
    let crash = record -1f 3UL 1000
    Assert.True(crash.Terminated && crash.Steps < 60)
    let full = (record 0.3f 3UL 1000)
    Assert.True(full.Steps <= 60)

[<Fact>]
let ``flights come back from their file as they were`` () =
    use work = new Workplace()
    let flight = record 0.3f 3UL 12
    FlightRecording.save (work.Path "a.npz") flight
    Assert.Equal(flight, FlightRecording.load (work.Path "a.npz"))

[<Fact>]
let ``a file that holds no flight is refused`` () =
    use work = new Workplace()
    let path = work.Path "a.npz"

    let message (arrays: Storage.Tensor list) =
        Storage.Npz.Write(path, arrays)
        (Expect.throws<DistillException>(fun () -> FlightRecording.load path |> ignore)).Message

    let array (name: string) (rows: int) (width: int) =
        Storage.Tensor.OfDoubles(name, ReadOnlySpan(Array.zeroCreate<float>(rows * width)), rows, width)

    Assert.Contains("it has no array 'position'", message [ array "other" 2 3 ])
    Assert.Contains("'position' has the shape [2, 4] instead of [steps, 3]", message [ array "position" 2 4 ])

    let drone = Storage.Tensor.OfBytes("drone", ReadOnlySpan [| 97uy |], 1)
    let time = Storage.Tensor.OfDoubles("step_time", ReadOnlySpan [| 0.01 |], 1)

    Assert.Contains(
        "'orientation' has 3 steps and 'position' has 2",
        message [ drone; time; array "position" 2 3; array "rotor_positions" 4 3; array "orientation" 3 4 ]
    )

[<Fact>]
let ``a replay needs a flight`` () =
    let error = Expect.throws<DistillException>(fun () -> Replay("empty", []) |> ignore)
    Assert.Contains("FlightRecording.record", error.Message)

[<Fact>]
let ``the page of a replay stays small and its notebook cell is escaped`` () =
    let flight = record 0.3f 3UL 60
    let replay = Replay("<two>", [ "teacher", flight; "student", flight ])
    Assert.True(replay.ToPage().Length < 1_500_000)
    Assert.DoesNotContain("<two>", replay.ToHtml())
    Assert.DoesNotContain("<script", replay.ToHtml())

[<BrowserFact>]
let ``a replay plays, scrubs and listens to keys`` () =
    use work = new Workplace()
    let flights = [ "teacher", record 0.3f 3UL 60; "student", record 0.25f 3UL 40 ]
    let folder = Directory.CreateDirectory(work.Path "run").FullName
    let path = Replay.write folder flights

    let look (browser: Browser) =
        let value (expression: string) =
            (browser.Evaluate expression).ToString()

        let clock () =
            value "document.getElementById('clock').textContent"

        let key (name: string) =
            value
                $"document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{name}', bubbles: true }}))"
            |> ignore

        value "replay.ready" |> ignore

        let last =
            float (flights |> List.map (fun (_, flight) -> flight.Steps) |> List.max |> fun n -> n - 1) * 0.01

        Assert.Equal($"0.00 / {last:F2} s", clock ())
        value "replay.seek(0.1)" |> ignore
        key "ArrowRight"
        Assert.StartsWith("0.20 /", clock ())
        key "v"
        Assert.Equal("2", value "document.querySelectorAll('#labels span').length")
        key "End"
        Assert.StartsWith($"{last:F2} /", clock ())
        key " "
        Assert.Equal("Pause", value "document.getElementById('play').textContent")
        value "new Promise((done) => setTimeout(done, 1500))" |> ignore
        Assert.StartsWith($"{last:F2} /", clock ())
        Assert.Equal("Play", value "document.getElementById('play').textContent")

    browse [ path, look ]
