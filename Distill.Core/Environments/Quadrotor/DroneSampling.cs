using Distill.Compute;

namespace Distill.Environments.Quadrotor;

/// <summary>Which description of RAPTOR's sampler is followed. Ranges and order are the same.</summary>
public enum SamplingProcedure
{
    /// <summary>What its code does (rl-tools, commit e43ae4bc), with which the published policy was trained.</summary>
    Code,

    /// <summary>
    /// What the paper says (arXiv 2509.11481, S16 to S27): the arm is divided by the deviation of size, inertia counts all
    /// four rotors at the whole diagonal (5.66 times as much) with Jxx = Jyy and Jzz = 1.832 Jxx, and the disturbance does not
    /// grow with the weight.
    /// </summary>
    Paper,
}

/// <summary>How a quantity is drawn from its range.</summary>
public enum Spread
{
    /// <summary>Every value alike.</summary>
    Uniform,

    /// <summary>Every order of magnitude alike: low values more often.</summary>
    LogUniform,
}

/// <summary>
/// Drones drawn by the procedure of RAPTOR's foundation policy, each a Crazyflie made heavier, larger, stronger and slower.
/// Drone i is a function of (seed, i): it does not depend on how many are drawn.
/// </summary>
public sealed record DroneSampling
{
    /// <summary>The most that are drawn at once.</summary>
    public const int NumberLimit = 100_000;

    private const double Gravity = 9.81;

    /// <summary>Drones. Raise for a student that meets more kinds, lower to look at a few; RAPTOR has 1,000.</summary>
    public int Number { get; init; } = 1000;

    /// <summary>Another seed gives other drones, such as those of an evaluation.</summary>
    public ulong Seed { get; init; }

    /// <summary>The code's version or the paper's.</summary>
    public SamplingProcedure Procedure { get; init; } = SamplingProcedure.Code;

    /// <summary>From where to where each quantity is drawn; the defaults are those published.</summary>
    public DomainRandomization Ranges { get; init; } = DomainRandomization.Published;

    /// <summary>
    /// How the ratio of torque to inertia is drawn. Uniform as published; log-uniform for a training that meets sluggish drones,
    /// which are the hardest to fly, as often as agile ones: a quarter of them below 94 instead of a twentieth.
    /// </summary>
    public Spread TorqueToInertia { get; init; } = Spread.Uniform;

    /// <summary>The drones 0 .. <see cref="Number"/> - 1.</summary>
    /// <exception cref="DistillException">A field has no sense.</exception>
    public IReadOnlyList<QuadrotorParameters> Draw()
    {
        Check();
        return [.. Enumerable.Range(0, Number).Select(Drone)];
    }

    private QuadrotorParameters Drone(int index)
    {
        var thrustToWeight = Uniform(
            "thrust_to_weight",
            index,
            Ranges.ThrustToWeightMin,
            Ranges.ThrustToWeightMax
        );
        var side = Uniform("mass", index, Math.Cbrt(Ranges.MassMin), Math.Cbrt(Ranges.MassMax));
        var mass = Math.Clamp(side * side * side, Ranges.MassMin, Ranges.MassMax);
        // The published sampler takes a normal here by mistake, and says so.
        var deviation =
            Ranges.MassSizeDeviation * (new RandomStream(Seed, "drone.size").Normal((uint)index) - 1);
        var force = Uniform(
            "disturbance_force",
            index,
            0,
            Ranges.DisturbanceForceMax * (thrustToWeight - 1) / 3
        );
        return Assemble(
            new(
                thrustToWeight,
                mass,
                deviation < 0 ? 1 / (1 - deviation) : 1 + deviation,
                Agility(index),
                Uniform(
                    "rotor_torque_constant",
                    index,
                    Ranges.RotorTorqueConstantMin,
                    Ranges.RotorTorqueConstantMax
                ),
                Uniform(
                    "rotor_time_constant_rising",
                    index,
                    Ranges.RotorTimeConstantRisingMin,
                    Ranges.RotorTimeConstantRisingMax
                ),
                Uniform(
                    "rotor_time_constant_falling",
                    index,
                    Ranges.RotorTimeConstantFallingMin,
                    Ranges.RotorTimeConstantFallingMax
                ),
                Procedure == SamplingProcedure.Code ? force * thrustToWeight * mass : force
            )
        ) with
        {
            Name = index.ToString("D5"),
        };
    }

    /// <summary>What is drawn of a drone, before it becomes one.</summary>
    /// <param name="SizeFactor">Of the arm that its mass would give it.</param>
    /// <param name="DisturbanceForce">Standard deviation, N.</param>
    internal sealed record Draws(
        double ThrustToWeight,
        double Mass,
        double SizeFactor,
        double TorqueToInertia,
        double TorqueConstant,
        double Rising,
        double Falling,
        double DisturbanceForce
    );

    /// <summary>The drone that has these numbers.</summary>
    internal QuadrotorParameters Assemble(Draws draws)
    {
        var crazyflie = Airframes.Get("crazyflie");
        var old = crazyflie.Dynamics;
        var length = Math.Cbrt(draws.Mass / old.Mass);
        length = Procedure == SamplingProcedure.Code ? length * draws.SizeFactor : length / draws.SizeFactor;
        var positions = Scaled(old.RotorPositions, length);
        var arm = Math.Sqrt(2) * Math.Abs(positions[0][0]);
        var thrust = draws.ThrustToWeight * draws.Mass * Gravity;
        var inertia =
            Procedure == SamplingProcedure.Code
                ? InertiaLike(old.J, arm * thrust / 4 / draws.TorqueToInertia)
                : InertiaLike([1, 1, 1.832], Math.Sqrt(2) * arm * thrust / draws.TorqueToInertia);
        return crazyflie with
        {
            Dynamics = old with
            {
                Mass = draws.Mass,
                RotorPositions = positions,
                RotorThrustCoefficients = Scaled(
                    old.RotorThrustCoefficients,
                    thrust / 4 / old.RotorThrustCoefficients[0].Sum()
                ),
                RotorTorqueConstants = Four(draws.TorqueConstant),
                RotorTimeConstantsRising = Four(draws.Rising),
                RotorTimeConstantsFalling = Four(draws.Falling),
                J = Diagonal(inertia),
                JInv = Diagonal(Array.ConvertAll(inertia, one => 1 / one)),
            },
            Mdp = crazyflie.Mdp with
            {
                Init = crazyflie.Mdp.Init with { MaxPosition = 10 * arm },
                Termination = crazyflie.Mdp.Termination with { PositionThreshold = 20 * arm },
            },
            Disturbances = new() { RandomForce = new() { Std = draws.DisturbanceForce } },
        };
    }

    private double Agility(int index)
    {
        var (low, high) = (Ranges.TorqueToInertiaMin, Ranges.TorqueToInertiaMax);
        return TorqueToInertia == Spread.Uniform
            ? Uniform("torque_to_inertia", index, low, high)
            : Math.Exp(Uniform("torque_to_inertia", index, Math.Log(low), Math.Log(high)));
    }

    private double Uniform(string quantity, int index, double low, double high) =>
        low + (high - low) * new RandomStream(Seed, $"drone.{quantity}").Uniform((uint)index);

    /// <summary>Inertia about x, y and z with the ratios of another, and this about x.</summary>
    private static double[] InertiaLike(double[][] other, double x) =>
        InertiaLike([1, other[1][1] / other[0][0], other[2][2] / other[0][0]], x);

    private static double[] InertiaLike(double[] ratios, double x) =>
        Array.ConvertAll(ratios, ratio => ratio * x);

    private static double[][] Scaled(double[][] rows, double factor) =>
        Array.ConvertAll(rows, row => Array.ConvertAll(row, value => factor * value));

    private static double[] Four(double value) => [value, value, value, value];

    private static double[][] Diagonal(double[] values) =>
        [
            [values[0], 0, 0],
            [0, values[1], 0],
            [0, 0, values[2]],
        ];

    private void Check()
    {
        if (Number is < 1 or > NumberLimit)
            throw new DistillException(
                $"Quadrotor sampled.number is {Number}; it must be between 1 and {NumberLimit}."
            );
        if (!Enum.IsDefined(Procedure))
            throw new DistillException(
                $"Quadrotor sampled.procedure is {Procedure}; it must be one of: "
                    + $"{string.Join(", ", Enum.GetNames<SamplingProcedure>())}."
            );
        if (!Enum.IsDefined(TorqueToInertia))
            throw new DistillException(
                $"Quadrotor sampled.torque_to_inertia is {TorqueToInertia}; it must be one of: "
                    + $"{string.Join(", ", Enum.GetNames<Spread>())}."
            );
        Range("thrust_to_weight", Ranges.ThrustToWeightMin, Ranges.ThrustToWeightMax, least: 1);
        Range("torque_to_inertia", Ranges.TorqueToInertiaMin, Ranges.TorqueToInertiaMax);
        Range("mass", Ranges.MassMin, Ranges.MassMax);
        Range("rotor_torque_constant", Ranges.RotorTorqueConstantMin, Ranges.RotorTorqueConstantMax);
        Range(
            "rotor_time_constant_rising",
            Ranges.RotorTimeConstantRisingMin,
            Ranges.RotorTimeConstantRisingMax
        );
        Range(
            "rotor_time_constant_falling",
            Ranges.RotorTimeConstantFallingMin,
            Ranges.RotorTimeConstantFallingMax
        );
        // Six standard deviations below the mean the arm would still be longer than nothing.
        Bounded("mass_size_deviation", Ranges.MassSizeDeviation, 10);
        Bounded("disturbance_force_max", Ranges.DisturbanceForceMax, 10);
        Bounded("orientation_offset_angle_max", Ranges.OrientationOffsetAngleMax, 0);
    }

    private static void Range(string name, double low, double high, double least = 0)
    {
        if (!(low > 0 && low >= least && high >= low && double.IsFinite(high)))
            throw new DistillException(
                $"Quadrotor sampled.ranges has {name} from {low} to {high}; it must be positive"
                    + $"{(least > 0 ? $", at least {least}" : "")} and not run backwards."
            );
    }

    private static void Bounded(string name, double value, double most)
    {
        if (!(value >= 0 && value <= most))
            throw new DistillException(
                $"Quadrotor sampled.ranges.{name} is {value}; it must be "
                    + (most == 0 ? "0, which is all that the sampler implements." : $"between 0 and {most}.")
            );
    }
}
