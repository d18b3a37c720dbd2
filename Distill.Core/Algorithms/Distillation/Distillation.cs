using System.Diagnostics;
using Distill.Compute;
using Distill.Datasets;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>What one iteration did.</summary>
/// <param name="Iteration">From 0.</param>
/// <param name="Phase">Who drives, and since when.</param>
/// <param name="Loss">Mean over the valid rows trained on; NaN if there were none.</param>
/// <param name="NewestLoss">
/// Mean over the valid rows of the newest rollout, each at the last time it was trained on; null if none of them was.
/// </param>
/// <param name="HistoricalLoss">The same over the rest of the dataset.</param>
/// <param name="GradientNorm">Of the last optimizer step, before clipping.</param>
/// <param name="OptimizerSteps">Of this iteration.</param>
/// <param name="ClippedSteps">How many of them were clipped.</param>
/// <param name="RowsAdded">Rows that the rollout brought.</param>
/// <param name="GrownFrom">Dataset capacity before, in rows; equal to <paramref name="GrownTo"/> if it did not grow.</param>
/// <param name="MeanReturn">Of the last 100 finished training episodes, whoever drove; null before the first.</param>
public sealed record IterationReport(
    int Iteration,
    ActingPhase Phase,
    double TeacherShare,
    double Loss,
    double? NewestLoss,
    double? HistoricalLoss,
    double LearningRate,
    double GradientNorm,
    long OptimizerSteps,
    long ClippedSteps,
    long RowsAdded,
    long DatasetRows,
    long DatasetLimit,
    long GrownFrom,
    long GrownTo,
    double? MeanReturn,
    double? StdReturn,
    double? MeanEpisodeLength,
    double? ShareTerminated,
    long EpisodesFinished,
    long StepsCollected,
    double CollectionSeconds,
    double LearningSeconds
)
{
    /// <summary>What distillation alone has, for logs: under rsl_rl's names where it has one.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics
    {
        get
        {
            yield return new("Loss/behavior", Loss);
            if (NewestLoss is { } newest)
                yield return new("Loss/newest", newest);
            if (HistoricalLoss is { } historical)
                yield return new("Loss/historical", historical);
            yield return new("Loss/learning_rate", LearningRate);
            yield return new("training/loss", Loss);
            yield return new("training/gradient_norm", GradientNorm);
            yield return new("training/optimizer_steps", OptimizerSteps);
            yield return new("training/clipped_share", (double)ClippedSteps / Math.Max(1, OptimizerSteps));
            yield return new("phase", Phase.Number);
            yield return new("data_collection/teacher_share", TeacherShare);
            if (MeanReturn is { } mean)
                yield return new("data_collection/mean_return", mean);
            if (StdReturn is { } std)
                yield return new("data_collection/std_return", std);
            if (ShareTerminated is { } share)
                yield return new("data_collection/share_terminated", share);
            yield return new("data_collection/episodes", EpisodesFinished);
            yield return new("dataset/rows", DatasetRows);
            yield return new("dataset/capacity", GrownTo);
        }
    }
}

/// <summary>
/// Distillation of a teacher into a student with an aggregated dataset (DAgger; Ross, Gordon and Bagnell 2011), where the
/// acting schedule decides who drives: two-stage training, teacher forcing and the beta schedules are values of it.
/// </summary>
public sealed class Distillation : IDisposable
{
    private readonly WorkerPool pool;
    private readonly IBatchedEnvironment environment;
    private readonly Rollout rollout;
    private readonly RolloutCollector collector;
    private readonly AggregatedDataset dataset;
    private readonly Sampler sampler;
    private readonly StudentTrainer trainer;
    private readonly EpisodeStatistics episodes;
    private readonly double[] sums;
    private readonly double[] squares;
    private int iteration;
    private long epoch;
    private long stepsCollected;

    /// <param name="teacher">Labels every state; left as it is, and not disposed here.</param>
    /// <exception cref="DistillException">The settings, the teacher and the environment do not fit together.</exception>
    public Distillation(DistillationConfig config, Policy teacher, WorkerPool pool)
    {
        config.Validate();
        Config = config;
        this.pool = pool;
        var shape = DistillationShape.Of(config);
        environment = config.Environment.Create(shape.Envs, new RandomStream(config.Seed, "training").Seed());
        Student = CreateStudent(config, environment.Spec);
        var memory = Student.MemorySize;
        rollout = new Rollout(
            shape.Envs,
            shape.Steps,
            Student.Network.Spec.Inputs,
            teacher.Network.Spec.Inputs,
            environment.Spec.Actions.Floats,
            memory,
            shape.SegmentLength
        );
        collector = new RolloutCollector(
            environment,
            teacher,
            Student,
            rollout,
            new RandomStream(config.Seed, "acting"),
            config.TeacherDeterministic ? null : new RandomStream(config.Seed, "teacher"),
            shape.WholeEpisodes,
            pool.Threads
        );
        dataset = new AggregatedDataset(
            Student.Network.Spec.Inputs,
            environment.Spec.Actions.Floats,
            shape.SegmentLength,
            memory,
            Math.Min(10L * rollout.Rows, config.Retention.Rows(rollout.Rows)),
            config.Retention,
            new RandomStream(config.Seed, "retention")
        );
        sampler = new Sampler(config.Sampling, new RandomStream(config.Seed, "sampling"));
        trainer = new StudentTrainer(
            Student,
            config.Loss,
            config.Optimizer,
            config.GradientLength,
            shape.LargestBatch,
            shape.SegmentLength,
            pool.Threads
        );
        config.Student.Prepare(trainer.Optimizer, Student);
        episodes = new EpisodeStatistics(shape.Envs);
        sums = new double[Student.Network.Spec.Inputs];
        squares = new double[sums.Length];
    }

    public DistillationConfig Config { get; }
    public Policy Student { get; }

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    /// <summary>The student's optimizer, for checkpoints.</summary>
    public Adam Optimizer => trainer.Optimizer;

    /// <summary>Rows the dataset has room for.</summary>
    public long DatasetCapacity => dataset.Capacity;

    /// <summary>Rows the dataset may hold at most.</summary>
    public long DatasetLimit => dataset.Limit;

    /// <summary>Collect, aggregate, train.</summary>
    /// <exception cref="DistillException">
    /// A number is not finite; the message says which. The student is as it was before the step that would have taken it over.
    /// </exception>
    public IterationReport Iterate()
    {
        var started = Stopwatch.GetTimestamp();
        var teacherShare = Config.Acting.TeacherShare(iteration);
        collector.Collect(pool, teacherShare, iteration);
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        var grownFrom = dataset.Capacity;
        UpdateNormaliser();
        dataset.Add(rollout);

        var (stepsBefore, clippedBefore) = (trainer.Optimizer.Steps, trainer.Optimizer.ClippedSteps);
        var segments = rollout.Rows / dataset.SegmentLength;
        var (sum, rows) = (0.0, 0L);
        for (var pass = 0; pass < Config.NumLearningEpochs; pass++)
        {
            var order = sampler.Order(dataset, segments, epoch++);
            var batch = DistillationShape.MiniBatch(Config, dataset.SegmentLength, order.Length);
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

        var phase = Config.Acting.Phase(iteration, Config.Iterations);
        return new IterationReport(
            iteration++,
            phase,
            teacherShare,
            Loss: rows == 0 ? double.NaN : sum / rows,
            NewestLoss: dataset.MeanLoss(dataset.Added - segments, dataset.Added),
            HistoricalLoss: dataset.MeanLoss(0, dataset.Added - segments),
            Config.Optimizer.LearningRate,
            trainer.Optimizer.GradientNorm,
            OptimizerSteps: trainer.Optimizer.Steps - stepsBefore,
            ClippedSteps: trainer.Optimizer.ClippedSteps - clippedBefore,
            RowsAdded: rollout.Rows,
            DatasetRows: dataset.Rows,
            DatasetLimit: dataset.Limit,
            grownFrom,
            GrownTo: dataset.Capacity,
            episodes.MeanReturn,
            episodes.StdReturn,
            episodes.MeanLength,
            episodes.ShareTerminated,
            episodes.Finished,
            stepsCollected,
            CollectionSeconds: Stopwatch.GetElapsedTime(started, collected).TotalSeconds,
            LearningSeconds: Stopwatch.GetElapsedTime(collected).TotalSeconds
        );
    }

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        state.Count("epoch", ref epoch);
        state.Count("steps_collected", ref stepsCollected);
        state.Part("student", Student.Network.Visit);
        if (Student.Normaliser is { } normaliser)
            state.Part("normaliser", normaliser.Visit);
        state.Part("trainer", trainer.Visit);
        state.Part("collector", collector.Visit);
        state.Part("dataset", dataset.Visit);
        state.Part("episodes", episodes.Visit);
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

    private static Policy CreateStudent(DistillationConfig config, EnvironmentSpec environment)
    {
        var group = environment.Groups[environment.Group(config.Student.ObservationGroup)];
        var head = config.Loss.Head;
        if (environment.Actions.Discrete != (head == Head.Categorical))
            throw new DistillException(
                environment.Actions.Discrete
                    ? $"The actions of {environment.Name} are choices, which need the loss cross_entropy."
                    : $"The loss cross_entropy is for choices, but the actions of {environment.Name} are continuous."
            );
        return config.Student.Create(
            group.Size,
            environment.Actions.Size,
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
            episodes.Add(env, rewards[row], end == EpisodeEnd.Terminated, end == EpisodeEnd.Truncated);
        }
        for (var env = 0; Config.Collection.WholeEpisodes && env < rollout.Envs; env++)
            episodes.Abandon(env);
    }

    private void UpdateNormaliser()
    {
        if (Student.Normaliser is not { } normaliser)
            return;
        sums.AsSpan().Clear();
        squares.AsSpan().Clear();
        var count = 0L;
        ReadOnlySpan<float> observations = rollout.StudentObservations.Span;
        for (var row = 0; row < rollout.Rows; row++)
        {
            if (rollout.Valid[row] == 0)
                continue;
            normaliser.Accumulate(observations.Slice(row * sums.Length, sums.Length), sums, squares);
            count++;
        }
        normaliser.Merge(count, sums, squares);
    }
}
