using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Benchmarks;

/// <summary>The quadrotor, with and without a policy in the loop.</summary>
internal static class Simulator
{
    // As the collector does: a panel runs a stretch of steps while its state is in cache.
    private const int Steps = 50;

    public static void Run(Session session)
    {
        foreach (var threads in session.Settings.Threads)
        foreach (var envs in session.Settings.Quick ? [64] : new[] { 1024, 4096, 8192 })
        foreach (var task in new[] { QuadrotorTask.Position, QuadrotorTask.Langevin })
        foreach (var resets in envs == 1024 ? new[] { false, true } : [false])
            Measure(session, "simulator", threads, envs, task, resets, policy: null, 90e6);
        Scaling(session);
    }

    public static void RunWithPolicy(Session session)
    {
        var spec = NetworkSpec.Mlp(22, [64, 64], 4, Activation.Tanh);
        using var policy = new Policy(spec, "student");
        // The last layer is its bias, which hovers: the work is the same, and the drone stays in the air.
        policy.Network.Initialize(new RandomStream(1, "policy"), outputScale: 0);
        var bias = policy.Network.Views[^1];
        policy.Network.Parameters.Slice(bias.Offset, bias.Length).Fill(HoverAction);
        foreach (var threads in session.Settings.Threads)
        foreach (var envs in session.Settings.Quick ? [64] : new[] { 1024, 8192 })
            Measure(session, "policy", threads, envs, QuadrotorTask.Position, resets: false, policy, 8e6);
    }

    /// <summary>The action whose thrust is the weight: thrust = c0 + c1 w + c2 w^2 per rotor at rotor state w.</summary>
    private static float HoverAction
    {
        get
        {
            var drone = Airframes.Get("crazyflie").Dynamics;
            var c = drone.RotorThrustCoefficients[0];
            var missing = drone.Mass * -drone.Gravity[2] / 4 - c[0];
            var rotor =
                c[2] == 0
                    ? missing / c[1]
                    : (Math.Sqrt(c[1] * c[1] + 4 * c[2] * missing) - c[1]) / (2 * c[2]);
            var (low, high) = (drone.ActionLimit.Min, drone.ActionLimit.Max);
            return (float)(2 * (rotor - low) / (high - low) - 1);
        }
    }

    /// <summary>
    /// Hovering, every episode starts level, at rest and with the rotors at speed, and lasts until the step limit. Otherwise
    /// it starts anywhere, and the constant action soon crashes.
    /// </summary>
    private static InitialStates Start(bool hovering) =>
        hovering
            ? new InitialStates
            {
                Guidance = 1,
                MinRpm = HoverAction,
                MaxRpm = HoverAction,
            }
            : new InitialStates { Guidance = 0 };

    private static void Measure(
        Session session,
        string benchmark,
        int threads,
        int envs,
        QuadrotorTask task,
        bool resets,
        Policy? policy,
        double perCore
    )
    {
        var config = new QuadrotorConfig
        {
            Envs = envs,
            Task = task,
            InitialStates = Start(!resets),
        };
        using var flight = new Flight(config, policy, HoverAction);
        var pool = session.Pool(threads);
        var share = flight.ShareOfEnds(pool);
        session.Compare(
            new Case(
                benchmark,
                $"{task.ToString().ToLowerInvariant()}, {envs:N0} envs{(resets ? ", crashing" : "")}",
                "env steps/s",
                threads
            )
            {
                Limit = policy is null ? null : (session.Peaks.Fma(pool), 2.0 * (22 * 64 + 64 * 64 + 64 * 4)),
                Goal = threads == 1 ? Goal.Value(perCore) : null,
                Note = $"{100 * share:F2} % of steps end an episode",
            },
            session.Ours((double)envs * Steps, () => flight.Advance(pool))
        );
    }

    /// <summary>All threads against one, in turns.</summary>
    private static void Scaling(Session session)
    {
        var most = session.Settings.Threads.Max();
        if (most == 1)
            return;
        var config = new QuadrotorConfig
        {
            Envs = session.Settings.Size(4096, 64),
            Task = QuadrotorTask.Position,
            InitialStates = Start(hovering: true),
        };
        using var flight = new Flight(config, null, HoverAction);
        var (one, all) = (session.Pool(1), session.Pool(most));
        var units = (double)config.Envs * Steps;
        session.Compare(
            new Case("simulator", $"position, {config.Envs:N0} envs, threads", "env steps/s", most)
            {
                Goal = Goal.Ratio(3.3 / 4 * most),
            },
            session.Ours(units, () => flight.Advance(all)),
            session.Ours(units, () => flight.Advance(one)) with
            {
                Name = "Distill, 1 thread",
            }
        );
    }

    /// <summary>Observation, action, step, reward, termination and reset of a batch.</summary>
    private sealed class Flight : IRollout, IDisposable
    {
        private readonly QuadrotorEnvironment environment;
        private readonly ObservationView view;
        private readonly ActingPolicy? policy;
        private readonly float action;
        private readonly Dictionary<WorkerPool, RolloutLoop> loops = [];
        private long ends;
        private bool counting;

        public Flight(QuadrotorConfig config, Policy? policy, float action)
        {
            environment = new QuadrotorEnvironment(config, 1);
            view = new ObservationView(environment.Spec, "student");
            this.policy = policy is null ? null : new ActingPolicy(policy, environment, "policy");
            this.action = action;
        }

        public void Advance(WorkerPool pool)
        {
            if (!loops.TryGetValue(pool, out var loop))
                loops[pool] = loop = new RolloutLoop(environment, pool, this);
            loop.Run(Steps);
        }

        /// <summary>Share of steps that end an episode, over ten stretches.</summary>
        public double ShareOfEnds(WorkerPool pool)
        {
            counting = true;
            for (var i = 0; i < 10; i++)
                Advance(pool);
            counting = false;
            return ends / (10.0 * Steps * environment.Count);
        }

        public void Begin(int panel) { }

        public bool Act(in PanelStep step)
        {
            var observation = step.Own.Panel(view.Size);
            view.Observe(environment, step.Panel, observation);
            if (policy is null)
                step.Action.Values.Fill(action);
            else
                policy.Policy.Decide(policy.Forward(step.Panel, observation, step.Own), step.Action);
            return true;
        }

        public bool Take(in PanelStep step)
        {
            for (var lane = 0; counting && lane < Panel.Width; lane++)
                if (step.Done(lane))
                    Interlocked.Increment(ref ends);
            return true;
        }

        public void End(int panel, Workspace own) { }

        public void Dispose()
        {
            foreach (var loop in loops.Values)
                loop.Dispose();
            policy?.Dispose();
            environment.Dispose();
        }
    }
}
