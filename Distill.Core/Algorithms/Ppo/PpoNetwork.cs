using Distill.Datasets;
using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Actor or critic at work: what it reads, its memory in each environment, and what learns it.</summary>
internal sealed class PpoNetwork : IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly ObservationView view;
    private readonly ObservationStatistics? statistics;
    private readonly FloatBuffer memory;

    /// <param name="policy">Is disposed here.</param>
    /// <param name="observes">Whether it looks for itself, not at what the other network was shown.</param>
    public PpoNetwork(
        Policy policy,
        IBatchedEnvironment environment,
        OptimizerConfig optimizer,
        int maxChunks,
        bool observes
    )
    {
        this.environment = environment;
        Policy = policy;
        Observes = observes;
        Optimizer = optimizer.Create(policy.Network, maxChunks);
        view = new ObservationView(environment.Spec, policy.ObservationGroup);
        memory = new FloatBuffer((long)Panel.Count(environment.Count) * policy.MemorySize * Panel.Width);
        if (observes && policy.Normalizer is { } normalizer)
            statistics = new ObservationStatistics(normalizer, environment.Count);
    }

    public Policy Policy { get; }

    public Network Network => Policy.Network;

    public Optimizer Optimizer { get; }

    public bool Observes { get; }

    /// <summary>Its memory in the environments of a panel, <c>[memory, 32]</c>.</summary>
    public Panel Memory(int panel) => Panel.At(memory.Span, panel, Policy.MemorySize);

    /// <summary>What it sees, <c>[inputs, 32]</c>, normalized with the statistics of earlier iterations.</summary>
    /// <param name="counted">Whether the statistics of the next iteration take notice.</param>
    /// <param name="lanes"><c>[32]</c>: 0 for lanes of which they do not; empty for all.</param>
    public void Observe(int panel, Panel observation, bool counted, ReadOnlySpan<byte> lanes = default)
    {
        if (!Observes)
            return;
        view.Observe(environment, panel, observation);
        if (counted)
            statistics?.Add(panel, observation, lanes);
        Policy.Normalizer?.Apply(observation);
    }

    /// <summary>The outputs <c>[output size, 32]</c> for a normalized observation.</summary>
    /// <param name="remember">Whether the memory goes on to the next step.</param>
    public Panel Forward(int panel, Panel observation, bool remember, Workspace own)
    {
        var activations = own.Panel(Network.ActivationSize);
        Network.Forward(observation, Memory(panel), activations, own);
        if (remember)
            Network.CopyMemory(activations, Memory(panel));
        return Network.Output(activations);
    }

    /// <summary>Brings the normalizer up to date with what was seen.</summary>
    public void Normalize() => statistics?.Merge();

    /// <param name="name">"actor" or "critic".</param>
    public void Visit(State state, string name)
    {
        state.Part(name, Network.Visit);
        state.Part($"{name}_optimizer", Optimizer.Visit);
        if (Observes && Policy.Normalizer is { } normalizer)
            state.Part($"{name}_normaliser", normalizer.Visit);
        if (Policy.MemorySize > 0)
            state.Block($"{name}_memory", memory);
    }

    public void Dispose()
    {
        Policy.Dispose();
        Optimizer.Dispose();
        memory.Dispose();
    }
}
