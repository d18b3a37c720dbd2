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
    private readonly FloatBuffer samples;
    private readonly Adam actorOptimizer;
    private readonly Adam criticOptimizer;
    private readonly EpisodeStatistics episodes;
    private readonly RandomStream noise;
    private readonly RandomStream shuffling;
    private readonly float[] oldLogStd;
    private readonly Losses[] chunkLosses = new Losses[MaxChunks];
    private readonly Scratch[] scratch;
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
        this.environment = environment.Create(environment.Envs, new RandomStream(config.Seed, "training").Seed());
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
        samples = new FloatBuffer(checked(Panel.Count(rollout.Samples) * layout.Size * Panel.Width));
        actorOptimizer = new Adam(Actor.Network, config.Optimizer, MaxChunks);
        criticOptimizer = new Adam(critic.Network, config.Optimizer, MaxChunks);
        episodes = new EpisodeStatistics(this.environment.Count);
        noise = new RandomStream(config.Seed, "ppo.action");
        shuffling = new RandomStream(config.Seed, "ppo.shuffle");
        scratch = [.. Enumerable.Range(0, pool.Threads).Select(_ => new Scratch(Actor, critic, layout))];
        collect = new Work(Collect);
        advantages = new Work(EstimateAdvantages);
        gather = new Work((panel, _) => rollout.Gather(panel, Sample(panel)));
        gradients = new Work(Gradients);
        for (var panel = 0; panel < rollout.Panels; panel++)
            this.environment.Reset(panel);
    }

    public PpoConfig Config { get; }

    /// <summary>What is trained; flown without noise it is a teacher.</summary>
    public Policy Actor { get; }

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    /// <summary>Collect, estimate advantages, learn.</summary>
    public PpoReport Iterate()
    {
        var started = Stopwatch.GetTimestamp();
        pool.Run(collect, rollout.Panels);
        steps += Config.StepsPerEnv;
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        pool.Run(advantages, rollout.Panels);
        var losses = Update();
        actorObserver.Merge();
        if (criticObserver != actorObserver)
            criticObserver.Merge();
        return new PpoReport(
            iteration++,
            StepsCollected: steps * environment.Count,
            losses.Value,
            losses.Surrogate,
            losses.Entropy,
            losses.Divergence,
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

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Number("iteration", ref iteration);
        state.Number("steps", ref steps);
        state.Block("actor", Actor.Network.Parameters);
        state.Block("critic", critic.Network.Parameters);
        state.Part("actor_optimizer", actorOptimizer.Visit);
        state.Part("critic_optimizer", criticOptimizer.Visit);
        if (Actor.Normaliser is { } ofActor)
            state.Part("actor_normaliser", ofActor.Visit);
        if (criticObserver != actorObserver && critic.Normaliser is { } ofCritic)
            state.Part("critic_normaliser", ofCritic.Visit);
        state.Part("episodes", episodes.Visit);
        foreach (var (name, values) in environment.State)
            state.Block($"environment.{name}", values);
    }

    public void Dispose()
    {
        environment.Dispose();
        Actor.Dispose();
        critic.Dispose();
        rollout.Dispose();
        samples.Dispose();
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

    /// <summary>Runs one panel of environments with the stochastic actor for the whole rollout, while its state is in cache.</summary>
    private void Collect(int panel, int worker)
    {
        var own = scratch[worker];
        var sample = own.Sample.Span;
        var action = layout.Action.Of(sample);
        var values = rollout.Values(panel);
        for (var step = 0; step < Config.StepsPerEnv; step++)
        {
            var now = new Range(step * Panel.Width, (step + 1) * Panel.Width);
            Observe(panel, sample, counted: true);
            var outputs = own.ForwardActor(layout.ActorObservation.Of(sample));
            outputs.CopyTo(layout.Outputs.Of(sample));
            distribution.Sample(outputs, Actor.Network.LogStd, noise, panel * Panel.Width, steps + step, action);
            distribution.LogProbability(
                outputs,
                Actor.Network.LogStd,
                action,
                layout.LogProbability.Of(sample)
            );
            own.ForwardCritic(layout.CriticObservation.Of(sample)).CopyTo(values[now]);
            environment.Step(
                panel,
                action,
                rollout.Rewards(panel)[now],
                rollout.Terminated(panel)[now],
                rollout.Truncated(panel)[now]
            );
            rollout.Record(panel, step, sample[..(layout.Recorded * Panel.Width)]);
        }
        Observe(panel, sample, counted: false);
        own.ForwardCritic(layout.CriticObservation.Of(sample)).CopyTo(values[^Panel.Width..]);
    }

    private void Observe(int panel, Span<float> sample, bool counted)
    {
        actorObserver.Observe(panel, layout.ActorObservation.Of(sample), counted);
        if (criticObserver != actorObserver)
            criticObserver.Observe(panel, layout.CriticObservation.Of(sample), counted);
    }

    /// <summary>Episode statistics in the order of time, then environment, so that threads do not matter.</summary>
    private void CountEpisodes()
    {
        for (var step = 0; step < Config.StepsPerEnv; step++)
        for (var env = 0; env < environment.Count; env++)
        {
            var panel = env / Panel.Width;
            var i = step * Panel.Width + env % Panel.Width;
            episodes.Add(
                env,
                rollout.Rewards(panel)[i],
                terminated: rollout.Terminated(panel)[i] != 0,
                truncated: rollout.Truncated(panel)[i] != 0
            );
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
    private Losses Update()
    {
        rollout.Shuffle(shuffling, iteration);
        var panels = Panel.Count(rollout.Samples);
        pool.Run(gather, panels);
        var batches = Math.Min(Config.NumMiniBatches, panels);
        var perNorm = Config.NormalizeAdvantagePerMiniBatch ? batches : 1;
        for (var part = 0; part < perNorm; part++)
            Standardise(part * panels / perNorm, (part + 1) * panels / perNorm);
        Actor.Network.LogStd.CopyTo(oldLogStd);
        if (Config.Schedule == RateSchedule.Linear)
            SetLearningRate(Config.Optimizer.LearningRate * Math.Max(0, 1 - (double)iteration / Config.Iterations));

        var total = new Losses();
        for (var epoch = 0; epoch < Config.NumLearningEpochs; epoch++)
        for (var batch = 0; batch < batches; batch++)
            total += Step(batch * panels / batches, (batch + 1) * panels / batches);
        return total * (1.0 / (Config.NumLearningEpochs * batches));
    }

    /// <summary>Advantages of a range of shuffled panels to mean 0 and standard deviation 1.</summary>
    private void Standardise(int start, int end)
    {
        var (count, sum, squares) = (0, 0.0, 0.0);
        for (var panel = start; panel < end; panel++)
        {
            var advantage = layout.Advantage.Of(Sample(panel));
            for (var lane = 0; lane < Lanes(panel); lane++)
            {
                count++;
                sum += advantage[lane];
                squares += (double)advantage[lane] * advantage[lane];
            }
        }
        var mean = sum / count;
        var std = Math.Sqrt(Math.Max(0, squares - sum * mean) / Math.Max(1, count - 1));
        for (var panel = start; panel < end; panel++)
            foreach (ref var advantage in layout.Advantage.Of(Sample(panel)))
                advantage = (float)((advantage - mean) / (std + 1e-8));
    }

    /// <summary>One optimizer step of actor and critic on a range of shuffled panels; returns the means over its samples.</summary>
    private Losses Step(int start, int end)
    {
        firstPanel = start;
        batchPanels = end - start;
        // Depends on the batch alone, never on the machine.
        chunks = Math.Clamp(batchPanels / 4, 1, MaxChunks);
        var count = (end - 1 - start) * Panel.Width + Lanes(end - 1);
        scale = 1f / count;
        pool.Run(gradients, chunks);
        var losses = new Losses();
        foreach (var part in chunkLosses.AsSpan(0, chunks))
            losses += part;
        losses *= 1.0 / count;
        if (Config.Schedule == RateSchedule.Adaptive)
            AdaptLearningRate(losses.Divergence);
        actorOptimizer.Step(pool, chunks);
        criticOptimizer.Step(pool, chunks);
        return losses;
    }

    private void AdaptLearningRate(double divergence)
    {
        var rate = actorOptimizer.LearningRate;
        if (divergence > 2 * Config.DesiredKl)
            SetLearningRate(Math.Max(1e-5, rate / 1.5));
        else if (divergence > 0 && divergence < Config.DesiredKl / 2)
            SetLearningRate(Math.Min(Config.MaxLearningRate, rate * 1.5));
    }

    private void SetLearningRate(double rate) => actorOptimizer.LearningRate = criticOptimizer.LearningRate = rate;

    /// <summary>Gradients of one chunk of the mini-batch.</summary>
    private void Gradients(int chunk, int worker)
    {
        var own = scratch[worker];
        var ofActor = actorOptimizer.Gradient(chunk);
        var ofCritic = criticOptimizer.Gradient(chunk);
        ofActor.Clear();
        ofCritic.Clear();
        var losses = new Losses();
        var end = firstPanel + (chunk + 1) * batchPanels / chunks;
        for (var panel = firstPanel + chunk * batchPanels / chunks; panel < end; panel++)
        {
            losses += ActorGradient(Sample(panel), ofActor, own);
            losses += CriticGradient(Sample(panel), ofCritic, own);
        }
        chunkLosses[chunk] = losses;
    }

    /// <summary>Clipped surrogate minus the entropy bonus.</summary>
    private Losses ActorGradient(Span<float> sample, Span<float> gradient, Scratch own)
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
        Span<float> divergence = stackalloc float[Panel.Width];
        distribution.LogProbability(outputs, network.LogStd, action, logProbability);
        distribution.Entropy(outputs, network.LogStd, entropy);
        distribution.Divergence(layout.Outputs.Of(sample), oldLogStd, outputs, network.LogStd, divergence);
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
            own.ActorGradient,
            gradient.Slice(network.ParameterCount - network.LogStd.Length, network.LogStd.Length)
        );
        network.Backward(observation, own.ActorActivations, own.ActorGradient, [], gradient, own.Network);
        return new Losses(surrogate, 0, Sum(entropy, weight), Sum(divergence, weight));
    }

    private Losses CriticGradient(Span<float> sample, Span<float> gradient, Scratch own)
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
        return new Losses(0, loss, 0, 0);
    }

    private Span<float> Sample(int panel)
    {
        var length = layout.Size * Panel.Width;
        return samples.Slice(panel * length, length);
    }

    /// <summary>Lanes of a shuffled panel that hold a sample.</summary>
    private int Lanes(int panel) => Math.Min(Panel.Width, rollout.Samples - panel * Panel.Width);

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

    private readonly record struct Losses(double Surrogate, double Value, double Entropy, double Divergence)
    {
        public static Losses operator +(Losses a, Losses b) =>
            new(a.Surrogate + b.Surrogate, a.Value + b.Value, a.Entropy + b.Entropy, a.Divergence + b.Divergence);

        public static Losses operator *(Losses a, double factor) =>
            new(a.Surrogate * factor, a.Value * factor, a.Entropy * factor, a.Divergence * factor);
    }

    /// <summary>Working memory of one thread.</summary>
    private sealed class Scratch(Policy actor, Policy critic, SampleLayout layout) : IDisposable
    {
        private readonly FloatBuffer actorActivations = new(actor.Network.ActivationSize * Panel.Width);
        private readonly FloatBuffer criticActivations = new(critic.Network.ActivationSize * Panel.Width);
        private readonly FloatBuffer actorGradient = new(actor.Network.Spec.Outputs * Panel.Width);
        private readonly FloatBuffer network = new(Math.Max(actor.Network.ScratchSize, critic.Network.ScratchSize));

        /// <summary>The panel that is being collected.</summary>
        public FloatBuffer Sample { get; } = new(layout.Recorded * Panel.Width);

        public Span<float> ActorActivations => actorActivations.Span;
        public Span<float> CriticActivations => criticActivations.Span;
        public Span<float> ActorGradient => actorGradient.Span;
        public Span<float> Network => network.Span;

        public Span<float> ForwardActor(ReadOnlySpan<float> observation) =>
            Forward(actor.Network, observation, ActorActivations);

        public Span<float> ForwardCritic(ReadOnlySpan<float> observation) =>
            Forward(critic.Network, observation, CriticActivations);

        public void Dispose()
        {
            actorActivations.Dispose();
            criticActivations.Dispose();
            actorGradient.Dispose();
            network.Dispose();
            Sample.Dispose();
        }

        private Span<float> Forward(Network of, ReadOnlySpan<float> observation, Span<float> activations)
        {
            of.Forward(observation, [], activations, Network);
            return of.Output(activations);
        }
    }
}
