using Distill.Compute;
using Distill.Environments;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Shows a policy its observation group, normalised with the statistics of earlier iterations, and gathers the statistics
/// for the next one: per panel, so that merging them in the order of panels gives the same bits for any number of threads.
/// </summary>
internal sealed class PpoObserver(IBatchedEnvironment environment, Policy policy)
{
    private readonly int group = environment.Spec.Group(policy.ObservationGroup);
    private readonly double[] sums = Moments(environment, policy);
    private readonly double[] squares = Moments(environment, policy);
    private readonly long[] counts = new long[Panel.Count(environment.Count)];

    private int Size => policy.Network.Spec.Inputs;

    /// <param name="observation"><c>[group size, 32]</c>, written.</param>
    /// <param name="counted">Whether the statistics take notice.</param>
    public void Observe(int panel, Span<float> observation, bool counted)
    {
        environment.Observe(panel, group, observation);
        if (policy.Normaliser is not { } normaliser)
            return;
        if (counted)
        {
            var lanes = Math.Min(Panel.Width, environment.Count - panel * Panel.Width);
            normaliser.Accumulate(
                observation,
                lanes,
                sums.AsSpan(panel * Size, Size),
                squares.AsSpan(panel * Size, Size)
            );
            counts[panel] += lanes;
        }
        normaliser.Apply(observation);
    }

    /// <summary>Merges what was gathered into the policy's normaliser and starts anew.</summary>
    public void Merge()
    {
        if (policy.Normaliser is not { } normaliser)
            return;
        for (var panel = 1; panel < counts.Length; panel++)
        {
            counts[0] += counts[panel];
            for (var i = 0; i < Size; i++)
            {
                sums[i] += sums[panel * Size + i];
                squares[i] += squares[panel * Size + i];
            }
        }
        normaliser.Merge(counts[0], sums.AsSpan(0, Size), squares.AsSpan(0, Size));
        counts.AsSpan().Clear();
        sums.AsSpan().Clear();
        squares.AsSpan().Clear();
    }

    private static double[] Moments(IBatchedEnvironment environment, Policy policy) =>
        policy.Normaliser is { } normaliser
            ? new double[Panel.Count(environment.Count) * normaliser.Size]
            : [];
}
