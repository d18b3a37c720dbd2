using System.Diagnostics;

namespace Distill.Compute;

/// <summary>Work that falls into numbered, independent items. Which worker runs an item must not change its result.</summary>
public interface IWork
{
    /// <param name="item">0 .. items - 1.</param>
    /// <param name="worker">0 .. threads - 1: selects scratch memory; two items never run on one worker at once.</param>
    void Run(int item, int worker);
}

/// <summary>
/// A persistent pool in which the caller and the workers claim items one by one: each first those of its own part, so that
/// from region to region the same items, and the memory they work on, stay with the same core; then what others have left.
/// The caller never waits for a worker that has not claimed anything, so a descheduled thread costs one item's time at
/// most. After a region the workers spin for a moment and then sleep.
/// </summary>
public sealed class WorkerPool : IDisposable
{
    private readonly Thread[] threads;
    private readonly Workspace[] workspaces;
    private readonly SemaphoreSlim wake = new(0);
    private readonly Lock gate = new();

    // One word for each part holds the region (28 bits), the end of its items (18) and the next of them (18), so that a claim
    // made with the numbers of one region can never succeed in another. Each word has its own pair of cache lines.
    private const int Bits = 18;
    private const int Mask = (1 << Bits) - 1;
    private const int Stride = 128 / sizeof(long);
    private readonly long[] parts;
    private long region;
    private IWork? work;
    private int firstItem;
    private int unfinished;
    private int sleeping;
    private Exception? failure;
    private volatile bool disposed;

    /// <param name="threads">Threads that compute, the caller included; 0 means one per processor.</param>
    public WorkerPool(int threads = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        Threads = threads == 0 ? Environment.ProcessorCount : threads;
        parts = new long[(Threads + 1) * Stride];
        workspaces = [.. Enumerable.Range(0, Threads).Select(_ => new Workspace())];
        this.threads = new Thread[Threads - 1];
        for (var i = 0; i < this.threads.Length; i++)
        {
            var worker = i + 1;
            this.threads[i] = new Thread(() => Loop(worker))
            {
                IsBackground = true,
                Name = $"distill-{worker}",
            };
            this.threads[i].Start();
        }
    }

    /// <summary>Threads that compute, the caller included.</summary>
    public int Threads { get; }

    /// <summary>The scratch memory of a worker, for the item that it runs.</summary>
    public Workspace Workspace(int worker) => workspaces[worker];

    /// <summary>
    /// Runs items 0 .. count - 1 and returns when all are done. Not reentrant: an item must not call it.
    /// </summary>
    /// <exception cref="AggregateException">An item threw; the remaining items still ran.</exception>
    public void Run(IWork work, int count)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        lock (gate)
        {
            failure = null;
            this.work = work;
            // More items than a region can count run as regions one after another.
            for (var left = count; left > 0; left -= Mask)
            {
                firstItem = count - left;
                RunRegion(Math.Min(left, Mask));
            }
            this.work = null;
            if (failure is { } exception)
                throw new AggregateException(exception);
        }
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        if (threads.Length > 0)
            wake.Release(threads.Length);
        foreach (var thread in threads)
            thread.Join();
        foreach (var workspace in workspaces)
            workspace.Dispose();
        wake.Dispose();
    }

    private void RunRegion(int count)
    {
        Volatile.Write(ref unfinished, count);
        var next = (region + 1) & ((1L << 28) - 1);
        for (var part = 0; part < Threads; part++)
        {
            var start = (long)part * count / Threads;
            var end = (part + 1L) * count / Threads;
            Volatile.Write(ref Part(part), (next << (2 * Bits)) | (end << Bits) | start);
        }
        Volatile.Write(ref region, next);
        Interlocked.MemoryBarrier();
        // A worker counts as asleep until it runs again: what was released and not yet taken still wakes it.
        var missing = Math.Min(Volatile.Read(ref sleeping), count - 1) - wake.CurrentCount;
        if (missing > 0)
            wake.Release(missing);
        Claim(0, next);
        var spinner = new SpinWait();
        while (Volatile.Read(ref unfinished) > 0)
            spinner.SpinOnce(sleep1Threshold: -1);
    }

    private void Claim(int worker, long current)
    {
        for (var i = 0; i < Threads; i++)
        {
            ref var part = ref Part((worker + i) % Threads);
            while (true)
            {
                var word = Volatile.Read(ref part);
                if ((long)((ulong)word >> (2 * Bits)) != current)
                    return;
                var item = (int)(word & Mask);
                if (item >= ((word >> Bits) & Mask))
                    break;
                var (mine, first) = (work, firstItem);
                if (Interlocked.CompareExchange(ref part, word + 1, word) != word)
                    continue;
                // The word did not change between the read and the claim, so what was read in between is this region's.
                try
                {
                    mine!.Run(first + item, worker);
                }
                catch (Exception exception)
                {
                    Interlocked.CompareExchange(ref failure, exception, null);
                }
                Interlocked.Decrement(ref unfinished);
            }
        }
    }

    private ref long Part(int part) => ref parts[(part + 1) * Stride];

    private void Loop(int worker)
    {
        var seen = 0L;
        var idle = Stopwatch.GetTimestamp();
        var patience = Stopwatch.Frequency / 1000; // spin for a millisecond, then sleep
        while (!disposed)
        {
            var current = Volatile.Read(ref region);
            if (current != seen)
            {
                seen = current;
                Claim(worker, current);
                idle = Stopwatch.GetTimestamp();
                continue;
            }
            if (Stopwatch.GetTimestamp() - idle < patience)
            {
                Thread.SpinWait(20);
                // Another process, such as a simulator, may be waiting for this very core.
                Thread.Yield();
                continue;
            }
            Interlocked.Increment(ref sleeping);
            if (Volatile.Read(ref region) == seen && !disposed)
                wake.Wait();
            Interlocked.Decrement(ref sleeping);
            idle = Stopwatch.GetTimestamp();
        }
    }
}
