using Distill.Compute;
using static Distill.SettingCheck;

namespace Distill.Datasets;

/// <summary>In which order, and how often, an epoch visits the segments of a dataset.</summary>
public abstract record Sampling
{
    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public virtual void Check() { }
}

/// <summary>Every segment once, in a fresh random order each epoch.</summary>
public sealed record Permutation : Sampling;

/// <summary>Every segment once, in the order it is stored (<c>shuffle = false</c>); for looking into a run, not for the best student.</summary>
public sealed record InOrder : Sampling;

/// <summary>As many draws as there are segments, with replacement, newer ones more often: p ~ exp(-Decay x age).</summary>
/// <param name="Decay">Per iteration of age. 0 is uniform; raise it when the student lags behind its own newest mistakes.</param>
public sealed record RecencyWeighted(double Decay = 0.01) : Sampling
{
    public override void Check() =>
        Require(Decay is >= 0 and < double.PositiveInfinity, "decay", Decay, "at least 0");
}

/// <summary>
/// As many draws as there are segments, with replacement, those that the student last got most wrong more often:
/// p ~ (loss + Epsilon)^Exponent (Schaul et al. 2016, section 3.3, proportional). Segments it has not been trained on count
/// as the worst one; losses that can be negative count from the lowest one.
/// </summary>
/// <param name="Exponent">0 is uniform, 1 proportional to the loss. Lower it when outliers or wrong labels take over.</param>
/// <param name="Epsilon">In units of the loss; above 0, so that what is learned is still visited. Raise it against forgetting.</param>
public sealed record LossPrioritised(double Exponent = 0.6, double Epsilon = 1e-3) : Sampling
{
    public override void Check()
    {
        Require(Exponent is >= 0 and <= 10, "exponent", Exponent, "between 0 and 10");
        Require(Epsilon is > 0 and < double.PositiveInfinity, "epsilon", Epsilon, "above 0");
    }
}

/// <summary>Fills the visiting order of an epoch.</summary>
public sealed class Sampler(Sampling plan, RandomStream stream)
{
    private int[] order = [];
    private double[] cumulative = [];

    /// <summary>Bytes for the order of an epoch, and for the probabilities of plans that draw.</summary>
    public static long EstimateBytes(Sampling plan, long segments) =>
        segments * (sizeof(int) + (plan is RecencyWeighted or LossPrioritised ? sizeof(double) : 0));

    /// <summary>The order of one epoch; valid until the next call.</summary>
    /// <param name="segmentsPerIteration">Segments that one iteration adds: the unit of age.</param>
    /// <param name="epoch">Number of the epoch since the start of the run.</param>
    public ReadOnlySpan<int> Order(AggregatedDataset dataset, int segmentsPerIteration, long epoch)
    {
        if (order.Length < dataset.Count)
            order = new int[
                Math.Max(dataset.Count, Math.Min(2L * order.Length, dataset.Capacity / dataset.SegmentLength))
            ];
        var segments = order.AsSpan(0, dataset.Count);
        switch (plan)
        {
            case RecencyWeighted recency:
                WeighByAge(recency.Decay, dataset, segmentsPerIteration, Weights(dataset.Count));
                Draw(segments, epoch);
                break;
            case LossPrioritised priority:
                WeighByLoss(priority, dataset, Weights(dataset.Count));
                Draw(segments, epoch);
                break;
            case InOrder:
                for (var i = 0; i < segments.Length; i++)
                    segments[i] = i;
                break;
            default:
                stream.Permutation(segments, (uint)epoch, (uint)(epoch >> 32));
                break;
        }
        return segments;
    }

    private static void WeighByAge(
        double decay,
        AggregatedDataset dataset,
        int segmentsPerIteration,
        Span<double> weights
    )
    {
        for (var i = 0; i < weights.Length; i++)
        {
            var age = (dataset.Added - 1 - dataset.Birth(i)) / segmentsPerIteration;
            weights[i] = Math.Exp(-decay * age);
        }
    }

    private static void WeighByLoss(LossPrioritised priority, AggregatedDataset dataset, Span<double> weights)
    {
        var (lowest, highest) = (0f, 0f);
        for (var i = 0; i < weights.Length; i++)
        {
            var loss = dataset.Loss(i);
            if (!float.IsFinite(loss))
                continue;
            lowest = MathF.Min(lowest, loss);
            highest = MathF.Max(highest, loss);
        }
        for (var i = 0; i < weights.Length; i++)
        {
            var loss = dataset.Loss(i);
            var wrong = (double)(float.IsFinite(loss) ? loss : highest) - lowest;
            weights[i] = Math.Pow(wrong + priority.Epsilon, priority.Exponent);
        }
    }

    private Span<double> Weights(int count)
    {
        if (cumulative.Length < count)
            cumulative = new double[order.Length];
        return cumulative.AsSpan(0, count);
    }

    /// <summary>Draws with the probabilities that the weights in <see cref="cumulative"/> stand for, and sums those up.</summary>
    private void Draw(Span<int> segments, long epoch)
    {
        for (var i = 1; i < segments.Length; i++)
            cumulative[i] += cumulative[i - 1];
        var total = cumulative[segments.Length - 1];
        for (var i = 0; i < segments.Length; i++)
        {
            var (high, low, _, _) = stream.Bits((uint)i, (uint)epoch, (uint)(epoch >> 32));
            var u = ((((ulong)high << 32) | low) >> 11) * (1.0 / (1ul << 53)) * total;
            var place = Array.BinarySearch(cumulative, 0, segments.Length, u);
            segments[i] = Math.Min(place < 0 ? ~place : place + 1, segments.Length - 1);
        }
    }
}
