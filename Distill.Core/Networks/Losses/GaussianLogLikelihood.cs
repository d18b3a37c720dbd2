namespace Distill.Networks;

/// <summary>Negative log-likelihood of the label under the Gaussian head, summed over actions; trains log_std too.</summary>
public sealed record GaussianLogLikelihood : Loss
{
    public override Head Head => Head.Gaussian;

    public override bool Fits(Head head) => head is not (Head.Plain or Head.Categorical);

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
        Span<float> logProbability = stackalloc float[y.Lanes];
        Span<float> dLogProbability = stackalloc float[y.Lanes];
        Span<float> dEntropy = stackalloc float[y.Lanes];
        var distribution = ActionDistribution.Of(head)!;
        distribution.LogProbability(y, target, logProbability);
        dLogProbability.Fill(-scale);
        dEntropy.Clear();
        distribution.Backward(y, target, dLogProbability, dEntropy, dy);
        // What does not count may be infinite or not a number.
        Elementwise.ScaleLanes(dy, weight.Values);
        for (var lane = 0; lane < y.Lanes; lane++)
            sums[lane] -= weight[0, lane] == 0 ? 0 : (double)weight[0, lane] * logProbability[lane];
    }
}
