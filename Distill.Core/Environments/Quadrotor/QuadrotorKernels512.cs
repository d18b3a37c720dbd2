using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Distill.Compute;
using static Distill.Environments.Quadrotor.QuadrotorConstant;
using static Distill.Environments.Quadrotor.QuadrotorField;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// The L2F simulator (rl-tools, commit e43ae4bc; Eschmann et al., "Learning to Fly in Seconds", 2024) on one panel. Each
/// method is one stage for all 32 lanes. The four Runge-Kutta stages of a step are not four sweeps over the state: rotors
/// depend on themselves alone, angular velocity on the rotors, attitude on angular velocity, and velocity and position
/// on attitude, so each quantity runs through its four stages in registers and leaves them for the next.
/// </summary>
internal static class QuadrotorKernels512
{
    /// <summary>Rows of scratch memory that a step needs: thrust, and angular acceleration or velocity, of four stages.</summary>
    private const int ScratchRows = 16;

    private static nuint Lanes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (nuint)Vector512<float>.Count;
    }

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
        Span<float> truncated
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
            Panel.Aligned(stackalloc float[ScratchRows * Panel.Width + Panel.Padding])
        );

        Reward(ref s, ref c, ref a, ref r);
        if (rules.VelocityCosts)
            RewardVelocities(ref s, ref c, ref r);
        Rotors(ref s, ref c, ref a, ref scratch);
        AngularVelocities(ref s, ref c, ref scratch);
        Attitude(ref s, ref c, ref scratch);
        switch (rules.Motion)
        {
            case ReferenceMotion.Langevin:
                DrawNoise(rules.LangevinStream, first, ref s, ref scratch);
                AdvanceLangevin(ref s, ref c, ref scratch);
                break;
            case ReferenceMotion.FigureEight:
                AdvanceFigureEight(rules, ref s, ref c);
                break;
        }
        return Terminate(rules, ref s, ref c, ref r, ref end, ref cut);
    }

    /// <summary>A new episode in every lane where one of the two marks is set.</summary>
    public static void Restart(
        QuadrotorRules rules,
        int first,
        Span<float> state,
        ReadOnlySpan<float> constants,
        ReadOnlySpan<float> terminated,
        ReadOnlySpan<float> truncated
    )
    {
        CheckLengths(state, constants);
        Restart(
            rules.ResetStream,
            first,
            ref MemoryMarshal.GetReference(state),
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
    public static void AdvanceLangevin(Span<float> state, ReadOnlySpan<float> constants, ReadOnlySpan<float> noise)
    {
        CheckLengths(state, constants);
        AdvanceLangevin(
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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Load(ref float block, int row, nuint lane) =>
        Vector512.LoadUnsafe(ref block, (nuint)(row * Panel.Width) + lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Load(ref float block, QuadrotorField row, nuint lane) =>
        Vector512.LoadUnsafe(ref block, (nuint)((int)row * Panel.Width) + lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Load(ref float block, QuadrotorConstant row, nuint lane) =>
        Vector512.LoadUnsafe(ref block, (nuint)((int)row * Panel.Width) + lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector512<float> value, ref float block, int row, nuint lane) =>
        value.StoreUnsafe(ref block, (nuint)(row * Panel.Width) + lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector512<float> value, ref float block, QuadrotorField row, nuint lane) =>
        value.StoreUnsafe(ref block, (nuint)((int)row * Panel.Width) + lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Clamp(Vector512<float> value, Vector512<float> min, Vector512<float> max) =>
        Vector512.MinNative(Vector512.MaxNative(value, min), max);

    /// <summary>The simulator keeps positions and velocities within 1e5 of zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Bounded(Vector512<float> value) =>
        Clamp(value, Vector512.Create(-1e5f), Vector512.Create(1e5f));

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
            var later = Vector512.GreaterThan(Load(ref state, QuadrotorField.Step, lane), Vector512<float>.Zero);
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
            value -= Load(ref constants, YawWeight, lane) * ArcCosOneMinus(Vector512.Abs(Load(ref state, Orientation + 3, lane)));
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

    /// <summary>
    /// Rotor states through the four stages; leaves thrust (rows 0-3) and angular acceleration without the gyroscopic part
    /// (rows 4-15) of each stage. The command is constant, so each stage has a fixed share of the gap between rotor and
    /// command left, and no stage changes sides (time constants are at least a step): the side is looked at once.
    /// </summary>
    private static void Rotors(ref float state, ref float constants, ref float actions, ref float scratch)
    {
        var one = Vector512<float>.One;
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var thrust1 = Vector512<float>.Zero;
            var thrust2 = Vector512<float>.Zero;
            var thrust3 = Vector512<float>.Zero;
            var thrust4 = Vector512<float>.Zero;
            var roll1 = Load(ref state, Torque, lane) * Load(ref constants, InverseInertia, lane);
            var pitch1 = Load(ref state, Torque + 1, lane) * Load(ref constants, InverseInertia + 1, lane);
            var yaw1 = Load(ref state, Torque + 2, lane) * Load(ref constants, InverseInertia + 2, lane);
            var (roll2, pitch2, yaw2) = (roll1, pitch1, yaw1);
            var (roll3, pitch3, yaw3) = (roll1, pitch1, yaw1);
            var (roll4, pitch4, yaw4) = (roll1, pitch1, yaw1);
            for (var rotor = 0; rotor < 4; rotor++)
            {
                var command = Vector512.FusedMultiplyAdd(
                    Clamp(Load(ref actions, rotor, lane), -one, one),
                    Load(ref constants, ActionHalfRange, lane),
                    Load(ref constants, ActionCentre, lane)
                );
                var w = Load(ref state, QuadrotorField.Rotors + rotor, lane);
                var gap = w - command;
                var share = Vector512.ConditionalSelect(
                    Vector512.LessThanOrEqual(gap, Vector512<float>.Zero),
                    Load(ref constants, RisingShare + rotor, lane),
                    Load(ref constants, FallingShare + rotor, lane)
                );
                var half = share * Vector512.Create(0.5f);
                var left2 = one - half;
                var left3 = Vector512.FusedMultiplyAdd(-half, left2, one);
                var left4 = Vector512.FusedMultiplyAdd(-share, left3, one);
                var mean = Vector512.FusedMultiplyAdd(left2 + left3, Vector512.Create(2f), one + left4);
                var left = Vector512.FusedMultiplyAdd(-share, mean * Vector512.Create(1f / 6f), one);

                AddRotor(ref constants, rotor, lane, w, ref thrust1, ref roll1, ref pitch1, ref yaw1);
                w = Vector512.FusedMultiplyAdd(left2, gap, command);
                AddRotor(ref constants, rotor, lane, w, ref thrust2, ref roll2, ref pitch2, ref yaw2);
                w = Vector512.FusedMultiplyAdd(left3, gap, command);
                AddRotor(ref constants, rotor, lane, w, ref thrust3, ref roll3, ref pitch3, ref yaw3);
                w = Vector512.FusedMultiplyAdd(left4, gap, command);
                AddRotor(ref constants, rotor, lane, w, ref thrust4, ref roll4, ref pitch4, ref yaw4);
                w = Vector512.FusedMultiplyAdd(left, gap, command);
                w = Clamp(w, Load(ref constants, RotorMin, lane), Load(ref constants, RotorMax, lane));
                Store(w, ref state, QuadrotorField.Rotors + rotor, lane);
            }
            Store(thrust1, ref scratch, 0, lane);
            Store(thrust2, ref scratch, 1, lane);
            Store(thrust3, ref scratch, 2, lane);
            Store(thrust4, ref scratch, 3, lane);
            Store(roll1, ref scratch, 4, lane);
            Store(pitch1, ref scratch, 5, lane);
            Store(yaw1, ref scratch, 6, lane);
            Store(roll2, ref scratch, 7, lane);
            Store(pitch2, ref scratch, 8, lane);
            Store(yaw2, ref scratch, 9, lane);
            Store(roll3, ref scratch, 10, lane);
            Store(pitch3, ref scratch, 11, lane);
            Store(yaw3, ref scratch, 12, lane);
            Store(roll4, ref scratch, 13, lane);
            Store(pitch4, ref scratch, 14, lane);
            Store(yaw4, ref scratch, 15, lane);
        }
    }

    /// <summary>Adds the thrust of one rotor in state w, and the angular acceleration that it makes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRotor(
        ref float constants,
        int rotor,
        nuint lane,
        Vector512<float> w,
        ref Vector512<float> thrust,
        ref Vector512<float> roll,
        ref Vector512<float> pitch,
        ref Vector512<float> yaw
    )
    {
        var f = Vector512.FusedMultiplyAdd(
            Load(ref constants, Thrust2 + rotor, lane),
            w,
            Load(ref constants, Thrust1 + rotor, lane)
        );
        f = Vector512.FusedMultiplyAdd(f, w, Load(ref constants, Thrust0 + rotor, lane));
        thrust += f;
        roll = Vector512.FusedMultiplyAdd(f, Load(ref constants, RollPerThrust + rotor, lane), roll);
        pitch = Vector512.FusedMultiplyAdd(f, Load(ref constants, PitchPerThrust + rotor, lane), pitch);
        yaw = Vector512.FusedMultiplyAdd(f, Load(ref constants, YawPerThrust + rotor, lane), yaw);
    }

    // The tableau of the classical Runge-Kutta method: how far each stage's rate carries to the next stage, and its
    // weight in the step.
    private static ReadOnlySpan<float> StageStep => [0.5f, 0.5f, 1f, 0f];
    private static ReadOnlySpan<float> StageWeight => [1f / 6f, 1f / 3f, 1f / 3f, 1f / 6f];

    /// <summary>Euler's equations through the four stages; replaces each stage's acceleration by its angular velocity.</summary>
    private static void AngularVelocities(ref float state, ref float constants, ref float scratch)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var dt = Load(ref constants, TimeStep, lane);
            var startX = Load(ref state, AngularVelocity, lane);
            var startY = Load(ref state, AngularVelocity + 1, lane);
            var startZ = Load(ref state, AngularVelocity + 2, lane);
            var (x, y, z) = (startX, startY, startZ);
            var sumX = Vector512<float>.Zero;
            var sumY = Vector512<float>.Zero;
            var sumZ = Vector512<float>.Zero;
            for (var stage = 0; stage < StageStep.Length; stage++)
            {
                var row = 4 + 3 * stage;
                var rateX = Vector512.FusedMultiplyAdd(y * z, Load(ref constants, Gyroscopic, lane), Load(ref scratch, row, lane));
                var rateY = Vector512.FusedMultiplyAdd(z * x, Load(ref constants, Gyroscopic + 1, lane), Load(ref scratch, row + 1, lane));
                var rateZ = Vector512.FusedMultiplyAdd(x * y, Load(ref constants, Gyroscopic + 2, lane), Load(ref scratch, row + 2, lane));
                Store(x, ref scratch, row, lane);
                Store(y, ref scratch, row + 1, lane);
                Store(z, ref scratch, row + 2, lane);
                var weight = Vector512.Create(StageWeight[stage]);
                sumX = Vector512.FusedMultiplyAdd(weight, rateX, sumX);
                sumY = Vector512.FusedMultiplyAdd(weight, rateY, sumY);
                sumZ = Vector512.FusedMultiplyAdd(weight, rateZ, sumZ);
                var step = dt * Vector512.Create(StageStep[stage]);
                x = Vector512.FusedMultiplyAdd(step, rateX, startX);
                y = Vector512.FusedMultiplyAdd(step, rateY, startY);
                z = Vector512.FusedMultiplyAdd(step, rateZ, startZ);
            }
            Store(Bounded(Vector512.FusedMultiplyAdd(dt, sumX, startX)), ref state, AngularVelocity, lane);
            Store(Bounded(Vector512.FusedMultiplyAdd(dt, sumY, startY)), ref state, AngularVelocity + 1, lane);
            Store(Bounded(Vector512.FusedMultiplyAdd(dt, sumZ, startZ)), ref state, AngularVelocity + 2, lane);
        }
    }

    /// <summary>
    /// The quaternion through the four stages, with the thrust turned to the world on the way; then velocity and position.
    /// </summary>
    private static void Attitude(ref float state, ref float constants, ref float scratch)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var dt = Load(ref constants, TimeStep, lane);
            var w = Load(ref state, Orientation, lane);
            var x = Load(ref state, Orientation + 1, lane);
            var y = Load(ref state, Orientation + 2, lane);
            var z = Load(ref state, Orientation + 3, lane);
            var sumW = Vector512<float>.Zero;
            var sumX = Vector512<float>.Zero;
            var sumY = Vector512<float>.Zero;
            var sumZ = Vector512<float>.Zero;
            // Thrust in the world, weighted for the velocity and for the position: position' is the velocity of the
            // stage, so the step's position needs dt^2 / 6 times the accelerations of the first three stages.
            var velocityX = Vector512<float>.Zero;
            var velocityY = Vector512<float>.Zero;
            var velocityZ = Vector512<float>.Zero;
            var positionX = Vector512<float>.Zero;
            var positionY = Vector512<float>.Zero;
            var positionZ = Vector512<float>.Zero;
            for (var stage = 0; stage < StageStep.Length; stage++)
            {
                // The third column of the rotation matrix, written so that it needs no unit quaternion.
                var thrust = Load(ref scratch, stage, lane);
                var twice = thrust + thrust;
                var forceX = twice * Vector512.FusedMultiplyAdd(x, z, w * y);
                var forceY = twice * Vector512.FusedMultiplyAdd(-w, x, y * z);
                var forceZ = Vector512.FusedMultiplyAdd(-twice, Vector512.FusedMultiplyAdd(x, x, y * y), thrust);
                var weight = Vector512.Create(StageWeight[stage]);
                velocityX = Vector512.FusedMultiplyAdd(weight, forceX, velocityX);
                velocityY = Vector512.FusedMultiplyAdd(weight, forceY, velocityY);
                velocityZ = Vector512.FusedMultiplyAdd(weight, forceZ, velocityZ);
                var early = Vector512.Create(PositionStageWeight[stage]);
                positionX = Vector512.FusedMultiplyAdd(early, forceX, positionX);
                positionY = Vector512.FusedMultiplyAdd(early, forceY, positionY);
                positionZ = Vector512.FusedMultiplyAdd(early, forceZ, positionZ);

                var half = Vector512.Create(0.5f);
                var a = Load(ref scratch, 4 + 3 * stage, lane) * half;
                var b = Load(ref scratch, 5 + 3 * stage, lane) * half;
                var c = Load(ref scratch, 6 + 3 * stage, lane) * half;
                var rateW = Vector512.FusedMultiplyAdd(-x, a, Vector512.FusedMultiplyAdd(-y, b, -z * c));
                var rateX = Vector512.FusedMultiplyAdd(w, a, Vector512.FusedMultiplyAdd(-z, b, y * c));
                var rateY = Vector512.FusedMultiplyAdd(w, b, Vector512.FusedMultiplyAdd(-x, c, z * a));
                var rateZ = Vector512.FusedMultiplyAdd(w, c, Vector512.FusedMultiplyAdd(-y, a, x * b));
                sumW = Vector512.FusedMultiplyAdd(weight, rateW, sumW);
                sumX = Vector512.FusedMultiplyAdd(weight, rateX, sumX);
                sumY = Vector512.FusedMultiplyAdd(weight, rateY, sumY);
                sumZ = Vector512.FusedMultiplyAdd(weight, rateZ, sumZ);
                var step = dt * Vector512.Create(StageStep[stage]);
                w = Vector512.FusedMultiplyAdd(step, rateW, Load(ref state, Orientation, lane));
                x = Vector512.FusedMultiplyAdd(step, rateX, Load(ref state, Orientation + 1, lane));
                y = Vector512.FusedMultiplyAdd(step, rateY, Load(ref state, Orientation + 2, lane));
                z = Vector512.FusedMultiplyAdd(step, rateZ, Load(ref state, Orientation + 3, lane));
            }
            // After the last stage w, x, y, z are the quaternion at the start again, because that stage steps by 0.
            w = Vector512.FusedMultiplyAdd(dt, sumW, w);
            x = Vector512.FusedMultiplyAdd(dt, sumX, x);
            y = Vector512.FusedMultiplyAdd(dt, sumY, y);
            z = Vector512.FusedMultiplyAdd(dt, sumZ, z);
            var square = Vector512.FusedMultiplyAdd(
                w,
                w,
                Vector512.FusedMultiplyAdd(x, x, Vector512.FusedMultiplyAdd(y, y, z * z))
            );
            var scale = Vector512<float>.One / Vector512.Sqrt(square);
            Store(w * scale, ref state, Orientation, lane);
            Store(x * scale, ref state, Orientation + 1, lane);
            Store(y * scale, ref state, Orientation + 2, lane);
            Store(z * scale, ref state, Orientation + 3, lane);
            Move(ref state, ref constants, 0, lane, dt, velocityX, positionX);
            Move(ref state, ref constants, 1, lane, dt, velocityY, positionY);
            Move(ref state, ref constants, 2, lane, dt, velocityZ, positionZ);
        }
    }

    // Weights of the stages' accelerations in the position, in units of dt^2; the constant acceleration's is 1/2.
    private static ReadOnlySpan<float> PositionStageWeight => [1f / 6f, 1f / 6f, 1f / 6f, 0f];

    /// <summary>Velocity and position of one axis after the step, from the weighted thrusts of the stages.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Move(
        ref float state,
        ref float constants,
        int axis,
        nuint lane,
        Vector512<float> dt,
        Vector512<float> velocityThrust,
        Vector512<float> positionThrust
    )
    {
        var inverseMass = Load(ref constants, InverseMass, lane);
        var constant = Vector512.FusedMultiplyAdd(
            inverseMass,
            Load(ref state, Force + axis, lane),
            Load(ref constants, Gravity + axis, lane)
        );
        var velocity = Load(ref state, Velocity + axis, lane);
        // The mean velocity during the step takes the position along.
        var mean = Vector512.FusedMultiplyAdd(inverseMass, positionThrust, constant * Vector512.Create(0.5f));
        mean = Vector512.FusedMultiplyAdd(dt, mean, velocity);
        var position = Vector512.FusedMultiplyAdd(dt, mean, Load(ref state, Position + axis, lane));
        velocity = Vector512.FusedMultiplyAdd(
            dt,
            Vector512.FusedMultiplyAdd(inverseMass, velocityThrust, constant),
            velocity
        );
        Store(Bounded(position), ref state, Position + axis, lane);
        Store(Bounded(velocity), ref state, Velocity + axis, lane);
    }

    /// <summary>Three standard normal draws for each lane into rows 0-2.</summary>
    private static void DrawNoise(RandomStream stream, int first, ref float state, ref float noise)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var x0 = Environments(first, lane);
            var x1 = Vector512.ConvertToInt32(Load(ref state, Episode, lane)).AsUInt32();
            var x2 = Vector512.ConvertToInt32(Load(ref state, QuadrotorField.Step, lane)).AsUInt32();
            var x3 = Vector512<uint>.Zero;
            Random512.Bits(stream, ref x0, ref x1, ref x2, ref x3);
            Random512.Normal(x0, x1, out var a, out var b);
            Random512.Normal(x2, x3, out var c, out _);
            Store(a, ref noise, 0, lane);
            Store(b, ref noise, 1, lane);
            Store(c, ref noise, 2, lane);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Environments(int first, nuint lane) =>
        Vector512.Create((uint)first + (uint)lane) + Vector512<uint>.Indices;

    /// <summary>Semi-implicit Euler-Maruyama, then smoothing; lanes with a fixed reference keep it.</summary>
    private static void AdvanceLangevin(ref float state, ref float constants, ref float noise)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var follows = Vector512.GreaterThan(Load(ref state, FollowsLangevin, lane), Vector512<float>.Zero);
            var dt = Load(ref constants, TimeStep, lane);
            var alpha = Load(ref constants, LangevinSmoothing, lane);
            var damping = Load(ref constants, LangevinDamping, lane);
            var stiffness = Load(ref constants, LangevinStiffness, lane);
            var strength = Load(ref constants, LangevinNoise, lane);
            for (var axis = 0; axis < 3; axis++)
            {
                var x = Load(ref state, LangevinPosition + axis, lane);
                var v = Load(ref state, LangevinVelocity + axis, lane);
                var pull = Vector512.FusedMultiplyAdd(damping, v, stiffness * x);
                v = Vector512.FusedMultiplyAdd(strength, Load(ref noise, axis, lane), v - dt * pull);
                x = Vector512.FusedMultiplyAdd(dt, v, x);
                var smoothV = Load(ref state, ReferenceVelocity + axis, lane);
                smoothV = Vector512.FusedMultiplyAdd(alpha, v - smoothV, smoothV);
                var smoothX = Vector512.FusedMultiplyAdd(dt, smoothV, Load(ref state, ReferencePosition + axis, lane));
                Store(x & follows, ref state, LangevinPosition + axis, lane);
                Store(v & follows, ref state, LangevinVelocity + axis, lane);
                Store(smoothX & follows, ref state, ReferencePosition + axis, lane);
                Store(smoothV & follows, ref state, ReferenceVelocity + axis, lane);
            }
        }
    }

    /// <summary>The reference of the next step on the Lissajous curve; see <see cref="FigureEight"/>.</summary>
    private static void AdvanceFigureEight(QuadrotorRules rules, ref float state, ref float constants)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var dt = Load(ref constants, TimeStep, lane);
            var time = dt * (Load(ref state, QuadrotorField.Step, lane) + Vector512<float>.One);
            var ramp = Vector512.Create(rules.LoopRamp);
            var inRamp = Vector512.MinNative(time, ramp);
            var share = inRamp / ramp;
            // Loops so far: half of the ramp's time counts, because the rate grows linearly.
            var loops = Vector512.FusedMultiplyAdd(share * Vector512.Create(0.5f), inRamp, time - inRamp);
            loops *= Vector512.Create(rules.LoopRate);
            Math512.SinCosTurns(loops - Vector512.Floor(loops), out var sin, out var cos);
            var size = Vector512.Create(rules.LoopSize);
            var speed = size * share * Vector512.Create(MathF.Tau * rules.LoopRate);
            Store(size * sin * cos, ref state, ReferencePosition, lane);
            Store(size * sin, ref state, ReferencePosition + 1, lane);
            Store(speed * (cos * cos - sin * sin), ref state, ReferenceVelocity, lane);
            Store(speed * cos, ref state, ReferenceVelocity + 1, lane);
        }
    }

    /// <summary>Counts the step and marks ends of episodes; a state that is not a number is terminal.</summary>
    /// <returns>Whether an episode of the panel ended.</returns>
    private static bool Terminate(
        QuadrotorRules rules,
        ref float state,
        ref float constants,
        ref float reward,
        ref float terminated,
        ref float truncated
    )
    {
        var relative = Vector512.Create(rules.Motion == ReferenceMotion.FigureEight ? 1f : 0f);
        var limit = Vector512.Create((float)rules.EpisodeLimit);
        var any = Vector512<float>.Zero;
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var position = Vector512<float>.Zero;
            var velocity = Vector512<float>.Zero;
            var angular = Vector512<float>.Zero;
            for (var i = 0; i < 3; i++)
            {
                var p = Vector512.FusedMultiplyAdd(
                    -relative,
                    Load(ref state, ReferencePosition + i, lane),
                    Load(ref state, Position + i, lane)
                );
                var v = Vector512.FusedMultiplyAdd(
                    -relative,
                    Load(ref state, ReferenceVelocity + i, lane),
                    Load(ref state, Velocity + i, lane)
                );
                position = Vector512.MaxNative(position, Vector512.Abs(p));
                velocity = Vector512.MaxNative(velocity, Vector512.Abs(v));
                angular = Vector512.MaxNative(angular, Vector512.Abs(Load(ref state, AngularVelocity + i, lane)));
            }
            var fine =
                Vector512.LessThanOrEqual(position, Load(ref constants, PositionThreshold, lane))
                & Vector512.LessThanOrEqual(velocity, Load(ref constants, VelocityThreshold, lane))
                & Vector512.LessThanOrEqual(angular, Load(ref constants, AngularVelocityThreshold, lane));
            var step = Load(ref state, QuadrotorField.Step, lane) + Vector512<float>.One;
            var end = Vector512.AndNot(Vector512<float>.One, fine);
            var cut = Vector512<float>.One & fine & Vector512.GreaterThanOrEqual(step, limit);
            Store(step, ref state, QuadrotorField.Step, lane);
            Store(end, ref terminated, 0, lane);
            Store(cut, ref truncated, 0, lane);
            var value = Vector512.MaxNative(Load(ref reward, 0, lane), Load(ref constants, RewardFloor, lane));
            value = Vector512.ConditionalSelect(fine, value, Load(ref constants, TerminationPenalty, lane));
            Store(value, ref reward, 0, lane);
            any |= end | cut;
        }
        return any != Vector512<float>.Zero;
    }

    private static void Restart(
        RandomStream stream,
        int first,
        ref float state,
        ref float constants,
        ref float terminated,
        ref float truncated
    )
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var ended = Load(ref terminated, 0, lane) + Load(ref truncated, 0, lane);
            var mask = Vector512.GreaterThan(ended, Vector512<float>.Zero);
            if (mask.AsUInt32() == Vector512<uint>.Zero)
                continue;
            var one = Vector512<float>.One & mask;
            Store(Load(ref state, Episode, lane) + one, ref state, Episode, lane);
            Blend(Vector512<float>.Zero, mask, ref state, QuadrotorField.Step, lane);
            for (var row = ReferencePosition; row < FollowsLangevin; row++)
                Blend(Vector512<float>.Zero, mask, ref state, row, lane);
            var environments = Environments(first, lane);
            PlaceBody(stream, environments, mask, ref state, ref constants, lane);
            SpinRotors(stream, environments, mask, ref state, ref constants, lane);
            DrawDisturbance(stream, environments, 4, mask, ref state, Force, ref constants, ForceMean, lane);
            DrawDisturbance(stream, environments, 5, mask, ref state, Torque, ref constants, TorqueMean, lane);
            var yaw = Load(ref constants, TorqueMean, lane);
            yaw += (Load(ref state, Torque + 2, lane) - yaw) * Vector512.Create(0.01f);
            Blend(yaw, mask, ref state, Torque + 2, lane);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Blend(
        Vector512<float> value,
        Vector512<float> mask,
        ref float state,
        QuadrotorField row,
        nuint lane
    ) => Store(Vector512.ConditionalSelect(mask, value, Load(ref state, row, lane)), ref state, row, lane);

    /// <summary>Four words for one draw of the episode that begins.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Draw(
        RandomStream stream,
        Vector512<uint> environments,
        uint draw,
        ref float state,
        nuint lane,
        out Vector512<uint> x0,
        out Vector512<uint> x1,
        out Vector512<uint> x2,
        out Vector512<uint> x3
    )
    {
        // On locals, which live in registers; the parameters are memory.
        var a = environments;
        var b = Vector512.ConvertToInt32(Load(ref state, Episode, lane)).AsUInt32();
        var c = Vector512.Create(draw);
        var d = Vector512<uint>.Zero;
        Random512.Bits(stream, ref a, ref b, ref c, ref d);
        (x0, x1, x2, x3) = (a, b, c, d);
    }

    /// <summary>Position, velocities and orientation: uniform, or at rest in the origin in the guided share of episodes.</summary>
    private static void PlaceBody(
        RandomStream stream,
        Vector512<uint> environments,
        Vector512<float> mask,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        Draw(stream, environments, 0, ref state, lane, out var x0, out var x1, out var x2, out var x3);
        var free = Vector512.GreaterThanOrEqual(Random512.Uniform(x3), Load(ref constants, Guidance, lane));
        var limit = Load(ref constants, InitialPosition, lane) & free;
        Blend(limit * Symmetric(x0), mask, ref state, Position, lane);
        Blend(limit * Symmetric(x1), mask, ref state, Position + 1, lane);
        Blend(limit * Symmetric(x2), mask, ref state, Position + 2, lane);

        Draw(stream, environments, 1, ref state, lane, out x0, out x1, out x2, out x3);
        limit = Load(ref constants, InitialVelocity, lane) & free;
        Blend(limit * Symmetric(x0), mask, ref state, Velocity, lane);
        Blend(limit * Symmetric(x1), mask, ref state, Velocity + 1, lane);
        Blend(limit * Symmetric(x2), mask, ref state, Velocity + 2, lane);
        var angle = Random512.Uniform(x3) * Load(ref constants, InitialTurns, lane) & free;

        Draw(stream, environments, 2, ref state, lane, out x0, out x1, out x2, out x3);
        limit = Load(ref constants, InitialAngularVelocity, lane) & free;
        Blend(limit * Symmetric(x0), mask, ref state, AngularVelocity, lane);
        Blend(limit * Symmetric(x1), mask, ref state, AngularVelocity + 1, lane);
        Blend(limit * Symmetric(x2), mask, ref state, AngularVelocity + 2, lane);

        // The axis is uniform on the sphere: its height is uniform, and so is its longitude.
        var height = Symmetric(x3);
        Draw(stream, environments, 6, ref state, lane, out x0, out x1, out x2, out x3);
        var radius = Vector512.Sqrt(Vector512.MaxNative(Vector512<float>.One - height * height, Vector512<float>.Zero));
        Math512.SinCosTurns(Random512.Uniform(x0), out var sin, out var cos);
        Math512.SinCosTurns(angle, out var sinHalf, out var cosHalf);
        Blend(cosHalf, mask, ref state, Orientation, lane);
        Blend(sinHalf * radius * cos, mask, ref state, Orientation + 1, lane);
        Blend(sinHalf * radius * sin, mask, ref state, Orientation + 2, lane);
        Blend(sinHalf * height, mask, ref state, Orientation + 3, lane);

        var follows = Vector512.LessThan(Random512.Uniform(x1), Load(ref constants, LangevinShare, lane));
        Blend(Vector512<float>.One & follows, mask, ref state, FollowsLangevin, lane);
    }

    /// <summary>Uniform on [-1, 1).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Symmetric(Vector512<uint> bits)
    {
        var uniform = Random512.Uniform(bits);
        return uniform + uniform - Vector512<float>.One;
    }

    /// <summary>Rotor states, and as previous action the actions that would command them.</summary>
    private static void SpinRotors(
        RandomStream stream,
        Vector512<uint> environments,
        Vector512<float> mask,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        Draw(stream, environments, 3, ref state, lane, out var x0, out var x1, out var x2, out var x3);
        SpinRotor(x0, 0, mask, ref state, ref constants, lane);
        SpinRotor(x1, 1, mask, ref state, ref constants, lane);
        SpinRotor(x2, 2, mask, ref state, ref constants, lane);
        SpinRotor(x3, 3, mask, ref state, ref constants, lane);
    }

    private static void SpinRotor(
        Vector512<uint> bits,
        int rotor,
        Vector512<float> mask,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        var w = Vector512.FusedMultiplyAdd(
            Random512.Uniform(bits),
            Load(ref constants, InitialRotorRange, lane),
            Load(ref constants, InitialRotorMin, lane)
        );
        Blend(w, mask, ref state, QuadrotorField.Rotors + rotor, lane);
        Blend(AsAction(w, ref constants, lane), mask, ref state, PreviousAction + rotor, lane);
    }

    /// <summary>The action in [-1, 1] whose command is this rotor state.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> AsAction(Vector512<float> rotor, ref float constants, nuint lane) =>
        Vector512.FusedMultiplyAdd(
            rotor,
            Load(ref constants, RotorScale, lane),
            Load(ref constants, RotorOffset, lane)
        );

    /// <summary>Three normal components; the constant after the mean is the standard deviation.</summary>
    private static void DrawDisturbance(
        RandomStream stream,
        Vector512<uint> environments,
        uint draw,
        Vector512<float> mask,
        ref float state,
        QuadrotorField field,
        ref float constants,
        QuadrotorConstant mean,
        nuint lane
    )
    {
        var centre = Load(ref constants, mean, lane);
        var deviation = Load(ref constants, mean + 1, lane);
        if (deviation == Vector512<float>.Zero)
        {
            Blend(centre, mask, ref state, field, lane);
            Blend(centre, mask, ref state, field + 1, lane);
            Blend(centre, mask, ref state, field + 2, lane);
            return;
        }
        Draw(stream, environments, draw, ref state, lane, out var x0, out var x1, out var x2, out var x3);
        Random512.Normal(x0, x1, out var a, out var b);
        Random512.Normal(x2, x3, out var c, out _);
        Blend(Vector512.FusedMultiplyAdd(deviation, a, centre), mask, ref state, field, lane);
        Blend(Vector512.FusedMultiplyAdd(deviation, b, centre), mask, ref state, field + 1, lane);
        Blend(Vector512.FusedMultiplyAdd(deviation, c, centre), mask, ref state, field + 2, lane);
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
                position = Vector512.FusedMultiplyAdd(share, Load(ref state, ReferencePosition + i, lane), position);
                velocity = Vector512.FusedMultiplyAdd(share, Load(ref state, ReferenceVelocity + i, lane), velocity);
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
