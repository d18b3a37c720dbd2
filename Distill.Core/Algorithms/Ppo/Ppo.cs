using System.Diagnostics;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) with the details of rsl_rl 4 and later. An
/// iteration collects a rollout with the stochastic actor, estimates advantages, and takes a few passes of gradient steps.
/// </summary>
public sealed class Ppo : IRollout, IDisposable
{
    private const int MaxChunks = 32;

    private readonly WorkerPool pool;
    private readonly IBatchedEnvironment environment;
    private readonly Policy critic;
    private readonly ActionDistribution distribution;
    private readonly ObservationView actorView;
    private readonly ObservationView criticView;
    private readonly ObservationStatistics? actorStatistics;
    private readonly ObservationStatistics? criticStatistics;
    private readonly bool shared;
    private readonly SampleLayout layout;
    private readonly PpoRollout rollout;
    private readonly Optimizer actorOptimizer;
    private readonly Optimizer criticOptimizer;
    private readonly EpisodeStatistics episodes;
    private readonly RandomStream noise;
    private readonly RandomStream shuffling;
    private readonly RandomStream restarts;
    private readonly PpoLossSums[] chunkLosses = new PpoLossSums[2 * MaxChunks];
    private readonly FiniteWatch watch;
    private readonly RolloutLoop collect;
    private readonly Work advantages;
    private readonly Work gather;
    private readonly Work gradients;
    private readonly bool varies;
    private int iteration;
    private long steps;

    // The settings of this iteration.
    private PpoConfig now;

    // The mini-batch that is being worked on: a run of panels of the shuffled samples.
    private int firstPanel;
    private int batchPanels;
    private int chunks;
    private float scale;

    /// <param name="environment">What to train in; it says how many environments run side by side.</param>
    /// <exception cref="DistillException">The settings are wrong or do not fit the environment.</exception>
    public Ppo(PpoConfig config, IEnvironmentConfig environment, WorkerPool pool)
    {
        config.Validate();
        Config = config;
        varies = Schedule.AnyVaries(config);
        now = Schedule.Resolve(config, 0);
        this.pool = pool;
        this.environment = environment.Create(
            environment.Envs,
            new RandomStream(config.Seed, "training").Seed()
        );
        var spec = this.environment.Spec;
        var head = spec.Actions.Discrete ? Head.Categorical : Head.Gaussian;
        Actor = Create("actor", config.ActorGroup, config.ActorHidden, spec.Actions.Size, head);
        critic = Create("critic", config.CriticGroup, config.CriticHidden, outputs: 1, Head.Plain);
        distribution = Actor.Distribution!;
        Actor.Network["log_std"].Fill((float)Math.Log(config.InitStd));

        shared = config.ActorGroup == config.CriticGroup;
        actorView = new ObservationView(spec, config.ActorGroup);
        criticView = new ObservationView(spec, config.CriticGroup);
        if (Actor.Normalizer is { } ofActor)
            actorStatistics = new ObservationStatistics(ofActor, this.environment.Count);
        if (!shared && critic.Normalizer is { } ofCritic)
            criticStatistics = new ObservationStatistics(ofCritic, this.environment.Count);
        layout = new SampleLayout(
            Actor.Network.Spec.Inputs,
            shared ? null : critic.Network.Spec.Inputs,
            spec.Actions.Floats,
            Actor.Network.OutputSize
        );
        rollout = new PpoRollout(this.environment.Count, config.StepsPerEnv, layout);
        actorOptimizer = config.Optimizer.Create(Actor.Network, MaxChunks);
        criticOptimizer = config.Optimizer.Create(critic.Network, MaxChunks);
        SetLearningRate(now.Optimizer.LearningRate);
        episodes = new EpisodeStatistics(this.environment.Count);
        noise = new RandomStream(config.Seed, "ppo.action");
        shuffling = new RandomStream(config.Seed, "ppo.shuffle");
        restarts = new RandomStream(config.Seed, "ppo.restart");
        watch = new FiniteWatch(this.environment.Count);
        collect = new RolloutLoop(this.environment, pool, this);
        advantages = new Work(EstimateAdvantages);
        gather = new Work((panel, worker) => rollout.Gather(panel, pool.Workspace(worker)));
        gradients = new Work(Gradients);
        for (var panel = 0; panel < rollout.Panels; panel++)
            this.environment.Reset(panel);
    }

    public PpoConfig Config { get; }

    /// <summary>What is trained; flown without noise it is a teacher.</summary>
    public Policy Actor { get; }

    /// <summary>The actor's optimizer, for checkpoints.</summary>
    public Optimizer ActorOptimizer => actorOptimizer;

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    /// <summary>Collect, estimate advantages, learn.</summary>
    /// <exception cref="DistillException">
    /// A number is not finite; the message says which. The networks are as they were before the step that would have taken
    /// it over.
    /// </exception>
    public PpoReport Iterate()
    {
        var started = Stopwatch.GetTimestamp();
        Resolve();
        Restart();
        collect.Run(Config.StepsPerEnv);
        watch.Check(iteration);
        steps += Config.StepsPerEnv;
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        pool.Run(advantages, rollout.Panels);
        var losses = Update();
        actorStatistics?.Merge();
        criticStatistics?.Merge();
        FiniteWatch.Require(Actor, "actor", iteration);
        FiniteWatch.Require(critic, "critic", iteration);
        return new PpoReport(
            iteration++,
            StepsCollected: steps * environment.Count,
            losses.Value,
            losses.Surrogate,
            losses.Entropy,
            losses.KlDivergence,
            actorOptimizer.LearningRate,
            MeanStd(),
            episodes.MeanReturn,
            episodes.MeanLength,
            episodes.ShareTerminated,
            Steps: rollout.Samples,
            CollectionSeconds: Stopwatch.GetElapsedTime(started, collected).TotalSeconds,
            LearningSeconds: Stopwatch.GetElapsedTime(collected).TotalSeconds
        );
    }

    /// <summary>Bytes that parameters and optimizers take.</summary>
    internal static long EstimateBytes(OptimizerConfig optimizer, NetworkSpec actor, NetworkSpec critic)
    {
        var parameters = actor.Size.Parameters + critic.Size.Parameters;
        return parameters * sizeof(float) + optimizer.EstimateBytes(parameters, MaxChunks);
    }

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        state.Count("steps", ref steps);
        state.Part("actor", Actor.Network.Visit);
        state.Part("critic", critic.Network.Visit);
        state.Part("actor_optimizer", actorOptimizer.Visit);
        state.Part("critic_optimizer", criticOptimizer.Visit);
        if (Actor.Normalizer is { } ofActor)
            state.Part("actor_normaliser", ofActor.Visit);
        if (!shared && critic.Normalizer is { } ofCritic)
            state.Part("critic_normaliser", ofCritic.Visit);
        state.Part("episodes", episodes.Visit);
        state.Part("environment", environment.Visit);
    }

    public void Dispose()
    {
        environment.Dispose();
        Actor.Dispose();
        critic.Dispose();
        rollout.Dispose();
        actorOptimizer.Dispose();
        criticOptimizer.Dispose();
        collect.Dispose();
    }

    private Policy Create(string role, string group, IReadOnlyList<int> hidden, int outputs, Head head)
    {
        var inputs = new ObservationView(environment.Spec, group).Size;
        var spec = NetworkSpec.Mlp(inputs, hidden, outputs, Config.Activation, head);
        var policy = new Policy(spec, group, Config.NormalizeObservations);
        policy.Network.Initialize(new RandomStream(Config.Seed, role));
        return policy;
    }

    /// <summary>The settings of this iteration. What an adaptive schedule made of the learning rate stays.</summary>
    private void Resolve()
    {
        now = varies ? Schedule.Resolve(Config, iteration) : Config;
        (actorOptimizer.Config, criticOptimizer.Config) = (now.Optimizer, now.Optimizer);
        SetLearningRate(
            now.Schedule == RateSchedule.Fixed ? now.Optimizer.LearningRate : actorOptimizer.LearningRate
        );
    }

    /// <summary>
    /// Starts new episodes in some panels. The rollout before has valued their last states already, so nothing is lost but
    /// the statistics of the unfinished episodes.
    /// </summary>
    private void Restart()
    {
        for (var panel = 0; panel < rollout.Panels; panel++)
        {
            if (restarts.Uniform((uint)panel, (uint)iteration) >= now.RestartProbability)
                continue;
            environment.Reset(panel);
            for (
                var env = panel * Panel.Width;
                env < Math.Min((panel + 1) * Panel.Width, environment.Count);
                env++
            )
                episodes.Abandon(env);
        }
    }

    void IRollout.Begin(int panel) { }

    /// <summary>The stochastic actor acts, and the critic values the state.</summary>
    bool IRollout.Act(in PanelStep step)
    {
        var own = step.Own;
        var sample = own.Panel(layout.Recorded);
        if (!Observe(step.Panel, step.Number, sample, counted: true))
            return false;
        var action = layout.Action.Of(sample);
        var values = rollout.Values(step.Panel).Row(step.Number);
        var outputs = Forward(Actor.Network, layout.ActorObservation.Of(sample), own, out _);
        outputs.Values.CopyTo(layout.Outputs.Of(sample).Values);
        Actor.Decide(outputs, action, noise, step.First, steps + step.Number);
        distribution.LogProbability(outputs, action, layout.LogProbability.Of(sample).Values);
        Forward(critic.Network, layout.CriticObservation.Of(sample), own, out _).Values.CopyTo(values);
        rollout.Record(step.Panel, step.Number, sample);
        action.Values.CopyTo(step.Action.Values);
        // An index of a choice is always finite, so the outputs count too.
        return !watch.Catches(step.Panel, step.Number, "action", outputs.Values)
            && !watch.Catches(step.Panel, step.Number, "action", action.Values)
            && !watch.Catches(step.Panel, step.Number, "value", values);
    }

    bool IRollout.Take(in PanelStep step)
    {
        step.Reward.CopyTo(rollout.Rewards(step.Panel).Row(step.Number));
        step.Terminated.CopyTo(rollout.Terminated(step.Panel).Row(step.Number));
        step.Truncated.CopyTo(rollout.Truncated(step.Panel).Row(step.Number));
        return !watch.Catches(step.Panel, step.Number, "reward", step.Reward);
    }

    void IRollout.End(int panel, Workspace own)
    {
        using var scope = own.Open();
        var sample = own.Panel(layout.Recorded);
        if (Observe(panel, Config.StepsPerEnv, sample, counted: false))
            Forward(critic.Network, layout.CriticObservation.Of(sample), own, out _)
                .Values.CopyTo(rollout.Values(panel).Row(Config.StepsPerEnv));
    }

    /// <summary>What actor and critic see, normalized with the statistics of earlier iterations.</summary>
    /// <param name="counted">Whether the statistics of the next iteration take notice.</param>
    /// <returns>Whether all of it is finite.</returns>
    private bool Observe(int panel, int step, Panel sample, bool counted)
    {
        var ofActor = layout.ActorObservation.Of(sample);
        var ofCritic = layout.CriticObservation.Of(sample);
        actorView.Observe(environment, panel, ofActor);
        if (!shared)
            criticView.Observe(environment, panel, ofCritic);
        if (counted)
        {
            actorStatistics?.Add(panel, ofActor);
            criticStatistics?.Add(panel, ofCritic);
        }
        Actor.Normalizer?.Apply(ofActor);
        if (!shared)
            critic.Normalizer?.Apply(ofCritic);
        return !watch.Catches(panel, step, "actor's observation", ofActor.Values)
            && !watch.Catches(panel, step, "critic's observation", ofCritic.Values);
    }

    private static Panel Forward(Network network, Panel observation, Workspace own, out Panel activations)
    {
        activations = own.Panel(network.ActivationSize);
        network.Forward(observation, default, activations, own);
        return network.Output(activations);
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
            for (var lane = 0; lane < lanes; lane++)
                episodes.Add(first + lane, rewards[lane], terminated[lane] != 0, truncated[lane] != 0);
        }
    }

    private void EstimateAdvantages(int panel, int worker)
    {
        var rewards = rollout.Rewards(panel);
        foreach (ref var reward in rewards.Values)
            reward *= (float)now.RewardScale;
        PpoAdvantage.Estimate(
            rewards,
            rollout.Values(panel),
            rollout.Terminated(panel),
            rollout.Truncated(panel),
            (float)now.Gamma,
            (float)now.Lambda,
            rollout.Advantages(panel)
        );
    }

    /// <summary>
    /// Passes of gradient steps over the rollout. The samples are shuffled once and keep their order in all passes, so
    /// mini-batches are runs of panels.
    /// </summary>
    private PpoLossSums Update()
    {
        var panels = rollout.SamplePanels;
        rollout.Shuffle(shuffling, iteration);
        pool.Run(gather, panels);
        var batches = Math.Min(now.NumMiniBatches.Whole, panels);
        var parts = now.NormalizeAdvantagePerMiniBatch ? batches : 1;
        for (var part = 0; part < parts; part++)
            rollout.StandardizeAdvantages(Start(part, parts), Start(part + 1, parts));

        var total = new PpoLossSums();
        for (var epoch = 0; epoch < now.NumLearningEpochs.Whole; epoch++)
        for (var batch = 0; batch < batches; batch++)
            total += Step(Start(batch, batches), Start(batch + 1, batches));
        return total * (1.0 / ((double)now.NumLearningEpochs.Whole * batches));

        int Start(int part, int parts) => (int)((long)part * panels / parts);
    }

    /// <summary>One optimizer step of actor and critic on a range of shuffled panels; returns the means over its samples.</summary>
    private PpoLossSums Step(int start, int end)
    {
        firstPanel = start;
        batchPanels = end - start;
        // Depends on the batch alone, never on the machine.
        chunks = Math.Clamp(batchPanels / 4, 1, MaxChunks);
        var count = Math.Min(end * Panel.Width, rollout.Samples) - start * Panel.Width;
        scale = 1f / count;
        pool.Run(gradients, 2 * chunks);
        var losses = new PpoLossSums();
        foreach (var part in chunkLosses.AsSpan(0, 2 * chunks))
            losses += part;
        losses *= 1.0 / count;
        FiniteWatch.Require(losses.Surrogate, "surrogate loss", iteration);
        FiniteWatch.Require(losses.Value, "value loss", iteration);
        FiniteWatch.Require(losses.Entropy, "entropy", iteration);
        FiniteWatch.Require(losses.KlDivergence, "KL divergence", iteration);
        if (now.Schedule == RateSchedule.Adaptive)
            AdaptLearningRate(losses.KlDivergence);
        actorOptimizer.Step(pool, chunks);
        criticOptimizer.Step(pool, chunks);
        FiniteWatch.Require(actorOptimizer.GradientNorm, "norm of the actor's gradient", iteration);
        FiniteWatch.Require(criticOptimizer.GradientNorm, "norm of the critic's gradient", iteration);
        return losses;
    }

    private void AdaptLearningRate(double kl)
    {
        var rate = actorOptimizer.LearningRate;
        if (kl > 2 * now.DesiredKl)
            SetLearningRate(Math.Max(now.MinLearningRate, rate / 1.5));
        else if (kl > 0 && kl < now.DesiredKl / 2)
            SetLearningRate(Math.Min(now.MaxLearningRate, rate * 1.5));
    }

    private void SetLearningRate(double rate)
    {
        actorOptimizer.LearningRate = rate;
        criticOptimizer.LearningRate = now.CriticLearningRate?.Value ?? rate;
    }

    /// <summary>The gradient of one network on one chunk of the mini-batch: first the actor's chunks, then the critic's.</summary>
    private void Gradients(int item, int worker)
    {
        var own = pool.Workspace(worker);
        var (network, chunk) = Math.DivRem(item, chunks);
        var ofActor = network == 0;
        var gradient = (ofActor ? actorOptimizer : criticOptimizer).Gradient(chunk);
        gradient.Clear();
        var losses = new PpoLossSums();
        var end = firstPanel + (chunk + 1) * batchPanels / chunks;
        for (var panel = firstPanel + chunk * batchPanels / chunks; panel < end; panel++)
        {
            var sample = rollout.Sample(panel);
            losses += ofActor ? ActorGradient(sample, gradient, own) : CriticGradient(sample, gradient, own);
        }
        chunkLosses[item] = losses;
    }

    /// <summary>Clipped surrogate minus the entropy bonus.</summary>
    private PpoLossSums ActorGradient(Panel sample, Span<float> gradient, Workspace own)
    {
        using var scope = own.Open();
        var network = Actor.Network;
        var observation = layout.ActorObservation.Of(sample);
        var action = layout.Action.Of(sample);
        var weight = layout.Weight.Of(sample).Values;
        var outputs = Forward(network, observation, own, out var activations);
        var dOutputs = own.Panel(outputs.Features);
        Span<float> logProbability = stackalloc float[Panel.Width];
        Span<float> dLogProbability = stackalloc float[Panel.Width];
        Span<float> entropy = stackalloc float[Panel.Width];
        Span<float> dEntropy = stackalloc float[Panel.Width];
        Span<float> kl = stackalloc float[Panel.Width];
        distribution.LogProbability(outputs, action, logProbability);
        distribution.Entropy(outputs, entropy);
        distribution.KlDivergence(layout.Outputs.Of(sample), outputs, kl);
        var surrogate = PpoLosses.Surrogate(
            logProbability,
            layout.LogProbability.Of(sample).Values,
            layout.Advantage.Of(sample).Values,
            weight,
            (float)now.ClipParam,
            scale,
            dLogProbability
        );
        for (var lane = 0; lane < Panel.Width; lane++)
            dEntropy[lane] = -(float)now.EntropyCoef * scale * weight[lane];
        distribution.Backward(outputs, action, dLogProbability, dEntropy, dOutputs);
        network.Backward(observation, activations, dOutputs, default, gradient, own);
        return new PpoLossSums(surrogate, 0, Sum(entropy, weight), Sum(kl, weight));
    }

    private PpoLossSums CriticGradient(Panel sample, Span<float> gradient, Workspace own)
    {
        using var scope = own.Open();
        var observation = layout.CriticObservation.Of(sample);
        var dValue = own.Panel(1);
        var values = Forward(critic.Network, observation, own, out var activations).Values;
        var loss = PpoLosses.Value(
            values,
            layout.Value.Of(sample).Values,
            layout.Return.Of(sample).Values,
            layout.Weight.Of(sample).Values,
            now.UseClippedValueLoss ? (float)now.ClipParam : null,
            (float)now.ValueLossCoef * scale,
            dValue.Values
        );
        critic.Network.Backward(observation, activations, dValue, default, gradient, own);
        return new PpoLossSums(0, loss, 0, 0);
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

    private static double Sum(ReadOnlySpan<float> values, ReadOnlySpan<float> weight)
    {
        var sum = 0.0;
        for (var lane = 0; lane < Panel.Width; lane++)
            sum += weight[lane] * values[lane];
        return sum;
    }
}
