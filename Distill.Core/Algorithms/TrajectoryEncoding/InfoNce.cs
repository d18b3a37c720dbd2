using System.Runtime.Intrinsics;

namespace Distill.Algorithms;

/// <summary>
/// InfoNCE (van den Oord et al. 2018) between two views of a batch: the cosine between the encodings of a window's two views
/// should be larger than those with the second views of its negatives.
/// </summary>
internal sealed class InfoNce(int batch, int size, Contrast contrast, double temperature)
{
    private readonly int padded = (batch + 3) / 4 * 4;
    private readonly float[] first = new float[batch * size];
    private readonly float[] second = new float[size * ((batch + 3) / 4 * 4)];
    private readonly float[] weights = new float[(batch + 3) / 4 * 4];
    private readonly float[] dFirst = new float[batch * size];
    private readonly float[] dSecond = new float[size * ((batch + 3) / 4 * 4)];
    private readonly float[] lengths = new float[2 * batch];

    /// <summary>The mean loss, and its gradients.</summary>
    /// <param name="z">Encodings of the first views, <c>[batch, size]</c>.</param>
    /// <param name="other">Encodings of the second views.</param>
    /// <param name="tasks"><c>[batch]</c>.</param>
    /// <param name="factor">Of the gradients.</param>
    public double Evaluate(
        ReadOnlySpan<float> z,
        ReadOnlySpan<float> other,
        ReadOnlySpan<int> tasks,
        double factor,
        Span<float> dz,
        Span<float> dOther
    )
    {
        for (var row = 0; row < batch; row++)
        {
            lengths[row] = Length(z.Slice(row * size, size));
            lengths[batch + row] = Length(other.Slice(row * size, size));
            for (var i = 0; i < size; i++)
            {
                first[row * size + i] = z[row * size + i] / lengths[row];
                second[i * padded + row] = other[row * size + i] / lengths[batch + row];
            }
        }
        Array.Clear(dSecond);
        var sum = 0.0;
        for (var row = 0; row < batch; row++)
            sum += Row(row, tasks, (float)(factor / temperature / batch));
        for (var row = 0; row < batch; row++)
        {
            var (along, otherAlong) = (0f, 0f);
            for (var i = 0; i < size; i++)
            {
                along += first[row * size + i] * dFirst[row * size + i];
                otherAlong += second[i * padded + row] * dSecond[i * padded + row];
            }
            for (var i = 0; i < size; i++)
            {
                var (unit, otherUnit) = (first[row * size + i], second[i * padded + row]);
                dz[row * size + i] = (dFirst[row * size + i] - along * unit) / lengths[row];
                dOther[row * size + i] =
                    (dSecond[i * padded + row] - otherAlong * otherUnit) / lengths[batch + row];
            }
        }
        return sum / batch;
    }

    /// <summary>The loss of one window, against all second views.</summary>
    private double Row(int row, ReadOnlySpan<int> tasks, float scale)
    {
        var unit = first.AsSpan(row * size, size);
        var inverse = Vector128.Create((float)(1 / temperature));
        var highest = float.NegativeInfinity;
        for (var j = 0; j < padded; j += 4)
        {
            var score = Vector128<float>.Zero;
            for (var i = 0; i < size; i++)
                score = Vector128.FusedMultiplyAdd(
                    Vector128.Create(unit[i]),
                    Vector128.Create(second.AsSpan(i * padded + j)),
                    score
                );
            (score * inverse).CopyTo(weights, j);
        }
        var own = weights[row];
        for (var j = 0; j < padded; j++)
            if (j < batch && (j == row || contrast.Separates(tasks[row], tasks[j])))
                highest = Math.Max(highest, weights[j]);
            else
                weights[j] = float.NegativeInfinity;
        var sum = 0f;
        for (var j = 0; j < padded; j += 4)
        {
            var score = Vector128.Create(weights.AsSpan(j));
            var there = Vector128.GreaterThan(score, Vector128.Create(float.NegativeInfinity));
            var weight = MathW128.Exp(score - Vector128.Create(highest)) & there;
            weight.CopyTo(weights, j);
            sum += (weight[0] + weight[2]) + (weight[1] + weight[3]);
        }
        for (var j = 0; j < padded; j++)
            weights[j] *= scale / sum;
        weights[row] -= scale;
        for (var i = 0; i < size; i++)
        {
            var total = Vector128<float>.Zero;
            for (var j = 0; j < padded; j += 4)
            {
                var weight = Vector128.Create(weights.AsSpan(j));
                var place = i * padded + j;
                total = Vector128.FusedMultiplyAdd(weight, Vector128.Create(second.AsSpan(place)), total);
                Vector128
                    .FusedMultiplyAdd(
                        weight,
                        Vector128.Create(unit[i]),
                        Vector128.Create(dSecond.AsSpan(place))
                    )
                    .CopyTo(dSecond, place);
            }
            dFirst[row * size + i] = (total[0] + total[2]) + (total[1] + total[3]);
        }
        return MathW128.Log(Vector128.Create(sum))[0] + highest - own;
    }

    private static float Length(ReadOnlySpan<float> values)
    {
        var squares = 0f;
        foreach (var value in values)
            squares += value * value;
        // PyTorch's floor of the length.
        return MathF.Max(MathF.Sqrt(squares), 1e-12f);
    }
}
