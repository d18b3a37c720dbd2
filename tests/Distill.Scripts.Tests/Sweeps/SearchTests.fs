/// What searches decide, without running anything: Parzen estimators, promotions, the Pareto front, the words for them.
module Distill.Tests.SearchTests

open System
open Distill
open Distill.Compute
open FsCheck
open FsCheck.FSharp
open Xunit

/// Uniform numbers, the same for the same seed.
let private uniforms (seed: int) : unit -> float =
    let stream = RandomStream(uint64 seed, "test")
    let mutable draw = -1

    fun () ->
        draw <- draw + 1
        Search.uniform stream 0 0 draw

[<Fact>]
let ``a tenth of the points is good, at most 25, and all but the newest 25 fade`` () =
    Assert.Equal<int list>([ 0; 1; 1; 2; 25; 25 ], [ 0; 1; 10; 11; 250; 1000 ] |> List.map Tpe.good)
    Assert.Equal<float array>(Array.create 25 1.0, Tpe.weights 25)
    Assert.Equal<float array>(Array.append [| 1.0 / 26.0 |] (Array.create 25 1.0), Tpe.weights 26)

    // numpy.linspace(1 / 30, 1, 5), then ones.
    Expect.closeAll
        1e-12
        (Tpe.weights 30)
        ([ for i in 0..4 -> 1.0 / 30.0 + 29.0 / 30.0 * float i / 4.0 ] @ List.replicate 25 1.0)
        "weights of 30"

[<Fact>]
let ``kernels are as wide as the distance to their neighbours`` () =
    let kernels (observations: float array) =
        match Tpe.estimate Range observations with
        | Tpe.Kernels kernels -> [ for kernel in kernels -> kernel.Mean, kernel.Deviation, kernel.Weight ]
        | estimate -> failwith $"{estimate}"

    let third = 1.0 / 3.0
    Assert.Equal<(float * float * float) list>([ 0.5, 1.0, 1.0 ], kernels [||])
    // Sorted: 0.1, the prior's 0.5, 0.9. The outermost count their inner neighbour.
    Assert.Equal<(float * float * float) list>(
        [ 0.9, 0.4, third; 0.1, 0.4, third; 0.5, 1.0, third ],
        kernels [| 0.9; 0.1 |]
    )
    // Narrower than one part of n + 2 is none: 1/4 for two, 1/5 for three.
    Assert.Equal<(float * float * float) list>(
        [ 0.45, 0.25, third; 0.55, 0.25, third; 0.5, 1.0, third ],
        kernels [| 0.45; 0.55 |]
    )

    Assert.Equal<(float * float * float) list>(
        // 0.3 has 0.1 on its left and 0.5 on its right.
        [ 0.1, 0.2, 0.25; 0.3, 0.2, 0.25; 0.9, 0.4, 0.25; 0.5, 1.0, 0.25 ],
        kernels [| 0.1; 0.3; 0.9 |]
        |> List.map (fun (mean, deviation, weight) -> mean, Math.Round(deviation, 12), weight)
    )

/// The area under the curve between two numbers, by Simpson's rule.
let private area (low: float) (high: float) (curve: float -> float) =
    let n = 200
    let step = (high - low) / float n

    step / 3.0
    * Seq.sum
        [
            for i in 0..n do
                let weight =
                    if i = 0 || i = n then 1.0
                    elif i % 2 = 1 then 4.0
                    else 2.0

                weight * curve (low + step * float i)
        ]

/// The density of a mixture of normals, each cut off at 0 and 1, by its definition.
let private mixture (kernels: Tpe.Kernel array) (u: float) =
    kernels
    |> Array.sumBy (fun kernel ->
        let bell (u: float) =
            exp (-0.5 * ((u - kernel.Mean) / kernel.Deviation) ** 2.0)

        kernel.Weight * bell u / area 0.0 1.0 bell)

[<Fact>]
let ``densities are those of normals cut off at the ends, and of their parts for steps`` () =
    let observations = [| 0.05; 0.4; 0.43; 0.9; 0.43 |]

    let kernels (dimension: Dimension) =
        match Tpe.estimate dimension observations with
        | Tpe.Kernels kernels -> kernels
        | estimate -> failwith $"{estimate}"

    let ofRange = kernels Range

    for u in [ 0.0; 0.2; 0.43; 0.99 ] do
        Expect.close 1e-8 (Tpe.density Range (Tpe.Kernels ofRange) u) (mixture ofRange u) $"density at {u}"

    let ofSteps = kernels (Steps 4)

    for step in 0..3 do
        let low, high = float step / 4.0, float (step + 1) / 4.0

        Expect.close
            1e-8
            (Tpe.density (Steps 4) (Tpe.Kernels ofSteps) (low + 0.1))
            (area low high (mixture ofSteps))
            $"probability of step {step}"

[<Fact>]
let ``choices are counted, with pseudo-counts and a prior`` () =
    let probabilities (observations: float list) =
        match Tpe.estimate (Choices 3) (Array.ofList observations) with
        | Tpe.Probabilities probabilities -> List.ofArray probabilities
        | estimate -> failwith $"{estimate}"

    let third = 1.0 / 3.0
    Expect.closeAll 1e-12 (probabilities []) [ third; third; third ] "nothing observed"

    // Three observations, 1/4 each as the prior: rows (1 + 1/4, 1/4, 1/4) / (7/4) of an observed 0, thirds of the prior.
    Expect.closeAll
        1e-12
        (probabilities [ 0.1; 0.2; 0.9 ])
        [
            (2.0 * 1.25 / 1.75 + 0.25 / 1.75 + third) / 4.0
            (3.0 * 0.25 / 1.75 + third) / 4.0
            (2.0 * 0.25 / 1.75 + 1.25 / 1.75 + third) / 4.0
        ]
        "0, 0 and 2"

[<Fact>]
let ``the good are those that came furthest, then those with the best score; failures are last`` () =
    let observed =
        [
            for i, (rung, score) in
                List.indexed
                    [ 0, 9.0; 1, 2.0; 1, 5.0; 0, nan; 2, nan; 1, 5.0; 0, 1.0; 0, 1.0; 0, 1.0; 0, 1.0; 0, 0.0 ] ->
                { Point = [ Range, float i ]; Rung = rung; Score = score }: Tpe.Observed
        ]

    let numbers = List.map (fun (point: Tpe.Point) -> int (snd point.Head))
    let good, others = Tpe.split observed
    Assert.Equal<int list>([ 2; 5 ], numbers good)
    Assert.Equal<int list>([ 0; 1; 3; 4; 6; 7; 8; 9; 10 ], numbers others)

let private dimensions =
    Gen.oneof [ Gen.constant Range; Gen.choose (1, 9) |> Gen.map Steps; Gen.choose (1, 9) |> Gen.map Choices ]

let private shares =
    Gen.choose (0, 999) |> Gen.map (fun n -> float n / 1000.0) |> Gen.arrayOf

[<Fact>]
let ``proposals lie within the space, and the same numbers propose the same`` () =
    let cases =
        Gen.zip (Gen.zip dimensions (Gen.choose (0, 99999))) (Gen.zip shares shares)

    Property.check (
        Prop.forAll (Arb.fromGen cases) (fun ((dimension, seed), (good, others)) ->
            let propose () =
                Tpe.propose (uniforms seed) Tpe.candidates dimension good others

            let u = propose ()

            let inside =
                match dimension with
                | Steps count
                | Choices count -> Dimension.index count u < count && Dimension.index count u >= 0
                | Range -> true

            inside && u >= 0.0 && u < 1.0 && u = propose ())
    )

[<Fact>]
let ``proposals are where the good points are and the others are not`` () =
    let good = [| 0.28; 0.31; 0.3 |]
    let others = [| for i in 0..19 -> (float i + 0.5) / 20.0 |]

    let shareNear (dimension: Dimension) =
        let near =
            [ 1..100 ]
            |> List.filter (fun seed ->
                abs (Tpe.propose (uniforms seed) Tpe.candidates dimension good others - 0.3) < 0.15)

        float near.Length / 100.0

    for dimension in [ Range; Steps 10; Choices 10 ] do
        Assert.True(shareNear dimension > 0.9, $"{dimension}: {shareNear dimension}")

[<Fact>]
let ``a decision learns from points that had the same one in its place`` () =
    let observed =
        [
            for i in 0..19 ->
                {
                    Point =
                        [
                            Choices 2, (if i % 2 = 0 then 0.25 else 0.75)
                            (if i % 2 = 0 then Range else Steps 5), 0.1
                        ]
                    Rung = 0
                    Score = float i
                }
                : Tpe.Observed
        ]

    // Of Range in the second place there are points; of Steps 7 none, so that the prior decides: all steps are as likely.
    let decided (dimension: Dimension) =
        [
            for seed in 0..99 do
                let decide = Tpe.decide (uniforms seed) 1 observed
                decide (Choices 2) |> ignore
                decide dimension
        ]

    let least = decided (Steps 7) |> List.countBy (Dimension.index 7) |> List.map snd
    Assert.Equal(7, least.Length)
    Assert.True(decided (Steps 5) |> List.filter (fun u -> u < 0.2) |> List.length > 25)

/// The highest value of a hill with its top at (0.3, 0.8) among so many points, chosen as the function says.
let private climb (points: int) (seed: int) (candidates: int) =
    let uniform = uniforms seed

    let value (point: Tpe.Point) =
        match point with
        | [ _, a; _, b ] -> -((a - 0.3) ** 2.0) - (b - 0.8) ** 2.0
        | _ -> failwith "a point of another space"

    ([], [ 1..points ])
    ||> List.fold (fun (observed: Tpe.Observed list) _ ->
        let decide = Tpe.decide uniform candidates observed
        let point = [ Range, decide Range; Range, decide Range ]
        observed @ [ { Point = point; Rung = 0; Score = value point } ])
    |> List.map _.Score
    |> List.max

[<Fact>]
let ``on a hill of two dimensions, 40 proposals come closer to the top than 40 random points`` () =
    let mean (candidates: int) =
        [ 0..19 ] |> List.averageBy (fun seed -> climb 40 seed candidates)

    let proposed, random = mean Tpe.candidates, mean 0
    Assert.True(proposed > 0.5 * random, $"proposed {proposed}, random {random}")

[<Fact>]
let ``rungs are powers of eta times the first, and last what a trial has`` () =
    Assert.Equal<int list>([ 1; 4; 16 ], Halving.rungs 4 1 16)
    Assert.Equal<int list>([ 5; 15; 45; 50 ], Halving.rungs 3 5 50)
    Assert.Equal<int list>([ 7 ], Halving.rungs 2 7 7)
    Assert.Equal<int list>([ 1_000_000_000; 2_000_000_000 ], Halving.rungs 4 1_000_000_000 2_000_000_000)

/// The promotions of a game of eta 3 and three rungs, played by hand: what has ended, what was decided, what comes next.
[<Fact>]
let ``promotions are those of a game played by hand`` () =
    let at (point: int) (rung: int) = { Point = point; Rung = rung }

    let next (ended: (Step * float) list) (alsoDecided: Step list) =
        Halving.promotion 3 3 ended (List.map fst ended @ alsoDecided)

    let first (scores: float list) =
        scores |> List.mapi (fun point score -> at point 0, score)

    // A third of two is none.
    Assert.Equal(None, next (first [ 5.0; 1.0 ]) [])
    // The best of three goes on, once.
    Assert.Equal(Some(at 1 1), next (first [ 5.0; 7.0; 1.0 ]) [])
    Assert.Equal(None, next (first [ 5.0; 7.0; 1.0 ]) [ at 1 1 ])
    // Of six there are two: the better first, then the other, also when a better one came later.
    let six = first [ 5.0; 7.0; 1.0; 8.0; 0.0; 0.0 ]
    Assert.Equal(Some(at 3 1), next six [ at 1 1 ])
    Assert.Equal(None, next six [ at 1 1; at 3 1 ])
    // 0 is no longer among the best two when 6 has ended.
    let seven = first [ 5.0; 7.0; 1.0; 8.0; 0.0; 0.0; 6.0; 4.0; 3.0 ]
    Assert.Equal(Some(at 6 1), next seven [ at 1 1; at 3 1 ])
    // The highest rung goes first: 3 is the best of three on the second.
    let second = [ at 1 1, 9.0; at 3 1, 12.0; at 6 1, 3.0 ]
    Assert.Equal(Some(at 3 2), next (seven @ second) [])
    // Nothing follows the last rung, and the first has none left of its best three.
    Assert.Equal(None, next (seven @ second @ [ at 3 2, 1.0 ]) [])
    // Of equals the earlier; one that failed takes its place among those that are counted, and never goes on.
    Assert.Equal(Some(at 0 1), next (first [ 2.0; 2.0; nan ]) [])
    Assert.Equal(None, next (first [ nan; nan; nan ]) [])

[<Fact>]
let ``the Pareto front has what nothing else reaches for as little`` () =
    let points = [ 1.0, 5.0; 2.0, 6.0; 2.0, 7.0; 3.0, 7.0; 4.0, 9.0; 1.0, 5.0 ]
    Assert.Equal<bool list>([ true; false; true; false; true; true ], Pareto.front points)

    Property.check (fun (points: (NormalFloat * NormalFloat) list) ->
        let points =
            points |> List.map (fun (NormalFloat cost, NormalFloat value) -> cost, value)

        let chosen = List.zip points (Pareto.front points)
        let front = chosen |> List.filter snd |> List.map fst |> List.distinct |> List.sort
        // Along the front, more costs more.
        let climbs = front |> List.pairwise |> List.forall (fun ((_, a), (_, b)) -> a < b)

        let others =
            chosen
            |> List.forall (fun ((cost, value), isOn) ->
                isOn || front |> List.exists (fun (c, v) -> c <= cost && v >= value))

        climbs && others)

let private search (own: Search) (arguments: string) =
    SweepOptions.search
        (SweepOptions.parse (arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries) |> List.ofArray))
        own

[<Fact>]
let ``the command line says how to search in the words of scripts`` () =
    let is (arguments: string) (expected: Search) =
        Assert.Equal(expected, search Search.Grid arguments)

    let asha = { Sampler = Search.Grid; Eta = 4; Min = 5; Max = 0 }
    is "" Search.Grid
    is "--search random:20" (Search.Random 20)
    is "--search tpe:20" (Search.Tpe 20)
    is "--sampler halton --trials 7" (Search.Halton 7)
    is "--search asha --min 5" (Search.Asha asha)

    is
        "--search asha --sampler tpe --trials 60 --eta 3 --min 2 --max 50"
        (Search.Asha { Sampler = Search.Tpe 60; Eta = 3; Min = 2; Max = 50 })

    // What the script says stays where the command line says nothing.
    let own = Search.Asha { asha with Sampler = Search.Tpe 30; Eta = 2 }
    Assert.Equal(own, search own "")
    Assert.Equal(Search.Asha { asha with Sampler = Search.Tpe 9; Eta = 3 }, search own "--trials 9 --eta 3")
    Assert.Equal(Search.Asha { asha with Sampler = Search.Random 30; Eta = 2 }, search own "--sampler random")
    Assert.Equal(Search.Grid, search own "--search grid")
    Assert.Equal(Search.Halton 3, search (Search.Random 3) "--sampler halton")

    let options =
        SweepOptions.parse [ "a=1"; "--search"; "asha"; "--min"; "5"; "--workers"; "2" ]

    Assert.Equal<string list>([ "a=1"; "--search"; "asha"; "--min"; "5" ], SweepOptions.declaration options)
    let ofPoint = SweepOptions.declaration options @ SweepOptions.ofPoint [ 0.25; 0.1 ]
    Assert.Equal(Some [ 0.25; 0.1 ], (SweepOptions.parse ofPoint).Point)
    Assert.Equal<string list>(SweepOptions.declaration options, SweepOptions.withoutPoint ofPoint)

[<Theory>]
[<InlineData("--search asha", "asha takes the iterations of its first rung: --min 5, or Min = 5 in a script.")>]
[<InlineData("--search ash", "--search ash cannot be: write grid, random:20, halton:20, tpe:20 or asha.")>]
[<InlineData("--search tpe:x", "--search tpe:x cannot be: write grid, random:20, halton:20, tpe:20 or asha.")>]
[<InlineData("--sampler tp --trials 5", "--sampler tp cannot be: did you mean tpe?")>]
[<InlineData("--sampler tpe", "--sampler tpe takes --trials, the number of points: --trials 50.")>]
[<InlineData("--trials 5", "--trials takes --sampler, which draws so many points: --sampler tpe.")>]
[<InlineData("--sampler grid --trials 5", "--trials cannot be with --sampler grid, which has every point.")>]
[<InlineData("--search random:3 --trials 5", "--sampler and --trials stand alone or with --search asha.")>]
[<InlineData("--sampler tpe --trials 0", "--trials 0 cannot be: it must be a whole number from 1.")>]
[<InlineData("--eta 3", "--eta is an option of asha: --search asha.")>]
[<InlineData("--search asha --min 5 --eta 1", "--eta 1 cannot be: it must be a whole number from 2.")>]
[<InlineData("--search asha --min", "--min takes a value.")>]
[<InlineData("--smpler tpe", "There is no option --smpler; did you mean --sampler?")>]
let ``words of a search that cannot be are one sentence`` (arguments: string) (sentence: string) =
    let error =
        Expect.throws<DistillException>(fun () -> search Search.Grid arguments |> ignore)

    Assert.Equal(sentence, error.Message)

[<Fact>]
let ``numbers in ascending order are a scale, other choices are not`` () =
    let dimensions (space: Space<'T>) =
        let asked = ResizeArray()

        space.Draw(fun dimension ->
            asked.Add dimension
            0.0)
        |> ignore

        List.ofSeq asked

    Assert.Equal<Dimension list>([ Steps 3 ], dimensions (choice [ 1; 5; 20 ]))
    Assert.Equal<Dimension list>([ Choices 3 ], dimensions (choice [ 1; 20; 5 ]))
    Assert.Equal<Dimension list>([ Choices 2 ], dimensions (choice [ "mlp"; "gru" ]))
    Assert.Equal<Dimension list>([ Steps 4 ], dimensions (wholeNumber 1 4))

    Assert.Equal<Dimension list>(
        [ Steps 2; Range; Choices 2; Steps 3 ],
        dimensions (
            SweepSettings.toSpace
                [
                    "rows=5_000,80_000"
                    "rate=log_uniform(1e-4,1e-2)"
                    "loss=mse,huber"
                    "layers=whole_number(1,3)"
                ]
        )
    )

    Assert.Equal(
        3,
        (Search.points 0UL Search.Grid (SweepSettings.toSpace [ "layers=whole_number(1,3)" ])).Length
    )

    let error =
        Expect.throws<DistillException>(fun () ->
            SweepSettings.toSpace [ "layers=whole_number(1.5,3)" ] |> ignore)

    Assert.Contains("takes two whole numbers", error.Message)
