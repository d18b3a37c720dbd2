using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>Cross-entropy of the categorical head; the label is the index of the choice.</summary>
/// <param name="Smoothing">Share of the target spread evenly over all choices; 0 to 0.05 for noisy teachers.</param>
public sealed record CrossEntropy(double Smoothing = 0) : Loss
{
    public override Head Head => Head.Categorical;

    public override int LabelSize(int outputs) => 1;

    public override void Check() =>
        Require(Smoothing >= 0 && (float)Smoothing < 1, "smoothing", Smoothing, "at least 0 and below 1");

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
        var smoothing = (float)Smoothing;
        var choices = dy.Length / weight.Length;
        for (var lane = 0; lane < weight.Length; lane++)
        {
            if (weight[lane] == 0)
            {
                for (var i = lane; i < dy.Length; i += weight.Length)
                    dy[i] = 0;
                continue;
            }
            var largest = float.NegativeInfinity;
            for (var choice = 0; choice < choices; choice++)
                largest = MathF.Max(largest, y[choice * weight.Length + lane]);
            var total = 0f;
            for (var choice = 0; choice < choices; choice++)
                total += MathF.Exp(y[choice * weight.Length + lane] - largest);
            var logTotal = largest + MathF.Log(total);
            for (var choice = 0; choice < choices; choice++)
            {
                var i = choice * weight.Length + lane;
                var logProbability = y[i] - logTotal;
                var desired = smoothing / choices + (choice == (int)target[lane] ? 1 - smoothing : 0);
                sums[lane] -= weight[lane] * desired * logProbability;
                dy[i] = scale * weight[lane] * (MathF.Exp(logProbability) - desired);
            }
        }
    }
}
