namespace Distill.Environments;

/// <summary>
/// A task as functions of one environment. They run for many environments in parallel and must not keep anything between
/// calls: all that an environment remembers is in its state.
/// </summary>
public interface ISingleEnvironment
{
    EnvironmentSpec Spec { get; }

    /// <summary>Numbers in the state.</summary>
    int StateSize { get; }

    /// <summary>Writes the first state of an episode into <paramref name="state"/>, <c>[state size]</c>, which is zero before.</summary>
    void Reset(Draws random, double[] state);

    /// <summary>Advances the state by one step, in place.</summary>
    /// <param name="action"><c>[action floats]</c>.</param>
    /// <returns>
    /// The step's reward, and whether the new state is terminal. Ends by the step limit are not the environment's to tell.
    /// </returns>
    (double Reward, bool Terminated) Step(Draws random, double[] state, double[] action);

    /// <summary>Writes one observation group of the state, <c>[group size]</c>.</summary>
    void Observe(int group, double[] state, double[] observation);

    /// <summary>Writes the measures of a state, <c>[measures]</c>.</summary>
    void Measure(double[] state, double[] measures) { }
}

/// <summary>
/// Random numbers of one environment in one step. They are functions of (seed, environment, episode, step) and of how many
/// were drawn before in that step, so they do not depend on threads.
/// </summary>
public sealed class Draws
{
    private readonly RandomStream stream;
    private uint environment;
    private uint episode;
    private uint step;
    private uint drawn;

    internal Draws(RandomStream stream) => this.stream = stream;

    /// <summary>Begins the numbers of a step, from 1; 0 is the reset.</summary>
    internal void Start(int environment, float episode, float step)
    {
        (this.environment, this.episode, this.step) = ((uint)environment, (uint)episode, (uint)step);
        drawn = 0;
    }

    /// <summary>Uniform on [low, high).</summary>
    public double Uniform(double low, double high) =>
        low + (high - low) * stream.Uniform(environment, episode, step, ++drawn);

    /// <summary>Normal, of this mean and standard deviation.</summary>
    public double Normal(double mean, double deviation) =>
        mean + deviation * stream.Normal(environment, episode, step, ++drawn);
}

/// <summary>
/// Environments side by side from functions of a single one, for trying tasks out and for simulators that know one world at
/// a time. States are kept in single precision between steps.
/// </summary>
public sealed class PerEnvironment : IHoldingEnvironment
{
    // Counts are kept in single precision, which is exact up to here.
    private const int Largest = 1 << 24;

    private readonly ISingleEnvironment single;

    // Rows of a panel: the state, steps of the episode so far, number of the episode.
    private readonly FloatBuffer values;
    private readonly int stepRow;
    private readonly int episodeRow;
    private readonly Scratch[] scratch;

    /// <param name="envs">How many, at least 1.</param>
    /// <param name="seed">Seed of all their random numbers.</param>
    /// <exception cref="DistillException">A size or limit has no sense.</exception>
    public PerEnvironment(ISingleEnvironment single, int envs, ulong seed)
    {
        this.single = single;
        Spec = CheckedSpec(single, envs);
        Count = envs;
        (stepRow, episodeRow) = (single.StateSize, single.StateSize + 1);
        var panels = Panel.Count(envs);
        values = new((long)panels * (single.StateSize + 2) * Panel.Width);
        var stream = new RandomStream(seed, Spec.Name);
        scratch = [.. Enumerable.Range(0, panels).Select(_ => new Scratch(single, Spec, stream))];
    }

    public EnvironmentSpec Spec { get; }

    public int Count { get; }

    /// <summary>The facts about so many environments.</summary>
    /// <exception cref="DistillException">A size or limit has no sense.</exception>
    public static EnvironmentSpec CheckedSpec(ISingleEnvironment single, int envs)
    {
        var spec = single.Spec;
        Require(envs is >= 1 and <= Largest, "envs", envs, $"between 1 and {Largest}");
        Require(
            spec.EpisodeLimit is >= 1 and <= Largest,
            "episode_limit",
            spec.EpisodeLimit,
            $"between 1 and {Largest}"
        );
        Require(single.StateSize >= 1, "state_size", single.StateSize, "at least 1");
        Require(spec.Actions.Size >= 1, "the size of actions", spec.Actions.Size, "at least 1");
        Require(spec.Groups.Count >= 1, "the number of views", spec.Groups.Count, "at least 1");
        return spec;

        void Require(bool holds, string name, int value, string right)
        {
            if (!holds)
                throw new DistillException($"{spec.Name}: {name} is {value}; it must be {right}.");
        }
    }

    public void Reset(int panel)
    {
        var rows = Rows(panel);
        for (var lane = 0; lane < Panel.Width; lane++)
            Start(panel, rows, lane);
    }

    public void Observe(int panel, int group, Span<float> observation)
    {
        var rows = Rows(panel);
        var own = scratch[panel];
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            Load(rows, lane, own.State);
            single.Observe(group, own.State, own.Observations[group]);
            Store(own.Observations[group], observation, lane);
        }
    }

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        Advance(panel, actions, outcome);
        Restart(panel, outcome);
    }

    public void Advance(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        var rows = Rows(panel);
        var steps = rows[(stepRow * Panel.Width)..];
        var episodes = rows[(episodeRow * Panel.Width)..];
        var own = scratch[panel];
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            Load(rows, lane, own.State);
            Load(actions, lane, own.Action);
            var step = steps[lane] + 1;
            own.Draws.Start(panel * Panel.Width + lane, episodes[lane], step);
            var (gained, terminal) = single.Step(own.Draws, own.State, own.Action);
            var late = !terminal && step >= Spec.EpisodeLimit;
            outcome.Reward[lane] = (float)gained;
            outcome.Terminated[lane] = terminal ? 1 : 0;
            outcome.Truncated[lane] = late ? 1 : 0;
            if (outcome.Measures.Length > 0)
            {
                single.Measure(own.State, own.Measures);
                Store(own.Measures, outcome.Measures, lane);
            }
            steps[lane] = step;
            Store(own.State, rows, lane);
        }
    }

    public void Restart(int panel, StepOutcome outcome)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
            if (outcome.Terminated[lane] + outcome.Truncated[lane] != 0)
                Start(panel, Rows(panel), lane);
    }

    public void Rewind() => values.Span.Clear();

    public void Visit(State state) => state.Block(Spec.Name + ".state", values);

    public void Dispose() => values.Dispose();

    /// <summary>Starts the next episode of one environment.</summary>
    private void Start(int panel, Span<float> rows, int lane)
    {
        var own = scratch[panel];
        var episode = ++rows[episodeRow * Panel.Width + lane];
        rows[stepRow * Panel.Width + lane] = 0;
        own.Draws.Start(panel * Panel.Width + lane, episode, 0);
        Array.Clear(own.State);
        single.Reset(own.Draws, own.State);
        Store(own.State, rows, lane);
    }

    private Span<float> Rows(int panel)
    {
        var length = (episodeRow + 1) * Panel.Width;
        return values.Slice(panel * length, length);
    }

    private static void Load(ReadOnlySpan<float> rows, int lane, double[] numbers)
    {
        for (var i = 0; i < numbers.Length; i++)
            numbers[i] = rows[i * Panel.Width + lane];
    }

    private static void Store(double[] numbers, Span<float> rows, int lane)
    {
        for (var i = 0; i < numbers.Length; i++)
            rows[i * Panel.Width + lane] = (float)numbers[i];
    }

    /// <summary>Working memory for one panel: the numbers of the environment that is computed.</summary>
    private sealed class Scratch(ISingleEnvironment single, EnvironmentSpec spec, RandomStream stream)
    {
        public Draws Draws { get; } = new(stream);
        public double[] State { get; } = new double[single.StateSize];
        public double[] Action { get; } = new double[spec.Actions.Floats];
        public double[][] Observations { get; } = [.. spec.Groups.Select(group => new double[group.Size])];
        public double[] Measures { get; } = new double[spec.Measures.Count];
    }
}
