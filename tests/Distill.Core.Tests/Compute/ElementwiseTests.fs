module Distill.Tests.ComputeElementwiseTests

open System
open Distill.Compute
open FsCheck.FSharp
open Xunit

let private width = Panel.Width

/// (groups of 16 floats, seed)
let private checkLengths test =
    Property.check (
        Prop.forAll (Arb.fromGen (Gen.zip (Gen.choose (0, 20)) (Gen.choose (0, Int32.MaxValue - 1)))) test
    )

/// Runs a kernel that changes an array, on every path.
let private changed what (values: float32[]) (kernel: float32[] -> unit) =
    Paths.same what (fun () ->
        let copy = Array.copy values
        kernel copy
        copy)

let private activate activation x =
    match activation with
    | Activation.Relu -> max x 0.0
    | Activation.Elu -> if x > 0.0 then x else exp x - 1.0
    | Activation.Tanh -> tanh x
    | Activation.Selu ->
        if x > 0.0 then
            1.0507009873554805 * x
        else
            1.7580993408473766 * (exp x - 1.0)
    | _ -> x

let private slope activation x =
    match activation with
    | Activation.Relu -> if x > 0.0 then 1.0 else 0.0
    | Activation.Elu -> if x > 0.0 then 1.0 else exp x
    | Activation.Tanh -> 1.0 - tanh x ** 2.0
    | Activation.Selu ->
        if x > 0.0 then
            1.0507009873554805
        else
            1.7580993408473766 * exp x
    | _ -> 1.0

// Of all floats the worst are, for tanh, 2.92e-7 at 5.126 and, for its slope, 5.80e-7 at 5.908; ELU stays below 5.1e-8 in
// both. Multiplying the slope by a dy of at most 1 rounds once more, by 6e-8.
[<Fact>]
let ``Activations agree with double precision to 3e-7, their slopes to 6.5e-7`` () =
    checkLengths (fun (groups, seed) ->
        let random = Random seed
        let x = Draw.floats random (16 * groups) |> Array.map (fun v -> 8f * v)
        let dy = Draw.floats random (16 * groups)

        for activation in Enum.GetValues<Activation>() do
            let y = changed $"{activation}" x (fun v -> Elementwise.Activate(activation, v))
            Expect.closeAll 3e-7 (Seq.map float y) (Seq.map (float >> activate activation) x) $"{activation}"

            let dx =
                changed $"{activation} backward" dy (fun v -> Elementwise.ActivateBackward(activation, y, v))

            Expect.closeAll
                6.5e-7
                (Seq.map float dx)
                (Seq.map2 (fun x d -> float d * slope activation (float x)) x dy)
                $"{activation} backward")

[<Fact>]
let ``Activations at zero and at infinity`` () =
    let edge = Array.append [| 0f; -0f; infinityf; -infinityf |] (Array.zeroCreate 12)

    let at activation =
        (changed $"{activation}" edge (fun v -> Elementwise.Activate(activation, v))) |> Array.take 4

    Assert.Equal<float32[]>([| 0f; 0f; infinityf; 0f |], at Activation.Relu)
    Assert.Equal<float32[]>([| 0f; 0f; infinityf; -1f |], at Activation.Elu)
    Expect.closeAll 3e-7 (Seq.map float (at Activation.Tanh)) [ 0.0; 0.0; 1.0; -1.0 ] "tanh"

// torch.nn.functional.selu and its gradient, PyTorch 1.13.
[<Fact>]
let ``SELU and its slope are PyTorch's`` () =
    let pad (values: float32 list) =
        Array.append (Array.ofList values) (Array.zeroCreate (16 - values.Length))

    let x = [ -20f; -3f; -1f; -0.25f; -1e-3f; 0f; 1e-3f; 0.25f; 1f; 3f; 20f ]
    let dy = [ 1f; -2f; 0.5f; 1f; 1f; 1f; 1f; -1f; 2f; 0.25f; 1f ]

    let expected =
        [ -1.75809932; -1.6705687; -1.11133075; -0.388890177; -0.00175723841; 0.0 ]
        @ [ 0.00105070102; 0.262675256; 1.05070102; 3.15210295; 21.0140209 ]

    let slopes =
        [ 3.62371289e-09; -0.175061211; 0.323384315; 1.36920917; 1.75634205; 1.75809932 ]
        @ [ 1.05070102; -1.05070102; 2.10140204; 0.262675256; 1.05070102 ]

    let y = changed "selu" (pad x) (fun v -> Elementwise.Activate(Activation.Selu, v))
    Expect.closeAll 3e-7 (y |> Seq.take x.Length |> Seq.map float) expected "selu"

    let dx =
        changed "selu backward" (pad dy) (fun v -> Elementwise.ActivateBackward(Activation.Selu, y, v))

    Expect.closeAll 6e-7 (dx |> Seq.take x.Length |> Seq.map float) slopes "selu backward"

[<Fact>]
let ``Add, ScaleLanes and Normalize are exact`` () =
    checkLengths (fun (features, seed) ->
        let random = Random seed
        let a = Draw.floats random (features * width)
        let b = Draw.floats random (features * width)
        Paths.sameBits (changed "add" b (fun v -> Elementwise.Add(a, v))) (Array.map2 (+) b a) "add"

        let factors =
            Array.init width (fun lane -> if lane % 3 = 0 then 0f else 1f + float32 lane)

        let scaled =
            changed "scale" a (fun v -> Elementwise.ScaleLanes(Panel(v, features), factors))


        let expected =
            a
            |> Array.mapi (fun i v ->
                if factors[i % width] = 0f then
                    0f
                else
                    v * factors[i % width])

        Paths.sameBits scaled expected "scale"

        let offset, scale = Draw.floats random features, Draw.floats random features

        let normalized =
            changed "normalize" a (fun v -> Elementwise.Normalize(Panel(v, features), offset, scale))

        let expected = Array.mapi (fun i v -> (v - offset[i / width]) * scale[i / width]) a
        Paths.sameBits normalized expected "normalize")

[<Fact>]
let ``A lane that is cleared forgets what is not a number`` () =
    let broken =
        Array.init (3 * width) (fun i -> [| nanf; infinityf; -infinityf |][i / width])

    let factors = Array.init width (fun lane -> float32 (lane % 2))

    let cleared =
        changed "clear" broken (fun v -> Elementwise.ScaleLanes(Panel(v, 3), factors))


    for i in 0 .. cleared.Length - 1 do
        Expect.equal (Single.IsFinite cleared[i]) (i % 2 = 0) $"element {i}"

[<Fact>]
let ``One value that is not finite is found in a span of any length, anywhere`` () =
    Property.check (fun (seed: int) ->
        let random = Random seed

        let values =
            Array.init (random.Next 70) (fun _ -> random.NextSingle() * 3e38f - 1.5e38f)

        Expect.isTrue (Elementwise.AllFinite values) "finite"

        if values.Length > 0 then
            values[random.Next values.Length] <- [| nanf; infinityf; -infinityf |][random.Next 3]
            Expect.isTrue (not (Elementwise.AllFinite values)) $"{values.Length} values")

[<Fact>]
let ``Sums are added in one order and agree with double precision`` () =
    checkLengths (fun (features, seed) ->
        let random = Random seed
        let panel = Draw.floats random (features * width)
        let before = Draw.floats random features

        let sums =
            changed "lane sums" before (fun v -> Elementwise.AddLaneSums(Panel(panel, features), v))

        let expected =
            before
            |> Seq.mapi (fun f start ->
                float start + Seq.sumBy float (Seq.init width (fun l -> panel[f * width + l])))

        Expect.closeAll 3e-6 (Seq.map float sums) expected "lane sums"

        let squares = Elementwise.SumOfSquares panel

        Expect.close
            (1e-14 * squares)
            squares
            (Seq.sumBy (fun v -> float v * float v) panel)
            "sum of squares")

[<Fact>]
let ``GRU gates forward and backward agree with double precision to 2e-6`` () =
    Property.check (
        Prop.forAll
            (Arb.fromGen (Gen.zip (Gen.choose (1, 12)) (Gen.choose (0, Int32.MaxValue - 1))))
            (fun (hidden, seed) ->
                let random = Random seed
                let size = hidden * width

                let draw count =
                    Draw.floats random count |> Array.map (fun v -> 3f * v)

                let gx, gh, h, d =
                    draw (3 * size), draw (3 * size), Draw.floats random size, Draw.floats random size

                let forward =
                    Paths.same "gru forward" (fun () ->
                        let gates, next = Array.copy gx, Array.zeroCreate<float32> size
                        Elementwise.GruForward(gates, gh, h, next)
                        Array.append gates next)

                let sigmoid x = 1.0 / (1.0 + exp -x)
                let at (values: float32[]) gate i = float values[gate * size + i]
                let r = Array.init size (fun i -> sigmoid (at gx 0 i + at gh 0 i))
                let z = Array.init size (fun i -> sigmoid (at gx 1 i + at gh 1 i))
                let n = Array.init size (fun i -> tanh (at gx 2 i + r[i] * at gh 2 i))
                let next = Array.init size (fun i -> (1.0 - z[i]) * n[i] + z[i] * float h[i])
                Expect.closeAll 2e-6 (Seq.map float forward) (Seq.concat [ r; z; n; next ]) "gru forward"

                let backward =
                    Paths.same "gru backward" (fun () ->
                        let dg, dgh =
                            Array.zeroCreate<float32>(3 * size), Array.zeroCreate<float32>(3 * size)

                        let dh = Array.zeroCreate<float32> size
                        let gates, candidate = Array.sub forward 0 (3 * size), Array.sub gh (2 * size) size
                        Elementwise.GruBackward(gates, candidate, h, d, dg, dgh, dh)
                        Array.concat [ dg; dgh; dh ])

                let dn = Array.init size (fun i -> float d[i] * (1.0 - z[i]) * (1.0 - n[i] * n[i]))

                let dz =
                    Array.init size (fun i -> float d[i] * (float h[i] - n[i]) * z[i] * (1.0 - z[i]))

                let dr = Array.init size (fun i -> dn[i] * at gh 2 i * r[i] * (1.0 - r[i]))
                let dnr = Array.map2 (*) dn r
                let dh = Array.init size (fun i -> float d[i] * z[i])

                Expect.closeAll
                    2e-6
                    (Seq.map float backward)
                    (Seq.concat [ dr; dz; dn; dr; dz; dnr; dh ])
                    "gru backward")
    )

[<Fact>]
let ``LSTM gates forward and backward agree with double precision to 2e-6`` () =
    Property.check (
        Prop.forAll
            (Arb.fromGen (Gen.zip (Gen.choose (1, 12)) (Gen.choose (0, Int32.MaxValue - 1))))
            (fun (hidden, seed) ->
                let random = Random seed
                let size = hidden * width

                let draw count =
                    Draw.floats random count |> Array.map (fun v -> 3f * v)

                let gx, gh, c = draw (4 * size), draw (4 * size), Draw.floats random size
                let d, dNextCell = Draw.floats random size, Draw.floats random size

                let forward =
                    Paths.same "lstm forward" (fun () ->
                        let gates = Array.copy gx

                        let nextCell, squashed =
                            Array.zeroCreate<float32> size, Array.zeroCreate<float32> size

                        let next = Array.zeroCreate<float32> size
                        Elementwise.LstmForward(gates, gh, c, nextCell, squashed, next)
                        Array.concat [ gates; nextCell; squashed; next ])

                let sigmoid x = 1.0 / (1.0 + exp -x)

                let gate f k =
                    Array.init size (fun j -> f (float gx[k * size + j] + float gh[k * size + j]))

                let i, f, g, o = gate sigmoid 0, gate sigmoid 1, gate tanh 2, gate sigmoid 3
                let nextCell = Array.init size (fun j -> f[j] * float c[j] + i[j] * g[j])
                let s = Array.map tanh nextCell
                let next = Array.map2 (*) o s

                Expect.closeAll
                    2e-6
                    (Seq.map float forward)
                    (Seq.concat [ i; f; g; o; nextCell; s; next ])
                    "forward"

                let backward =
                    Paths.same "lstm backward" (fun () ->
                        let dGates, dCell = Array.zeroCreate<float32>(4 * size), Array.copy dNextCell

                        let gates, squashed =
                            Array.sub forward 0 (4 * size), Array.sub forward (5 * size) size

                        Elementwise.LstmBackward(gates, c, squashed, d, dCell, dGates)
                        Array.append dGates dCell)

                let dc =
                    Array.init size (fun j -> float dNextCell[j] + float d[j] * o[j] * (1.0 - s[j] * s[j]))

                let expected =
                    Seq.concat
                        [
                            Array.init size (fun j -> dc[j] * g[j] * i[j] * (1.0 - i[j]))
                            Array.init size (fun j -> dc[j] * float c[j] * f[j] * (1.0 - f[j]))
                            Array.init size (fun j -> dc[j] * i[j] * (1.0 - g[j] * g[j]))
                            Array.init size (fun j -> float d[j] * s[j] * o[j] * (1.0 - o[j]))
                            Array.map2 (*) dc f
                        ]

                Expect.closeAll 2e-6 (Seq.map float backward) expected "backward")
    )

[<Fact>]
let ``Lengths that are no multiple of 16 or do not match are refused`` () =
    let floats count = Array.zeroCreate<float32> count

    let refused (action: unit -> unit) =
        Expect.throws<ArgumentException> action |> ignore

    refused (fun () -> Elementwise.Activate(Activation.Relu, floats 17))
    refused (fun () -> Elementwise.ActivateBackward(Activation.Relu, floats 16, floats 32))
    refused (fun () -> Elementwise.Add(floats 16, floats 32))
    refused (fun () -> Elementwise.ScaleLanes(Panel(floats 64, 2), floats 31))
    refused (fun () -> Elementwise.Normalize(Panel(floats 64, 2), floats 3, floats 2))
    refused (fun () -> Elementwise.Normalize(Panel(floats 64, 2), floats 2, floats 3))
    refused (fun () -> Elementwise.AddLaneSums(Panel(floats 64, 2), floats 3))
    refused (fun () -> ignore (Elementwise.SumOfSquares(floats 17)))
    refused (fun () -> Elementwise.GruForward(floats 96, floats 96, floats 16, floats 32))

    refused (fun () ->
        Elementwise.LstmForward(floats 128, floats 128, floats 32, floats 32, floats 32, floats 16))
