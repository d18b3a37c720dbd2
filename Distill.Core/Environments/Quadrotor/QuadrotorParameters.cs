using System.Text.Json.Serialization;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// Everything that makes one drone and its task: the content of a parameter file of rl-tools' L2F simulator, field for
/// field. SI units; world frame right-handed with z up, body frame x forward, y left, z up; rotors in the order
/// front-right, back-right, back-left, front-left.
/// </summary>
public sealed record QuadrotorParameters
{
    /// <summary>Which drone: an airframe's name, or the name of the parameter file. Not part of the file.</summary>
    [JsonIgnore]
    public string Name { get; init; } = "unnamed";

    [JsonRequired]
    public required QuadrotorDynamics Dynamics { get; init; }

    [JsonRequired]
    public QuadrotorIntegration Integration { get; init; } = new();

    [JsonRequired]
    public QuadrotorMdp Mdp { get; init; } = new();

    [JsonRequired]
    public QuadrotorDisturbances Disturbances { get; init; } = new();

    /// <summary>Ranges of the sampler of drones. The simulator does not read them.</summary>
    public DomainRandomization DomainRandomization { get; init; } = new();

    [JsonRequired]
    public QuadrotorTrajectory Trajectory { get; init; } = new();

    /// <summary>Refuses what has no physical sense and what the simulator does not implement.</summary>
    /// <param name="source">Named in the message: a file or an airframe.</param>
    /// <exception cref="DistillException">One field is wrong; the message names it.</exception>
    public void Check(string source) => new ParameterCheck(source).Run(this);
}

/// <summary>The rigid body and its rotors.</summary>
public sealed record QuadrotorDynamics
{
    /// <summary>Rotor centres in the body frame, m, <c>[4][3]</c>. Heights do not matter: thrust is along +z.</summary>
    [JsonRequired]
    public required double[][] RotorPositions { get; init; }

    /// <summary>Unit vectors in the body frame, <c>[4][3]</c>; the simulator takes (0, 0, 1) alone.</summary>
    [JsonRequired]
    public double[][] RotorThrustDirections { get; init; } =
    [
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 1],
    ];

    /// <summary>Direction of the drag torque of each rotor in the body frame, <c>[4][3]</c>.</summary>
    [JsonRequired]
    public double[][] RotorTorqueDirections { get; init; } =
    [
        [0, 0, -1],
        [0, 0, 1],
        [0, 0, -1],
        [0, 0, 1],
    ];

    /// <summary>c0, c1, c2 of each rotor, <c>[4][3]</c>: thrust in N = c0 + c1 w + c2 w^2 of the rotor state w.</summary>
    [JsonRequired]
    public required double[][] RotorThrustCoefficients { get; init; }

    /// <summary>Drag torque per thrust, m, <c>[4]</c>.</summary>
    [JsonRequired]
    public required double[] RotorTorqueConstants { get; init; }

    /// <summary>First-order lag while the rotor state rises, s, <c>[4]</c>.</summary>
    [JsonRequired]
    public required double[] RotorTimeConstantsRising { get; init; }

    /// <summary>First-order lag while the rotor state falls, s, <c>[4]</c>.</summary>
    [JsonRequired]
    public required double[] RotorTimeConstantsFalling { get; init; }

    /// <summary>kg.</summary>
    [JsonRequired]
    public required double Mass { get; init; }

    /// <summary>World frame, m/s^2.</summary>
    [JsonRequired]
    public double[] Gravity { get; init; } = [0, 0, -9.81];

    /// <summary>Inertia, body frame, kg m^2, diagonal. It enters the gyroscopic torque alone.</summary>
    [JsonRequired]
    [JsonPropertyName("J")]
    public required double[][] J { get; init; }

    /// <summary>
    /// Used as given, never computed from <see cref="J"/>: files round J of small drones to one or two digits.
    /// </summary>
    [JsonRequired]
    [JsonPropertyName("J_inv")]
    public required double[][] JInv { get; init; }

    /// <summary>Relative action that hovers, as rl-tools stores it. The simulator does not read it.</summary>
    public double HoveringThrottleRelative { get; init; }

    [JsonRequired]
    public ActionLimit ActionLimit { get; init; } = new();

    /// <summary>Thrust of a rotor in a state, N.</summary>
    internal double Thrust(int rotor, double state)
    {
        var c = RotorThrustCoefficients[rotor];
        return c[0] + state * (c[1] + state * c[2]);
    }

    /// <summary>
    /// Angular acceleration about a body axis per newton of a rotor's thrust f, rad/s^2/N: J_inv (r x (0, 0, f) + kappa f t) per f.
    /// </summary>
    internal double AccelerationPerThrust(int rotor, int axis)
    {
        var drag = RotorTorqueConstants[rotor] * RotorTorqueDirections[rotor][axis];
        return JInv[axis][axis]
            * axis switch
            {
                0 => RotorPositions[rotor][1] + drag,
                1 => drag - RotorPositions[rotor][0],
                _ => drag,
            };
    }
}

/// <summary>Range of the rotor state and of its command; an action of -1 commands Min, +1 commands Max.</summary>
public sealed record ActionLimit
{
    [JsonRequired]
    public double Min { get; init; }

    [JsonRequired]
    public double Max { get; init; } = 1;
}

public sealed record QuadrotorIntegration
{
    /// <summary>Seconds of one step.</summary>
    [JsonRequired]
    public double Dt { get; init; } = 0.01;
}

/// <summary>The task as a Markov decision process.</summary>
public sealed record QuadrotorMdp
{
    [JsonRequired]
    public InitialStates Init { get; init; } = new();

    [JsonRequired]
    public RewardWeights Reward { get; init; } = new();

    /// <summary>Standard deviations; the simulator takes zeros alone.</summary>
    public ObservationNoise ObservationNoise { get; init; } = new();

    /// <summary>Standard deviations; the simulator takes zeros alone.</summary>
    public ActionNoise ActionNoise { get; init; } = new();

    [JsonRequired]
    public QuadrotorTermination Termination { get; init; } = new();
}

/// <summary>The distribution of initial states; the defaults are those that rl-tools' distillation puts in place of a file's.</summary>
public sealed record InitialStates
{
    /// <summary>Share of episodes that start at rest, level, in the origin. Raise it when training from scratch finds nothing to hold on to.</summary>
    [JsonRequired]
    public double Guidance { get; init; } = 0.1;

    /// <summary>Each coordinate is uniform within plus and minus this, m.</summary>
    [JsonRequired]
    public double MaxPosition { get; init; } = 0.5;

    /// <summary>
    /// Above 0: turned about a random axis by an angle uniform on 0 to 1 rad. The bound is 1 whatever the value, as in
    /// the code that trained the published policy. 0: level.
    /// </summary>
    [JsonRequired]
    public double MaxAngle { get; init; } = 1.570796;

    /// <summary>Each component of the velocity (world) is uniform within plus and minus this, m/s.</summary>
    [JsonRequired]
    public double MaxLinearVelocity { get; init; } = 1;

    /// <summary>Each component of the angular velocity (body) is uniform within plus and minus this, rad/s.</summary>
    [JsonRequired]
    public double MaxAngularVelocity { get; init; } = 1;

    /// <summary>The two rotor limits are in action units (-1 to 1) instead of rotor states.</summary>
    [JsonRequired]
    public bool RelativeRpm { get; init; } = true;

    /// <summary>Lower end of the uniform initial rotor state; negative and not relative: the action limit.</summary>
    [JsonRequired]
    public double MinRpm { get; init; } = -1;

    /// <summary>Upper end of the uniform initial rotor state; negative and not relative: the action limit.</summary>
    [JsonRequired]
    public double MaxRpm { get; init; }
}

/// <summary>
/// Reward of a step: constant - scale * (sum of weight * cost), and <see cref="TerminationPenalty"/> instead where the
/// next state is terminal. Costs are norms, not squares, of the state before the step.
/// </summary>
public sealed record RewardWeights
{
    /// <summary>Negative rewards become 0 (the termination penalty stays).</summary>
    [JsonRequired]
    public bool NonNegative { get; init; }

    [JsonRequired]
    public double Scale { get; init; } = 1;

    [JsonRequired]
    public double Constant { get; init; } = 1.5;

    /// <summary>Reward, not cost: negative.</summary>
    [JsonRequired]
    public double TerminationPenalty { get; init; } = -100;

    /// <summary>Per m of distance to the reference.</summary>
    [JsonRequired]
    public double Position { get; init; } = 1;

    /// <summary>Largest distance that is charged, m; 0: no limit.</summary>
    public double PositionClip { get; init; }

    /// <summary>Per rad of 2 acos(1 - |q_z|), which charges yaw.</summary>
    [JsonRequired]
    public double Orientation { get; init; } = 0.1;

    /// <summary>Per m/s of velocity error.</summary>
    [JsonRequired]
    public double LinearVelocity { get; init; }

    /// <summary>Per rad/s.</summary>
    [JsonRequired]
    public double AngularVelocity { get; init; }

    /// <summary>The simulator takes 0 alone.</summary>
    public double LinearAcceleration { get; init; }

    /// <summary>The simulator takes 0 alone.</summary>
    public double AngularAcceleration { get; init; }

    /// <summary>The simulator takes 0 alone.</summary>
    public double Action { get; init; }

    /// <summary>Of the norm of the change between one action and the next, unclamped.</summary>
    [JsonRequired]
    public double DAction { get; init; } = 1;

    /// <summary>The simulator takes 0 alone.</summary>
    public double PositionErrorIntegral { get; init; }
}

public sealed record ObservationNoise
{
    public double Position { get; init; }
    public double Orientation { get; init; }
    public double LinearVelocity { get; init; }
    public double AngularVelocity { get; init; }
    public double ImuAcceleration { get; init; }
}

public sealed record ActionNoise
{
    public double NormalizedRpm { get; init; }
}

/// <summary>A state is terminal when any component of these exceeds its threshold.</summary>
public sealed record QuadrotorTermination
{
    [JsonRequired]
    public bool Enabled { get; init; } = true;

    /// <summary>m, from the origin of the world (figure-eight: from the reference).</summary>
    [JsonRequired]
    public double PositionThreshold { get; init; } = 1;

    /// <summary>m/s, of the velocity in the world (figure-eight: of the velocity error).</summary>
    [JsonRequired]
    public double LinearVelocityThreshold { get; init; } = 2;

    /// <summary>rad/s.</summary>
    [JsonRequired]
    public double AngularVelocityThreshold { get; init; } = 35;

    /// <summary>Of an integral that this simulator's state does not have; not read.</summary>
    public double PositionIntegralThreshold { get; init; } = 10000;

    /// <summary>Of an integral that this simulator's state does not have; not read.</summary>
    public double OrientationIntegralThreshold { get; init; } = 50000;
}

/// <summary>Forces and torques that are drawn once per episode and stay.</summary>
public sealed record QuadrotorDisturbances
{
    /// <summary>World frame, N, each component.</summary>
    [JsonRequired]
    public NormalDisturbance RandomForce { get; init; } = new();

    /// <summary>Body frame, N m, each component; z has a hundredth of the standard deviation.</summary>
    [JsonRequired]
    public NormalDisturbance RandomTorque { get; init; } = new();
}

public sealed record NormalDisturbance
{
    [JsonRequired]
    public double Mean { get; init; }

    [JsonRequired]
    public double Std { get; init; }
}

/// <summary>Ranges from which <see cref="DroneSampling"/> draws drones; zeros in a file that is itself a sample.</summary>
public sealed record DomainRandomization
{
    /// <summary>What RAPTOR's 1,000 drones were drawn from.</summary>
    public static DomainRandomization Published { get; } =
        new()
        {
            ThrustToWeightMin = 1.5,
            ThrustToWeightMax = 5,
            TorqueToInertiaMin = 40,
            TorqueToInertiaMax = 1200,
            MassMin = 0.02,
            MassMax = 5,
            MassSizeDeviation = 0.1,
            RotorTimeConstantRisingMin = 0.03,
            RotorTimeConstantRisingMax = 0.1,
            RotorTimeConstantFallingMin = 0.03,
            RotorTimeConstantFallingMax = 0.3,
            RotorTorqueConstantMin = 0.005,
            RotorTorqueConstantMax = 0.05,
            DisturbanceForceMax = 0.3,
        };

    /// <summary>Largest thrust of all rotors per weight, at least 1. Raise for drones that are easier to hold up.</summary>
    public double ThrustToWeightMin { get; init; }

    /// <summary>Raise for livelier drones.</summary>
    public double ThrustToWeightMax { get; init; }

    /// <summary>See <see cref="DroneFigures.TorqueToInertia"/>, 1/s^2. Raise to leave out drones that hardly turn.</summary>
    public double TorqueToInertiaMin { get; init; }

    /// <summary>1/s^2. Lower to leave out drones that turn at the least difference between rotors.</summary>
    public double TorqueToInertiaMax { get; init; }

    /// <summary>kg; the cube root of the mass is uniform. Sizes follow the mass.</summary>
    public double MassMin { get; init; }

    /// <summary>kg.</summary>
    public double MassMax { get; init; }

    /// <summary>
    /// Standard deviation, and minus the mean, of the normal by which arms are relatively longer than the mass says. Raise for
    /// stranger shapes.
    /// </summary>
    public double MassSizeDeviation { get; init; }

    /// <summary>Lag of rotors that speed up, s, at least a step.</summary>
    public double RotorTimeConstantRisingMin { get; init; }

    /// <summary>s. Lower for drones that are easier to fly.</summary>
    public double RotorTimeConstantRisingMax { get; init; }

    /// <summary>Lag of rotors that slow down, s, at least a step.</summary>
    public double RotorTimeConstantFallingMin { get; init; }

    /// <summary>s. Lower for drones that are easier to fly.</summary>
    public double RotorTimeConstantFallingMax { get; init; }

    /// <summary>Drag torque per thrust, m. Lower for drones that hardly control their yaw.</summary>
    public double RotorTorqueConstantMin { get; init; }

    /// <summary>m.</summary>
    public double RotorTorqueConstantMax { get; init; }

    /// <summary>The published range is 0, and nothing else is implemented.</summary>
    public double OrientationOffsetAngleMax { get; init; }

    /// <summary>
    /// Bound of three standard deviations of the disturbance per surplus of thrust to weight over 1. Raise for more wind.
    /// </summary>
    public double DisturbanceForceMax { get; init; }
}

/// <summary>The moving references and how often each occurs.</summary>
public sealed record QuadrotorTrajectory
{
    /// <summary>Number of entries of <see cref="Mixture"/>.</summary>
    [JsonPropertyName("MIXTURE_N")]
    public int MixtureCount { get; init; } = 2;

    /// <summary>Probabilities of (position hold, Langevin reference), summing to 1.</summary>
    [JsonRequired]
    public double[] Mixture { get; init; } = [0.5, 0.5];

    [JsonRequired]
    public LangevinProcess Langevin { get; init; } = new();
}

/// <summary>
/// A damped spring driven by noise and smoothed, per axis: dv = (-gamma v - omega^2 x) dt + sigma dW, dx = v dt;
/// the reference's velocity follows v by <see cref="Alpha"/> per step, its position integrates that.
/// </summary>
public sealed record LangevinProcess
{
    /// <summary>Damping, 1/s.</summary>
    [JsonRequired]
    public double Gamma { get; init; } = 1;

    /// <summary>Natural frequency, rad/s.</summary>
    [JsonRequired]
    public double Omega { get; init; } = 2;

    /// <summary>Noise, m/s^1.5.</summary>
    [JsonRequired]
    public double Sigma { get; init; } = 0.5;

    /// <summary>Share of the new velocity in the smoothed one, per step.</summary>
    [JsonRequired]
    public double Alpha { get; init; } = 0.01;
}
