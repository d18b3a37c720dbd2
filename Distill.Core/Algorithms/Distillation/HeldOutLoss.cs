using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The student's mean loss on the rows that it is never trained on, by all threads, without a gradient. Where more than a
/// twentieth of the dataset (and more than 8192 rows and 64 segments) has such rows, they are those of so many segments evenly
/// spread over all, which stay the same until the dataset changes: it takes about 2 % of a pass then.
/// </summary>
internal sealed class HeldOutLoss(Policy student, AggregatedDataset dataset) : IWork
{
    private const int LeastRows = 8192;
    private const int LeastSegments = 64;

    private int[] segments = [];
    private double[] sums = [];
    private double[] weights = [];
    private int count;
    private Loss loss = null!;
    private WorkerPool pool = null!;

    /// <summary>Bytes for a dataset of so many segments.</summary>
    internal static long EstimateBytes(long segments) => segments * sizeof(int);

    /// <summary>Goes on with this loss.</summary>
    public void Use(Loss now) => loss = now;

    /// <summary>Looks up which segments have rows that are held out; to be done when the dataset has changed.</summary>
    public void Choose()
    {
        if (segments.Length < dataset.Count)
        {
            segments = new int[Math.Max(dataset.Count, Math.Min(2 * segments.Length, Room))];
            sums = new double[Panel.Count(segments.Length)];
            weights = new double[Panel.Count(segments.Length)];
        }
        var found = 0;
        for (var segment = 0; segment < dataset.Count; segment++)
            if (dataset.Has(segment, heldOut: true))
                segments[found++] = segment;
        var least = Math.Max(LeastSegments, LeastRows / dataset.SegmentLength);
        count = Math.Min(found, Math.Max(least, dataset.Count / 20));
        for (var i = 0; i < count; i++)
            segments[i] = segments[(int)((long)i * found / count)];
    }

    /// <summary>The mean loss of the student as it is; null where no row is held out.</summary>
    public double? Mean(WorkerPool pool)
    {
        this.pool = pool;
        pool.Run(this, Panel.Count(count));
        return Mean();
    }

    /// <summary>Sums of the weighted loss over the rows that are held out, for each 32 of some segments.</summary>
    internal delegate void Sums(Loss loss, ReadOnlySpan<int> segments, Span<double> sums);

    /// <summary>The same where a device does the sums.</summary>
    internal double? Mean(Sums device)
    {
        device(loss, segments.AsSpan(0, count), sums.AsSpan(0, Panel.Count(count)));
        for (var panel = 0; panel < Panel.Count(count); panel++)
            weights[panel] = dataset.Weight(Places(panel), 0, dataset.SegmentLength, heldOut: true);
        return Mean();
    }

    private double? Mean()
    {
        var panels = Panel.Count(count);
        var (sum, weight) = (0.0, 0.0);
        for (var panel = 0; panel < panels; panel++)
        {
            sum += sums[panel];
            weight += weights[panel];
        }
        return weight == 0 ? null : sum / (weight * loss.TermsPerRow(student.Network.Spec.Outputs));
    }

    void IWork.Run(int panel, int worker)
    {
        var own = pool.Workspace(worker);
        using var scope = own.Open();
        var places = Places(panel);
        var memory = own.Panel(student.MemorySize);
        dataset.GatherMemory(places, memory);
        sums[panel] = 0;
        weights[panel] = dataset.Weight(places, 0, dataset.SegmentLength, heldOut: true);
        for (var first = 0; first < dataset.SegmentLength; first += AggregatedDataset.StepsAtATime)
            sums[panel] += Sum(
                places,
                first,
                Math.Min(AggregatedDataset.StepsAtATime, dataset.SegmentLength - first),
                memory,
                own
            );
    }

    private int Room => (int)(dataset.Capacity / dataset.SegmentLength);

    private ReadOnlySpan<int> Places(int panel) =>
        segments.AsSpan(panel * Panel.Width, Math.Min(Panel.Width, count - panel * Panel.Width));

    private double Sum(ReadOnlySpan<int> places, int first, int steps, Panel memory, Workspace own)
    {
        using var scope = own.Open();
        var window = Window.Take(
            student,
            dataset,
            places,
            (first, steps),
            memory,
            Panel.Width,
            heldOut: true,
            own
        );
        var unused = own.Panel(student.Network.OutputSize);
        var sum = 0.0;
        for (var step = 0; step < steps; step++)
            sum += loss.Evaluate(
                window.Output(step),
                window.Label(step),
                window.Weights.Part(step, steps),
                scale: 0,
                unused,
                head: student.Network.Spec.Head
            );
        return sum;
    }
}
