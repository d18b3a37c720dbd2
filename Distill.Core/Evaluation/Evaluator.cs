using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Policies;

namespace Distill.Evaluation;

/// <summary>Closed-loop results of a policy: one episode in each of a number of environments.</summary>
/// <param name="Returns"><c>[episodes]</c>: sum of rewards.</param>
/// <param name="Lengths"><c>[episodes]</c>: steps.</param>
/// <param name="Terminated"><c>[episodes]</c>: whether it ended in a terminal state.</param>
public sealed record EvaluationResult(float[] Returns, int[] Lengths, bool[] Terminated)
{
    /// <summary>The environment's extra measures by name, each <c>[episodes]</c>.</summary>
    public IReadOnlyDictionary<string, float[]> Measures { get; init; } = new Dictionary<string, float[]>();

    /// <summary><c>[episodes]</c>: index in <see cref="EnvironmentSpec.Variants"/> of what each was flown on; empty where all are alike.</summary>
    public IReadOnlyList<int> Variants { get; init; } = [];

    public int Episodes => Returns.Length;
    public double MeanReturn { get; } = Returns.Average(value => (double)value);

    /// <summary>Standard deviation over episodes (population).</summary>
    public double StdReturn { get; } = Deviation(Returns);
    public double MeanLength { get; } = Lengths.Average();
    public double ShareTerminated { get; } = (double)Terminated.Count(flag => flag) / Terminated.Length;

    /// <summary>The mean over episodes of a measure by its name: return, length, share_terminated, or one of the environment's.</summary>
    /// <exception cref="DistillException">There is no such measure.</exception>
    public double Mean(string measure) =>
        measure switch
        {
            "return" => MeanReturn,
            "length" => MeanLength,
            "share_terminated" => ShareTerminated,
            _ when Measures.TryGetValue(measure, out var values) => values.Average(value => (double)value),
            _ => throw new DistillException($"An evaluation has no measure '{measure}'."),
        };

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
        )
        {
            Measures = Measures.ToDictionary(
                measure => measure.Key,
                measure => indices.Select(i => measure.Value[i]).ToArray()
            ),
            Variants = Variants.Count == 0 ? [] : [.. indices.Select(i => Variants[i])],
        };
    }

    /// <summary>The episodes of each variant, in the order of their indices.</summary>
    /// <param name="names">The variants of the environments, <see cref="EnvironmentSpec.Variants"/>.</param>
    /// <exception cref="DistillException">A variant has no episode.</exception>
    public IReadOnlyList<EvaluationResult> ByVariant(IReadOnlyList<string> names) =>
        [.. names.Select((name, variant) => Where(episode => Variants[episode] == variant, name))];

    private static double Deviation(float[] values)
    {
        var mean = values.Average(value => (double)value);
        return Math.Sqrt(values.Average(value => (value - mean) * (value - mean)));
    }
}

/// <summary>
/// Runs a policy deterministically, with nobody's help, for one episode in each of its own environments; in rounds where a simulator
/// has fewer of them than there are to be episodes. The same seed gives every policy the same initial states and references.
/// </summary>
public sealed class Evaluator : IRollout, IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly IReadOnlyList<EnvironmentMeasure> names;
    private readonly RolloutLoop loop;
    private readonly CudaEvaluation? onGpu;
    private readonly Results results;
    private readonly byte[] running;
    private readonly int[] variants;
    private readonly FiniteWatch watch;
    private int firstEpisode;
    private ActingPolicy? policy;
    private ITeacher? teacher;
    private EpisodeRecord? record;

    /// <param name="episodes">Episodes per evaluation. Raise it for tighter means: the error falls with the square root.</param>
    /// <param name="seed">Derived so that training never sees these episodes.</param>
    /// <param name="device">Where, if it can be there; what cannot is computed on the processor, with the same results.</param>
    public Evaluator(
        IEnvironmentConfig config,
        int episodes,
        ulong seed,
        WorkerPool pool,
        ComputeDevice device = ComputeDevice.Cpu
    )
    {
        environment = config.Create(episodes, new RandomStream(seed, "evaluation").Seed());
        names = environment.Spec.Measures;
        loop = new RolloutLoop(environment, pool, this, measured: true);
        results = new(
            new float[episodes],
            new int[episodes],
            new bool[episodes],
            [.. names.Select(_ => new float[episodes])]
        );
        running = new byte[Panel.Count(environment.Count) * Panel.Width];
        variants =
            environment.Spec.Variants.Count == 0
                ? []
                :
                [
                    .. Enumerable
                        .Range(0, episodes)
                        .Select(episode => environment.VariantOf(episode % environment.Count)),
                ];
        watch = new FiniteWatch(environment.Count);
        if (device != ComputeDevice.Cpu && CudaEvaluation.IsPossible(environment, episodes))
            onGpu = CudaEvaluation.TryCreate((QuadrotorEnvironment)environment);
    }

    /// <summary>Kernels that were started on a GPU, for tests.</summary>
    internal long Launches => onGpu?.Launches ?? 0;

    /// <param name="record">Takes every step of the episodes; null for none.</param>
    /// <exception cref="DistillException">
    /// The policy does not fit the environment; or an observation, an action or a reward is not finite.
    /// </exception>
    public EvaluationResult Run(Policy policy, EpisodeRecord? record = null)
    {
        policy.Check(environment.Spec, "policy");
        if (record is null && onGpu is not null && onGpu.Run(policy, results))
            return Result();
        using var acting = new ActingPolicy(policy, environment, "policy");
        (this.policy, teacher, this.record) = (acting, null, record);
        return Run();
    }

    /// <summary>Runs the teachers as if they were a policy, each where it is the one to ask.</summary>
    /// <inheritdoc cref="Run(Policy, EpisodeRecord)"/>
    public EvaluationResult Run(ITeachers teachers, EpisodeRecord? record = null)
    {
        using var acting = teachers.Teach(environment);
        if (record is null && onGpu is not null && onGpu.Run(acting, results))
            return Result();
        (policy, teacher, this.record) = (null, acting, record);
        return Run();
    }

    private EvaluationResult Run()
    {
        environment.Rewind();
        for (firstEpisode = 0; firstEpisode < results.Returns.Length; firstEpisode += environment.Count)
        {
            loop.Run(int.MaxValue);
            watch.Check();
        }
        return Result();
    }

    private EvaluationResult Result() =>
        new([.. results.Returns], [.. results.Lengths], [.. results.Terminated])
        {
            Measures = names
                .Zip(results.Measures)
                .ToDictionary(pair => pair.First.Name, pair => pair.Second.ToArray()),
            Variants = variants,
        };

    void IRollout.Begin(int panel)
    {
        var (first, lanes) = (Episode(panel), Lanes(panel));
        running.AsSpan(panel * Panel.Width, Panel.Width).Clear();
        running.AsSpan(panel * Panel.Width, lanes).Fill(1);
        results.Returns.AsSpan(first, lanes).Clear();
        foreach (var measure in results.Measures)
            measure.AsSpan(first, lanes).Clear();
        if (firstEpisode > 0)
            Forget(panel);
        environment.Reset(panel);
    }

    bool IRollout.Act(in PanelStep step)
    {
        var counted = running.AsSpan(step.First, Panel.Width);
        var decided = teacher is null ? Decide(step, counted) : Ask(teacher, step, counted);
        if (decided)
            record?.Act(environment, step, Episode(step.Panel), Lanes(step.Panel));
        return decided;
    }

    private bool Ask(ITeacher asked, in PanelStep step, ReadOnlySpan<byte> counted) =>
        asked.Act(step.Panel, step.Number, step.Number, step.Action, default, watch, counted, step.Own);

    private bool Decide(in PanelStep step, ReadOnlySpan<byte> counted)
    {
        var observation = step.Own.Panel(policy!.Policy.Network.Spec.Inputs);
        policy.Observe(step.Panel, observation);
        var outputs = policy.Forward(step.Panel, observation, step.Own);
        policy.Policy.Decide(outputs, step.Action);
        return !watch.Catches(step.Panel, step.Number, "observation", observation.Values, counted)
            && !watch.Catches(step.Panel, step.Number, "policy's action", outputs.Values, counted);
    }

    bool IRollout.Take(in PanelStep step)
    {
        var counted = running.AsSpan(step.First, Panel.Width);
        if (watch.Catches(step.Panel, step.Number, "reward", step.Reward, counted))
            return false;
        var lanes = Lanes(step.Panel);
        for (var i = 0; i < results.Measures.Length; i++)
        {
            var over = names[i].Over;
            var soFar = results.Measures[i].AsSpan(Episode(step.Panel), lanes);
            for (var lane = 0; lane < lanes; lane++)
                if (counted[lane] != 0)
                    soFar[lane] = over.Add(soFar[lane], step.Measures[i * Panel.Width + lane], step.Number);
        }
        for (var lane = 0; lane < lanes; lane++)
        {
            if (counted[lane] == 0)
                continue;
            var episode = Episode(step.Panel) + lane;
            results.Returns[episode] += step.Reward[lane];
            record?.Take(episode, step.Number, step.Reward[lane]);
            if (!step.Done(lane))
                continue;
            counted[lane] = 0;
            results.Lengths[episode] = step.Number + 1;
            results.Terminated[episode] = step.Terminated[lane] != 0;
        }
        return counted.Contains((byte)1);
    }

    void IRollout.End(int panel, Workspace own) { }

    public void Dispose()
    {
        onGpu?.Dispose();
        loop.Dispose();
        environment.Dispose();
    }

    /// <summary>Clears what is remembered of the round before.</summary>
    private void Forget(int panel)
    {
        Span<float> keep = stackalloc float[Panel.Width];
        keep.Clear();
        policy?.Forget(panel, keep);
        teacher?.Forget(panel, keep);
    }

    /// <summary>The episode in lane 0 of a panel; past the last where a round needs no such panel.</summary>
    private int Episode(int panel) => Math.Min(firstEpisode + panel * Panel.Width, results.Returns.Length);

    /// <summary>How many lanes of a panel have an episode.</summary>
    private int Lanes(int panel)
    {
        var round = Math.Min(environment.Count, results.Returns.Length - firstEpisode);
        return Math.Clamp(round - panel * Panel.Width, 0, Panel.Width);
    }

    /// <summary>What is known of the episodes: sums of rewards, steps, whether they ended in a terminal state, and measures, <c>[measures, episodes]</c>.</summary>
    internal sealed record Results(float[] Returns, int[] Lengths, bool[] Terminated, float[][] Measures);
}
