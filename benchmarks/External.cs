using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json.Nodes;
using Distill.Environments;
using Distill.Environments.External;
using Distill.Evaluation;

namespace Distill.Benchmarks;

/// <summary>
/// What it costs that a simulator is in another process: steps of one that has no work of its own, from the actions of all environments to
/// their observations in panels, beside the same arrays pickled through a pipe.
/// </summary>
internal static class External
{
    private const int Steps = 100;

    public static void Run(Session session)
    {
        if (Python() is not { } python)
        {
            session.Warn("There is no Python with numpy, so that no simulator could be started.");
            return;
        }
        var envs = session.Settings.Size(4096, 64);
        var script = Path.Combine(AppContext.BaseDirectory, "peers", "external.py");
        foreach (var threads in session.Settings.Threads)
        foreach (var form in new[] { "gymnasium", "functions" })
        {
            var config = new ExternalConfig { Command = $"{python} \"{script}\" {form}", Envs = envs };
            using var way = new Way(config, session.Pool(threads));
            using var peer = new PeerProcess(python, [script, "pipe", $"{envs}"], []);
            var ours = session.Ours(Steps, way.Advance);
            var pipe = new Contender("pickled through a pipe", () => Rate(peer, session.Settings.Seconds));
            session.Compare(
                new Case("external", $"{form}, {envs:N0} envs × (48 + 12)", "steps/s", threads)
                {
                    // 100 µs a step.
                    Goal = Goal.Value(1e4),
                },
                ours,
                session.Settings.Peers ? pipe : null
            );
        }
    }

    private static double Rate(PeerProcess peer, double seconds) =>
        peer.Ask(new JsonObject { ["seconds"] = seconds })["rate"]!.GetValue<double>();

    private static string? Python()
    {
        foreach (var python in new[] { "python3", "/usr/bin/python3" })
            try
            {
                using var process = Process.Start(
                    new ProcessStartInfo(python, ["-c", "import numpy"]) { RedirectStandardError = true }
                )!;
                process.StandardError.ReadToEnd();
                process.WaitForExit();
                if (process.ExitCode == 0)
                    return python;
            }
            catch (Win32Exception)
            {
                // Not installed.
            }
        return null;
    }

    /// <summary>Observation, action and step of a batch.</summary>
    private sealed class Way : IRollout, IDisposable
    {
        private readonly IBatchedEnvironment environment;
        private readonly ObservationView view;
        private readonly RolloutLoop loop;

        public Way(ExternalConfig config, WorkerPool pool)
        {
            environment = config.Create(config.Envs, 1);
            view = new ObservationView(environment.Spec, "state");
            loop = new RolloutLoop(environment, pool, this);
            for (var panel = 0; panel < Panel.Count(config.Envs); panel++)
                environment.Reset(panel);
        }

        public void Advance() => loop.Run(Steps);

        public void Begin(int panel) { }

        public bool Act(in PanelStep step)
        {
            view.Observe(environment, step.Panel, step.Own.Panel(view.Size));
            step.Action.Values.Fill(0.5f);
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
