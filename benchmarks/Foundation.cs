using System.Diagnostics;
using Distill.Algorithms;
using Distill.Datasets;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Benchmarks;

/// <summary>An epoch of the distillation of RAPTOR's foundation policy at its published size.</summary>
internal static class Foundation
{
    /// <summary>RAPTOR's own code (rl-tools, commit e43ae4bc), measured on one Zen 5 core: 16 to 23 s an epoch.</summary>
    private const string Peer = "RAPTOR's own code on one Zen 5 core: 16 to 23 s";

    public static void Run(Session session)
    {
        var config = Config(session.Settings);
        var (drones, steps) = (config.Environment.Spec.Variants.Count, config.Environment.Spec.EpisodeLimit);
        using var teachers = Teachers(drones);
        using var distillation = new Distillation(config, teachers, session.Pool(1));
        distillation.Iterate();
        List<double> seconds = [];
        var (collecting, learning, rows) = (0.0, 0.0, 0L);
        for (var i = 0; i < Math.Min(5, session.Settings.Repetitions); i++)
        {
            var before = Process.GetCurrentProcess().TotalProcessorTime;
            var report = distillation.Iterate();
            seconds.Add((Process.GetCurrentProcess().TotalProcessorTime - before).TotalSeconds);
            collecting += report.CollectionSeconds;
            learning += report.LearningSeconds;
            rows = report.DatasetRows;
        }
        session.Add(
            "foundation",
            $"{drones:N0} drones and teachers 26-64-64-4, 10 episodes of {steps} steps each, GRU of 16",
            1,
            "core-seconds an epoch",
            seconds,
            3.5,
            $"{rows:N0} rows trained on, {100 * collecting / (collecting + learning):F0} % of the time collecting and labelling; {Peer}"
        );
    }

    /// <summary>One epoch of the published size: 10 episodes of each of 1,000 drones.</summary>
    public static DistillationConfig Config(Settings settings)
    {
        var drones = settings.Size(1000, 4);
        var steps = settings.Size(500, 4);
        return new()
        {
            Environment = new QuadrotorConfig
            {
                Sampled = new DroneSampling { Number = drones },
                EpisodeLimit = steps,
            },
            // It flies, so that episodes are whole, and stays as it is.
            Student = new FileStudent
            {
                File = Path.Combine(settings.Root, "tests/fixtures/raptor/raptor-student.safetensors"),
            },
            Optimizer = new AdamConfig { LearningRate = 1e-12 },
            Acting = new StudentAlways(),
            Collection = new EpisodesPerEpoch(10 * drones, PackEpisodes: true),
            Retention = new NewestRollout(),
            NumLearningEpochs = 1,
            MiniBatchSize = settings.Size(64, 4),
            GradientLength = steps,
        };
    }

    /// <summary>As many as there are drones, drawn at random: what they say does not matter here.</summary>
    public static TeacherPolicies Teachers(int number)
    {
        var policies = new Policy[number];
        for (var i = 0; i < number; i++)
        {
            policies[i] = new Policy(NetworkSpec.Mlp(26, [64, 64], 4, Activation.Relu), "teacher");
            policies[i].Network.Initialize(new RandomStream((ulong)i, "teacher"));
        }
        return new(policies, [.. Enumerable.Range(0, number)]);
    }
}
