using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using static Distill.Compute.VectorsW512;
using static Distill.Environments.Quadrotor.QuadrotorConstant;
using static Distill.Environments.Quadrotor.QuadrotorField;
using static Distill.Environments.Quadrotor.QuadrotorRowsW512;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// The L2F simulator (rl-tools, commit e43ae4bc; Eschmann et al., "Learning to Fly in Seconds", 2024) on one panel:
/// rewards, observations, and the order in which the stages of a step come. Each method is one stage for all 32 lanes.
/// </summary>
internal sealed class QuadrotorKernelsW512 : QuadrotorKernels
{
    [SkipLocalsInit]
    public override bool Step(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> actions,
        StepOutcome outcome
    )
    {
        CheckLengths(state, constants);
        ref var s = ref MemoryMarshal.GetReference(state);
        ref var c = ref MemoryMarshal.GetReference(constants);
        ref var a = ref MemoryMarshal.GetReference(actions[..(4 * Panel.Width)]);
        ref var r = ref MemoryMarshal.GetReference(outcome.Reward);
        ref var end = ref MemoryMarshal.GetReference(outcome.Terminated);
        ref var cut = ref MemoryMarshal.GetReference(outcome.Truncated);
        ref var scratch = ref MemoryMarshal.GetReference(
            Panel.Aligned(stackalloc float[QuadrotorDynamicsW512.ScratchRows * Panel.Width + Panel.Padding])
        );

        Reward(ref s, ref c, ref a, ref r);
        if (rules.VelocityCosts)
            RewardVelocities(ref s, ref c, ref r);
        QuadrotorDynamicsW512.Rotors(ref s, ref c, ref a, ref scratch);
        QuadrotorDynamicsW512.AngularVelocities(ref s, ref c, ref scratch);
        QuadrotorDynamicsW512.Attitude(ref s, ref c, ref scratch);
        switch (rules.Motion)
        {
            case ReferenceMotion.Langevin:
                QuadrotorReferencesW512.DrawNoise(rules.LangevinStream, first, ref s, ref scratch);
                QuadrotorReferencesW512.AdvanceLangevin(ref s, ref c, ref scratch);
                break;
            case ReferenceMotion.FigureEight:
                QuadrotorReferencesW512.AdvanceFigureEight(rules, ref s, ref c);
                break;
        }
        if (outcome.Measures.Length > 0)
            QuadrotorObservationsW512.Measure(
                ref s,
                ref MemoryMarshal.GetReference(
                    outcome.Measures[..(QuadrotorViews.Measures.Count * Panel.Width)]
                )
            );
        return QuadrotorEpisodesW512.Terminate(rules, ref s, ref c, ref r, ref end, ref cut);
    }

    public override void Restart(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        Span<float> next,
        ReadOnlySpan<float> constants,
        StepOutcome ended
    )
    {
        CheckLengths(state, constants);
        CheckLengths(next, constants);
        QuadrotorEpisodesW512.Restart(
            rules.ResetStream,
            first,
            ref MemoryMarshal.GetReference(state),
            ref MemoryMarshal.GetReference(next),
            ref MemoryMarshal.GetReference(constants),
            ref MemoryMarshal.GetReference(ended.Terminated),
            ref MemoryMarshal.GetReference(ended.Truncated)
        );
    }

    public override void Observe(
        ReadOnlySpan<QuadrotorComponent> components,
        Span<float> state,
        ReadOnlySpan<float> constants,
        Span<float> observation
    )
    {
        CheckLengths(state, constants);
        QuadrotorObservationsW512.Observe(
            components,
            ref MemoryMarshal.GetReference(state),
            ref MemoryMarshal.GetReference(constants),
            ref MemoryMarshal.GetReference(observation)
        );
    }

    public override void AdvanceLangevin(
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> noise
    )
    {
        CheckLengths(state, constants);
        QuadrotorReferencesW512.AdvanceLangevin(
            ref MemoryMarshal.GetReference(state),
            ref MemoryMarshal.GetReference(constants),
            ref MemoryMarshal.GetReference(noise[..(3 * Panel.Width)])
        );
    }

    private static void CheckLengths(ReadOnlySpan<float> state, ReadOnlySpan<float> constants)
    {
        Debug.Assert(state.Length == QuadrotorFields.Total * Panel.Width);
        Debug.Assert(constants.Length == QuadrotorConstants.Total * Panel.Width);
    }

    /// <summary>Reward of a step that does not terminate, from the state before it; then the action becomes the previous one.</summary>
    private static void Reward(ref float state, ref float constants, ref float actions, ref float reward)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var distance = Length(QuadrotorObservationsW512.PositionError(ref state, lane));
            distance = Vector512.MinNative(distance, Load(ref constants, PositionClip, lane));

            // In the first step of an episode the previous action counts as 0.
            var later = Vector512.GreaterThan(
                Load(ref state, QuadrotorField.Step, lane),
                Vector512<float>.Zero
            );
            var change = Vector512<float>.Zero;
            for (var rotor = 0; rotor < 4; rotor++)
            {
                var action = Load(ref actions, rotor, lane);
                var difference = action - (Load(ref state, PreviousAction + rotor, lane) & later);
                change = Vector512.FusedMultiplyAdd(difference, difference, change);
                Store(action, ref state, PreviousAction + rotor, lane);
            }

            var value = Load(ref constants, RewardConstant, lane);
            value -= Load(ref constants, PositionWeight, lane) * distance;
            value -=
                Load(ref constants, YawWeight, lane)
                * ArcCosOneMinus(Vector512.Abs(Load(ref state, Orientation + 3, lane)));
            value -= Load(ref constants, ActionChangeWeight, lane) * Vector512.Sqrt(change);
            Store(value, ref reward, 0, lane);
        }
    }

    /// <summary>
    /// arccos(1 - x) for x in [0, 1], absolute error below 3e-7: sqrt(2 x) times a polynomial, which keeps the digits that
    /// 1 - x would lose. Interpolated in the Chebyshev nodes of [0, 1].
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> ArcCosOneMinus(Vector512<float> x)
    {
        var p = Vector512.Create(8.568280e-4f);
        p = Vector512.FusedMultiplyAdd(p, x, Vector512.Create(-1.4075971e-3f));
        p = Vector512.FusedMultiplyAdd(p, x, Vector512.Create(2.3606173e-3f));
        p = Vector512.FusedMultiplyAdd(p, x, Vector512.Create(1.0457118e-3f));
        p = Vector512.FusedMultiplyAdd(p, x, Vector512.Create(5.8101062e-3f));
        p = Vector512.FusedMultiplyAdd(p, x, Vector512.Create(1.87202860e-2f));
        p = Vector512.FusedMultiplyAdd(p, x, Vector512.Create(8.33347738e-2f));
        p = Vector512.FusedMultiplyAdd(p, x, Vector512<float>.One);
        return p * Vector512.Sqrt(x + x);
    }

    /// <summary>The costs of velocity error and angular velocity, which the published parameters do not charge.</summary>
    private static void RewardVelocities(ref float state, ref float constants, ref float reward)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var velocity = Vector512<float>.Zero;
            var angular = Vector512<float>.Zero;
            for (var i = 0; i < 3; i++)
            {
                var v = Load(ref state, Velocity + i, lane) - Load(ref state, ReferenceVelocity + i, lane);
                var w = Load(ref state, AngularVelocity + i, lane);
                velocity = Vector512.FusedMultiplyAdd(v, v, velocity);
                angular = Vector512.FusedMultiplyAdd(w, w, angular);
            }
            var value = Load(ref reward, 0, lane);
            value -= Load(ref constants, VelocityWeight, lane) * Vector512.Sqrt(velocity);
            value -= Load(ref constants, AngularVelocityWeight, lane) * Vector512.Sqrt(angular);
            Store(value, ref reward, 0, lane);
        }
    }
}
