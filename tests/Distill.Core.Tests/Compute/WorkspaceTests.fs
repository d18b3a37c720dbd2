/// Scratch memory of a thread.
module Distill.Tests.WorkspaceTests

open System
open System.Runtime.CompilerServices
open System.Runtime.InteropServices
open Xunit
open Distill.Compute

let private address (span: Span<float32>) =
    let first = &MemoryMarshal.GetReference span
    Unsafe.ByteOffset(&Unsafe.NullRef<float32>(), &first)

[<Fact>]
let ``pieces are apart, aligned, and come back when their scope ends`` () =
    Property.checkMany 50 (fun (seed: int) ->
        use own = new Workspace()
        let random = Random seed

        for _ in 1..3 do
            let whole = own.Open()
            let sizes = [ for _ in 0 .. random.Next 30 -> random.Next 3000 ]

            let places =
                [
                    for size in sizes do
                        let piece = own.Floats size
                        Expect.equal piece.Length size "length"
                        piece.Fill(float32 size)

                        if size > 0 then
                            address piece, size
                ]

            for place, _ in places do
                Expect.equal (int (place % 64n)) 0 "alignment"

            for (a, length), (b, _) in Seq.allPairs places places do
                Expect.isTrue (b <= a - 64n || b >= a + nativeint (4 * length) || a = b) "pieces overlap"

            let inner = own.Open()
            let first = address (own.Floats 40)
            inner.Dispose()
            Expect.equal (address (own.Floats 40)) first "given back"
            whole.Dispose()

        true)

[<Fact>]
let ``once it has grown, a workspace allocates nothing and lies in one block`` () =
    use own = new Workspace()

    let work () =
        let whole = own.Open()
        let first = address (own.Floats 100)
        let mutable last = first

        for size in 1..40 do
            last <- address (own.Floats(100 * size))

        whole.Dispose()
        last - first

    work () |> ignore
    let apart = work ()
    let before = GC.GetAllocatedBytesForCurrentThread()
    let again = work ()
    let allocated = GC.GetAllocatedBytesForCurrentThread() - before
    Expect.equal again apart "the pieces moved"
    Expect.equal allocated 0L "bytes"
    Expect.isTrue (apart > 0n && int64 apart < own.Bytes) "one block"
