using Distill.Datasets;
using Distill.Environments;
using Distill.Evaluation;

namespace Distill.Algorithms;

/// <summary>Which variants an iteration flies, and of which it keeps the data, by how well the student does on each.</summary>
internal sealed class VariantChoice
{
    private readonly DistillationConfig config;
    private readonly IBatchedEnvironment environment;
    private readonly Rollout rollout;
    private readonly RandomStream choosing;
    private readonly RandomStream assigning;
    private readonly int[] order;
    private readonly byte[] active;
    private readonly double[] shares;
    private readonly int[] assigned;

    /// <exception cref="DistillException">The environments cannot do what is asked.</exception>
    public VariantChoice(DistillationConfig config, IBatchedEnvironment environment, Rollout rollout)
    {
        (this.config, this.environment, this.rollout) = (config, environment, rollout);
        var variants = environment.Spec.Variants.Count;
        Statistics = new VariantStatistics(variants);
        choosing = new RandomStream(config.Seed, "active teachers");
        assigning = new RandomStream(config.Seed, "variants");
        order = new int[variants];
        active = new byte[variants];
        shares = new double[variants];
        assigned = new int[environment.Count];
        Assigns = config.VariantFocus.Range(config.Iterations).Highest > 0;
        if (!Assigns)
            return;
        if (environment is not IAssignableEnvironment)
            throw new DistillException(
                $"variant_focus={config.VariantFocus} cannot work: the environments of {environment.Spec.Name} cannot change; use 0."
            );
        if (!config.Collection.WholeEpisodes)
            throw new DistillException(
                $"variant_focus={config.VariantFocus} cannot work where episodes go on from one iteration to the next; add "
                    + "collection=episodes_per_epoch."
            );
    }

    public VariantStatistics Statistics { get; }

    /// <summary>Whether every iteration begins with other environments, if only in some by need.</summary>
    public bool Assigns { get; }

    /// <summary>Refuses a choice among environments that are all alike.</summary>
    /// <exception cref="DistillException">One is asked for.</exception>
    public static void CheckAlike(DistillationConfig config, EnvironmentSpec spec)
    {
        var focus = config.VariantFocus.Range(config.Iterations).Highest > 0;
        if (focus || config.ActiveTeachers.Selects)
            throw new DistillException(
                $"{(focus ? $"variant_focus={config.VariantFocus}" : "active_teachers")} chooses among variants, but the environments "
                    + $"of {spec.Name} are all alike; leave it out."
            );
    }

    /// <summary>
    /// Gives a share of the environments to variants in proportion to how far the student's mean return is below that on its best one,
    /// and the rest to all alike. Each gets the whole number of environments below or above its due, side by side (systematic sampling).
    /// </summary>
    public void Assign(double focus, int iteration)
    {
        Share(focus);
        var offset = assigning.Uniform((uint)iteration);
        var (variant, reached) = (0, shares[0] * assigned.Length);
        for (var env = 0; env < assigned.Length; env++)
        {
            while (env + offset >= reached && variant + 1 < shares.Length)
                reached += shares[++variant] * assigned.Length;
            assigned[env] = variant;
        }
        ((IAssignableEnvironment)environment).Assign(assigned);
    }

    /// <summary>Marks the environments whose rows are kept.</summary>
    /// <param name="ofStudent">Whether the student drove; if not, all are.</param>
    public void Select(bool ofStudent, int iteration)
    {
        if (!config.ActiveTeachers.Selects)
            return;
        var number = ofStudent
            ? Math.Min(order.Length, config.ActiveTeachers.Choose(Statistics, choosing, iteration, order))
            : order.Length;
        active.AsSpan().Fill((byte)(ofStudent ? 0 : 1));
        foreach (var variant in order.AsSpan(0, ofStudent ? number : 0))
            active[variant] = 1;
        for (var env = 0; env < rollout.Envs; env++)
            rollout.Kept[env] = active[environment.VariantOf(env)];
    }

    private void Share(double focus)
    {
        var means = Statistics.MeanReturns;
        var (best, worst) = (double.NegativeInfinity, double.PositiveInfinity);
        foreach (var mean in means)
            if (!double.IsNaN(mean))
                (best, worst) = (Math.Max(best, mean), Math.Min(worst, mean));
        var sum = 0.0;
        for (var i = 0; i < shares.Length; i++)
        {
            // One that is not known counts as the worst.
            shares[i] = best > worst ? best - (double.IsNaN(means[i]) ? worst : means[i]) : 0;
            sum += shares[i];
        }
        for (var i = 0; i < shares.Length; i++)
            shares[i] = (sum > 0 ? focus * shares[i] / sum : 0) + (sum > 0 ? 1 - focus : 1) / shares.Length;
    }
}
