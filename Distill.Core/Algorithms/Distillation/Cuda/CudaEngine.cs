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

    public SeedReport? Seed() => null;

    public void Collect(double teacherShare, int iteration)
    {
        device.Use();
        collector.Collect(teacherShare, iteration);
        machine.Count(teacherShare, iteration);
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
        var passes = config.NumLearningEpochs.Whole;
        var draws = config.Sampling is Weighted;
        for (var pass = 0; pass < passes; pass++)
        {
            var order = machine.Order(out var batch);
            if (pass == 0)
                trainer.Begin(passes * (((long)order.Length + batch - 1) / batch));
            if (pass == 0 && draws)
                trainer.WriteLosses();
            trainer.Pass(order, batch);
            // The next order may go by them.
            if (draws || pass == passes - 1)
                trainer.ReadLosses();
        }
        return machine.Report(trainer.End(iteration), heldOut: null, passes, iteration);
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
        trainer?.Dispose();
        dataset?.Dispose();
        collector?.Dispose();
        machine?.Dispose();
        device.Dispose();
    }

    /// <exception cref="DistillException">A setting asks for what does not run on a GPU yet.</exception>
    private static void RefuseWhatCannotBe(DistillationConfig config)
    {
        Refuse(config.Environment is not QuadrotorConfig, "fly anything but quadrotors (environment)");
        Refuse(!config.TeacherDeterministic, "draw the teacher's actions (teacher_deterministic=false)");
        Refuse(
            config.Exploration.Range(config.Iterations).Highest > 0,
            $"explore (exploration={config.Exploration})"
        );
        Refuse(config.ActiveTeachers.Selects, "choose among teachers (active_teachers)");
        Refuse(
            config.VariantFocus.Range(config.Iterations).Highest > 0,
            $"give environments to other variants (variant_focus={config.VariantFocus})"
        );
        Refuse(
            config.SteadyStateEpisodes > 0,
            $"correct biases (steady_state_episodes={config.SteadyStateEpisodes})"
        );
        Refuse(config.SeedData.Count > 0, "begin with recorded data (seed_data)");
        Refuse(
            config.Recorded.Count > 0,
            $"record more of a step (recorded=[{string.Join(',', config.Recorded)}])"
        );
        Refuse(
            config.FailedWeight.Range(config.Iterations).Lowest < 1,
            $"weigh failed episodes (failed_weight={config.FailedWeight})"
        );
        Refuse(config.HeldOut > 0, $"hold episodes out (held_out={config.HeldOut})");
        Refuse(
            config.Retention is not (NewestRollout or FirstInFirstOut),
            "keep a sample of the data (retention)"
        );
        Refuse(config.Sampling.Ensemble > 1, "train an ensemble (sampling)");
        Refuse(config.Loss is not (MeanSquared or Huber), "compute another loss than mse and huber (loss)");
        Refuse(config.Optimizer is not AdamConfig, "take steps other than Adam's (optimizer)");
        Refuse(config.Collection.Packs, "put episodes end to end (pack_episodes=true)");
    }
}
