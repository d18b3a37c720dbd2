/// A plain interpreter of the operators that exported ONNX models are made of, in double precision. It reads the protobuf by
/// itself.
module Distill.Tests.OnnxReference

open System
open System.Runtime.InteropServices
open Google.Protobuf

/// Numbers of a tensor, row-major; integers, too, as doubles.
type Tensor = { Shape: int[]; Data: float[] }

type Node = { Type: string; Inputs: string list; Outputs: string list; Attributes: Map<string, float> }

type Model =
    {
        Opset: int64
        Metadata: Map<string, string>
        Inputs: (string * int) list
        Outputs: (string * int) list
        Constants: Map<string, Tensor>
        Nodes: Node list
    }

type private Field =
    | Integer of int64
    | Float of float32
    | Bytes of ByteString

let private fields (bytes: ByteString) : (int * Field) list =
    let input = bytes.CreateCodedInput()

    List.unfold
        (fun () ->
            match input.ReadTag() with
            | 0u -> None
            | tag ->
                let value =
                    match WireFormat.GetTagWireType tag with
                    | WireFormat.WireType.Varint -> Integer(input.ReadInt64())
                    | WireFormat.WireType.Fixed32 -> Float(input.ReadFloat())
                    | WireFormat.WireType.LengthDelimited -> Bytes(input.ReadBytes())
                    | other -> failwith $"a field of type {other}"

                Some((WireFormat.GetTagFieldNumber tag, value), ()))
        ()

let private all (number: int) (message: (int * Field) list) =
    message |> List.filter (fst >> (=) number) |> List.map snd

let private messages number message =
    all number message
    |> List.map (function
        | Bytes bytes -> fields bytes
        | other -> failwith $"field {number} is {other}")

let private texts number message =
    all number message
    |> List.map (function
        | Bytes bytes -> bytes.ToStringUtf8()
        | other -> failwith $"field {number} is {other}")

let private text number message = texts number message |> List.exactlyOne

let private integers number message =
    all number message
    |> List.map (function
        | Integer value -> value
        | other -> failwith $"field {number} is {other}")

let private tensor (message: (int * Field) list) : Tensor =
    let data =
        match all 9 message with
        | [ Bytes bytes ] -> bytes.ToByteArray()
        | other -> failwith $"raw data are {other}"

    let numbers =
        match integers 2 message with
        | [ 1L ] -> (MemoryMarshal.Cast<byte, float32>(ReadOnlySpan data)).ToArray() |> Array.map float
        | [ 7L ] -> (MemoryMarshal.Cast<byte, int64>(ReadOnlySpan data)).ToArray() |> Array.map float
        | other -> failwith $"elements of type {other}"

    let shape = integers 1 message |> List.map int |> Array.ofList
    Expect.equal numbers.Length (Array.fold (*) 1 shape) "numbers of a tensor"
    { Shape = shape; Data = numbers }

let private node (message: (int * Field) list) : Node =
    let attribute (message: (int * Field) list) =
        let value =
            match integers 20 message, all 2 message, all 3 message with
            | [ 1L ], [ Float value ], [] -> float value
            | [ 2L ], [], [ Integer value ] -> float value
            | other -> failwith $"an attribute {other}"

        text 1 message, value

    {
        Type = text 4 message
        Inputs = texts 1 message
        Outputs = texts 2 message
        Attributes = messages 5 message |> List.map attribute |> Map.ofList
    }

/// Name and features of a value `[batch, features]`.
let private value (message: (int * Field) list) =
    let one number message =
        messages number message |> List.exactlyOne

    match message |> one 2 |> one 1 |> one 2 |> messages 1 with
    | [ batch; size ] ->
        Expect.equal (text 2 batch) "batch" "first dimension"
        text 1 message, int (List.exactlyOne (integers 1 size))
    | other -> failwith $"a shape {other}"

let read (path: string) : Model =
    let model = fields (ByteString.CopyFrom(IO.File.ReadAllBytes path))
    let graph = messages 7 model |> List.exactlyOne

    {
        Opset = messages 8 model |> List.exactlyOne |> integers 2 |> List.exactlyOne
        Metadata = Map [ for entry in messages 14 model -> text 1 entry, text 2 entry ]
        Inputs = messages 11 graph |> List.map value
        Outputs = messages 12 graph |> List.map value
        Constants = Map [ for constant in messages 5 graph -> text 8 constant, tensor constant ]
        Nodes = messages 1 graph |> List.map node
    }

let private map (f: float -> float) (x: Tensor) = { x with Data = Array.map f x.Data }

/// Elementwise, where the second may be one row for all.
let private zip (f: float -> float -> float) (a: Tensor) (b: Tensor) =
    let size = b.Data.Length

    { a with Data = a.Data |> Array.mapi (fun i value -> f value b.Data[i % size]) }

let private columns (x: Tensor) (first: int) (count: int) =
    let width = x.Shape[1]

    {
        Shape = [| x.Shape[0]; count |]
        Data = Array.init (x.Shape[0] * count) (fun i -> x.Data[i / count * width + first + i % count])
    }

let private gemm (x: Tensor) (weight: Tensor) (bias: Tensor) =
    let inputs, rows = weight.Shape[1], weight.Shape[0]
    Expect.equal x.Shape[1] inputs "inputs of a product"

    {
        Shape = [| x.Shape[0]; rows |]
        Data =
            Array.init (x.Shape[0] * rows) (fun i ->
                let sample, row = i / rows, i % rows

                bias.Data[row]
                + Seq.sum (
                    seq {
                        for j in 0 .. inputs - 1 ->
                            x.Data[sample * inputs + j] * weight.Data[row * inputs + j]
                    }
                ))
    }

let private concat (parts: Tensor list) =
    let lanes = parts.Head.Shape[0]

    {
        Shape = [| lanes; parts |> List.sumBy _.Shape[1] |]
        Data =
            [|
                for lane in 0 .. lanes - 1 do
                    for part in parts do
                        yield! part.Data[lane * part.Shape[1] .. (lane + 1) * part.Shape[1] - 1]
            |]
    }

let private argMax (x: Tensor) =
    {
        Shape = [| x.Shape[0]; 1 |]
        Data =
            x.Data
            |> Array.chunkBySize x.Shape[1]
            |> Array.map (fun row -> Array.IndexOf(row, Array.max row) |> float)
    }

let private results (node: Node) (inputs: Tensor list) : Tensor list =
    let attribute name = node.Attributes[name]

    let negative (x: float) = attribute "alpha" * (exp x - 1.0)

    match node.Type, inputs with
    | "Gemm", [ x; weight; bias ] when node.Attributes = Map [ "transB", 1.0 ] -> [ gemm x weight bias ]
    | "Add", [ a; b ] -> [ zip (+) a b ]
    | "Sub", [ a; b ] -> [ zip (-) a b ]
    | "Mul", [ a; b ] -> [ zip (*) a b ]
    | "Relu", [ x ] -> [ map (max 0.0) x ]
    | "Elu", [ x ] -> [ map (fun x -> if x > 0.0 then x else negative x) x ]
    | "Selu", [ x ] -> [ map (fun x -> attribute "gamma" * (if x > 0.0 then x else negative x)) x ]
    | "Tanh", [ x ] -> [ map tanh x ]
    | "Sigmoid", [ x ] -> [ map (fun x -> 1.0 / (1.0 + exp -x)) x ]
    | "Identity", [ x ] -> [ x ]
    | "Split", [ x; sizes ] when attribute "axis" = 1.0 ->
        let sizes = sizes.Data |> Array.map int |> List.ofArray
        Expect.equal (List.sum sizes) x.Shape[1] "parts"
        List.map2 (columns x) (List.scan (+) 0 sizes |> List.take sizes.Length) sizes
    | "Concat", parts when attribute "axis" = 1.0 -> [ concat parts ]
    | "ArgMax", [ x ] when attribute "axis" = 1.0 && attribute "keepdims" = 1.0 -> [ argMax x ]
    | other, _ -> failwith $"the operator {other} with {inputs.Length} inputs and {node.Attributes}"

/// The outputs by name.
let run (model: Model) (inputs: (string * Tensor) list) : Map<string, Tensor> =
    let given =
        (model.Constants, inputs) ||> List.fold (fun known (name, x) -> known.Add(name, x))

    let all =
        (given, model.Nodes)
        ||> List.fold (fun known node ->
            let outputs = results node (node.Inputs |> List.map (fun name -> known[name]))

            (known, List.zip node.Outputs outputs)
            ||> List.fold (fun known (name, value) -> known.Add(name, value)))

    Map [ for name, _ in model.Outputs -> name, all[name] ]
