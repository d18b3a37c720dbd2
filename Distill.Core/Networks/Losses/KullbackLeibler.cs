namespace Distill.Networks;

/// <summary>
/// KL(teacher || student) of the distributions over actions, in nats, in closed form: for choices, and for Gaussians (of squashed
/// ones that of the Gaussians, which squashing does not change). The student learns the teacher's deviation, too; the label is
/// all that describes the teacher's distribution.
/// </summary>
public sealed record KullbackLeibler : Loss
{
    public override Head Head => Head.Gaussian;

    public override bool Fits(Head head) => head != Head.Plain;

    public override bool LabelIsDistribution => true;

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
        Span<float> divergence = stackalloc float[y.Lanes];
        var distribution = ActionDistribution.Of(head)!;
        distribution.KlDivergence(target, y, divergence);
        distribution.KlBackward(target, y, scale, dy);
        // What does not count may be infinite or not a number.
        Elementwise.ScaleLanes(dy, weight.Values);
        for (var lane = 0; lane < y.Lanes; lane++)
            sums[lane] += weight[0, lane] == 0 ? 0 : (double)weight[0, lane] * divergence[lane];
    }
}
