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
    private readonly RolloutCollector? collector;
    private readonly AggregatedDataset dataset;
    private readonly DatasetNotes notes;
    private readonly Sampler sampler;
    private readonly StudentTrainer trainer;
    private readonly EpisodeMarks marks;
    private readonly Ensemble? ensemble;
    private readonly HeldOutLoss? heldOut;
    private readonly EarlyStopping? stopping;
    private readonly VariantChoice? choice;
    private readonly EpisodePacking? packing;
    private readonly SteadyStateCorrection? correction;
    private readonly Func<IBatchedEnvironment, ITeacher> teacher;
    private readonly SeedRows? seeds;
    private int segmentsAdded;
    private long seeded;
    private long rollouts;
    private long epoch;
    private long stepsCollected;

    /// <param name="teacher">Makes what labels the states of the environments.</param>
    /// <exception cref="DistillException">The settings, the teacher and the environment do not fit together.</exception>
    public CpuEngine(DistillationConfig config, Func<IBatchedEnvironment, ITeacher> teacher, WorkerPool pool)
    {
        this.config = config;
        this.pool = pool;
        this.teacher = teacher;
        var shape = DistillationShape.Of(config);
        var collects = config.Collection.Collects;
        // Where nothing is collected, one environment says what it would be like.
        var envs = collects ? shape.Envs : 1;
        environment = config.Environment.Create(envs, new RandomStream(config.Seed, "training").Seed());
        CheckSelection(config, shape, environment.Spec);
        Student = CreateStudent(environment.Spec, "student");
        var columns = config.Columns(environment.Spec);
        if (config.Exploration.Range(config.Iterations).Highest > 0 && Student.Distribution is null)
            throw new DistillException(
                $"exploration={config.Exploration} cannot work: the student has no distribution to draw from; add student.head=gaussian, "
                    + "or take a loss that trains one, such as loss=gaussian_log_likelihood."
            );
        rollout = new Rollout(envs, shape.Steps, columns, Student.MemorySize, shape.SegmentLength);
        if (environment.Spec.Variants.Count > 1)
            choice = new VariantChoice(config, environment, rollout);
        else
            VariantChoice.CheckAlike(config, environment.Spec);
        if (shape.PacksEpisodes)
            packing = new EpisodePacking(rollout, new RandomStream(config.Seed, "packing"));
        if (config.SteadyStateEpisodes > 0)
            correction = new SteadyStateCorrection(
                config.Environment,
                environment,
                config.Student.ObservationGroup,
                teacher,
                config.SteadyStateEpisodes,
                config.Seed,
                pool
            );
        if (collects)
            collector = CreateCollector(shape);
        if (config.RecordedFiles.Count > 0)
            seeds = new SeedRows(config, shape, columns, Student, teacher, pool);
        notes = config.Notes(environment.Spec) with { Weights = seeds is { Data.Weighs: true } };
        dataset = new AggregatedDataset(
            columns,
            shape.SegmentLength,
            Student.MemorySize,
            Math.Min(collects ? 10L * rollout.Rows : seeds!.Data.Rows, config.Retention.Rows(rollout.Rows)),
            config.Retention,
            new RandomStream(config.Seed, "retention"),
            notes
        );
        var holding = new RandomStream(config.Seed, "held out");
        marks = new EpisodeMarks(rollout, config.HeldOut, notes.Failed, holding);
        sampler = new Sampler(config.Sampling, new RandomStream(config.Seed, "sampling"));
        if (config.Sampling.Ensemble > 1)
            ensemble = new Ensemble(
                config,
                shape,
                member => CreateStudent(environment.Spec, $"student {member}"),
                Student.Normalizer,
                environment.Spec.Actions.Size
            );
        trainer = new StudentTrainer(
            Student,
            config.Loss,
            config.Optimizer,
            shape.SegmentLength,
            shape.LargestBatch,
            shape.SegmentLength,
            ensemble?.Disagreement
        );
        if (config.HeldOut > 0)
            heldOut = new HeldOutLoss(Student, dataset);
        if (config.EarlyStopping > 0)
            stopping = new EarlyStopping(
                config.EarlyStopping,
                config.Optimizer,
                [(Student.Network, trainer.Optimizer), .. ensemble?.Learners ?? []]
            );
        config.Student.Prepare(trainer.Optimizer, Student);
        Episodes = new EpisodeStatistics(envs, config.Collection.WholeEpisodes ? envs : 0);
    }

    public Policy Student { get; }

    public Optimizer Optimizer => trainer.Optimizer;

    public EpisodeStatistics Episodes { get; }

    public long StepsCollected => stepsCollected;

    public VariantStatistics? Variants => choice?.Statistics;

    internal IBatchedEnvironment Environment => environment;

    internal Rollout Rollout => rollout;

    internal RolloutCollector? Collector => collector;

    internal AggregatedDataset Rows => dataset;

    internal HeldOutLoss? HeldOut => heldOut;

    internal EarlyStopping? Stopping => stopping;

    public DatasetSize Dataset =>
        new(dataset.Rows, dataset.Capacity, dataset.Limit, (long)segmentsAdded * dataset.SegmentLength);

    public void Use(DistillationConfig now)
    {
        config = now;
        sampler.Plan = now.Sampling;
        trainer.Use(now.Loss, now.Optimizer, now.GradientLength.Whole);
        ensemble?.Use(now);
        heldOut?.Use(now.Loss);
        dataset.FailedWeight = now.FailedWeight;
    }

    public SeedReport? Seed()
    {
        var report = seeds?.Add(dataset);
        seeded = dataset.Added;
        segmentsAdded = (int)Math.Min(dataset.Added, int.MaxValue);
        return report;
    }

    public void Collect(double teacherShare, int iteration)
    {
        Assign(iteration);
        collector!.Collect(teacherShare, iteration, config.Exploration);
        Count(teacherShare, iteration);
    }

    /// <summary>Gives the environments to other variants, where that is asked for.</summary>
    /// <returns>Whether it was.</returns>
    internal bool Assign(int iteration)
    {
        if (choice is not { Assigns: true })
            return false;
        choice.Assign(config.VariantFocus, iteration);
        collector!.Use(teacher(environment));
        correction?.Assign();
        return true;
    }

    /// <summary>Counts what is in the rollout, and says whose rows are kept.</summary>
    internal void Count(double teacherShare, int iteration)
    {
        marks.Mark();
        CountEpisodes(teacherShare < 1);
        choice?.Select(teacherShare < 1, iteration);
    }

    public void Add()
    {
        collector!.Normalize();
        Aggregate();
    }

    /// <summary>Takes the rollout over into the dataset.</summary>
    internal void Aggregate()
    {
        var before = dataset.Added;
        if (packing is null)
            dataset.Add(rollout);
        else
            AddPacked(packing);
        segmentsAdded = (int)(dataset.Added - before);
    }

    public TrainingLosses Train(int iteration)
    {
        var (sum, passes, enough) = ((Loss: 0.0, Weight: 0.0), 0, false);
        heldOut?.Choose();
        stopping?.Begin();
        while (passes < config.NumLearningEpochs.Whole && !enough)
        {
            Pass(iteration, ref sum);
            passes++;
            enough = stopping is not null && stopping.After(heldOut?.Mean(pool));
        }
        stopping?.Restore();
        return Report(sum, stopping is null ? heldOut?.Mean(pool) : stopping.Best, passes, iteration);
    }

    /// <summary>The order of the next pass.</summary>
    /// <param name="batch">Segments of a mini-batch.</param>
    internal ReadOnlySpan<int> Order(out int batch)
    {
        var order = sampler.Order(pool, dataset, Math.Max(1, segmentsAdded), epoch++);
        batch = DistillationShape.MiniBatch(config, dataset.SegmentLength, order.Length);
        return order;
    }

    /// <summary>What a training came to, and that the student is made of numbers.</summary>
    /// <param name="sum">Weighted loss and weights of the rows.</param>
    internal TrainingLosses Report(
        (double Loss, double Weight) sum,
        double? heldOut,
        int passes,
        int iteration
    )
    {
        FiniteWatch.Require(Student, "student", iteration);
        var (newest, historical) = dataset.MeanLosses(dataset.Added - segmentsAdded);
        return new TrainingLosses(
            sum.Weight == 0 ? double.NaN : sum.Loss / sum.Weight,
            newest,
            historical,
            heldOut,
            passes
        );
    }

    public void Export(string path, string teacher) =>
        ExportedRows.Write(path, dataset, notes, GoesOn, config, environment.Spec, teacher);

    public void Visit(State state)
    {
        if (seeds is not null)
        {
            VisitSeeds(state, seeds);
            state.Count("seeded", ref seeded);
        }
        state.Count("epoch", ref epoch);
        state.Count("steps_collected", ref stepsCollected);
        state.Part("student", Student.Network.Visit);
        if (Student.Normalizer is { } normalizer)
            state.Part("normaliser", normalizer.Visit);
        state.Part("trainer", trainer.Visit);
        if (collector is not null)
            state.Part("collector", collector.Visit);
        state.Part("dataset", dataset.Visit);
        state.Part("episodes", Episodes.Visit);
        state.Part("marks", marks.Visit);
        if (choice is not null)
            state.Part("variants", choice.Statistics.Visit);
        if (packing is not null)
            state.Count("rollouts", ref rollouts);
        if (ensemble is not null)
            state.Part("ensemble", ensemble.Visit);
        // What nothing is collected beside stays the newest.
        if (!config.Collection.Collects)
            segmentsAdded = (int)Math.Min(dataset.Added, int.MaxValue);
    }

    public void Dispose()
    {
        Student.Dispose();
        trainer.Dispose();
        ensemble?.Dispose();
        stopping?.Dispose();
        collector?.Dispose();
        correction?.Dispose();
        dataset.Dispose();
        rollout.Dispose();
        environment.Dispose();
    }

    /// <summary>
    /// Whether a segment can go on with the one added before it: within what one environment brought to a rollout, and where
    /// recorded rows follow each other.
    /// </summary>
    /// <param name="segment">Its number among all ever added.</param>
    private bool GoesOn(long segment) =>
        segment < seeded && seeds is { Data.Flat: true }
        || (segment < seeded ? segment : segment - seeded) % (rollout.Steps / dataset.SegmentLength) != 0;

    /// <summary>Refuses to go on with other recorded data than the run began with.</summary>
    private static void VisitSeeds(State state, SeedRows seeds)
    {
        var digest = seeds.Data.Digest.ToArray();
        state.Block("seed_data", digest.AsSpan());
        if (!digest.AsSpan().SequenceEqual(seeds.Data.Digest))
            throw new DistillException(
                "The recorded data (seed_data) are not those that this run began with; restore the files, or begin a new run."
            );
    }

    /// <summary>Adds as many packed sequences as fill whole mini-batches, where these have a size.</summary>
    private void AddPacked(EpisodePacking packing)
    {
        packing.Begin(rollouts++);
        var segments = packing.Rows / dataset.SegmentLength;
        var whole = config.MiniBatchSize.Whole * config.GradientAccumulation.Whole;
        if (whole > 0)
            segments -= segments % whole;
        dataset.Add(rollout, packing, segments);
    }

    /// <summary>One pass of gradient steps.</summary>
    /// <param name="sum">Weighted loss and weights of the rows: what they come to is added.</param>
    private void Pass(int iteration, ref (double Loss, double Weight) sum)
    {
        if (dataset.Count == 0)
            return;
        var order = Order(out var size);
        for (var start = 0; start < order.Length; start += size)
        {
            var batch = order[start..Math.Min(start + size, order.Length)];
            var part = trainer.Train(pool, dataset, batch);
            FiniteWatch.Require(part.Sum, "loss", iteration);
            FiniteWatch.Require(trainer.Optimizer.GradientNorm, "norm of the gradient", iteration);
            ensemble?.Train(pool, dataset, batch, trainer.Lanes, iteration);
            sum.Loss += part.Sum;
            sum.Weight += part.Weight;
        }
    }

    /// <summary>Refuses a selection that goes by what is not there.</summary>
    private static void CheckSelection(
        DistillationConfig config,
        DistillationShape shape,
        EnvironmentSpec spec
    )
    {
        if (!spec.Actions.Discrete && (config.Sampling.ByClass || config.Retention.ByClass))
            throw new DistillException(
                $"{(config.Sampling.ByClass ? "The sampling class_balanced" : "The retention class_balanced_reservoir")} goes by "
                    + $"choices, but the actions of {spec.Name} are continuous."
            );
        if (config.Retention.ByClass && shape.SegmentLength > 1)
            throw new DistillException(
                "A class-balanced reservoir keeps rows, but this student has a memory and is trained on sequences; use "
                    + "retention=reservoir."
            );
        if (config.Sampling.Ensemble > 1 && !config.Student.Drawn)
            throw new DistillException(
                "The members of an ensemble begin from draws of their own, but this student begins from a file; use "
                    + "sampling=loss_prioritized."
            );
    }

    private RolloutCollector CreateCollector(DistillationShape shape)
    {
        var advisor = teacher(environment);
        if (config.Loss.LabelIsDistribution && advisor.Outputs != Student.Network.OutputSize)
            throw new DistillException(
                "The loss cannot work with this teacher: it compares distributions, and the teacher has no distribution over actions, as a file without log_std has none; "
                    + "take a loss of actions, such as loss=mse."
            );
        return new RolloutCollector(
            environment,
            advisor,
            Student,
            rollout,
            new RandomStream(config.Seed, "acting"),
            shape.WholeEpisodes,
            pool,
            new RandomStream(config.Seed, "exploration"),
            config.Loss.LabelIsDistribution
        )
        {
            Correction = correction,
            ChangesTeacher = choice is { Assigns: true },
        };
    }

    private Policy CreateStudent(EnvironmentSpec spec, string draw)
    {
        return config.Student.Create(
            new ObservationView(spec, config.Student.ObservationGroup).Size,
            spec.Actions.Size,
            config.HeadOf(spec),
            new RandomStream(config.Seed, draw)
        );
    }

    /// <summary>Episode statistics in the order of time, then environment, so that threads do not matter.</summary>
    /// <param name="ofStudent">Whether the student drove, so that what it did counts for the variants.</param>
    private void CountEpisodes(bool ofStudent)
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
            var finished = Episodes.Finished;
            Episodes.Add(env, rewards[row], end == EpisodeEnd.Terminated, end == EpisodeEnd.Truncated);
            if (ofStudent && Episodes.Finished > finished)
                choice?.Statistics.Add(environment.VariantOf(env), Episodes.LatestReturn);
        }
        choice?.Statistics.Complete();
        for (var env = 0; config.Collection is EpisodesPerEpoch && env < rollout.Envs; env++)
            Episodes.Abandon(env);
    }
}
