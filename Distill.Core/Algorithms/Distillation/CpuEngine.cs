using Distill.Datasets;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Distillation in the machine's memory, on a pool of threads.</summary>
public sealed class CpuEngine : IDistillationEngine
{
    private DistillationConfig config;
    private readonly WorkerPool pool;
    private readonly IBatchedEnvironment environment;
    private readonly Rollout rollout;
    private readonly RolloutCollector collector;
    private readonly AggregatedDataset dataset;
    private readonly Sampler sampler;
    private readonly StudentTrainer trainer;
    private long epoch;
    private long stepsCollected;

    /// <param name="teacher">Makes what labels the states of the environments.</param>
    /// <exception cref="DistillException">The settings, the teacher and the environment do not fit together.</exception>
    public CpuEngine(DistillationConfig config, Func<IBatchedEnvironment, ITeacher> teacher, WorkerPool pool)
    {
        this.config = config;
        this.pool = pool;
        var shape = DistillationShape.Of(config);
        environment = config.Environment.Create(shape.Envs, new RandomStream(config.Seed, "training").Seed());
        Student = CreateStudent(environment.Spec);
        var columns = config.Columns(environment.Spec);
        rollout = new Rollout(shape.Envs, shape.Steps, columns, Student.MemorySize, shape.SegmentLength);
        collector = new RolloutCollector(
            environment,
            teacher(environment),
            Student,
            rollout,
            new RandomStream(config.Seed, "acting"),
            shape.WholeEpisodes,
            pool
        );
        dataset = new AggregatedDataset(
            columns,
            shape.SegmentLength,
            Student.MemorySize,
            Math.Min(10L * rollout.Rows, config.Retention.Rows(rollout.Rows)),
            config.Retention,
            new RandomStream(config.Seed, "retention")
        );
        sampler = new Sampler(config.Sampling, new RandomStream(config.Seed, "sampling"));
        trainer = new StudentTrainer(
            Student,
            config.Loss,
            config.Optimizer,
            shape.SegmentLength,
            shape.LargestBatch,
            shape.SegmentLength
        );
        config.Student.Prepare(trainer.Optimizer, Student);
        Episodes = new EpisodeStatistics(shape.Envs);
    }

    public Policy Student { get; }

    public Optimizer Optimizer => trainer.Optimizer;

    public EpisodeStatistics Episodes { get; }

    public long StepsCollected => stepsCollected;

    public DatasetSize Dataset => new(dataset.Rows, dataset.Capacity, dataset.Limit, rollout.Rows);

    public void Use(DistillationConfig now)
    {
        config = now;
        sampler.Plan = now.Sampling;
        trainer.Use(now.Loss, now.Optimizer, now.GradientLength.Whole);
    }

    public void Collect(double teacherShare, int iteration)
    {
        collector.Collect(teacherShare, iteration);
        CountEpisodes();
    }

    public void Add()
    {
        collector.Normalize();
        dataset.Add(rollout);
    }

    public TrainingLosses Train(int iteration)
    {
        var segments = rollout.Rows / dataset.SegmentLength;
        var (sum, rows) = (0.0, 0L);
        for (var pass = 0; pass < config.NumLearningEpochs.Whole; pass++)
        {
            var order = sampler.Order(pool, dataset, segments, epoch++);
            var batch = DistillationShape.MiniBatch(config, dataset.SegmentLength, order.Length);
            for (var start = 0; start < order.Length; start += batch)
            {
                var part = trainer.Train(pool, dataset, order[start..Math.Min(start + batch, order.Length)]);
                FiniteWatch.Require(part.Sum, "loss", iteration);
                FiniteWatch.Require(trainer.Optimizer.GradientNorm, "norm of the gradient", iteration);
                sum += part.Sum;
                rows += part.Rows;
            }
        }
        FiniteWatch.Require(Student, "student", iteration);
        var (newest, historical) = dataset.MeanLosses(dataset.Added - segments);
        return new TrainingLosses(rows == 0 ? double.NaN : sum / rows, newest, historical);
    }

    public void Export(string path) => dataset.Export(path);

    public void Visit(State state)
    {
        state.Count("epoch", ref epoch);
        state.Count("steps_collected", ref stepsCollected);
        state.Part("student", Student.Network.Visit);
        if (Student.Normalizer is { } normalizer)
            state.Part("normaliser", normalizer.Visit);
        state.Part("trainer", trainer.Visit);
        state.Part("collector", collector.Visit);
        state.Part("dataset", dataset.Visit);
        state.Part("episodes", Episodes.Visit);
    }

    public void Dispose()
    {
        Student.Dispose();
        trainer.Dispose();
        collector.Dispose();
        dataset.Dispose();
        rollout.Dispose();
        environment.Dispose();
    }

    private Policy CreateStudent(EnvironmentSpec spec)
    {
        var head = config.Loss.Head;
        if (spec.Actions.Discrete != (head == Head.Categorical))
            throw new DistillException(
                spec.Actions.Discrete
                    ? $"The actions of {spec.Name} are choices, which need the loss cross_entropy."
                    : $"The loss cross_entropy is for choices, but the actions of {spec.Name} are continuous."
            );
        return config.Student.Create(
            new ObservationView(spec, config.Student.ObservationGroup).Size,
            spec.Actions.Size,
            head,
            new RandomStream(config.Seed, "student")
        );
    }

    /// <summary>Episode statistics in the order of time, then environment, so that threads do not matter.</summary>
    private void CountEpisodes()
    {
        var rewards = rollout.Rewards.Span;
        for (var step = 0; step < rollout.Steps; step++)
        for (var env = 0; env < rollout.Envs; env++)
        {
            var row = env * rollout.Steps + step;
            if (rollout.Valid[row] == 0)
                continue;
            stepsCollected++;
            var end = rollout.Ends[row];
            Episodes.Add(env, rewards[row], end == EpisodeEnd.Terminated, end == EpisodeEnd.Truncated);
        }
        for (var env = 0; config.Collection is EpisodesPerEpoch && env < rollout.Envs; env++)
            Episodes.Abandon(env);
    }
}
