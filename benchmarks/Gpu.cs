using System.Diagnostics;
using Distill.Algorithms;
using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using Distill.Policies;
using Distill.Policies.Cuda;

namespace Distill.Benchmarks;

/// <summary>Simulator, networks and distillation on an NVIDIA GPU, against what the card can do at most.</summary>
internal static class Gpu
{
    private const int Steps = 50;

    private static readonly NetworkSpec Teacher = NetworkSpec.Mlp(26, [64, 64], 4, Activation.Tanh);

    public static void Run(Session session)
    {
        if (!CudaDevice.IsAvailable)
        {
            session.Warn(
                "gpu: this machine has no NVIDIA driver (libcuda.so.1), so that nothing was measured."
            );
            return;
        }
        using var device = new CudaDevice();
        var (_, total) = device.Memory;
        session.Say(
            $"  {device.Name}: {device.Multiprocessors} multiprocessors, {total / (double)(1L << 30):F0} GiB"
        );
        using var limits = new GpuLimits(device, session.Settings);
        var card = new Card(session, device, limits);
        foreach (var envs in session.Settings.Quick ? [64] : new[] { 8_192, 65_536, 1_048_576 })
            Simulate(card, envs);
        foreach (var envs in session.Settings.Quick ? [64] : new[] { 8_192, 65_536 })
            Collect(card, envs);
        foreach (var batch in session.Settings.Quick ? [64] : new[] { 512, 8_192, 65_536 })
            Train(card, "26-256-256-256-4", Rows(session.Settings, batch));
        foreach (var sequences in session.Settings.Quick ? [4] : new[] { 64, 1_024 })
            Train(card, "GRU of 16", Sequences(session.Settings, sequences));
        foreach (var envs in session.Settings.Quick ? [64] : new[] { 4_096, 65_536 })
            TrainPpo(card, envs);
        TrainFoundation(card);
    }

    /// <summary>How long the card takes.</summary>
    public static double Seconds(CudaDevice device, Action work)
    {
        device.Synchronize();
        var start = Stopwatch.GetTimestamp();
        work();
        device.Synchronize();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    /// <summary>Drones alone, and with a policy of 22-64-64-4.</summary>
    private static void Simulate(Card card, int envs)
    {
        var config = new QuadrotorConfig { Envs = envs, Task = QuadrotorTask.Position };
        using var environment = new QuadrotorEnvironment(config, 1);
        using var drones = new CudaQuadrotors(card.Device, environment);
        using var actions = new CudaBuffer<float>(card.Device, drones.Lanes * 4, "actions");
        using var outcomes = new CudaBuffer<float>(card.Device, drones.Lanes * StepOutcome.Rows, "outcomes");
        using var steps = new CudaSteps(card.Device, drones.Lanes);
        card.Measure(
            $"{envs:N0} quadrotors",
            "env steps/s",
            (double)envs * Steps,
            // What they are is read and written once.
            (card.Limits.Memory, 2.0 * sizeof(float) * QuadrotorFields.Total),
            () => steps.Run(0, Steps, _ => drones.Step(actions, outcomes))
        );

        using var student = new Policy(NetworkSpec.Mlp(22, [64, 64], 4, Activation.Tanh), "student");
        student.Network.Initialize(new RandomStream(1, "policy"));
        using var policy = new CudaPolicy(card.Device, drones, environment, student, "student");
        card.Measure(
            $"{envs:N0} quadrotors, 22-64-64-4 in the loop",
            "env steps/s",
            (double)envs * Steps,
            (card.Limits.Fma, Operations(student.Network.Spec)),
            () =>
                steps.Run(
                    0,
                    Steps,
                    _ =>
                    {
                        policy.Act(default);
                        drones.Step(actions, outcomes);
                    }
                )
        );
    }

    /// <summary>Rollouts of a distillation: teacher and student look, the student drives, rows are written.</summary>
    private static void Collect(Card card, int envs)
    {
        var student = new MlpStudent { Hidden = [64, 64], Activation = Activation.Tanh };
        using var distillation = new Loop(Config(student, envs, Steps, 512, 1));
        card.Measure(
            $"rollouts of {envs:N0} x {Steps}, teacher 26-64-64-4, student 22-64-64-4",
            "rows/s",
            (double)envs * Steps,
            (card.Limits.Fma, Operations(Teacher) + Operations(distillation.Student)),
            () => distillation.Engine.Collect(0, 0),
            distillation.Engine.Device
        );
    }

    /// <summary>Passes over a dataset of a million rows.</summary>
    private static void Train(Card card, string student, DistillationConfig config)
    {
        using var distillation = new Loop(config);
        var engine = distillation.Engine;
        engine.Collect(0, 0);
        engine.Add();
        var rows = (double)engine.Dataset.Rows;
        var forward = Operations(distillation.Student);
        var first = 2.0 * distillation.Student.Inputs * distillation.Student.Layers[0].Size;
        card.Measure(
            $"{student}, {config.MiniBatchSize:N0} segments of {config.GradientLength.Whole:N0}, a pass over {rows:N0} rows",
            "rows/s",
            rows,
            (card.Limits.Fma, 3 * forward - first),
            () => engine.Train(0),
            engine.Device
        );
    }

    /// <summary>Iterations of PPO as it trains the quadrotor's teacher.</summary>
    private static void TrainPpo(Card card, int envs)
    {
        var settings = card.Session.Settings;
        var config = PpoConfig.Quadrotor with
        {
            Device = ComputeDevice.Cuda,
            StepsPerEnv = settings.Size(PpoConfig.Quadrotor.StepsPerEnv, 2),
            NumMiniBatches = settings.Quick ? 1 : PpoConfig.Quadrotor.NumMiniBatches,
        };
        using var pool = new WorkerPool(1);
        using var ppo = new Ppo(config, new QuadrotorConfig { Envs = envs }, pool);
        var (actor, critic) = (ppo.Actor.Network.Spec, ppo.Critic.Network.Spec);
        var forward = Operations(actor) + Operations(critic);
        var first = 2.0 * actor.Inputs * (actor.Layers[0].Size + critic.Layers[0].Size);
        card.Measure(
            $"iterations of PPO on {envs:N0} quadrotors",
            "env steps/s",
            (double)envs * config.StepsPerEnv,
            (card.Limits.Fma, forward + config.NumLearningEpochs.Whole * (3 * forward - first)),
            () => ppo.Iterate(),
            ppo.Gpu
        );
    }

    /// <summary>Epochs of RAPTOR's distillation at its published size.</summary>
    private static void TrainFoundation(Card card)
    {
        var config = Foundation.Config(card.Session.Settings) with { Device = ComputeDevice.Cuda };
        var drones = config.Environment.Spec.Variants.Count;
        using var pool = new WorkerPool(1);
        using var teachers = Foundation.Teachers(drones);
        using var engine = new CudaEngine(config, environment => teachers.Teach(environment), pool);
        var student = Operations(engine.Student.Network.Spec);
        card.Measure(
            $"an epoch of {drones:N0} teachers, 10 episodes each",
            "env steps/s",
            10.0 * drones * config.Environment.Spec.EpisodeLimit,
            (card.Limits.Fma, Operations(Teacher) + 4 * student),
            () =>
            {
                engine.Collect(0, 0);
                engine.Add();
                engine.Train(0);
            },
            engine.Device
        );
    }

    private static DistillationConfig Rows(Settings settings, int batch) =>
        Config(
            new MlpStudent { Hidden = [256, 256, 256] },
            settings.Size(8_192, 64),
            settings.Size(122, 2),
            batch,
            1
        );

    private static DistillationConfig Sequences(Settings settings, int sequences) =>
        Config(
            new GruStudent { Hidden = 16 },
            settings.Size(2_048, 32),
            settings.Size(500, 4),
            sequences,
            settings.Size(500, 4)
        );

    private static DistillationConfig Config(
        StudentConfig student,
        int envs,
        int steps,
        int batch,
        int gradientLength
    ) =>
        new()
        {
            Device = ComputeDevice.Cuda,
            Environment = new QuadrotorConfig { Envs = envs },
            Student = student,
            Acting = new StudentAlways(),
            Collection = new StepsPerIteration(steps),
            SequenceLength = gradientLength,
            GradientLength = gradientLength,
            Retention = new NewestRollout(),
            NumLearningEpochs = 1,
            MiniBatchSize = batch,
        };

    /// <summary>Operations of all products of one row, forward.</summary>
    private static double Operations(NetworkSpec spec) =>
        spec.LayersWithInputs.Sum(pair =>
            pair.Spec is Gru gru
                ? 2.0 * 3 * gru.Size * (pair.Inputs + gru.Size)
                : 2.0 * pair.Spec.Size * pair.Inputs
        );

    /// <summary>A distillation without its books of evaluations and reports.</summary>
    private sealed class Loop : IDisposable
    {
        private readonly WorkerPool pool = new(1);
        private readonly Policy teacher = new(Teacher, "teacher");
        private readonly TeacherPolicies teachers;

        public Loop(DistillationConfig config)
        {
            teacher.Network.Initialize(new RandomStream(1, "teacher"));
            teachers = TeacherPolicies.Of(teacher, config.Environment.Spec);
            Engine = new(config, environment => teachers.Teach(environment), pool);
        }

        public CudaEngine Engine { get; }

        public NetworkSpec Student => Engine.Student.Network.Spec;

        public void Dispose()
        {
            Engine.Dispose();
            teachers.Dispose();
            teacher.Dispose();
            pool.Dispose();
        }
    }

    /// <summary>Where lines come from: the card, and what it can do at most.</summary>
    private sealed record Card(Session Session, CudaDevice Device, GpuLimits Limits)
    {
        /// <param name="units">That the work does.</param>
        /// <param name="limit">And how much of it a unit takes.</param>
        /// <param name="counters">The device that counts launches and bytes.</param>
        public void Measure(
            string name,
            string unit,
            double units,
            (Peak Peak, double PerUnit) limit,
            Action work,
            CudaDevice? counters = null
        )
        {
            counters ??= Device;
            work();
            var (launches, bytes) = (counters.Launches, counters.BusBytes);
            work();
            (launches, bytes) = (counters.Launches - launches, counters.BusBytes - bytes);
            if (Profile(name, work, counters))
            {
                counters.JoinsSteps = false;
                Profile($"{name}, kernel by kernel", work, counters);
                counters.JoinsSteps = true;
            }
            Session.Compare(
                new Case("gpu", name, unit, 1)
                {
                    Device = Device.Name,
                    Limit = limit,
                    Note = $"{launches:N0} launches, {bytes:N0} bytes over the bus",
                },
                Session.Ours(
                    units,
                    () =>
                    {
                        work();
                        counters.Synchronize();
                    }
                )
            );
        }

        /// <returns>Whether steps were joined in one kernel.</returns>
        private bool Profile(string name, Action work, CudaDevice counters)
        {
            using var profile = new CudaProfile(counters);
            counters.Profile = profile;
            work();
            counters.Profile = null;
            Session.AddKernels(Kernels(name, profile));
            return profile.Kernels.Any(kernel => kernel.Name == CudaSteps.Kernel);
        }

        private IEnumerable<KernelResult> Kernels(string name, CudaProfile profile)
        {
            var (operations, bytes) = (Limits.Fma.Rate(), Limits.Memory.Rate());
            var total = profile.Kernels.Sum(kernel => kernel.Seconds);
            return profile.Kernels.Select(kernel => new KernelResult(
                name,
                kernel.Name,
                kernel.Launches,
                kernel.Seconds / kernel.Launches,
                kernel.Seconds / total,
                kernel.Registers,
                kernel.SharedBytes,
                kernel.SpilledBytes,
                kernel.Occupancy,
                kernel.Work.Operations / kernel.Seconds / operations,
                kernel.Work.Bytes / kernel.Seconds / bytes
            ));
        }
    }
}
