module Distill.Tests.ComputeMatrixTests

open System
open Distill.Compute
open FsCheck.FSharp
open Xunit

let private width = Panel.Width

/// (inputs, outputs, seed): ragged sizes around the tiles of 8 rows and 16 or 32 columns.
let private shapes =
    Gen.zip3 (Gen.choose (1, 90)) (Gen.choose (1, 90)) (Gen.choose (0, Int32.MaxValue - 1))
    |> Arb.fromGen

let private checkShapes test =
    Property.check (Prop.forAll shapes test)

/// start + the terms, as one chain of fused multiply-adds: what every element of a product is defined to be.
let private chain (start: float32) count (term: int -> struct (float32 * float32)) =
    let mutable sum = start

    for k in 0 .. count - 1 do
        let struct (a, b) = term k
        sum <- MathF.FusedMultiplyAdd(a, b, sum)

    sum

[<Fact>]
let ``Forward is W X + bias, bit for bit one chain over the inputs, on every path`` () =
    checkShapes (fun (inputs, outputs, seed) ->
        let random = Random seed
        let w = Draw.floats random (outputs * inputs)
        let bias = Draw.floats random outputs
        let x = Draw.floats random (inputs * width)

        let expected =
            Array.init (outputs * width) (fun i ->
                chain bias[i / width] inputs (fun k ->
                    struct (w[i / width * inputs + k], x[k * width + i % width])))

        let actual =
            Paths.same "forward" (fun () ->
                let y = Guarded(outputs * width)
                Matrix.Forward(w, bias, x, y.Span, inputs, outputs)
                y.Values)

        Paths.sameBits actual expected "forward")

[<Fact>]
let ``InputGradient is W' dY from zero and from values, bit for bit, on every path`` () =
    checkShapes (fun (inputs, outputs, seed) ->
        let random = Random seed
        let w = Draw.floats random (outputs * inputs)
        let dy = Draw.floats random (outputs * width)
        let before = Draw.floats random (inputs * width)

        for start in [ Start.FromZero; Start.FromValues ] do
            let expected =
                Array.init (inputs * width) (fun i ->
                    chain (if start = Start.FromZero then 0f else before[i]) outputs (fun k ->
                        struct (w[k * inputs + i / width], dy[k * width + i % width])))

            let actual =
                Paths.same "input gradient" (fun () ->
                    let dx = Guarded before
                    Matrix.InputGradient(w, dy, dx.Span, inputs, outputs, start)
                    dx.Values)

            Paths.sameBits actual expected $"input gradient {start}")

[<Fact>]
let ``WeightGradient adds dY X' bit for bit, on every path`` () =
    checkShapes (fun (inputs, outputs, seed) ->
        let random = Random seed
        let x = Draw.floats random (inputs * width)
        let dy = Draw.floats random (outputs * width)
        let before = Draw.floats random (outputs * inputs)

        let expected =
            Array.init (outputs * inputs) (fun i ->
                chain before[i] width (fun k ->
                    struct (dy[i / inputs * width + k], x[i % inputs * width + k])))

        let actual =
            Paths.same "weight gradient" (fun () ->
                let rows = Guarded(width * Matrix.Padded inputs)
                Matrix.ToRows(x, rows.Span, inputs)
                let dw = Guarded before
                Matrix.WeightGradient(dy, rows.Values, dw.Span, inputs, outputs)
                dw.Values)

        Paths.sameBits actual expected "weight gradient")

[<Fact>]
let ``Products against double precision stay within the rounding of the chain`` () =
    checkShapes (fun (inputs, outputs, seed) ->
        let random = Random seed
        let w = Draw.floats random (outputs * inputs)
        let bias = Draw.floats random outputs
        let x = Draw.floats random (inputs * width)
        let y = Array.zeroCreate<float32>(outputs * width)
        Matrix.Forward(w, bias, x, y, inputs, outputs)

        for i in 0 .. y.Length - 1 do
            let row, lane = i / width, i % width
            let mutable sum = float bias[row]
            let mutable size = abs sum

            for k in 0 .. inputs - 1 do
                let term = float w[row * inputs + k] * float x[k * width + lane]
                sum <- sum + term
                size <- size + abs term

            // Each of the inputs + 1 steps rounds by at most 2^-24 of the running sum.
            Expect.close (float (inputs + 1) * size * 2.0 ** -24.0) (float y[i]) sum $"element {i}")

[<Fact>]
let ``ToRows transposes and puts zeros before the features of a ragged group`` () =
    Property.check (
        Prop.forAll (Arb.fromGen (Gen.choose (1, 100))) (fun features ->
            let panel = Draw.floats (Random features) (features * width)
            let padded = Matrix.Padded features
            Expect.isTrue (padded % 16 = 0 && padded >= features && padded < features + 16) "padding"
            let rows = Guarded(width * padded)
            Matrix.ToRows(panel, rows.Span, features)

            let expected =
                Array.init (width * padded) (fun i ->
                    let column, lane = i % padded, i / padded
                    // The last 16 columns end with the last feature; zeros fill them up from the front.
                    let lastGroup = column >= padded - 16
                    let feature = if lastGroup then column - (padded - features) else column

                    if
                        feature >= 0 && not (lastGroup && feature < features / 16 * 16 && features % 16 > 0)
                    then
                        panel[feature * width + lane]
                    else
                        0f)

            Paths.sameBits rows.Values expected "rows")
    )

[<Fact>]
let ``Scatter writes the first lanes as rows and nothing between them`` () =
    let cases =
        Gen.zip3 (Gen.choose (1, 60)) (Gen.choose (0, 9)) (Gen.choose (0, 32)) |> Arb.fromGen

    Property.check (
        Prop.forAll cases (fun (features, gap, count) ->
            let panel = Draw.floats (Random features) (features * width)
            let stride = features + gap
            let before = Draw.floats (Random count) (max 0 ((count - 1) * stride + features))
            let rows = Guarded before
            Matrix.Scatter(panel, rows.Span, features, stride, count)

            let expected =
                before
                |> Array.mapi (fun i value ->
                    if i % stride < features then
                        panel[i % stride * width + i / stride]
                    else
                        value)

            Paths.sameBits rows.Values expected "rows")
    )

[<Fact>]
let ``FromRows transposes rows, and Scatter gives them back`` () =
    for features in 1..60 do
        for lanes in [ width; Panel.HalfWidth ] do
            let rows = Draw.floats (Random features) (features * lanes)
            let panel = Guarded(features * lanes)
            Matrix.FromRows(rows, Panel(panel.Span, features, lanes))

            let expected =
                Array.init (features * lanes) (fun i -> rows[i % lanes * features + i / lanes])

            Paths.sameBits panel.Values expected $"{features} features, {lanes} lanes"

            if lanes = width then
                let back = Array.zeroCreate<float32> rows.Length
                Matrix.Scatter(panel.Span, back, features, features, lanes)
                Paths.sameBits back rows $"{features} features, back"

[<Fact>]
let ``Spans that are too short and parameters that make no sense are refused`` () =
    let floats count = Array.zeroCreate<float32> count

    for shortened in 0..3 do
        let length index full =
            if index = shortened then full - 1 else full

        Expect.throws<ArgumentException>(fun () ->
            Matrix.Forward(
                floats (length 0 15),
                floats (length 1 3),
                floats (length 2 (5 * width)),
                floats (length 3 (3 * width)),
                5,
                3
            ))
        |> ignore

    for shortened in 0..2 do
        let length index full =
            if index = shortened then full - 1 else full

        Expect.throws<ArgumentException>(fun () ->
            Matrix.InputGradient(
                floats (length 0 15),
                floats (length 1 (3 * width)),
                floats (length 2 (5 * width)),
                5,
                3,
                Start.FromZero
            ))
        |> ignore

        Expect.throws<ArgumentException>(fun () ->
            Matrix.WeightGradient(
                floats (length 0 (3 * width)),
                floats (length 1 (16 * width)),
                floats (length 2 15),
                5,
                3
            ))
        |> ignore

    let starts count first : int[] = Array.create count first

    let refused (action: unit -> unit) =
        try
            action ()
            failwith "nothing was thrown"
        with :? ArgumentException ->
            ()

    refused (fun () ->
        Matrix.InputGradient(floats 15, floats (3 * width), floats (5 * width), 5, 3, Start.FromBias))

    refused (fun () -> Matrix.ToRows(floats (5 * width - 1), floats (16 * width), 5))
    refused (fun () -> Matrix.ToRows(floats (5 * width), floats (16 * width - 1), 5))
    refused (fun () -> Matrix.Scatter(floats (5 * width), floats 500, 5, 5, 33))
    refused (fun () -> Matrix.Scatter(floats (5 * width), floats 500, 5, 5, -1))
    refused (fun () -> Matrix.Scatter(floats (5 * width), floats 500, 5, 4, 32))
    refused (fun () -> Matrix.Scatter(floats (5 * width), floats 159, 5, 5, 32))
    refused (fun () -> Matrix.FromRows(floats (5 * width - 1), Panel(floats (5 * width), 5)))
