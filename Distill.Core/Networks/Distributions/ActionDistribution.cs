using Distill.Compute;
using Distill.Networks;

namespace Distill.Networks;

/// <summary>
/// The distribution over actions that a network's outputs describe, on panels. Methods change nothing but their last
/// arguments; per-lane results are <c>[32]</c>.
/// </summary>
internal abstract class ActionDistribution
{
    public static ActionDistribution Of(Head head) =>
        head switch
        {
            Head.Gaussian => new Gaussian(),
            Head.Categorical => new Categorical(),
            _ => throw new NotSupportedException($"A {head} head describes no distribution."),
        };

    /// <summary>Draws one action per lane; the draw is a function of (environment, step).</summary>
    /// <param name="outputs"><c>[outputs, 32]</c>.</param>
    /// <param name="logStd">The Gaussian head's <c>[outputs]</c>; else empty. Likewise below.</param>
    /// <param name="first">Index of lane 0's environment.</param>
    /// <param name="step">Steps since the start of training.</param>
    /// <param name="actions"><c>[action floats, 32]</c>.</param>
    public abstract void Sample(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        RandomStream noise,
        int first,
        long step,
        Span<float> actions
    );

    /// <summary>Natural logarithm of the probability (density) of the actions.</summary>
    public abstract void LogProbability(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        ReadOnlySpan<float> actions,
        Span<float> logProbability
    );

    /// <summary>Entropy, nats.</summary>
    public abstract void Entropy(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        Span<float> entropy
    );

    /// <summary>KL(old || new), nats.</summary>
    public abstract void KlDivergence(
        ReadOnlySpan<float> oldOutputs,
        ReadOnlySpan<float> oldLogStd,
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        Span<float> kl
    );

    /// <summary>Takes the gradients of log-probability and entropy back to the outputs.</summary>
    /// <param name="dLogProbability"><c>[32]</c>.</param>
    /// <param name="dEntropy"><c>[32]</c>.</param>
    /// <param name="dOutputs"><c>[outputs, 32]</c>, overwritten.</param>
    /// <param name="dLogStd"><c>[outputs]</c>, added to.</param>
    public abstract void Backward(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        ReadOnlySpan<float> actions,
        ReadOnlySpan<float> dLogProbability,
        ReadOnlySpan<float> dEntropy,
        Span<float> dOutputs,
        Span<float> dLogStd
    );
}
