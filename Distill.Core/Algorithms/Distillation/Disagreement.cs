using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// How much the members of an ensemble disagree on each row of a mini-batch: the variance (population) of their actions, or of
/// the probabilities that they give to choices, each as it is when the row comes up in its training. Mean and squared
/// deviations are updated from member to member (Welford 1962).
/// </summary>
/// <param name="outputs">Numbers of an action, or choices.</param>
/// <param name="rows">Rows of the largest mini-batch, unused lanes included.</param>
public sealed class Disagreement(int members, int outputs, int segmentLength, long rows) : IDisposable
{
    private readonly FloatBuffer mean = new(rows * outputs);
    private readonly FloatBuffer squares = new(rows * outputs);

    /// <summary>Bytes that it takes.</summary>
    internal static long EstimateBytes(long rows, int outputs) => 2 * rows * outputs * sizeof(float);

    /// <summary>Takes what a member gives for a window of a panel.</summary>
    internal void Note(int member, int panel, int first, Policy student, in Window window, Workspace own)
    {
        var (steps, lanes) = (window.Weights.Features, window.Weights.Lanes);
        using var scope = own.Open();
        var given = own.Panel(outputs, lanes);
        for (var step = 0; step < steps; step++)
        {
            Describe(student, window.Output(step), given);
            var place = panel * segmentLength + first + step;
            var means = Of(mean, place, lanes);
            var squared = Of(squares, place, lanes);
            for (var i = 0; i < given.Values.Length; i++)
            {
                var (before, sum) = member == 0 ? (0, 0) : (means.Values[i], squared.Values[i]);
                var off = given.Values[i] - before;
                means.Values[i] = before + off / (member + 1);
                squared.Values[i] = sum + off * (given.Values[i] - means.Values[i]);
            }
        }
    }

    /// <summary>Notes in the dataset the mean over rows that are trained on, for each segment of the mini-batch.</summary>
    /// <param name="lanes">Of the panels that the members noted.</param>
    internal void Record(AggregatedDataset dataset, ReadOnlySpan<int> segments, int lanes)
    {
        for (var i = 0; i < segments.Length; i++)
        {
            var (sum, total) = (0.0, 0.0);
            for (var step = 0; step < segmentLength; step++)
            {
                var weight = dataset.Weight(segments.Slice(i, 1), step, step + 1);
                if (weight == 0)
                    continue;
                var squared = Of(squares, i / lanes * segmentLength + step, lanes);
                for (var output = 0; output < outputs; output++)
                    sum += weight * squared[output, i % lanes];
                total += weight;
            }
            dataset.RecordDisagreement(
                segments[i],
                total == 0 ? 0 : (float)(sum / (total * outputs * members))
            );
        }
    }

    public void Dispose()
    {
        mean.Dispose();
        squares.Dispose();
    }

    private Panel Of(FloatBuffer buffer, int place, int lanes) =>
        Panel.At(buffer.Span, place, outputs, lanes);

    /// <summary>The action without noise, or the probabilities of the choices.</summary>
    private static void Describe(Policy student, Panel output, Panel given)
    {
        if (student.Network.Spec.Head != Head.Categorical)
        {
            student.Decide(output, given);
            return;
        }
        Span<float> normalizer = stackalloc float[Panel.Width];
        Categorical.LogNormalizer(output, normalizer);
        for (var choice = 0; choice < given.Features; choice++)
        for (var lane = 0; lane < given.Lanes; lane++)
            given[choice, lane] = MathF.Exp(output[choice, lane] - normalizer[lane]);
    }
}
