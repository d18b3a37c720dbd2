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
public sealed class Ppo : IRollout, IDisposable
{
    private const int MaxChunks = 32;

    private readonly WorkerPool pool;
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
    /// <param name="teacher">Guides the actor; left as it is, and not disposed here. Null for nobody.</param>
    /// <exception cref="DistillException">The settings are wrong or do not fit the environment or the teacher.</exception>
    public Ppo(PpoConfig config, IEnvironmentConfig environment, WorkerPool pool, Policy? teacher = null)
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
        actor = At(Create("actor", config.Actor, spec.Actions.Size, config.HeadOf(spec)), observes: true);
        var shared = config.SharesObservations;
        critic = At(Create("critic", config.Critic, outputs: 1, Head.Plain), observes: !shared);
        Actor.Check(spec, "actor");
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
            Actor.MemorySize + critic.Policy.MemorySize
        );
        config.Actor.Prepare(actor.Optimizer, Actor);
        config.Critic.Prepare(critic.Optimizer, critic.Policy);
        SetLearningRate(now.Optimizer.LearningRate);
        episodes = new EpisodeStatistics(this.environment.Count);
        starting = new byte[rollout.Panels * Panel.Width];
        starting.AsSpan().Fill(1);
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

        PpoNetwork At(Policy policy, bool observes) =>
            new(policy, this.environment, config.Optimizer, MaxChunks, observes);
    }

    public PpoConfig Config { get; }

    /// <summary>What is trained; flown without noise it is a teacher.</summary>
    public Policy Actor => actor.Policy;

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
        Restart();
        collect.Run(Config.StepsPerEnv);
        watch.Check(iteration);
        steps += Config.StepsPerEnv;
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        pool.Run(advantages, rollout.Panels);
        var losses = Update();
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
        return parameters * sizeof(float) + optimizer.EstimateBytes(parameters, MaxChunks);
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
        SetLearningRate(
            now.Schedule == RateSchedule.Fixed ? now.Optimizer.LearningRate : actor.Optimizer.LearningRate
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
            starting.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
            for (
                var env = panel * Panel.Width;
                env < Math.Min((panel + 1) * Panel.Width, environment.Count);
                env++
            )
                episodes.Abandon(env);
        }
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
        if (!Observe(step.Panel, step.Number, sample, counted: true))
            return false;
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

    bool IRollout.Take(in PanelStep step)
    {
        step.Reward.CopyTo(rollout.Rewards(step.Panel).Row(step.Number));
        step.Terminated.CopyTo(rollout.Terminated(step.Panel).Row(step.Number));
        step.Truncated.CopyTo(rollout.Truncated(step.Panel).Row(step.Number));
        for (var lane = 0; lane < Panel.Width && Remembers; lane++)
            starting[step.First + lane] = step.Done(lane) ? (byte)1 : (byte)0;
        return !watch.Catches(step.Panel, step.Number, "reward", step.Reward);
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
    /// <returns>Whether all of it is finite.</returns>
    private bool Observe(int panel, int step, Panel sample, bool counted)
    {
        var ofActor = layout.ActorObservation.Of(sample);
        var ofCritic = layout.CriticObservation.Of(sample);
        // Statistics that move would move an actor that is to stay as it is.
        actor.Observe(panel, ofActor, counted && !Warming);
        critic.Observe(panel, ofCritic, counted);
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
        chunks = Math.Clamp(rollout.Length > 1 ? batchPanels : batchPanels / 4, 1, MaxChunks);
        var count = rollout.Steps(start, end);
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
        FiniteWatch.Require(losses.Behavior, "distillation loss", iteration);
        // A distillation loss moves the actor for another reason than a rate that is too high.
        if (now.Schedule == RateSchedule.Adaptive && now.DistillationCoef == 0)
            AdaptLearningRate(losses.KlDivergence);
        if (!Warming)
            actor.Optimizer.Step(pool, chunks);
        critic.Optimizer.Step(pool, chunks);
        FiniteWatch.Require(actor.Optimizer.GradientNorm, "norm of the actor's gradient", iteration);
        FiniteWatch.Require(critic.Optimizer.GradientNorm, "norm of the critic's gradient", iteration);
        return losses;
    }

    private void AdaptLearningRate(double kl)
    {
        var rate = actor.Optimizer.LearningRate;
        if (kl > 2 * now.DesiredKl)
            SetLearningRate(Math.Max(now.MinLearningRate, rate / 1.5));
        else if (kl > 0 && kl < now.DesiredKl / 2)
            SetLearningRate(Math.Min(now.MaxLearningRate, rate * 1.5));
    }

    private void SetLearningRate(double rate)
    {
        actor.Optimizer.LearningRate = rate;
        critic.Optimizer.LearningRate = now.CriticLearningRate?.Value ?? rate;
    }

    /// <summary>The gradient of one network on one chunk of the mini-batch: first the actor's chunks, then the critic's.</summary>
    private void Gradients(int item, int worker)
    {
        var own = pool.Workspace(worker);
        var (network, chunk) = Math.DivRem(item, chunks);
        var ofActor = network == 0;
        var gradient = (ofActor ? actor : critic).Optimizer.Gradient(chunk);
        gradient.Clear();
        var losses = new PpoLossSums();
        var end = firstPanel + (chunk + 1) * batchPanels / chunks;
        for (var panel = firstPanel + chunk * batchPanels / chunks; panel < end; panel++)
            losses += Gradient(panel, ofActor, gradient, own);
        chunkLosses[item] = losses;
    }

    /// <summary>Forward through a panel of samples, the losses of its steps, and back.</summary>
    private PpoLossSums Gradient(int panel, bool ofActor, Span<float> gradient, Workspace own)
    {
        using var scope = own.Open();
        var (network, observation) = ofActor
            ? (Actor.Network, layout.ActorObservation)
            : (critic.Network, layout.CriticObservation);
        var sample = rollout.Sample(panel);
        var length = rollout.Length;
        var rows = observation.Start == 0 ? sample : own.Panel(length * observation.Size);
        for (var step = 0; observation.Start > 0 && step < length; step++)
            observation.Of(sample.Part(step, length)).Values.CopyTo(rows.Part(step, length).Values);
        var memory = own.Panel(network.MemorySize);
        rollout
            .Memories(panel)
            .Rows(ofActor ? 0 : Actor.MemorySize, network.MemorySize)
            .Values.CopyTo(memory.Values);
        var keeps = own.Panel(length);
        for (var step = 0; layout.Keep.Size > 0 && step < length; step++)
            layout.Keep.Of(sample.Part(step, length)).Values.CopyTo(keeps.Row(step));
        var activations = own.Panel(length * network.ActivationSize);
        var dOutputs = own.Panel(length * network.OutputSize);
        network.Forward(length, rows, keeps, memory, activations, own);
        var losses = new PpoLossSums();
        for (var step = 0; step < length; step++)
        {
            var part = sample.Part(step, length);
            var outputs = network.Output(activations.Part(step, length));
            var dPart = dOutputs.Part(step, length);
            losses += ofActor ? ActorLoss(part, outputs, dPart, own) : CriticLoss(part, outputs, dPart);
        }
        network.Backward(length, rows, keeps, activations, dOutputs, gradient, own);
        return losses;
    }

    /// <summary>Clipped surrogate minus the entropy bonus, and the distance from the teacher.</summary>
    private PpoLossSums ActorLoss(Panel sample, Panel outputs, Panel dOutputs, Workspace own)
    {
        var action = layout.Action.Of(sample);
        var weight = layout.Weight.Of(sample);
        var ppo = scale * (float)now.PpoCoef;
        Span<float> logProbability = stackalloc float[Panel.Width];
        Span<float> dLogProbability = stackalloc float[Panel.Width];
        dLogProbability.Clear();
        Span<float> entropy = stackalloc float[Panel.Width];
        Span<float> dEntropy = stackalloc float[Panel.Width];
        Span<float> kl = stackalloc float[Panel.Width];
        distribution.LogProbability(outputs, action, logProbability);
        distribution.Entropy(outputs, entropy);
        distribution.KlDivergence(layout.Outputs.Of(sample), outputs, kl);
        // Without a say PPO is not asked: what a teacher does may be next to impossible for a new actor.
        var surrogate =
            ppo == 0
                ? 0
                : PpoLosses.Surrogate(
                    logProbability,
                    layout.LogProbability.Of(sample).Values,
                    layout.Advantage.Of(sample).Values,
                    weight.Values,
                    (float)now.ClipParam,
                    Guided && now.Beta > 0 ? (float)now.DualClip : float.PositiveInfinity,
                    ppo,
                    dLogProbability
                );
        for (var lane = 0; lane < Panel.Width; lane++)
            dEntropy[lane] = -(float)now.EntropyCoef * ppo * weight.Values[lane];
        distribution.Backward(outputs, action, dLogProbability, dEntropy, dOutputs);
        var behavior = Guided ? BehaviorLoss(sample, outputs, dOutputs, own) : 0;
        return new PpoLossSums(surrogate, 0, Sum(entropy, weight.Values), Sum(kl, weight.Values), behavior);
    }

    /// <summary>The distillation loss; its gradient is added to that of PPO's.</summary>
    private double BehaviorLoss(Panel sample, Panel outputs, Panel dOutputs, Workspace own)
    {
        var coef = (float)now.DistillationCoef;
        if (coef == 0)
            return 0;
        using var scope = own.Open();
        var loss = guide!.Loss;
        var terms = loss.TermsPerRow(Actor.Network.Spec.Outputs);
        var dLoss = own.Panel(outputs.Features);
        var sum = loss.Evaluate(
            outputs,
            layout.Label.Of(sample),
            layout.Weight.Of(sample),
            scale * coef / terms,
            dLoss,
            head: Actor.Network.Spec.Head
        );
        Elementwise.Add(dLoss.Values, dOutputs.Values);
        return sum / terms;
    }

    private PpoLossSums CriticLoss(Panel sample, Panel outputs, Panel dOutputs) =>
        new(
            0,
            PpoLosses.Value(
                outputs.Values,
                layout.Value.Of(sample).Values,
                layout.Return.Of(sample).Values,
                layout.Weight.Of(sample).Values,
                now.UseClippedValueLoss ? (float)now.ClipParam : null,
                (float)now.ValueLossCoef * scale,
                dOutputs.Values
            ),
            0,
            0,
            0
        );

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
