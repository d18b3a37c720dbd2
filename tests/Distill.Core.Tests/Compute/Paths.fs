namespace Distill.Tests

open System
open Distill.Compute
open Xunit

module Paths =
    // Simd.Path belongs to the whole process: a test that switches it must not run beside another one.
    [<assembly: CollectionBehavior(DisableTestParallelization = true)>]
    do ()

    let all = List.ofSeq Simd.Available

    /// Runs an action on one instruction-set path and restores the path that was in use.
    let on (path: InstructionSet) (action: unit -> 'T) =
        let before = Simd.Path
        Simd.Use path

        try
            action ()
        finally
            Simd.Use before

    let sameBits (actual: float32[]) (expected: float32[]) (what: string) =
        Expect.equal actual.Length expected.Length $"{what}, length"

        for i in 0 .. expected.Length - 1 do
            if BitConverter.SingleToUInt32Bits actual[i] <> BitConverter.SingleToUInt32Bits expected[i] then
                failwith $"{what}: element {i} is {actual[i]:G9} instead of {expected[i]:G9}"

    /// Computes on every path, demands equal bits and returns the result.
    let same (what: string) (compute: unit -> float32[]) =
        let expected = on all.Head compute

        for path in all.Tail do
            sameBits (on path compute) expected $"{what}: {path} against {all.Head}"

        expected

/// Random test data; the seed is part of a failure's message through the property that drew it.
module Draw =
    let floats (random: Random) count =
        Array.init count (fun _ -> float32 (2.0 * random.NextDouble() - 1.0))

/// An array behind which nothing may be written.
type Guarded(initial: float32[]) =
    static let margin = 64
    static let mark = 12345.678f
    let cells = Array.append initial (Array.create margin mark)

    new(length: int) = Guarded(Array.create length nanf)
    member _.Span = Span<float32>(cells, 0, initial.Length)

    /// The content, after checking that the margin is untouched.
    member _.Values =
        for i in initial.Length .. cells.Length - 1 do
            if cells[i] <> mark then
                failwith $"element {i} of {initial.Length} was written"

        Array.sub cells 0 initial.Length

/// What a part shows to a visitor of its state.
module Blocks =
    /// The blocks, with their names.
    let read (visit: Distill.State -> unit) : (string * byte[]) list =
        let blocks = Collections.Generic.List()

        visit
            { new Distill.State() with
                member _.Visit(name, values) = blocks.Add(name, values.ToArray())
            }

        List.ofSeq blocks

    /// Restores what `read` gave; the blocks must be those of the same names.
    let write (saved: (string * byte[]) list) (visit: Distill.State -> unit) =
        let blocks = Collections.Generic.Queue saved

        visit
            { new Distill.State() with
                member _.Visit(name, values) =
                    let known, bytes = blocks.Dequeue()
                    Expect.equal name known "name of the block"
                    bytes.AsSpan().CopyTo values
            }

        Expect.equal blocks.Count 0 "blocks left"

    /// All floats of all blocks.
    let floats (visit: Distill.State -> unit) : float32[] =
        read visit
        |> List.map (fun (_, bytes) ->
            Runtime.InteropServices.MemoryMarshal.Cast<byte, float32>(ReadOnlySpan bytes).ToArray())
        |> Array.concat
