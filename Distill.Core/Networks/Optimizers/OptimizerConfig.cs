using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>How a network follows its gradient: what every optimizer has.</summary>
public abstract record OptimizerConfig
{
    /// <summary>Step size. Raise it while the loss falls slowly and smoothly, lower it when the loss jumps.</summary>
    public Schedule LearningRate { get; init; } = 1e-3;

    /// <summary>
    /// Gradients are scaled down to this global norm; 0 switches it off. It should fire rarely: lower it when the loss
    /// spikes, raise it when the share of clipped steps in the log is high.
    /// </summary>
    public Schedule MaxGradNorm { get; init; } = 1;

    /// <summary>Names of what is kept for each parameter from step to step, for checkpoints.</summary>
    internal abstract IReadOnlyList<string> Moments { get; }

    /// <param name="parameters">What it moves; a multiple of 16.</param>
    /// <param name="maxChunks">Most chunks that a mini-batch will be cut into.</param>
    public abstract Optimizer Create(FloatBuffer parameters, int maxChunks);

    /// <inheritdoc cref="Create(FloatBuffer, int)"/>
    public Optimizer Create(Network network, int maxChunks) => Create(network.Parameters, maxChunks);

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public virtual void Check()
    {
        Require(Positive(LearningRate), "learning_rate", LearningRate, AboveZero);
        Require(
            ZeroOrPositive(MaxGradNorm),
            "max_grad_norm",
            MaxGradNorm,
            $"0 for no clipping, or {AboveZero}"
        );
    }

    /// <summary>Bytes of an optimizer on so many parameters: the moments, and a gradient for each chunk.</summary>
    internal long EstimateBytes(long parameters, int maxChunks) =>
        parameters * (Moments.Count + maxChunks) * sizeof(float);
}
