module Distill.Tests.ComputePoolTests

#nowarn "9" // one test looks at an address

open System
open System.Threading
open Distill.Compute
open Xunit

/// Counts how often each item ran and notices two items on one worker at once.
type private Tally(threads: int, most: int) =
    let runs = Array.zeroCreate<int> most
    let busy = Array.zeroCreate<int> threads
    let mutable collisions = 0
    member _.Runs = runs
    member _.Collisions = collisions

    interface IWork with
        member _.Run(item, worker) =
            if Interlocked.Exchange(&busy[worker], 1) <> 0 then
                Interlocked.Increment &collisions |> ignore

            Interlocked.Increment &runs[item] |> ignore
            Volatile.Write(&busy[worker], 0)

type private Item(run: int -> unit) =
    interface IWork with
        member _.Run(item, _) = run item

[<Theory>]
[<InlineData(1)>]
[<InlineData(2)>]
[<InlineData(3)>]
[<InlineData(4)>]
[<InlineData(8)>]
let ``Every item of many quick regions runs exactly once and workers do not collide`` threads =
    use pool = new WorkerPool(threads)
    Expect.equal pool.Threads threads "threads"
    let most = 64
    let work = Tally(threads, most)
    let random = Random threads

    for region in 1..20_000 do
        let count = random.Next(0, most + 1)
        Array.Clear work.Runs
        pool.Run(work, count)

        for item in 0 .. most - 1 do
            if work.Runs[item] <> (if item < count then 1 else 0) then
                failwith $"item {item} of {count} ran {work.Runs[item]} times in region {region}"

        // Longer than the workers' patience: they sleep, and the next region has to wake them.
        if region % 2_000 = 0 then
            Thread.Sleep 3

    Expect.equal work.Collisions 0 "two items on one worker at once"

[<Fact>]
let ``Regions of different works follow each other without mixing`` () =
    use pool = new WorkerPool(4)
    let totals = Array.zeroCreate<int> 3

    let works =
        Array.init 3 (fun i -> Item(fun _ -> Interlocked.Increment &totals[i] |> ignore))

    for region in 0..29_999 do
        let i = region % 3
        let before = totals[i]
        pool.Run(works[i], 7)
        Expect.equal totals[i] (before + 7) $"work {i} in region {region}"

[<Fact>]
let ``Several threads may use one pool`` () =
    use pool = new WorkerPool(3)
    let work = Tally(3, 32)

    let callers =
        Array.init 3 (fun _ ->
            Thread(fun () ->
                for _ in 1..2_000 do
                    pool.Run(work, 32)
                    pool.Run(work, 1)))

    callers |> Array.iter _.Start()
    callers |> Array.iter _.Join()
    Expect.equal work.Collisions 0 "two items on one worker at once"
    Expect.equal work.Runs[0] 12_000 "runs of item 0"
    Expect.equal work.Runs[31] 6_000 "runs of item 31"

[<Fact>]
let ``All threads take part in a long region`` () =
    use pool = new WorkerPool(4)
    let workers = Array.zeroCreate<int> 4
    // The barrier opens only when four different workers hold an item.
    use barrier = new Barrier(4)

    let work =
        { new IWork with
            member _.Run(_, worker) =
                workers[worker] <- workers[worker] + 1
                Expect.isTrue (barrier.SignalAndWait(TimeSpan.FromSeconds 20.0)) "a worker is missing"
        }

    pool.Run(work, 4)
    Assert.Equal<int[]>([| 1; 1; 1; 1 |], workers)

[<Theory>]
[<InlineData(1, 5)>]
[<InlineData(1, 1)>]
[<InlineData(4, 1)>]
[<InlineData(4, 50)>]
let ``An exception surfaces after the remaining items ran, and the pool works on`` (threads, count) =
    use pool = new WorkerPool(threads)

    for _ in 1..200 do
        let ran = ref 0

        let work =
            Item(fun item ->
                Interlocked.Increment ran |> ignore

                if item = count / 2 then
                    invalidOp "item failed")

        let thrown = Expect.throws<AggregateException>(fun () -> pool.Run(work, count))
        Expect.equal (thrown.InnerExceptions[0].Message) "item failed" "inner exception"
        Expect.equal ran.Value count "items that ran"

    let work = Tally(threads, 10)
    pool.Run(work, 10)
    Expect.isTrue (Array.forall ((=) 1) work.Runs) "items after the failure"

[<Theory>]
[<InlineData(1)>]
[<InlineData(2)>]
[<InlineData(4)>]
let ``A pool can be disposed at once, asleep, and twice`` threads =
    for pause in [ 0; 0; 0; 5; 5 ] do
        let pool = new WorkerPool(threads)
        pool.Run(Tally(threads, 8), 8)
        Thread.Sleep pause
        pool.Dispose()
        pool.Dispose()

        Expect.throws<ObjectDisposedException>(fun () -> pool.Run(Tally(threads, 8), 8)) |> ignore

[<Fact>]
let ``Zero threads mean one per processor and fewer are refused`` () =
    use pool = new WorkerPool()
    Expect.equal pool.Threads Environment.ProcessorCount "threads"

    Expect.throws<ArgumentOutOfRangeException>(fun () -> (new WorkerPool(-1)).Dispose()) |> ignore

[<Fact>]
let ``More items than a region can count all run exactly once`` () =
    use pool = new WorkerPool(3)

    for count in [ 262_143; 262_144; 600_000 ] do
        let work = Tally(3, count)
        pool.Run(work, count)
        Expect.isTrue (Array.forall ((=) 1) work.Runs) $"{count} items"
        Expect.equal work.Collisions 0 "two items on one worker at once"

    // A failure in the first region does not keep the later ones from running.
    let ran = ref 0

    let work =
        Item(fun item ->
            Interlocked.Increment ran |> ignore

            if item = 0 then
                invalidOp "item failed")

    Expect.throws<AggregateException>(fun () -> pool.Run(work, 300_000)) |> ignore
    Expect.equal ran.Value 300_000 "items that ran"

[<Fact>]
let ``A float buffer is aligned, zeroed, bounded and gone after disposal`` () =
    for length in [ 0; 1; 15; 16; 17; 100_003 ] do
        use buffer = new FloatBuffer(length)
        Expect.equal buffer.Length length "length"
        Expect.equal buffer.Span.Length length "span"
        use pin = fixed buffer.Span
        Expect.equal (NativeInterop.NativePtr.toNativeInt pin % 64n) 0n "alignment"

        for value in buffer.Span do
            Expect.equal value 0f "initial value"

        buffer.Span.Fill 3f
        Expect.equal (buffer.Slice(length / 2, length - length / 2).Length) (length - length / 2) "slice"

        Expect.throws<ArgumentOutOfRangeException>(fun () -> buffer.Slice(0, length + 1).Clear()) |> ignore

    Expect.throws<ArgumentOutOfRangeException>(fun () -> (new FloatBuffer(-1)).Dispose()) |> ignore

    let buffer = new FloatBuffer(4)
    buffer.Dispose()
    buffer.Dispose()
    Expect.throws<ObjectDisposedException>(fun () -> buffer.Span.Clear()) |> ignore
