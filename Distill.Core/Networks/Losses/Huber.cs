using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>Mean over rows and actions of e^2 / 2 within +-Delta and Delta (|e| - Delta / 2) outside.</summary>
/// <param name="Delta">Error from which the loss grows linearly. Lower it when few labels are wildly off.</param>
public sealed record Huber(double Delta = 1) : Loss
{
    public override int TermsPerRow(int outputs) => outputs;

    public override void Check() => Require(Positive(Delta), "delta", Delta, AboveZero);

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
        var delta = (float)Delta;
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
}
