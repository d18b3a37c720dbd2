using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Distill.Compute.VectorsW512;
using static Distill.Environments.Quadrotor.QuadrotorConstant;
using static Distill.Environments.Quadrotor.QuadrotorField;
using static Distill.Environments.Quadrotor.QuadrotorRowsW512;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// Motion of a panel over one step, by the classical Runge-Kutta method. Its four stages are not four sweeps over the
/// state: rotors depend on themselves alone, angular velocity on the rotors, attitude on angular velocity, and velocity
/// and position on attitude, so each quantity runs through its four stages in registers and leaves them for the next.
/// </summary>
internal static class QuadrotorDynamicsW512
{
    /// <summary>Rows of scratch memory that a step needs: thrust, and angular acceleration or velocity, of four stages.</summary>
    public const int ScratchRows = 16;

    // The tableau of the classical Runge-Kutta method: how far each stage's rate carries to the next stage, and its
    // weight in the step.
    private static ReadOnlySpan<float> StageStep => [0.5f, 0.5f, 1f, 0f];
    private static ReadOnlySpan<float> StageWeight => [1f / 6f, 1f / 3f, 1f / 3f, 1f / 6f];

    // Weights of the stages' accelerations in the position, in units of dt^2; the constant acceleration's is 1/2.
    private static ReadOnlySpan<float> PositionStageWeight => [1f / 6f, 1f / 6f, 1f / 6f, 0f];

    /// <summary>First scratch row of a stage's angular acceleration, later angular velocity; its thrust has row <paramref name="stage"/>.</summary>
    private static int Turning(int stage) => 4 + 3 * stage;

    /// <summary>
    /// Rotor states through the four stages; leaves thrust and angular acceleration without the gyroscopic part of each
    /// stage. The command is constant, so each stage has a fixed share of the gap between rotor and command left, and no
    /// stage changes sides (time constants are at least a step): the side is looked at once.
    /// </summary>
    public static void Rotors(ref float state, ref float constants, ref float actions, ref float scratch)
    {
        var one = Vector512<float>.One;
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var turning = Load3(ref state, Torque, lane) * Load3(ref constants, InverseInertia, lane);
            var stage1 = new Push(Vector512<float>.Zero, turning);
            var stage2 = stage1;
            var stage3 = stage1;
            var stage4 = stage1;
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

                stage1 = stage1.Add(ref constants, rotor, lane, w);
                w = Vector512.FusedMultiplyAdd(left2, gap, command);
                stage2 = stage2.Add(ref constants, rotor, lane, w);
                w = Vector512.FusedMultiplyAdd(left3, gap, command);
                stage3 = stage3.Add(ref constants, rotor, lane, w);
                w = Vector512.FusedMultiplyAdd(left4, gap, command);
                stage4 = stage4.Add(ref constants, rotor, lane, w);
                w = Vector512.FusedMultiplyAdd(left, gap, command);
                w = Clamp(w, Load(ref constants, RotorMin, lane), Load(ref constants, RotorMax, lane));
                Store(w, ref state, QuadrotorField.Rotors + rotor, lane);
            }
            stage1.Store(ref scratch, 0, lane);
            stage2.Store(ref scratch, 1, lane);
            stage3.Store(ref scratch, 2, lane);
            stage4.Store(ref scratch, 3, lane);
        }
    }

    /// <summary>What the rotors do together: their thrust, and the angular acceleration that they make.</summary>
    [method: MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly struct Push(Vector512<float> thrust, Vector3W512 turning)
    {
        private readonly Vector512<float> thrust = thrust;
        private readonly Vector512<float> roll = turning.X;
        private readonly Vector512<float> pitch = turning.Y;
        private readonly Vector512<float> yaw = turning.Z;

        /// <summary>With one rotor more, in state w.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Push Add(ref float constants, int rotor, nuint lane, Vector512<float> w)
        {
            var f = Vector512.FusedMultiplyAdd(
                Load(ref constants, Thrust2 + rotor, lane),
                w,
                Load(ref constants, Thrust1 + rotor, lane)
            );
            f = Vector512.FusedMultiplyAdd(f, w, Load(ref constants, Thrust0 + rotor, lane));
            return new(
                thrust + f,
                new(
                    Vector512.FusedMultiplyAdd(f, Load(ref constants, RollPerThrust + rotor, lane), roll),
                    Vector512.FusedMultiplyAdd(f, Load(ref constants, PitchPerThrust + rotor, lane), pitch),
                    Vector512.FusedMultiplyAdd(f, Load(ref constants, YawPerThrust + rotor, lane), yaw)
                )
            );
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Store(ref float scratch, int stage, nuint lane)
        {
            RowsW512.Store(thrust, ref scratch, stage, lane);
            RowsW512.Store(new Vector3W512(roll, pitch, yaw), ref scratch, Turning(stage), lane);
        }
    }

    /// <summary>Euler's equations through the four stages; replaces each stage's acceleration by its angular velocity.</summary>
    public static void AngularVelocities(ref float state, ref float constants, ref float scratch)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var dt = Load(ref constants, TimeStep, lane);
            var gyroscopic = Load3(ref constants, Gyroscopic, lane);
            var start = Load3(ref state, AngularVelocity, lane);
            var omega = start;
            var sum = default(Vector3W512);
            for (var stage = 0; stage < StageStep.Length; stage++)
            {
                var products = new Vector3W512(omega.Y * omega.Z, omega.Z * omega.X, omega.X * omega.Y);
                var rate = FusedMultiplyAdd(products, gyroscopic, Load3(ref scratch, Turning(stage), lane));
                Store(omega, ref scratch, Turning(stage), lane);
                sum = FusedMultiplyAdd(Vector512.Create(StageWeight[stage]), rate, sum);
                omega = FusedMultiplyAdd(dt * Vector512.Create(StageStep[stage]), rate, start);
            }
            Store(Bounded(FusedMultiplyAdd(dt, sum, start)), ref state, AngularVelocity, lane);
        }
    }

    /// <summary>
    /// The quaternion through the four stages, with the thrust turned to the world on the way; then velocity and position.
    /// </summary>
    public static void Attitude(ref float state, ref float constants, ref float scratch)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var dt = Load(ref constants, TimeStep, lane);
            var q = LoadOrientation(ref state, lane);
            var sum = default(QuaternionW512);
            // Thrust in the world, weighted for the velocity and for the position: position' is the velocity of the
            // stage, so the step's position needs dt^2 / 6 times the accelerations of the first three stages.
            var forVelocity = default(Vector3W512);
            var forPosition = default(Vector3W512);
            for (var stage = 0; stage < StageStep.Length; stage++)
            {
                var force = q.Upward(Load(ref scratch, stage, lane));
                var weight = Vector512.Create(StageWeight[stage]);
                forVelocity = FusedMultiplyAdd(weight, force, forVelocity);
                forPosition = FusedMultiplyAdd(
                    Vector512.Create(PositionStageWeight[stage]),
                    force,
                    forPosition
                );
                var rate = q * (Vector512.Create(0.5f) * Load3(ref scratch, Turning(stage), lane));
                sum = FusedMultiplyAdd(weight, rate, sum);
                q = FusedMultiplyAdd(
                    dt * Vector512.Create(StageStep[stage]),
                    rate,
                    LoadOrientation(ref state, lane)
                );
            }
            // After the last stage this is the quaternion at the start again, because that stage steps by 0.
            StoreOrientation(FusedMultiplyAdd(dt, sum, q).Unit(), ref state, lane);
            Move(ref state, ref constants, lane, dt, forVelocity, forPosition);
        }
    }

    /// <summary>Velocity and position after the step, from the weighted thrusts of the stages.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Move(
        ref float state,
        ref float constants,
        nuint lane,
        Vector512<float> dt,
        Vector3W512 forVelocity,
        Vector3W512 forPosition
    )
    {
        var inverseMass = Load(ref constants, InverseMass, lane);
        var constant = FusedMultiplyAdd(
            inverseMass,
            Load3(ref state, Force, lane),
            Load3(ref constants, Gravity, lane)
        );
        var velocity = Load3(ref state, Velocity, lane);
        // The mean velocity during the step takes the position along.
        var mean = FusedMultiplyAdd(inverseMass, forPosition, Vector512.Create(0.5f) * constant);
        mean = FusedMultiplyAdd(dt, mean, velocity);
        var position = FusedMultiplyAdd(dt, mean, Load3(ref state, Position, lane));
        velocity = FusedMultiplyAdd(dt, FusedMultiplyAdd(inverseMass, forVelocity, constant), velocity);
        Store(Bounded(position), ref state, Position, lane);
        Store(Bounded(velocity), ref state, Velocity, lane);
    }

    /// <summary>The simulator keeps positions and velocities within 1e5 of zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector3W512 Bounded(Vector3W512 v)
    {
        var bound = Vector512.Create(1e5f);
        return new(Clamp(v.X, -bound, bound), Clamp(v.Y, -bound, bound), Clamp(v.Z, -bound, bound));
    }
}
