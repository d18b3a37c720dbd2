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
        Span<float> truncated
    )
    {
        switch (Simd.Path)
        {
            case InstructionSet.Avx512:
                QuadrotorKernels512.Step(
                    rules,
                    first,
                    state,
                    next,
                    constants,
                    actions,
                    reward,
                    terminated,
                    truncated
                );
                break;
            case InstructionSet.Avx2:
                QuadrotorKernels256.Step(
                    rules,
                    first,
                    state,
                    next,
                    constants,
                    actions,
                    reward,
                    terminated,
                    truncated
                );
                break;
            default:
                QuadrotorKernels128.Step(
                    rules,
                    first,
                    state,
                    next,
                    constants,
                    actions,
                    reward,
                    terminated,
                    truncated
                );
                break;
        }
    }

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
        switch (Simd.Path)
        {
            case InstructionSet.Avx512:
                QuadrotorKernels512.Restart(rules, first, state, next, constants, terminated, truncated);
                break;
            case InstructionSet.Avx2:
                QuadrotorKernels256.Restart(rules, first, state, next, constants, terminated, truncated);
                break;
            default:
                QuadrotorKernels128.Restart(rules, first, state, next, constants, terminated, truncated);
                break;
        }
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
