using System.Diagnostics;
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
/// <param name="MeanReturn">Of the last 100 finished training episodes, or all of an epoch, whoever drove; null before the first.</param>
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
    /// <summary>
    /// Mean over the rows that are held out, by the student as it is after training; null where none is.
    /// </summary>
    public double? HeldOutLoss { get; init; }

    /// <summary>Passes over the dataset that were done; null where all are done always.</summary>
    public int? Passes { get; init; }

    /// <summary>
    /// Mean and standard deviation over variants, and the lowest, of the student's mean return on each when it last drove; null
    /// where there is one variant, or nothing known.
    /// </summary>
    public (double Mean, double Std, double Worst)? Variants { get; init; }

    /// <summary>What recorded data brought before the first iteration; null after it, and where there are none.</summary>
    public SeedReport? Seed { get; init; }

    /// <summary>Whether the student begins to overfit; see <see cref="OverfittingWatch"/>.</summary>
    public bool BeginsToOverfit { get; init; }

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
            if (HeldOutLoss is { } heldOut)
                yield return new("Loss/held_out", heldOut);
            yield return new("Loss/learning_rate", LearningRate);
            yield return new("training/loss", Loss);
            yield return new("training/gradient_norm", GradientNorm);
            yield return new("training/optimizer_steps", OptimizerSteps);
            if (Passes is { } passes)
                yield return new("training/passes", passes);
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
            if (Variants is { } variants)
            {
                yield return new("variants/mean_return", variants.Mean);
                yield return new("variants/std_return", variants.Std);
                yield return new("variants/worst_return", variants.Worst);
            }
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
    private readonly IDistillationEngine engine;
    private readonly OverfittingWatch? watch;
    private readonly bool varies;
    private int iteration;

    /// <param name="teacher">Labels every state; left as it is, and not disposed here.</param>
    /// <exception cref="DistillException">The settings, the teacher and the environment do not fit together.</exception>
    public Distillation(DistillationConfig config, Policy teacher, WorkerPool pool)
        : this(config, TeacherPolicies.Of(teacher, config.Environment.Spec), pool) { }

    /// <param name="teachers">Label the states; left as they are, and not disposed here.</param>
    /// <exception cref="DistillException">The settings, the teachers and the environment do not fit together.</exception>
    public Distillation(DistillationConfig config, ITeachers teachers, WorkerPool pool)
        : this(config, Maker(config, teachers), pool) { }

    /// <param name="teacher">Makes what labels the states of the environments.</param>
    /// <exception cref="DistillException">The settings, the teacher and the environment do not fit together.</exception>
    public Distillation(
        DistillationConfig config,
        Func<IBatchedEnvironment, ITeacher> teacher,
        WorkerPool pool
    )
    {
        config.Validate();
        Config = config;
        varies = Schedule.AnyVaries(config);
        engine = config.Device.Make<IDistillationEngine>(
            () => new CudaEngine(config, teacher, pool),
            () => new CpuEngine(config, teacher, pool),
            out var reason
        );
        RunsOn = engine is CudaEngine { Name: var name } ? name : $"processor{reason}";
        watch = config.HeldOut > 0 ? new OverfittingWatch() : null;
    }

    public DistillationConfig Config { get; }
    public Policy Student => engine.Student;

    /// <summary>What computes: the GPU's name, or the processor, and why where a GPU might have been taken.</summary>
    public string RunsOn { get; }

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    /// <summary>The student's optimizer, for checkpoints.</summary>
    public Optimizer Optimizer => engine.Optimizer;

    /// <summary>Rows the dataset has room for.</summary>
    public long DatasetCapacity => engine.Dataset.Capacity;

    /// <summary>Rows the dataset may hold at most.</summary>
    public long DatasetLimit => engine.Dataset.Limit;

    /// <summary>Rows the dataset holds.</summary>
    public long DatasetRows => engine.Dataset.Rows;

    /// <summary>What a row of the dataset consists of.</summary>
    public Columns DatasetColumns => Config.Columns(Config.Environment.Spec);

    /// <summary>Collect, aggregate, train; before the first time recorded data are aggregated.</summary>
    /// <exception cref="DistillException">
    /// A number is not finite; the message says which. The student is as it was before the step that would have taken it over.
    /// </exception>
    public IterationReport Iterate()
    {
        var started = Stopwatch.GetTimestamp();
        var now = varies ? Schedule.Resolve(Config, iteration) : Config;
        engine.Use(now);
        var teacherShare = now.Acting.TeacherShare(iteration);
        var grownFrom = engine.Dataset.Capacity;
        var seed = iteration == 0 ? engine.Seed() : null;
        if (now.Collection.Collects)
            engine.Collect(teacherShare, iteration);
        var collected = Stopwatch.GetTimestamp();

        if (now.Collection.Collects)
            engine.Add();
        var optimizer = engine.Optimizer;
        var (stepsBefore, clippedBefore) = (optimizer.Steps, optimizer.ClippedSteps);
        var losses = engine.Train(iteration);

        var phase = Config.Acting.Phase(iteration, Config.Iterations);
        var (episodes, dataset) = (engine.Episodes, engine.Dataset);
        return new IterationReport(
            iteration++,
            phase,
            teacherShare,
            losses.Loss,
            losses.Newest,
            losses.Historical,
            now.Optimizer.LearningRate,
            optimizer.GradientNorm,
            OptimizerSteps: optimizer.Steps - stepsBefore,
            ClippedSteps: optimizer.ClippedSteps - clippedBefore,
            RowsAdded: now.Collection.Collects ? dataset.Added : seed?.Rows ?? 0,
            DatasetRows: dataset.Rows,
            DatasetLimit: dataset.Limit,
            grownFrom,
            GrownTo: dataset.Capacity,
            episodes.MeanReturn,
            episodes.StdReturn,
            episodes.MeanLength,
            episodes.ShareTerminated,
            episodes.Finished,
            engine.StepsCollected,
            CollectionSeconds: Stopwatch.GetElapsedTime(started, collected).TotalSeconds,
            LearningSeconds: Stopwatch.GetElapsedTime(collected).TotalSeconds
        )
        {
            HeldOutLoss = losses.HeldOut,
            Passes = Config.EarlyStopping > 0 ? losses.Passes : null,
            BeginsToOverfit = watch?.Add(losses) ?? false,
            Variants = engine.Variants?.Spread,
            Seed = seed,
        };
    }

    /// <summary>Writes the dataset as recorded data (docs/recorded-data.md), which another run can begin with.</summary>
    /// <param name="path">An .npz file.</param>
    /// <param name="teacher">Who gave the labels, for whoever reads the file.</param>
    public void ExportDataset(string path, string teacher = "") => engine.Export(path, teacher);

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        engine.Visit(state);
        if (watch is not null)
            state.Part("overfitting", watch.Visit);
    }

    public void Dispose() => engine.Dispose();

    private static Func<IBatchedEnvironment, ITeacher> Maker(DistillationConfig config, ITeachers teachers)
    {
        var read = config.Student.ObservationGroup;
        if (teachers.LabelGroup is { } group && read.Split('+').Contains(group))
            throw new DistillException(
                $"The student reads '{read}', but the observation group '{group}' carries its teacher's action; give it another: "
                    + "student.observation_group=GROUP."
            );
        return environment =>
            teachers.Teach(
                environment,
                config.TeacherDeterministic ? null : new RandomStream(config.Seed, "teacher")
            );
    }
}
