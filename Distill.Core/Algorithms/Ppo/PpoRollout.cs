using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>
/// What a sample of PPO consists of, in the order in which it lies in memory. The parts up to the log-probability are
/// recorded while collecting; the others are known after it. Where actor and critic read the same group, they share it.
/// </summary>
internal sealed class SampleLayout
{
    public SampleLayout(int actorInputs, int? criticInputs, int actions, int outputs)
    {
        var columns = new Columns(
            ("actor_observation", actorInputs),
            ("critic_observation", criticInputs ?? 0),
            ("action", actions),
            ("outputs", outputs),
            ("log_probability", 1),
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
    public Column Value { get; }
    public Column Advantage { get; }
    public Column Return { get; }

    /// <summary>1, or 0 for lanes that hold no sample.</summary>
    public Column Weight { get; }

    public int Recorded => LogProbability.End;
    public int Size => Weight.End;
}

/// <summary>
/// One rollout of all environments. While collecting, what is shuffled later is kept as rows, in the order panel, step,
/// lane, and what is worked through in time as panels <c>[panels, steps, 32]</c>. For learning, all of it is laid out once as
/// panels of shuffled samples.
/// </summary>
internal sealed class PpoRollout : IDisposable
{
    private readonly int envs;
    private readonly int steps;
    private readonly SampleLayout layout;
    private readonly FloatBuffer rows;
    private readonly FloatBuffer rewards;
    private readonly FloatBuffer terminated;
    private readonly FloatBuffer truncated;
    private readonly FloatBuffer advantages;
    private readonly FloatBuffer values;
    private readonly FloatBuffer samples;
    private readonly int[] order;

    /// <exception cref="DistillException">It has more numbers than one block of memory can hold.</exception>
    public PpoRollout(int envs, int steps, SampleLayout layout)
    {
        Rollout.CheckSize(envs, steps, layout.Size);
        (this.envs, this.steps, this.layout) = (envs, steps, layout);
        Panels = Panel.Count(envs);
        rows = new FloatBuffer((long)Panels * steps * Panel.Width * layout.Recorded);
        rewards = Scalars(steps);
        terminated = Scalars(steps);
        truncated = Scalars(steps);
        advantages = Scalars(steps);
        values = Scalars(steps + 1);
        order = new int[envs * steps];
        samples = new FloatBuffer((long)SamplePanels * layout.Size * Panel.Width);
    }

    /// <summary>Bytes that a rollout takes.</summary>
    internal static long EstimateBytes(int envs, int steps, SampleLayout layout)
    {
        var rows = (long)Panel.Count(envs) * Panel.Width * steps;
        // As recorded and as shuffled; reward, two flags, advantage and value; the place in the order.
        return rows * (layout.Recorded + layout.Size + 5) * sizeof(float) + rows * sizeof(int);
    }

    /// <summary>Number of samples.</summary>
    public int Samples => order.Length;

    /// <summary>Panels of shuffled samples; the last may be partly unused.</summary>
    public int SamplePanels => Panel.Count(order.Length);

    /// <summary>Panels of environments.</summary>
    public int Panels { get; }

    /// <summary><c>[steps, 32]</c>; likewise below.</summary>
    public Panel Rewards(int panel) => Panel.At(rewards.Span, panel, steps);

    public Panel Terminated(int panel) => Panel.At(terminated.Span, panel, steps);

    public Panel Truncated(int panel) => Panel.At(truncated.Span, panel, steps);

    public Panel Advantages(int panel) => Panel.At(advantages.Span, panel, steps);

    /// <summary><c>[steps + 1, 32]</c>; the last is the value of the state after the rollout.</summary>
    public Panel Values(int panel) => Panel.At(values.Span, panel, steps + 1);

    /// <summary>Keeps the recorded parts <c>[recorded, 32]</c> of one step of one panel.</summary>
    public void Record(int panel, int step, Panel sample)
    {
        var start = (panel * steps + step) * Panel.Width * layout.Recorded;
        Matrix.Scatter(sample, rows.Span[start..], layout.Recorded, Panel.Width);
    }

    /// <summary>A panel <c>[layout size, 32]</c> of shuffled samples, as <see cref="Gather"/> filled it.</summary>
    public Panel Sample(int panel) => Panel.At(samples.Span, panel, layout.Size);

    /// <summary>Draws the order in which <see cref="Gather"/> sees the samples.</summary>
    public void Shuffle(RandomStream stream, int iteration) => stream.Permutation(order, (uint)iteration);

    /// <summary>Fills one panel of shuffled samples.</summary>
    public void Gather(int samplePanel, Workspace own)
    {
        using var scope = own.Open();
        var staged = own.Floats(layout.Recorded * Panel.Width);
        var sample = Sample(samplePanel);
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
            var (step, env) = Math.DivRem(order[place], envs);
            var (panel, of) = Math.DivRem(env, Panel.Width);
            rows.Slice(((panel * steps + step) * Panel.Width + of) * layout.Recorded, layout.Recorded)
                .CopyTo(row);
            value[lane] = Values(panel)[step, of];
            advantage[lane] = Advantages(panel)[step, of];
            returns[lane] = value[lane] + advantage[lane];
            weight[lane] = 1;
        }
        Matrix.FromRows(staged, sample.Rows(0, layout.Recorded));
    }

    /// <summary>Advantages of a range of panels of shuffled samples to mean 0 and standard deviation 1.</summary>
    public void StandardizeAdvantages(int start, int end)
    {
        var count = Math.Min(end * Panel.Width, Samples) - start * Panel.Width;
        var (sum, squares) = (0.0, 0.0);
        // Lanes that hold no sample have an advantage of 0.
        for (var panel = start; panel < end; panel++)
            foreach (double advantage in layout.Advantage.Of(Sample(panel)).Values)
            {
                sum += advantage;
                squares += advantage * advantage;
            }
        var mean = sum / count;
        var std = Math.Sqrt(Math.Max(0, squares - sum * mean) / Math.Max(1, count - 1));
        for (var panel = start; panel < end; panel++)
            foreach (ref var advantage in layout.Advantage.Of(Sample(panel)).Values)
                advantage = (float)((advantage - mean) / (std + 1e-8));
    }

    public void Dispose()
    {
        samples.Dispose();
        rows.Dispose();
        rewards.Dispose();
        terminated.Dispose();
        truncated.Dispose();
        advantages.Dispose();
        values.Dispose();
    }

    private FloatBuffer Scalars(int steps) => new(Panels * steps * Panel.Width);
}
