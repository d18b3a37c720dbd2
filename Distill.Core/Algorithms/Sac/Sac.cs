using System.Diagnostics;
using Distill.Datasets;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905): after each step of the environments their transitions go to the
/// replay, from which critics, actor and temperature learn. Bootstrapping stops where an episode terminates, not where the step limit
/// ends it; an environment that cannot show the state in which that happened (<see cref="RolloutLoop.CanShowEnds"/>) loses those
/// transitions.
/// </summary>
public sealed class Sac : IArrivingRollout, IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly SacTransition layout;
    private readonly SacSight actorSight;
    private readonly SacSight criticSight;
    private readonly Replay replay;
    private readonly SacLearner learner;
    private readonly FloatBuffer transitions;
    private readonly byte[] truncated;
    private readonly byte[] counted;
    private readonly EpisodeStatistics episodes;
    private readonly RandomStream noise;
    private readonly RandomStream warmup;
    private readonly FiniteWatch watch;
    private readonly RolloutLoop collect;
    private readonly SacGuide? guide;
    private readonly bool varies;
    private int iteration;
    private int step;
    private long steps;
    private double owed;
    private double likeness;
    private long compared;

    // The settings of this iteration.
    private SacConfig now;

    /// <param name="environment">What to train in; it says how many environments run side by side.</param>
    /// <param name="teacher">Guides the actor, if the settings say so; left as it is, and not disposed here. Null for nobody.</param>
    /// <exception cref="DistillException">The settings are wrong or do not fit the environment or the teacher.</exception>
    public Sac(SacConfig config, IEnvironmentConfig environment, WorkerPool pool, ITeachers? teacher = null)
    {
        config.Validate();
        Config = now = config;
        varies = Schedule.AnyVaries(config);
        this.environment = environment.Create(
            environment.Envs,
            new RandomStream(config.Seed, "training").Seed()
        );
        var (spec, count) = (this.environment.Spec, this.environment.Count);
        var network = config.ActorNetwork(spec);
        Actor = config.Actor.Create(
            network.Inputs,
            network.Outputs,
            network.Head,
            new RandomStream(config.Seed, "actor")
        );
        Actor.Check(spec, "actor");
        actorSight = new SacSight(this.environment, Actor.ObservationGroup, Actor.Normalizer);
        criticSight = new SacSight(
            this.environment,
            config.Critic.ObservationGroup,
            config.CriticNormalizer(spec)
        );
        if (config.NeedsTeacher)
            guide = new SacGuide(
                config,
                teacher
                    ?? throw new DistillException(
                        $"imitation.weight={config.Imitation?.Weight ?? 0} and guided_steps={config.GuidedSteps} need a teacher: add "
                            + "teacher=FILE."
                    ),
                this.environment
            );
        layout = config.Layout(spec);
        replay = new Replay(layout.Columns, config.ReplayCapacity);
        learner = new SacLearner(config, spec, Actor, criticSight.Normalizer, layout, replay, pool);
        transitions = new FloatBuffer((long)Panel.Count(count) * layout.Columns.Size * Panel.Width);
        truncated = new byte[Panel.Count(count) * Panel.Width];
        counted = new byte[Panel.Count(count) * Panel.Width];
        episodes = new EpisodeStatistics(count);
        noise = new RandomStream(config.Seed, "sac.action");
        warmup = new RandomStream(config.Seed, "sac.warmup");
        watch = new FiniteWatch(count);
        collect = new RolloutLoop(this.environment, pool, this);
        for (var panel = 0; panel < Panel.Count(count); panel++)
            this.environment.Reset(panel);
    }

    public SacConfig Config { get; }

    /// <summary>What is trained; flown without noise it is a teacher.</summary>
    public Policy Actor { get; }

    /// <summary>
    /// The two critics, of observation and action one after the other: the soft value of a state is the mean over the actor's actions
    /// of min Q(s, a) - alpha log pi(a|s).
    /// </summary>
    public IReadOnlyList<Policy> Critics => [learner.Critics[0].Policy, learner.Critics[1].Policy];

    /// <summary>The actor's optimizer, for checkpoints.</summary>
    public Optimizer ActorOptimizer => learner.ActorOptimizer;

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    /// <summary>Environment steps so far, all environments together.</summary>
    private long StepsCollected => steps * environment.Count;

    /// <summary>The guide, in iterations that need it.</summary>
    private SacGuide? Guide => iteration <= guide?.Last || Driven ? guide : null;

    /// <summary>Whether the guide drives.</summary>
    private bool Driven => StepsCollected < Config.GuidedSteps;

    /// <summary>Steps of all environments, each followed by the updates that are due.</summary>
    /// <exception cref="DistillException">
    /// A number is not finite; the message says which. The networks are as they were before the step that would have taken
    /// it over.
    /// </exception>
    public SacReport Iterate()
    {
        Resolve();
        var (collecting, learning) = (0L, 0L);
        var losses = new SacSums();
        (likeness, compared) = (0, 0);
        for (step = 0; step < Config.StepsPerEnv; step++)
        {
            var started = Stopwatch.GetTimestamp();
            Collect();
            var collected = Stopwatch.GetTimestamp();
            losses += Learn();
            collecting += collected - started;
            learning += Stopwatch.GetTimestamp() - collected;
        }
        actorSight.Normalize();
        criticSight.Normalize();
        learner.Show();
        FiniteWatch.Require(Actor, "actor", iteration);
        var report = new SacReport(
            iteration,
            StepsCollected,
            learner.Updates,
            CriticLoss: Mean(losses.Critic, losses.Updates),
            Value: Mean(losses.Value, losses.Updates),
            ActorLoss: Mean(losses.Actor, losses.ActorUpdates),
            Entropy: Mean(losses.Entropy, losses.ActorUpdates),
            learner.Temperature.Value,
            replay.Count,
            episodes.MeanReturn,
            episodes.MeanLength,
            episodes.ShareTerminated,
            CollectionSeconds: (double)collecting / Stopwatch.Frequency,
            LearningSeconds: (double)learning / Stopwatch.Frequency
        )
        {
            Likeness = Mean(likeness, compared),
        };
        iteration++;
        return report;

        static double? Mean(double sum, double count) => count == 0 ? null : sum / count;
    }

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        state.Count("steps", ref steps);
        state.Amount("owed", ref owed);
        learner.Visit(state);
        state.Part("actor_normaliser", actorSight.Visit);
        state.Part("critic_normaliser", criticSight.Visit);
        state.Part("replay", replay.Visit);
        if (guide is not null)
            state.Part("guide", guide.Visit);
        state.Part("episodes", episodes.Visit);
        state.Part("environment", environment.Visit);
    }

    public void Dispose()
    {
        environment.Dispose();
        Actor.Dispose();
        replay.Dispose();
        learner.Dispose();
        transitions.Dispose();
        collect.Dispose();
        guide?.Dispose();
    }

    /// <summary>The settings of this iteration.</summary>
    private void Resolve()
    {
        now = varies ? Schedule.Resolve(Config, iteration) : Config;
        learner.Resolve(now);
    }

    /// <summary>One step of every environment, into the replay.</summary>
    private void Collect()
    {
        if (environment.Lost)
            Restart();
        collect.Run(1);
        watch.Check(iteration);
        steps++;
        // In the order of environments, so that threads do not matter.
        for (var env = 0; env < environment.Count; env++)
            Keep(env);
    }

    /// <summary>Starts new episodes everywhere.</summary>
    private void Restart()
    {
        for (var panel = 0; panel < Panel.Count(environment.Count); panel++)
            environment.Reset(panel);
        for (var env = 0; env < environment.Count; env++)
            episodes.Abandon(env);
        guide?.Restart();
    }

    /// <summary>The updates that are due after a step.</summary>
    private SacSums Learn()
    {
        var losses = new SacSums();
        if (StepsCollected <= Config.LearningStarts || replay.Count == 0)
            return losses;
        for (owed += now.UpdateToData * environment.Count; owed >= 1; owed--)
            losses += learner.Update(iteration);
        return losses;
    }

    private Panel Transition(int panel) => Panel.At(transitions.Span, panel, layout.Columns.Size);

    /// <summary>Counts the step of one environment, and puts its transition into the replay.</summary>
    private void Keep(int env)
    {
        if (counted[env] == 0)
            return;
        var (panel, lane) = Math.DivRem(env, Panel.Width);
        var transition = Transition(panel);
        var terminated = layout.Terminated.Of(transition)[0, lane] != 0;
        episodes.Add(env, layout.Reward.Of(transition)[0, lane], terminated, truncated[env] != 0);
        if (Guide is not null && layout.Likeness.Size > 0)
        {
            likeness += layout.Likeness.Of(transition)[0, lane];
            compared++;
        }
        if (truncated[env] != 0 && !collect.ShowsEnds)
            return;
        var row = replay.Next();
        for (var i = 0; i < row.Length; i++)
            row[i] = transition[i, lane];
    }

    void IRollout.Begin(int panel) { }

    /// <summary>The stochastic actor acts, or at the start mere chance.</summary>
    bool IRollout.Act(in PanelStep step)
    {
        var own = step.Own;
        var transition = Transition(step.Panel);
        var observation = layout.ActorObservation.Of(transition);
        var ofCritics = layout.CriticObservation.Of(transition);
        Observe(step.Panel, observation, ofCritics);
        actorSight.Count(step.Panel, observation, step.Counted);
        criticSight.Count(step.Panel, ofCritics, step.Counted);
        if (StepsCollected < Config.WarmupSteps)
            DrawUniformly(step.First, step.Action);
        else
            Actor.Decide(
                Actor.Forward(observation, own.Panel(0), own),
                step.Action,
                noise,
                step.First,
                steps
            );
        var likeness = layout.Likeness.Of(transition).Values;
        if (Guide is null)
            likeness.Clear();
        else if (!Guide.Act(step, steps, Driven, likeness, watch))
            return false;
        step.Action.Values.CopyTo(layout.Action.Of(transition).Values);
        return AreFinite(step, observation, ofCritics)
            && !watch.Catches(step.Panel, this.step, "action", step.Action.Values);
    }

    void IArrivingRollout.Arrive(in PanelStep step) => ObserveNext(step.Panel);

    bool IRollout.Take(in PanelStep step)
    {
        var transition = Transition(step.Panel);
        step.Reward.CopyTo(layout.Reward.Of(transition).Values);
        step.Terminated.CopyTo(layout.Terminated.Of(transition).Values);
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            truncated[step.First + lane] = step.Truncated[lane] != 0 ? (byte)1 : (byte)0;
            counted[step.First + lane] = step.Counts(lane) ? (byte)1 : (byte)0;
        }
        guide?.Take(step);
        if (!collect.ShowsEnds)
            ObserveNext(step.Panel);
        return !watch.Catches(step.Panel, this.step, "reward", step.Reward)
            && AreFinite(
                step,
                layout.NextActorObservation.Of(transition),
                layout.NextCriticObservation.Of(transition)
            );
    }

    void IRollout.End(int panel, Workspace own) { }

    private void ObserveNext(int panel)
    {
        var transition = Transition(panel);
        Observe(
            panel,
            layout.NextActorObservation.Of(transition),
            layout.NextCriticObservation.Of(transition)
        );
    }

    private void Observe(int panel, Panel ofActor, Panel ofCritics)
    {
        actorSight.Observe(panel, ofActor);
        if (!layout.Shared)
            criticSight.Observe(panel, ofCritics);
    }

    private bool AreFinite(in PanelStep step, Panel ofActor, Panel ofCritics) =>
        !watch.Catches(step.Panel, this.step, "actor's observation", ofActor.Values)
        && !watch.Catches(step.Panel, this.step, "critics' observation", ofCritics.Values);

    private void DrawUniformly(int first, Panel action)
    {
        for (var i = 0; i < action.Features; i++)
        for (var lane = 0; lane < Panel.Width; lane++)
            action[i, lane] =
                2 * warmup.Uniform((uint)(first + lane), (uint)steps, (uint)(steps >> 32), (uint)i) - 1;
    }
}
