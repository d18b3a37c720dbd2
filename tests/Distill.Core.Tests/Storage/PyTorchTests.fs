module Distill.Tests.StoragePyTorch

open System
open System.Collections.Generic
open System.IO
open System.Text
open System.Text.Json
open Xunit
open Distill
open Distill.Storage
open Distill.Tests.Storage

let private ignorePyTorch path =
    let file = PyTorchFile.Read path

    // What was read can be used: every tensor converts, and writing walks the whole tree.
    for tensor in file.Tensors do
        tensor.ToDoubles() |> ignore

let private doubles (values: JsonElement) =
    items values
    |> Array.map (fun value ->
        match value.ValueKind with
        | JsonValueKind.True -> 1.0
        | JsonValueKind.False -> 0.0
        | _ -> value.GetDouble())

let rec private sameValue (actual: TorchValue) (expected: JsonElement) (what: string) =
    match actual with
    | :? TorchValue.None -> Expect.equal expected.ValueKind JsonValueKind.Null what
    | :? TorchValue.Bool as v -> Expect.equal v.Value (expected.GetBoolean()) what
    | :? TorchValue.Int as v -> Expect.equal v.Value (expected.GetInt64()) what
    | :? TorchValue.Float as v -> Expect.equal v.Value (expected.GetDouble()) what
    | :? TorchValue.Text as v -> Expect.equal v.Value (text expected) what
    | :? TorchValue.Bytes as v ->
        Expect.equal (v.Value.ToArray()) (items expected |> Array.map _.GetByte()) what
    | :? TorchValue.List as v -> sameItems v.Items expected what
    | :? TorchValue.Tuple as v -> sameItems v.Items expected what
    | :? TorchValue.Dict as v ->
        Expect.equal v.Entries.Count 0 what
        Expect.equal (Seq.length (expected.EnumerateObject())) 0 what
    | _ -> failwith $"{what}: {actual}"

and private sameItems (actual: IReadOnlyList<TorchValue>) (expected: JsonElement) (what: string) =
    let expected = items expected
    Expect.equal actual.Count expected.Length what
    Seq.iter2 (fun a e -> sameValue a e what) actual expected

let private sameAsJson (file: PyTorchFile) (expected: JsonElement) =
    let tensors = items (expected.GetProperty "tensors")
    Expect.equal file.Tensors.Count tensors.Length "number of tensors"

    for actual, expected in Seq.zip file.Tensors tensors do
        let name = text (expected.GetProperty "name")
        Expect.equal actual.Name name "name"

        Expect.equal
            (actual.ElementType.ToString().ToLowerInvariant())
            (text (expected.GetProperty "dtype"))
            name

        Expect.equal
            (Seq.toArray actual.Shape)
            (items (expected.GetProperty "shape") |> Array.map _.GetInt32())
            name

        let values = doubles (expected.GetProperty "values")

        // The digits of the fixtures identify each number.
        if actual.ElementType = ElementType.Float32 then
            Expect.equal (actual.ToFloats()) (Array.map float32 values) name
        else
            Expect.equal (actual.ToDoubles()) values name

    let other = expected.GetProperty("other").EnumerateObject() |> Seq.toArray
    Expect.equal (set file.Other.Keys) (other |> Seq.map _.Name |> set) "names of other values"

    for property in other do
        sameValue file.Other[property.Name] property.Value property.Name

let private readable =
    [ "adam"; "dtypes"; "views"; "many"; "prims"; "protocol4"; yield! rslRlCheckpoints ]

let readableFiles = readable |> Seq.map (fun name -> [| box name |])

[<Theory>]
[<MemberData(nameof readableFiles)>]
let ``a checkpoint holds the tensors and values that PyTorch wrote`` (name: string) =
    sameAsJson (PyTorchFile.Read(fixture $"torch/{name}.pt")) (expectation $"torch/{name}.json")

[<Theory>]
[<MemberData(nameof readableFiles)>]
let ``a checkpoint that is written again reads the same`` (name: string) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "copy.pt")
        let original = PyTorchFile.Read(fixture $"torch/{name}.pt")
        PyTorchFile.Write(path, original.Root)
        sameAsJson (PyTorchFile.Read path) (expectation $"torch/{name}.json")
        let bytes = File.ReadAllBytes path
        PyTorchFile.Write(path, original.Root)
        Expect.equal (File.ReadAllBytes path) bytes "bytes of a second writing")

[<Fact>]
let ``keys and kinds of values survive writing`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        let root = TorchValue.Dict.Of []
        root.Entries[7L] <- TorchValue.Tuple [| TorchValue.Int Int64.MinValue; TorchValue.Text "größer" |]

        root.Entries["7"] <-
            TorchValue.List [| TorchValue.Bytes(ReadOnlyMemory [| 0uy; 255uy |]); TorchValue.None() |]

        root.Entries["empty"] <- TorchValue.Tuple [||]
        root.Entries["x"] <- TorchValue.Array(Tensor.OfBools("", ReadOnlySpan [| true; false |], 1, 2))
        PyTorchFile.Write(path, root)
        let read = (PyTorchFile.Read path).Root :?> TorchValue.Dict
        Expect.equal (Seq.toList read.Entries.Keys) (Seq.toList root.Entries.Keys) "keys"

        match read.Entries[7L] with
        | :? TorchValue.Tuple as tuple ->
            Expect.equal
                (Seq.toList tuple.Items)
                [ TorchValue.Int Int64.MinValue; TorchValue.Text "größer" ]
                "tuple"
        | other -> failwith $"not a tuple: {other}"

        match read.Find "x" with
        | :? TorchValue.Array as array ->
            Expect.equal array.Tensor.ElementType ElementType.Bool "type"
            Expect.equal (array.Tensor.ToIntegers()) [| 1L; 0L |] "values"
        | other -> failwith $"not a tensor: {other}")

[<Fact>]
let ``a tree that PyTorch cannot hold is not written`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        let unsigned = Tensor("counts", ElementType.UInt64, [| 1 |], Array.zeroCreate 8)

        let nested =
            Seq.fold
                (fun (inner: TorchValue) _ -> TorchValue.List [| inner |])
                (TorchValue.None())
                [ 1..100 ]

        for root in [ TorchValue.Array unsigned :> TorchValue; nested ] do
            Expect.throws<DistillException>(fun () -> PyTorchFile.Write(path, root)) |> ignore

        Expect.isTrue (not (File.Exists path)) "a file was left")

[<Fact>]
let ``hostile files are refused and do nothing`` () =
    let payload = "payload-was-executed.txt"

    for case in items (expectation "torch/hostile/index.json") do
        let name = text (case.GetProperty "file")
        let path = fixture $"torch/hostile/{name}"

        if (text (case.GetProperty "expected")).StartsWith "refuse" then
            refused path (fun () -> ignorePyTorch path) |> ignore
        else
            let tensor = Seq.exactlyOne (PyTorchFile.Read path).Tensors
            Expect.equal tensor.Name "model_state_dict/actor.0.weight" name
            Expect.equal (tensor.ToFloats()) [| 0f .. 11f |] name

    for folder in [ Environment.CurrentDirectory; AppContext.BaseDirectory; fixture "torch/hostile" ] do
        Expect.isTrue (not (File.Exists(Path.Combine(folder, payload)))) $"{payload} appeared in {folder}"

[<Theory>]
[<InlineData("torch/legacy.pt", "legacy")>]
[<InlineData("torch/jit.pt", "TorchScript")>]
[<InlineData("torch/hostile/os_system.pt", "posix.system")>]
[<InlineData("torch/hostile/numpy_scalar.pt", "numpy.core.multiarray.scalar")>]
[<InlineData("torch/hostile/unknown_storage_type.pt", "QUInt8Storage")>]
[<InlineData("torch/hostile/duplicate_storage_entry.pt", "archive/data/0")>]
[<InlineData("torch/hostile/missing_storage.pt", "archive/data/7")>]
[<InlineData("torch/hostile/empty.pt", "empty")>]
[<InlineData("torch/hostile/no_data_pkl.pt", "data.pkl")>]
[<InlineData("torch/hostile/deep_nesting.pt", "nested")>]
[<InlineData("raptor/raptor-student.safetensors", "safetensors")>]
[<InlineData("torch/missing.pt", "There is no")>]
let ``the message says what a file is instead`` (name: string, part: string) =
    let path = fixture name
    refused path (fun () -> ignorePyTorch path) |> contains part

// A small assembler of pickles, for files that PyTorch would never write.
let private bytes (text: string) = Encoding.Latin1.GetBytes text

let private unicode (value: string) =
    Array.concat [ "X"B; BitConverter.GetBytes value.Length; bytes value ]

let private int32 (value: int) =
    Array.append "J"B (BitConverter.GetBytes value)

let private ints (values: int list) =
    Array.concat [ "("B; Array.concat (List.map int32 values); "t"B ]

let private storage (numel: int) =
    Array.concat
        [
            "("B
            unicode "storage"
            bytes "ctorch\nFloatStorage\n"
            unicode "0"
            unicode "cpu"
            int32 numel
            "tQ"B
        ]

let private rebuild (offset: int) (size: int list) (stride: int list) (rest: byte[]) =
    Array.concat
        [
            bytes "ctorch._utils\n_rebuild_tensor_v2\n("
            storage 1
            int32 offset
            ints size
            ints stride
            [| 0x89uy |]
            bytes "ccollections\nOrderedDict\n)R"
            rest
            "tR"B
        ]

let private writePickle (path: string) (code: byte[]) =
    writeZip
        path
        [
            "archive/data.pkl", Array.concat [ [| 0x80uy; 2uy |]; code; "."B ]
            "archive/data/0", BitConverter.GetBytes 1f
            "archive/version", "3\n"B
        ]

let private refusesPickle (reason: string) (code: byte[]) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        writePickle path code
        refused path (fun () -> ignorePyTorch path) |> contains reason)

[<Fact>]
let ``the assembler of these tests makes files that are read`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        writePickle path (rebuild 0 [ 2; 3 ] [ 0; 0 ] [||])
        let tensor = Seq.exactlyOne (PyTorchFile.Read path).Tensors
        Expect.equal (tensor.ToFloats()) (Array.create 6 1f) "expanded by strides of 0")

[<Fact>]
let ``tensors that expand or leave their storage are refused`` () =
    refusesPickle "expands" (rebuild 0 [ 40000; 40000 ] [ 0; 0 ] [||])
    refusesPickle "elements" (rebuild 0 [ Int32.MaxValue; Int32.MaxValue; Int32.MaxValue ] [ 0; 0; 0 ] [||])
    refusesPickle "reaches" (rebuild 0 [ 2 ] [ Int32.MaxValue ] [||])
    refusesPickle "begins" (rebuild -1 [ 1 ] [ 1 ] [||])
    refusesPickle "begins" (rebuild 2 [ 0 ] [ 1 ] [||])
    refusesPickle "strides" (rebuild 0 [ 1 ] [] [||])
    refusesPickle "strides" (rebuild 0 (List.replicate 65 1) (List.replicate 65 1) [||])
    // A view flagged as negated would be read with the wrong sign.
    refusesPickle
        "arguments"
        (rebuild 0 [ 1 ] [ 1 ] (Array.concat [ "}"B; unicode "neg"; [| 0x88uy |]; "s"B ]))

[<Fact>]
let ``pickles that share, nest or repeat without end are refused`` () =
    // Each list holds the one before twice: 2^40 paths.
    let twice = "0](h\001h\001eq\001"B
    let laughs = Array.append "]q\001"B (Array.concat (List.replicate 40 twice))
    refusesPickle "more than" laughs
    // A list that holds itself.
    refusesPickle "nested" "]q\001h\001a"B
    // One text of a million characters, encoded again and again.
    let text = String('x', 1_000_000)
    let again = bytes "c_codecs\nencode\nh\001X\006\000\000\000latin1\134R0"
    let again = Array.map (fun b -> if b = byte '\134' then 0x86uy else b) again
    refusesPickle "expands" (Array.concat [ unicode text; "q\001"B; Array.concat (List.replicate 200 again) ])

[<Fact>]
let ``pickles out of order are refused`` () =
    refusesPickle "empty stack" "a"B
    refusesPickle "never begun" "t"B
    refusesPickle "leaves values" "NN"B
    refusesPickle "not a list" "}Na"B
    refusesPickle "not a dict" "]NNs"B
    refusesPickle "not a dict" "}(Nu"B
    refusesPickle "neither text" "}NNs"B
    refusesPickle "never written" "h\005"B
    refusesPickle "not a dict" "]}b"B
    refusesPickle "known constructor" "N)R"B
    refusesPickle "neither plain data" (bytes "ccollections\nOrderedDict\n")
    refusesPickle "builtins.eval" (bytes "cbuiltins\neval\n(X\001\000\000\0001tR")
    refusesPickle "more than 64 bits" (Array.append [| 0x8auy; 9uy |] (Array.create 9 1uy))
    refusesPickle "tensor storage" "NQ"B
    refusesPickle "protocol" [| 0x80uy; 9uy |]
    refusesPickle "0x69" (bytes "ios\nsystem\n")

[<Fact>]
let ``archives that PyTorch does not write are refused`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        let entries = readZip (fixture "torch/hostile/valid_minimal.pt")

        let refuses reason more =
            writeZip path (entries @ more)
            refused path (fun () -> ignorePyTorch path) |> contains reason

        let root = (fst entries.Head).Split '/' |> Array.head
        refuses "big" [ $"{root}/byteorder", "big"B ]
        refuses ".format_version" [ $"{root}/.format_version", "2"B ]
        refuses "data.pkl" [ "other/data.pkl", "N."B ]
        File.WriteAllBytes(path, [| 0x80uy; 2uy; byte 'N'; byte '.' |])
        refused path (fun () -> ignorePyTorch path) |> contains "bare pickle"

        File.Delete path

        using (Compression.ZipFile.Open(path, Compression.ZipArchiveMode.Create)) (fun archive ->
            for name, content in entries do
                use stream = archive.CreateEntry(name, Compression.CompressionLevel.Optimal).Open()
                stream.Write(content, 0, content.Length))

        refused path (fun () -> ignorePyTorch path) |> contains "compressed")

[<Fact>]
let ``truncated checkpoints are refused`` () =
    for name in [ "torch/hostile/valid_minimal.pt"; "torch/views.pt"; "torch/adam.pt" ] do
        refusesTruncations ignorePyTorch (fixture name)

[<Fact>]
let ``checkpoints with changed bytes are read or refused, nothing else`` () =
    for name in [ "torch/hostile/valid_minimal.pt"; "torch/views.pt"; "torch/prims.pt" ] do
        survivesFlips 700 ignorePyTorch (fixture name)

[<Fact>]
let ``changed and random pickles are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.pt")
        let random = Random 2

        let opcodes =
            Array.concat [ bytes "(01NJKMXBC)t]}aesuqrhjcRbQ."; [| 0x80uy .. 0x95uy |] ]

        // Behind an intact CRC, so that the pickle machine sees every change.
        for name in [ "adam"; "views"; "prims"; "protocol4"; "hostile/valid_minimal" ] do
            let entries = readZip (fixture $"torch/{name}.pt")

            for trial in 1..400 do
                let changed =
                    [
                        for entry, content in entries do
                            if entry.EndsWith "data.pkl" then
                                let content = Array.copy content

                                for _ in 0 .. random.Next 3 do
                                    content[random.Next content.Length] <-
                                        if random.Next 2 = 0 then
                                            opcodes[random.Next opcodes.Length]
                                        else
                                            byte (random.Next 256)

                                entry, content
                            else
                                entry, content
                    ]

                writeZip path changed
                survives ignorePyTorch path $"{name}, trial {trial}" |> ignore

        for trial in 1..3000 do
            let code =
                Array.init (random.Next 60) (fun _ -> opcodes[random.Next opcodes.Length])

            writePickle path code
            survives ignorePyTorch path $"random, trial {trial}" |> ignore)
