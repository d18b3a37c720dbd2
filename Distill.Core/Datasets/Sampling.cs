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

/// <summary>
/// Fills the visiting order of an epoch. What is done for every segment is done by all threads of the pool, in blocks, and
/// gives the same order on any number of them.
/// </summary>
public sealed class Sampler
{
    private const int BlockSize = 8192;

    private readonly Sampling plan;
    private readonly RandomStream stream;
    private readonly Work weigh;
    private readonly Work draw;
    private int[] order = [];
    private double[] cumulative = [];

    // For each share of the total weight, in as many equal steps as there are segments, where to begin to look.
    private int[] guide = [];

    // The epoch that is being ordered.
    private AggregatedDataset dataset = null!;
    private int segmentsPerIteration;
    private long epoch;
    private float lowestLoss;
    private float highestLoss;

    public Sampler(Sampling plan, RandomStream stream)
    {
        this.plan = plan;
        this.stream = stream;
        weigh = new Work((block, _) => Weigh(block));
        draw = new Work((block, _) => Draw(block));
    }

    private int Count => dataset.Count;

    /// <summary>Bytes for the order of an epoch, and for the probabilities of plans that draw.</summary>
    public static long EstimateBytes(Sampling plan, long segments) =>
        segments
        * (sizeof(int) + (plan is RecencyWeighted or LossPrioritised ? sizeof(double) + sizeof(int) : 0));

    /// <summary>The order of one epoch; valid until the next call.</summary>
    /// <param name="segmentsPerIteration">Segments that one iteration adds: the unit of age.</param>
    /// <param name="epoch">Number of the epoch since the start of the run.</param>
    public ReadOnlySpan<int> Order(
        WorkerPool pool,
        AggregatedDataset dataset,
        int segmentsPerIteration,
        long epoch
    )
    {
        (this.dataset, this.segmentsPerIteration, this.epoch) = (dataset, segmentsPerIteration, epoch);
        Reserve(ref order);
        var segments = order.AsSpan(0, Count);
        switch (plan)
        {
            case RecencyWeighted or LossPrioritised:
                Reserve(ref cumulative);
                Reserve(ref guide);
                var blocks = (Count + BlockSize - 1) / BlockSize;
                if (plan is LossPrioritised)
                    (lowestLoss, highestLoss) = dataset.LossRange();
                pool.Run(weigh, blocks);
                Accumulate();
                pool.Run(draw, blocks);
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

    private void Reserve<T>(ref T[] values)
    {
        if (values.Length < Count)
            values = new T[
                Math.Max(Count, Math.Min(2L * values.Length, dataset.Capacity / dataset.SegmentLength))
            ];
    }

    /// <summary>The weights of a block of segments, each in its place of <see cref="cumulative"/>.</summary>
    private void Weigh(int block)
    {
        var first = block * BlockSize;
        var weights = cumulative.AsSpan(first, Math.Min(BlockSize, Count - first));
        if (plan is RecencyWeighted recency)
        {
            var (last, weight) = (-1L, 0.0);
            for (var i = 0; i < weights.Length; i++)
            {
                var age = (dataset.Added - 1 - dataset.Birth(first + i)) / segmentsPerIteration;
                // Neighbours mostly came together.
                if (age != last)
                    (last, weight) = (age, Math.Exp(-recency.Decay * age));
                weights[i] = weight;
            }
        }
        else if (plan is LossPrioritised priority)
            for (var i = 0; i < weights.Length; i++)
            {
                var loss = dataset.Loss(first + i);
                var wrong = (double)(float.IsFinite(loss) ? loss : highestLoss) - lowestLoss;
                weights[i] = Math.Pow(wrong + priority.Epsilon, priority.Exponent);
            }
    }

    /// <summary>Sums the weights up and fills the guide.</summary>
    private void Accumulate()
    {
        var sums = cumulative.AsSpan(0, Count);
        for (var i = 1; i < sums.Length; i++)
            sums[i] += sums[i - 1];
        var step = sums[^1] / Count;
        var segment = 0;
        for (var share = 0; share < Count; share++)
        {
            while (segment < Count - 1 && sums[segment] <= share * step)
                segment++;
            guide[share] = segment;
        }
    }

    /// <summary>A block of draws: each takes the first segment whose cumulated weight is above a uniform number.</summary>
    private void Draw(int block)
    {
        var sums = cumulative.AsSpan(0, Count);
        var end = Math.Min((block + 1) * BlockSize, Count);
        for (var i = block * BlockSize; i < end; i++)
        {
            var (high, low, _, _) = stream.Bits((uint)i, (uint)epoch, (uint)(epoch >> 32));
            var share = ((((ulong)high << 32) | low) >> 11) * (1.0 / (1ul << 53));
            var u = share * sums[^1];
            var segment = guide[(int)(share * Count)];
            // The guide is as exact as its products; these two steps are exact.
            while (segment > 0 && sums[segment - 1] > u)
                segment--;
            while (segment < Count - 1 && sums[segment] <= u)
                segment++;
            order[i] = segment;
        }
    }
}
