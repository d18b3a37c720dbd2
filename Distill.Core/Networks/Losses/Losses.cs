using System.Runtime.Intrinsics;
using Distill.Compute;

namespace Distill.Networks;

/// <summary>What the student minimises. Each is the mean over valid rows (and, where said, over actions).</summary>
public abstract record Loss;

/// <summary>Mean over rows and actions of (y - target)^2.</summary>
public sealed record MeanSquared : Loss;

/// <summary>Mean over rows and actions of e^2 / 2 within +-Delta and Delta (|e| - Delta / 2) outside.</summary>
/// <param name="Delta">Error from which the loss grows linearly. Lower it when few labels are wildly off.</param>
public sealed record Huber(double Delta = 1) : Loss;

/// <summary>Negative log-likelihood of the label under the Gaussian head, summed over actions; trains log_std too.</summary>
public sealed record GaussianLogLikelihood : Loss;

/// <summary>Cross-entropy of the categorical head; the label is the index of the choice.</summary>
/// <param name="Smoothing">Share of the target spread evenly over all choices; 0 to 0.05 for noisy teachers.</param>
public sealed record CrossEntropy(double Smoothing = 0) : Loss;

/// <summary>Values and gradients of the losses on one panel or half panel.</summary>
public static class Losses
{
    /// <summary>What a sum over rows is divided by, per row, to give the mean that the loss is defined as.</summary>
    public static int TermsPerRow(Loss loss, int outputs) => loss is MeanSquared or Huber ? outputs : 1;

    /// <summary>Adds up one panel and writes the gradient of scale * sum.</summary>
    /// <param name="y">Network output <c>[outputs, 32]</c>.</param>
    /// <param name="target"><c>[outputs, 32]</c>, or <c>[1, 32]</c> for <see cref="CrossEntropy"/>.</param>
    /// <param name="weight"><c>[32]</c>: 0 for lanes that do not count, else 1 (or an importance weight).</param>
    /// <param name="scale">Factor of the gradient, 1 / (rows * terms per row) for a mean.</param>
    /// <param name="logStd">The Gaussian head's <c>[outputs]</c>; else empty.</param>
    /// <param name="dy"><c>[outputs, 32]</c>, overwritten.</param>
    /// <param name="dLogStd"><c>[outputs]</c>, added to; empty without a Gaussian head.</param>
    /// <param name="laneSums"><c>[32]</c>: each lane's share of the result is added; empty if nobody needs it.</param>
    /// <returns>Weighted sum over rows and terms, without <paramref name="scale"/>.</returns>
    public static double Evaluate(
        Loss loss,
        ReadOnlySpan<float> y,
        ReadOnlySpan<float> target,
        ReadOnlySpan<float> weight,
        float scale,
        ReadOnlySpan<float> logStd,
        Span<float> dy,
        Span<float> dLogStd,
        Span<double> laneSums = default
    )
    {
        Span<double> sums = stackalloc double[weight.Length];
        sums.Clear();
        switch (loss)
        {
            case MeanSquared:
                Squared(y, target, weight, scale, dy, sums);
                break;
            case Huber huber:
                Robust((float)huber.Delta, y, target, weight, scale, dy, sums);
                break;
            case GaussianLogLikelihood:
                Gaussian(y, target, weight, scale, logStd, dy, dLogStd, sums);
                break;
            case CrossEntropy entropy:
                Categorical((float)entropy.Smoothing, y, target, weight, scale, dy, sums);
                break;
            default:
                throw new NotSupportedException($"No kernel for {loss}.");
        }
        var total = 0.0;
        for (var lane = 0; lane < sums.Length; lane++)
            total += sums[lane];
        for (var lane = 0; lane < laneSums.Length; lane++)
            laneSums[lane] += sums[lane];
        return total;
    }

    private static void Squared(
        ReadOnlySpan<float> y,
        ReadOnlySpan<float> target,
        ReadOnlySpan<float> weight,
        float scale,
        Span<float> dy,
        Span<double> sums
    )
    {
        var width = weight.Length;
        var slope = Vector256.Create(2 * scale);
        for (var first = 0; first < dy.Length; first += width)
        for (var lane = 0; lane < width; lane += Vector256<float>.Count)
        {
            var i = first + lane;
            var w = Vector256.Create(weight[lane..]);
            // Left out, not multiplied by 0: what does not count may be infinite or not a number.
            var counted = ~Vector256.Equals(w, Vector256<float>.Zero);
            var error = Vector256.Create(y[i..]) - Vector256.Create(target[i..]) & counted;
            (slope * w * error).CopyTo(dy[i..]);
            var (low, high) = Vector256.Widen(w * (error * error));
            (Vector256.Create<double>(sums[lane..]) + low).CopyTo(sums[lane..]);
            (Vector256.Create<double>(sums[(lane + 4)..]) + high).CopyTo(sums[(lane + 4)..]);
        }
    }

    private static void Robust(
        float delta,
        ReadOnlySpan<float> y,
        ReadOnlySpan<float> target,
        ReadOnlySpan<float> weight,
        float scale,
        Span<float> dy,
        Span<double> sums
    )
    {
        for (var i = 0; i < dy.Length; i++)
        {
            var w = weight[i % weight.Length];
            var error = w == 0 ? 0 : y[i] - target[i];
            var size = MathF.Abs(error);
            sums[i % weight.Length] +=
                w * (size <= delta ? 0.5f * error * error : delta * (size - 0.5f * delta));
            dy[i] = scale * w * Math.Clamp(error, -delta, delta);
        }
    }

    private static void Gaussian(
        ReadOnlySpan<float> mean,
        ReadOnlySpan<float> target,
        ReadOnlySpan<float> weight,
        float scale,
        ReadOnlySpan<float> logStd,
        Span<float> dMean,
        Span<float> dLogStd,
        Span<double> sums
    )
    {
        const float HalfLogTwoPi = 0.918938533f;
        for (var output = 0; output < logStd.Length; output++)
        {
            var inverse = MathF.Exp(-logStd[output]);
            var change = 0.0;
            for (var lane = 0; lane < weight.Length; lane++)
            {
                var i = output * weight.Length + lane;
                var deviation = weight[lane] == 0 ? 0 : (mean[i] - target[i]) * inverse;
                sums[lane] += weight[lane] * (0.5f * deviation * deviation + logStd[output] + HalfLogTwoPi);
                dMean[i] = scale * weight[lane] * deviation * inverse;
                change += scale * weight[lane] * (1 - deviation * deviation);
            }
            dLogStd[output] += (float)change;
        }
    }

    private static void Categorical(
        float smoothing,
        ReadOnlySpan<float> logits,
        ReadOnlySpan<float> label,
        ReadOnlySpan<float> weight,
        float scale,
        Span<float> dLogits,
        Span<double> sums
    )
    {
        var choices = dLogits.Length / weight.Length;
        for (var lane = 0; lane < weight.Length; lane++)
        {
            if (weight[lane] == 0)
            {
                for (var i = lane; i < dLogits.Length; i += weight.Length)
                    dLogits[i] = 0;
                continue;
            }
            var largest = float.NegativeInfinity;
            for (var choice = 0; choice < choices; choice++)
                largest = MathF.Max(largest, logits[choice * weight.Length + lane]);
            var total = 0f;
            for (var choice = 0; choice < choices; choice++)
                total += MathF.Exp(logits[choice * weight.Length + lane] - largest);
            var logTotal = largest + MathF.Log(total);
            for (var choice = 0; choice < choices; choice++)
            {
                var i = choice * weight.Length + lane;
                var logProbability = logits[i] - logTotal;
                var desired = smoothing / choices + (choice == (int)label[lane] ? 1 - smoothing : 0);
                sums[lane] -= weight[lane] * desired * logProbability;
                dLogits[i] = scale * weight[lane] * (MathF.Exp(logProbability) - desired);
            }
        }
    }
}
