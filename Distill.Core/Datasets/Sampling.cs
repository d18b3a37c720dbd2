using Distill.Compute;

namespace Distill.Datasets;

/// <summary>In which order, and how often, an epoch visits the segments of a dataset.</summary>
public abstract record Sampling;

/// <summary>Every segment once, in a fresh random order each epoch.</summary>
public sealed record Permutation : Sampling;

/// <summary>As many draws as there are segments, with replacement, newer ones more often: p ~ exp(-Decay x age).</summary>
/// <param name="Decay">Per iteration of age. 0 is uniform; raise it when the student lags behind its own newest mistakes.</param>
public sealed record RecencyWeighted(double Decay = 0.01) : Sampling;

/// <summary>Fills the visiting order of an epoch.</summary>
public sealed class Sampler(Sampling plan, RandomStream stream)
{
    private int[] order = [];
    private double[] cumulative = [];

    /// <summary>The order of one epoch; valid until the next call.</summary>
    /// <param name="segmentsPerIteration">Segments that one iteration adds: the unit of age.</param>
    /// <param name="epoch">Number of the epoch since the start of the run.</param>
    public ReadOnlySpan<int> Order(AggregatedDataset dataset, int segmentsPerIteration, long epoch)
    {
        if (order.Length < dataset.Count)
            order = new int[Math.Max(dataset.Count, Math.Min(2L * order.Length, dataset.Capacity / dataset.SegmentLength))];
        var segments = order.AsSpan(0, dataset.Count);
        switch (plan)
        {
            case RecencyWeighted recency:
                DrawByAge(recency.Decay, dataset, segmentsPerIteration, epoch, segments);
                break;
            default:
                stream.Permutation(segments, (uint)epoch, (uint)(epoch >> 32));
                break;
        }
        return segments;
    }

    private void DrawByAge(
        double decay,
        AggregatedDataset dataset,
        int segmentsPerIteration,
        long epoch,
        Span<int> segments
    )
    {
        if (cumulative.Length < order.Length)
            cumulative = new double[order.Length];
        var total = 0.0;
        for (var i = 0; i < segments.Length; i++)
        {
            var age = (dataset.Added - 1 - dataset.Birth(i)) / segmentsPerIteration;
            total += Math.Exp(-decay * age);
            cumulative[i] = total;
        }
        for (var i = 0; i < segments.Length; i++)
        {
            var (high, low, _, _) = stream.Bits((uint)i, (uint)epoch, (uint)(epoch >> 32));
            var u = ((((ulong)high << 32) | low) >> 11) * (1.0 / (1ul << 53)) * total;
            var place = Array.BinarySearch(cumulative, 0, segments.Length, u);
            segments[i] = Math.Min(place < 0 ? ~place : place + 1, segments.Length - 1);
        }
    }
}
