namespace Distill.Environments.Quadrotor;

/// <summary>The numbers by which drones are compared: a row of the table of sampled drones.</summary>
/// <param name="Name">Which drone.</param>
/// <param name="Mass">kg.</param>
/// <param name="ArmLength">Largest distance of a rotor from the centre, m.</param>
/// <param name="MassToSize">Cube root of the mass per arm length, kg^(1/3)/m.</param>
/// <param name="ThrustToWeight">All rotors at the upper action limit, per weight at 9.81 m/s^2.</param>
/// <param name="TorqueToInertia">
/// sqrt(2) |x of rotor 0| times a rotor's largest thrust, per inertia about x, 1/s^2: how fast it can begin to turn.
/// </param>
/// <param name="Inertia">About x, kg m^2: what <see cref="QuadrotorDynamics.JInv"/> says, which files do not round away.</param>
/// <param name="RotorTorqueConstant">Of rotor 0, drag torque per thrust, m.</param>
/// <param name="TimeConstantRising">Of rotor 0, s.</param>
/// <param name="TimeConstantFalling">Of rotor 0, s.</param>
/// <param name="DisturbanceForceStd">Standard deviation of each component, N.</param>
/// <param name="DisturbanceToWeight">The same per weight.</param>
public sealed record DroneFigures(
    string Name,
    double Mass,
    double ArmLength,
    double MassToSize,
    double ThrustToWeight,
    double TorqueToInertia,
    double Inertia,
    double RotorTorqueConstant,
    double TimeConstantRising,
    double TimeConstantFalling,
    double DisturbanceForceStd,
    double DisturbanceToWeight
)
{
    public static DroneFigures Of(QuadrotorParameters drone)
    {
        var dynamics = drone.Dynamics;
        var weight = dynamics.Mass * 9.81;
        var arm = dynamics.RotorPositions.Max(at => Math.Sqrt(at.Sum(value => value * value)));
        double Thrust(int rotor) => dynamics.Thrust(rotor, dynamics.ActionLimit.Max);
        return new(
            drone.Name,
            dynamics.Mass,
            arm,
            Math.Cbrt(dynamics.Mass) / arm,
            Enumerable.Range(0, 4).Sum(Thrust) / weight,
            Math.Sqrt(2) * Math.Abs(dynamics.RotorPositions[0][0]) * Thrust(0) * dynamics.JInv[0][0],
            1 / dynamics.JInv[0][0],
            dynamics.RotorTorqueConstants[0],
            dynamics.RotorTimeConstantsRising[0],
            dynamics.RotorTimeConstantsFalling[0],
            drone.Disturbances.RandomForce.Std,
            drone.Disturbances.RandomForce.Std / weight
        );
    }
}
