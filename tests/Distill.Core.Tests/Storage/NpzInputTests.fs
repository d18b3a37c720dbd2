/// Arrays of .npz files that are read piece by piece.
module Distill.Tests.StorageNpzInput

open System
open System.IO
open Xunit
open Distill
open Distill.Storage
open Distill.Tests.Storage

/// All arrays of a file, each read in pieces of these lengths, side by side.
let private read (pieces: int list) (path: string) : Map<string, float32[]> =
    use file = new NpzInput(path)
    let arrays = [ for name in file.Names -> file.Open name ]

    try
        let values =
            [
                for array in arrays ->
                    Array.zeroCreate<float32>(Seq.fold (fun n size -> n * size) 1 array.Shape)
            ]

        let pieces = Seq.initInfinite (fun i -> pieces[i % pieces.Length])
        let longest = 0 :: (values |> List.map _.Length) |> List.max

        let ends =
            pieces |> Seq.scan (+) 0 |> Seq.takeWhile (fun first -> first < longest) |> Seq.toList

        for first, next in List.pairwise (ends @ [ longest ]) do
            for array, values in Seq.zip arrays values do
                if first < values.Length then
                    array.Read(values.AsSpan(first, min next values.Length - first))

        Map [ for array, values in Seq.zip arrays values -> array.Name, values ]
    finally
        for array in arrays do
            array.Dispose()

let private numbers (count: int) =
    Array.init count (fun i -> float32 i * 0.5f - 3f)

let private content =
    [
        Tensor.OfFloats("a", ReadOnlySpan(numbers 40_000), 400, 100)
        Tensor.OfDoubles("b", ReadOnlySpan [| 0.1; -2.0; 1e300 |], 3)
        Tensor.OfIntegers("c", ReadOnlySpan [| 3L; -7L |], 2, 1)
        Tensor.OfBools("d", ReadOnlySpan [| true; false; true |], 3)
        Tensor("e", ElementType.Float16, [| 2 |], [| 0uy; 0x3Cuy; 0uy; 0xC0uy |])
    ]

[<Theory>]
[<InlineData(false)>]
[<InlineData(true)>]
let ``arrays read piece by piece, side by side, are those read at once`` (compress: bool) =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")
        Npz.Write(path, content, compress)

        let whole =
            Npz.Read path |> Seq.map (fun array -> array.Name, array.ToFloats()) |> Map.ofSeq

        for pieces in [ [ 1; 7; 1000 ]; [ 16_384 ]; [ 65_537 ] ] do
            for name, values in Map.toSeq (read pieces path) do
                Paths.sameBits values whole[name] $"{name} in pieces of {pieces}")

[<Fact>]
let ``what is damaged or cut off is refused at the latest at its end`` () =
    inTemporaryFolder (fun folder ->
        for compress in [ false; true ] do
            let path = Path.Combine(folder, "x.npz")
            Npz.Write(path, [ content[1] ], compress)
            refusesTruncations (read [ 2 ] >> ignore) path
            survivesFlips 300 (read [ 2 ] >> ignore) path

        let path = Path.Combine(folder, "y.npz")
        Npz.Write(path, content)
        let bytes = File.ReadAllBytes path
        // A number in the middle of the first array.
        bytes[80_000] <- bytes[80_000] ^^^ 1uy
        File.WriteAllBytes(path, bytes)
        refused path (fun () -> read [ 1000 ] path |> ignore) |> contains "damaged")

[<Fact>]
let ``pickled objects, Fortran order and lengths that lie are refused before anything is read`` () =
    inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "x.npz")

        for header, reason in
            [
                "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "never run"
                "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", ""
                "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", "ascontiguousarray"
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "claims"
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000, 2000000000, 2000000000), }",
                "claims"
            ] do
            let head =
                Array.concat
                    [
                        [| 0x93uy |]
                        "NUMPY\001\000"B
                        BitConverter.GetBytes(uint16 header.Length)
                        Text.Encoding.Latin1.GetBytes header
                    ]

            writeZip path [ "m.npy", Array.append head (Array.zeroCreate 4) ]

            if reason = "" then
                Expect.equal (Map.toList (read [ 1 ] path)) [ "m", [| 0f |] ] "one number has every order"
            else
                refused path (fun () -> read [ 1 ] path |> ignore) |> contains reason)

[<Fact>]
let ``a CRC-32 is that of the definition, whatever the pieces`` () =
    Expect.equal (Crc32.Of "123456789"B) 0xCBF43926u "check value of the CRC catalogue"
    let data = Array.init 1000 (fun i -> byte (i * 7))

    for piece in [ 1; 3; 8; 13; 64 ] do
        let mutable crc = Crc32()

        for part in Array.chunkBySize piece data do
            crc.Add(ReadOnlySpan part)

        Expect.equal crc.Value (Crc32.Of data) $"pieces of {piece}"
