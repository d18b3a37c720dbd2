namespace Distill.Environments.CartPole;

/// <summary>A batch of CartPole-v1 environments.</summary>
public sealed record CartPoleConfig : IEnvironmentConfig
{
    /// <summary>Environments side by side; multiples of 32 waste nothing.</summary>
    public int Envs { get; init; } = 32;

    /// <summary>Steps of 20 ms after which an episode is truncated.</summary>
    public int EpisodeLimit { get; init; } = 500;

    /// <summary>Seconds of one step.</summary>
    internal const double StepSeconds = 0.02;

    EnvironmentSpec IEnvironmentConfig.Spec => CheckedSpec();

    public IBatchedEnvironment Create(int envs, ulong seed) =>
        new CartPoleEnvironment(this with { Envs = envs }, seed);

    /// <exception cref="DistillException">A field has no sense.</exception>
    internal EnvironmentSpec CheckedSpec()
    {
        // Steps and episodes are counted in single precision, which is exact up to 2^24.
        if (Envs is < 1 or > 1 << 24)
            throw new DistillException($"CartPole envs is {Envs}; it must be between 1 and {1 << 24}.");
        if (EpisodeLimit is < 1 or > 1 << 24)
            throw new DistillException(
                $"CartPole episode_limit is {EpisodeLimit}; it must be between 1 and {1 << 24}."
            );
        ObservationComponent[] components =
        [
            new("cart position, m", 1),
            new("cart velocity, m/s", 1),
            new("pole angle from upright, rad", 1),
            new("pole angular velocity, rad/s", 1),
        ];
        return new(
            "cart_pole",
            [new("state", components), new("teacher", components), new("student", components)],
            new(2, Discrete: true) { Meaning = "0 pushes the cart to the left, 1 to the right" },
            EpisodeLimit,
            StepSeconds
        );
    }
}

/// <summary>
/// Gym's CartPole-v1: action 0 pushes the cart to the left with 10 N and 1 to the right, reward 1 for every step, terminal
/// beyond 2.4 m or 12 degrees. All three observation groups, "state", "teacher" and "student", show the whole state.
/// </summary>
public sealed class CartPoleEnvironment : IBatchedEnvironment
{
    /// <summary>Rows of a panel's state: the four that are observed, step, episode.</summary>
    internal const int Rows = 6;

    private const int ObservedRows = 4;
    private const int StateLength = Rows * Panel.Width;

    private readonly CartPoleKernels kernels = CartPoleKernels.All.InUse;
    private readonly FloatBuffer state;
    private readonly RandomStream stream;

    /// <param name="seed">With an environment's index, it determines all random numbers.</param>
    /// <exception cref="DistillException">The configuration is wrong.</exception>
    public CartPoleEnvironment(CartPoleConfig config, ulong seed)
    {
        Spec = config.CheckedSpec();
        Count = config.Envs;
        stream = new(seed, "cart_pole.reset");
        state = new(Panel.Count(Count) * StateLength);
        Rewind();
    }

    public EnvironmentSpec Spec { get; }

    public int Count { get; }

    public void Reset(int panel) => kernels.Reset(stream, panel * Panel.Width, PanelState(panel));

    public void Observe(int panel, int group, Span<float> observation) =>
        PanelState(panel)[..(ObservedRows * Panel.Width)].CopyTo(observation);

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome) =>
        kernels.Step(Spec.EpisodeLimit, stream, panel * Panel.Width, PanelState(panel), actions, outcome);

    public void Rewind()
    {
        for (var panel = 0; panel < Panel.Count(Count); panel++)
        {
            // So that the reset, which counts one up, starts episode 0.
            PanelState(panel)[((Rows - 1) * Panel.Width)..].Fill(-1);
            Reset(panel);
        }
    }

    public void Visit(State state) => state.Block("cart_pole.state", this.state);

    public void Dispose() => state.Dispose();

    private Span<float> PanelState(int panel) => state.Slice(panel * StateLength, StateLength);
}
