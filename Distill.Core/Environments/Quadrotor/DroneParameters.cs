namespace Distill.Environments.Quadrotor;

/// <summary>
/// What of a drone decides how it must be flown, as the rows of the privileged observation: each on the scale on which the
/// drones of <see cref="DroneSampling"/> spread, its range mapped to [-1, 1]. Drones beyond a range are beyond [-1, 1].
/// </summary>
internal static class DroneParameters
{
    /// <summary>A number of a drone, and the range of its logarithm that becomes [-1, 1].</summary>
    private sealed record Parameter(
        string Name,
        string Unit,
        double Low,
        double High,
        Func<QuadrotorParameters, double> Of
    )
    {
        public string Description =>
            FormattableString.Invariant($"log of {Name}, {Low} to {High}{Unit} mapped to [-1, 1]");

        public double Value(QuadrotorParameters drone)
        {
            // Where episodes never end for their position, or a rotor follows at once, the logarithm would have no bound.
            var value = Math.Clamp(Of(drone), Low / 10, High * 10);
            return (2 * Math.Log(value) - Math.Log(Low * High)) / Math.Log(High / Low);
        }
    }

    private static readonly Parameter[] All =
    [
        new("thrust to weight", "", 1.5, 5, drone => MostThrust(drone.Dynamics) / Weight(drone.Dynamics)),
        new("largest roll acceleration", " rad/s^2", 56, 1700, drone => Turning(drone.Dynamics, 0)),
        new("largest pitch acceleration", " rad/s^2", 56, 1700, drone => Turning(drone.Dynamics, 1)),
        new("largest yaw acceleration", " rad/s^2", 2, 1400, drone => Turning(drone.Dynamics, 2)),
        new(
            "time constant of rising rotors",
            " s",
            0.03,
            0.1,
            drone => drone.Dynamics.RotorTimeConstantsRising.Average()
        ),
        new(
            "time constant of falling rotors",
            " s",
            0.03,
            0.3,
            drone => drone.Dynamics.RotorTimeConstantsFalling.Average()
        ),
        new("position threshold", " m", 0.5, 5, drone => Threshold(drone.Mdp.Termination)),
    ];

    /// <summary>Rows: the parameters, and the action at which the drone hovers.</summary>
    public const int Total = 8;

    /// <summary>What each row is.</summary>
    public static string[] Descriptions { get; } =
    [.. All.Select(parameter => parameter.Description), "action that hovers"];

    /// <summary>Writes the rows of one drone.</summary>
    public static void Pack(QuadrotorParameters drone, Span<float> rows)
    {
        for (var i = 0; i < All.Length; i++)
            rows[i] = (float)All[i].Value(drone);
        rows[All.Length] = (float)HoverAction(drone.Dynamics);
    }

    private static double Weight(QuadrotorDynamics dynamics) =>
        dynamics.Mass * Math.Sqrt(dynamics.Gravity.Sum(g => g * g));

    /// <summary>Thrust of all rotors in one state, N.</summary>
    private static double Thrust(QuadrotorDynamics dynamics, double state) =>
        Enumerable.Range(0, 4).Sum(rotor => dynamics.Thrust(rotor, state));

    private static double MostThrust(QuadrotorDynamics dynamics) =>
        Thrust(dynamics, dynamics.ActionLimit.Max);

    /// <summary>Angular acceleration about a body axis with all rotors that turn it one way at their most, rad/s^2.</summary>
    private static double Turning(QuadrotorDynamics dynamics, int axis) =>
        Enumerable
            .Range(0, 4)
            .Sum(rotor =>
                dynamics.Thrust(rotor, dynamics.ActionLimit.Max)
                * Math.Max(0, dynamics.AccelerationPerThrust(rotor, axis))
            );

    private static double Threshold(QuadrotorTermination termination) =>
        termination.Enabled ? termination.PositionThreshold : double.PositiveInfinity;

    /// <summary>The action, the same for all rotors, that carries the weight; by bisection, as thrust grows with it.</summary>
    private static double HoverAction(QuadrotorDynamics dynamics)
    {
        var (min, max) = (dynamics.ActionLimit.Min, dynamics.ActionLimit.Max);
        var (low, high) = (min, max);
        for (var i = 0; i < 50; i++)
        {
            var middle = (low + high) / 2;
            if (Thrust(dynamics, middle) < Weight(dynamics))
                low = middle;
            else
                high = middle;
        }
        return 2 * (low - min) / (max - min) - 1;
    }
}
