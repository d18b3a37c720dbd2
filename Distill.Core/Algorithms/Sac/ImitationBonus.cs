using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>
/// A bonus in the critics' target for doing what a guide would do: weight x L with L = prod_i exp(-((a_i - mu_i) / sigma_i)^2 / 2), which is
/// 1 for the guide's own action. A student that begins with a guide's advice outgrows it where the weight fades to 0, and is from
/// then on trained by SAC alone.
/// </summary>
public sealed record ImitationBonus
{
    /// <summary>
    /// What an action just like the guide's is worth, in units of reward per step; where it is 0 from some iteration to the last, the
    /// guide is no longer asked. Raise it where rewards are large beside it or the guide is good, lower it, or let it fade sooner, where
    /// the student is held back.
    /// </summary>
    public Schedule Weight { get; init; } = Schedule.Linear(1, 0, 500);

    /// <summary>
    /// Standard deviation sigma of each action number; null for the guide's own, which a guide without a distribution over actions
    /// does not have. Raise it where the bonus is nearly always 0, lower it for closer imitation: a tenth to begin with.
    /// </summary>
    public double? Deviation { get; init; }

    /// <summary>
    /// The least that sigma is taken for. Raise it where a guide that is too sure of itself gives a bonus to nothing but its very action,
    /// lower it where that is what is wanted.
    /// </summary>
    public double LeastDeviation { get; init; } = 1e-4;

    internal void Check()
    {
        Require(ZeroOrPositive(Weight), "imitation.weight", Weight, ZeroOrAbove);
        Require(
            Deviation is null || Positive(Deviation.Value),
            "imitation.deviation",
            Deviation,
            "above 0, or null"
        );
        Require(Positive(LeastDeviation), "imitation.least_deviation", LeastDeviation, AboveZero);
    }
}
