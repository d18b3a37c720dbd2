using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>A stretch of a distillation, and an iteration's place in it.</summary>
/// <param name="Name">Who drives: "teacher", "student", "mixed", or a schedule's name.</param>
/// <param name="Number">1 or 2.</param>
/// <param name="Within">The iteration's place in the phase, from 0.</param>
/// <param name="Length">Iterations of the phase.</param>
public readonly record struct ActingPhase(string Name, int Number, int Within, int Length);

/// <summary>
/// Who acts: the probability that the teacher drives, per environment and step, as a function of the iteration. The labels
/// are always the teacher's.
/// </summary>
public abstract record Acting
{
    /// <param name="iteration">From 0.</param>
    /// <returns>In [0, 1].</returns>
    public abstract double TeacherShare(int iteration);

    /// <summary>The phase that an iteration of so many belongs to.</summary>
    public virtual ActingPhase Phase(int iteration, int iterations) =>
        new(PhaseName, 1, iteration, iterations);

    /// <summary>Name of the only phase of a schedule without others.</summary>
    protected virtual string PhaseName => "mixed";

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public virtual void Check() { }
}

/// <summary>
/// Two-stage training: the teacher drives in phase 1, the student in phase 2. Teacher forcing over the first epochs is the
/// same thing.
/// </summary>
/// <param name="Phase1Iterations">
/// Iterations (epochs) that the teacher drives. Begin with 40 % of all iterations; a third to a half is usual. Raise it when
/// the student crashes at once in phase 2, lower it when phase 1 no longer lowers the loss.
/// </param>
public sealed record TeacherUntil(int Phase1Iterations) : Acting
{
    public override double TeacherShare(int iteration) => iteration < Phase1Iterations ? 1 : 0;

    public override ActingPhase Phase(int iteration, int iterations) =>
        iteration < Phase1Iterations
            ? new("teacher", 1, iteration, Math.Min(Phase1Iterations, iterations))
            : new("student", 2, iteration - Phase1Iterations, iterations - Phase1Iterations);

    public override void Check() =>
        Require(Phase1Iterations >= 0, "phase1_iterations", Phase1Iterations, "at least 0");
}

/// <summary>The student drives from the start.</summary>
public sealed record StudentAlways : Acting
{
    public override double TeacherShare(int iteration) => 0;

    protected override string PhaseName => "student";
}

/// <summary>The teacher always drives: behaviour cloning, the student never sees its own mistakes.</summary>
public sealed record TeacherAlways : Acting
{
    public override double TeacherShare(int iteration) => 1;

    protected override string PhaseName => "teacher";
}

/// <summary>beta falls linearly from 1 to 0 (Ross et al. 2011, section 3).</summary>
/// <param name="BetaIterations">
/// Iterations until the student drives alone. Begin with 5 to 20 where iterations are few and long. Raise it when the student
/// crashes as soon as it drives, lower it when the loss falls no further while the teacher does.
/// </param>
public sealed record LinearBeta(int BetaIterations = 15) : Acting
{
    public override double TeacherShare(int iteration) => Schedule.Linear(1, 0, BetaIterations).At(iteration);

    public override void Check() =>
        Require(BetaIterations >= 1, "beta_iterations", BetaIterations, "at least 1");
}

/// <summary>beta = BetaBase^iteration (Ross et al. 2011, section 3).</summary>
/// <param name="BetaBase">
/// In [0, 1]. Begin with 0.3 to 0.7 where iterations are few and long, near 1 where they are many and short. Raise it when the
/// student crashes as soon as it drives, lower it when the loss falls no further while the teacher does.
/// </param>
public sealed record ExponentialBeta(double BetaBase = 0.7) : Acting
{
    public override double TeacherShare(int iteration) => Schedule.Decay(1, BetaBase).At(iteration);

    public override void Check() =>
        Require(BetaBase is >= 0 and <= 1, "beta_base", BetaBase, "between 0 and 1");
}

/// <summary>beta as a setting of its own, which any schedule can be.</summary>
/// <param name="Beta">
/// In [0, 1]; what a schedule gives beyond is cut off. Begin with one that falls from 1 to 0. Raise it where the student alone ends
/// episodes before it sees what matters, lower it where it must learn to recover from its own mistakes.
/// </param>
public sealed record Mixed(Schedule Beta) : Acting
{
    public override double TeacherShare(int iteration) => Math.Clamp(Beta.At(iteration), 0, 1);

    public override void Check() => Require(double.IsFinite(Beta), "beta", Beta, "a number");
}
