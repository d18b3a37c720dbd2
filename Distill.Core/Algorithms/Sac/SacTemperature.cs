using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>The temperature alpha, learned through its logarithm.</summary>
internal sealed class SacTemperature : IDisposable
{
    private readonly FloatBuffer log = new(Matrix.Padded(1));

    public SacTemperature(double initial, OptimizerConfig optimizer)
    {
        log.Span[0] = (float)Math.Log(initial);
        Optimizer = optimizer.Create(log, maxChunks: 1);
    }

    public Optimizer Optimizer { get; }

    public float Value => MathF.Exp(log.Span[0]);

    /// <summary>One step down the gradient alpha (entropy - target) of the logarithm.</summary>
    public void Step(double entropy, double target, WorkerPool pool)
    {
        Optimizer.Gradient(0)[0] = (float)(Value * (entropy - target));
        Optimizer.Step(pool, 1);
    }

    public void Visit(State state)
    {
        state.Block("log", log.Slice(0, 1));
        state.Part("optimizer", Optimizer.Visit);
    }

    public void Dispose()
    {
        log.Dispose();
        Optimizer.Dispose();
    }
}
