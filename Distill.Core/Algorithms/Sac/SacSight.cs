using Distill.Environments;
using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>What actor or critics see of the environments, and the normalizer that goes by it.</summary>
internal sealed class SacSight(IBatchedEnvironment environment, string group, Normalizer? normalizer)
{
    private readonly ObservationView view = new(environment.Spec, group);
    private readonly ObservationStatistics? statistics = normalizer is null
        ? null
        : new(normalizer, environment.Count);

    /// <summary>Null for none.</summary>
    public Normalizer? Normalizer { get; } = normalizer;

    /// <summary>Writes what is seen, <c>[size, 32]</c>, not normalized.</summary>
    public void Observe(int panel, Panel observation) => view.Observe(environment, panel, observation);

    /// <summary>The statistics of the next iteration take notice.</summary>
    /// <param name="counted"><c>[32]</c>: 0 for lanes of which they do not; empty for all.</param>
    public void Count(int panel, Panel observation, ReadOnlySpan<byte> counted) =>
        statistics?.Add(panel, observation, counted);

    /// <summary>Brings the normalizer up to date with what was counted.</summary>
    public void Normalize() => statistics?.Merge();

    public void Visit(State state) => Normalizer?.Visit(state);
}
