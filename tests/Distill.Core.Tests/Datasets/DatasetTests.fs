/// The aggregated dataset against a plain list.
module Distill.Tests.DatasetTests

open System
open System.Collections
open System.IO
open System.Reflection
open Xunit
open Distill
open Distill.Compute
open Distill.Datasets
open Distill.Storage
open Distill.Tests.DistillationTestbed

let private stream = RandomStream(5UL, "retention")

/// Sizes drawn from a seed: rows or sequences, with and without memory.
let private draw (seed: int) =
    let random = Random seed
    let envs, steps = 1 + random.Next 60, 1 + random.Next 60
    let recurrent = random.Next 2 = 1

    {|
        Random = random
        Envs = envs
        Steps = steps
        Length = if recurrent then steps else 1
        Memory = if recurrent then 3 else 0
        Initial = int64 (1 + random.Next(4 * envs * steps))
        Limit = int64 (steps + random.Next(8 * envs * steps))
        Rollouts = 1 + random.Next 14
    |}

let private byBirth (content: (int64 * float32[])[]) = Array.sortBy fst content

let private holds (dataset: AggregatedDataset) memory (expected: (int64 * float32[])[]) what =
    let actual = contentOf dataset 2 1 memory |> byBirth
    Expect.equal dataset.Count expected.Length $"{what}: segments"
    Expect.equal (Array.map fst actual) (Array.map fst expected) $"{what}: which segments"
    Expect.isTrue (Array.map snd actual = Array.map snd expected) $"{what}: content"

let private numbered (segments: float32[] seq) =
    segments |> Seq.mapi (fun i segment -> int64 i, segment) |> Seq.toArray

[<Fact>]
let ``first in, first out: the newest segments in ring order, growth by doubling up to the limit`` () =
    let mutable wrapped, grown = 0, 0

    Property.checkMany 60 (fun (seed: int) ->
        let sizes = draw seed

        use dataset =
            new AggregatedDataset(
                columns 2 1,
                sizes.Length,
                sizes.Memory,
                sizes.Initial,
                FirstInFirstOut sizes.Limit,
                stream
            )

        let most = int (sizes.Limit / int64 sizes.Length)

        let mutable capacity =
            int64 sizes.Initial / int64 sizes.Length |> max 1L |> min (int64 most)

        Expect.equal dataset.Capacity (capacity * int64 sizes.Length) $"seed {seed}: initial capacity"
        Expect.equal dataset.Limit (int64 (most * sizes.Length)) $"seed {seed}: limit"
        let all = ResizeArray<float32[]>()

        for number in 1 .. sizes.Rollouts do
            use rollout = randomRollout sizes.Random sizes.Envs sizes.Steps 2 1 sizes.Memory 0
            dataset.Add rollout
            all.AddRange(segmentsOf rollout sizes.Length)
            let held = min most all.Count

            if int64 held > capacity then
                capacity <- min (int64 most) (max (int64 held) (2L * capacity))
                grown <- grown + 1

            if all.Count > most then
                wrapped <- wrapped + 1

            let what = $"seed {seed}, rollout {number}"
            Expect.equal dataset.Capacity (capacity * int64 sizes.Length) $"{what}: capacity"
            Expect.equal dataset.Added (int64 all.Count) $"{what}: added"
            Expect.equal dataset.Rows (int64 (held * sizes.Length)) $"{what}: rows"
            holds dataset sizes.Memory (numbered all |> Array.skip (all.Count - held)) what

        // The ring: segment n lies in place n modulo the limit.
        for place in 0 .. dataset.Count - 1 do
            Expect.equal (int (dataset.Birth place % int64 most)) place $"seed {seed}: place {place}"

        true)

    Expect.isTrue (wrapped > 50 && grown > 30) $"only {wrapped} wraps and {grown} growths were tried"

[<Fact>]
let ``a rollout larger than the limit leaves its newest segments`` () =
    use rollout = randomRollout (Random 1) 30 700 2 1 0 0

    use dataset =
        new AggregatedDataset(columns 2 1, 1, 0, 1000L, FirstInFirstOut 9001L, stream)

    let segments = numbered (segmentsOf rollout 1)
    dataset.Add rollout
    holds dataset 0 (Array.skip (segments.Length - 9001) segments) "after one"
    Expect.equal dataset.Capacity 9001L "capacity"

[<Fact>]
let ``newest only: each rollout replaces the one before`` () =
    let random = Random 2
    use dataset = new AggregatedDataset(columns 2 1, 7, 3, 35L, NewestRollout(), stream)

    for number in 0..3 do
        use rollout = randomRollout random 5 7 2 1 3 0
        dataset.Add rollout

        let expected =
            segmentsOf rollout 7 |> Array.mapi (fun i s -> int64 (5 * number + i), s)

        holds dataset 3 expected $"rollout {number}"
        Expect.equal dataset.Capacity 35L "capacity"

[<Fact>]
let ``reservoir: every segment ever seen is kept with equal probability, with its own content`` () =
    let segments, kept, trials = 400, 40, 500
    let counts = Array.zeroCreate<int> segments
    use rollout = randomRollout (Random 3) 20 4 2 1 3 0
    let parts = segmentsOf rollout 4

    for trial in 1..trials do
        use dataset =
            new AggregatedDataset(
                columns 2 1,
                4,
                3,
                8L,
                Reservoir(4L * int64 kept),
                RandomStream(uint64 trial, "r")
            )

        for _ in 1 .. segments / 20 do
            dataset.Add rollout

        Expect.equal dataset.Count kept "kept"
        let content = contentOf dataset 2 1 3
        Expect.equal (content |> Array.distinctBy fst |> Array.length) kept "segments kept twice"

        for birth, values in content do
            Expect.isTrue (values = parts[int birth % 20]) $"trial {trial}: content of segment {birth}"
            counts[int birth] <- counts[int birth] + 1

    let p = float kept / float segments
    let expected = float trials * p

    let chiSquare =
        counts |> Array.sumBy (fun n -> (float n - expected) ** 2.0 / (expected * (1.0 - p)))

    // 400 cells: mean 399, standard deviation 28.
    Expect.close 112.0 chiSquare 399.0 "chi-square"
    // Old, middle and new thirds alike.
    for third in Array.splitInto 4 counts do
        Expect.close 130.0 (float (Array.sum third)) (expected * 100.0) "share of a quarter"

[<Fact>]
let ``reservoir: of three segments a single place keeps each in a third of the cases`` () =
    let trials = 3000
    let counts = Array.zeroCreate<int> 3
    use rollout = randomRollout (Random 3) 3 1 1 1 0 0

    for trial in 1..trials do
        use dataset =
            new AggregatedDataset(columns 1 1, 1, 0, 1L, Reservoir 1L, RandomStream(uint64 trial, "r"))

        dataset.Add rollout
        let kept = int (dataset.Birth 0)
        counts[kept] <- counts[kept] + 1

    for kept in 0..2 do
        // Five standard deviations.
        Expect.close 130.0 (float counts[kept]) 1000.0 $"segment {kept}"

/// The dataset's own memory, which nothing public shows.
let private buffers (dataset: AggregatedDataset) =
    let field =
        nonNull (
            typeof<AggregatedDataset>.GetField("chunks", BindingFlags.NonPublic ||| BindingFlags.Instance)
        )

    [
        for chunk in nonNull (field.GetValue dataset) :?> IEnumerable do
            for name in [ "Rows"; "Valid" ] do
                nonNull ((nonNull (chunk.GetType().GetProperty name)).GetValue chunk)
    ]

/// Elements of a native buffer times their size.
let private bytesOf (buffer: obj) =
    match buffer with
    | :? Table as table -> 4L * int64 (table.Rows(0, 1).Length) * table.Length
    | :? NativeBuffer<float32> as floats -> 4L * int64 floats.Length
    | :? NativeBuffer<byte> as flags -> int64 flags.Length
    | :? NativeBuffer<int64> as births -> 8L * int64 births.Length
    | other -> failwith $"{other} is not a native buffer"

[<Fact>]
let ``growing adds buffers and keeps those that are there`` () =
    use rollout = randomRollout (Random 4) 50 100 2 1 0 0

    use dataset =
        new AggregatedDataset(columns 2 1, 1, 0, 5000L, FirstInFirstOut 100_000L, stream)

    let before = buffers dataset
    dataset.Add rollout
    Expect.isTrue (before.Length = 2) "one chunk at the start"

    for _ in 1..7 do
        dataset.Add rollout

    let after = buffers dataset
    Expect.equal dataset.Capacity 40_000L "grown by doubling"
    Expect.equal after.Length 16 "eight chunks"

    Expect.isTrue
        (List.forall2 (fun a b -> obj.ReferenceEquals(a, b)) before (List.take 2 after))
        "the first chunk moved"

[<Fact>]
let ``valid rows are counted within the window`` () =
    use rollout = randomRollout (Random 5) 40 9 2 1 3 0

    use dataset =
        new AggregatedDataset(columns 2 1, 9, 3, 360L, FirstInFirstOut 1000L, stream)

    dataset.Add rollout
    let chosen = [| 39; 0; 17; 17 |]

    for first, last in [ 0, 9; 3, 7; 8, 9; 4, 4 ] do
        let expected =
            chosen |> Array.sumBy (fun s -> Array.sumBy int rollout.Valid[s * 9 + first .. s * 9 + last - 1])

        Expect.equal (dataset.CountValid(ReadOnlySpan chosen, first, last)) expected $"{first} to {last}"

[<Fact>]
let ``lanes past the segments have no weight and hold ordinary numbers`` () =
    use rollout = randomRollout (Random 6) 5 2 2 1 0 0

    use dataset =
        new AggregatedDataset(columns 2 1, 1, 0, 10L, FirstInFirstOut 10L, stream)

    dataset.Add rollout
    use own = new Workspace()
    let rows = Array.create 96 nanf
    let weight, keep = Array.create 32 nanf, Array.create 32 nanf

    dataset.Gather(
        ReadOnlySpan [| 3; 1; 4 |],
        0,
        Panel(rows, rows.Length / 32),
        Panel(weight, 1),
        Panel(keep, 1),
        own
    )

    for lane in 3..31 do
        Expect.equal weight[lane] 0f $"weight of lane {lane}"
        Expect.equal (rows[lane], rows[64 + lane]) (rows[0], rows[64]) $"lane {lane}"

[<Fact>]
let ``saved, restored and continued is undisturbed, for every retention`` () =
    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "dataset.safetensors")

        let retentions: Retention list =
            [ FirstInFirstOut 9100L; FirstInFirstOut 50_000L; Reservoir 7000L; NewestRollout() ]

        for retention in retentions do
            for length, memory in [ 1, 0; 10, 3 ] do
                let make () =
                    new AggregatedDataset(columns 2 1, length, memory, 3000L, retention, stream)

                use undisturbed = make ()
                use before = make ()
                use after = make ()
                let random = Random 7

                for number in 1..8 do
                    use rollout = randomRollout random 300 10 2 1 memory 0
                    undisturbed.Add rollout
                    (if number <= 4 then before else after).Add rollout

                    if number = 4 then
                        for segment in 0..5..100 do
                            undisturbed.RecordLoss(segment, float32 segment)
                            before.RecordLoss(segment, float32 segment)

                        save path before.Visit
                        load path after.Visit

                sameState (bytes after.Visit) (bytes undisturbed.Visit) $"{retention}, length {length}"
                Expect.equal after.Capacity undisturbed.Capacity "capacity"
                let content = contentOf undisturbed 2 1 memory
                Expect.isTrue (contentOf after 2 1 memory = content) $"{retention}, length {length}: content"
                Expect.isTrue (content.Length > 300 / length) "content")

[<Fact>]
let ``the file of a state holds its blocks as tensors of bytes`` () =
    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "dataset.safetensors")
        use rollout = randomRollout (Random 9) 50 10 2 1 3 0

        use dataset =
            new AggregatedDataset(columns 2 1, 10, 3, 20L, FirstInFirstOut 500L, stream)

        dataset.Add rollout
        save path dataset.Visit

        let expected =
            bytes dataset.Visit |> Array.sortWith (fun (a, _) (b, _) -> String.CompareOrdinal(a, b))

        let actual =
            [|
                for tensor in SafeTensors.Read(path).Tensors |> Seq.filter (fun t -> t.Name <> "sha256") do
                    Expect.equal tensor.ElementType ElementType.UInt8 tensor.Name
                    tensor.Name, tensor.Data.ToArray()
            |]

        sameState actual expected "file"
        // As if the tensors had been written one after another.
        let again = Path.Combine(folder, "again.safetensors")
        SafeTensors.Write(again, SafeTensors.Read(path).Tensors)
        Expect.isTrue (File.ReadAllBytes path = File.ReadAllBytes again) "bytes of the file"

        // Torn files are refused before anything is overwritten.
        File.WriteAllBytes(path, (File.ReadAllBytes path)[..2000])
        let before = bytes dataset.Visit
        Expect.throws<DistillException>(fun () -> load path dataset.Visit) |> ignore
        sameState (bytes dataset.Visit) before "after a torn file")

[<Fact>]
let ``a state with two blocks of one name is not written`` () =
    Storage.inTemporaryFolder (fun folder ->
        let twice (state: State) =
            state.Block("a", Span<byte>([| 1uy |]))
            state.Block("a", Span<byte>([| 2uy |]))

        Expect.throws<DistillException>(fun () -> save (Path.Combine(folder, "state.safetensors")) twice)
        |> ignore

        Expect.equal (Directory.GetFileSystemEntries folder).Length 0 "files")

[<Fact>]
let ``a dataset of other settings is refused`` () =
    Storage.inTemporaryFolder (fun folder ->
        let path = Path.Combine(folder, "dataset.safetensors")
        use rollout = randomRollout (Random 8) 50 10 2 1 0 0

        use saved =
            new AggregatedDataset(columns 2 1, 1, 0, 500L, FirstInFirstOut 500L, stream)

        saved.Add rollout
        save path saved.Visit

        for observation, limit in [ 2, 400L; 3, 500L ] do
            use other =
                new AggregatedDataset(columns observation 1, 1, 0, 500L, FirstInFirstOut limit, stream)

            let message =
                (Expect.throws<DistillException>(fun () -> load path other.Visit)).Message

            Storage.contains "other settings" message)

[<Fact>]
let ``a limit below one sequence is refused`` () =
    let message =
        (Expect.throws<DistillException>(fun () ->
            new AggregatedDataset(columns 2 1, 400, 3, 400L, FirstInFirstOut 399L, stream) |> ignore))
            .Message

    Storage.contains "max_buffer_size=399" message
    Storage.contains "at least 400" message

[<Fact>]
let ``a rollout beyond one block of memory is refused`` () =
    let message =
        (Expect.throws<DistillException>(fun () -> new Rollout(100_000, 1000, columns 52 0, 0) |> ignore))
            .Message

    Storage.contains "100000 environments and 1000 steps" message

    // The student's memory can be the widest table: it is recorded anew for every sequence.
    let message =
        (Expect.throws<DistillException>(fun () -> new Rollout(32, 1000, columns 26 4, 100_000, 1) |> ignore))
            .Message

    Storage.contains "at most 21474 rows" message

[<Fact>]
let ``segments with a large memory lie in chunks that a checkpoint can hold`` () =
    // 40 of them in one chunk would take 10 GiB.
    use dataset =
        new AggregatedDataset(columns 1 1, 1, 1 <<< 26, 1L, FirstInFirstOut 40L, stream)

    Expect.equal (dataset.Capacity, dataset.Limit) (1L, 40L) "rows"

    Expect.equal (List.map bytesOf (buffers dataset)) [ 24L; 3L ] "three rows of two numbers per chunk"

[<Fact>]
let ``the estimate of a million rows of 100 and 4 floats is 396.7 MiB`` () =
    let estimate = AggregatedDataset.EstimateBytes(1_000_000L, columns 100 4)
    Expect.close 0.05 (float estimate / float (1 <<< 20)) 396.7 "MiB"

[<Theory>]
[<InlineData(1, 0)>]
[<InlineData(100, 16)>]
let ``a full dataset takes what was estimated`` (length: int) (memory: int) =
    let limit = 100_000L
    use rollout = randomRollout (Random 4) 50 100 26 4 memory 0

    use dataset =
        new AggregatedDataset(columns 26 4, length, memory, 5000L, FirstInFirstOut limit, stream)

    while dataset.Rows < limit do
        dataset.Add rollout

    let field =
        nonNull (
            typeof<AggregatedDataset>.GetField("chunks", BindingFlags.NonPublic ||| BindingFlags.Instance)
        )

    let actual =
        Seq.sum
            [
                for chunk in nonNull (field.GetValue dataset) :?> IEnumerable do
                    for property in chunk.GetType().GetProperties() do
                        match property.GetValue chunk with
                        | null -> 0L
                        | buffer -> bytesOf buffer
            ]

    let estimate =
        AggregatedDataset.EstimateBytes(limit, columns 26 4)
        + AggregatedDataset.EstimateBookkeepingBytes(limit, length, memory)

    Expect.close (0.02 * float estimate) (float actual) (float estimate) "bytes"
