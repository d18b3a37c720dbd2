/// Flight tests: the same numbers as other evaluations, changes in flight that change nothing else, and the page.
module Distill.Tests.FlightTestsTests

open System
open System.IO
open Distill
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.ChartTests
open Distill.Tests.RunTests
open Xunit

/// The student of 2,084 numbers that RAPTOR's authors released.
let private raptor =
    Path.Combine(AppContext.BaseDirectory, "fixtures", "raptor", "raptor-student.safetensors")

let private sample = Drones.sample { number = 40; seed = 7 }

let private tests (output: string) : FlightTests =
    { FlightTests.defaults with
        Policy = raptor
        Environment = Quadrotor.mixture { envs = 1 } |> Quadrotor.flying sample
        Episodes = 2
        AirframeEpisodes = 4
        Threads = 1
        Output = output
    }

/// All rotors off.
let private saveFalling (path: string) =
    use policy =
        new Policy(NetworkSpec(22, [| Dense(4, Activation.Identity) |]), "student")

    policy.Network.Parameters.Span.Clear()
    policy.Network.Parameters.Span.Slice(22 * 4).Fill -1f
    PolicyFile.Save(path, policy)

[<BrowserFact>]
let ``flight tests measure what evaluations do, tell a falling policy, and draw it`` () =
    use place = new Workplace()
    saveFalling (place.Path "falling.safetensors")
    let output = place.Path "tests"

    let report =
        Run.flightTestsWith [ $"""beside={place.Path "falling.safetensors"}""" ] (tests output)

    let evaluation =
        Run.evaluateWith
            [ $"policy={raptor}"; "episodes=2"; "threads=1" ]
            { Evaluate.defaults with Environment = (tests output).Environment }

    let flown, falling = report.Tested, snd report.Beside.Value
    let all = evaluation.Rows |> List.find (fst >> (=) "all") |> snd
    Assert.Equal<float32 array>(all.Returns, flown.Drones.All.Returns)
    Assert.Equal(flown.Drones.All.MeanReturn, flown.Drones.Results |> Array.averageBy _.MeanReturn, 3)
    Assert.Equal(Airframes.Names.Count, flown.Airframes.Length)
    Assert.True(report.Difference.Value.Low > 300.0)
    Assert.Equal(1.0, falling.Drones.All.ShareTerminated)
    Assert.Equal<(float * float) list>([ for degrees in 0.0..30.0..180.0 -> degrees, 0.0 ], falling.Recovery)
    // The released student is known to recover from far more than its training's tilt.
    Assert.True(flown.Recovery |> List.forall (fun (degrees, share) -> degrees > 90.0 || share > 0.8))
    Assert.Equal(5, flown.FigureEights.Length)
    Assert.Equal(3, flown.Probes.Length)
    Assert.Empty falling.Probes

    let rows = File.ReadAllLines(Path.Combine(output, "drones.csv"))

    Assert.Equal(41, rows.Length)

    let drawn (browser: Browser) =
        browser.Evaluate "distill.drawn()" |> ignore
        expectHeight browser ".distill-chart"
        // Two policies in 12 pictures of quantities, 2 of figures of eight and 1 of recovery, 2 lines each in 4 changes, and
        // three probes of the one that has a memory.
        let lines =
            browser.Evaluate "document.querySelectorAll('.scatterlayer path.js-line').length"

        Assert.Equal(2 * (12 + 2 + 1) + 4 * 4 + 3, lines.GetInt32())

    browse [ Path.Combine(output, "flight-tests.html"), drawn ]

let private drones = FlightTesting.endless (sample.Draw())

let private flying (work: WorkerPool -> Policy -> 'Result) =
    use pool = new WorkerPool(1)
    use policy = PolicyFile.Load raptor
    work pool policy

[<Fact>]
let ``a flight that is handed over from one batch to another goes on as if it were not`` () =
    flying (fun pool policy ->
        let handedOver =
            FlightTesting.response pool policy 3UL drones "nothing" id FlightTesting.nothing

        use environment = FlightTesting.hovering drones FlightTesting.atRest 3UL
        use acting = new ActingPolicy(policy, environment, "policy")

        let whole =
            Array.init handedOver.Distances.Length (fun _ -> Array.zeroCreate<float32> 64)

        FlightTesting.fly pool environment acting whole.Length (fun panel step ->
            Array.blit (FlightTesting.distances environment panel) 0 whole[step] (panel * 32) 32)

        Assert.Equal<float32 array array>(
            whole |> Array.map (Array.truncate drones.Length),
            handedOver.Distances
        ))

[<Fact>]
let ``changes in flight begin where they are said to`` () =
    flying (fun pool policy ->
        let results =
            FlightTesting.run pool ((tests "").Environment :?> QuadrotorConfig) 1 1 3UL policy

        let change =
            int (results.Responses.Head.ChangeAt / results.Responses.Head.StepSeconds)

        for response in results.Responses do
            Assert.Equal<float32 array array>(
                Array.truncate change results.Responses.Head.Distances,
                Array.truncate change response.Distances
            )

            // Nothing ends these flights, so that one drone may be anywhere.
            let median (of': Response) (step: int) =
                of'.Distances[step] |> Seq.map float |> Statistics.quantile 0.5

            let before, at = median response (change - 1), median response change

            if response.What.StartsWith "step" then
                Assert.InRange(at, 0.2, 0.4)
                Assert.InRange(median response (change + 200), 0.0, 0.15)
            else
                Assert.InRange(at, before - 0.01, before + 0.01)
                let undisturbed = median results.Responses[3] (change - 1)
                Assert.True(abs (median response (change + 200) - undisturbed) > 0.003, response.What))

[<Fact>]
let ``the probe finds what a memory holds, and nothing in noise`` () =
    let random = Random 5
    let memories = Array.init 400 (fun _ -> Array.init 6 (fun _ -> random.NextDouble()))
    let linear = memories |> Array.map (fun memory -> 3.0 * memory[1] - memory[4] + 0.5)
    let noise = memories |> Array.map (fun _ -> random.NextDouble())
    Assert.InRange(FlightTesting.rSquared memories linear, 0.999, 1.0)
    Assert.InRange(FlightTesting.rSquared memories noise, -0.5, 0.2)

[<Fact>]
let ``a policy without memory is tested alone`` () =
    use place = new Workplace()
    saveFalling (place.Path "falling.safetensors")

    let report =
        Run.flightTestsWith
            [ $"""policy={place.Path "falling.safetensors"}"""; "airframe_episodes=1"; "sampled.number=12" ]
            (tests (place.Path "tests"))

    Assert.True report.Beside.IsNone
    let html = File.ReadAllText(place.Path "tests/flight-tests.html")
    Assert.Contains("Changes in flight", html)
    Assert.DoesNotContain("What the memory knows", html)

[<Fact>]
let ``flight tests say what they cannot do`` () =
    let message (settings: string list) (tests: FlightTests) =
        (Expect.throws<DistillException>(fun () -> Run.flightTestsWith settings tests |> ignore)).Message

    Assert.Equal(
        "CartPoleConfig has no flight tests: only quadrotors have.",
        message [] { tests "" with Environment = CartPole.balance { envs = 1 } }
    )

    Assert.Contains("airframe_episodes=0 cannot work", message [ "airframe_episodes=0" ] (tests ""))
    Assert.Contains("Which policy?", message [ "policy=" ] (tests ""))

[<Fact>]
let ``the foundation student that comes with Distill flies drones it never saw, better than the released one``
    ()
    =
    let flown (policy: string) =
        Run.evaluateWith
            [ $"policy={policy}"; "threads=1" ]
            { Evaluate.defaults with
                Environment =
                    Quadrotor.mixture { envs = 1 }
                    |> Quadrotor.flying (Drones.sample { number = 64; seed = 1_000_000 })
            }
        |> fun comparison -> comparison.Rows |> List.find (fst >> (=) "all") |> snd

    let ours =
        flown (Path.Combine(RepositoryRules.root, "assets", "students", "foundation.safetensors"))

    let difference = Statistics.difference ours.Returns (flown raptor).Returns
    Assert.True(difference.Low > 10.0, string difference)
    Assert.True(ours.ShareTerminated < 0.05)
