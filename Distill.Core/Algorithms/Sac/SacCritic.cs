using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Q(s, a), and the slow copy of it that targets are made from.</summary>
internal sealed class SacCritic : IDisposable
{
    /// <param name="reads">Names of what it reads: its observation group and the action.</param>
    /// <param name="normalizes">Whether the observations, the first of it, are normalized.</param>
    public SacCritic(
        NetworkSpec spec,
        string reads,
        bool normalizes,
        RandomStream stream,
        OptimizerConfig optimizer,
        int maxChunks
    )
    {
        Policy = new Policy(spec, reads, normalizes);
        Target = new Network(spec);
        Network.Initialize(stream);
        Network.CopyTo(Target);
        Optimizer = optimizer.Create(Network, maxChunks);
    }

    /// <summary>The critic as a policy of observation and action, to be saved; its normalizer is as it was last shown.</summary>
    public Policy Policy { get; }

    public Network Network => Policy.Network;

    public Network Target { get; }

    public Optimizer Optimizer { get; }

    /// <summary>The target moves a share of its way to the critic.</summary>
    public void Follow(float share) =>
        Elementwise.Approach(Network.Parameters.Span, Target.Parameters.Span, share);

    /// <summary>Shows its policy what normalizes the observations; actions stay as they are.</summary>
    public void Show(Normalizer ofObservations)
    {
        var own = Policy.Normalizer!;
        ofObservations.Mean.CopyTo(own.Mean, 0);
        ofObservations.Variance.CopyTo(own.Variance, 0);
        var ofActions = own.Variance.AsSpan(ofObservations.Size);
        ofActions.Fill((float)Math.Pow(1 - own.Epsilon, 2));
        own.Count = ofObservations.Count;
        own.Refresh();
    }

    public void Visit(State state)
    {
        state.Part("network", Network.Visit);
        state.Part("target", Target.Visit);
        state.Part("optimizer", Optimizer.Visit);
    }

    public void Dispose()
    {
        Policy.Dispose();
        Target.Dispose();
        Optimizer.Dispose();
    }
}
