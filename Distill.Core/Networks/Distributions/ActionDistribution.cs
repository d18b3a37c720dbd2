namespace Distill.Networks;

/// <summary>
/// The distribution over actions that a network's outputs describe, on panels. Methods change nothing but their last
/// arguments; per-lane results are <c>[32]</c>.
/// </summary>
internal abstract class ActionDistribution
{
    private static readonly Gaussian Normal = new();
    private static readonly SquashedGaussian Squashed = new();
    private static readonly Categorical Choice = new();

    /// <summary>What a head's outputs describe; null if they are the action itself.</summary>
    public static ActionDistribution? Of(Head head) =>
        head switch
        {
            Head.Gaussian or Head.StateDependentStd or Head.StateDependentLogStd => Normal,
            Head.SquashedGaussian => Squashed,
            Head.Categorical => Choice,
            _ => null,
        };

    /// <summary>What a network's last layer becomes under a head, to give all that describes the distribution.</summary>
    /// <param name="last">One output for each number of the action, or for each choice.</param>
    public static IEnumerable<LayerSpec> Output(Head head, LayerSpec last)
    {
        // As many as there can be, which is refused as too large, where twice as many cannot be counted.
        var twice = last with
        {
            Size = (int)Math.Min(2L * last.Size, int.MaxValue),
        };
        return head switch
        {
            Head.Gaussian => [last, new GaussianOutput(last.Size)],
            Head.StateDependentStd => [twice, StateDependentOutput.OfStd(last.Size)],
            Head.StateDependentLogStd => [twice, StateDependentOutput.OfLogStd(last.Size)],
            Head.SquashedGaussian => [twice, StateDependentOutput.Squashed(last.Size)],
            _ => [last],
        };
    }

    /// <summary>The likeliest action of each lane.</summary>
    /// <param name="outputs"><c>[output size, 32]</c>.</param>
    /// <param name="actions"><c>[action floats, 32]</c>.</param>
    public abstract void Mode(Panel outputs, Panel actions);

    /// <summary>Draws one action per lane; the draw is a function of (environment, step).</summary>
    /// <param name="first">Index of lane 0's environment.</param>
    /// <param name="step">Steps since the start of training.</param>
    public abstract void Sample(Panel outputs, RandomStream noise, int first, long step, Panel actions);

    /// <summary>Natural logarithm of the probability (density) of the actions.</summary>
    public abstract void LogProbability(Panel outputs, Panel actions, Span<float> logProbability);

    /// <summary>Entropy, nats.</summary>
    public abstract void Entropy(Panel outputs, Span<float> entropy);

    /// <summary>KL(old || new), nats.</summary>
    public abstract void KlDivergence(Panel oldOutputs, Panel outputs, Span<float> kl);

    /// <summary>The gradient of scale x KL(old || new) with respect to the new outputs.</summary>
    /// <param name="dOutputs"><c>[output size, 32]</c>, overwritten.</param>
    public abstract void KlBackward(Panel oldOutputs, Panel outputs, float scale, Panel dOutputs);

    /// <summary>Takes the gradients of log-probability and entropy back to the outputs.</summary>
    /// <param name="dLogProbability"><c>[32]</c>.</param>
    /// <param name="dEntropy"><c>[32]</c>.</param>
    /// <param name="dOutputs"><c>[output size, 32]</c>, overwritten.</param>
    public abstract void Backward(
        Panel outputs,
        Panel actions,
        ReadOnlySpan<float> dLogProbability,
        ReadOnlySpan<float> dEntropy,
        Panel dOutputs
    );
}
