namespace Distill.Networks;

/// <summary>Negative log-likelihood of the label under the Gaussian head, summed over actions; trains log_std too.</summary>
public sealed record GaussianLogLikelihood : Loss
{
    public override Head Head => Head.Gaussian;

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
        const float HalfLogTwoPi = 0.918938533f;
        for (var output = 0; output < logStd.Length; output++)
        {
            var inverse = MathF.Exp(-logStd[output]);
            var change = 0.0;
            for (var lane = 0; lane < weight.Length; lane++)
            {
                var i = output * weight.Length + lane;
                var deviation = weight[lane] == 0 ? 0 : (y[i] - target[i]) * inverse;
                sums[lane] += weight[lane] * (0.5f * deviation * deviation + logStd[output] + HalfLogTwoPi);
                dy[i] = scale * weight[lane] * deviation * inverse;
                change += scale * weight[lane] * (1 - deviation * deviation);
            }
            dLogStd[output] += (float)change;
        }
    }
}
