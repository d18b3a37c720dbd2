/// Recorded flights and their replay.
module Distill.Tests.ReplayTests

open System
open System.Diagnostics
open System.IO
open System.Text
open System.Text.Json
open Distill
open Distill.Environments.Manipulation
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.ChartTests
open Distill.Tests.RunTests
open Distill.Tests.Tools
open Xunit

/// A policy that commands a constant.
let private constant (throttle: float32) =
    let policy = new Policy(NetworkSpec.Mlp(22, [ 4 ], 4), "student")
    // The last four parameters are the biases of the output.
    policy.Network.Parameters.Span.Clear()
    policy.Network.Parameters.Span.Slice(policy.Network.ParameterCount - 4).Fill throttle
    policy

/// A policy that closes the fingers of a hand, which stays where it is.
let private saveClosing path =
    use policy = new Policy(NetworkSpec.Mlp(39, [ 4 ], 4), "teacher")
    policy.Network.Parameters.Span.Clear()
    policy.Network.Parameters.Span[policy.Network.ParameterCount - 1] <- 1f
    PolicyFile.Save(path, policy)

let private config =
    QuadrotorConfig(Task = QuadrotorTask.Langevin, EpisodeLimit = 60)

let private record (throttle: float32) (seed: uint64) (steps: int) =
    use policy = constant throttle
    FlightRecording.record config policy seed steps

/// A flight of a policy that never falls.
let private recordSkilled (steps: int) =
    let fixtures = Path.Combine(AppContext.BaseDirectory, "fixtures", "raptor")
    use policy = PolicyFile.Load(Path.Combine(fixtures, "raptor-student.safetensors"))
    FlightRecording.record config policy 3UL steps

[<Fact>]
let ``policies fly the same episode of a seed`` () =
    let strong, weak = record 0.5f 3UL 20, record 0.2f 3UL 20
    Assert.Equal<float[]>(strong.Position[0], weak.Position[0])
    Assert.Equal<float[]>(strong.ReferencePosition[15], weak.ReferencePosition[15])
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
        Assert.Equal(4, flight.Action[step].Length)
        Assert.All(flight.Rotors[step], fun state -> Assert.InRange(state, -1e-6, 1. + 1e-6))
        Expect.closeAll 1e-6 (flight.Action[step]) (Array.create 4 0.3) $"action in step {step}"

    // The position moves with the velocity.
    for step in 1 .. flight.Steps - 2 do
        let moved =
            (flight.Position[step + 1][2] - flight.Position[step - 1][2]) / (2. * flight.StepTime)

        Expect.close 2e-3 moved (flight.Velocity[step][2]) $"vertical velocity in step {step}"

[<Fact>]
let ``position and velocity are off by their distance to the reference`` () =
    let flight = record 0.3f 3UL 20

    let distance (a: float[]) (b: float[]) =
        sqrt ((a[0] - b[0]) ** 2. + (a[1] - b[1]) ** 2. + (a[2] - b[2]) ** 2.)

    for step in 0 .. flight.Steps - 1 do
        let position = distance flight.Position[step] flight.ReferencePosition[step]
        let velocity = distance flight.Velocity[step] flight.ReferenceVelocity[step]
        Expect.close 1e-12 flight.PositionError[step] position $"position in step {step}"
        Expect.close 1e-12 flight.VelocityError[step] velocity $"velocity in step {step}"
        Assert.NotEqual(position, velocity)

    // The table of a flight takes each from its own.
    let table = PlayResult([ flight ], [])
    Expect.close 1e-12 table.Position.Mean (Array.average flight.PositionError) "position"
    Expect.close 1e-12 table.Velocity.Mean (Array.average flight.VelocityError) "velocity"
    Expect.close 1e-12 table.Velocity.Max (Array.max flight.VelocityError) "velocity"

[<Fact>]
let ``a flight ends with its episode`` () =
    let crash = record -1f 3UL 1000
    Assert.True(crash.Terminated && crash.Steps < 60)
    let full = recordSkilled 1000
    Assert.Equal((60, false), (full.Steps, full.Terminated))

[<Fact>]
let ``flights come back from their file as they were`` () =
    use work = new Workplace()
    let long, short = record 0.3f 3UL 12, record -1f 5UL 7
    let other = { short with Drone = "x500_réal"; Terminated = true }
    FlightRecording.save (work.Path "a.npz") [ long; other ]
    Assert.Equal<FlightRecording list>([ long; other ], FlightRecording.load (work.Path "a.npz"))

[<Fact>]
let ``several quadrotors fly an episode each, the first as it does alone`` () =
    use policy = constant -1f

    let config =
        QuadrotorConfig(Drones = [| "crazyflie"; "x500_real" |], EpisodeLimit = 60)
    // More than a panel.
    let flights = FlightRecording.recordEpisodes config policy 3UL 35 60
    Assert.Equal(35, flights.Length)

    Assert.Equal<string list>(
        [ "crazyflie"; "x500_real"; "crazyflie" ],
        flights |> List.skip 32 |> List.map _.Drone
    )

    Assert.Equal(FlightRecording.record config policy 3UL 60, flights.Head)
    Assert.Equal(35, flights |> List.distinctBy (fun flight -> flight.Rotors[0][0]) |> List.length)

    for flight in flights do
        Assert.True(flight.Terminated && flight.Steps < 60)
        Assert.Equal(flight.Steps, flight.Reward.Length)
        Assert.True(Array.forall Double.IsFinite flight.PositionError)

[<Fact>]
let ``a file that holds no flight is refused`` () =
    use work = new Workplace()
    let path = work.Path "a.npz"

    let message (arrays: Storage.Tensor list) =
        Storage.Npz.Write(path, arrays)
        (Expect.throws<DistillException>(fun () -> FlightRecording.load path |> ignore)).Message

    let array (name: string) (shape: int list) =
        let zeros = Array.zeroCreate<float>(List.reduce (*) shape)
        Storage.Tensor.OfDoubles(name, ReadOnlySpan zeros, Array.ofList shape)

    Assert.Contains("it has no array 'position'", message [ array "other" [ 2; 3 ] ])

    Assert.Contains(
        "'position' has the shape [1, 2, 4] instead of [flights, steps, 3]",
        message [ array "position" [ 1; 2; 4 ] ]
    )

    Assert.Contains("instead of [flights, steps, 3]", message [ array "position" [ 0; 2; 3 ] ])

    let whole =
        FlightRecording.save path [ record 0.3f 3UL 2 ]
        List.ofSeq (Storage.Npz.Read path)

    // Every array is checked: with another shape none is accepted.
    for broken in whole do
        let others = whole |> List.filter (fun other -> other.Name <> broken.Name)
        Assert.Contains($"no array '{broken.Name}'", message others)

        Assert.Contains(
            $"array '{broken.Name}' has the shape [2, 5]",
            message (array broken.Name [ 2; 5 ] :: others)
        )

    let ofLength (length: float) =
        Storage.Tensor.OfDoubles("length", ReadOnlySpan [| length |], 1)
        :: (whole |> List.filter (fun other -> other.Name <> "length"))

    for length in [ -1.0; 3.0; nan; infinity ] do
        Assert.Contains("not between 0 and 2", message (ofLength length))

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

/// A fact about a video.
type private VideoFactAttribute() =
    inherit BrowserFactAttribute()

    override _.Skip =
        let folders = string (Environment.GetEnvironmentVariable "PATH")

        let missing =
            [ "ffmpeg"; "ffprobe" ]
            |> List.filter (fun name ->
                folders.Split Path.PathSeparator
                |> Array.forall (fun folder -> not (File.Exists(Path.Combine(folder, name)))))

        match base.Skip, missing with
        | null, name :: _ -> $"This test needs {name} (on Debian: apt-get install ffmpeg)."
        | reason, _ -> reason

/// The lines that a program prints.
let private linesOf (program: string) (arguments: string list) =
    use running =
        Process.Start(ProcessStartInfo(program, arguments, RedirectStandardOutput = true)) |> nonNull

    let output = running.StandardOutput.ReadToEnd()
    running.WaitForExit()
    Assert.Equal(0, running.ExitCode)
    List.ofArray (output.Split('\n', StringSplitOptions.RemoveEmptyEntries))

[<VideoFact>]
let ``a video shows the flight in real time`` () =
    use work = new Workplace()
    let flight = recordSkilled 51
    let path = work.Path "flight.mp4"
    Replay("film", [ "student", flight ]).SaveVideo(path, Width = 320, Height = 240, FramesPerSecond = 20)

    let entries = "stream=codec_name,width,height,r_frame_rate,nb_read_frames,duration"

    // 51 states of 10 ms are half a second, whose ends both have a frame.
    Assert.Equal<string list>(
        [ "h264,320,240,20/1,0.550000,11" ],
        linesOf "ffprobe" [ "-v"; "error"; "-count_frames"; "-show_entries"; entries; "-of"; "csv=p=0"; path ]
    )

    // Something moves from each frame to the next.
    let frames =
        linesOf "ffmpeg" [ "-v"; "error"; "-i"; path; "-f"; "framemd5"; "-" ]
        |> List.filter (fun line -> not (line.StartsWith '#'))
        |> List.map (fun line -> line.Substring(line.LastIndexOf ','))

    Assert.Equal(11, (List.distinct frames).Length)
    Assert.Equal<string list>([ path ], List.ofArray (Directory.GetFiles(work.Path "")))

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

[<BrowserFact>]
let ``what is trained is filmed on the way, and training is the same`` () =
    use place = new Workplace()

    let run experiment settings =
        Run.distilWith ([ $"""logs={place.Path "logs"}"""; "report=false" ] @ settings) experiment

    let final (result: DistillationResult) =
        File.ReadAllBytes((RunFolder.Open result.Folder).Checkpoint "final_student.pt")

    let refusal experiment settings =
        (Expect.throws<DistillException>(fun () -> run experiment settings |> ignore)).Message

    let plain = run quadrotors []
    let filmed = run quadrotors [ "video=true"; "video_length=10"; "video_interval=20" ]
    Assert.Equal<byte array>(final plain, final filmed)
    let videos = Path.Combine(filmed.Folder, "videos")

    Assert.Equal<string list>(
        [ "step-0.meta.json"; "step-0.mp4"; "step-20.meta.json"; "step-20.mp4" ],
        Directory.GetFiles videos |> Seq.map (Path.GetFileName >> string) |> Seq.sort |> List.ofSeq
    )

    for steps, iterations in [ 0, 0; 20, 2 ] do
        let video = File.ReadAllBytes(Path.Combine(videos, $"step-{steps}.mp4"))
        Assert.Equal("ftyp", Encoding.ASCII.GetString(video, 4, 4))

        use meta =
            JsonDocument.Parse(File.ReadAllText(Path.Combine(videos, $"step-{steps}.meta.json")))

        Assert.Equal(iterations, meta.RootElement.GetProperty("iteration").GetInt32())
        Assert.Equal(steps, meta.RootElement.GetProperty("step_id").GetInt32())
        Assert.InRange(meta.RootElement.GetProperty("steps").GetInt32(), 1, 10)

    Assert.Contains("video_interval=0", refusal quadrotors [ "video=true"; "video_interval=0" ])
    let balancing = place.Path "teacher.safetensors"
    saveTeacher balancing

    let pole =
        distillation {
            environment (CartPole.balance { envs = 32 })
            teacher (Teacher.load balancing)
            loss (Loss.crossEntropy 0.0)
        }

    Assert.Contains("only quadrotors", refusal pole [ "video=true" ])
    // What is refused leaves no run behind.
    Assert.False(Directory.Exists(place.Path "logs/distillation"))

[<MujocoFact>]
let ``hands are played by an expert or a policy, with a line and a page for each task`` () =
    use place = new Workplace()
    let output = place.Path "play"

    let settings =
        [ "environment=manipulation"; "tasks=[drawer_open,button_press]"; "episode_limit=110" ]

    let result =
        Run.playWith ([ "policy=expert"; "episodes=2"; $"output={output}" ] @ settings) Play.defaults

    Assert.Equal<string list>(
        [ "drawer_open"; "button_press"; "drawer_open"; "button_press" ],
        result.Hands |> List.map _.Task
    )

    Assert.All(result.Hands, (fun episode -> Assert.True episode.Success))

    let lines = File.ReadAllLines(Path.Combine(output, "tasks.csv"))
    Assert.Equal("task,episodes,success,mean_return,object_to_goal_m", lines[0])
    Assert.StartsWith("drawer_open,2,1,", lines[1])
    Assert.StartsWith("button_press,2,1,", lines[2])
    Assert.Contains("button_press", string result)
    Assert.Empty result.Flights

    let still = place.Path "still.safetensors"
    saveClosing still

    let idle =
        Run.playWith ([ $"policy={still}"; "episodes=1" ] @ settings) Play.defaults

    for episode in idle.Hands do
        Assert.False episode.Success
        Expect.closeAll 1e-2 (Array.last episode.Hand) episode.Hand[0] "stays"
        Assert.True((Array.last episode.Opening) < 0.25)

    if Browser.Path.IsSome && Page.canEmbed then
        let look (browser: Browser) =
            browser.Evaluate "replay.ready.then(() => replay.seek(1.3))" |> ignore

            Assert.StartsWith(
                "1.30 / 1.36 s",
                (browser.Evaluate "document.getElementById('clock').textContent").ToString()
            )

        browse [ for task in [ "drawer_open"; "button_press" ] -> Path.Combine(output, task + ".html"), look ]

[<MujocoFact>]
let ``a hand is replayed with its puck, and where the goal is`` () =
    let config =
        Manipulation.tasks [ ManipulationTask.Reach; ManipulationTask.PickPlace ] { envs = 1 }
        |> Settings.set <@ _.EpisodeLimit @> 100

    let episodes = ManipulationRecording.ofExpert config 3UL 2
    Assert.Equal<string list>([ "reach"; "pick_place" ], episodes |> List.map _.Task)

    for episode in episodes do
        Assert.True episode.Success
        Assert.False episode.Terminated
        Assert.Equal(100, episode.Hand.Length)
        Assert.True(episode.ToGoal[0] > 0.1 && Array.last episode.ToGoal < 0.05)
        Assert.Equal(10.0, Array.last episode.Reward)

    let carried = episodes[1]
    Expect.closeAll 0.05 (Array.last carried.Object) carried.Goal "the puck is at the goal"
    Assert.Equal(1.0, (Array.last carried.Action)[3])
    Assert.True(carried.Opening[0] = 1.0 && Array.last carried.Opening < 0.6)

    let replay = Replay.ofHands "hands" [ "expert", carried; "again", carried ]
    Assert.Contains("\"objectOrientation\"", replay.ToPage())
    Assert.Equal("Replay 'hands' of expert, again", string replay)

    Assert.Contains(
        "ManipulationRecording.record",
        (Expect.throws<DistillException>(fun () -> Replay.ofHands "none" [] |> ignore)).Message
    )

    if Browser.Path.IsSome && Page.canEmbed then
        use work = new Workplace()
        let path = work.Path "hands.html"
        replay.SaveHtml path

        let look (browser: Browser) =
            let value (expression: string) =
                (browser.Evaluate expression).ToString()

            value "replay.ready.then(() => replay.seek(0.5))" |> ignore
            Assert.StartsWith("0.50 / 1.24 s", value "document.getElementById('clock').textContent")
            Assert.Equal("hands", value "document.getElementById('title').textContent")
            Assert.Contains("grip", value "document.getElementById('rotors').textContent")

        browse [ path, look ]
