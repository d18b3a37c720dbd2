using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Recorded;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>What recorded data brought to the dataset.</summary>
/// <param name="Rows">That were read.</param>
/// <param name="Episodes">That ended among them.</param>
/// <param name="Held">Rows that the dataset holds of them.</param>
/// <param name="Remarks">What else there is to say, in sentences.</param>
public sealed record SeedReport(
    int Files,
    long Rows,
    long Episodes,
    long Held,
    IReadOnlyList<string> Remarks
);

/// <summary>
/// Recorded data on their way into the dataset: a rollout after another, as if a teacher had driven. Of rows of many environments,
/// <c>[time, envs, size]</c>, the student's memory goes on from rollout to rollout; rows that follow each other are cut into
/// pieces of a rollout's steps, and a piece begins without memory.
/// </summary>
internal sealed class SeedRows
{
    private readonly DistillationConfig config;
    private readonly DistillationShape shape;
    private readonly Columns columns;
    private readonly Policy student;
    private readonly Func<IBatchedEnvironment, ITeacher> teacher;
    private readonly WorkerPool pool;

    /// <param name="columns">Of the dataset.</param>
    /// <param name="teacher">Labels the rows, if the recorded actions are not the labels.</param>
    /// <exception cref="DistillException">A file is not what is wanted.</exception>
    public SeedRows(
        DistillationConfig config,
        DistillationShape shape,
        Columns columns,
        Policy student,
        Func<IBatchedEnvironment, ITeacher> teacher,
        WorkerPool pool
    )
    {
        (this.config, this.shape, this.columns) = (config, shape, columns);
        (this.student, this.teacher, this.pool) = (student, teacher, pool);
        if (config.Loss.LabelIsDistribution && config.SeedLabels == SeedLabels.Recorded)
            throw new DistillException(
                "Recorded actions are no distributions, which this loss needs; take a loss of actions, such as loss=mse, or let the "
                    + "teacher label the data: seed_labels=teacher."
            );
        var spec = config.Environment.Spec;
        Data = new RecordedData(
            config.RecordedFiles,
            new RecordedWish(
                spec,
                Groups(spec),
                config.SeedLabels == SeedLabels.Recorded,
                config.Student.ObservationGroup
            )
        );
    }

    public RecordedData Data { get; }

    /// <summary>Reads everything, and gives it to the dataset.</summary>
    /// <exception cref="DistillException">A file is damaged, or a number in it cannot be.</exception>
    public SeedReport Add(AggregatedDataset dataset)
    {
        var (rows, episodes, before) = (0L, 0L, dataset.Rows);
        foreach (var environment in Data.Environments(shape.Envs, shape.Steps))
        {
            using var _ = environment;
            using var rollout = new Rollout(
                environment.Count,
                environment.Steps,
                columns,
                student.MemorySize,
                shape.SegmentLength
            )
            {
                Weights = Data.Weighs ? new float[environment.Count * environment.Steps] : null,
            };
            using var collector = new RolloutCollector(
                environment,
                config.SeedLabels == SeedLabels.Teacher
                    ? teacher(environment)
                    : new RecordedLabels(environment),
                student,
                rollout,
                default,
                wholeEpisodes: false,
                pool,
                labelIsDistribution: config.Loss.LabelIsDistribution
            )
            {
                Recorded = environment,
            };
            while (environment.Next())
            {
                collector.Collect(teacherShare: 1);
                Mark(environment, rollout);
                collector.Normalize();
                dataset.Add(rollout);
                rows += environment.Rows;
                episodes += environment.Ended;
            }
        }
        return new SeedReport(Data.Files, rows, episodes, dataset.Rows - before, Data.Remarks);
    }

    /// <summary>
    /// Marks rows by what was recorded of them and their episodes, as <see cref="EpisodeMarks"/> does what was collected.
    /// </summary>
    private void Mark(RecordedEnvironment environment, Rollout rollout)
    {
        var stream = new RandomStream(config.Seed, "held out");
        var failed = false;
        for (var env = environment.Count - 1; env >= 0; env--)
        {
            var steps = environment.StepsOf(env);
            rollout.Kept[env] = steps > 0 ? (byte)1 : (byte)0;
            // Rows that follow each other go on in the next lane.
            failed &= environment.Flat;
            for (var step = steps - 1; step >= 0; step--)
            {
                var recorded = environment.Row(env, step);
                var row = env * rollout.Steps + step;
                if (recorded.Ends)
                    failed = recorded.Failed;
                rollout.Failed[row] = failed ? (byte)1 : (byte)0;
                // A piece of an episode that was cut is no start, though it has no memory.
                rollout.EpisodeStart[row] = recorded.Starts ? (byte)1 : (byte)0;
                rollout.HeldOut[row] = EpisodeMarks.IsHeldOut(
                    stream,
                    config.HeldOut,
                    recorded.Environment,
                    recorded.Episode
                )
                    ? (byte)1
                    : (byte)0;
                if (rollout.Weights is { } weights)
                    weights[row] = recorded.Weight;
                failed &= !recorded.Starts;
            }
        }
    }

    /// <summary>The groups that are read: the student's and what is recorded, and whatever a teacher may want.</summary>
    private int[] Groups(EnvironmentSpec spec)
    {
        var needed = config
            .Recorded.Where(name => name != RolloutCollector.StudentAction)
            .Append(config.Student.ObservationGroup)
            .SelectMany(names => names.Split('+'));
        if (config.SeedLabels == SeedLabels.Teacher)
            needed = needed.Concat(
                RecordedData.GroupsOf(config.RecordedFiles).Intersect(spec.Groups.Select(group => group.Name))
            );
        return [.. needed.Distinct().Select(spec.Group)];
    }
}
