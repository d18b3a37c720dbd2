using Distill.Environments;
using Distill.Evaluation;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Removes each teacher's steady-state bias from what its variant's observations show in the dataset, so that the student comes to
/// rest where it should and not where each of its teachers does. The bias is the mean over the second half of the teacher's
/// episodes in tasks that come to rest (Eschmann, Albani and Loianno 2026, and its code in rl-tools:
/// STEADY_STATE_POSITION_CORRECTION, with a window of steps 250 to 499). The student acts on what it sees.
/// </summary>
internal sealed class SteadyStateCorrection : IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly (int Start, int Size)[] parts;
    private readonly int size;
    private readonly double[] ofVariant;

    // [panels, components, 32]
    private readonly FloatBuffer bias;

    /// <param name="group">What the student reads.</param>
    /// <param name="teacher">Makes the teacher of environments.</param>
    /// <param name="episodes">Of each variant.</param>
    /// <exception cref="DistillException">The environment has no rest, or the student does not see where it is.</exception>
    public SteadyStateCorrection(
        IEnvironmentConfig config,
        IBatchedEnvironment environment,
        string group,
        Func<IBatchedEnvironment, ITeacher> teacher,
        int episodes,
        ulong seed,
        WorkerPool pool
    )
    {
        this.environment = environment;
        var spec = environment.Spec;
        parts =
        [
            .. new ObservationView(spec, group)
                .Components.Where(one => spec.SteadyStates.Contains(one.Component.Name))
                .Select(one => (one.Start, one.Component.Size)),
        ];
        if (config.AtRest is not { } atRest || parts.Length == 0)
            throw new DistillException(
                config.AtRest is null
                    ? $"steady_state_episodes={episodes} cannot work: {spec.Name} has no tasks that come to rest; use 0."
                    : $"steady_state_episodes={episodes} cannot work: the student's observation group '{group}' shows none of "
                        + $"{string.Join("; ", spec.SteadyStates)}; use 0."
            );
        size = parts.Sum(part => part.Size);
        var variants = Math.Max(1, spec.Variants.Count);
        using var resting = new Resting(
            atRest,
            checked(variants * episodes),
            group,
            parts,
            teacher,
            seed,
            pool
        );
        ofVariant = resting.Means(variants);
        bias = new FloatBuffer(Panel.Count(environment.Count) * size * Panel.Width);
        Assign();
    }

    /// <summary>Mean of the components of each variant at rest, <c>[variants, components]</c>.</summary>
    public ReadOnlySpan<double> OfVariant => ofVariant;

    /// <summary>Follows the environments, which have become other variants.</summary>
    public void Assign()
    {
        for (var env = 0; env < environment.Count; env++)
        for (var i = 0; i < size; i++)
            Bias(env / Panel.Width)[i, env % Panel.Width] = (float)
                ofVariant[environment.VariantOf(env) * size + i];
    }

    /// <summary>Corrects what the student saw, after it has acted.</summary>
    /// <param name="observation"><c>[observation, 32]</c>.</param>
    public void Apply(int panel, Panel observation)
    {
        var from = 0;
        foreach (var part in parts)
        {
            var values = observation.Rows(part.Start, part.Size).Values;
            var off = Bias(panel).Rows(from, part.Size).Values;
            for (var i = 0; i < values.Length; i++)
                values[i] -= off[i];
            from += part.Size;
        }
    }

    /// <summary>What <see cref="Apply"/> subtracts.</summary>
    /// <param name="observations"><c>[panels, observation, 32]</c>, written.</param>
    public void Write(Span<float> observations)
    {
        observations.Clear();
        var panels = Panel.Count(environment.Count);
        for (var panel = 0; panel < panels; panel++)
        {
            var from = 0;
            var observation = Panel.At(observations, panel, observations.Length / panels / Panel.Width);
            foreach (var part in parts)
            {
                Bias(panel)
                    .Rows(from, part.Size)
                    .Values.CopyTo(observation.Rows(part.Start, part.Size).Values);
                from += part.Size;
            }
        }
    }

    public void Dispose() => bias.Dispose();

    private Panel Bias(int panel) => Panel.At(bias.Span, panel, size);

    /// <summary>Teachers that fly alone, and the sums of what is seen of them at rest.</summary>
    private sealed class Resting : IRollout, IDisposable
    {
        private readonly IBatchedEnvironment environment;
        private readonly ITeacher teacher;
        private readonly ObservationView view;
        private readonly (int Start, int Size)[] parts;
        private readonly int size;
        private readonly FiniteWatch watch;
        private readonly byte[] running;
        private readonly int window;

        // [envs, components]: what was seen last, and the sums over the window.
        private readonly float[] seen;
        private readonly double[] sums;

        public Resting(
            IEnvironmentConfig config,
            int envs,
            string group,
            (int Start, int Size)[] parts,
            Func<IBatchedEnvironment, ITeacher> teacher,
            ulong seed,
            WorkerPool pool
        )
        {
            environment = config.Create(envs, new RandomStream(seed, "at rest").Seed());
            this.teacher = teacher(environment);
            this.parts = parts;
            view = new ObservationView(environment.Spec, group);
            size = parts.Sum(part => part.Size);
            watch = new FiniteWatch(envs);
            running = new byte[Panel.Count(envs) * Panel.Width];
            seen = new float[running.Length * size];
            sums = new double[running.Length * size];
            var limit = environment.Spec.EpisodeLimit;
            window = limit - limit / 2;
            using var loop = new RolloutLoop(environment, pool, this);
            loop.Run(limit);
            watch.Check();
        }

        public double[] Means(int variants)
        {
            var means = new double[variants * size];
            var episodes = new int[variants];
            for (var env = 0; env < environment.Count; env++)
            {
                var variant = environment.VariantOf(env);
                episodes[variant]++;
                for (var i = 0; i < size; i++)
                    means[variant * size + i] += sums[env * size + i];
            }
            for (var i = 0; i < means.Length; i++)
                means[i] /= (double)window * Math.Max(1, episodes[i / size]);
            return means;
        }

        void IRollout.Begin(int panel)
        {
            environment.Reset(panel);
            running.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
        }

        bool IRollout.Act(in PanelStep step)
        {
            var counted = running.AsSpan(step.First, Panel.Width);
            var observation = step.Own.Panel(view.Size);
            view.Observe(environment, step.Panel, observation);
            for (var lane = 0; lane < Panel.Width; lane++)
                Note(step, lane, observation, counted[lane] != 0);
            return teacher.Act(
                step.Panel,
                step.Number,
                step.Number,
                step.Action,
                default,
                watch,
                counted,
                step.Own
            );
        }

        bool IRollout.Take(in PanelStep step)
        {
            for (var lane = 0; lane < Panel.Width; lane++)
                if (step.Done(lane))
                    running[step.First + lane] = 0;
            return true;
        }

        void IRollout.End(int panel, Workspace own) { }

        public void Dispose()
        {
            teacher.Dispose();
            environment.Dispose();
        }

        /// <summary>An episode that has ended stays where it was seen last.</summary>
        private void Note(in PanelStep step, int lane, Panel observation, bool flies)
        {
            var at = (step.First + lane) * size;
            var inWindow = step.Number >= environment.Spec.EpisodeLimit - window;
            foreach (var part in parts)
                for (var i = 0; i < part.Size; i++, at++)
                {
                    if (flies)
                        seen[at] = observation[part.Start + i, lane];
                    if (inWindow)
                        sums[at] += seen[at];
                }
        }
    }
}
