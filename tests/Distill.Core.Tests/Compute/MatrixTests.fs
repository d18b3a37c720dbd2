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
                Matrix.Forward(w, bias, Panel(x, inputs), Panel(y.Span, outputs))
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
                    Matrix.InputGradient(w, Panel(dy, outputs), Panel(dx.Span, inputs), start)
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
                Matrix.ToRows(Panel(x, inputs), rows.Span)
                let dw = Guarded before
                Matrix.WeightGradient(Panel(dy, outputs), rows.Values, dw.Span, inputs)
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
        Matrix.Forward(w, bias, Panel(x, inputs), Panel(y, outputs))

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
            Matrix.ToRows(Panel(panel, features), rows.Span)

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
            Matrix.Scatter(Panel(panel, features), rows.Span, stride, count)

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
                Matrix.Scatter(Panel(panel.Span, features), back, features, lanes)
                Paths.sameBits back rows $"{features} features, back"

[<Fact>]
let ``Spans that are too short and parameters that make no sense are refused`` () =
    let floats count = Array.zeroCreate<float32> count

    let refused (action: unit -> unit) =
        try
            action ()
            failwith "nothing was thrown"
        with :? ArgumentException ->
            ()

    // Panels of 3 and 5 features.
    let three = floats (3 * width)
    let five = floats (5 * width)
    refused (fun () -> Panel(floats (5 * width - 1), 5).Features |> ignore)
    refused (fun () -> Panel(floats (5 * width), 5, 31).Features |> ignore)

    for weights, biases in [ 14, 3; 15, 2 ] do
        refused (fun () -> Matrix.Forward(floats weights, floats biases, Panel(five, 5), Panel(three, 3)))

    refused (fun () -> Matrix.Forward(floats 15, floats 3, Panel(five, 5), Panel(three, 3, 16)))

    for weights, lanes, start in
        [ 14, width, Start.FromZero; 15, 16, Start.FromZero; 15, width, Start.FromBias ] do
        refused (fun () ->
            Matrix.InputGradient(floats weights, Panel(three, 3), Panel(five, 5, lanes), start))

    for rows, weights in [ 16 * width - 1, 15; 16 * width, 14 ] do
        refused (fun () -> Matrix.WeightGradient(Panel(three, 3), floats rows, floats weights, 5))

    refused (fun () -> Matrix.ToRows(Panel(five, 5), floats (16 * width - 1)))

    for rows, stride, count in [ 500, 5, 33; 500, 5, -1; 500, 4, 32; 159, 5, 32 ] do
        refused (fun () -> Matrix.Scatter(Panel(five, 5), floats rows, stride, count))

    refused (fun () -> Matrix.FromRows(floats (5 * width - 1), Panel(floats (5 * width), 5)))
