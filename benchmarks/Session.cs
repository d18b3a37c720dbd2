using System.Diagnostics;

namespace Distill.Benchmarks;

/// <summary>How much is measured.</summary>
internal sealed record Settings
{
    /// <summary>Thread counts to measure with.</summary>
    public required IReadOnlyList<int> Threads { get; init; }

    /// <summary>Repetitions of each measurement; medians are reported.</summary>
    public int Repetitions { get; init; } = 9;

    /// <summary>Length of a repetition, s.</summary>
    public double Seconds { get; init; } = 0.25;

    /// <summary>Tiny sizes, to see that everything runs; the figures mean nothing.</summary>
    public bool Quick { get; init; }

    /// <summary>Whether peers are measured too.</summary>
    public bool Peers { get; init; } = true;

    /// <summary>Root of the repository.</summary>
    public required string Root { get; init; }

    /// <summary>The size, or a tiny one.</summary>
    public int Size(int full, int quick) => Quick ? quick : full;
}

/// <summary>One of those that do the same work.</summary>
/// <param name="Rate">Does it once and returns units per second.</param>
internal sealed record Contender(string Name, Func<double> Rate);

/// <summary>What is measured: one line of the table.</summary>
/// <param name="Unit">What is counted per second, e.g. "rows/s".</param>
internal sealed record Case(string Benchmark, string Name, string Unit, int Threads)
{
    /// <summary>The path that ours runs on.</summary>
    public InstructionSet Path { get; init; } = Simd.Path;

    /// <summary>The GPU that ours runs on; null for the processor.</summary>
    public string? Device { get; init; }

    /// <summary>The limit that ours runs into, and how much of it one unit takes.</summary>
    public (Peak Peak, double PerUnit)? Limit { get; init; }
    public Goal? Goal { get; init; }
    public string? Note { get; init; }
}

/// <summary>One run of benchmarks: what they share, and what they found.</summary>
internal sealed class Session(Settings settings, TextWriter progress) : IDisposable
{
    // The runtime compiles hot methods anew in the background; measure what it ends with.
    private const double WarmUpSeconds = 1;

    private readonly Dictionary<int, WorkerPool> pools = [];
    private readonly List<Result> results = [];
    private readonly List<KernelResult> kernels = [];
    private readonly List<string> remarks = [];

    /// <summary>The highest that was measured of each limit, by its name, threads and path.</summary>
    private readonly Dictionary<(string, int, InstructionSet), double> highest = [];

    public Settings Settings { get; } = settings;
    public Peaks Peaks { get; } = new(settings);
    public PyTorch PyTorch { get; } = new(settings, progress);
    public OpenBlas OpenBlas { get; } = new(settings);
    public IReadOnlyList<Result> Results => results;

    /// <summary>What the kernels of a GPU came to, each alone.</summary>
    public IReadOnlyList<KernelResult> Kernels => kernels;

    /// <summary>Peers that were missing, and reasons to doubt the figures.</summary>
    public IReadOnlyList<string> Remarks =>
        [.. new[] { PyTorch.Absence, OpenBlas.Absence }.OfType<string>(), .. remarks];

    public void Say(string line) => progress.WriteLine(line);

    public void Warn(string sentence)
    {
        if (!remarks.Contains(sentence))
            remarks.Add(sentence);
    }

    /// <summary>A pool of so many threads; it lives as long as the session and sleeps between uses.</summary>
    public WorkerPool Pool(int threads)
    {
        if (!pools.TryGetValue(threads, out var pool))
            pools[threads] = pool = new WorkerPool(threads);
        return pool;
    }

    /// <summary>Ours: calls the work, which does so many units, until a repetition is long enough.</summary>
    public Contender Ours(double units, Action work, InstructionSet? path = null)
    {
        var instructions = path ?? Simd.Path;
        var warm = false;
        return new Contender(
            $"Distill {instructions}",
            () =>
            {
                var before = Simd.Path;
                Simd.Use(instructions);
                if (!warm && !Settings.Quick)
                    Repeat(WarmUpSeconds, units, work);
                warm = true;
                var rate = Repeat(Settings.Seconds, units, work);
                Simd.Use(before);
                return rate;
            }
        );
    }

    /// <summary>Measures ours and the peer in turns, with the limit of the machine in between, and adds a line to the table.</summary>
    public void Compare(Case work, Contender ours, Contender? peer = null)
    {
        // Once for nothing: the first is slower.
        ours.Rate();
        peer?.Rate();
        work.Limit?.Peak.Rate();
        List<double> values = [];
        List<double> ofPeer = [];
        List<double> peaks = [];
        for (var i = 0; i < Settings.Repetitions; i++)
        {
            values.Add(ours.Rate());
            if (peer is not null)
                ofPeer.Add(peer.Rate());
            if (work.Limit is { } limit)
                peaks.Add(Undisturbed(work, limit.Peak, values[^1] * limit.PerUnit));
        }
        var share = work.Limit is { PerUnit: var perUnit }
            ? Spread.Of([.. values.Zip(peaks, (value, peak) => value * perUnit / peak)])
            : null;
        if (share?.Median > 1)
        {
            Warn(
                $"{work.Benchmark}, {work.Name}, {work.Threads} threads: more than the peak was reached, so something else "
                    + "was running while the peak was measured, and no share is given."
            );
            share = null;
        }
        Add(
            new Result
            {
                Benchmark = work.Benchmark,
                Case = work.Name,
                Threads = work.Threads,
                Path = work.Device ?? work.Path.ToString(),
                Unit = work.Unit,
                Ours = Spread.Of(values),
                Peer = peer?.Name,
                PeerValue = peer is null ? null : Spread.Of(ofPeer),
                Ratio = peer is null ? null : Spread.Of([.. values.Zip(ofPeer, (a, b) => a / b)]),
                Limit = work.Limit?.Peak.Name,
                Peak = work.Limit is null ? null : Spread.Of(peaks),
                Share = share,
                Goal = work.Goal,
                Note = work.Note,
            }
        );
    }

    /// <summary>A line for a number that was measured otherwise, and that should stay below a bound if there is one.</summary>
    public void Add(
        string benchmark,
        string name,
        int threads,
        string unit,
        IReadOnlyCollection<double> values,
        double? atMost,
        string? note = null
    ) =>
        Add(
            new Result
            {
                Benchmark = benchmark,
                Case = name,
                Threads = threads,
                Path = Simd.Path.ToString(),
                Unit = unit,
                Ours = Spread.Of(values),
                Goal = atMost is { } bound ? new Goal(Measure.Value, bound, AtMost: true) : null,
                Note = note,
            }
        );

    public void AddKernels(IEnumerable<KernelResult> results) => kernels.AddRange(results);

    public void Add(Result result)
    {
        results.Add(result);
        Say("  " + Table.Line(result));
    }

    public void Dispose()
    {
        PyTorch.Dispose();
        Peaks.Dispose();
        foreach (var pool in pools.Values)
            pool.Dispose();
    }

    /// <summary>
    /// The limit, measured again where it was below what ours reached just before or clearly below what it was once: then
    /// something else was running.
    /// </summary>
    private double Undisturbed(Case work, Peak peak, double reached)
    {
        var key = (peak.Name, work.Threads, work.Path);
        var best = 0.0;
        for (var attempt = 0; attempt < 5; attempt++)
        {
            best = Math.Max(best, AtPath(work.Path, peak.Rate));
            highest[key] = Math.Max(best, highest.GetValueOrDefault(key));
            if (best >= reached && best >= 0.9 * highest[key])
                break;
        }
        return best;
    }

    private static double AtPath(InstructionSet path, Func<double> measure)
    {
        var before = Simd.Path;
        Simd.Use(path);
        var value = measure();
        Simd.Use(before);
        return value;
    }

    private static double Repeat(double seconds, double units, Action work)
    {
        var start = Stopwatch.GetTimestamp();
        var done = 0.0;
        TimeSpan elapsed;
        do
        {
            work();
            done += units;
            elapsed = Stopwatch.GetElapsedTime(start);
        } while (elapsed.TotalSeconds < seconds);
        return done / elapsed.TotalSeconds;
    }
}
