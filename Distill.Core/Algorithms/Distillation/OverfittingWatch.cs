namespace Distill.Algorithms;

/// <summary>
/// Sees when a student begins to overfit: over the last 10 iterations its loss on the newest rollout fell by a tenth or more
/// while that on the episodes that are held out rose by as much, to at least twice the loss on the newest rollout. What is compared
/// are the medians of the older and the newer five, so that single jumps do not matter. Where the loss on the rest of the
/// dataset rises as well, the data have become harder, as at the beginning of a phase, and nothing is said. It has ended when the
/// held-out loss is below twice the newest again. (On the quickstart it stays below 1.5 times.)
/// </summary>
internal sealed class OverfittingWatch
{
    /// <summary>Iterations that it looks back.</summary>
    public const int Window = 10;

    private const double Change = 0.1;

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
        Append(historical, losses.Historical ?? now);
        Append(heldOut, held);
        seen = Math.Min(seen + 1, Window);
        if (seen < Window)
            return false;
        var learned = Median(newest.AsSpan(Window / 2));
        var apart = Median(heldOut.AsSpan(Window / 2)) - learned >= Math.Abs(learned);
        var begins =
            overfitting == 0
            && apart
            && Rise(newest) <= -Change
            && Rise(heldOut) >= Change
            && Rise(historical) < Change;
        overfitting = begins || overfitting != 0 && apart ? 1 : 0;
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

    /// <summary>By which share of its size the median of the newer half is above that of the older.</summary>
    private static double Rise(double[] values)
    {
        var before = Median(values.AsSpan(0, Window / 2));
        return (Median(values.AsSpan(Window / 2)) - before) / Math.Max(Math.Abs(before), double.Epsilon);
    }

    private static double Median(ReadOnlySpan<double> values)
    {
        Span<double> sorted = stackalloc double[values.Length];
        values.CopyTo(sorted);
        sorted.Sort();
        return sorted[values.Length / 2];
    }
}
