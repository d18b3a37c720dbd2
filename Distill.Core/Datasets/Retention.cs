using static Distill.SettingCheck;

namespace Distill.Datasets;

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

    /// <summary>Where the next segments go when all places are taken: here, to those of the oldest.</summary>
    /// <param name="added">Segments ever added.</param>
    /// <param name="wanted">Segments that are to go somewhere.</param>
    /// <param name="stream">For draws.</param>
    /// <returns>The first place, or -1 to drop what comes; and how many go there and to the places behind it.</returns>
    public virtual (int Place, int Run) Place(long added, int places, int wanted, RandomStream stream)
    {
        var oldest = (int)(added % places);
        return (oldest, Math.Min(wanted, places - oldest));
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
/// Rows held at most. Raise it when old failures come back, lower it when epochs get slow or memory is short.
/// </param>
public sealed record FirstInFirstOut(long MaxBufferSize = 1_000_000) : Retention
{
    public override long Limit => MaxBufferSize;
}

/// <summary>A uniform sample of everything ever seen (Vitter's algorithm R), so that early data never vanish wholly.</summary>
/// <param name="MaxBufferSize">Rows held at most.</param>
public sealed record Reservoir(long MaxBufferSize = 1_000_000) : Retention
{
    public override long Limit => MaxBufferSize;

    /// <summary>The n-th segment ever takes a random place among n, and is dropped if that is past the end.</summary>
    public override (int Place, int Run) Place(long added, int places, int wanted, RandomStream stream)
    {
        var (high, low, _, _) = stream.Bits((uint)added, (uint)(added >> 32));
        var place = (long)Math.BigMul(((ulong)high << 32) | low, (ulong)added + 1, out _);
        return (place < places ? (int)place : -1, 1);
    }
}
