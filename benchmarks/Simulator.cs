using Distill.Compute;
using Distill.Environments;
using Distill.Environments.Quadrotor;
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
        policy.Network.Initialise(new RandomStream(1, "policy"), outputScale: 0);
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
        using var flight = new Flight(config, policy, HoverAction, threads);
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
        using var flight = new Flight(config, null, HoverAction, most);
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
    private sealed class Flight : IWork, IDisposable
    {
        private readonly QuadrotorEnvironment environment;
        private readonly Policy? policy;
        private readonly int group;
        private readonly Scratch[] scratch;
        private long ends;
        private bool counting;

        public Flight(QuadrotorConfig config, Policy? policy, float action, int threads)
        {
            environment = new QuadrotorEnvironment(config, 1);
            this.policy = policy;
            group = environment.Spec.Group("student");
            scratch = [.. Enumerable.Range(0, threads).Select(_ => new Scratch(policy, action))];
        }

        public void Advance(WorkerPool pool) => pool.Run(this, Panel.Count(environment.Count));

        /// <summary>Share of steps that end an episode, over ten stretches.</summary>
        public double ShareOfEnds(WorkerPool pool)
        {
            counting = true;
            for (var i = 0; i < 10; i++)
                Advance(pool);
            counting = false;
            return ends / (10.0 * Steps * environment.Count);
        }

        public void Run(int panel, int worker)
        {
            var own = scratch[worker];
            for (var step = 0; step < Steps; step++)
            {
                environment.Observe(panel, group, own.Observation.Span);
                policy?.Act(own.Observation.Span, [], own.Action.Span, own.Policy!);
                environment.Step(panel, own.Action.Span, own.Reward, own.Terminated, own.Truncated);
                if (counting)
                    Interlocked.Add(ref ends, (long)(own.Terminated.Sum() + own.Truncated.Sum()));
            }
        }

        public void Dispose()
        {
            environment.Dispose();
            foreach (var own in scratch)
                own.Dispose();
        }

        private sealed class Scratch : IDisposable
        {
            public Scratch(Policy? policy, float action)
            {
                Policy = policy is null ? null : new PolicyScratch(policy);
                Action.Span.Fill(action);
            }

            public PolicyScratch? Policy { get; }
            public FloatBuffer Observation { get; } = new(22 * Panel.Width);
            public FloatBuffer Action { get; } = new(4 * Panel.Width);
            public float[] Reward { get; } = new float[Panel.Width];
            public float[] Terminated { get; } = new float[Panel.Width];
            public float[] Truncated { get; } = new float[Panel.Width];

            public void Dispose()
            {
                Policy?.Dispose();
                Observation.Dispose();
                Action.Dispose();
            }
        }
    }
}
