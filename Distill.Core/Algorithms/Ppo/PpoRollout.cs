using Distill.Compute;
using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>Features of a sample's panel: <c>[Size, 32]</c> from feature <see cref="Start"/>.</summary>
internal readonly record struct SamplePart(int Start, int Size)
{
    public int End => Start + Size;

    public Span<float> Of(Span<float> sample) => sample.Slice(Start * Panel.Width, Size * Panel.Width);
}

/// <summary>
/// What a sample of PPO consists of, in the order in which it lies in memory. The parts up to the log-probability are
/// recorded while collecting; the others are known after it. Where actor and critic read the same group, they share it.
/// </summary>
internal sealed class SampleLayout
{
    public SampleLayout(int actorInputs, int? criticInputs, int actions, int outputs)
    {
        ActorObservation = new(0, actorInputs);
        CriticObservation = criticInputs is { } own ? new(ActorObservation.End, own) : ActorObservation;
        Action = new(CriticObservation.End, actions);
        Outputs = new(Action.End, outputs);
        LogProbability = new(Outputs.End, 1);
        Value = new(LogProbability.End, 1);
        Advantage = new(Value.End, 1);
        Return = new(Advantage.End, 1);
        Weight = new(Return.End, 1);
    }

    public SamplePart ActorObservation { get; }
    public SamplePart CriticObservation { get; }
    public SamplePart Action { get; }

    /// <summary>Of the actor that collected: the parameters of its distribution over actions.</summary>
    public SamplePart Outputs { get; }
    public SamplePart LogProbability { get; }
    public SamplePart Value { get; }
    public SamplePart Advantage { get; }
    public SamplePart Return { get; }

    /// <summary>1, or 0 for lanes that hold no sample.</summary>
    public SamplePart Weight { get; }

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

    public Span<float> Rewards(int panel) => OfPanel(rewards, panel, steps);

    public Span<float> Terminated(int panel) => OfPanel(terminated, panel, steps);

    public Span<float> Truncated(int panel) => OfPanel(truncated, panel, steps);

    public Span<float> Advantages(int panel) => OfPanel(advantages, panel, steps);

    /// <summary><c>[steps + 1, 32]</c>; the last is the value of the state after the rollout.</summary>
    public Span<float> Values(int panel) => OfPanel(values, panel, steps + 1);

    /// <summary>Keeps the recorded parts of one step of one panel.</summary>
    public void Record(int panel, int step, ReadOnlySpan<float> sample)
    {
        var start = (panel * steps + step) * Panel.Width * layout.Recorded;
        Matrix.Scatter(sample, rows.Span[start..], layout.Recorded, layout.Recorded, Panel.Width);
    }

    /// <summary>A panel <c>[layout size, 32]</c> of shuffled samples, as <see cref="Gather"/> filled it.</summary>
    public Span<float> Sample(int panel)
    {
        var length = layout.Size * Panel.Width;
        return samples.Slice(panel * length, length);
    }

    /// <summary>Draws the order in which <see cref="Gather"/> sees the samples.</summary>
    public void Shuffle(RandomStream stream, int iteration) => stream.Permutation(order, (uint)iteration);

    /// <summary>Fills one panel of shuffled samples.</summary>
    public void Gather(int samplePanel)
    {
        var sample = Sample(samplePanel);
        Span<int> starts = stackalloc int[Panel.Width];
        var value = layout.Value.Of(sample);
        var advantage = layout.Advantage.Of(sample);
        var returns = layout.Return.Of(sample);
        var weight = layout.Weight.Of(sample);
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var place = samplePanel * Panel.Width + lane;
            if (place >= order.Length)
            {
                starts[lane] = -1;
                value[lane] = advantage[lane] = returns[lane] = weight[lane] = 0;
                continue;
            }
            var (step, env) = Math.DivRem(order[place], envs);
            var (panel, own) = Math.DivRem(env, Panel.Width);
            starts[lane] = ((panel * steps + step) * Panel.Width + own) * layout.Recorded;
            value[lane] = Values(panel)[step * Panel.Width + own];
            advantage[lane] = Advantages(panel)[step * Panel.Width + own];
            returns[lane] = value[lane] + advantage[lane];
            weight[lane] = 1;
        }
        Matrix.Gather(rows.Span, starts, sample[..(layout.Recorded * Panel.Width)], layout.Recorded);
    }

    /// <summary>Advantages of a range of panels of shuffled samples to mean 0 and standard deviation 1.</summary>
    public void StandardiseAdvantages(int start, int end)
    {
        var count = Math.Min(end * Panel.Width, Samples) - start * Panel.Width;
        var (sum, squares) = (0.0, 0.0);
        // Lanes that hold no sample have an advantage of 0.
        for (var panel = start; panel < end; panel++)
            foreach (double advantage in layout.Advantage.Of(Sample(panel)))
            {
                sum += advantage;
                squares += advantage * advantage;
            }
        var mean = sum / count;
        var std = Math.Sqrt(Math.Max(0, squares - sum * mean) / Math.Max(1, count - 1));
        for (var panel = start; panel < end; panel++)
            foreach (ref var advantage in layout.Advantage.Of(Sample(panel)))
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

    private static Span<float> OfPanel(FloatBuffer scalars, int panel, int steps) =>
        scalars.Slice(panel * steps * Panel.Width, steps * Panel.Width);
}
