using System.Runtime.Intrinsics;

namespace Distill.Networks;

/// <summary>Mean over rows and actions of (y - target)^2.</summary>
public sealed record MeanSquared : ActionLoss
{
    protected override void Compare(
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> sums
    )
    {
        var slope = Vector256.Create(2 * scale);
        for (var action = 0; action < y.Features; action++)
        for (var lane = 0; lane < y.Lanes; lane += Vector256<float>.Count)
        {
            var i = action * y.Lanes + lane;
            var w = Vector256.Create<float>(weight.Values[lane..]);
            // Left out, not multiplied by 0: what does not count may be infinite or not a number.
            var counted = ~Vector256.Equals(w, Vector256<float>.Zero);
            var error =
                Vector256.Create<float>(y.Values[i..]) - Vector256.Create<float>(target.Values[i..])
                & counted;
            (slope * w * error).CopyTo(dy.Values[i..]);
            var (low, high) = Vector256.Widen(w * (error * error));
            (Vector256.Create<double>(sums[lane..]) + low).CopyTo(sums[lane..]);
            (Vector256.Create<double>(sums[(lane + 4)..]) + high).CopyTo(sums[(lane + 4)..]);
        }
    }
}
