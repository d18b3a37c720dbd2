using System.Diagnostics;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) with the details of rsl_rl 4 and later. An
/// iteration collects a rollout with the stochastic actor, estimates advantages, and takes a few passes of gradient steps. With a
/// teacher the actor also minimizes its distance from it: the factors of the two losses and the share of the steps that the
/// teacher drives are schedules, so that distillation, distillation that turns into PPO, and PPO guided by a teacher are settings.
/// </summary>
public sealed class Ppo : IArrivingRollout, IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly PpoNetwork actor;
    private readonly PpoNetwork critic;
    private readonly PpoGuide? guide;
    private readonly ActionDistribution distribution;
    private readonly SampleLayout layout;
    private readonly PpoRollout rollout;
    private readonly EpisodeStatistics episodes;
    private readonly byte[] starting;
    private readonly RandomStream noise;
    private readonly RandomStream restarts;
    private readonly FiniteWatch watch;
    private readonly RolloutLoop collect;
    private readonly PpoLearner learner;
    private readonly bool varies;
    private readonly bool reached;
    private int iteration;
    private long steps;

    // The settings of this iteration.
    private PpoConfig now;

    /// <param name="environment">What to train in; it says how many environments run side by side.</param>
    /// <param name="teacher">Guides the actor; left as it is, and not disposed here. Null for nobody.</param>
    /// <exception cref="DistillException">The settings are wrong or do not fit the environment or the teacher.</exception>
    public Ppo(PpoConfig config, IEnvironmentConfig environment, WorkerPool pool, Policy? teacher = null)
    {
        config.Validate();
        Config = config;
        varies = Schedule.AnyVaries(config);
        now = Schedule.Resolve(config, 0);
        this.environment = environment.Create(
            environment.Envs,
            new RandomStream(config.Seed, "training").Seed()
        );
        var spec = this.environment.Spec;
        actor = At(Create("actor", config.Actor, spec.Actions.Size, config.HeadOf(spec)), observes: true);
        var shared = config.SharesObservations;
        critic = At(Create("critic", config.Critic, outputs: 1, Head.Plain), observes: !shared);
        // What it sees then is normalized by the actor's: so must it be for whoever goes on with it from a file.
        if (shared)
            critic.Policy.Normalizer = Actor.Normalizer;
        Actor.Check(spec, "actor");
        CheckCritic();
        distribution = Actor.Distribution!;
        StartDeviation();
        if (teacher is not null)
            guide = new PpoGuide(config, teacher, Actor, this.environment);
        else if (config.NeedsTeacher)
            throw new DistillException(
                $"distillation_coef={config.DistillationCoef} and beta={config.Beta} need a teacher: add teacher=FILE."
            );

        layout = config.Layout(spec, Actor.Network.Spec, critic.Network.Spec, guided: guide is not null);
        rollout = new PpoRollout(
            this.environment.Count,
            config.StepsPerEnv,
            layout,
            Actor.MemorySize + critic.Policy.MemorySize,
            reached = ValuesReached(),
            pauses: this.environment is ILockstepEnvironment { Pauses: true }
        );
        config.Actor.Prepare(actor.Optimizer, Actor);
        config.Critic.Prepare(critic.Optimizer, critic.Policy);
        learner = new PpoLearner(actor, critic, guide, layout, rollout, config.Seed, pool);
        learner.SetLearningRate(now, now.Optimizer.LearningRate);
        episodes = new EpisodeStatistics(this.environment.Count);
        starting = new byte[rollout.Panels * Panel.Width];
        starting.AsSpan().Fill(1);
        noise = new RandomStream(config.Seed, "ppo.action");
        restarts = new RandomStream(config.Seed, "ppo.restart");
        watch = new FiniteWatch(this.environment.Count);
        collect = new RolloutLoop(this.environment, pool, this);
        for (var panel = 0; panel < rollout.Panels; panel++)
            this.environment.Reset(panel);

        PpoNetwork At(Policy policy, bool observes) =>
            new(policy, this.environment, config.Optimizer, PpoLearner.MaxChunks, observes);
    }

    public PpoConfig Config { get; }

    /// <summary>What is trained; flown without noise it is a teacher.</summary>
    public Policy Actor => actor.Policy;

    /// <summary>What values states, to go on with in another training.</summary>
    public Policy Critic => critic.Policy;

    /// <summary>The actor's optimizer, for checkpoints.</summary>
    public Optimizer ActorOptimizer => actor.Optimizer;

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    private bool Guided => guide is not null && iteration <= guide.Last;

    /// <summary>Whether anybody remembers what was before.</summary>
    private bool Remembers => guide is not null || rollout.Length > 1;

    private bool Warming => iteration < Config.CriticWarmup;

    /// <summary>Collect, estimate advantages, learn.</summary>
    /// <exception cref="DistillException">
    /// A number is not finite; the message says which. The networks are as they were before the step that would have taken
    /// it over.
    /// </exception>
    public PpoReport Iterate()
    {
        var started = Stopwatch.GetTimestamp();
        Resolve();
        if (environment.Lost)
            RestartAll();
        Restart();
        collect.Run(Config.StepsPerEnv);
        watch.Check(iteration);
        steps += Config.StepsPerEnv;
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        var losses = learner.Learn(now, iteration, Guided, Warming);
        actor.Normalize();
        critic.Normalize();
        FiniteWatch.Require(Actor, "actor", iteration);
        FiniteWatch.Require(critic.Policy, "critic", iteration);
        var report = new PpoReport(
            iteration,
            StepsCollected: steps * environment.Count,
            losses.Value,
            losses.Surrogate,
            losses.Entropy,
            losses.KlDivergence,
            actor.Optimizer.LearningRate,
            MeanStd(),
            episodes.MeanReturn,
            episodes.MeanLength,
            episodes.ShareTerminated,
            Steps: Config.StepsPerEnv * environment.Count,
            CollectionSeconds: Stopwatch.GetElapsedTime(started, collected).TotalSeconds,
            LearningSeconds: Stopwatch.GetElapsedTime(collected).TotalSeconds
        )
        {
            BehaviorLoss = Guided && now.DistillationCoef > 0 ? losses.Behavior : null,
            TeacherShare = guide is null ? null : now.Beta,
        };
        iteration++;
        return report;
    }

    /// <summary>Bytes that parameters and optimizers take.</summary>
    internal static long EstimateBytes(OptimizerConfig optimizer, NetworkSpec actor, NetworkSpec critic)
    {
        var parameters = actor.Size.Parameters + critic.Size.Parameters;
        return parameters * sizeof(float) + optimizer.EstimateBytes(parameters, PpoLearner.MaxChunks);
    }

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        state.Count("steps", ref steps);
        actor.Visit(state, "actor");
        critic.Visit(state, "critic");
        if (Remembers)
            state.Flags("starting", starting);
        guide?.Visit(state);
        state.Part("episodes", episodes.Visit);
        state.Part("environment", environment.Visit);
    }

    public void Dispose()
    {
        environment.Dispose();
        actor.Dispose();
        critic.Dispose();
        guide?.Dispose();
        rollout.Dispose();
        collect.Dispose();
    }

    private Policy Create(string role, StudentConfig network, int outputs, Head head) =>
        network.Create(
            new ObservationView(environment.Spec, network.ObservationGroup).Size,
            outputs,
            head,
            new RandomStream(Config.Seed, role)
        );

    private void CheckCritic()
    {
        var (network, group) = (critic.Network.Spec, Config.Critic.ObservationGroup);
        var size = new ObservationView(environment.Spec, group).Size;
        if (network.Inputs != size || network.Outputs != 1)
            throw new DistillException(
                $"The critic reads {network.Inputs} numbers and gives {network.Outputs}, but observation group '{group}' of "
                    + $"{environment.Spec.Name} has {size}, and a value is one number."
            );
    }

    /// <summary>Where the settings say with which deviation exploration begins, that replaces the actor's own.</summary>
    private void StartDeviation()
    {
        if (distribution is Categorical)
            return;
        var logStd = Actor.Network["log_std"];
        if (Config.InitStd is null && !Config.Actor.Described)
            throw new DistillException(
                "The actor's file does not say how far to explore, because it gives actions, not a distribution; add init_std=0.1 or so."
            );
        if (Config.InitStd is not { } std)
            return;
        if (logStd.IsEmpty)
            throw new DistillException(
                $"init_std={std} cannot work: this actor's deviation is not a parameter of its own."
            );
        logStd.Fill((float)Math.Log(std));
    }

    /// <summary>The settings of this iteration. What an adaptive schedule made of the learning rate stays.</summary>
    private void Resolve()
    {
        now = varies ? Schedule.Resolve(Config, iteration) : Config;
        (actor.Optimizer.Config, critic.Optimizer.Config) = (now.Optimizer, now.Optimizer);
        learner.SetLearningRate(
            now,
            now.Schedule == RateSchedule.Fixed ? now.Optimizer.LearningRate : actor.Optimizer.LearningRate
        );
    }

    /// <summary>Starts new episodes in some panels, so that they are out of step.</summary>
    private void Restart()
    {
        for (var panel = 0; panel < rollout.Panels; panel++)
            if (restarts.Uniform((uint)panel, (uint)iteration) < now.RestartProbability)
                Restart(panel);
    }

    private void RestartAll()
    {
        for (var panel = 0; panel < rollout.Panels; panel++)
            Restart(panel);
    }

    /// <summary>
    /// Starts new episodes in a panel. The rollout before has valued their last states already, so nothing is lost but the statistics
    /// of the unfinished episodes.
    /// </summary>
    private void Restart(int panel)
    {
        environment.Reset(panel);
        starting.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
        for (
            var env = panel * Panel.Width;
            env < Math.Min((panel + 1) * Panel.Width, environment.Count);
            env++
        )
            episodes.Abandon(env);
    }

    /// <summary>Whether the states in which step limits end episodes are valued.</summary>
    private bool ValuesReached()
    {
        var can = RolloutLoop.CanShowEnds(environment);
        if (Config.TimeOutBootstrap == Bootstrap.Reached && !can)
            throw new DistillException(
                $"time_out_bootstrap=reached cannot work: {environment.Spec.Name} does not show the states in which its episodes end."
            );
        return Config.TimeOutBootstrap switch
        {
            { } said => said == Bootstrap.Reached,
            null => can && environment is ILockstepEnvironment,
        };
    }

    void IRollout.Begin(int panel)
    {
        var starts = rollout.Starts(panel);
        if (starts.IsEmpty)
            return;
        var size = Actor.MemorySize;
        actor.Memory(panel).Values.CopyTo(starts.Rows(0, size).Values);
        critic.Memory(panel).Values.CopyTo(starts.Rows(size, critic.Policy.MemorySize).Values);
    }

    /// <summary>The stochastic actor acts, or the teacher for it, and the critic values the state.</summary>
    bool IRollout.Act(in PanelStep step)
    {
        var own = step.Own;
        var sample = own.Panel(layout.Recorded);
        Span<float> keep = stackalloc float[Panel.Width];
        Forget(step.Panel, keep);
        if (layout.Keep.Size > 0)
            keep.CopyTo(layout.Keep.Of(sample).Values);
        if (!Observe(step.Panel, step.Number, sample, counted: true, step.Counted))
            return false;
        step.Counted.CopyTo(rollout.Counted(step.Panel, step.Number));
        var action = layout.Action.Of(sample);
        var values = rollout.Values(step.Panel).Row(step.Number);
        var outputs = actor.Forward(step.Panel, layout.ActorObservation.Of(sample), remember: true, own);
        outputs.Values.CopyTo(layout.Outputs.Of(sample).Values);
        Actor.Decide(outputs, action, noise, step.First, steps + step.Number);
        if (!Guide(step, keep, sample))
            return false;
        // Of what is done, whoever decided it: the ratio of PPO begins at 1.
        distribution.LogProbability(outputs, action, layout.LogProbability.Of(sample).Values);
        critic
            .Forward(step.Panel, layout.CriticObservation.Of(sample), remember: true, own)
            .Values.CopyTo(values);
        rollout.Record(step.Panel, step.Number, sample);
        action.Values.CopyTo(step.Action.Values);
        // An index of a choice is always finite, so the outputs count too.
        return !watch.Catches(step.Panel, step.Number, "action", outputs.Values)
            && !watch.Catches(step.Panel, step.Number, "action", action.Values)
            && !watch.Catches(step.Panel, step.Number, "value", values);
    }

    bool IArrivingRollout.WantsEnds => reached;

    /// <summary>Values the states in which the step limit ended an episode.</summary>
    void IArrivingRollout.Arrive(in PanelStep step)
    {
        if (!step.Truncated.ContainsAnyExcept(0f))
            return;
        var sample = step.Own.Panel(layout.Recorded);
        if (Observe(step.Panel, step.Number, sample, counted: false))
            critic
                .Forward(step.Panel, layout.CriticObservation.Of(sample), remember: false, step.Own)
                .Values.CopyTo(rollout.Beyond(step.Panel).Row(step.Number));
    }

    bool IRollout.Take(in PanelStep step)
    {
        step.Reward.CopyTo(rollout.Rewards(step.Panel).Row(step.Number));
        step.Terminated.CopyTo(rollout.Terminated(step.Panel).Row(step.Number));
        step.Truncated.CopyTo(rollout.Truncated(step.Panel).Row(step.Number));
        for (var lane = 0; lane < Panel.Width && Remembers; lane++)
            starting[step.First + lane] = step.Done(lane) || !step.Counts(lane) ? (byte)1 : (byte)0;
        return !watch.Catches(step.Panel, step.Number, "reward", step.Reward)
            && !(
                reached
                && watch.Catches(
                    step.Panel,
                    step.Number,
                    "value",
                    rollout.Beyond(step.Panel).Row(step.Number)
                )
            );
    }

    void IRollout.End(int panel, Workspace own)
    {
        using var scope = own.Open();
        var sample = own.Panel(layout.Recorded);
        Span<float> keep = stackalloc float[Panel.Width];
        Forget(panel, keep);
        if (Observe(panel, Config.StepsPerEnv, sample, counted: false))
            critic
                .Forward(panel, layout.CriticObservation.Of(sample), remember: false, own)
                .Values.CopyTo(rollout.Values(panel).Row(Config.StepsPerEnv));
    }

    /// <summary>Clears what is remembered where an episode starts.</summary>
    /// <param name="keep"><c>[32]</c>, written where anybody remembers: 0 there, else 1.</param>
    private void Forget(int panel, Span<float> keep)
    {
        if (!Remembers)
            return;
        for (var lane = 0; lane < Panel.Width; lane++)
            keep[lane] = 1 - starting[panel * Panel.Width + lane];
        Elementwise.ScaleLanes(actor.Memory(panel), keep);
        Elementwise.ScaleLanes(critic.Memory(panel), keep);
    }

    /// <summary>Lets the teacher say what it would do, and do it where it drives.</summary>
    /// <returns>Whether all of it is finite.</returns>
    private bool Guide(in PanelStep step, ReadOnlySpan<float> keep, Panel sample)
    {
        if (guide is null)
            return true;
        var label = layout.Label.Of(sample);
        if (Guided)
            return guide.Act(
                step,
                steps + step.Number,
                now.Beta,
                keep,
                layout.Action.Of(sample),
                label,
                watch
            );
        label.Values.Clear();
        return true;
    }

    /// <summary>What actor and critic see.</summary>
    /// <param name="counted">Whether the statistics of the next iteration take notice.</param>
    /// <param name="lanes"><c>[32]</c>: 0 for lanes of which they do not; empty for all.</param>
    /// <returns>Whether all of it is finite.</returns>
    private bool Observe(int panel, int step, Panel sample, bool counted, ReadOnlySpan<byte> lanes = default)
    {
        var ofActor = layout.ActorObservation.Of(sample);
        var ofCritic = layout.CriticObservation.Of(sample);
        // Statistics that move would move an actor that is to stay as it is.
        actor.Observe(panel, ofActor, counted && !Warming, lanes);
        critic.Observe(panel, ofCritic, counted, lanes);
        return !watch.Catches(panel, step, "actor's observation", ofActor.Values)
            && !watch.Catches(panel, step, "critic's observation", ofCritic.Values);
    }

    /// <summary>Episode statistics in the order of time, then environment, so that threads do not matter.</summary>
    private void CountEpisodes()
    {
        for (var step = 0; step < Config.StepsPerEnv; step++)
        for (var panel = 0; panel < rollout.Panels; panel++)
        {
            var first = panel * Panel.Width;
            var lanes = Math.Min(Panel.Width, environment.Count - first);
            var rewards = rollout.Rewards(panel).Row(step);
            var terminated = rollout.Terminated(panel).Row(step);
            var truncated = rollout.Truncated(panel).Row(step);
            var counted = rollout.Counted(panel, step);
            for (var lane = 0; lane < lanes; lane++)
                if (counted.IsEmpty || counted[lane] != 0)
                    episodes.Add(first + lane, rewards[lane], terminated[lane] != 0, truncated[lane] != 0);
        }
    }

    private double? MeanStd()
    {
        var logStd = Actor.Network["log_std"];
        if (logStd.IsEmpty)
            return null;
        var sum = 0.0;
        foreach (var value in logStd)
            sum += Math.Exp(value);
        return sum / logStd.Length;
    }
}
