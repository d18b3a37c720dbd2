namespace Distill.Environments.Quadrotor;

/// <summary>What panels of quadrotors do; all versions give the same bits.</summary>
internal abstract class QuadrotorKernels
{
    public static Kernels<QuadrotorKernels> All { get; } = new(typeof(QuadrotorKernelsW512));

    /// <summary>
    /// One step of the whole panel, see <see cref="IBatchedEnvironment.Step"/>, but for the new episodes where one ended.
    /// </summary>
    /// <param name="first">Index of the environment in lane 0.</param>
    /// <returns>Whether an episode ended.</returns>
    public abstract bool Step(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> actions,
        StepOutcome outcome
    );

    /// <summary>A new episode in every lane where one of the two marks is set, see <see cref="QuadrotorEpisodesW512.Restart"/>.</summary>
    public abstract void Restart(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        Span<float> next,
        ReadOnlySpan<float> constants,
        StepOutcome ended
    );

    /// <summary>Writes the components one after the other.</summary>
    public abstract void Observe(
        ReadOnlySpan<QuadrotorComponent> components,
        Span<float> state,
        ReadOnlySpan<float> constants,
        Span<float> observation
    );

    /// <summary>Advances the Langevin references with given standard normal draws, <c>[3, 32]</c>; tests drive it.</summary>
    public abstract void AdvanceLangevin(
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> noise
    );
}
