/// The benchmarks run and their table is right. How fast anything is, is no matter of a test.
module Distill.Tests.BenchmarkTests

open System
open System.IO
open Xunit
open Distill
open Distill.Benchmarks
open Distill.Compute
open Distill.Environments
open Distill.Environments.Native

let private run (arguments: string list) =
    use output = new StringWriter()
    let code = Program.Run(arguments, output)
    Expect.equal code 0 "exit code"
    output.ToString().Split Environment.NewLine

/// Lines of results are indented by two and hold a bar.
let private results (lines: string[]) =
    lines |> Array.filter (fun line -> line.StartsWith "  " && line.Contains " | ")

[<Theory>]
[<InlineData("simulator", 3)>]
[<InlineData("policy", 1)>]
[<InlineData("products", 1)>]
[<InlineData("mlp", 1)>]
[<InlineData("epoch", 3)>]
[<InlineData("gru", 1)>]
[<InlineData("lstm", 1)>]
[<InlineData("ppo", 1)>]
[<InlineData("sac", 2)>]
[<InlineData("foundation", 1)>]
[<InlineData("growth", 2)>]
[<InlineData("idle", 1)>]
[<InlineData("many", 1)>]
[<InlineData("external", 0)>]
[<InlineData("manipulation", 0)>]
let ``each benchmark runs with tiny sizes`` (name: string) (atLeast: int) =
    let lines =
        run [ name; "--quick"; "--no-peers"; "--no-files"; "--threads=1,2" ] |> results

    Expect.isTrue (lines.Length >= atLeast) $"{name}: {lines.Length} results"

[<Fact>]
let ``every benchmark is listed`` () =
    let names = run [ "list" ] |> Array.map (fun line -> (line.Trim().Split ' ')[0])
    Expect.isTrue (Set.isSubset (set [ "simulator"; "mlp"; "gru"; "ppo"; "start" ]) (set names)) "names"

[<Fact>]
let ``what cannot be asked for is refused with what can`` () =
    let message arguments =
        (Expect.throws<DistillException>(fun () -> run arguments |> ignore)).Message

    Assert.Contains("There is no benchmark mpl; there are: simulator", message [ "mpl" ])
    Assert.Contains("There is no option --fast", message [ "--fast" ])
    Assert.Contains("--peer=/nowhere is no checkout", message [ "mlp"; "--peer=/nowhere" ])
    Assert.Contains("'none' is not a number", message [ "mlp"; "--threads=none" ])

[<Fact>]
let ``medians and quartiles are linear between neighbours`` () =
    let spread = Spread.Of [| 4.0; 1.0; 3.0; 2.0 |]
    Expect.equal (spread.Low, spread.Median, spread.High) (1.75, 2.5, 3.25) "quartiles"
    Expect.equal spread.Repetitions 4 "repetitions"
    Expect.close 1e-12 spread.Relative 0.6 "relative"

let private exactly (value: float) = Spread.Of [| value |]

let private result =
    Result(
        Benchmark = "mlp",
        Case = "256 rows",
        Threads = 4,
        Path = "Avx2",
        Unit = "rows/s",
        Ours = exactly 463_000.0,
        Peer = "PyTorch 2",
        PeerValue = exactly 100_000.0,
        Ratio = exactly 4.63,
        Limit = "FMA",
        Peak = exactly 5e11,
        Share = exactly 0.75,
        Goal = Goal.Ratio 5.0
    )

let private machine =
    Machine("box", "A CPU", 4, "Linux", ".NET 10", "Avx512", 0.1, "abc1234", DateTime(2026, 11, 21))

[<Fact>]
let ``the table has a row per result and says what was missed`` () =
    let table = Table.Markdown(machine, [| result |], [| "No peer." |])
    Assert.Contains("2026-11-21, commit abc1234, A CPU, 4 cores", table)
    Assert.Contains("No peer.", table)

    Assert.Contains(
        "| mlp | 256 rows, Avx2 path | 4 | 463 k rows/s (463 k to 463 k) | 100 k rows/s: PyTorch 2 | "
        + "4.63× (4.63 to 4.63) | 75 % of FMA (500 G) | ≥ 5×: missed by 7 % |",
        table
    )

/// What a session says of work that reaches 100 units where the peak's measurements are these; the first does not count.
let private compared (repetitions: int) (peaks: float list) =
    use session =
        new Session(Settings(Threads = [| 1 |], Repetitions = repetitions, Root = ""), TextWriter.Null)

    let mutable left = peaks

    let next () =
        let value = left.Head
        left <- (if left.Tail.IsEmpty then left else left.Tail)
        value

    let peak = Peak("FMA", "FLOP/s", next)

    session.Compare(
        Case("mlp", "256 rows", "rows/s", 1, Limit = struct (peak, 1.0)),
        Contender("ours", fun () -> 100.0)
    )

    Seq.exactlyOne session.Results, List.ofSeq session.Remarks

[<Fact>]
let ``a peak that was measured under load is measured again, and never exceeded in the table`` () =
    let share (result: Result) =
        result.Share |> Option.ofObj |> Option.map _.Median

    let quiet, remarks = compared 1 [ 120.0; 125.0 ]
    Assert.Equal((Some 0.8, false), (share quiet, remarks |> List.exists _.Contains("peak")))
    let disturbed, _ = compared 1 [ 120.0; 80.0; 90.0; 125.0 ]
    Assert.Equal(Some 0.8, share disturbed)
    // Nothing exceeded the second, but the machine can do more, as the first has shown.
    let lower, _ = compared 2 [ 120.0; 200.0; 110.0; 200.0 ]
    Assert.Equal(Some 0.5, share lower)
    let loaded, remarks = compared 1 [ 120.0; 80.0 ]
    Assert.Equal(None, share loaded)

    Assert.Contains(
        remarks,
        fun remark -> remark.Contains "256 rows, 1 threads: more than the peak was reached"
    )

[<Theory>]
[<InlineData(1.0, 1.02, 1.02)>]
[<InlineData(2.0, 1.0, 0.5)>]
let ``an upper bound is reached from below`` (value: float) (bound: float) (reached: float) =
    let line =
        Result(
            Benchmark = "growth",
            Case = "memory",
            Threads = 1,
            Path = "Avx2",
            Unit = "",
            Ours = exactly value,
            Goal = Goal(Measure.Value, bound, true)
        )

    Expect.close 1e-12 line.Reached.Value reached "reached"

[<Fact>]
let ``the table in a document is replaced between its marks`` () =
    let document =
        File.ReadAllText(Path.Combine(RepositoryRules.root, "docs", "performance.md"))

    let once = Table.Replace(document, "first")
    Assert.Contains("<!-- results -->\n\nfirst\n\n<!-- end of results -->", once)
    Expect.equal (Table.Replace(once, "second")) (Table.Replace(document, "second")) "replaced"
    Expect.throws<DistillException>(fun () -> Table.Replace("no marks", "x") |> ignore) |> ignore

[<Tools.GccFact>]
let ``the pendulum in C and that in C# go the same way`` () =
    let config = NativeConfig(NativeLibraries.pendulum 30, Envs = 40)
    use inC = config.Create(40, 7UL)
    use inCSharp = new Pendulum(inC.Spec, 40, 7UL)
    let both: IBatchedEnvironment list = [ inC; inCSharp ]
    let random = Random 2
    let zeros rows : float32[] = Array.zeroCreate (rows * Panel.Width)

    for panel in 0..1 do
        let there = min Panel.Width (40 - panel * Panel.Width)

        for environment in both do
            environment.Reset panel

        for step in 1..100 do
            let actions =
                zeros 1 |> Array.map (fun _ -> float32 (3.0 * random.NextDouble() - 1.5))

            let seen =
                [
                    for environment in both do
                        let reward, terminated, truncated, measures = zeros 1, zeros 1, zeros 1, zeros 1
                        environment.Step(panel, actions, reward, terminated, truncated, measures)
                        let whole, part = zeros 3, zeros 2
                        environment.Observe(panel, 0, whole)
                        environment.Observe(panel, 1, part)
                        let rows = Array.concat [ whole; part; reward; terminated; truncated; measures ]

                        [
                            for i, value in Array.indexed rows do
                                if i % Panel.Width < there then
                                    float value
                        ]
                ]

            // The compiler of each may round sums and products in its own way.
            Expect.closeAll 1e-4 seen[0] seen[1] $"panel {panel}, step {step}"
