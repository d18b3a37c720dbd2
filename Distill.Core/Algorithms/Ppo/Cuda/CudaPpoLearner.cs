using Distill.Compute.Cuda;
using Distill.Networks;
using Distill.Networks.Cuda;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The steps of <see cref="PpoLearner"/> in the memory of a GPU, with its bits, the learning rate that follows the divergence included. The
/// machine sends the order of the samples, 4 bytes each, and is told at the end what each mini-batch came to. Where a loss or a gradient
/// is not finite, the steps after it change nothing. A mini-batch is one launch, a graph.
/// </summary>
internal sealed class CudaPpoLearner : IDisposable
{
    // As in cuda/ppo.cu.
    private const int StandardizeThreads = 256;
    private const int LossThreads = 256;
    private const int LossTerms = 4;

    private readonly CudaDevice device;
    private readonly PpoParts parts;
    private readonly CudaPpoCollector collector;
    private readonly CudaAdam actor;
    private readonly CudaAdam critic;
    private readonly int[] order;
    private readonly int samplePanels;
    private readonly CudaBuffer<int> places;
    private readonly CudaBuffer<float> samples;
    private readonly CudaBuffer<Rates> rates;
    private readonly CudaKernel<AdvantageArguments> advantages;
    private readonly CudaKernel<GatherArguments> gather;
    private readonly CudaKernel<StandardizeArguments> standardize;
    private readonly CudaKernel<LossArguments> actorLoss;
    private readonly CudaKernel<LossArguments> criticLoss;
    private readonly CudaKernel<DeviationArguments> deviationGradient;
    private readonly CudaKernel<SumArguments> sum;

    // As large as the largest mini-batch, and as the number of steps.
    private CudaBuffer<float>? activations;
    private CudaBuffer<float>? gradients;
    private CudaBuffer<float>? deviations;
    private CudaBuffer<float>? terms;
    private CudaBuffer<double>? ofPanels;
    private CudaBuffer<Losses>? losses;
    private Losses[] lossOf = [];

    // Of each mini-batch, and what they were made for.
    private CudaGraph?[] graphs = [];
    private (PpoConfig Now, bool Warming)? graphsOf;

    /// <param name="collector">Whose rollouts and networks these are.</param>
    public CudaPpoLearner(CudaDevice device, PpoParts parts, CudaPpoCollector collector)
    {
        (this.device, this.parts, this.collector) = (device, parts, collector);
        actor = new(device, collector.Actor, (Adam)parts.Actor.Optimizer, PpoBatches.MaxChunks);
        critic = new(device, collector.Critic, (Adam)parts.Critic.Optimizer, PpoBatches.MaxChunks);
        order = new int[parts.Samples];
        samplePanels = Panel.Count(order.Length);
        places = new(device, order.Length, "an order");
        samples = new(device, (long)samplePanels * parts.Layout.Size * Panel.Width, "the samples");
        rates = new(device, 1, "learning rates");
        advantages = device.Kernel<AdvantageArguments>("ppo_advantages");
        gather = device.Kernel<GatherArguments>("ppo_gather");
        standardize = device.Kernel<StandardizeArguments>("ppo_standardize");
        actorLoss = device.Kernel<LossArguments>("ppo_actor_loss");
        criticLoss = device.Kernel<LossArguments>("ppo_critic_loss");
        deviationGradient = device.Kernel<DeviationArguments>("deviation_gradient");
        sum = device.Kernel<SumArguments>("sum_ppo_losses");
        Reserve(Schedule.Resolve(parts.Config, 0));
    }

    /// <summary>As <see cref="IPpoEngine.Learn"/>.</summary>
    public PpoLossSums Learn(in PpoTurn turn)
    {
        var now = turn.Now;
        Gather(turn);
        var batches = Reserve(now);
        for (var part = 0; part < batches.Parts; part++)
            Standardize(batches.Part(part));
        rates.Write([new(parts.Actor.Optimizer.LearningRate, parts.Critic.Optimizer.LearningRate)]);
        var steps = now.NumLearningEpochs.Whole * batches.Count;
        if (!turn.Warming)
            actor.Prepare(steps);
        critic.Prepare(steps);
        if (graphsOf != (now, turn.Warming))
            DropGraphs();
        graphsOf = (now, turn.Warming);
        Array.Resize(ref graphs, batches.Count);
        for (var step = 0; step < steps; step++)
            if (device.MakesGraphs)
                (
                    graphs[step % batches.Count] ??= MakeGraph(turn, batches.Batch(step % batches.Count))
                ).Start();
            else
                Step(turn, batches.Batch(step % batches.Count));
        return End(turn, steps);
    }

    /// <summary>Takes networks and optimizers.</summary>
    public void Upload()
    {
        collector.Actor.Upload();
        collector.Critic.Upload();
        actor.Upload();
        critic.Upload();
    }

    public void Dispose()
    {
        actor.Dispose();
        critic.Dispose();
        places.Dispose();
        samples.Dispose();
        rates.Dispose();
        DropGraphs();
        activations?.Dispose();
        gradients?.Dispose();
        deviations?.Dispose();
        terms?.Dispose();
        ofPanels?.Dispose();
        losses?.Dispose();
    }

    private CudaGraph MakeGraph(PpoTurn turn, (int Start, int End) run) => new(device, () => Step(turn, run));

    private void DropGraphs()
    {
        foreach (var graph in graphs)
            graph?.Dispose();
        graphs = [];
    }

    /// <summary>Makes room for an iteration with these settings.</summary>
    private PpoBatches Reserve(PpoConfig now)
    {
        var batches = PpoBatches.Of(now, samplePanels);
        var panels = (samplePanels + batches.Count - 1) / batches.Count;
        var lanes = (long)panels * Panel.Width;
        var (first, second) = (collector.Actor, collector.Critic);
        var steps = now.NumLearningEpochs.Whole * batches.Count;
        device.Reserve(
            ref activations,
            lanes * Math.Max(first.ActivationSize, second.ActivationSize),
            "activations"
        );
        device.Reserve(ref gradients, lanes * Math.Max(first.GradientSize, second.GradientSize), "gradients");
        device.Reserve(ref deviations, lanes * parts.Layout.Action.Size, "gradients");
        device.Reserve(ref terms, lanes * LossTerms, "losses");
        device.Reserve(ref ofPanels, (long)panels * LossTerms, "losses");
        device.Reserve(ref losses, steps, "losses");
        actor.Reserve(steps);
        critic.Reserve(steps);
        if (lossOf.Length < steps)
            lossOf = new Losses[steps];
        return batches;
    }

    /// <summary>Advantages, and all that was recorded as shuffled samples.</summary>
    private void Gather(in PpoTurn turn)
    {
        advantages.Start(
            new()
            {
                Rollout = collector.Rollout,
                RewardScale = (float)turn.Now.RewardScale,
                Gamma = (float)turn.Now.Gamma,
                Lambda = (float)turn.Now.Lambda,
            },
            collector.Rollout.Lanes
        );
        parts.Shuffling.Permutation(order, (uint)turn.Iteration);
        places.Write(order);
        gather.Start(
            new()
            {
                Rollout = collector.Rollout,
                Order = places.Address,
                Samples = samples.Address,
                Count = (uint)order.Length,
                Places = (uint)(samplePanels * Panel.Width),
            },
            (long)samplePanels * Panel.Width
        );
    }

    private void Standardize((int Start, int End) run) =>
        standardize.StartBlocks(
            new()
            {
                Samples = From(run.Start).Address,
                Size = parts.Layout.Size,
                Advantage = parts.Layout.Advantage.Start,
                Panels = run.End - run.Start,
                Count = Count(run),
            },
            1,
            StandardizeThreads
        );

    /// <summary>One optimizer step of actor and critic.</summary>
    private void Step(in PpoTurn turn, (int Start, int End) run)
    {
        var now = turn.Now;
        var (panels, count) = (run.End - run.Start, Count(run));
        var chunks = PpoBatches.Chunks(panels, sequences: false);
        var (scale, layout) = (1f / count, parts.Layout);
        var task = new LossArguments
        {
            Layout = collector.Rollout.Layout,
            Samples = From(run.Start).Address,
            LogStd = collector.Actor.LogStd,
            Deviations = deviations!.Address,
            Terms = terms!.Address,
            Places = (uint)(panels * Panel.Width),
        };
        task.Clip = (float)now.ClipParam;
        task.Scale = scale * (float)now.PpoCoef;
        task.Entropy = (float)now.EntropyCoef;
        var inputs = From(run.Start).From(layout.ActorObservation.Start);
        Differentiate(collector.Actor, turn.Warming ? null : actor, actorLoss, task, inputs, chunks);
        if (!turn.Warming)
            AddDeviations(panels, chunks);
        task.Clip = now.UseClippedValueLoss ? (float)now.ClipParam : float.PositiveInfinity;
        task.Scale = (float)now.ValueLossCoef * scale;
        inputs = From(run.Start).From(layout.CriticObservation.Start);
        Differentiate(collector.Critic, critic, criticLoss, task, inputs, chunks);
        SumLosses(now, panels, chunks, 1.0 / count);
        if (!turn.Warming)
            actor.Step(chunks, rates.Address);
        critic.Step(chunks, rates.Address + sizeof(double));
    }

    /// <summary>Forward, loss and backward of one network.</summary>
    /// <param name="adam">Takes the gradient; null for nobody.</param>
    /// <param name="inputs">What it reads, of the mini-batch's panels.</param>
    private void Differentiate(
        CudaNetwork network,
        CudaAdam? adam,
        CudaKernel<LossArguments> loss,
        LossArguments task,
        CudaPanels inputs,
        int chunks
    )
    {
        var shape = new CudaShape((int)task.Places / Panel.Width, 1, Panel.Width);
        var kept = CudaPanels.Of(activations!, network.ActivationSize);
        var slopes = CudaPanels.Of(gradients!, network.GradientSize);
        network.Forward(shape, inputs, default, kept);
        task.Outputs = network.Outputs(kept);
        task.Gradients = network.OutputGradients(slopes);
        loss.Start(task, task.Places);
        if (adam is null)
            return;
        adam.Clear();
        network.Backward(shape, inputs, default, kept, slopes, adam.Gradients, chunks);
    }

    /// <summary>The part of the actor's gradient that is the deviations'.</summary>
    private void AddDeviations(int panels, int chunks) =>
        deviationGradient.Start(
            new()
            {
                Deviations = deviations!.Address,
                Gradients = actor.Gradients.Address + collector.Actor.LogStdStart * sizeof(float),
                Stride = collector.Actor.Parameters.Length,
                Panels = panels,
                Chunks = chunks,
                Actions = parts.Layout.Action.Size,
            },
            (long)chunks * parts.Layout.Action.Size
        );

    /// <summary>The losses of a mini-batch, and the learning rates that follow from them.</summary>
    private void SumLosses(PpoConfig now, int panels, int chunks, double share) =>
        sum.StartBlocks(
            new()
            {
                Terms = terms!.Address,
                OfPanels = ofPanels!.Address,
                Losses = losses!.Address,
                Steps = critic.TakenAddress,
                Actor = actor.ProgressAddress,
                Critic = critic.ProgressAddress,
                Rates = rates.Address,
                Panels = panels,
                Chunks = chunks,
                Share = share,
                DesiredKl = now.Schedule == RateSchedule.Adaptive ? now.DesiredKl : 0,
                LeastRate = now.MinLearningRate,
                MostRate = now.MaxLearningRate,
                CriticRate = now.CriticLearningRate?.Value ?? 0,
            },
            1,
            LossThreads
        );

    /// <summary>Brings back the networks, and what the steps came to.</summary>
    private PpoLossSums End(in PpoTurn turn, int steps)
    {
        collector.Actor.Download();
        collector.Critic.Download();
        var (ofActor, ofCritic) = (actor.Download(), critic.Download());
        Span<Rates> made = stackalloc Rates[1];
        rates.Read(made);
        (parts.Actor.Optimizer.LearningRate, parts.Critic.Optimizer.LearningRate) = made[0];
        losses!.Read(lossOf.AsSpan(0, steps));
        var total = new PpoLossSums();
        foreach (var step in lossOf.AsSpan(0, steps))
        {
            var sums = new PpoLossSums(step.Surrogate, step.Value, step.Entropy, step.KlDivergence, 0);
            sums.RequireFinite(turn.Iteration);
            total += sums;
        }
        FiniteWatch.Require(ofActor, "norm of the actor's gradient", turn.Iteration);
        FiniteWatch.Require(ofCritic, "norm of the critic's gradient", turn.Iteration);
        return total * (1.0 / steps);
    }

    /// <summary>The samples from a panel on.</summary>
    private CudaPanels From(int panel)
    {
        var all = CudaPanels.Of(samples, parts.Layout.Size);
        return all with { Address = all.Address + (nint)(panel * all.Stride * sizeof(float)) };
    }

    /// <summary>Samples in a run of panels.</summary>
    private int Count((int Start, int End) run) =>
        Math.Min(run.End * Panel.Width, order.Length) - run.Start * Panel.Width;

    // The records of cuda/ppo.cu.

    private readonly record struct Rates(double Actor, double Critic);

    private readonly record struct Losses(
        double Surrogate,
        double Value,
        double Entropy,
        double KlDivergence
    );

    private struct AdvantageArguments
    {
        public CudaPpoRollout Rollout;
        public float RewardScale;
        public float Gamma;
        public float Lambda;
    }

    private struct GatherArguments
    {
        public CudaPpoRollout Rollout;
        public nint Order;
        public nint Samples;
        public uint Count;
        public uint Places;
    }

    private struct StandardizeArguments
    {
        public nint Samples;
        public int Size;
        public int Advantage;
        public int Panels;
        public int Count;
    }

    private struct LossArguments
    {
        public CudaSampleLayout Layout;
        public nint Samples;
        public CudaPanels Outputs;
        public nint LogStd;
        public CudaPanels Gradients;
        public nint Deviations;
        public nint Terms;
        public uint Places;
        public float Clip;
        public float Scale;
        public float Entropy;
    }

    private struct DeviationArguments
    {
        public nint Deviations;
        public nint Gradients;
        public long Stride;
        public int Panels;
        public int Chunks;
        public int Actions;
    }

    private struct SumArguments
    {
        public nint Terms;
        public nint OfPanels;
        public nint Losses;
        public nint Steps;
        public nint Actor;
        public nint Critic;
        public nint Rates;
        public int Panels;
        public int Chunks;
        public double Share;
        public double DesiredKl;
        public double LeastRate;
        public double MostRate;
        public double CriticRate;
    }
}
