using System.Runtime.Intrinsics;

namespace Distill.Networks;

/// <summary>Mean over rows and actions of (y - target)^2.</summary>
public sealed record MeanSquared : Loss
{
    public override int TermsPerRow(int outputs) => outputs;

    protected override void Add(
        ReadOnlySpan<float> y,
        ReadOnlySpan<float> target,
        ReadOnlySpan<float> weight,
        float scale,
        ReadOnlySpan<float> logStd,
        Span<float> dy,
        Span<float> dLogStd,
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
}
