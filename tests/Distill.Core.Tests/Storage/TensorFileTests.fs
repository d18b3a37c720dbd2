module Distill.Tests.StorageTensorFiles

open System
open System.Collections.Generic
open System.IO
open System.IO.Compression
open System.Text
open Xunit
open Distill
open Distill.Storage
open Distill.Tests.Storage

let private same (actual: Tensor) (expected: Tensor) =
    Expect.equal actual.Name expected.Name "name"
    Expect.equal actual.ElementType expected.ElementType expected.Name
    Expect.equal (List.ofSeq actual.Shape) (List.ofSeq expected.Shape) expected.Name
    Expect.equal (actual.Data.ToArray()) (expected.Data.ToArray()) expected.Name

let private everyType =
    [
        for elementType in Enum.GetValues<ElementType>() do
            let size = ElementTypes.SizeOf elementType

            Tensor(
                $"of {elementType}",
                elementType,
                [| 2; 3 |],
                Array.init (6 * size) (fun i -> byte (i % 2))
            )
    ]

let private shapes =
    [
        Tensor.OfFloats("scalar", ReadOnlySpan [| 1.5f |])
        Tensor.OfFloats("empty", ReadOnlySpan [||], 0, 4)
        Tensor.OfIntegers("large", ReadOnlySpan [| Int64.MaxValue; -1L |], 2)
        Tensor.OfBools("flags", ReadOnlySpan [| true; false; true |], 3)
        Tensor.OfDoubles("größe \"1\"", ReadOnlySpan [| Math.PI; Double.NaN |], 1, 2)
    ]

let private ignoreSafeTensors path = SafeTensors.Read path |> ignore
let private ignoreNpz path = Npz.Read path |> ignore

[<Fact>]
let ``a tensor keeps integers exactly and converts on request`` () =
    let large = Tensor.OfIntegers("n", ReadOnlySpan [| 9007199254740993L; -3L |], 2)
    Expect.equal (large.ToIntegers()) [| 9007199254740993L; -3L |] "integers"
    Expect.equal (large.ToFloats()) [| 9.00719925e15f; -3f |] "floats"

    Expect.throws<DistillException>(fun () ->
        Tensor.OfFloats("x", ReadOnlySpan [| 1f |]).ToIntegers() |> ignore)
    |> ignore

    // 1, -2 and the largest finite numbers: bits from IEEE 754 and from the definition of bfloat16.
    let bits type' (values: uint16[]) =
        Tensor("x", type', [| values.Length |], values |> Array.collect BitConverter.GetBytes).ToFloats()

    Expect.equal (bits ElementType.Float16 [| 0x3C00us; 0xC000us; 0x7BFFus |]) [| 1f; -2f; 65504f |] "half"

    Expect.equal
        (bits ElementType.BFloat16 [| 0x3F80us; 0xC000us; 0x7F7Fus |])
        [| 1f; -2f; 3.38953139e38f |]
        "bfloat16"

    let unsigned = Tensor("x", ElementType.UInt64, [| 1 |], Array.create 8 255uy)

    Expect.throws<DistillException>(fun () -> unsigned.ToIntegers() |> ignore) |> ignore

[<Fact>]
let ``a tensor whose data do not fit its shape cannot be made`` () =
    Expect.throws<ArgumentException>(fun () -> Tensor.OfFloats("x", ReadOnlySpan [| 1f |], 2) |> ignore)
    |> ignore

[<Fact>]
let ``safetensors return what was written, for every element type and shape`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.safetensors")
        let tensors = everyType @ shapes
        let metadata = Dictionary(dict [ "config", "{\"hidden\": [16]}"; "a", "größer" ])
        SafeTensors.Write(path, tensors, metadata)
        let content = SafeTensors.Read path
        let byName = content.Tensors |> Seq.map (fun tensor -> tensor.Name, tensor) |> dict
        Expect.equal byName.Count tensors.Length "number of tensors"

        for tensor in tensors do
            same byName[tensor.Name] tensor

        Expect.equal (Seq.toList (Seq.sort content.Metadata.Keys)) [ "a"; "config" ] "metadata"
        Expect.equal content.Metadata["config"] metadata["config"] "metadata"

        // Aligned, and the same bytes whatever the order given.
        let bytes = File.ReadAllBytes path
        Expect.equal (BitConverter.ToUInt64(bytes, 0) % 8UL) 0UL "header length"
        SafeTensors.Write(path, List.rev tensors, metadata)
        Expect.equal (File.ReadAllBytes path) bytes "bytes")

[<Fact>]
let ``safetensors hold any floats`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.safetensors")

        Property.checkMany 50 (fun (values: float32[][]) ->
            let tensors =
                values |> Array.mapi (fun i v -> Tensor.OfFloats($"t{i}", ReadOnlySpan v, v.Length))

            SafeTensors.Write(path, tensors)

            for tensor in (SafeTensors.Read path).Tensors do
                same tensor tensors[int tensor.Name[1..]]))

[<Fact>]
let ``the released student of raptor is read`` () =
    let content = SafeTensors.Read(fixture "raptor/raptor-student.safetensors")

    let shapes =
        content.Tensors |> Seq.map (fun tensor -> tensor.Name, tensor.ShapeText) |> Map.ofSeq

    let expected =
        Map
            [
                "input.weight", "[16, 22]"
                "input.bias", "[16]"
                "gru.weight_ih", "[48, 16]"
                "gru.weight_hh", "[48, 16]"
                "gru.bias_ih", "[48]"
                "gru.bias_hh", "[48]"
                "output.weight", "[4, 16]"
                "output.bias", "[4]"
            ]

    Expect.equal shapes expected "shapes"

/// A safetensors file of a given header and data.
let private rawSafeTensors (path: string) (header: string) (data: int) =
    let header = Encoding.UTF8.GetBytes header

    File.WriteAllBytes(
        path,
        Array.concat [ BitConverter.GetBytes(int64 header.Length); header; Array.zeroCreate data ]
    )

[<Theory>]
[<InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""",
             12,
             "begin at 4 instead of 8")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}""",
             12,
             "begin at 8 instead of 4")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 8, "need 4 bytes of data")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 2, "need 4 bytes of data")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}""", 0, "data range")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", 4, "data range")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "data range")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[65536,65536,65536],"data_offsets":[0,8]}}""", 8, "elements")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}""", 4, "negative size")>]
[<InlineData("""{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}""", 4, "F99")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1]}}""", 4, "data_offsets")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}""", 4, "unknown field 'x'")>]
[<InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""",
             8,
             "JSON")>]
[<InlineData("""{"__metadata__":{"a":1}}""", 0, "JSON")>]
[<InlineData("""{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "JSON")>]
[<InlineData(""" {}""", 0, "begin with '{'")>]
[<InlineData("""{"a":[[[[[[[[[[[[]]]]]]]]]]]]}""", 0, "JSON")>]
[<InlineData("", 0, "begin with '{'")>]
let ``safetensors that break a rule are refused`` (header: string, data: int, reason: string) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.safetensors")
        rawSafeTensors path header data
        refused path (fun () -> ignoreSafeTensors path) |> contains reason)

[<Fact>]
let ``safetensors with an impossible header length or text that is not UTF-8 are refused`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.safetensors")

        for length in [ UInt64.MaxValue; 1UL <<< 63; 100_000_001UL; 3UL ] do
            File.WriteAllBytes(path, Array.append (BitConverter.GetBytes length) "{}"B)
            refused path (fun () -> ignoreSafeTensors path) |> contains "header"

        File.WriteAllBytes(
            path,
            Array.concat [ BitConverter.GetBytes 6UL; "{\""B; [| 0xffuy |]; "\":0"B; "}"B ]
        )

        refused path (fun () -> ignoreSafeTensors path) |> ignore

        refused (path + "2") (fun () -> ignoreSafeTensors (path + "2")) |> contains "There is no")

[<Fact>]
let ``safetensors are not written with a name given twice or reserved`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.safetensors")

        let tensor name =
            Tensor.OfFloats(name, ReadOnlySpan [| 1f |])

        refused path (fun () -> SafeTensors.Write(path, [ tensor "a"; tensor "a" ])) |> contains "twice"

        refused path (fun () -> SafeTensors.Write(path, [ tensor "__metadata__" ])) |> contains "reserved"

        Expect.equal (Directory.GetFileSystemEntries folder).Length 0 "files left")

[<Fact>]
let ``damaged safetensors are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.safetensors")
        SafeTensors.Write(path, shapes, Dictionary(dict [ "a", "b" ]))
        refusesTruncations ignoreSafeTensors path
        survivesFlips 1500 ignoreSafeTensors path)

[<Theory>]
[<InlineData(false)>]
[<InlineData(true)>]
let ``npz return what was written, for every element type and shape`` (compress: bool) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")

        let arrays =
            (everyType @ shapes) |> List.filter (fun tensor -> tensor.ElementType <> ElementType.BFloat16)

        Npz.Write(path, arrays, compress)
        let actual = Npz.Read path
        Expect.equal actual.Count arrays.Length "number of arrays"
        Seq.iter2 same actual arrays)

[<Fact>]
let ``an npz written by NumPy is read`` () =
    let arrays = Npz.Read(fixture "raptor/raptor-student-example.npz")

    let shapes =
        arrays |> Seq.map (fun array -> array.Name, array.ShapeText) |> Map.ofSeq

    Expect.equal shapes (Map [ "input", "[500, 2, 22]"; "output", "[500, 2, 4]" ]) "shapes"
    let output = arrays |> Seq.find (fun array -> array.Name = "output")
    let largest = output.ToFloats() |> Seq.map abs |> Seq.max
    Expect.close 0.1 (float largest) 3.3 "largest output, as its README says"

/// A .npy of version 1 with a given header and data.
let private npy (version: byte) (header: string) (data: byte[]) =
    let length =
        if version = 1uy then
            BitConverter.GetBytes(uint16 header.Length)
        else
            BitConverter.GetBytes(uint32 header.Length)

    Array.concat [ [| 0x93uy |]; "NUMPY"B; [| version; 0uy |]; length; Encoding.Latin1.GetBytes header; data ]

[<Fact>]
let ``npz in Fortran order and of version 2 are read in row-major order`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }   \n"
        // The matrix [[1 2 3] [4 5 6]] by columns.
        writeZip path [ "m.npy", npy 2uy header [| 1uy; 4uy; 2uy; 5uy; 3uy; 6uy |] ]
        let matrix = Seq.exactlyOne (Npz.Read path)
        Expect.equal (matrix.ToIntegers()) [| 1L .. 6L |] "values")

[<Theory>]
[<InlineData("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "|O")>]
[<InlineData("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", ">f4")>]
[<InlineData("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "plain array")>]
[<InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "claims")>]
[<InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999,), }", "impossible size")>]
[<InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "plain array")>]
[<InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (65536, 65536), }", "elements")>]
let ``npz of other arrays are refused`` (header: string, reason: string) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")
        writeZip path [ "m.npy", npy 1uy header (Array.zeroCreate 4) ]
        refused path (fun () -> ignoreNpz path) |> contains reason)

[<Fact>]
let ``an npz is not written with a name given twice or a type that NumPy lacks`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")
        let brain = Tensor("b", ElementType.BFloat16, [| 1 |], [| 0uy; 0uy |])
        refused path (fun () -> Npz.Write(path, [ brain ])) |> contains "BFloat16"
        let scalar = Tensor.OfFloats("x", ReadOnlySpan [| 1f |])
        refused path (fun () -> Npz.Write(path, [ scalar; scalar ])) |> contains "twice"
        Expect.isTrue (not (File.Exists path)) "a file was left")

[<Fact>]
let ``damaged npz are read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        for compress in [ false; true ] do
            let path = Path.Combine(folder, "x.npz")
            Npz.Write(path, shapes, compress)
            refusesTruncations ignoreNpz path
            survivesFlips 1000 ignoreNpz path)

[<Fact>]
let ``changed content of an npz is noticed by its CRC`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")
        Npz.Write(path, [ Tensor.OfFloats("x", ReadOnlySpan [| 1f; 2f |], 2) ])
        let bytes = File.ReadAllBytes path
        // 1.0f lies after the header of 128 bytes at most; its bytes occur nowhere else.
        let index = bytes.AsSpan().IndexOf(ReadOnlySpan [| 0uy; 0uy; 0x80uy; 0x3Fuy |])
        bytes[index] <- 1uy
        File.WriteAllBytes(path, bytes)
        refused path (fun () -> ignoreNpz path) |> contains "damaged")

[<Fact>]
let ``an atomic write replaces the file as a whole: who reads the old one reads it to its end`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.bin")
        AtomicFile.Write(path, fun stream -> stream.Write(ReadOnlySpan "old content"B))

        use reader =
            new StreamReader(
                new FileStream(
                    path,
                    FileMode.Open,
                    FileAccess.Read,
                    FileShare.ReadWrite ||| FileShare.Delete
                )
            )

        AtomicFile.Write(path, fun stream -> stream.Write(ReadOnlySpan "new"B))
        Expect.equal (reader.ReadToEnd()) "old content" "what the reader sees"
        Expect.equal (File.ReadAllText path) "new" "content")

[<Fact>]
let ``an atomic write leaves the old file and nothing else when it fails`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.bin")
        AtomicFile.Write(path, fun stream -> stream.Write(ReadOnlySpan "old"B))

        let fails (e: exn) (stream: Stream) =
            stream.Write(ReadOnlySpan "half"B)
            raise e

        let full = IOException "No space left on device"

        refused path (fun () -> AtomicFile.Write(path, fails full)) |> contains "No space left on device"
        // A defect of the caller is passed on as it is.
        Expect.throws<NotSupportedException>(fun () ->
            AtomicFile.Write(path, fails (NotSupportedException())))
        |> ignore

        Expect.equal (File.ReadAllText path) "old" "content"
        AtomicFile.Write(path, fun stream -> stream.Write(ReadOnlySpan "new"B))
        Expect.equal (File.ReadAllText path) "new" "content"
        Expect.equal (Directory.GetFileSystemEntries folder) [| path |] "files"
        let elsewhere = Path.Combine(folder, "missing", "x.bin")

        refused elsewhere (fun () -> AtomicFile.Write(elsewhere, ignore)) |> contains "Cannot write")
