using System.Diagnostics;
using Distill.Compute;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) with the details of rsl_rl 4 and later. An
/// iteration collects a rollout with the stochastic actor, estimates advantages, and takes a few passes of gradient steps.
/// </summary>
public sealed class Ppo : IDisposable
{
    private const int MaxChunks = 32;

    private readonly WorkerPool pool;
    private readonly IBatchedEnvironment environment;
    private readonly Policy critic;
    private readonly ActionDistribution distribution;
    private readonly PpoObserver actorObserver;
    private readonly PpoObserver criticObserver;
    private readonly SampleLayout layout;
    private readonly PpoRollout rollout;
    private readonly Optimizer actorOptimizer;
    private readonly Optimizer criticOptimizer;
    private readonly EpisodeStatistics episodes;
    private readonly RandomStream noise;
    private readonly RandomStream shuffling;
    private readonly RandomStream restarts;
    private readonly float[] oldLogStd;
    private readonly PpoLossSums[] chunkLosses = new PpoLossSums[2 * MaxChunks];
    private readonly PpoScratch[] scratch;
    private readonly FiniteWatch watch;
    private readonly Work collect;
    private readonly Work advantages;
    private readonly Work gather;
    private readonly Work gradients;
    private int iteration;
    private long steps;

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
        this.pool = pool;
        this.environment = environment.Create(
            environment.Envs,
            new RandomStream(config.Seed, "training").Seed()
        );
        var spec = this.environment.Spec;
        var head = spec.Actions.Discrete ? Head.Categorical : Head.Gaussian;
        Actor = Create("actor", config.ActorGroup, config.ActorHidden, spec.Actions.Size, head);
        critic = Create("critic", config.CriticGroup, config.CriticHidden, outputs: 1, Head.Plain);
        distribution = ActionDistribution.Of(head);
        oldLogStd = new float[Actor.Network.LogStd.Length];
        Actor.Network.LogStd.Fill((float)Math.Log(config.InitStd));

        var shared = config.ActorGroup == config.CriticGroup;
        actorObserver = new PpoObserver(this.environment, Actor);
        criticObserver = shared ? actorObserver : new PpoObserver(this.environment, critic);
        layout = new SampleLayout(
            Actor.Network.Spec.Inputs,
            shared ? null : critic.Network.Spec.Inputs,
            spec.Actions.Floats,
            spec.Actions.Size
        );
        rollout = new PpoRollout(this.environment.Count, config.StepsPerEnv, layout);
        actorOptimizer = config.Optimizer.Create(Actor.Network, MaxChunks);
        criticOptimizer = config.Optimizer.Create(critic.Network, MaxChunks);
        SetLearningRate(config.Optimizer.LearningRate);
        episodes = new EpisodeStatistics(this.environment.Count);
        noise = new RandomStream(config.Seed, "ppo.action");
        shuffling = new RandomStream(config.Seed, "ppo.shuffle");
        restarts = new RandomStream(config.Seed, "ppo.restart");
        scratch = [.. Enumerable.Range(0, pool.Threads).Select(_ => new PpoScratch(Actor, critic, layout))];
        watch = new FiniteWatch(this.environment.Count);
        collect = new Work(ShuffleOrCollect);
        advantages = new Work(EstimateAdvantages);
        gather = new Work((panel, _) => rollout.Gather(panel));
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
        Restart();
        pool.Run(collect, 1 + rollout.Panels);
        watch.Check(iteration);
        steps += Config.StepsPerEnv;
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        pool.Run(advantages, rollout.Panels);
        var losses = Update();
        actorObserver.Merge();
        if (criticObserver != actorObserver)
            criticObserver.Merge();
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
        if (Actor.Normaliser is { } ofActor)
            state.Part("actor_normaliser", ofActor.Visit);
        if (criticObserver != actorObserver && critic.Normaliser is { } ofCritic)
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
        foreach (var own in scratch)
            own.Dispose();
    }

    private Policy Create(string role, string group, IReadOnlyList<int> hidden, int outputs, Head head)
    {
        var inputs = environment.Spec.Groups[environment.Spec.Group(group)].Size;
        var spec = NetworkSpec.Mlp(inputs, hidden, outputs, Config.Activation, head);
        var policy = new Policy(spec, group, Config.NormaliseObservations);
        policy.Network.Initialise(new RandomStream(Config.Seed, role));
        return policy;
    }

    /// <summary>
    /// Starts new episodes in some panels. The rollout before has valued their last states already, so nothing is lost but
    /// the statistics of the unfinished episodes.
    /// </summary>
    private void Restart()
    {
        for (var panel = 0; panel < rollout.Panels; panel++)
        {
            if (restarts.Uniform((uint)panel, (uint)iteration) >= Config.RestartProbability)
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

    /// <summary>Draws the order for learning, which needs no samples, in item 0; the panels follow.</summary>
    private void ShuffleOrCollect(int item, int worker)
    {
        if (item == 0)
            rollout.Shuffle(shuffling, iteration);
        else
            Collect(item - 1, worker);
    }

    /// <summary>Runs one panel of environments with the stochastic actor for the whole rollout, while its state is in cache.</summary>
    private void Collect(int panel, int worker)
    {
        var own = scratch[worker];
        var sample = own.Sample;
        var action = layout.Action.Of(sample);
        var values = rollout.Values(panel);
        for (var step = 0; step < Config.StepsPerEnv; step++)
        {
            var now = new Range(step * Panel.Width, (step + 1) * Panel.Width);
            if (!Observe(panel, step, sample, counted: true))
                return;
            var outputs = own.ForwardActor(layout.ActorObservation.Of(sample));
            outputs.CopyTo(layout.Outputs.Of(sample));
            distribution.Sample(
                outputs,
                Actor.Network.LogStd,
                noise,
                panel * Panel.Width,
                steps + step,
                action
            );
            distribution.LogProbability(
                outputs,
                Actor.Network.LogStd,
                action,
                layout.LogProbability.Of(sample)
            );
            own.ForwardCritic(layout.CriticObservation.Of(sample)).CopyTo(values[now]);
            // An index of a choice is always finite, so the outputs count too.
            if (
                watch.Catches(panel, step, "action", outputs)
                || watch.Catches(panel, step, "action", action)
                || watch.Catches(panel, step, "value", values[now])
            )
                return;
            environment.Step(
                panel,
                action,
                rollout.Rewards(panel)[now],
                rollout.Terminated(panel)[now],
                rollout.Truncated(panel)[now]
            );
            if (watch.Catches(panel, step, "reward", rollout.Rewards(panel)[now]))
                return;
            rollout.Record(panel, step, sample[..(layout.Recorded * Panel.Width)]);
        }
        if (!Observe(panel, Config.StepsPerEnv, sample, counted: false))
            return;
        own.ForwardCritic(layout.CriticObservation.Of(sample)).CopyTo(values[^Panel.Width..]);
    }

    /// <returns>Whether all of it is finite.</returns>
    private bool Observe(int panel, int step, Span<float> sample, bool counted)
    {
        var ofActor = layout.ActorObservation.Of(sample);
        var ofCritic = layout.CriticObservation.Of(sample);
        actorObserver.Observe(panel, ofActor, counted);
        if (criticObserver != actorObserver)
            criticObserver.Observe(panel, ofCritic, counted);
        return !watch.Catches(panel, step, "actor's observation", ofActor)
            && !watch.Catches(panel, step, "critic's observation", ofCritic);
    }

    /// <summary>Episode statistics in the order of time, then environment, so that threads do not matter.</summary>
    private void CountEpisodes()
    {
        for (var step = 0; step < Config.StepsPerEnv; step++)
        for (var panel = 0; panel < rollout.Panels; panel++)
        {
            var first = panel * Panel.Width;
            var lanes = Math.Min(Panel.Width, environment.Count - first);
            var now = new Range(step * Panel.Width, step * Panel.Width + lanes);
            var rewards = rollout.Rewards(panel)[now];
            var terminated = rollout.Terminated(panel)[now];
            var truncated = rollout.Truncated(panel)[now];
            for (var lane = 0; lane < lanes; lane++)
                episodes.Add(first + lane, rewards[lane], terminated[lane] != 0, truncated[lane] != 0);
        }
    }

    private void EstimateAdvantages(int panel, int worker)
    {
        var rewards = rollout.Rewards(panel);
        foreach (ref var reward in rewards)
            reward *= (float)Config.RewardScale;
        PpoAdvantage.Estimate(
            rewards,
            rollout.Values(panel),
            rollout.Terminated(panel),
            rollout.Truncated(panel),
            (float)Config.Gamma,
            (float)Config.Lambda,
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
        pool.Run(gather, panels);
        var batches = Math.Min(Config.NumMiniBatches, panels);
        var parts = Config.NormalizeAdvantagePerMiniBatch ? batches : 1;
        for (var part = 0; part < parts; part++)
            rollout.StandardiseAdvantages(Start(part, parts), Start(part + 1, parts));
        Actor.Network.LogStd.CopyTo(oldLogStd);
        if (Config.Schedule == RateSchedule.Linear)
            SetLearningRate(
                Config.Optimizer.LearningRate * Math.Max(0, 1 - (double)iteration / Config.Iterations)
            );

        var total = new PpoLossSums();
        for (var epoch = 0; epoch < Config.NumLearningEpochs; epoch++)
        for (var batch = 0; batch < batches; batch++)
            total += Step(Start(batch, batches), Start(batch + 1, batches));
        return total * (1.0 / ((double)Config.NumLearningEpochs * batches));

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
        if (Config.Schedule == RateSchedule.Adaptive)
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
        if (kl > 2 * Config.DesiredKl)
            SetLearningRate(Math.Max(Config.MinLearningRate, rate / 1.5));
        else if (kl > 0 && kl < Config.DesiredKl / 2)
            SetLearningRate(Math.Min(Config.MaxLearningRate, rate * 1.5));
    }

    private void SetLearningRate(double rate)
    {
        actorOptimizer.LearningRate = rate;
        criticOptimizer.LearningRate = Config.CriticLearningRate ?? rate;
    }

    /// <summary>The gradient of one network on one chunk of the mini-batch: first the actor's chunks, then the critic's.</summary>
    private void Gradients(int item, int worker)
    {
        var own = scratch[worker];
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
    private PpoLossSums ActorGradient(Span<float> sample, Span<float> gradient, PpoScratch own)
    {
        var network = Actor.Network;
        var observation = layout.ActorObservation.Of(sample);
        var action = layout.Action.Of(sample);
        var weight = layout.Weight.Of(sample);
        var outputs = own.ForwardActor(observation);
        Span<float> logProbability = stackalloc float[Panel.Width];
        Span<float> dLogProbability = stackalloc float[Panel.Width];
        Span<float> entropy = stackalloc float[Panel.Width];
        Span<float> dEntropy = stackalloc float[Panel.Width];
        Span<float> kl = stackalloc float[Panel.Width];
        distribution.LogProbability(outputs, network.LogStd, action, logProbability);
        distribution.Entropy(outputs, network.LogStd, entropy);
        distribution.KlDivergence(layout.Outputs.Of(sample), oldLogStd, outputs, network.LogStd, kl);
        var surrogate = PpoLosses.Surrogate(
            logProbability,
            layout.LogProbability.Of(sample),
            layout.Advantage.Of(sample),
            weight,
            (float)Config.ClipParam,
            scale,
            dLogProbability
        );
        for (var lane = 0; lane < Panel.Width; lane++)
            dEntropy[lane] = -(float)Config.EntropyCoef * scale * weight[lane];
        distribution.Backward(
            outputs,
            network.LogStd,
            action,
            dLogProbability,
            dEntropy,
            own.OutputGradient,
            gradient.Slice(network.ParameterCount - network.LogStd.Length, network.LogStd.Length)
        );
        network.Backward(observation, own.ActorActivations, own.OutputGradient, [], gradient, own.Network);
        return new PpoLossSums(surrogate, 0, Sum(entropy, weight), Sum(kl, weight));
    }

    private PpoLossSums CriticGradient(Span<float> sample, Span<float> gradient, PpoScratch own)
    {
        var observation = layout.CriticObservation.Of(sample);
        Span<float> dValue = stackalloc float[Panel.Width];
        var loss = PpoLosses.Value(
            own.ForwardCritic(observation),
            layout.Value.Of(sample),
            layout.Return.Of(sample),
            layout.Weight.Of(sample),
            Config.UseClippedValueLoss ? (float)Config.ClipParam : null,
            (float)Config.ValueLossCoef * scale,
            dValue
        );
        critic.Network.Backward(observation, own.CriticActivations, dValue, [], gradient, own.Network);
        return new PpoLossSums(0, loss, 0, 0);
    }

    private double? MeanStd()
    {
        var logStd = Actor.Network.LogStd;
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

    private sealed class Work(Action<int, int> run) : IWork
    {
        public void Run(int item, int worker) => run(item, worker);
    }
}
