using Distill.Compute;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Working memory for one thread that runs an actor and a critic.</summary>
internal sealed class PpoScratch(Policy actor, Policy critic, SampleLayout layout) : IDisposable
{
    private readonly FloatBuffer sample = new(layout.Recorded * Panel.Width);
    private readonly FloatBuffer actorActivations = new(actor.Network.ActivationSize * Panel.Width);
    private readonly FloatBuffer criticActivations = new(critic.Network.ActivationSize * Panel.Width);
    private readonly FloatBuffer outputGradient = new(actor.Network.Spec.Outputs * Panel.Width);
    private readonly FloatBuffer network = new(
        Math.Max(actor.Network.ScratchSize, critic.Network.ScratchSize)
    );

    /// <summary>The recorded parts of the panel that is being collected.</summary>
    public Span<float> Sample => sample.Span;

    /// <summary>Of the last forward pass; backward reads them.</summary>
    public Span<float> ActorActivations => actorActivations.Span;

    /// <inheritdoc cref="ActorActivations"/>
    public Span<float> CriticActivations => criticActivations.Span;

    /// <summary>Gradient of the actor's outputs, <c>[outputs, 32]</c>.</summary>
    public Span<float> OutputGradient => outputGradient.Span;

    public Span<float> Network => network.Span;

    /// <returns>The actor's outputs <c>[outputs, 32]</c>.</returns>
    public Span<float> ForwardActor(ReadOnlySpan<float> observation) =>
        Forward(actor.Network, observation, ActorActivations);

    /// <returns>The critic's values <c>[32]</c>.</returns>
    public Span<float> ForwardCritic(ReadOnlySpan<float> observation) =>
        Forward(critic.Network, observation, CriticActivations);

    public void Dispose()
    {
        sample.Dispose();
        actorActivations.Dispose();
        criticActivations.Dispose();
        outputGradient.Dispose();
        network.Dispose();
    }

    private Span<float> Forward(Network of, ReadOnlySpan<float> observation, Span<float> activations)
    {
        of.Forward(observation, [], activations, Network);
        return of.Output(activations);
    }
}
