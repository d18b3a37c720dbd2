using System.ComponentModel;
using System.Diagnostics;
using Distill.Environments;
using Distill.Environments.Native;
using Distill.Evaluation;

namespace Distill.Benchmarks;

/// <summary>An environment in a shared library beside the same in C#.</summary>
internal static class Natives
{
    // As the collector does: a panel runs a stretch of steps while its state is in cache.
    private const int Steps = 50;

    public static void Run(Session session)
    {
        var folder = Directory.CreateTempSubdirectory("distill-native-");
        try
        {
            var library = Path.Combine(folder.FullName, "libpendulum.so");
            var source = Path.Combine(session.Settings.Root, "native", "pendulum.c");
            if (!Compile("-std=c99", "-O2", "-shared", "-fPIC", "-o", library, source, "-lm"))
            {
                session.Warn("The pendulum in C was not measured: gcc is missing, or does not compile it.");
                return;
            }
            foreach (var threads in session.Settings.Threads)
                Measure(session, new(library) { Envs = session.Settings.Size(4096, 64) }, threads);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static void Measure(Session session, NativeConfig config, int threads)
    {
        var pool = session.Pool(threads);
        var units = (double)config.Envs * Steps;
        using var inC = new Swing(config.Create(config.Envs, 1), pool);
        using var inCSharp = new Swing(new Pendulum(((IEnvironmentConfig)config).Spec, config.Envs, 1), pool);
        session.Compare(
            new Case("native", $"pendulum in C, {config.Envs:N0} envs", "env steps/s", threads)
            {
                Goal = Goal.Ratio(0.8),
            },
            session.Ours(units, inC.Advance) with
            {
                Name = "in C",
            },
            session.Ours(units, inCSharp.Advance) with
            {
                Name = "in C#",
            }
        );
    }

    /// <summary>Whether gcc is there and does what it is told.</summary>
    public static bool Compile(params string[] arguments)
    {
        try
        {
            using var compiler = Process.Start("gcc", arguments);
            compiler.WaitForExit();
            return compiler.ExitCode == 0;
        }
        catch (Win32Exception)
        {
            return false;
        }
    }

    /// <summary>Observation and step of a batch, with actions that follow the observation.</summary>
    private sealed class Swing : IRollout, IDisposable
    {
        private readonly IBatchedEnvironment environment;
        private readonly RolloutLoop loop;

        public Swing(IBatchedEnvironment environment, WorkerPool pool)
        {
            this.environment = environment;
            loop = new(environment, pool, this);
            for (var panel = 0; panel < Panel.Count(environment.Count); panel++)
                environment.Reset(panel);
        }

        public void Advance() => loop.Run(Steps);

        public void Begin(int panel) { }

        public bool Act(in PanelStep step)
        {
            var observation = step.Own.Panel(environment.Spec.Groups[0].Size);
            environment.Observe(step.Panel, 0, observation.Values);
            observation.Row(1).CopyTo(step.Action.Values);
            return true;
        }

        public bool Take(in PanelStep step) => true;

        public void End(int panel, Workspace own) { }

        public void Dispose()
        {
            loop.Dispose();
            environment.Dispose();
        }
    }
}
