using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>The half of PPO that learns from a rollout: advantages, then passes of gradient steps of actor and critic.</summary>
internal sealed class PpoLearner
{
    private readonly PpoParts parts;
    private readonly PpoNetwork actor;
    private readonly PpoNetwork critic;
    private readonly PpoGuide? guide;
    private readonly SampleLayout layout;
    private readonly PpoRollout rollout;
    private readonly WorkerPool pool;
    private readonly PpoLossSums[] chunkLosses = new PpoLossSums[2 * PpoBatches.MaxChunks];
    private readonly Work advantages;
    private readonly Work gather;
    private readonly Work gradients;

    // The iteration that is being learned from.
    private PpoTurn turn;

    // The mini-batch that is being worked on: a run of panels of the shuffled samples.
    private int firstPanel;
    private int batchPanels;
    private int chunks;
    private float scale;

    public PpoLearner(PpoParts parts, PpoRollout rollout, WorkerPool pool)
    {
        (this.parts, this.rollout, this.pool) = (parts, rollout, pool);
        (actor, critic, guide, layout) = (parts.Actor, parts.Critic, parts.Guide, parts.Layout);
        advantages = new Work(EstimateAdvantages);
        gather = new Work((panel, worker) => rollout.Gather(panel, pool.Workspace(worker)));
        gradients = new Work(Gradients);
    }

    private ActionDistribution Distribution => actor.Policy.Distribution!;

    private PpoConfig Now => turn.Now;

    /// <summary>Passes of gradient steps over the rollout.</summary>
    /// <returns>Means over the optimizer steps.</returns>
    public PpoLossSums Learn(in PpoTurn turn)
    {
        this.turn = turn;
        pool.Run(advantages, rollout.Panels);
        rollout.Shuffle(parts.Shuffling, turn.Iteration);
        pool.Run(gather, rollout.SamplePanels);
        var batches = PpoBatches.Of(Now, rollout.SamplePanels);
        for (var part = 0; part < batches.Parts; part++)
            rollout.StandardizeAdvantages(batches.Part(part));

        var total = new PpoLossSums();
        for (var epoch = 0; epoch < Now.NumLearningEpochs.Whole; epoch++)
        for (var batch = 0; batch < batches.Count; batch++)
            total += Step(batches.Batch(batch));
        return total * (1.0 / ((double)Now.NumLearningEpochs.Whole * batches.Count));
    }

    private void EstimateAdvantages(int panel, int worker)
    {
        var rewards = parts.Outcomes.Rewards(panel);
        foreach (ref var reward in rewards.Values)
            reward *= (float)Now.RewardScale;
        PpoAdvantage.Estimate(
            rewards,
            rollout.Values(panel),
            parts.Outcomes.Terminated(panel),
            parts.Outcomes.Truncated(panel),
            rollout.Beyond(panel),
            (float)Now.Gamma,
            (float)Now.Lambda,
            rollout.Advantages(panel)
        );
    }

    /// <summary>One optimizer step of actor and critic on a range of shuffled panels; returns the means over its samples.</summary>
    private PpoLossSums Step((int Start, int End) run)
    {
        var (start, end) = run;
        firstPanel = start;
        batchPanels = end - start;
        chunks = PpoBatches.Chunks(batchPanels, sequences: rollout.Length > 1);
        var count = rollout.Steps(start, end);
        scale = 1f / count;
        pool.Run(gradients, 2 * chunks);
        var losses = new PpoLossSums();
        foreach (var part in chunkLosses.AsSpan(0, 2 * chunks))
            losses += part;
        losses *= 1.0 / count;
        losses.RequireFinite(turn.Iteration);
        // A distillation loss moves the actor for another reason than a rate that is too high.
        if (Now.Schedule == RateSchedule.Adaptive && Now.DistillationCoef == 0)
            AdaptLearningRate(losses.KlDivergence);
        if (!turn.Warming)
            actor.Optimizer.Step(pool, chunks);
        critic.Optimizer.Step(pool, chunks);
        FiniteWatch.Require(actor.Optimizer.GradientNorm, "norm of the actor's gradient", turn.Iteration);
        FiniteWatch.Require(critic.Optimizer.GradientNorm, "norm of the critic's gradient", turn.Iteration);
        return losses;
    }

    private void AdaptLearningRate(double kl)
    {
        var rate = actor.Optimizer.LearningRate;
        if (kl > 2 * Now.DesiredKl)
            parts.SetLearningRate(Now, Math.Max(Now.MinLearningRate, rate / 1.5));
        else if (kl > 0 && kl < Now.DesiredKl / 2)
            parts.SetLearningRate(Now, Math.Min(Now.MaxLearningRate, rate * 1.5));
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
            ? (actor.Network, layout.ActorObservation)
            : (critic.Network, layout.CriticObservation);
        var sample = rollout.Sample(panel);
        var length = rollout.Length;
        var rows = observation.Start == 0 ? sample : own.Panel(length * observation.Size);
        for (var step = 0; observation.Start > 0 && step < length; step++)
            observation.Of(sample.Part(step, length)).Values.CopyTo(rows.Part(step, length).Values);
        var memory = own.Panel(network.MemorySize);
        rollout
            .Memories(panel)
            .Rows(ofActor ? 0 : actor.Policy.MemorySize, network.MemorySize)
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
        var ppo = scale * (float)Now.PpoCoef;
        Span<float> logProbability = stackalloc float[Panel.Width];
        Span<float> dLogProbability = stackalloc float[Panel.Width];
        dLogProbability.Clear();
        Span<float> entropy = stackalloc float[Panel.Width];
        Span<float> dEntropy = stackalloc float[Panel.Width];
        Span<float> kl = stackalloc float[Panel.Width];
        Distribution.LogProbability(outputs, action, logProbability);
        Distribution.Entropy(outputs, entropy);
        Distribution.KlDivergence(layout.Outputs.Of(sample), outputs, kl);
        // Without a say PPO is not asked: what a teacher does may be next to impossible for a new actor.
        var surrogate =
            ppo == 0
                ? 0
                : PpoLosses.Surrogate(
                    logProbability,
                    layout.LogProbability.Of(sample).Values,
                    layout.Advantage.Of(sample).Values,
                    weight.Values,
                    (float)Now.ClipParam,
                    turn.Guided && Now.Beta > 0 ? (float)Now.DualClip : float.PositiveInfinity,
                    ppo,
                    dLogProbability
                );
        for (var lane = 0; lane < Panel.Width; lane++)
            dEntropy[lane] = -(float)Now.EntropyCoef * ppo * weight.Values[lane];
        Distribution.Backward(outputs, action, dLogProbability, dEntropy, dOutputs);
        var behavior = turn.Guided ? BehaviorLoss(sample, outputs, dOutputs, own) : 0;
        return new PpoLossSums(surrogate, 0, Sum(entropy, weight.Values), Sum(kl, weight.Values), behavior);
    }

    /// <summary>The distillation loss; its gradient is added to that of PPO's.</summary>
    private double BehaviorLoss(Panel sample, Panel outputs, Panel dOutputs, Workspace own)
    {
        var coef = (float)Now.DistillationCoef;
        if (coef == 0)
            return 0;
        using var scope = own.Open();
        var loss = guide!.Loss;
        var terms = loss.TermsPerRow(actor.Network.Spec.Outputs);
        var dLoss = own.Panel(outputs.Features);
        var sum = loss.Evaluate(
            outputs,
            layout.Label.Of(sample),
            layout.Weight.Of(sample),
            scale * coef / terms,
            dLoss,
            head: actor.Network.Spec.Head
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
                Now.UseClippedValueLoss ? (float)Now.ClipParam : null,
                (float)Now.ValueLossCoef * scale,
                dOutputs.Values
            ),
            0,
            0,
            0
        );

    private static double Sum(ReadOnlySpan<float> values, ReadOnlySpan<float> weight)
    {
        var sum = 0.0;
        for (var lane = 0; lane < Panel.Width; lane++)
            sum += weight[lane] * values[lane];
        return sum;
    }
}
