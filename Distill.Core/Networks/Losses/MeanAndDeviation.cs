using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>
/// Mean over rows and actions of (a - a_T)^2 + w (l - l_T)^2 n / max(n, -l_T), where a is the likeliest action, l the logarithm of the
/// standard deviation (before squashing), T the teacher, w the weight and n the narrowness: with a squashed head the loss by which Liu et al.'s
/// collective network is distilled. Unlike the divergence it stays finite where the teacher's deviation is next to nothing. The label is
/// all that describes the teacher's distribution; of experts that give actions alone, the first term is <see cref="MeanSquared"/>.
/// </summary>
/// <param name="DeviationWeight">
/// Weight of the deviation beside the action. Lower it, to 0, when actions are learned too slowly; raise it when the student is to explore
/// as its teacher does.
/// </param>
/// <param name="Narrowness">
/// The size of a negative log_std of the teacher's from which its error counts less, in proportion. Raise it when the deviations of
/// narrow teachers matter, lower it when they take up the loss.
/// </param>
public sealed record MeanAndDeviation(Schedule DeviationWeight, Schedule Narrowness) : Loss
{
    public MeanAndDeviation()
        : this(0.2, 2) { }

    public override Head Head => Head.SquashedGaussian;

    public override bool Fits(Head head) => head is not (Head.Plain or Head.Categorical);

    public override bool LabelIsDistribution => true;

    public override int TermsPerRow(int outputs) => outputs;

    public override void Check()
    {
        Require(ZeroOrPositive(DeviationWeight), "deviation_weight", DeviationWeight, ZeroOrAbove);
        Require(Positive(Narrowness), "narrowness", Narrowness, AboveZero);
    }

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
        var actions = y.Features / 2;
        var (deviationWeight, narrowness) = ((float)DeviationWeight, (float)Narrowness);
        // What will be gradients holds the actions for a moment.
        var action = dy.Rows(0, actions);
        var wanted = dy.Rows(actions, actions);
        ActionDistribution.Of(head)!.Mode(y, action);
        ActionDistribution.Of(head)!.Mode(target, wanted);
        for (var i = 0; i < actions; i++)
        for (var lane = 0; lane < y.Lanes; lane++)
        {
            // Left out, not multiplied by 0: what does not count may be infinite or not a number.
            if (weight[0, lane] == 0)
            {
                action[i, lane] = wanted[i, lane] = 0;
                continue;
            }
            var w = weight[0, lane];
            var (a, logStd) = (action[i, lane], target[actions + i, lane]);
            var error = a - wanted[i, lane];
            var deviation = y[actions + i, lane] - logStd;
            var share = deviationWeight * narrowness / MathF.Max(narrowness, -logStd);
            sums[lane] += w * (error * error + share * deviation * deviation);
            var slope = head == Head.SquashedGaussian ? (1 - a) * (1 + a) : 1;
            action[i, lane] = scale * w * 2 * error * slope;
            wanted[i, lane] = scale * w * 2 * share * deviation;
        }
    }
}
