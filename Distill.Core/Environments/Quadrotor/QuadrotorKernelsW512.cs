using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Distill.Compute;
using static Distill.Environments.Quadrotor.QuadrotorConstant;
using static Distill.Environments.Quadrotor.QuadrotorField;
using static Distill.Environments.Quadrotor.QuadrotorRowsW512;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// The L2F simulator (rl-tools, commit e43ae4bc; Eschmann et al., "Learning to Fly in Seconds", 2024) on one panel:
/// rewards, observations, and the order in which the stages of a step come. Each method is one stage for all 32 lanes.
/// </summary>
internal static class QuadrotorKernelsW512
{
    /// <summary>
    /// One step of the whole panel, see <see cref="IBatchedEnvironment.Step"/>, but for the new episodes where one ended.
    /// </summary>
    /// <param name="first">Index of the environment in lane 0.</param>
    /// <returns>Whether an episode ended.</returns>
    [SkipLocalsInit]
    public static bool Step(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> actions,
        Span<float> reward,
        Span<float> terminated,
        Span<float> truncated,
        Span<float> measures
    )
    {
        CheckLengths(state, constants);
        ref var s = ref MemoryMarshal.GetReference(state);
        ref var c = ref MemoryMarshal.GetReference(constants);
        ref var a = ref MemoryMarshal.GetReference(actions[..(4 * Panel.Width)]);
        ref var r = ref MemoryMarshal.GetReference(reward[..Panel.Width]);
        ref var end = ref MemoryMarshal.GetReference(terminated[..Panel.Width]);
        ref var cut = ref MemoryMarshal.GetReference(truncated[..Panel.Width]);
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
        if (measures.Length > 0)
            Measure(
                ref s,
                ref MemoryMarshal.GetReference(measures[..(QuadrotorViews.Measures.Count * Panel.Width)])
            );
        return QuadrotorEpisodesW512.Terminate(rules, ref s, ref c, ref r, ref end, ref cut);
    }

    /// <summary>A new episode in every lane where one of the two marks is set.</summary>
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
        CheckLengths(state, constants);
        CheckLengths(next, constants);
        QuadrotorEpisodesW512.Restart(
            rules.ResetStream,
            first,
            ref MemoryMarshal.GetReference(state),
            ref MemoryMarshal.GetReference(next),
            ref MemoryMarshal.GetReference(constants),
            ref MemoryMarshal.GetReference(terminated[..Panel.Width]),
            ref MemoryMarshal.GetReference(truncated[..Panel.Width])
        );
    }

    /// <summary>
    /// Position, rotation matrix (row-major), velocity, angular velocity and previous action; 22 rows, and four more with
    /// the rotor states mapped to [-1, 1].
    /// </summary>
    /// <param name="relative">Position and velocity relative to the reference.</param>
    public static void Observe(
        Span<float> state,
        ReadOnlySpan<float> constants,
        Span<float> observation,
        bool relative,
        bool rotors
    )
    {
        CheckLengths(state, constants);
        ref var s = ref MemoryMarshal.GetReference(state);
        ref var o = ref MemoryMarshal.GetReference(observation[..((rotors ? 26 : 22) * Panel.Width)]);
        ObserveMotion(ref s, ref o, relative);
        if (rotors)
            ObserveRotors(ref s, ref MemoryMarshal.GetReference(constants), ref o);
    }

    /// <summary>Advances the Langevin references with given standard normal draws, <c>[3, 32]</c>; tests drive it.</summary>
    public static void AdvanceLangevin(
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
            var x = Load(ref state, Position, lane) - Load(ref state, ReferencePosition, lane);
            var y = Load(ref state, Position + 1, lane) - Load(ref state, ReferencePosition + 1, lane);
            var z = Load(ref state, Position + 2, lane) - Load(ref state, ReferencePosition + 2, lane);
            var distance = Vector512.Sqrt(
                Vector512.FusedMultiplyAdd(x, x, Vector512.FusedMultiplyAdd(y, y, z * z))
            );
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

    /// <summary>The rows of <see cref="QuadrotorViews.Measures"/>.</summary>
    private static void Measure(ref float state, ref float measures)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var position = Vector512<float>.Zero;
            var velocity = Vector512<float>.Zero;
            for (var i = 0; i < 3; i++)
            {
                var p = Load(ref state, Position + i, lane) - Load(ref state, ReferencePosition + i, lane);
                var v = Load(ref state, Velocity + i, lane) - Load(ref state, ReferenceVelocity + i, lane);
                position = Vector512.FusedMultiplyAdd(p, p, position);
                velocity = Vector512.FusedMultiplyAdd(v, v, velocity);
            }
            Store(Vector512.Sqrt(position), ref measures, 0, lane);
            Store(Vector512.Sqrt(velocity), ref measures, 1, lane);
        }
    }

    private static void ObserveMotion(ref float state, ref float observation, bool relative)
    {
        var share = Vector512.Create(relative ? -1f : 0f);
        var one = Vector512<float>.One;
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            for (var i = 0; i < 3; i++)
            {
                var position = Load(ref state, Position + i, lane);
                var velocity = Load(ref state, Velocity + i, lane);
                position = Vector512.FusedMultiplyAdd(
                    share,
                    Load(ref state, ReferencePosition + i, lane),
                    position
                );
                velocity = Vector512.FusedMultiplyAdd(
                    share,
                    Load(ref state, ReferenceVelocity + i, lane),
                    velocity
                );
                Store(position, ref observation, i, lane);
                Store(velocity, ref observation, 12 + i, lane);
                Store(Load(ref state, AngularVelocity + i, lane), ref observation, 15 + i, lane);
            }
            for (var rotor = 0; rotor < 4; rotor++)
                Store(Load(ref state, PreviousAction + rotor, lane), ref observation, 18 + rotor, lane);

            var w = Load(ref state, Orientation, lane);
            var x = Load(ref state, Orientation + 1, lane);
            var y = Load(ref state, Orientation + 2, lane);
            var z = Load(ref state, Orientation + 3, lane);
            var (x2, y2, z2) = (x + x, y + y, z + z);
            Store(one - Vector512.FusedMultiplyAdd(y, y2, z * z2), ref observation, 3, lane);
            Store(x * y2 - w * z2, ref observation, 4, lane);
            Store(Vector512.FusedMultiplyAdd(x, z2, w * y2), ref observation, 5, lane);
            Store(Vector512.FusedMultiplyAdd(x, y2, w * z2), ref observation, 6, lane);
            Store(one - Vector512.FusedMultiplyAdd(x, x2, z * z2), ref observation, 7, lane);
            Store(y * z2 - w * x2, ref observation, 8, lane);
            Store(x * z2 - w * y2, ref observation, 9, lane);
            Store(Vector512.FusedMultiplyAdd(y, z2, w * x2), ref observation, 10, lane);
            Store(one - Vector512.FusedMultiplyAdd(x, x2, y * y2), ref observation, 11, lane);
        }
    }

    private static void ObserveRotors(ref float state, ref float constants, ref float observation)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        for (var rotor = 0; rotor < 4; rotor++)
        {
            var w = Load(ref state, QuadrotorField.Rotors + rotor, lane);
            Store(AsAction(w, ref constants, lane), ref observation, 22 + rotor, lane);
        }
    }
}
