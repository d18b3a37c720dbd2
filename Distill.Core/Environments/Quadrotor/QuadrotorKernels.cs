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
                    QuadrotorKernels512.Step(
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
                    QuadrotorKernels256.Step(
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
                    QuadrotorKernels128.Step(
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
    /// A new episode in every lane where one of the two marks is set, see <see cref="QuadrotorEpisodes512.Restart"/>. Few
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
            QuadrotorKernels128.Restart(rules, first, state, next, constants, terminated, truncated);
        else
            QuadrotorKernels256.Restart(rules, first, state, next, constants, terminated, truncated);
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
                QuadrotorKernels512.Observe(state, constants, observation, relative, rotors);
                break;
            case InstructionSet.Avx2:
                QuadrotorKernels256.Observe(state, constants, observation, relative, rotors);
                break;
            default:
                QuadrotorKernels128.Observe(state, constants, observation, relative, rotors);
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
                QuadrotorKernels512.AdvanceLangevin(state, constants, noise);
                break;
            case InstructionSet.Avx2:
                QuadrotorKernels256.AdvanceLangevin(state, constants, noise);
                break;
            default:
                QuadrotorKernels128.AdvanceLangevin(state, constants, noise);
                break;
        }
    }
}
