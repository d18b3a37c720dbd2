namespace Distill.Environments.Manipulation;

/// <summary>What the hand is to do.</summary>
public enum ManipulationTask
{
    /// <summary>Bring the hand to a point in the air.</summary>
    Reach,

    /// <summary>Move the puck over the table to a point.</summary>
    Push,

    /// <summary>Lift the puck to a point in the air.</summary>
    PickPlace,

    /// <summary>Pull a drawer open by its handle.</summary>
    DrawerOpen,

    /// <summary>Press a button down from above.</summary>
    ButtonPress,
}

/// <summary>
/// Gaussian noise on the scripted expert's actions in the observation group noisy_expert, for data that show how mistakes are mended:
/// strong in the first fifth of an episode, then less and less until none is left after seven tenths, so that episodes still end well.
/// </summary>
public sealed record ExpertNoise
{
    /// <summary>
    /// Standard deviation at the start, in units of the action, which is from -1 to 1. Raise it for wider data, lower it where episodes
    /// fail.
    /// </summary>
    public double Deviation { get; init; } = 0.5;

    /// <summary>Fraction of an episode's steps until which it stays. Raise it for wider data.</summary>
    public double Held { get; init; } = 0.2;

    /// <summary>Fraction of an episode's steps after which none is left. Lower it where episodes fail.</summary>
    public double Ended { get; init; } = 0.7;

    /// <summary>The deviation of a step.</summary>
    /// <param name="progress">Fraction of the episode that is over.</param>
    internal double At(double progress) =>
        progress <= Held ? Deviation : Deviation * Math.Max(0, (Ended - progress) / (Ended - Held));
}

/// <summary>
/// A batch of manipulation environments: tasks of MetaWorld's on a table with a hand and a puck, a drawer or a button, simulated by MuJoCo 2.2.2
/// (<c>apt-get install libmujoco2.2.2</c>).
/// </summary>
public sealed record ManipulationConfig : IEnvironmentConfig
{
    /// <summary>
    /// Environments side by side, 0.2 MB each. Multiples of 32 waste nothing, and multiples of 32 for each thread keep all threads busy:
    /// a thread takes 32 at a time, so that 96 take two threads as long as 128. Of multiples of the number of tasks all tasks are as
    /// frequent.
    /// </summary>
    public int Envs { get; init; } = 96;

    /// <summary>The tasks: environment i has task i modulo their number.</summary>
    public IReadOnlyList<ManipulationTask> Tasks { get; init; } =
    [ManipulationTask.Reach, ManipulationTask.Push, ManipulationTask.PickPlace];

    /// <summary>Steps of 12.5 ms after which an episode is truncated. MetaWorld has 500; studies that distil experts of it mostly 400.</summary>
    public int EpisodeLimit { get; init; } = 400;

    /// <summary>Noise of the observation group noisy_expert; nothing else has any.</summary>
    public ExpertNoise ExpertNoise { get; init; } = new();

    EnvironmentSpec IEnvironmentConfig.Spec => CheckedSpec();

    public IEnvironmentConfig? Only(int variant) => this with { Tasks = [Tasks[variant]] };

    public IBatchedEnvironment Create(int envs, ulong seed) =>
        new ManipulationEnvironment(this with { Envs = envs }, seed);

    /// <exception cref="DistillException">A field has no sense.</exception>
    internal EnvironmentSpec CheckedSpec()
    {
        Require(Envs is >= 1 and <= 1 << 16, "envs", Envs, $"between 1 and {1 << 16}");
        Require(
            EpisodeLimit is >= 1 and <= 1 << 24,
            "episode_limit",
            EpisodeLimit,
            $"between 1 and {1 << 24}"
        );
        Require(Tasks.Count > 0, "tasks", "empty", "a list of at least one");
        foreach (var task in Tasks)
            Require(
                Enum.IsDefined(task),
                "tasks",
                task,
                $"of: {string.Join(", ", Enum.GetNames<ManipulationTask>())}"
            );
        Require(Tasks.Distinct().Count() == Tasks.Count, "tasks", "a list with repetitions", "without");
        var noise = ExpertNoise;
        Require(
            noise.Deviation is >= 0 and < double.PositiveInfinity,
            "expert_noise.deviation",
            noise.Deviation,
            "at least 0"
        );
        Require(noise.Held is >= 0 and < 1, "expert_noise.held", noise.Held, "at least 0 and below 1");
        Require(
            noise.Ended > noise.Held && noise.Ended <= 1,
            "expert_noise.ended",
            noise.Ended,
            "above expert_noise.held and at most 1"
        );
        return ManipulationViews.Spec(this);

        void Require<T>(bool holds, string name, T value, string right)
        {
            if (!holds)
                throw new DistillException(
                    FormattableString.Invariant($"Manipulation {name} is {value}; it must be {right}.")
                );
        }
    }
}
