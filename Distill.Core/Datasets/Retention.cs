using static Distill.SettingCheck;

namespace Distill.Datasets;

/// <summary>What is kept when new data arrive.</summary>
public abstract record Retention
{
    // Beyond any machine, and small enough to be counted in bytes.
    internal const long MostRows = 1_000_000_000_000;

    /// <summary>Most rows held.</summary>
    public abstract long Limit { get; }

    /// <summary>Whether it is the user who sets the limit.</summary>
    public virtual bool Limited => true;

    /// <summary>Rows held in the end, if a rollout has so many.</summary>
    public long Rows(long rollout) => Limited ? Limit : rollout;

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public void Check() =>
        Require(
            !Limited || Limit is >= 1 and <= MostRows,
            "max_buffer_size",
            Limit,
            $"between 1 and {MostRows}"
        );
}

/// <summary>Only the newest rollout (<c>use_dagger = false</c>, on-policy).</summary>
public sealed record NewestRollout : Retention
{
    public override long Limit => long.MaxValue;
    public override bool Limited => false;
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
}
