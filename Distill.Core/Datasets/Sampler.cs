namespace Distill.Datasets;

/// <summary>
/// Fills the visiting order of an epoch. What is done for every segment is done by all threads of the pool, in blocks, and
/// gives the same order on any number of them.
/// </summary>
public sealed class Sampler
{
    private const int BlockSize = 8192;

    private readonly RandomStream stream;
    private readonly Work weigh;
    private readonly Work draw;
    private int[] order = [];
    private double[] cumulative = [];

    // For each share of the total weight, in as many equal steps as there are segments, where to begin to look.
    private int[] guide = [];

    // The epoch that is being ordered.
    private AggregatedDataset dataset = null!;
    private WeighedEpoch weighed;
    private long epoch;

    public Sampler(Sampling plan, RandomStream stream)
    {
        Plan = plan;
        this.stream = stream;
        weigh = new Work((block, _) => Weigh(block));
        draw = new Work((block, _) => Draw(block));
    }

    /// <summary>The rule in force; schedules change its numbers.</summary>
    public Sampling Plan { get; set; }

    private int Count => dataset.Count;

    /// <summary>
    /// The order of one epoch; valid until the next call. Segments none of whose rows is trained on, because they are held out or
    /// failed, are left out.
    /// </summary>
    /// <param name="segmentsPerIteration">Segments that one iteration adds: the unit of age.</param>
    /// <param name="epoch">Number of the epoch since the start of the run.</param>
    public ReadOnlySpan<int> Order(
        WorkerPool pool,
        AggregatedDataset dataset,
        int segmentsPerIteration,
        long epoch
    )
    {
        (this.dataset, this.epoch) = (dataset, epoch);
        Reserve(ref order);
        var segments = order.AsSpan(0, Count);
        if (Plan is Weighted weighted)
        {
            Reserve(ref cumulative);
            Reserve(ref guide);
            weighed = new(dataset, segmentsPerIteration, weighted.ScoreRange(dataset));
            var blocks = (Count + BlockSize - 1) / BlockSize;
            pool.Run(weigh, blocks);
            Accumulate();
            if (!(cumulative[Count - 1] > 0))
                return [];
            pool.Run(draw, blocks);
        }
        else if (Plan is EachOnce once)
        {
            once.Order(segments, stream, epoch);
            if (dataset.Weighs)
                segments = segments[..KeepTaught(segments)];
        }
        return segments;
    }

    /// <summary>Moves the segments that are trained on to the front, in their order; gives their number.</summary>
    private int KeepTaught(Span<int> segments)
    {
        var kept = 0;
        foreach (var segment in segments)
            if (dataset.Has(segment, heldOut: false))
                segments[kept++] = segment;
        return kept;
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
        var count = Math.Min(BlockSize, Count - first);
        var weights = cumulative.AsSpan(first, count);
        ((Weighted)Plan).Weigh(weighed, first, weights);
        for (var i = 0; i < count && dataset.Weighs; i++)
            if (!dataset.Has(first + i, heldOut: false))
                weights[i] = 0;
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
