using Distill.Evaluation;
using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>
/// Whose data an iteration keeps, where the environments have variants with teachers of their own: the rest of its rollout is
/// dropped. In iterations that the teachers drive alone, all of it is kept.
/// </summary>
public abstract record ActiveTeachers
{
    /// <summary>Whether any is left out.</summary>
    public virtual bool Selects => true;

    /// <summary>Chooses among the variants by how well the student does on each in this iteration's rollout.</summary>
    /// <param name="iteration">From 0, for draws.</param>
    /// <param name="order"><c>[variants]</c>, written: those chosen, then others.</param>
    /// <returns>How many are chosen.</returns>
    internal abstract int Choose(
        VariantStatistics statistics,
        RandomStream stream,
        int iteration,
        Span<int> order
    );

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public virtual void Check() { }

    private protected static void CheckNumber(int number) =>
        Require(number >= 1, "number", number, "at least 1");
}

/// <summary>Those of all teachers.</summary>
public sealed record AllActiveTeachers : ActiveTeachers
{
    public override bool Selects => false;

    internal override int Choose(
        VariantStatistics statistics,
        RandomStream stream,
        int iteration,
        Span<int> order
    ) => order.Length;
}

/// <summary>Those on whose variants the student's mean return is the highest.</summary>
/// <param name="Number">
/// How many. Begin with half of them; lower it where hopeless variants hold up the others, raise it when the student forgets the rest.
/// </param>
public sealed record BestActiveTeachers(int Number) : ActiveTeachers
{
    internal override int Choose(
        VariantStatistics statistics,
        RandomStream stream,
        int iteration,
        Span<int> order
    )
    {
        statistics.Rank(order);
        return Number;
    }

    public override void Check() => CheckNumber(Number);
}

/// <summary>Those on whose variants the student's mean return is the lowest.</summary>
/// <param name="Number">
/// How many. Begin with half of them; lower it where few variants fail, raise it when the student forgets the rest.
/// </param>
public sealed record WorstActiveTeachers(int Number) : ActiveTeachers
{
    internal override int Choose(
        VariantStatistics statistics,
        RandomStream stream,
        int iteration,
        Span<int> order
    )
    {
        statistics.Rank(order);
        order.Reverse();
        return Number;
    }

    public override void Check() => CheckNumber(Number);
}

/// <summary>Others in every iteration, at random: to compare the rules above with.</summary>
/// <param name="Number">How many. Raise it for more data in an iteration, lower it for faster iterations.</param>
public sealed record RandomActiveTeachers(int Number) : ActiveTeachers
{
    internal override int Choose(
        VariantStatistics statistics,
        RandomStream stream,
        int iteration,
        Span<int> order
    )
    {
        stream.Permutation(order, (uint)iteration);
        return Number;
    }

    public override void Check() => CheckNumber(Number);
}
