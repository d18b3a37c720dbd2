module Distill.Tests.ComputeMathTests

open System
open System.Runtime.Intrinsics
open Distill.Compute
open Xunit

let private map512 (f: Vector512<float32> -> Vector512<float32>) (x: float32[]) =
    x
    |> Array.chunkBySize 16
    |> Array.collect (fun part ->
        let result = Array.zeroCreate<float32> 16
        (f (Vector512.Create(part, 0))).CopyTo result
        result)

let private map256 (f: Vector256<float32> -> Vector256<float32>) (x: float32[]) =
    x
    |> Array.chunkBySize 8
    |> Array.collect (fun part ->
        let result = Array.zeroCreate<float32> 8
        (f (Vector256.Create(part, 0))).CopyTo result
        result)

let private map128 (f: Vector128<float32> -> Vector128<float32>) (x: float32[]) =
    x
    |> Array.chunkBySize 4
    |> Array.collect (fun part ->
        let result = Array.zeroCreate<float32> 4
        (f (Vector128.Create(part, 0))).CopyTo result
        result)

let private count = 1 <<< 20

/// Evenly spaced over [low, high], both ends included.
let private grid low high =
    Array.init count (fun i -> float32 (low + (high - low) * float i / float (count - 1)))

/// Demands the same bits from the three widths and that the error stays below the bound everywhere.
let private check
    what
    (x: float32[])
    (wide, middle, narrow)
    (exact: float -> float)
    (error: float -> float -> float)
    bound
    =
    let y: float32[] = map512 wide x
    Paths.sameBits (map256 middle x) y $"{what}, 256 bits"
    Paths.sameBits (map128 narrow x) y $"{what}, 128 bits"

    let deviation i =
        let e = error (float y[i]) (exact (float x[i]))
        if Double.IsNaN e then infinity else e

    let worst = Seq.maxBy deviation (seq { 0 .. x.Length - 1 })
    Expect.close bound (deviation worst) 0.0 $"{what}({x[worst]:G9}) = {y[worst]:G9}"

let private relative actual expected = abs (actual - expected) / abs expected
let private absolute (actual: float) expected = abs (actual - expected)

let private exp3 =
    (fun v -> MathW512.Exp v), (fun v -> MathW256.Exp v), (fun v -> MathW128.Exp v)

let private tanh3 =
    (fun v -> MathW512.Tanh v), (fun v -> MathW256.Tanh v), (fun v -> MathW128.Tanh v)

let private sigmoid3 =
    (fun v -> MathW512.Sigmoid v), (fun v -> MathW256.Sigmoid v), (fun v -> MathW128.Sigmoid v)

let private log3 =
    (fun v -> MathW512.Log v), (fun v -> MathW256.Log v), (fun v -> MathW128.Log v)

[<Fact>]
let ``Exp has a relative error below 2e-7`` () =
    check "exp" (grid -87.3 88.3) exp3 exp relative 2e-7
    check "exp" (grid -1.0 1.0) exp3 exp relative 2e-7

[<Fact>]
let ``Exp is clamped outside its range`` () =
    check "exp" (grid -1e6 -87.3) exp3 (fun _ -> exp (float -87.3f)) relative 2e-7
    check "exp" (grid 88.3 1e6) exp3 (fun _ -> exp (float 88.3f)) relative 2e-7

[<Fact>]
let ``Tanh has an absolute error below 3e-7 and is odd`` () =
    check "tanh" (grid -10.0 10.0) tanh3 tanh absolute 3e-7
    check "tanh" (grid 1e-4 0.01) tanh3 tanh relative 4e-7
    check "tanh" (grid -1e30 1e30) tanh3 tanh absolute 3e-7
    let x = grid 0.0 20.0
    let positive = map512 (fun v -> MathW512.Tanh v) x
    let negative = map512 (fun v -> MathW512.Tanh v) (Array.map (~-) x)
    Paths.sameBits (Array.map (~-) negative) positive "tanh(-x) = -tanh(x)"

[<Fact>]
let ``Sigmoid has an absolute error below 2e-7`` () =
    check "sigmoid" (grid -30.0 30.0) sigmoid3 (fun x -> 1.0 / (1.0 + exp -x)) absolute 2e-7

[<Fact>]
let ``Log has a relative error below 3e-7 away from 1 and an absolute one below 1e-7 near it`` () =
    let powers = grid -125.9 127.9 |> Array.map (fun e -> MathF.Pow(2f, e))

    let error actual expected =
        if abs expected > 0.3 then
            relative actual expected / 3.0
        else
            absolute actual expected

    check "log" powers log3 log error 1e-7
    check "log" (grid 0.5 2.0) log3 log error 1e-7
    check "log" [| for _ in 1..16 -> 1f |] log3 log absolute 0.0

[<Fact>]
let ``SinCosTurns has an absolute error below 2e-7`` () =
    let sin3 =
        (fun v ->
            let mutable s, c = Vector512.Zero, Vector512.Zero
            MathW512.SinCosTurns(v, &s, &c)
            s),
        (fun v ->
            let mutable s, c = Vector256.Zero, Vector256.Zero
            MathW256.SinCosTurns(v, &s, &c)
            s),
        (fun v ->
            let mutable s, c = Vector128.Zero, Vector128.Zero
            MathW128.SinCosTurns(v, &s, &c)
            s)

    let cos3 =
        (fun v ->
            let mutable s, c = Vector512.Zero, Vector512.Zero
            MathW512.SinCosTurns(v, &s, &c)
            c),
        (fun v ->
            let mutable s, c = Vector256.Zero, Vector256.Zero
            MathW256.SinCosTurns(v, &s, &c)
            c),
        (fun v ->
            let mutable s, c = Vector128.Zero, Vector128.Zero
            MathW128.SinCosTurns(v, &s, &c)
            c)

    check "sin" (grid 0.0 1.0) sin3 (fun t -> sin (2.0 * Math.PI * t)) absolute 2e-7
    check "cos" (grid 0.0 1.0) cos3 (fun t -> cos (2.0 * Math.PI * t)) absolute 2e-7

[<Fact>]
let ``What is not a number stays so`` () =
    let nan = Array.create 16 nanf

    for f in
        [
            map512 (fun v -> MathW512.Exp v)
            map256 (fun v -> MathW256.Exp v)
            map128 (fun v -> MathW128.Exp v)
        ] do
        Expect.isTrue (Array.forall Single.IsNaN (f nan)) "exp"

    for f in
        [
            map512 (fun v -> MathW512.Tanh v)
            map256 (fun v -> MathW256.Tanh v)
            map128 (fun v -> MathW128.Tanh v)
        ] do
        Expect.isTrue (Array.forall Single.IsNaN (f nan)) "tanh"

    for path in Paths.all do
        for activation in Enum.GetValues<Activation>() do
            let values = Array.copy nan
            Paths.on path (fun () -> Elementwise.Activate(activation, values))
            Expect.isTrue (Array.forall Single.IsNaN values) $"{activation} on {path}"
