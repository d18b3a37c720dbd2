namespace Distill.Environments.CartPole;

/// <summary>What panels of cart poles do; all versions give the same bits.</summary>
internal abstract class CartPoleKernels
{
    public static Kernels<CartPoleKernels> All { get; } = new(typeof(CartPoleKernelsW512));

    /// <summary>One step of the whole panel, see <see cref="IBatchedEnvironment.Step"/>.</summary>
    /// <param name="first">Index of the environment in lane 0.</param>
    public abstract void Step(
        int episodeLimit,
        RandomStream stream,
        int first,
        Span<float> state,
        ReadOnlySpan<float> actions,
        StepOutcome outcome
    );

    /// <summary>A new episode in every lane.</summary>
    public abstract void Reset(RandomStream stream, int first, Span<float> state);
}
