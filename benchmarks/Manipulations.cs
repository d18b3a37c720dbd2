using System.Diagnostics;
using System.Runtime.InteropServices;
using Distill.Environments;
using Distill.Environments.Manipulation;
using Distill.Evaluation;

namespace Distill.Benchmarks;

/// <summary>Manipulation on MuJoCo beside the same loop in C (<c>native/manipulation_loop.c</c>), and on two threads beside one.</summary>
internal sealed class Manipulations : IRollout, IDisposable
{
    private const int ActionSize = 4;

    // Of a puck, m. The loop in C starts from what is observed, which is rounded, and slipping pucks make that up to 1 mm.
    private const double SamePlace = 5e-3;

    private readonly ManipulationEnvironment environment;
    private readonly int expert;
    private readonly int steps;

    // [envs, steps, 4]: what the expert did, which is done again in all measurements.
    private readonly float[] actions;
    private readonly bool recorded;

    private delegate nint Create(string scene, int envs);

    private delegate void Destroy(nint tables, int envs);

    private delegate void Go(
        nint tables,
        int first,
        int count,
        int steps,
        double[] pucks,
        float[] actions,
        double[] places
    );

    private Manipulations(int envs, int steps)
    {
        environment = new(
            new() { Envs = envs, Tasks = [ManipulationTask.Push, ManipulationTask.PickPlace] },
            seed: 1
        );
        (expert, this.steps) = (environment.Spec.Group("expert"), steps);
        actions = new float[envs * steps * ActionSize];
        using var pool = new WorkerPool(1);
        using var loop = new RolloutLoop(environment, pool, this);
        loop.Run(steps);
        recorded = true;
    }

    public static void Run(Session session)
    {
        Manipulations ours;
        try
        {
            ours = new(session.Settings.Size(128, 64), session.Settings.Size(100, 3));
        }
        catch (DistillException missing)
        {
            session.Warn(missing.Message);
            return;
        }
        using (ours)
        {
            if (session.Settings.Peers)
                ours.BesideC(session);
            if (Environment.ProcessorCount > 1)
                ours.OnTwoThreads(session);
        }
    }

    public void Begin(int panel) { }

    public bool Act(in PanelStep step)
    {
        if (!recorded)
            environment.Observe(step.Panel, expert, step.Action.Values);
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var own = actions.AsSpan(((step.First + lane) * steps + step.Number) * ActionSize, ActionSize);
            for (var i = 0; i < own.Length; i++)
                if (recorded)
                    step.Action[i, lane] = own[i];
                else
                    own[i] = step.Action[i, lane];
        }
        return true;
    }

    public bool Take(in PanelStep step) => true;

    public void End(int panel, Workspace own) { }

    public void Dispose() => environment.Dispose();

    private void BesideC(Session session)
    {
        var folder = Directory.CreateTempSubdirectory("distill-manipulation-");
        try
        {
            var path = Path.Combine(folder.FullName, "libloop.so");
            var source = Path.Combine(session.Settings.Root, "native", "manipulation_loop.c");
            if (!Natives.Compile("-O2", "-shared", "-fPIC", source, "-o", path, "-lmujoco"))
            {
                session.Warn(
                    "The loop in C was not measured: gcc or MuJoCo's headers (libmujoco-dev) are missing."
                );
                return;
            }
            var library = NativeLibrary.Load(path);
            var scene = Path.Combine(session.Settings.Root, "assets", "manipulation", "tabletop.xml");
            var tables = Function<Create>("create")(scene, environment.Count);
            var go = Function<Go>("run");
            var (pucks, places) = (Places(), new double[3 * environment.Count]);
            using var loop = new RolloutLoop(environment, session.Pool(1), this);
            session.Compare(
                new Case(
                    "manipulation",
                    $"push and pick-place, {environment.Count} envs",
                    "env steps/CPU s",
                    1
                )
                {
                    Goal = Goal.Ratio(1 / 1.05),
                },
                OfProcessor("Distill", () => Episode(loop)),
                OfProcessor(
                    "the loop in C",
                    () => go(tables, 0, environment.Count, steps, pucks, actions, places)
                )
            );
            Episode(loop);
            if (Places(after: true).Zip(places, (a, b) => Math.Abs(a - b)).Max() > SamePlace)
                session.Warn("The loop in C brought the pucks to other places.");
            Function<Destroy>("destroy")(tables, environment.Count);

            T Function<T>(string name)
                where T : Delegate =>
                Marshal.GetDelegateForFunctionPointer<T>(NativeLibrary.GetExport(library, "tables_" + name));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private void OnTwoThreads(Session session)
    {
        using var one = new RolloutLoop(environment, session.Pool(1), this);
        using var two = new RolloutLoop(environment, session.Pool(2), this);
        session.Compare(
            new Case("manipulation", "two threads beside one", "env steps/s", 2) { Goal = Goal.Ratio(1.8) },
            session.Ours(Units, () => Episode(two)) with
            {
                Name = "two threads",
            },
            session.Ours(Units, () => Episode(one)) with
            {
                Name = "one thread",
            }
        );
    }

    private double Units => (double)environment.Count * steps;

    private void Episode(RolloutLoop loop)
    {
        environment.Rewind();
        loop.Run(steps);
    }

    /// <summary>Units per second of processor time, which others on the machine take less from.</summary>
    private Contender OfProcessor(string name, Action work) =>
        new(
            name,
            () =>
            {
                using var process = Process.GetCurrentProcess();
                var before = process.TotalProcessorTime;
                work();
                process.Refresh();
                return Units / (process.TotalProcessorTime - before).TotalSeconds;
            }
        );

    /// <summary>Where pucks are at the start of the first episodes, or as the environments are: <c>[envs, 3]</c>.</summary>
    private double[] Places(bool after = false)
    {
        if (!after)
            environment.Rewind();
        var places = new double[3 * environment.Count];
        var seen = new float[environment.Spec.Groups[0].Size * Panel.Width];
        for (var panel = 0; panel < Panel.Count(environment.Count); panel++)
        {
            environment.Observe(panel, 0, seen);
            for (var lane = 0; lane < Panel.Width; lane++)
            for (var i = 0; i < 3; i++)
                places[3 * (panel * Panel.Width + lane) + i] = seen[(4 + i) * Panel.Width + lane];
        }
        return places;
    }
}
