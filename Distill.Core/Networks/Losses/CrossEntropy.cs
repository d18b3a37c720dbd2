using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>Cross-entropy of the categorical head; the label is the index of the choice.</summary>
/// <param name="Smoothing">
/// Share of the target spread evenly over all choices. Begin with 0; raise it, up to 0.05, when the teacher's choices are noisy, lower
/// it when the student wavers where the teacher does not.
/// </param>
public sealed record CrossEntropy(Schedule Smoothing) : Loss
{
    public CrossEntropy()
        : this(0) { }

    public override Head Head => Head.Categorical;

    public override void Check() =>
        Require(Smoothing >= 0 && (float)Smoothing < 1, "smoothing", Smoothing, "at least 0 and below 1");

    protected override void Add(
        Head head,
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> sums
    )
    {
        var smoothing = (float)Smoothing;
        Span<float> normalizer = stackalloc float[Panel.Width];
        Categorical.LogNormalizer(y, normalizer);
        for (var choice = 0; choice < y.Features; choice++)
        for (var lane = 0; lane < y.Lanes; lane++)
        {
            var w = weight[0, lane];
            var logProbability = w == 0 ? 0 : y[choice, lane] - normalizer[lane];
            var desired = smoothing / y.Features + (choice == (int)target[0, lane] ? 1 - smoothing : 0);
            sums[lane] -= w * desired * logProbability;
            dy[choice, lane] = scale * w * (MathF.Exp(logProbability) - desired);
        }
    }
}
