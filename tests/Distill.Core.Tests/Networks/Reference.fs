/// The layers of Distill.Networks as plain loops in double precision, one sample at a time.
module Distill.Tests.NetworksReference

open System
open Distill.Compute
open Distill.Networks

let activate activation x =
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

let slope activation x =
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

let private sigmoid x = 1.0 / (1.0 + exp -x)

/// rows x columns weights at an offset of the parameters, times x.
let private product (p: float[]) offset rows (x: float[]) =
    Array.init rows (fun row ->
        let mutable sum = 0.0

        for column in 0 .. x.Length - 1 do
            sum <- sum + p[offset + row * x.Length + column] * x[column]

        sum)

/// Adds the gradient dy x' of a product to the gradient of its weights and returns weights' dy.
let private productBackward (p: float[]) (gradient: float[]) offset (x: float[]) (dy: float[]) =
    let dx = Array.zeroCreate<float> x.Length

    for row in 0 .. dy.Length - 1 do
        for column in 0 .. x.Length - 1 do
            let i = offset + row * x.Length + column
            gradient[i] <- gradient[i] + dy[row] * x[column]
            dx[column] <- dx[column] + p[i] * dy[row]

    dx

let private add (gradient: float[]) offset (values: float[]) =
    for i in 0 .. values.Length - 1 do
        gradient[offset + i] <- gradient[offset + i] + values[i]

/// What a layer keeps from forward to backward.
type Kept =
    | KeptDense of x: float[] * pre: float[]
    | KeptGru of x: float[] * h: float[] * r: float[] * z: float[] * n: float[] * candidate: float[]
    | KeptLstm of x: float[] * memory: float[] * gates: float[][] * nextCell: float[]

let parameterCount inputs (spec: LayerSpec) =
    match spec with
    | :? Gru -> 3 * spec.Size * (inputs + spec.Size + 2)
    | :? Lstm -> 4 * spec.Size * (inputs + spec.Size + 2)
    | _ -> spec.Size * (inputs + 1)

let memorySize (spec: LayerSpec) =
    match spec with
    | :? Gru -> spec.Size
    | :? Lstm -> 2 * spec.Size
    | _ -> 0

/// W_ih x + b_ih and W_hh h + b_hh of a memory with so many gates.
let private gatesOf gates size (p: float[]) offset (x: float[]) (h: float[]) =
    let hiddenWeights = offset + gates * size * x.Length
    let bias = hiddenWeights + gates * size * size

    product p offset (gates * size) x |> Array.mapi (fun i v -> v + p[bias + i]),
    product p hiddenWeights (gates * size) h |> Array.mapi (fun i v -> v + p[bias + gates * size + i])

/// Adds the gradient of both to the parameters'; returns the gradients of x and h.
let private gatesBackward gates size (p: float[]) gradient offset (x: float[]) h dgx dgh =
    let hiddenWeights = offset + gates * size * x.Length
    let bias = hiddenWeights + gates * size * size
    add gradient bias dgx
    add gradient (bias + gates * size) dgh
    productBackward p gradient offset x dgx, productBackward p gradient hiddenWeights h dgh

/// The output, the memory after the step, and what backward needs.
let layerForward (spec: LayerSpec) (p: float[]) offset (x: float[]) (h: float[]) =
    match spec with
    | :? Dense as dense ->
        let bias = offset + dense.Size * x.Length
        let pre = product p offset dense.Size x |> Array.mapi (fun i v -> v + p[bias + i])
        Array.map (activate dense.Activation) pre, [||], KeptDense(x, pre)
    | :? Lstm ->
        let size = spec.Size
        let cell, hidden = Array.take size h, Array.skip size h
        let gx, gh = gatesOf 4 size p offset x hidden

        let gates =
            Array.map2 (+) gx gh
            |> Array.chunkBySize size
            |> Array.mapi (fun gate -> Array.map (if gate = 2 then tanh else sigmoid))

        let next =
            Array.init size (fun i -> gates[1][i] * cell[i] + gates[0][i] * gates[2][i])

        let y = Array.map2 (fun o c -> o * tanh c) gates[3] next
        y, Array.append next y, KeptLstm(x, h, gates, next)
    | _ ->
        let size = spec.Size
        let gx, gh = gatesOf 3 size p offset x h
        let r = Array.init size (fun i -> sigmoid (gx[i] + gh[i]))
        let z = Array.init size (fun i -> sigmoid (gx[size + i] + gh[size + i]))
        let candidate = Array.sub gh (2 * size) size
        let n = Array.init size (fun i -> tanh (gx[2 * size + i] + r[i] * candidate[i]))
        let y = Array.init size (fun i -> (1.0 - z[i]) * n[i] + z[i] * h[i])
        y, y, KeptGru(x, h, r, z, n, candidate)

/// Returns the gradients of the input and of the memory before the step.
let layerBackward
    (spec: LayerSpec)
    (p: float[])
    (gradient: float[])
    offset
    kept
    (dy: float[])
    (dMemory: float[])
    =
    match spec, kept with
    | (:? Dense as dense), KeptDense(x, pre) ->
        let d = Array.map2 (fun d x -> d * slope dense.Activation x) dy pre
        add gradient (offset + dense.Size * x.Length) d
        productBackward p gradient offset x d, [||]
    | _, KeptGru(x, h, r, z, n, candidate) ->
        let size = spec.Size
        let d = Array.map2 (+) dy dMemory
        let dn = Array.init size (fun i -> d[i] * (1.0 - z[i]) * (1.0 - n[i] * n[i]))
        let dz = Array.init size (fun i -> d[i] * (h[i] - n[i]) * z[i] * (1.0 - z[i]))
        let dr = Array.init size (fun i -> dn[i] * candidate[i] * r[i] * (1.0 - r[i]))
        let dgx = Array.concat [ dr; dz; dn ]
        let dgh = Array.concat [ dr; dz; Array.map2 (*) dn r ]
        let dx, dh = gatesBackward 3 size p gradient offset x h dgx dgh
        dx, Array.mapi (fun i v -> v + d[i] * z[i]) dh
    | _, KeptLstm(x, memory, gates, next) ->
        let size = spec.Size
        let cell, hidden = Array.take size memory, Array.skip size memory
        let i, f, g, o = gates[0], gates[1], gates[2], gates[3]
        let d = Array.map2 (+) dy (Array.skip size dMemory)
        let s = Array.map tanh next
        let dc = Array.init size (fun j -> dMemory[j] + d[j] * o[j] * (1.0 - s[j] * s[j]))

        let dGates =
            Array.concat
                [
                    Array.init size (fun j -> dc[j] * g[j] * i[j] * (1.0 - i[j]))
                    Array.init size (fun j -> dc[j] * cell[j] * f[j] * (1.0 - f[j]))
                    Array.init size (fun j -> dc[j] * i[j] * (1.0 - g[j] * g[j]))
                    Array.init size (fun j -> d[j] * s[j] * o[j] * (1.0 - o[j]))
                ]

        let dx, dh = gatesBackward 4 size p gradient offset x hidden dGates dGates
        dx, Array.append (Array.map2 (*) dc f) dh
    | _ -> failwith "a layer with another layer's values"

/// (spec, first parameter, first memory) of every layer; the last one gives deviations, too, where they depend on the state.
let private plan (spec: NetworkSpec) =
    let mutable inputs, offset, memory = spec.Inputs, 0, 0

    let last =
        match spec.Head with
        | Head.StateDependentStd
        | Head.StateDependentLogStd
        | Head.SquashedGaussian -> Dense(2 * spec.Outputs, Activation.Identity) :> LayerSpec
        | _ -> Seq.last spec.Layers

    [
        for layer in Seq.append (Seq.take (spec.Layers.Count - 1) spec.Layers) [ last ] do
            layer, offset, memory
            offset <- offset + parameterCount inputs layer
            memory <- memory + memorySize layer
            inputs <- layer.Size
    ]

/// One step of one sample: output, memory after it, and what backward needs.
let forward (spec: NetworkSpec) p (x: float[]) (memory: float[]) =
    let mutable value = x
    let next = Array.copy memory

    let kept =
        [
            for layer, offset, start in plan spec do
                let size = memorySize layer
                let y, after, kept = layerForward layer p offset value (Array.sub memory start size)
                Array.blit after 0 next start size
                value <- y
                kept
        ]

    value, next, kept

/// Adds to the gradient; returns the gradients of the input and of the memory before the step.
let backward (spec: NetworkSpec) p gradient kept (dy: float[]) (dMemory: float[]) =
    let mutable d = dy
    let before = Array.copy dMemory

    for (layer, offset, start), kept in List.rev (List.zip (plan spec) kept) do
        let size = memorySize layer

        let dx, dh =
            layerBackward layer p gradient offset kept d (Array.sub dMemory start size)

        Array.blit dh 0 before start size
        d <- dx

    d, before

/// Mean and population variance of everything seen so far.
type Statistics(size) =
    let seen = ResizeArray<float[]>()
    let mutable mean = Array.create size 0.0
    let mutable variance = Array.create size 1.0
    member _.Count = seen.Count
    member _.Mean = mean
    member _.Variance = variance
    member _.Add observation = seen.Add observation

    member _.Refresh() =
        mean <- Array.init size (fun i -> Seq.averageBy (fun (x: float[]) -> x[i]) seen)

        variance <-
            Array.init size (fun i -> Seq.averageBy (fun (x: float[]) -> (x[i] - mean[i]) ** 2.0) seen)

    member _.Apply(observation: float[]) =
        Array.init size (fun i -> (observation[i] - mean[i]) / (sqrt variance[i] + 1e-2))

/// Lane by lane values of a panel [features, 32], and back.
let lane (panel: float32[]) l =
    Array.init (panel.Length / Panel.Width) (fun f -> float panel[f * Panel.Width + l])

let panel (lanes: float[][]) features =
    Array.init (features * Panel.Width) (fun i ->
        let l = i % Panel.Width

        if l < lanes.Length then
            float32 (lanes[l][i / Panel.Width])
        else
            0f)

/// An array as the panel that it holds.
let panelOf (values: float32[]) =
    Panel(values, values.Length / Panel.Width)

/// The largest deviation, as a share of the largest expected value.
let closeNorm tolerance (actual: seq<float32>) (expected: seq<float>) what =
    let actual, expected = Seq.toArray actual, Seq.toArray expected
    let size = expected |> Seq.map abs |> Seq.append [ Double.Epsilon ] |> Seq.max

    Expect.closeAll
        tolerance
        (actual |> Seq.map (fun v -> float v / size))
        (expected |> Seq.map (fun v -> v / size))
        what

/// Adam with clipping by the global norm, on parameters in place.
type PlainAdam(optimizer: OptimizerConfig, parameters: float[]) =
    let settings = optimizer :?> AdamConfig
    let first = Array.zeroCreate<float> parameters.Length
    let second = Array.zeroCreate<float> parameters.Length
    let mutable steps = 0

    member _.Steps = steps

    /// What takes everything, the parameters too, back to now.
    member _.Snapshot() =
        let now = [ parameters; first; second ] |> List.map Array.copy
        let taken = steps

        fun () ->
            List.iter2
                (fun (kept: float[]) target -> kept.CopyTo(target, 0))
                now
                [ parameters; first; second ]

            steps <- taken

    member _.Step(gradient: float[], rate: float) =
        steps <- steps + 1
        let norm = gradient |> Array.sumBy (fun g -> g * g) |> sqrt

        let scale =
            if settings.MaxGradNorm.Value > 0.0 then
                min 1.0 (settings.MaxGradNorm.Value / (norm + 1e-6))
            else
                1.0

        for i in 0 .. parameters.Length - 1 do
            let g = scale * gradient[i]
            first[i] <- settings.Beta1 * first[i] + (1.0 - settings.Beta1) * g
            second[i] <- settings.Beta2 * second[i] + (1.0 - settings.Beta2) * g * g
            let mean = first[i] / (1.0 - settings.Beta1 ** float steps)
            let square = second[i] / (1.0 - settings.Beta2 ** float steps)
            let size = sqrt (max square settings.Floor.Value)
            parameters[i] <- parameters[i] - rate * mean / (size + settings.Epsilon.Value)
