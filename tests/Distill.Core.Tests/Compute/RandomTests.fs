module Distill.Tests.ComputeRandomTests

open System
open System.Runtime.Intrinsics
open Distill.Compute
open FsCheck.FSharp
open Xunit

[<Theory>]
[<InlineData(0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0x9c6ca96au, 0xe17eae66u, 0xfc10ecd4u, 0x5256a7d8u)>]
[<InlineData(0xffffffffu,
             0xffffffffu,
             0xffffffffu,
             0xffffffffu,
             0xffffffffu,
             0xffffffffu,
             0xffffffffu,
             0xffffffffu,
             0x2a881696u,
             0x57012287u,
             0xf6c7446eu,
             0xa16a6732u)>]
[<InlineData(0x243f6a88u,
             0x85a308d3u,
             0x13198a2eu,
             0x03707344u,
             0xa4093822u,
             0x299f31d0u,
             0x082efa98u,
             0xec4e6c89u,
             0x59cd1dbbu,
             0xb8879579u,
             0x86b5d00cu,
             0xac8b6d84u)>]
let ``Threefry4x32-20 gives the known answers of Random123``
    (c0, c1, c2, c3, k0, k1, k2, k3, x0, x1, x2, x3)
    =
    let stream = RandomStream(k0, k1, k2, k3)
    let struct (y0, y1, y2, y3) = stream.Bits(c0, c1, c2, c3)
    Assert.Equal<uint32 list>([ x0; x1; x2; x3 ], [ y0; y1; y2; y3 ])

[<Fact>]
let ``Vectors of every width give what single calls give`` () =
    Property.check (fun (seed: uint64) (name: char[]) (c1: uint32) ->
        let stream = RandomStream(seed, String name)
        let counters = Array.init 16 (fun lane -> uint32 lane * 0x9E3779B9u + uint32 seed)

        let expected =
            counters
            |> Array.map (fun c0 ->
                let struct (a, b, c, d) = stream.Bits(c0, c1, 7u, 9u)
                a, b, c, d)

        let wide =
            let mutable a = Vector512.Create(counters, 0)
            let mutable b = Vector512.Create c1
            let mutable c = Vector512.Create 7u
            let mutable d = Vector512.Create 9u
            RandomW512.Bits(stream, &a, &b, &c, &d)
            Array.init 16 (fun i -> a[i], b[i], c[i], d[i])

        let middle =
            [| 0; 8 |]
            |> Array.collect (fun start ->
                let mutable a = Vector256.Create(counters, start)
                let mutable b = Vector256.Create c1
                let mutable c = Vector256.Create 7u
                let mutable d = Vector256.Create 9u
                RandomW256.Bits(stream, &a, &b, &c, &d)
                Array.init 8 (fun i -> a[i], b[i], c[i], d[i]))

        Assert.Equal<(uint32 * uint32 * uint32 * uint32)[]>(expected, wide)
        Assert.Equal<(uint32 * uint32 * uint32 * uint32)[]>(expected, middle)

        let words index =
            expected |> Array.map (fun (a, b, _, _) -> if index = 0 then a else b)

        let normals512 =
            let mutable first, second = Vector512.Zero, Vector512.Zero
            RandomW512.Normal(Vector512.Create(words 0, 0), Vector512.Create(words 1, 0), &first, &second)
            Array.init 16 (fun i -> first[i])

        let uniforms512 =
            let v = RandomW512.Uniform(Vector512.Create(words 0, 0))
            Array.init 16 (fun i -> v[i])

        Paths.sameBits normals512 (counters |> Array.map (fun c0 -> stream.Normal(c0, c1, 7u, 9u))) "normal"

        Paths.sameBits
            uniforms512
            (counters |> Array.map (fun c0 -> stream.Uniform(c0, c1, 7u, 9u)))
            "uniform")

let private count = 1_000_000

/// Largest distance between the empirical distribution and the exact one (Kolmogorov).
let private distance (values: float[]) cumulative =
    let sorted = Array.sort values
    let n = float sorted.Length

    sorted
    |> Seq.mapi (fun i v ->
        let p = cumulative v
        max (abs (p - float i / n)) (abs (float (i + 1) / n - p)))
    |> Seq.max

/// The normal distribution function by its Taylor series, exact to 1e-10 for |x| < 6.
let private normalCdf x =
    let x = max -6.0 (min 6.0 x)
    let mutable term, sum, k = x, x, 1.0

    while abs term > 1e-17 do
        term <- term * x * x / (2.0 * k + 1.0)
        sum <- sum + term
        k <- k + 1.0

    0.5 + sum * exp (-0.5 * x * x) / sqrt (2.0 * Math.PI)

// The streams are fixed, so the statistical bounds below cannot fail by chance: they are five standard errors, and
// 1.95 / sqrt(n) for the Kolmogorov distance (probability 0.001 for a perfect generator).

[<Fact>]
let ``Uniform numbers are uniform on [0, 1)`` () =
    let stream = RandomStream(1UL, "uniform")
    let values = Array.init count (fun i -> float (stream.Uniform(uint32 i)))
    Expect.isTrue (values |> Array.forall (fun v -> v >= 0.0 && v < 1.0)) "range"
    Expect.close (5.0 * sqrt (1.0 / 12.0 / float count)) (Array.average values) 0.5 "mean"
    let variance = values |> Array.averageBy (fun v -> (v - 0.5) ** 2.0)
    Expect.close (5.0 * sqrt (1.0 / 180.0 / float count)) variance (1.0 / 12.0) "variance"
    Expect.close (1.95 / sqrt (float count)) (distance values id) 0.0 "Kolmogorov distance"

[<Fact>]
let ``Normal numbers are standard normal in both outputs`` () =
    let stream = RandomStream(2UL, "normal")

    let pairs =
        Array.init (count / 4) (fun i ->
            let struct (a, b, c, d) = stream.Bits(uint32 i, 5u)
            let mutable first, second = Vector128.Zero, Vector128.Zero

            RandomW128.Normal(
                Vector128.Create(a, c, 0u, 0u),
                Vector128.Create(b, d, 0u, 0u),
                &first,
                &second
            )

            [| float first[0], float second[0]; float first[1], float second[1] |])
        |> Array.concat

    let n = float pairs.Length

    for values in [ Array.map fst pairs; Array.map snd pairs ] do
        let moment k =
            values |> Array.averageBy (fun v -> v ** float k)

        Expect.close (5.0 * sqrt (1.0 / n)) (moment 1) 0.0 "mean"
        Expect.close (5.0 * sqrt (2.0 / n)) (moment 2) 1.0 "variance"
        Expect.close (5.0 * sqrt (15.0 / n)) (moment 3) 0.0 "third moment"
        Expect.close (5.0 * sqrt (96.0 / n)) (moment 4) 3.0 "fourth moment"
        let tail = values |> Array.averageBy (fun v -> if abs v > 3.0 then 1.0 else 0.0)
        Expect.close (5.0 * sqrt (0.0027 / n)) tail 0.0026998 "share beyond 3 sigma"
        Expect.close (1.95 / sqrt n) (distance values normalCdf) 0.0 "Kolmogorov distance"

    Expect.close (5.0 / sqrt n) (pairs |> Array.averageBy (fun (a, b) -> a * b)) 0.0 "correlation of the two"

[<Fact>]
let ``Normal numbers are finite at the ends of the uniform range`` () =
    for a in [ 0u; 255u; 256u; 0xFFFFFF00u; UInt32.MaxValue ] do
        for b in [ 0u; 0x40000000u; 0x80000000u; 0xC0000000u; UInt32.MaxValue ] do
            let mutable first, second = Vector128.Zero, Vector128.Zero
            RandomW128.Normal(Vector128.Create a, Vector128.Create b, &first, &second)
            // The smallest 1 - u is 2^-24: a radius of sqrt(48 ln 2) = 5.77.
            Expect.isTrue
                (abs first[0] < 5.78f && abs second[0] < 5.78f)
                $"normal of {a}, {b}: {first[0]}, {second[0]}"

[<Fact>]
let ``Streams of other names, other seeds and other counters are independent`` () =
    let n = 200_000

    let draw (stream: RandomStream) c1 =
        Array.init n (fun i -> float (stream.Uniform(uint32 i, c1)) - 0.5)

    let reference = draw (RandomStream(1UL, "environment.reset")) 0u

    let others =
        [
            "name", draw (RandomStream(1UL, "environment.noise")) 0u
            "last letter of the name", draw (RandomStream(1UL, "environment.reseu")) 0u
            "seed", draw (RandomStream(2UL, "environment.reset")) 0u
            "high half of the seed", draw (RandomStream(1UL + (1UL <<< 32), "environment.reset")) 0u
            "second counter", draw (RandomStream(1UL, "environment.reset")) 1u
            "first counter", Array.append reference[1..] [| 0.0 |]
        ]

    for what, other in others do
        let correlation = 12.0 * (Array.map2 (*) reference other |> Array.average)
        Expect.close (5.0 / sqrt (float n)) correlation 0.0 $"correlation when the {what} differs"

        // Pairs must fill the square evenly: chi square over 64 cells, 63 degrees of freedom, standard deviation 11.2.
        let cell v = int (8.0 * (v + 0.5))
        let counts = Array.zeroCreate<float> 64

        Array.iter2
            (fun a b -> counts[8 * cell a + cell b] <- counts[8 * cell a + cell b] + 1.0)
            reference
            other

        let expected = float n / 64.0
        let chi = counts |> Array.sumBy (fun c -> (c - expected) ** 2.0 / expected)
        Expect.isTrue (chi < 63.0 + 5.0 * 11.2) $"chi square {chi} when the {what} differs"

[<Fact>]
let ``The name of a stream is part of its key and equal streams are equal`` () =
    Expect.equal (RandomStream(3UL, "a")) (RandomStream(3UL, "a")) "equality"
    Expect.isTrue (RandomStream(3UL, "a") <> RandomStream(3UL, "b")) "name"
    Expect.isTrue (RandomStream(3UL, "a") <> RandomStream(4UL, "a")) "seed"

[<Fact>]
let ``Permutation is a permutation and depends on its counters alone`` () =
    Property.check (
        Prop.forAll (Arb.fromGen (Gen.choose (0, 300))) (fun length ->
            let stream = RandomStream(uint64 length, "shuffle")
            let order: int[] = Array.zeroCreate length
            let again: int[] = Array.zeroCreate length
            let other: int[] = Array.zeroCreate length
            stream.Permutation(order, 3u, 4u)
            stream.Permutation(again, 3u, 4u)
            stream.Permutation(other, 4u, 4u)
            Assert.Equal<int[]>(Array.init length id, Array.sort order)
            Assert.Equal<int[]>(order, again)

            if length > 20 then
                Assert.NotEqual<int[]>(order, other))
    )

[<Fact>]
let ``Permutation is that of Fisher and Yates with a draw of 64 bits for each place, on every path`` () =
    let stream = RandomStream(17UL, "permutation")

    for length in [ 0; 1; 2; 17; 255; 256; 257; 258; 1025 ] do
        let expected = Array.init length id

        for i in length - 1 .. -1 .. 1 do
            let struct (high, low, _, _) = stream.Bits(uint32 i, 3u, 4u, 0x5045524Du)
            let draw = UInt128.op_Implicit ((uint64 high <<< 32) ||| uint64 low)
            let j = int ((draw * UInt128.op_Implicit (uint64 (i + 1))) >>> 64)
            let moved = expected[i]
            expected[i] <- expected[j]
            expected[j] <- moved

        for path in Paths.all do
            let order = Array.zeroCreate<int> length
            Paths.on path (fun () -> stream.Permutation(order, 3u, 4u))
            Expect.isTrue (order = expected) $"{length} numbers, {path}"

[<Fact>]
let ``All permutations are equally likely`` () =
    let stream = RandomStream(5UL, "shuffle")
    let draws = 48_000
    let order: int[] = Array.zeroCreate 4
    let drawn = Collections.Generic.List<int>()

    for i in 0 .. draws - 1 do
        stream.Permutation(order, uint32 i)
        drawn.Add(Array.fold (fun key value -> 10 * key + value) 0 order)

    let counts = drawn |> Seq.countBy id |> Seq.map snd |> Seq.toList
    Expect.equal counts.Length 24 "different permutations"
    let expected = float draws / 24.0
    let chi = counts |> Seq.sumBy (fun c -> (float c - expected) ** 2.0 / expected)
    // 23 degrees of freedom: standard deviation 6.8.
    Expect.isTrue (chi < 23.0 + 5.0 * 6.8) $"chi square {chi}"
