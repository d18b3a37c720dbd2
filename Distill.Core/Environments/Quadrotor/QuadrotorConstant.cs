using static Distill.Environments.Quadrotor.QuadrotorConstant;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// The numbers of a panel that stay the same while stepping, <c>[Total, 32]</c>: parameters in the form in which the
/// kernels use them. A member's value is its first row; rotor constants have four rows, vectors three.
/// </summary>
internal enum QuadrotorConstant
{
    // The step, in the order in which it reads them.
    TimeStep = 0,
    ActionCentre = 1,
    ActionHalfRange = 2,
    RotorMin = 3,
    RotorMax = 4,

    /// <summary>Step time per time constant, of rotors that rise; the next of rotors that fall.</summary>
    RisingShare = 5,
    FallingShare = 9,
    Thrust0 = 13,
    Thrust1 = 17,
    Thrust2 = 21,

    /// <summary>Angular acceleration about the body's x axis per newton of each rotor's thrust; the next two about y and z.</summary>
    RollPerThrust = 25,
    PitchPerThrust = 29,
    YawPerThrust = 33,
    InverseInertia = 37,

    /// <summary>J_inv_i (J_j - J_k) for (i, j, k) cyclic: the gyroscopic part of omega_i' is this times omega_j omega_k.</summary>
    Gyroscopic = 40,
    InverseMass = 43,
    Gravity = 44,

    // Reward, termination, observation.
    RewardConstant = 47,
    PositionWeight = 48,
    PositionClip = 49,
    YawWeight = 50,
    ActionChangeWeight = 51,
    VelocityWeight = 52,
    AngularVelocityWeight = 53,
    RewardFloor = 54,
    TerminationPenalty = 55,
    PositionThreshold = 56,
    VelocityThreshold = 57,
    AngularVelocityThreshold = 58,
    RotorScale = 59,
    RotorOffset = 60,

    // References.
    LangevinDamping = 61,
    LangevinStiffness = 62,
    LangevinNoise = 63,
    LangevinSmoothing = 64,

    // Initial states.
    Guidance = 65,
    InitialPosition = 66,
    InitialTurns = 67,
    InitialVelocity = 68,
    InitialAngularVelocity = 69,
    InitialRotorMin = 70,
    InitialRotorRange = 71,
    ForceMean = 72,
    ForceStd = 73,
    TorqueMean = 74,
    TorqueStd = 75,
    LangevinShare = 76,

    /// <summary>The rows of <see cref="DroneParameters"/>, for observations.</summary>
    Parameters = 77,
}

internal static class QuadrotorConstants
{
    public const int Total = (int)Parameters + DroneParameters.Total;

    /// <summary>Writes one drone's constants into one lane of a block.</summary>
    public static void Pack(QuadrotorParameters drone, Span<float> block, int lane)
    {
        Span<float> column = stackalloc float[Total];
        PackDynamics(drone.Dynamics, drone.Integration.Dt, column);
        PackTask(drone.Mdp.Reward, drone.Mdp.Termination, column);
        PackReference(drone.Trajectory, drone.Integration.Dt, column);
        PackInitialStates(drone.Mdp.Init, drone.Dynamics.ActionLimit, drone.Disturbances, column);
        DroneParameters.Pack(drone, column[(int)Parameters..]);
        for (var row = 0; row < Total; row++)
            block[row * Panel.Width + lane] = column[row];
    }

    private static void PackDynamics(QuadrotorDynamics dynamics, double dt, Span<float> column)
    {
        var (min, max) = (dynamics.ActionLimit.Min, dynamics.ActionLimit.Max);
        Set(column, TimeStep, dt);
        Set(column, ActionCentre, (min + max) / 2);
        Set(column, ActionHalfRange, (max - min) / 2);
        Set(column, RotorMin, min);
        Set(column, RotorMax, max);
        Set(column, RotorScale, 2 / (max - min));
        Set(column, RotorOffset, -1 - min * 2 / (max - min));
        for (var rotor = 0; rotor < 4; rotor++)
        {
            Set(column, RisingShare + rotor, dt / dynamics.RotorTimeConstantsRising[rotor]);
            Set(column, FallingShare + rotor, dt / dynamics.RotorTimeConstantsFalling[rotor]);
            Set(column, Thrust0 + rotor, dynamics.RotorThrustCoefficients[rotor][0]);
            Set(column, Thrust1 + rotor, dynamics.RotorThrustCoefficients[rotor][1]);
            Set(column, Thrust2 + rotor, dynamics.RotorThrustCoefficients[rotor][2]);
            Set(column, RollPerThrust + rotor, dynamics.AccelerationPerThrust(rotor, 0));
            Set(column, PitchPerThrust + rotor, dynamics.AccelerationPerThrust(rotor, 1));
            Set(column, YawPerThrust + rotor, dynamics.AccelerationPerThrust(rotor, 2));
        }
        for (var i = 0; i < 3; i++)
        {
            var (j, k) = ((i + 1) % 3, (i + 2) % 3);
            Set(column, InverseInertia + i, dynamics.JInv[i][i]);
            Set(column, Gyroscopic + i, dynamics.JInv[i][i] * (dynamics.J[j][j] - dynamics.J[k][k]));
            Set(column, Gravity + i, dynamics.Gravity[i]);
        }
        Set(column, InverseMass, 1 / dynamics.Mass);
    }

    private static void PackTask(RewardWeights reward, QuadrotorTermination termination, Span<float> column)
    {
        Set(column, RewardConstant, reward.Constant);
        Set(column, PositionWeight, reward.Scale * reward.Position);
        Set(column, PositionClip, Limit(reward.PositionClip > 0, reward.PositionClip));
        Set(column, YawWeight, reward.Scale * reward.Orientation * 2);
        Set(column, ActionChangeWeight, reward.Scale * reward.DAction);
        Set(column, VelocityWeight, reward.Scale * reward.LinearVelocity);
        Set(column, AngularVelocityWeight, reward.Scale * reward.AngularVelocity);
        Set(column, RewardFloor, reward.NonNegative ? 0 : double.NegativeInfinity);
        Set(column, TerminationPenalty, reward.TerminationPenalty);
        var on = termination.Enabled;
        Set(column, PositionThreshold, Limit(on, termination.PositionThreshold));
        Set(column, VelocityThreshold, Limit(on, termination.LinearVelocityThreshold));
        Set(column, AngularVelocityThreshold, Limit(on, termination.AngularVelocityThreshold));
    }

    private static void PackReference(QuadrotorTrajectory trajectory, double dt, Span<float> column)
    {
        Set(column, LangevinDamping, trajectory.Langevin.Gamma);
        Set(column, LangevinStiffness, trajectory.Langevin.Omega * trajectory.Langevin.Omega);
        Set(column, LangevinNoise, trajectory.Langevin.Sigma * Math.Sqrt(dt));
        Set(column, LangevinSmoothing, trajectory.Langevin.Alpha);
        Set(column, LangevinShare, trajectory.Mixture[1]);
    }

    private static void PackInitialStates(
        InitialStates init,
        ActionLimit limit,
        QuadrotorDisturbances disturbances,
        Span<float> column
    )
    {
        Set(column, Guidance, init.Guidance);
        Set(column, InitialPosition, init.MaxPosition);
        // Half of an angle of 1 rad, in turns; see InitialStates.MaxAngle.
        Set(column, InitialTurns, init.MaxAngle > 0 ? 0.5 / Math.Tau : 0);
        Set(column, InitialVelocity, init.MaxLinearVelocity);
        Set(column, InitialAngularVelocity, init.MaxAngularVelocity);
        var (min, max) = RotorRange(init, limit);
        Set(column, InitialRotorMin, min);
        Set(column, InitialRotorRange, max - min);
        Set(column, ForceMean, disturbances.RandomForce.Mean);
        Set(column, ForceStd, disturbances.RandomForce.Std);
        Set(column, TorqueMean, disturbances.RandomTorque.Mean);
        Set(column, TorqueStd, disturbances.RandomTorque.Std);
    }

    private static (double Min, double Max) RotorRange(InitialStates init, ActionLimit limit)
    {
        if (init.RelativeRpm)
            return (
                limit.Min + (init.MinRpm + 1) / 2 * (limit.Max - limit.Min),
                limit.Min + (init.MaxRpm + 1) / 2 * (limit.Max - limit.Min)
            );
        var max = init.MaxRpm < 0 ? limit.Max : Math.Min(init.MaxRpm, limit.Max);
        return (Math.Min(init.MinRpm < 0 ? limit.Min : init.MinRpm, max), max);
    }

    private static double Limit(bool enabled, double value) => enabled ? value : double.PositiveInfinity;

    private static void Set(Span<float> column, QuadrotorConstant constant, double value) =>
        column[(int)constant] = (float)value;
}
