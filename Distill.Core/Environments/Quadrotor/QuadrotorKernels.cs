using Distill.Compute;

namespace Distill.Environments.Quadrotor;

/// <summary>Chooses the width of the kernels; all give the same bits.</summary>
internal static class QuadrotorKernels
{
    public static void Step(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        Span<float> next,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> actions,
        Span<float> reward,
        Span<float> terminated,
        Span<float> truncated,
        Span<float> measures
    )
    {
        switch (Simd.Path)
        {
            case InstructionSet.Avx512:
                if (
                    QuadrotorKernelsW512.Step(
                        rules,
                        first,
                        state,
                        constants,
                        actions,
                        reward,
                        terminated,
                        truncated,
                        measures
                    )
                )
                    Restart(rules, first, state, next, constants, terminated, truncated);
                break;
            case InstructionSet.Avx2:
                if (
                    QuadrotorKernelsW256.Step(
                        rules,
                        first,
                        state,
                        constants,
                        actions,
                        reward,
                        terminated,
                        truncated,
                        measures
                    )
                )
                    Restart(rules, first, state, next, constants, terminated, truncated);
                break;
            default:
                if (
                    QuadrotorKernelsW128.Step(
                        rules,
                        first,
                        state,
                        constants,
                        actions,
                        reward,
                        terminated,
                        truncated,
                        measures
                    )
                )
                    Restart(rules, first, state, next, constants, terminated, truncated);
                break;
        }
    }

    /// <summary>
    /// A new episode in every lane where one of the two marks is set, see <see cref="QuadrotorEpisodesW512.Restart"/>. Few
    /// lanes are, and vectors without any cost nothing, so this never takes the widest vectors.
    /// </summary>
    public static void Restart(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        Span<float> next,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> terminated,
        ReadOnlySpan<float> truncated
    )
    {
        if (Simd.Path == InstructionSet.Portable)
            QuadrotorKernelsW128.Restart(rules, first, state, next, constants, terminated, truncated);
        else
            QuadrotorKernelsW256.Restart(rules, first, state, next, constants, terminated, truncated);
    }

    public static void Observe(
        Span<float> state,
        ReadOnlySpan<float> constants,
        Span<float> observation,
        bool relative,
        bool rotors
    )
    {
        switch (Simd.Path)
        {
            case InstructionSet.Avx512:
                QuadrotorKernelsW512.Observe(state, constants, observation, relative, rotors);
                break;
            case InstructionSet.Avx2:
                QuadrotorKernelsW256.Observe(state, constants, observation, relative, rotors);
                break;
            default:
                QuadrotorKernelsW128.Observe(state, constants, observation, relative, rotors);
                break;
        }
    }

    public static void AdvanceLangevin(
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> noise
    )
    {
        switch (Simd.Path)
        {
            case InstructionSet.Avx512:
                QuadrotorKernelsW512.AdvanceLangevin(state, constants, noise);
                break;
            case InstructionSet.Avx2:
                QuadrotorKernelsW256.AdvanceLangevin(state, constants, noise);
                break;
            default:
                QuadrotorKernelsW128.AdvanceLangevin(state, constants, noise);
                break;
        }
    }
}
