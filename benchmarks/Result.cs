namespace Distill.Benchmarks;

/// <summary>What repetitions of one measurement gave.</summary>
/// <param name="Low">First quartile.</param>
/// <param name="High">Third quartile.</param>
public sealed record Spread(double Low, double Median, double High, int Repetitions)
{
    public static Spread Of(IReadOnlyCollection<double> values)
    {
        var sorted = values.Order().ToArray();
        return new(Quantile(0.25), Quantile(0.5), Quantile(0.75), sorted.Length);

        // Linear between neighbours, as NumPy does.
        double Quantile(double share)
        {
            var place = share * (sorted.Length - 1);
            var below = (int)place;
            var above = Math.Min(below + 1, sorted.Length - 1);
            return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
        }
    }

    /// <summary>Interquartile range as a share of the median.</summary>
    public double Relative => Median == 0 ? 0 : (High - Low) / Math.Abs(Median);
}

/// <summary>What of a result a goal is about.</summary>
public enum Measure
{
    Value,
    Ratio,
    Share,
}

/// <summary>What a result must reach.</summary>
/// <param name="AtMost">Whether the bound is an upper one.</param>
public sealed record Goal(Measure Measure, double Bound, bool AtMost = false)
{
    public static Goal Value(double atLeast) => new(Measure.Value, atLeast);

    public static Goal Ratio(double atLeast) => new(Measure.Ratio, atLeast);

    public static Goal Share(double atLeast) => new(Measure.Share, atLeast);
}

/// <summary>One line of the table: medians over repetitions in which ours, the peer and the peak took turns.</summary>
public sealed record Result
{
    /// <summary>Name of the benchmark, as given to <c>bench</c>.</summary>
    public required string Benchmark { get; init; }

    /// <summary>Which of its cases.</summary>
    public required string Case { get; init; }

    /// <summary>Threads of ours; the peer may use as many.</summary>
    public required int Threads { get; init; }

    /// <summary>Instruction-set path of ours.</summary>
    public required string Path { get; init; }

    /// <summary>Of <see cref="Ours"/> and <see cref="PeerValue"/>.</summary>
    public required string Unit { get; init; }

    public required Spread Ours { get; init; }

    /// <summary>Whom ours is compared with, and in which setting; null without a peer.</summary>
    public string? Peer { get; init; }
    public Spread? PeerValue { get; init; }

    /// <summary>Ours / peer of neighbouring repetitions.</summary>
    public Spread? Ratio { get; init; }

    /// <summary>The limit of the machine that <see cref="Share"/> is of: "FMA" or "memory".</summary>
    public string? Limit { get; init; }

    /// <summary>That limit, measured in the same repetitions, in operations or bytes per second.</summary>
    public Spread? Peak { get; init; }

    /// <summary>Share of the limit that ours reached; null also where the limit could not be measured undisturbed.</summary>
    public Spread? Share { get; init; }

    public Goal? Goal { get; init; }

    /// <summary>What else was measured.</summary>
    public string? Note { get; init; }

    /// <summary>By which factor the goal is reached: 1 or more is good; null without a goal or without its measure.</summary>
    public double? Reached
    {
        get
        {
            var measured = Goal?.Measure switch
            {
                Measure.Value => Ours,
                Measure.Ratio => Ratio,
                Measure.Share => Share,
                _ => null,
            };
            return measured is null ? null
                : Goal!.AtMost ? Goal.Bound / Math.Max(measured.Median, double.Epsilon)
                : measured.Median / Goal.Bound;
        }
    }
}

/// <summary>One kernel of a case, each launch timed alone by the GPU's own clock.</summary>
/// <param name="SecondsPerLaunch">Mean.</param>
/// <param name="ShareOfTime">Of all kernels of the case.</param>
/// <param name="SpilledBytes">Of each thread, in memory for want of registers.</param>
/// <param name="Occupancy">Share of the threads that a multiprocessor can hold.</param>
/// <param name="ShareOfFma">Of the card's multiply-adds as measured; 0 where operations are not counted.</param>
/// <param name="ShareOfMemory">Of the card's bandwidth as measured; 0 where bytes are not counted.</param>
public sealed record KernelResult(
    string Case,
    string Kernel,
    long Launches,
    double SecondsPerLaunch,
    double ShareOfTime,
    int Registers,
    int SharedBytes,
    int SpilledBytes,
    double Occupancy,
    double ShareOfFma,
    double ShareOfMemory
);
