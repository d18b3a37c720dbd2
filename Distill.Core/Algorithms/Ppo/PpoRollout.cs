using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>
/// What a sample of PPO consists of, in the order in which it lies in memory. The parts up to the log-probability are
/// recorded while collecting; the others are known after it. Where actor and critic read the same group, they share it.
/// </summary>
internal sealed class SampleLayout
{
    /// <param name="criticInputs">Null where the critic sees what the actor sees.</param>
    /// <param name="labels">Numbers of a teacher's label; 0 without a teacher.</param>
    /// <param name="recurrent">Whether samples are sequences.</param>
    public SampleLayout(
        int actorInputs,
        int? criticInputs,
        int actions,
        int outputs,
        int labels,
        bool recurrent
    )
    {
        var columns = new Columns(
            ("actor_observation", actorInputs),
            ("critic_observation", criticInputs ?? 0),
            ("action", actions),
            ("outputs", outputs),
            ("log_probability", 1),
            ("label", labels),
            ("keep", recurrent ? 1 : 0),
            ("value", 1),
            ("advantage", 1),
            ("return", 1),
            ("weight", 1)
        );
        ActorObservation = columns["actor_observation"];
        CriticObservation = criticInputs is null ? ActorObservation : columns["critic_observation"];
        Action = columns["action"];
        Outputs = columns["outputs"];
        LogProbability = columns["log_probability"];
        Label = columns["label"];
        Keep = columns["keep"];
        Value = columns["value"];
        Advantage = columns["advantage"];
        Return = columns["return"];
        Weight = columns["weight"];
    }

    public Column ActorObservation { get; }
    public Column CriticObservation { get; }
    public Column Action { get; }

    /// <summary>Of the actor that collected: all that describes its distribution over actions.</summary>
    public Column Outputs { get; }
    public Column LogProbability { get; }

    /// <summary>What the distillation loss compares with.</summary>
    public Column Label { get; }

    /// <summary>0 where an episode starts and memory is cleared before the step, else 1.</summary>
    public Column Keep { get; }
    public Column Value { get; }
    public Column Advantage { get; }
    public Column Return { get; }

    /// <summary>1, or 0 for lanes that hold no sample.</summary>
    public Column Weight { get; }

    public int Recorded => Keep.End;
    public int Size => Weight.End;
}

/// <summary>
/// One rollout of all environments. While collecting, what is shuffled later is kept as rows, in the order panel, step,
/// lane, and what is worked through in time as panels <c>[panels, steps, 32]</c>. For learning, all of it is laid out once as
/// panels of shuffled samples; of networks with memories a sample is the whole sequence of an environment.
/// </summary>
internal sealed class PpoRollout : IDisposable
{
    private readonly int envs;
    private readonly int steps;
    private readonly SampleLayout layout;
    private readonly PpoOutcomes outcomes;
    private readonly FloatBuffer rows;
    private readonly FloatBuffer advantages;
    private readonly FloatBuffer values;
    private readonly FloatBuffer? beyond;
    private readonly FloatBuffer samples;
    private readonly FloatBuffer starts;
    private readonly FloatBuffer memories;
    private readonly int memory;
    private readonly int[] order;

    /// <param name="memory">Numbers that actor and critic remember of an environment.</param>
    /// <exception cref="DistillException">It has more numbers than one block of memory can hold.</exception>
    public PpoRollout(PpoParts parts, int memory)
    {
        (layout, outcomes) = (parts.Layout, parts.Outcomes);
        (envs, steps) = (parts.Environment.Count, parts.Config.StepsPerEnv);
        this.memory = memory;
        Rollout.CheckSize(envs, steps, layout.Size);
        Length = parts.Sequences ? steps : 1;
        Panels = outcomes.Panels;
        rows = new FloatBuffer((long)Panels * steps * Panel.Width * layout.Recorded);
        advantages = Scalars(steps);
        values = Scalars(steps + 1);
        beyond = parts.ValuesReached ? Scalars(steps) : null;
        order = new int[parts.Samples];
        samples = new FloatBuffer((long)SamplePanels * Length * layout.Size * Panel.Width);
        starts = new FloatBuffer((long)Panels * memory * Panel.Width);
        memories = new FloatBuffer((long)SamplePanels * memory * Panel.Width);
    }

    /// <summary>Bytes that a rollout takes.</summary>
    internal static long EstimateBytes(int envs, int steps, SampleLayout layout, int memory)
    {
        var rows = (long)Panel.Count(envs) * Panel.Width * steps;
        // As recorded and as shuffled; reward, two flags, advantage and value; the place in the order.
        return rows * (layout.Recorded + layout.Size + 5) * sizeof(float)
            + rows * sizeof(int)
            // While running, at the start of the rollout, and of the samples.
            + 3L * Panel.Count(envs) * Panel.Width * memory * sizeof(float);
    }

    /// <summary>Steps of a sample.</summary>
    public int Length { get; }

    /// <summary>Panels of shuffled samples; the last may be partly unused.</summary>
    public int SamplePanels => Panel.Count(order.Length);

    /// <summary>Panels of environments.</summary>
    public int Panels { get; }

    /// <summary><c>[steps, 32]</c>.</summary>
    public Panel Advantages(int panel) => Panel.At(advantages.Span, panel, steps);

    /// <summary><c>[steps + 1, 32]</c>; the last is the value of the state after the rollout.</summary>
    public Panel Values(int panel) => Panel.At(values.Span, panel, steps + 1);

    /// <summary>
    /// <c>[steps, 32]</c>: where a step limit ended an episode, the value of what would have followed; that of the state before where
    /// no other is known.
    /// </summary>
    public Panel Beyond(int panel) =>
        beyond is null ? Values(panel).Rows(0, steps) : Panel.At(beyond.Span, panel, steps);

    /// <summary>Keeps the recorded parts <c>[recorded, 32]</c> of one step of one panel.</summary>
    public void Record(int panel, int step, Panel sample)
    {
        var start = (panel * steps + step) * Panel.Width * layout.Recorded;
        Matrix.Scatter(sample, rows.Span[start..], layout.Recorded, Panel.Width);
    }

    /// <summary>The memories <c>[memory, 32]</c> before the rollout, of a panel of environments.</summary>
    public Panel Starts(int panel) => Panel.At(starts.Span, panel, memory);

    /// <summary>A panel <c>[length, layout size, 32]</c> of shuffled samples, as <see cref="Gather(int, Workspace)"/> filled it.</summary>
    public Panel Sample(int panel) => Panel.At(samples.Span, panel, Length * layout.Size);

    /// <summary>The memories <c>[memory, 32]</c> before the first step of a panel of samples.</summary>
    public Panel Memories(int panel) => Panel.At(memories.Span, panel, memory);

    /// <summary>Environment steps in a range of panels of samples, as far as they count; at least 1.</summary>
    public int Steps(int start, int end)
    {
        if (outcomes.AllCount)
            return (Math.Min(end * Panel.Width, order.Length) - start * Panel.Width) * Length;
        var sum = 0;
        for (var panel = start; panel < end; panel++)
        for (var step = 0; step < Length; step++)
            foreach (var weight in layout.Weight.Of(Sample(panel).Part(step, Length)).Values)
                sum += (int)weight;
        return Math.Max(1, sum);
    }

    /// <summary>Draws the order in which <see cref="Gather(int, Workspace)"/> sees the samples.</summary>
    public void Shuffle(RandomStream stream, int iteration) => stream.Permutation(order, (uint)iteration);

    /// <summary>Fills one panel of shuffled samples.</summary>
    public void Gather(int samplePanel, Workspace own)
    {
        for (var step = 0; step < Length; step++)
            Gather(samplePanel, step, Sample(samplePanel).Part(step, Length), own);
        if (memory == 0)
            return;
        var remembered = Memories(samplePanel);
        remembered.Values.Clear();
        for (var lane = 0; lane < Math.Min(Panel.Width, order.Length - samplePanel * Panel.Width); lane++)
        {
            var (panel, of) = Math.DivRem(order[samplePanel * Panel.Width + lane], Panel.Width);
            var source = Starts(panel);
            for (var i = 0; i < memory; i++)
                remembered[i, lane] = source[i, of];
        }
    }

    private void Gather(int samplePanel, int offset, Panel sample, Workspace own)
    {
        using var scope = own.Open();
        var staged = own.Floats(layout.Recorded * Panel.Width);
        var value = layout.Value.Of(sample).Values;
        var advantage = layout.Advantage.Of(sample).Values;
        var returns = layout.Return.Of(sample).Values;
        var weight = layout.Weight.Of(sample).Values;
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var row = staged.Slice(lane * layout.Recorded, layout.Recorded);
            var place = samplePanel * Panel.Width + lane;
            if (place >= order.Length)
            {
                row.Clear();
                value[lane] = advantage[lane] = returns[lane] = weight[lane] = 0;
                continue;
            }
            var (first, env) = Math.DivRem(order[place], envs);
            var step = first + offset;
            var (panel, of) = Math.DivRem(env, Panel.Width);
            var counts = outcomes.Counted(panel, step) is not { IsEmpty: false } lanes || lanes[of] != 0;
            rows.Slice(((panel * steps + step) * Panel.Width + of) * layout.Recorded, layout.Recorded)
                .CopyTo(row);
            value[lane] = Values(panel)[step, of];
            advantage[lane] = counts ? Advantages(panel)[step, of] : 0;
            returns[lane] = value[lane] + advantage[lane];
            weight[lane] = counts ? 1 : 0;
        }
        Matrix.FromRows(staged, sample.Rows(0, layout.Recorded));
    }

    /// <summary>Advantages of a range of panels of shuffled samples to mean 0 and standard deviation 1.</summary>
    public void StandardizeAdvantages((int Start, int End) panels)
    {
        var (start, end) = panels;
        var count = Steps(start, end);
        var (sum, squares) = (0.0, 0.0);
        // Lanes that hold no sample, or one that does not count, have an advantage of 0.
        for (var panel = start; panel < end; panel++)
        for (var step = 0; step < Length; step++)
            foreach (double advantage in AdvantagesOf(panel, step))
            {
                sum += advantage;
                squares += advantage * advantage;
            }
        var mean = sum / count;
        var std = Math.Sqrt(Math.Max(0, squares - sum * mean) / Math.Max(1, count - 1));
        for (var panel = start; panel < end; panel++)
        for (var step = 0; step < Length; step++)
            foreach (ref var advantage in AdvantagesOf(panel, step))
                advantage = (float)((advantage - mean) / (std + 1e-8));
    }

    public void Dispose()
    {
        starts.Dispose();
        memories.Dispose();
        samples.Dispose();
        rows.Dispose();
        advantages.Dispose();
        values.Dispose();
        beyond?.Dispose();
    }

    private Span<float> AdvantagesOf(int panel, int step) =>
        layout.Advantage.Of(Sample(panel).Part(step, Length)).Values;

    private FloatBuffer Scalars(int steps) => new(Panels * steps * Panel.Width);
}
