using Distill.Compute;
using Distill.Environments;
using Distill.Policies;

namespace Distill.Evaluation;

/// <summary>Closed-loop results of a policy: one episode in each of a number of environments.</summary>
/// <param name="Returns"><c>[episodes]</c>: sum of rewards.</param>
/// <param name="Lengths"><c>[episodes]</c>: steps.</param>
/// <param name="Terminated"><c>[episodes]</c>: whether it ended in a terminal state.</param>
public sealed record EvaluationResult(float[] Returns, int[] Lengths, bool[] Terminated)
{
    public int Episodes => Returns.Length;
    public double MeanReturn { get; } = Returns.Average(value => (double)value);

    /// <summary>Standard deviation over episodes (population).</summary>
    public double StdReturn { get; } = Deviation(Returns);
    public double MeanLength { get; } = Lengths.Average();
    public double ShareTerminated { get; } = (double)Terminated.Count(flag => flag) / Terminated.Length;

    /// <summary>Some of the episodes, such as those of one drone.</summary>
    /// <param name="chosen">Whether the episode of the environment with this index is one of them.</param>
    /// <param name="what">For the message, e.g. "drone crazyflie".</param>
    /// <exception cref="DistillException">No episode is.</exception>
    public EvaluationResult Where(Func<int, bool> chosen, string what)
    {
        var indices = Enumerable.Range(0, Episodes).Where(chosen).ToArray();
        if (indices.Length == 0)
            throw new DistillException(
                $"An evaluation of {Episodes} episodes has none for {what}; more episodes are needed."
            );
        return new EvaluationResult(
            [.. indices.Select(i => Returns[i])],
            [.. indices.Select(i => Lengths[i])],
            [.. indices.Select(i => Terminated[i])]
        );
    }

    private static double Deviation(float[] values)
    {
        var mean = values.Average(value => (double)value);
        return Math.Sqrt(values.Average(value => (value - mean) * (value - mean)));
    }
}

/// <summary>
/// Flies a policy deterministically, with nobody's help, for one episode in each of its own environments. The same seed
/// gives every policy the same initial states and references.
/// </summary>
public sealed class Evaluator : IWork, IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly WorkerPool pool;
    private readonly float[] returns;
    private readonly int[] lengths;
    private readonly bool[] terminated;
    private readonly FiniteWatch watch;
    private Policy policy = null!;
    private int group;
    private Scratch?[] scratch = [];

    /// <param name="episodes">Episodes per evaluation. Raise it for tighter means: the error falls with the square root.</param>
    /// <param name="seed">Derived so that training never sees these episodes.</param>
    public Evaluator(IEnvironmentConfig config, int episodes, ulong seed, WorkerPool pool)
    {
        environment = config.Create(episodes, new RandomStream(seed, "evaluation").Seed());
        this.pool = pool;
        returns = new float[episodes];
        lengths = new int[episodes];
        terminated = new bool[episodes];
        watch = new FiniteWatch(episodes);
    }

    /// <exception cref="DistillException">
    /// The policy does not fit the environment; or an observation, an action or a reward is not finite.
    /// </exception>
    public EvaluationResult Run(Policy policy)
    {
        policy.Check(environment.Spec, "policy");
        this.policy = policy;
        group = environment.Spec.Group(policy.ObservationGroup);
        scratch = new Scratch?[pool.Threads];
        try
        {
            environment.Rewind();
            pool.Run(this, Panel.Count(environment.Count));
        }
        finally
        {
            foreach (var used in scratch)
                used?.Dispose();
        }
        watch.Check();
        return new EvaluationResult([.. returns], [.. lengths], [.. terminated]);
    }

    void IWork.Run(int panel, int worker)
    {
        var own = scratch[worker] ??= new Scratch(policy, environment.Spec);
        var first = panel * Panel.Width;
        var lanes = Math.Min(Panel.Width, environment.Count - first);
        Span<byte> flies = stackalloc byte[Panel.Width];
        flies.Fill(1);
        own.Memory.Span.Clear();
        returns.AsSpan(first, lanes).Clear();
        environment.Reset(panel);
        for (int step = 0, running = lanes; running > 0; step++)
        {
            environment.Observe(panel, group, own.Observation.Span);
            policy.Act(own.Observation.Span, own.Memory.Span, own.Action.Span, own.Policy);
            environment.Step(panel, own.Action.Span, own.Reward, own.Terminated, own.Truncated);
            if (
                watch.Catches(panel, step, "observation", own.Observation.Span, flies)
                || watch.Catches(panel, step, "policy's action", own.Policy.Outputs, flies)
                || watch.Catches(panel, step, "reward", own.Reward, flies)
            )
                return;
            for (var lane = 0; lane < lanes; lane++)
            {
                if (flies[lane] == 0)
                    continue;
                returns[first + lane] += own.Reward[lane];
                if (own.Terminated[lane] == 0 && own.Truncated[lane] == 0)
                    continue;
                flies[lane] = 0;
                running--;
                lengths[first + lane] = step + 1;
                terminated[first + lane] = own.Terminated[lane] != 0;
            }
        }
    }

    public void Dispose() => environment.Dispose();

    private sealed class Scratch(Policy policy, EnvironmentSpec environment) : IDisposable
    {
        public FloatBuffer Observation { get; } = new(policy.Network.Spec.Inputs * Panel.Width);
        public FloatBuffer Memory { get; } = new(policy.MemorySize * Panel.Width);
        public FloatBuffer Action { get; } = new(environment.Actions.Floats * Panel.Width);
        public PolicyScratch Policy { get; } = new(policy);
        public float[] Reward { get; } = new float[Panel.Width];
        public float[] Terminated { get; } = new float[Panel.Width];
        public float[] Truncated { get; } = new float[Panel.Width];

        public void Dispose()
        {
            Observation.Dispose();
            Memory.Dispose();
            Action.Dispose();
            Policy.Dispose();
        }
    }
}
