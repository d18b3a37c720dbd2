module Distill.Tests.ExponentialTests

open System
open Distill.Compute
open Xunit

[<Fact>]
let ``e^x of one number is the nearest float, or the next where two are about as near`` () =
    let random = Random 3

    for _ in 1..100_000 do
        let x = float32 (random.NextDouble() * 190.0 - 103.0)
        let exact = Math.Exp(float x)
        let unit = float (MathF.BitIncrement(float32 exact) - float32 exact)
        let error = abs (float (Exponential.Of x) - exact) / unit
        Expect.isTrue (error < 0.503 || Single.IsInfinity(float32 exact)) $"e^{x} is off by {error} units"

[<Fact>]
let ``e^x of what is very large, very small or no number is what it must be`` () =
    for x, expected in
        [
            0f, 1f
            -0f, 1f
            88.72283f, 3.40279852e38f
            88.72284f, infinityf
            infinityf, infinityf
            -103.97208f, 1.4e-45f
            -103.97209f, 0f
            -infinityf, 0f
            nanf, nanf
        ] do
        Expect.equal
            (BitConverter.SingleToInt32Bits(Exponential.Of x))
            (BitConverter.SingleToInt32Bits expected)
            $"e^{x}"
