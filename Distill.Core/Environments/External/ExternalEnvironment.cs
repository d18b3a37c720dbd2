namespace Distill.Environments.External;

/// <summary>
/// The environments of a simulator in another process. They step all together, and cannot be saved: where a run goes on, or where others
/// have used the same simulator in between, all begin new episodes. The seed of a reset is a function of the seed of these and of how
/// many resets there were.
/// </summary>
public sealed class ExternalEnvironment : ILockstepEnvironment
{
    private readonly ExternalConfig config;
    private readonly ExternalSimulator simulator;
    private readonly ExternalFacts facts;
    private readonly RandomStream seeds;
    private readonly Lock gate = new();

    // [panels]: whether the panel's environments are to be reset.
    private readonly bool[] asked;
    private volatile bool anyAsked;

    // [envs]: the steps that there were when its episode began; and no episode began earlier than the earliest.
    private readonly long[] begun;
    private long earliest;
    private long steps;

    // [panels, 32]: 0 for environments whose next step only begins an episode.
    private readonly byte[] counted;
    private bool lost = true;
    private bool showsEnds;
    private int resets;
    private bool disposed;

    internal ExternalEnvironment(ExternalConfig config, ExternalSimulator simulator, ulong seed)
    {
        (this.config, this.simulator) = (config, simulator);
        facts = simulator.Facts;
        seeds = new RandomStream(seed, "external.reset");
        asked = new bool[Panel.Count(Count)];
        begun = new long[Count];
        counted = new byte[facts.Pauses ? asked.Length * Panel.Width : 0];
        counted.AsSpan().Fill(1);
    }

    public EnvironmentSpec Spec => facts.Spec;

    public int Count => facts.Envs;

    /// <summary>Id of the simulator's process; null where Distill did not start it.</summary>
    public int? ProcessId => simulator.ProcessId;

    public bool Lost => lost || simulator.User != this;

    public bool ShowsEnds => facts.Ends;

    public bool Pauses => facts.Pauses;

    public int VariantOf(int environment) => facts.VariantOf.Count == 0 ? 0 : facts.VariantOf[environment];

    public ReadOnlySpan<byte> Counted(int panel) =>
        facts.Pauses ? counted.AsSpan(panel * Panel.Width, Panel.Width) : default;

    public void Reset(int panel)
    {
        asked[panel] = true;
        anyAsked = true;
    }

    /// <inheritdoc/>
    /// <exception cref="DistillException">
    /// The simulator fails, hangs or is no more; or it cannot reset some environments alone, and only some were asked to.
    /// </exception>
    public void Begin()
    {
        if (!anyAsked)
            return;
        lock (gate)
            if (anyAsked)
                BeginAsked();
    }

    public void Observe(int panel, int group, Span<float> observation)
    {
        Begin();
        var array = facts.ArrayOf[group];
        var size = facts.Arrays[array].Size;
        var (start, length) = (panel * Panel.Width * size, Panel.Width * size);
        Matrix.FromRows(simulator.Observations(array).Slice(start, length), new Panel(observation, size));
        if (showsEnds)
            ShowFinal(panel, simulator.Final(array).Slice(start, length), new Panel(observation, size));
    }

    /// <summary>Not for environments that step all together.</summary>
    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome) =>
        throw new NotSupportedException($"The environments of {Spec.Name} step all together.");

    /// <inheritdoc/>
    /// <exception cref="DistillException">
    /// The simulator fails, hangs or is no more; or an episode is longer than it says they are.
    /// </exception>
    public void Step(ReadOnlySpan<float> actions, Span<float> outcomes)
    {
        Begin();
        var floats = Spec.Actions.Floats;
        var length = floats * Panel.Width;
        var told = simulator.Actions;
        for (var panel = 0; panel < asked.Length; panel++)
            Matrix.Scatter(
                actions.Slice(panel * length, length),
                floats,
                Panel.Width,
                told.Slice(panel * length, length),
                floats,
                Panel.Width
            );
        simulator.Step();
        CountSteps(simulator.Terminated, simulator.Truncated);
        var rows = outcomes.Length / (asked.Length * Panel.Width);
        for (var panel = 0; panel < asked.Length; panel++)
            Tell(panel, outcomes.Slice(panel * rows * Panel.Width, rows * Panel.Width));
    }

    public void ShowEnds(bool shown) => showsEnds = shown;

    public void Rewind()
    {
        (resets, lost, anyAsked) = (0, true, false);
        asked.AsSpan().Clear();
    }

    /// <summary>How often there was a reset, so that a run that goes on does not begin the same episodes again. Nothing else can be saved.</summary>
    public void Visit(State state)
    {
        var before = resets;
        state.Count(Spec.Name + ".resets", ref resets);
        lost |= resets != before;
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        ExternalSimulators.Return(config, simulator);
    }

    private void BeginAsked()
    {
        var some = asked.Contains(false);
        if (some && Lost)
            throw new InvalidOperationException("No episode is under way; all environments must be reset.");
        if (some && !facts.MaskedReset)
            throw new DistillException(
                $"The simulator {config.Title} cannot begin episodes in some of its environments while others go on, as "
                    + "restart_probability asks for; set that to 0, or let the simulator say masked_reset=True."
            );
        var mask = simulator.Mask;
        for (var env = 0; env < Count; env++)
        {
            var begins = asked[env / Panel.Width];
            mask[env] = begins ? 1 : 0;
            if (!begins)
                continue;
            begun[env] = steps;
            if (facts.Pauses)
                counted[env] = 1;
        }
        simulator.Reset(seeds.Bits((uint)resets).X0 & int.MaxValue);
        resets++;
        (simulator.User, lost) = (this, false);
        asked.AsSpan().Clear();
        anyAsked = false;
    }

    private void ShowFinal(int panel, ReadOnlySpan<float> final, Panel observation)
    {
        var terminated = simulator.Terminated;
        var truncated = simulator.Truncated;
        for (var lane = 0; lane < Math.Min(Panel.Width, Count - panel * Panel.Width); lane++)
        {
            var env = panel * Panel.Width + lane;
            if (terminated[env] == 0 && truncated[env] == 0)
                continue;
            for (var i = 0; i < observation.Features; i++)
                observation[i, lane] = final[lane * observation.Features + i];
        }
    }

    /// <summary>What a step brought to a panel.</summary>
    /// <param name="outcome"><c>[3 + measures, 32]</c>, written.</param>
    private void Tell(int panel, Span<float> outcome)
    {
        Write(simulator.Reward, outcome, 0);
        Write(simulator.Terminated, outcome, 1);
        Write(simulator.Truncated, outcome, 2);
        for (var i = StepOutcome.Rows; i < outcome.Length / Panel.Width; i++)
            Write(simulator.Measure(i - StepOutcome.Rows), outcome, i);

        void Write(ReadOnlySpan<float> values, Span<float> rows, int row) =>
            values.Slice(panel * Panel.Width, Panel.Width).CopyTo(rows[(row * Panel.Width)..]);
    }

    /// <summary>Notes where episodes begin, and which environments only begin another in the next step.</summary>
    private void CountSteps(ReadOnlySpan<float> terminated, ReadOnlySpan<float> truncated)
    {
        steps++;
        if (terminated.ContainsAnyExcept(0) || truncated.ContainsAnyExcept(0))
            for (var env = 0; env < begun.Length; env++)
                if (terminated[env] + truncated[env] != 0)
                    begun[env] = steps;
        if (facts.Pauses)
            Pause(terminated, truncated);
        // One that pauses is at most one step ahead of its episode.
        var limit = Spec.EpisodeLimit + (facts.Pauses ? 1 : 0);
        if (steps - earliest < limit)
            return;
        earliest = begun.Min();
        if (steps - earliest >= limit)
            throw new DistillException(
                $"The simulator {config.Title} says that its episodes have {Spec.EpisodeLimit} steps at most, but the one of "
                    + $"environment {begun.AsSpan().IndexOf(earliest)} goes on after so many; declare the right episode_limit."
            );
    }

    private void Pause(ReadOnlySpan<float> terminated, ReadOnlySpan<float> truncated)
    {
        for (var env = 0; env < Count; env++)
            counted[env] = terminated[env] + truncated[env] != 0 ? (byte)0 : (byte)1;
    }
}
