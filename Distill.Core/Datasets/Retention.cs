using static Distill.SettingCheck;

namespace Distill.Datasets;

/// <summary>Segments that come to a dataset.</summary>
/// <param name="Dataset">As it is before them.</param>
/// <param name="Wanted">How many are to go somewhere.</param>
/// <param name="Room">Places that there is memory for.</param>
/// <param name="Places">Places there can be.</param>
/// <param name="Class">Of the first one's label, where classes are counted; -1 if it is not valid.</param>
/// <param name="Stream">For draws.</param>
public readonly record struct Arrival(
    AggregatedDataset Dataset,
    int Wanted,
    int Room,
    int Places,
    int Class,
    RandomStream Stream
)
{
    /// <summary>Whether all places are taken.</summary>
    public bool Full => Dataset.Count == Places;
}

/// <summary>What is kept when new data arrive.</summary>
public abstract record Retention
{
    // Beyond any machine, and small enough to be counted in bytes.
    internal const long MostRows = 1_000_000_000_000;

    /// <summary>Most rows held.</summary>
    public abstract long Limit { get; }

    /// <summary>Whether rollouts add up, to a limit that the user sets; else each replaces the one before.</summary>
    public virtual bool Accumulates => true;

    /// <summary>Rows held in the end, if a rollout has so many.</summary>
    public long Rows(long rollout) => Accumulates ? Limit : rollout;

    /// <summary>Whether it goes by the classes of labels, which are those of rows.</summary>
    public virtual bool ByClass => false;

    /// <summary>Where the next segments go: first to free places; here, then, to those of the oldest.</summary>
    /// <returns>The first place, or -1 to drop what comes; and how many go there and to the places behind it.</returns>
    public virtual (int Place, int Run) Place(in Arrival arrival) =>
        arrival.Full
            ? Replace(arrival)
            : (arrival.Dataset.Count, Math.Min(arrival.Wanted, arrival.Room - arrival.Dataset.Count));

    /// <inheritdoc cref="Place"/>
    protected virtual (int Place, int Run) Replace(in Arrival arrival)
    {
        var oldest = (int)(arrival.Dataset.Added % arrival.Places);
        return (oldest, Math.Min(arrival.Wanted, arrival.Places - oldest));
    }

    /// <summary>A uniform whole number below <paramref name="limit"/>.</summary>
    /// <param name="added">Segments ever added: the counter of the draw, with its number.</param>
    private protected static long Below(long limit, RandomStream stream, long added, uint number = 0)
    {
        var (high, low, _, _) = stream.Bits((uint)added, (uint)(added >> 32), number);
        return (long)Math.BigMul(((ulong)high << 32) | low, (ulong)limit, out _);
    }

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public void Check() =>
        Require(
            !Accumulates || Limit is >= 1 and <= MostRows,
            "max_buffer_size",
            Limit,
            $"between 1 and {MostRows}"
        );
}

/// <summary>Only the newest rollout (<c>use_dagger = false</c>, on-policy).</summary>
public sealed record NewestRollout : Retention
{
    public override long Limit => long.MaxValue;
    public override bool Accumulates => false;
}

/// <summary>Everything up to a limit; beyond it the oldest rows go first.</summary>
/// <param name="MaxBufferSize">
/// Rows held at most. prt-rl advises 50,000 to 200,000 for control with few dimensions. Raise it when old failures come back, lower
/// it when epochs get slow or memory is short.
/// </param>
public sealed record FirstInFirstOut(long MaxBufferSize = 1_000_000) : Retention
{
    public override long Limit => MaxBufferSize;
}

/// <summary>A uniform sample of everything ever seen (Vitter's algorithm R), so that early data never vanish wholly.</summary>
/// <param name="MaxBufferSize">
/// Rows held at most. Raise it when the sample of old states gets too thin, lower it when epochs get slow or memory is short.
/// </param>
public sealed record Reservoir(long MaxBufferSize = 1_000_000) : Retention
{
    public override long Limit => MaxBufferSize;

    /// <summary>The n-th segment ever takes a random place among n, and is dropped if that is past the end.</summary>
    protected override (int Place, int Run) Replace(in Arrival arrival)
    {
        var added = arrival.Dataset.Added;
        var place = Below(added + 1, arrival.Stream, added);
        return (place < arrival.Places ? (int)place : -1, 1);
    }
}

/// <summary>
/// A sample of everything ever seen in which each class of choices keeps an equal share, as far as it has rows; within a class
/// it is uniform. A row of a class that was never the largest takes the place of a random one of the largest class; of the
/// others the n-th row takes the place of a random one of its own m with probability m / n (Chrysakis and Moens 2020,
/// "Online continual learning from imbalanced data", algorithm 1). For discrete actions and students without memory.
/// </summary>
/// <param name="MaxBufferSize">
/// Rows held at most. Raise it when the large classes become too thin, lower it when epochs get slow or memory is short.
/// </param>
public sealed record ClassBalancedReservoir(long MaxBufferSize = 1_000_000) : Retention
{
    public override long Limit => MaxBufferSize;
    public override bool ByClass => true;

    public override (int Place, int Run) Place(in Arrival arrival)
    {
        var (dataset, own) = (arrival.Dataset, arrival.Class);
        var classes = dataset.Classes;
        // A row that is masked has nothing to teach.
        if (own < 0)
            return (-1, 1);
        classes.See(own);
        if (!arrival.Full)
            return (dataset.Count, 1);
        var largest = classes.Largest();
        classes.MarkFull(largest);
        if (!classes.IsFull(own))
            return (RandomOf(largest, arrival), 1);
        var draw = Below(classes.Seen(own), arrival.Stream, dataset.Added);
        return (draw < classes.Held(own) ? RandomOf(own, arrival) : -1, 1);
    }

    /// <summary>A random place that holds a row of a class: random places until one does.</summary>
    private static int RandomOf(int wanted, in Arrival arrival)
    {
        for (var attempt = 1u; ; attempt++)
        {
            var place = (int)Below(arrival.Places, arrival.Stream, arrival.Dataset.Added, attempt);
            if (arrival.Dataset.ClassOf(place) == wanted)
                return place;
        }
    }
}
