namespace Distill.Algorithms;

/// <summary>
/// Sees when a student begins to overfit: over the last 10 iterations its loss on the newest rollout fell while that on the
/// episodes that are held out rose, both by the test of Mann and Kendall for a trend (1945, 1948; one-sided, at the level 0.001
/// each), which goes by order alone, so that neither the size of the loss nor single jumps matter. Where the loss on the rest of
/// the dataset rises as well, the data have become harder, as at the beginning of a phase, and nothing is said. It has ended
/// when the held-out loss no longer rises over such a window.
/// </summary>
internal sealed class OverfittingWatch
{
    /// <summary>Iterations that it looks back.</summary>
    public const int Window = 10;

    // Standard deviations of the test's statistic that a trend must be away from none.
    private const double Level = 3.09;

    private readonly double[] newest = new double[Window];
    private readonly double[] historical = new double[Window];
    private readonly double[] heldOut = new double[Window];
    private int seen;
    private int overfitting;

    /// <summary>Takes the losses of an iteration; says whether overfitting begins with it.</summary>
    public bool Add(TrainingLosses losses)
    {
        if (losses.Newest is not { } now || losses.HeldOut is not { } held)
            return false;
        Append(newest, now);
        Append(historical, losses.Historical ?? double.NaN);
        Append(heldOut, held);
        seen = Math.Min(seen + 1, Window);
        if (seen < Window)
            return false;
        var rising = Trend(heldOut);
        var begins =
            overfitting == 0 && Trend(newest) <= -Level && rising >= Level && Trend(historical) < Level;
        if (begins)
            overfitting = 1;
        else if (rising <= 0)
            overfitting = 0;
        return begins;
    }

    public void Visit(State state)
    {
        state.Count("seen", ref seen);
        state.Count("overfitting", ref overfitting);
        state.Block("newest", newest.AsSpan());
        state.Block("historical", historical.AsSpan());
        state.Block("held_out", heldOut.AsSpan());
    }

    private static void Append(double[] values, double value)
    {
        values.AsSpan(1).CopyTo(values);
        values[^1] = value;
    }

    /// <summary>
    /// Kendall's S, the pairs that rise less those that fall, over its standard deviation where there is no trend.
    /// </summary>
    private static double Trend(double[] values)
    {
        var sum = 0;
        for (var later = 1; later < values.Length; later++)
        for (var earlier = 0; earlier < later; earlier++)
            sum += values[later].CompareTo(values[earlier]);
        var n = values.Length;
        return sum / Math.Sqrt(n * (n - 1) * (2 * n + 5) / 18.0);
    }
}
