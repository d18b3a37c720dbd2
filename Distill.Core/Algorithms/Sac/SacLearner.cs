using Distill.Datasets;
using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>The half of SAC that learns: an update draws a batch from the replay and steps critics, targets, actor and temperature.</summary>
internal sealed class SacLearner : IDisposable
{
    /// <summary>Parts of a batch, at most, whose gradients are added up apart.</summary>
    public const int MaxChunks = 32;

    private readonly Policy actor;
    private readonly Normalizer? criticNormalizer;
    private readonly SacTransition layout;
    private readonly Replay replay;
    private readonly WorkerPool pool;
    private readonly RandomStream drawing;
    private readonly RandomStream noising;
    private readonly int batch;
    private readonly int panels;
    private readonly int criticChunks;
    private readonly int actorChunks;
    private readonly FloatBuffer transitions;
    private readonly FloatBuffer noise;
    private readonly FloatBuffer targets;
    private readonly SacSums[] sums;
    private readonly Work aiming;
    private readonly Work criticGradients;
    private readonly Work following;
    private readonly Work actorGradients;

    // The update that is being made.
    private SacConfig now;
    private float alpha;
    private long updates;

    public SacLearner(
        SacConfig config,
        EnvironmentSpec environment,
        Policy actor,
        Normalizer? criticNormalizer,
        SacTransition layout,
        Replay replay,
        WorkerPool pool
    )
    {
        (this.actor, this.criticNormalizer, this.layout, this.replay) = (
            actor,
            criticNormalizer,
            layout,
            replay
        );
        (this.pool, now) = (pool, config);
        var first = Schedule.Resolve(config, 0);
        var critic = config.CriticNetwork(environment);
        Critics = [Draw("critic 1"), Draw("critic 2")];
        ActorOptimizer = first.Optimizer.Create(actor.Network, MaxChunks);
        config.Actor.Prepare(ActorOptimizer, actor);
        Temperature = new SacTemperature(config.InitialAlpha, first.Optimizer);
        TargetEntropy = config.TargetEntropyFor(environment.Actions);
        (drawing, noising) = (new(config.Seed, "sac.batch"), new(config.Seed, "sac.noise"));
        batch = config.MiniBatchSize;
        panels = Panel.Count(batch);
        // Depend on the batch alone, never on the machine. The sums of a critic's chunks cost more than those of the small actor's.
        (criticChunks, actorChunks) = (Math.Clamp(panels / 4, 1, MaxChunks), Math.Min(panels, MaxChunks));
        transitions = new((long)panels * layout.Columns.Size * Panel.Width);
        noise = new((long)panels * actor.ActionFloats * Panel.Width);
        targets = new((long)panels * Panel.Width);
        sums = new SacSums[2 * MaxChunks];
        aiming = new Work(Aim);
        criticGradients = new Work(CriticGradient);
        following = new Work((critic, _) => Critics[critic].Follow((float)now.Polyak));
        actorGradients = new Work(ActorGradients);

        SacCritic Draw(string name) =>
            new(
                critic,
                $"{config.Critic.ObservationGroup}+action",
                config.Critic.NormalizeObservations,
                new RandomStream(config.Seed, name),
                first.Optimizer,
                MaxChunks
            );
    }

    public SacCritic[] Critics { get; }

    public Optimizer ActorOptimizer { get; }

    public SacTemperature Temperature { get; }

    /// <summary>The entropy that the temperature aims at.</summary>
    public double TargetEntropy { get; }

    /// <summary>Updates of the critics so far.</summary>
    public long Updates => updates;

    /// <summary>Bytes that networks, optimizers and a batch take.</summary>
    internal static long EstimateBytes(
        SacConfig config,
        NetworkSpec actor,
        NetworkSpec critic,
        Columns columns
    )
    {
        var (ofActor, ofCritic) = (actor.Size.Parameters, critic.Size.Parameters);
        var perSample = columns.Size + actor.Outputs + 1;
        return (ofActor + 4 * ofCritic) * sizeof(float)
            + config.Optimizer.EstimateBytes(ofActor + 2 * ofCritic, MaxChunks)
            + (long)Panel.Count(config.MiniBatchSize) * Panel.Width * perSample * sizeof(float);
    }

    /// <summary>Takes over the settings of an iteration.</summary>
    public void Resolve(SacConfig now)
    {
        this.now = now;
        var rate = now.Optimizer.LearningRate.Value;
        Set(ActorOptimizer, rate);
        foreach (var critic in Critics)
            Set(critic.Optimizer, now.CriticLearningRate?.Value ?? rate);
        Set(Temperature.Optimizer, now.AlphaLearningRate);

        void Set(Optimizer optimizer, double rate) =>
            (optimizer.Config, optimizer.LearningRate) = (now.Optimizer, rate);
    }

    /// <summary>
    /// One update: both critics on a batch from the replay, and where they are due their targets, the actor and the temperature, on
    /// the same batch with the same noise.
    /// </summary>
    /// <returns>Sums over the samples of the batch; those of actor and entropy where the actor was due.</returns>
    public SacSums Update(int iteration)
    {
        alpha = Temperature.Value;
        pool.Run(aiming, panels);
        pool.Run(criticGradients, 2 * criticChunks);
        var losses = Sum(2 * criticChunks) with { Updates = 1 };
        FiniteWatch.Require(losses.Critic, "critics' loss", iteration);
        foreach (var critic in Critics)
        {
            critic.Optimizer.Step(pool, criticChunks);
            FiniteWatch.Require(critic.Optimizer.GradientNorm, "norm of a critic's gradient", iteration);
        }
        if (updates % now.TargetInterval == 0)
            pool.Run(following, Critics.Length);
        if (updates % now.ActorInterval == 0)
            losses += UpdateActor(iteration);
        updates++;
        return losses;
    }

    /// <summary>Shows the critics' policies what normalizes their observations.</summary>
    public void Show()
    {
        if (criticNormalizer is { } normalizer)
            foreach (var critic in Critics)
                critic.Show(normalizer);
    }

    /// <summary>All that learning changes.</summary>
    public void Visit(State state)
    {
        state.Count("updates", ref updates);
        state.Part("actor", actor.Network.Visit);
        state.Part("actor_optimizer", ActorOptimizer.Visit);
        state.Part("critic_1", Critics[0].Visit);
        state.Part("critic_2", Critics[1].Visit);
        state.Part("temperature", Temperature.Visit);
    }

    public void Dispose()
    {
        foreach (var critic in Critics)
            critic.Dispose();
        ActorOptimizer.Dispose();
        Temperature.Dispose();
        transitions.Dispose();
        noise.Dispose();
        targets.Dispose();
    }

    private SacSums UpdateActor(int iteration)
    {
        pool.Run(actorGradients, actorChunks);
        var losses = Sum(actorChunks) with { ActorUpdates = 1 };
        FiniteWatch.Require(losses.Actor, "actor's loss", iteration);
        ActorOptimizer.Step(pool, actorChunks);
        FiniteWatch.Require(ActorOptimizer.GradientNorm, "norm of the actor's gradient", iteration);
        Temperature.Step(losses.Entropy, TargetEntropy, pool);
        return losses;
    }

    /// <summary>The means over the batch.</summary>
    private SacSums Sum(int items)
    {
        var total = new SacSums();
        foreach (var part in sums.AsSpan(0, items))
            total += part;
        return total * (1.0 / batch);
    }

    /// <summary>Fills a panel of the batch, and finds what the critics should say of it.</summary>
    private void Aim(int panel, int worker)
    {
        var own = pool.Workspace(worker);
        using var scope = own.Open();
        var sample = Gather(panel, own);
        var normals = Noise(panel);
        noising.Normals(normals.Values, (uint)(panel * Panel.Width), (uint)updates, (uint)(updates >> 32));

        var actions = own.Panel(normals.Features);
        var logProbability = own.Panel(1).Values;
        var next = Act(layout.NextActorObservation.Of(sample), own);
        SquashedGaussian.Draw(next.Outputs, normals, actions, logProbability);
        var input = CriticInput(layout.NextCriticObservation.Of(sample), actions, own);
        var first = Pass.Through(Critics[0].Target, input, own).Outputs;
        var second = Pass.Through(Critics[1].Target, input, own).Outputs;
        var (gamma, discounted) = ((float)now.Gamma, now.EntropyTarget == EntropyTarget.Discounted);
        var reward = layout.Reward.Of(sample).Values;
        var terminated = layout.Terminated.Of(sample).Values;
        var weight = (float)(now.Imitation?.Weight.Value ?? 0);
        var likeness = layout.Likeness.Of(sample).Values;
        var target = Target(panel);
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var value = MathF.Min(first[0, lane], second[0, lane]);
            var bonus = -alpha * logProbability[lane];
            var future = gamma * (1 - terminated[lane]);
            var earned = weight > 0 ? reward[lane] + weight * likeness[lane] : reward[lane];
            target[lane] = earned + (discounted ? future * (value + bonus) : future * value + bonus);
        }
    }

    /// <summary>The gradient of (Q(s, a) - y)^2 / 2 on one chunk: first the first critic's chunks, then the second's.</summary>
    private void CriticGradient(int item, int worker)
    {
        var own = pool.Workspace(worker);
        var (index, chunk) = Math.DivRem(item, criticChunks);
        var critic = Critics[index];
        var gradient = critic.Optimizer.Gradient(chunk);
        gradient.Clear();
        var losses = new SacSums();
        var end = (chunk + 1) * panels / criticChunks;
        for (var panel = chunk * panels / criticChunks; panel < end; panel++)
        {
            using var scope = own.Open();
            var sample = Sample(panel);
            var input = CriticInput(layout.CriticObservation.Of(sample), layout.Action.Of(sample), own);
            var pass = Pass.Through(critic.Network, input, own);
            var target = Target(panel);
            var slopes = own.Panel(1);
            slopes.Values.Clear();
            for (var lane = 0; lane < Lanes(panel); lane++)
            {
                var value = pass.Outputs[0, lane];
                var error = value - target[lane];
                slopes[0, lane] = error / batch;
                // Half, for the mean of the two critics.
                losses.Critic += 0.5 * (0.5 * error * error);
                losses.Value += 0.5 * value;
            }
            critic.Network.Backward(input, pass.Activations, slopes, own.Panel(0), gradient, own);
        }
        sums[item] = losses;
    }

    private void ActorGradients(int chunk, int worker)
    {
        var own = pool.Workspace(worker);
        var gradient = ActorOptimizer.Gradient(chunk);
        gradient.Clear();
        var losses = new SacSums();
        var end = (chunk + 1) * panels / actorChunks;
        for (var panel = chunk * panels / actorChunks; panel < end; panel++)
            losses += ActorGradient(panel, gradient, own);
        sums[chunk] = losses;
    }

    /// <summary>The gradient of alpha log pi(a|s) - min Q(s, a), through the action, on one panel.</summary>
    private SacSums ActorGradient(int panel, Span<float> gradient, Workspace own)
    {
        using var scope = own.Open();
        var sample = Sample(panel);
        var normals = Noise(panel);
        var actions = own.Panel(normals.Features);
        var logProbability = own.Panel(1).Values;
        var acting = Act(layout.ActorObservation.Of(sample), own);
        SquashedGaussian.Draw(acting.Outputs, normals, actions, logProbability);
        var input = CriticInput(layout.CriticObservation.Of(sample), actions, own);
        var first = Pass.Through(Critics[0].Network, input, own);
        var second = Pass.Through(Critics[1].Network, input, own);

        var losses = new SacSums();
        var slopes = own.Panel(3);
        slopes.Values.Clear();
        var dFirst = slopes.Rows(0, 1);
        var dSecond = slopes.Rows(1, 1);
        var dLogProbability = slopes.Row(2);
        for (var lane = 0; lane < Lanes(panel); lane++)
        {
            var isFirst = first.Outputs[0, lane] <= second.Outputs[0, lane];
            (isFirst ? dFirst : dSecond)[0, lane] = -1f / batch;
            dLogProbability[lane] = alpha / batch;
            losses.Actor += alpha * logProbability[lane] - (isFirst ? first : second).Outputs[0, lane];
            losses.Entropy -= logProbability[lane];
        }

        var dActions = own.Panel(actions.Features);
        dActions.Values.Clear();
        AddActionGradient(Critics[0].Network, input, first, dFirst, dActions, own);
        AddActionGradient(Critics[1].Network, input, second, dSecond, dActions, own);
        var dOutputs = own.Panel(acting.Outputs.Features);
        SquashedGaussian.DrawBackward(acting.Outputs, normals, actions, dActions, dLogProbability, dOutputs);
        actor.Network.Backward(acting.Input, acting.Activations, dOutputs, own.Panel(0), gradient, own);
        return losses;
    }

    /// <summary>Takes the gradient of a critic's value back to the action, and no further.</summary>
    private static void AddActionGradient(
        Network critic,
        Panel input,
        Pass pass,
        Panel dValue,
        Panel dActions,
        Workspace own
    )
    {
        using var scope = own.Open();
        var dInput = own.Panel(input.Features);
        critic.Backward(input, pass.Activations, dValue, own.Panel(0), [], own, dInput);
        Elementwise.Add(
            dInput.Rows(input.Features - dActions.Features, dActions.Features).Values,
            dActions.Values
        );
    }

    /// <summary>Draws the transitions of a panel of the batch from the replay.</summary>
    private Panel Gather(int panel, Workspace own)
    {
        using var scope = own.Open();
        var sample = Sample(panel);
        var size = layout.Columns.Size;
        var rows = own.Floats(size * Panel.Width);
        rows.Clear();
        for (var lane = 0; lane < Lanes(panel); lane++)
        {
            var (high, low, _, _) = drawing.Bits(
                (uint)(panel * Panel.Width + lane),
                (uint)updates,
                (uint)(updates >> 32)
            );
            var place = Math.BigMul(((ulong)high << 32) | low, (ulong)replay.Count, out _);
            replay[(int)place].CopyTo(rows[(lane * size)..]);
        }
        Matrix.FromRows(rows, sample);
        return sample;
    }

    /// <summary>The actor's pass on observations as the environment showed them.</summary>
    private Pass Act(Panel observation, Workspace own)
    {
        var input = own.Panel(observation.Features);
        observation.Values.CopyTo(input.Values);
        actor.Normalizer?.Apply(input);
        return Pass.Through(actor.Network, input, own);
    }

    /// <summary>Observation and action, one after the other.</summary>
    private Panel CriticInput(Panel observation, Panel action, Workspace own)
    {
        var input = own.Panel(observation.Features + action.Features);
        var seen = input.Rows(0, observation.Features);
        observation.Values.CopyTo(seen.Values);
        criticNormalizer?.Apply(seen);
        action.Values.CopyTo(input.Rows(observation.Features, action.Features).Values);
        return input;
    }

    /// <summary>The transitions of a panel of the batch, <c>[columns, 32]</c>.</summary>
    private Panel Sample(int panel) => Panel.At(transitions.Span, panel, layout.Columns.Size);

    /// <summary>The noise of the batch's actions, <c>[actions, 32]</c>.</summary>
    private Panel Noise(int panel) => Panel.At(noise.Span, panel, actor.ActionFloats);

    /// <summary>What the critics should say, <c>[32]</c>.</summary>
    private Span<float> Target(int panel) => Panel.At(targets.Span, panel, 1).Values;

    /// <summary>Lanes of a panel that hold a sample.</summary>
    private int Lanes(int panel) => Math.Min(Panel.Width, batch - panel * Panel.Width);

    /// <summary>What a forward pass leaves for backward.</summary>
    private readonly ref struct Pass(Panel input, Panel activations, Panel outputs)
    {
        public Panel Input { get; } = input;
        public Panel Activations { get; } = activations;
        public Panel Outputs { get; } = outputs;

        public static Pass Through(Network network, Panel input, Workspace own)
        {
            var activations = own.Panel(network.ActivationSize);
            network.Forward(input, own.Panel(0), activations, own);
            return new Pass(input, activations, network.Output(activations));
        }
    }
}

/// <summary>What updates of SAC bring, summed up.</summary>
/// <param name="Critic">(Q - y)^2 / 2, mean of the two critics.</param>
/// <param name="Value">Q(s, a), mean of the two critics.</param>
/// <param name="Actor">alpha log pi - min Q.</param>
/// <param name="Entropy">-log pi.</param>
internal record struct SacSums(
    double Critic,
    double Value,
    double Actor,
    double Entropy,
    double Updates,
    double ActorUpdates
)
{
    public static SacSums operator +(SacSums a, SacSums b) =>
        new(
            a.Critic + b.Critic,
            a.Value + b.Value,
            a.Actor + b.Actor,
            a.Entropy + b.Entropy,
            a.Updates + b.Updates,
            a.ActorUpdates + b.ActorUpdates
        );

    public static SacSums operator *(SacSums a, double factor) =>
        new(
            a.Critic * factor,
            a.Value * factor,
            a.Actor * factor,
            a.Entropy * factor,
            a.Updates * factor,
            a.ActorUpdates * factor
        );
}
