namespace Distill.Environments.Native;

/// <summary>
/// Environments that a library simulates. It moves them and says when a state is terminal; steps and episodes are counted here.
/// Between its rows, an environment each, and panels the numbers are transposed.
/// </summary>
public sealed class NativeEnvironment : IHoldingEnvironment
{
    private readonly NativeFunctions functions;
    private readonly nint simulator;
    private readonly int[] steps;
    private readonly int[] started;
    private readonly bool[] lost;

    // Of each panel: actions and whatever is read, [32, numbers] each.
    private readonly FloatBuffer rows;
    private readonly int widest;
    private bool disposed;

    /// <param name="seed">With an environment's index and the number of its episode, it determines all random numbers.</param>
    /// <exception cref="DistillException">The configuration is wrong, or the library refuses.</exception>
    public NativeEnvironment(NativeConfig config, ulong seed)
    {
        functions = NativeFunctions.Load(config);
        Spec = functions.Facts.Spec;
        Count = config.Envs;
        var panels = Panel.Count(Count);
        (steps, started, lost) = (new int[Count], new int[Count], new bool[panels]);
        widest = Math.Max(Spec.Groups.Max(group => group.Size), Spec.Measures.Count);
        rows = new((long)panels * Panel.Width * (Spec.Actions.Floats + widest));
        simulator = functions.Create(Count, seed);
    }

    public EnvironmentSpec Spec { get; }

    public int Count { get; }

    public bool Lost => lost.AsSpan().Contains(true);

    public int VariantOf(int environment) => environment % Math.Max(1, Spec.Variants.Count);

    public void Reset(int panel)
    {
        lost[panel] = false;
        var first = panel * Panel.Width;
        for (var environment = first; environment < first + Lanes(panel); environment++)
            Start(environment);
    }

    public void Observe(int panel, int group, Span<float> observation)
    {
        var into = new Panel(observation, Spec.Groups[group].Size);
        var read = into.Features == 1 ? into.Values : Read(panel, into.Features);
        functions.Observe(simulator, panel * Panel.Width, Lanes(panel), group, read);
        read[(Lanes(panel) * into.Features)..].Clear();
        if (into.Features > 1)
            Matrix.FromRows(read, into);
    }

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        Advance(panel, actions, outcome);
        if (outcome.AnyEnded)
            Restart(panel, outcome);
    }

    public void Advance(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        outcome.Measures.Clear();
        var measures = Measured(panel, outcome);
        functions.Step(simulator, panel * Panel.Width, Lanes(panel), Rows(panel, actions), outcome, measures);
        if (Spec.Measures.Count > 1 && !measures.IsEmpty)
            Matrix.FromRows(measures, new Panel(outcome.Measures, Spec.Measures.Count));
        outcome.Reward[Lanes(panel)..].Clear();
        CountSteps(panel, outcome);
    }

    public void Restart(int panel, StepOutcome outcome)
    {
        for (var lane = 0; lane < Lanes(panel); lane++)
            if (outcome.Terminated[lane] + outcome.Truncated[lane] != 0)
                Start(panel * Panel.Width + lane);
    }

    public void Rewind()
    {
        steps.AsSpan().Clear();
        started.AsSpan().Clear();
        lost.AsSpan().Clear();
    }

    /// <summary>
    /// With the states of the environments where the library can save them. Otherwise, where others are restored, the episodes are
    /// lost, and every environment must begin another.
    /// </summary>
    public void Visit(State state)
    {
        var before = steps.Concat(started).ToArray();
        state.Block(Spec.Name + ".steps", steps.AsSpan());
        state.Block(Spec.Name + ".episodes", started.AsSpan());
        foreach (var count in steps.Concat(started))
            state.Require(Spec.Name, count >= 0, count, "a count");
        if (functions.Facts.StateBytes > 0)
            VisitStates(state);
        else if (!before.AsSpan().SequenceEqual(steps.Concat(started).ToArray()))
            lost.AsSpan().Fill(true);
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        functions.Destroy(simulator);
        rows.Dispose();
    }

    private int Lanes(int panel) => Math.Min(Panel.Width, Count - panel * Panel.Width);

    private void Start(int environment)
    {
        functions.Reset(simulator, environment, started[environment]++);
        steps[environment] = 0;
    }

    /// <summary>Actions as rows <c>[32, numbers]</c>.</summary>
    private ReadOnlySpan<float> Rows(int panel, ReadOnlySpan<float> actions)
    {
        var numbers = Spec.Actions.Floats;
        if (numbers == 1)
            return actions;
        var to = RowsOf(panel)[..(numbers * Panel.Width)];
        for (var i = 0; i < numbers; i++)
        for (var lane = 0; lane < Panel.Width; lane++)
            to[lane * numbers + i] = actions[i * Panel.Width + lane];
        return to;
    }

    /// <summary>Room for rows that are read, <c>[32, numbers]</c>.</summary>
    private Span<float> Read(int panel, int numbers) =>
        RowsOf(panel).Slice(Spec.Actions.Floats * Panel.Width, numbers * Panel.Width);

    private Span<float> RowsOf(int panel)
    {
        var length = (Spec.Actions.Floats + widest) * Panel.Width;
        return rows.Slice(panel * length, length);
    }

    /// <summary>Where the library writes its measures; empty where nobody asks.</summary>
    private Span<float> Measured(int panel, StepOutcome outcome) =>
        outcome.Measures.Length == 0 ? default
        : Spec.Measures.Count == 1 ? outcome.Measures
        : Read(panel, Spec.Measures.Count);

    /// <summary>Counts the step and says which episodes ended, and how, in zeros and ones.</summary>
    private void CountSteps(int panel, StepOutcome outcome)
    {
        var counts = steps.AsSpan(panel * Panel.Width, Lanes(panel));
        for (var lane = 0; lane < counts.Length; lane++)
        {
            counts[lane]++;
            var terminal = outcome.Terminated[lane] != 0;
            var late = outcome.Truncated[lane] != 0 || counts[lane] >= Spec.EpisodeLimit;
            outcome.Terminated[lane] = terminal ? 1 : 0;
            outcome.Truncated[lane] = late && !terminal ? 1 : 0;
        }
    }

    /// <summary>Whether something is saved or restored cannot be told, so the library gets back what it gave, or what was saved.</summary>
    private void VisitStates(State state)
    {
        var size = functions.Facts.StateBytes;
        using var states = new NativeBuffer<byte>((long)Count * size);
        for (var environment = 0; environment < Count; environment++)
            functions.Save(simulator, environment, states.Slice(environment * size, size));
        state.Block(Spec.Name + ".states", states.Span);
        for (var environment = 0; environment < Count; environment++)
            functions.Restore(simulator, environment, states.Slice(environment * size, size));
    }
}
