namespace Distill.Environments.Quadrotor;

/// <summary>What the drone is asked to follow.</summary>
public enum QuadrotorTask
{
    /// <summary>Hold the origin.</summary>
    Position,

    /// <summary>Follow a smoothed Langevin process that starts in the origin.</summary>
    Langevin,

    /// <summary>Each episode is one of the two, with the probabilities of the drone's parameters (half and half).</summary>
    Mixture,

    /// <summary>
    /// Follow <see cref="QuadrotorConfig.FigureEight"/>. Every episode starts level and at rest on the path's start, with
    /// the usual random rotor states, and the termination thresholds for position and velocity count from the reference,
    /// because the path itself leaves the box that other tasks fly in.
    /// </summary>
    FigureEight,
}

/// <summary>
/// A lying figure of eight, the Lissajous curve x = h/2 sin 2a, y = h sin a, z = 0 about the origin with half length h,
/// which it leaves at rest: the angle's rate grows linearly during the ramp and then stays at one loop per loop time.
/// </summary>
public sealed record FigureEight
{
    /// <summary>
    /// Seconds of one loop. Lower is faster: 10 is easy (about 0.9 m/s), 5.5 what papers report (1.6 m/s at a half length of
    /// 1 m).
    /// </summary>
    public double LoopSeconds { get; init; } = 5.5;

    /// <summary>Half of the length along y, m; the width along x is half of the length. Raise for faster, wider flight.</summary>
    public double HalfLength { get; init; } = 1;

    /// <summary>Seconds until the full rate is reached. Raise when policies lose the reference at the start.</summary>
    public double RampSeconds { get; init; } = 3;
}

/// <summary>Which drone of the list each environment flies.</summary>
public enum DroneAssignment
{
    /// <summary>Environment i flies drone i modulo their number, so each panel has many drones.</summary>
    InTurn,

    /// <summary>
    /// All 32 environments of a panel fly one drone, and panels take the drones in turn: where what acts depends on the
    /// drone, such as a teacher for each.
    /// </summary>
    InPanels,

    /// <summary>
    /// The environments in equal blocks, one after another, each flying one drone: few drones in a panel, whatever the number of
    /// environments.
    /// </summary>
    InBlocks,
}

/// <summary>A batch of quadrotor environments; the defaults are those of RAPTOR's distillation, on a Crazyflie.</summary>
public sealed record QuadrotorConfig : IEnvironmentConfig
{
    /// <summary>
    /// Environments side by side. Multiples of 32 waste nothing; raise for throughput while 170 bytes each, and another 310
    /// where many drones fly, fit the cache.
    /// </summary>
    public int Envs { get; init; } = 128;

    /// <summary>
    /// The drones: names of airframes (<see cref="Airframes.Names"/>), parameter files (*.json), and folders of them.
    /// <see cref="DroneAssignment"/> says which environment flies which.
    /// </summary>
    public IReadOnlyList<string> Drones { get; init; } = ["crazyflie"];

    /// <summary>Drones drawn by RAPTOR's procedure, in place of <see cref="Drones"/>; null flies those that are named.</summary>
    public DroneSampling? Sampled { get; init; }

    /// <summary>
    /// How the drones are spread over the environments. In panels, every drone needs at least 32 environments to be flown
    /// at all.
    /// </summary>
    public DroneAssignment DroneAssignment { get; init; } = DroneAssignment.InTurn;

    /// <summary>What is followed.</summary>
    public QuadrotorTask Task { get; init; } = QuadrotorTask.Mixture;

    /// <summary>Steps (10 ms each with the usual parameters) after which an episode is truncated.</summary>
    public int EpisodeLimit { get; init; } = 500;

    /// <summary>Reward per step before costs, in place of the drones' own; null keeps theirs. The registry's default environment has 0.5.</summary>
    public double? RewardConstant { get; init; } = 1.5;

    /// <summary>
    /// Initial states in place of the drones' own (sampled drones: within ten rotor distances); null keeps theirs.
    /// </summary>
    public InitialStates? InitialStates { get; init; } = new();

    /// <summary>The path of the task of that name; other tasks ignore it.</summary>
    public FigureEight FigureEight { get; init; } = new();

    EnvironmentSpec IEnvironmentConfig.Spec => Spec(CheckedDrones(null));

    IEnvironmentConfig IEnvironmentConfig.Grouped => this with { DroneAssignment = DroneAssignment.InBlocks };

    IEnvironmentConfig IEnvironmentConfig.AtRest =>
        this with
        {
            Task = QuadrotorTask.Position,
            DroneAssignment = DroneAssignment.InBlocks,
        };

    public IBatchedEnvironment Create(int envs, ulong seed) =>
        new QuadrotorEnvironment(this with { Envs = envs }, seed);

    /// <summary>The parameters of the drones that are sampled or named, in order.</summary>
    /// <exception cref="DistillException">A name, a file or the sampling is wrong.</exception>
    public IReadOnlyList<QuadrotorParameters> LoadDrones() =>
        Sampled?.Draw()
        ??
        [
            .. Drones.SelectMany<string, QuadrotorParameters>(drone =>
                Directory.Exists(drone) ? ParameterFile.ReadFolder(drone)
                : drone.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ? [ParameterFile.Read(drone)]
                : [Airframes.Get(drone)]
            ),
        ];

    /// <summary>Index in the drones of the one that an environment flies.</summary>
    /// <param name="drones">How many there are.</param>
    public int DroneOf(int environment, int drones) =>
        DroneAssignment switch
        {
            DroneAssignment.InTurn => environment % drones,
            DroneAssignment.InPanels => environment / Panel.Width % drones,
            _ => (int)((long)Math.Min(environment, Envs - 1) * drones / Envs),
        };

    /// <summary>The facts about environments that fly these drones.</summary>
    internal EnvironmentSpec Spec(IReadOnlyList<QuadrotorParameters> drones) =>
        new(
            "quadrotor",
            QuadrotorViews.Groups,
            QuadrotorViews.Actions,
            EpisodeLimit,
            drones[0].Integration.Dt
        )
        {
            Measures = QuadrotorViews.Measures,
            SteadyStates = QuadrotorViews.SteadyStates,
            Variants = [.. drones.Select(drone => drone.Name)],
        };

    /// <summary>The drones as they are flown, with task, reward and initial states in place.</summary>
    /// <param name="given">In place of those that <see cref="Drones"/> names.</param>
    /// <exception cref="DistillException">The configuration or a drone is wrong.</exception>
    internal IReadOnlyList<QuadrotorParameters> CheckedDrones(IReadOnlyList<QuadrotorParameters>? given)
    {
        Check();
        QuadrotorParameters[] drones = [.. (given ?? LoadDrones()).Select(Apply)];
        if (drones.Length == 0)
            throw new DistillException(
                "Quadrotor drones is empty; name at least one airframe or parameter file."
            );
        foreach (var drone in drones)
            drone.Check(drone.Name);
        return drones;
    }

    /// <summary>The drone as this configuration flies it: with its task, reward and initial states in place.</summary>
    private QuadrotorParameters Apply(QuadrotorParameters drone) =>
        drone with
        {
            Mdp = drone.Mdp with
            {
                Init = (InitialStates ?? drone.Mdp.Init) switch
                {
                    var init when Task == QuadrotorTask.FigureEight => init with { Guidance = 1 },
                    var init => init,
                },
                Reward = drone.Mdp.Reward with { Constant = RewardConstant ?? drone.Mdp.Reward.Constant },
            },
            Trajectory = drone.Trajectory with
            {
                Mixture = Task switch
                {
                    QuadrotorTask.Mixture => drone.Trajectory.Mixture,
                    QuadrotorTask.Langevin => [0, 1],
                    _ => [1, 0],
                },
            },
        };

    /// <exception cref="DistillException">A field has no sense.</exception>
    private void Check()
    {
        // Steps and episodes are counted in single precision, which is exact up to 2^24.
        if (Envs is < 1 or > 1 << 24)
            throw new DistillException($"Quadrotor envs is {Envs}; it must be between 1 and {1 << 24}.");
        if (EpisodeLimit is < 1 or > 1 << 24)
            throw new DistillException(
                $"Quadrotor episode_limit is {EpisodeLimit}; it must be between 1 and {1 << 24}."
            );
        if (!Enum.IsDefined(Task))
            throw new DistillException(
                $"Quadrotor task is {Task}; it must be one of: {string.Join(", ", Enum.GetNames<QuadrotorTask>())}."
            );
        if (!Enum.IsDefined(DroneAssignment))
            throw new DistillException(
                $"Quadrotor drone_assignment is {DroneAssignment}; it must be one of: "
                    + $"{string.Join(", ", Enum.GetNames<DroneAssignment>())}."
            );
        if (!(FigureEight.LoopSeconds > 0 && FigureEight.HalfLength >= 0 && FigureEight.RampSeconds > 0))
            throw new DistillException(
                $"Quadrotor figure_eight has loop_seconds {FigureEight.LoopSeconds}, half_length {FigureEight.HalfLength} and "
                    + $"ramp_seconds {FigureEight.RampSeconds}; the seconds must be positive and the length not negative."
            );
    }
}
