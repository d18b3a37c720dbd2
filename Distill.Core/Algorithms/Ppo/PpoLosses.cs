using System.Runtime.Intrinsics;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>The two losses of PPO (Schulman et al. 2017) on one panel. Each returns its weighted sum and writes the gradient of scale * sum.</summary>
internal static class PpoLosses
{
    private const float LargestLogRatio = 60;

    /// <summary>max(-A r, -A clip(r, 1 - c, 1 + c)) with the probability ratio r = exp(log p - log p_old) (equation 7).</summary>
    /// <param name="weight"><c>[32]</c>: 0 for lanes that hold no sample, else 1.</param>
    /// <param name="dualClip">
    /// Ratio beyond which the gradient of an action that turned out badly stops, too (Ye et al. 2020, arXiv 1912.09729, section
    /// "Dual-clip PPO"); infinity for PPO as published.
    /// </param>
    /// <param name="dLogProbability"><c>[32]</c>, overwritten.</param>
    public static double Surrogate(
        ReadOnlySpan<float> logProbability,
        ReadOnlySpan<float> oldLogProbability,
        ReadOnlySpan<float> advantage,
        ReadOnlySpan<float> weight,
        float clip,
        float dualClip,
        float scale,
        Span<float> dLogProbability
    )
    {
        var sum = 0.0;
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            // Finite also for an action that was next to impossible.
            var ratio = Exponential.Of(
                MathF.Min(logProbability[lane] - oldLogProbability[lane], LargestLogRatio)
            );
            var free = -advantage[lane] * ratio;
            var clipped = -advantage[lane] * Math.Clamp(ratio, 1 - clip, 1 + clip);
            var stopped = advantage[lane] < 0 && ratio > dualClip;
            sum += weight[lane] * (stopped ? -advantage[lane] * dualClip : MathF.Max(free, clipped));
            dLogProbability[lane] = free >= clipped && !stopped ? scale * weight[lane] * free : 0;
        }
        return sum;
    }

    /// <summary>max((v - R)^2, (v_clip - R)^2), where v_clip is v kept within c of the old value; without clip (v - R)^2. No factor 1/2, as rsl_rl.</summary>
    /// <param name="clip">Null for the plain squared error.</param>
    /// <param name="dValue"><c>[32]</c>, overwritten.</param>
    public static double Value(
        ReadOnlySpan<float> value,
        ReadOnlySpan<float> oldValue,
        ReadOnlySpan<float> returns,
        ReadOnlySpan<float> weight,
        float? clip,
        float scale,
        Span<float> dValue
    )
    {
        var limit = Vector256.Create(clip ?? float.PositiveInfinity);
        Span<float> losses = stackalloc float[Panel.Width];
        for (var lane = 0; lane < Panel.Width; lane += Vector256<float>.Count)
        {
            var target = Vector256.Create(returns[lane..]);
            var old = Vector256.Create(oldValue[lane..]);
            var own = Vector256.Create(weight[lane..]);
            var v = Vector256.Create(value[lane..]);
            var error = v - target;
            var kept = old + Vector256.Min(Vector256.Max(v - old, -limit), limit) - target;
            var free =
                Vector256.LessThanOrEqual(Vector256.Abs(v - old), limit)
                | Vector256.GreaterThanOrEqual(error * error, kept * kept);
            var counted = Vector256.ConditionalSelect(free, error, kept);
            (own * (counted * counted)).CopyTo(losses[lane..]);
            (Vector256.Create(2 * scale) * own * error & free).CopyTo(dValue[lane..]);
        }
        var sum = 0.0;
        foreach (var loss in losses)
            sum += loss;
        return sum;
    }
}

/// <summary>The losses of PPO, entropy, KL divergence and the distance from the teacher, summed over samples.</summary>
internal readonly record struct PpoLossSums(
    double Surrogate,
    double Value,
    double Entropy,
    double KlDivergence,
    double Behavior
)
{
    /// <exception cref="DistillException">One is not finite.</exception>
    public void RequireFinite(int iteration)
    {
        FiniteWatch.Require(Surrogate, "surrogate loss", iteration);
        FiniteWatch.Require(Value, "value loss", iteration);
        FiniteWatch.Require(Entropy, "entropy", iteration);
        FiniteWatch.Require(KlDivergence, "KL divergence", iteration);
        FiniteWatch.Require(Behavior, "distillation loss", iteration);
    }

    public static PpoLossSums operator +(PpoLossSums a, PpoLossSums b) =>
        new(
            a.Surrogate + b.Surrogate,
            a.Value + b.Value,
            a.Entropy + b.Entropy,
            a.KlDivergence + b.KlDivergence,
            a.Behavior + b.Behavior
        );

    public static PpoLossSums operator *(PpoLossSums a, double factor) =>
        new(
            a.Surrogate * factor,
            a.Value * factor,
            a.Entropy * factor,
            a.KlDivergence * factor,
            a.Behavior * factor
        );
}
