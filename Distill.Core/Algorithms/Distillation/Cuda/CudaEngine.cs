using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;
using static Distill.Algorithms.ComputeDevices;

namespace Distill.Algorithms;

/// <summary>
/// Distillation in the memory of an NVIDIA GPU: drones, teacher, student and dataset are there, and the students, metrics and checkpoints
/// are those of <see cref="CpuEngine"/> to the last bit. What is small stays with that one, which keeps the books: who is where in the
/// dataset, in which order it is trained on, how episodes went.
/// </summary>
public sealed class CudaEngine : IDistillationEngine
{
    private readonly CudaDevice device;
    private readonly CpuEngine machine;
    private readonly CudaCollector collector;
    private readonly CudaDataset dataset;
    private readonly CudaTrainer trainer;
    private readonly CudaHeldOutLoss? heldOut;
    private DistillationConfig config;

    /// <param name="teacher">Makes what labels the states of the environments.</param>
    /// <exception cref="DistillException">
    /// There is no GPU, its memory is not enough, or the settings, the teacher and the environment do not fit together or do not run there
    /// yet.
    /// </exception>
    public CudaEngine(DistillationConfig config, Func<IBatchedEnvironment, ITeacher> teacher, WorkerPool pool)
    {
        this.config = config;
        RefuseWhatCannotBe(config);
        device = new CudaDevice();
        var (free, _) = device.Memory;
        try
        {
            machine = new CpuEngine(config, teacher, pool);
            var shape = DistillationShape.Of(config);
            collector = new CudaCollector(
                device,
                machine.Collector!,
                (QuadrotorEnvironment)machine.Environment,
                machine.Student,
                machine.Rollout,
                new RandomStream(config.Seed, "acting"),
                config.Exploration.Range(config.Iterations).Highest > 0
                    ? new RandomStream(config.Seed, "exploration")
                    : null,
                shape.WholeEpisodes
            );
            dataset = new CudaDataset(device, machine.Rows, collector, machine.Student.MemorySize);
            trainer = new CudaTrainer(
                device,
                machine.Rows,
                dataset,
                collector.Student,
                (Adam)machine.Optimizer,
                config.Loss,
                (int)Math.Ceiling(config.GradientLength.Range(config.Iterations).Highest),
                shape.LargestBatch
            );
            if (machine.HeldOut is not null)
                heldOut = new(device, machine.Rows, dataset, collector.Student);
            CheckMemory(free);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Policy Student => machine.Student;

    public Optimizer Optimizer => machine.Optimizer;

    public EpisodeStatistics Episodes => machine.Episodes;

    public VariantStatistics? Variants => machine.Variants;

    public long StepsCollected => machine.StepsCollected;

    public DatasetSize Dataset => machine.Dataset;

    /// <summary>The GPU, as its maker calls it.</summary>
    public string Name => device.Name;

    /// <summary>For tests and measurements.</summary>
    internal CudaDevice Device => device;

    public void Use(DistillationConfig now)
    {
        config = now;
        machine.Use(now);
        trainer.Use(now.Loss, now.GradientLength.Whole);
    }

    public SeedReport? Seed()
    {
        device.Use();
        // The processor reads them into a rollout of its own.
        machine.Rows.Elsewhere = null;
        var report = machine.Seed();
        machine.Rows.Elsewhere = dataset;
        dataset.Upload();
        collector.Student.Normalizer?.Upload();
        return report;
    }

    public void Collect(double teacherShare, int iteration)
    {
        device.Use();
        if (machine.Assign(iteration))
            collector.Assign();
        collector.Collect(teacherShare, iteration, config.Exploration);
        machine.Count(teacherShare, iteration);
        if (machine.Rows.Weighs)
            collector.WriteMarks();
    }

    public void Add()
    {
        device.Use();
        collector.Normalize();
        machine.Aggregate();
    }

    public TrainingLosses Train(int iteration)
    {
        device.Use();
        var (most, passes, enough) = (config.NumLearningEpochs.Whole, 0, false);
        if (machine.Rows.Count == 0)
            return machine.Report((0, 0), heldOut: null, most, iteration);
        var draws = config.Sampling is Weighted;
        machine.HeldOut?.Choose();
        machine.Stopping?.Begin();
        while (passes < most && !enough)
        {
            var order = machine.Order(out var batch);
            if (passes == 0)
                trainer.Begin(most * (((long)order.Length + batch - 1) / batch));
            // Of those that no pass comes to.
            if (passes == 0 && (draws || machine.Rows.Weighs))
                trainer.WriteLosses();
            trainer.Pass(order, batch);
            passes++;
            // The next order may go by them.
            if (draws)
                trainer.ReadLosses();
            enough = machine.Stopping is { } stopping && Stops(stopping, iteration);
        }
        if (!draws && passes > 0)
            trainer.ReadLosses();
        var sum = trainer.End(iteration);
        if (machine.Stopping is null)
            return machine.Report(sum, HeldOutMean(), passes, iteration);
        machine.Stopping.Restore();
        trainer.Upload();
        return machine.Report(sum, machine.Stopping.Best, passes, iteration);
    }

    public void Export(string path, string teacher)
    {
        device.Use();
        dataset.Download();
        machine.Export(path, teacher);
    }

    public void Visit(State state)
    {
        device.Use();
        collector.Download();
        dataset.Download();
        machine.Visit(state);
        // Which may have brought another state.
        collector.Upload();
        dataset.Upload();
        trainer.Upload();
    }

    public void Dispose()
    {
        device.Use();
        // Where the constructor ended early, not all are there.
        heldOut?.Dispose();
        trainer?.Dispose();
        dataset?.Dispose();
        collector?.Dispose();
        machine?.Dispose();
        device.Dispose();
    }

    /// <summary>Refuses what will not fit when the dataset is full; all else is there already.</summary>
    /// <param name="free">Bytes before anything was there.</param>
    /// <exception cref="DistillException">The GPU's memory is not enough.</exception>
    private void CheckMemory(long free)
    {
        var books = machine.Rows;
        var (left, _) = device.Memory;
        var held = books.Capacity / books.SegmentLength * dataset.SegmentBytes;
        var ofSegment = dataset.SegmentBytes + CudaTrainer.SegmentBytes;
        var segments =
            Math.Max(books.Capacity, config.Retention.Rows(machine.Rollout.Rows)) / books.SegmentLength;
        var missing = segments * ofSegment - held;
        if (missing <= left)
            return;
        var fits = (left + held) / ofSegment * books.SegmentLength;
        throw new DistillException(
            $"The distillation would take {(free - left + missing) >> 20} MiB of the GPU's memory but {device.Name} has {free >> 20} MiB free; "
                + (
                    config.Retention.Accumulates && fits >= books.Capacity
                        ? $"max_buffer_size={fits} would fit."
                        : "lower envs, the steps of an iteration or the sizes of the student's layers."
                )
        );
    }

    /// <summary>Whether the passes have come to their end.</summary>
    private bool Stops(EarlyStopping stopping, int iteration)
    {
        // What is kept is the machine's.
        trainer.End(iteration);
        return stopping.After(HeldOutMean());
    }

    private double? HeldOutMean() => heldOut is null ? null : machine.HeldOut!.Mean(heldOut.Sum);

    /// <exception cref="DistillException">A setting asks for what does not run on a GPU yet.</exception>
    private static void RefuseWhatCannotBe(DistillationConfig config)
    {
        Refuse(config.Environment is not QuadrotorConfig, "fly anything but quadrotors (environment)");
        Refuse(
            config.Recorded.Any(name => name.Contains('+')),
            $"record several observation groups as one (recorded=[{string.Join(',', config.Recorded)}])"
        );
        Refuse(config.Sampling.Ensemble > 1, "train an ensemble (sampling)");
        Refuse(config.Loss is not (MeanSquared or Huber), "compute another loss than mse and huber (loss)");
        Refuse(config.Optimizer is not AdamConfig, "take steps other than Adam's (optimizer)");
    }
}
