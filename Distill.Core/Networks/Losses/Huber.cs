using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>Mean over rows and actions of e^2 / 2 within +-Delta and Delta (|e| - Delta / 2) outside.</summary>
/// <param name="Delta">
/// Error from which the loss grows linearly. Lower it when few labels are wildly off, raise it when large errors shrink too slowly.
/// </param>
public sealed record Huber(Schedule Delta) : ActionLoss
{
    public Huber()
        : this(1) { }

    public override void Check() => Require(Positive(Delta), "delta", Delta, AboveZero);

    protected override void Compare(
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> sums
    )
    {
        var delta = (float)Delta;
        for (var action = 0; action < y.Features; action++)
        for (var lane = 0; lane < y.Lanes; lane++)
        {
            var w = weight[0, lane];
            var error = w == 0 ? 0 : y[action, lane] - target[action, lane];
            var size = MathF.Abs(error);
            sums[lane] += w * (size <= delta ? 0.5f * error * error : delta * (size - 0.5f * delta));
            dy[action, lane] = scale * w * Math.Clamp(error, -delta, delta);
        }
    }
}
