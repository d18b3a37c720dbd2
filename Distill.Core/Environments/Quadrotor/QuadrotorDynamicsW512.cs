using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Distill.Compute;
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

    /// <summary>
    /// Rotor states through the four stages; leaves thrust (rows 0-3) and angular acceleration without the gyroscopic part
    /// (rows 4-15) of each stage. The command is constant, so each stage has a fixed share of the gap between rotor and
    /// command left, and no stage changes sides (time constants are at least a step): the side is looked at once.
    /// </summary>
    public static void Rotors(ref float state, ref float constants, ref float actions, ref float scratch)
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
    public static void AngularVelocities(ref float state, ref float constants, ref float scratch)
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
                var rateX = Vector512.FusedMultiplyAdd(
                    y * z,
                    Load(ref constants, Gyroscopic, lane),
                    Load(ref scratch, row, lane)
                );
                var rateY = Vector512.FusedMultiplyAdd(
                    z * x,
                    Load(ref constants, Gyroscopic + 1, lane),
                    Load(ref scratch, row + 1, lane)
                );
                var rateZ = Vector512.FusedMultiplyAdd(
                    x * y,
                    Load(ref constants, Gyroscopic + 2, lane),
                    Load(ref scratch, row + 2, lane)
                );
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
            Store(
                Bounded(Vector512.FusedMultiplyAdd(dt, sumY, startY)),
                ref state,
                AngularVelocity + 1,
                lane
            );
            Store(
                Bounded(Vector512.FusedMultiplyAdd(dt, sumZ, startZ)),
                ref state,
                AngularVelocity + 2,
                lane
            );
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
                var forceZ = Vector512.FusedMultiplyAdd(
                    -twice,
                    Vector512.FusedMultiplyAdd(x, x, y * y),
                    thrust
                );
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

    /// <summary>The simulator keeps positions and velocities within 1e5 of zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Bounded(Vector512<float> value) =>
        Clamp(value, Vector512.Create(-1e5f), Vector512.Create(1e5f));
}
