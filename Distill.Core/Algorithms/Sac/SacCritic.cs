using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>Q(s, a), and the slow copy of it that targets are made from.</summary>
internal sealed class SacCritic : IDisposable
{
    public SacCritic(NetworkSpec spec, RandomStream stream, OptimizerConfig optimizer, int maxChunks)
    {
        (Network, Target) = (new Network(spec), new Network(spec));
        Network.Initialize(stream);
        Network.CopyTo(Target);
        Optimizer = optimizer.Create(Network, maxChunks);
    }

    public Network Network { get; }

    public Network Target { get; }

    public Optimizer Optimizer { get; }

    /// <summary>The target moves a share of its way to the critic.</summary>
    public void Follow(float share) =>
        Elementwise.Approach(Network.Parameters.Span, Target.Parameters.Span, share);

    public void Visit(State state)
    {
        state.Part("network", Network.Visit);
        state.Part("target", Target.Visit);
        state.Part("optimizer", Optimizer.Visit);
    }

    public void Dispose()
    {
        Network.Dispose();
        Target.Dispose();
        Optimizer.Dispose();
    }
}
