using Distill.Compute;
using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>Settings of Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).</summary>
public sealed record AdamConfig
{
    /// <summary>Step size. Raise it while the loss falls slowly and smoothly, lower it when the loss jumps.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Memory of the mean gradient, in [0, 1).</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Memory of the squared gradient, in [0, 1). Lower it when gradients change scale quickly.</summary>
    public double Beta2 { get; init; } = 0.999;

    /// <summary>Added to the square root of the squared gradient. Raise it when tiny gradients cause large steps.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>
    /// Smallest value under the square root (rl-tools uses 1e-7 here, which turns Adam into momentum descent for gradients
    /// below 3e-4). 0 is the usual Adam.
    /// </summary>
    public double Floor { get; init; } = 0;

    /// <summary>Pull of the weights towards zero. Raise it (1e-4 .. 1e-2) when the student overfits a small dataset.</summary>
    public double WeightDecay { get; init; } = 0;

    /// <summary>Whether the decay acts on the weights directly (AdamW) instead of through the gradient (Adam with L2).</summary>
    public bool Decoupled { get; init; } = false;

    /// <summary>
    /// Gradients are scaled down to this global norm; 0 switches it off. It should fire rarely: lower it when the loss
    /// spikes, raise it when the share of clipped steps in the log is high.
    /// </summary>
    public double MaxGradNorm { get; init; } = 1;

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public void Check()
    {
        Require(Positive(LearningRate), "learning_rate", LearningRate, AboveZero);
        Require(Beta1 >= 0 && (float)Beta1 < 1, "beta1", Beta1, "at least 0 and below 1");
        Require(Beta2 >= 0 && (float)Beta2 < 1, "beta2", Beta2, "at least 0 and below 1");
        Require(Positive(Epsilon), "epsilon", Epsilon, AboveZero);
        Require(ZeroOrPositive(Floor), "floor", Floor, ZeroOrAbove);
        Require(ZeroOrPositive(WeightDecay), "weight_decay", WeightDecay, ZeroOrAbove);
        Require(
            ZeroOrPositive(MaxGradNorm),
            "max_grad_norm",
            MaxGradNorm,
            $"0 for no clipping, or {AboveZero}"
        );
    }
}

/// <summary>
/// Adam on one network. A mini-batch is cut into chunks whose number depends on the batch alone; each chunk adds up its own
/// gradient, and <see cref="Step"/> sums them in the order of the chunks, clips by global norm and updates.
/// </summary>
public sealed class Adam : IDisposable
{
    // What is elementwise goes in small blocks: other threads' gradients come from their caches, slowly, so even those of a
    // small network are summed by all threads.
    private const int BlockSize = 1024;

    // Part of the definition of the norm: the squares of a part are added up in order, then the parts.
    private const int NormSize = 16384;

    private readonly Network network;
    private readonly FloatBuffer first;
    private readonly FloatBuffer second;
    private readonly FloatBuffer[] gradients;
    private readonly double[] squares;
    private readonly int blocks;
    private readonly Sums sums;
    private readonly Squares norms;
    private readonly Updates updates;
    private int chunks;
    private long steps;
    private long clippedSteps;
    private double learningRate;
    private AdamStep step;

    /// <param name="maxChunks">Most chunks that a mini-batch will be cut into.</param>
    public Adam(Network network, AdamConfig config, int maxChunks)
    {
        this.network = network;
        Config = config;
        LearningRate = config.LearningRate;
        var length = network.Parameters.Length;
        first = new FloatBuffer(length);
        second = new FloatBuffer(length);
        gradients = [.. Enumerable.Range(0, maxChunks).Select(_ => new FloatBuffer(length))];
        squares = new double[(length + NormSize - 1) / NormSize];
        blocks = (length + BlockSize - 1) / BlockSize;
        sums = new Sums(this);
        norms = new Squares(this);
        updates = new Updates(this);
    }

    /// <summary>Bytes of an optimizer on so many parameters: two moments, and a gradient for each chunk.</summary>
    internal static long EstimateBytes(long parameters, int maxChunks) =>
        parameters * (2 + maxChunks) * sizeof(float);

    public AdamConfig Config { get; }

    /// <summary>The step size in force; schedules change it.</summary>
    public double LearningRate
    {
        get => learningRate;
        set => learningRate = value;
    }

    /// <summary>Steps taken, which the bias correction depends on.</summary>
    public long Steps
    {
        get => steps;
        set => steps = value;
    }

    /// <summary>Running mean of the gradient, in the layout of the network's parameters.</summary>
    public Span<float> FirstMoments => first.Span;

    /// <summary>Running mean of the squared gradient, in the same layout.</summary>
    public Span<float> SecondMoments => second.Span;

    /// <summary>Steps whose gradient was scaled down.</summary>
    public long ClippedSteps => clippedSteps;

    /// <summary>Norm of the last gradient, before clipping.</summary>
    public double GradientNorm { get; private set; }

    /// <summary>The gradient that a chunk adds to, in the layout of the network's parameters. The chunk clears it first.</summary>
    public Span<float> Gradient(int chunk) => gradients[chunk].Span;

    /// <summary>
    /// Sums the gradients of the first <paramref name="usedChunks"/> chunks, clips and updates the network. A gradient whose
    /// norm is not finite changes nothing.
    /// </summary>
    public void Step(WorkerPool pool, int usedChunks)
    {
        chunks = usedChunks;
        pool.Run(sums, blocks);
        pool.Run(norms, squares.Length);
        var sum = 0.0;
        foreach (var part in squares)
            sum += part;
        GradientNorm = Math.Sqrt(sum);
        if (!double.IsFinite(GradientNorm))
            return;
        steps++;
        // PyTorch's clip_grad_norm_, with its 1e-6.
        var scale = Config.MaxGradNorm > 0 ? Math.Min(1, Config.MaxGradNorm / (GradientNorm + 1e-6)) : 1;
        if (scale < 1)
            clippedSteps++;
        step = new AdamStep(
            Rate: (float)LearningRate,
            Beta1: (float)Config.Beta1,
            Beta2: (float)Config.Beta2,
            OneMinusBeta1: (float)(1 - Config.Beta1),
            OneMinusBeta2: (float)(1 - Config.Beta2),
            Epsilon: (float)Config.Epsilon,
            Floor: (float)Config.Floor,
            Correction1: (float)(1 / (1 - Math.Pow(Config.Beta1, Steps))),
            Correction2: (float)(1 / (1 - Math.Pow(Config.Beta2, Steps))),
            GradientScale: (float)scale,
            CoupledDecay: (float)(Config.Decoupled ? 0 : Config.WeightDecay),
            DecoupledDecay: (float)(Config.Decoupled ? Config.WeightDecay : 0)
        );
        pool.Run(updates, blocks);
    }

    /// <summary>Moments, counters and the step size, for checkpoints.</summary>
    public void Visit(State state)
    {
        state.Block("first", first);
        state.Block("second", second);
        state.Count("steps", ref steps);
        state.Count("clipped_steps", ref clippedSteps);
        state.Amount("learning_rate", ref learningRate);
    }

    public void Dispose()
    {
        first.Dispose();
        second.Dispose();
        foreach (var gradient in gradients)
            gradient.Dispose();
    }

    private (int Start, int Length) Block(int block, int size) =>
        (block * size, Math.Min(size, network.Parameters.Length - block * size));

    /// <summary>Sums the chunks' gradients into the first chunk's.</summary>
    private sealed class Sums(Adam adam) : IWork
    {
        public void Run(int block, int worker)
        {
            var (start, length) = adam.Block(block, BlockSize);
            var total = adam.gradients[0].Slice(start, length);
            for (var chunk = 1; chunk < adam.chunks; chunk++)
                Elementwise.Add(adam.gradients[chunk].Slice(start, length), total);
        }
    }

    private sealed class Squares(Adam adam) : IWork
    {
        public void Run(int block, int worker)
        {
            var (start, length) = adam.Block(block, NormSize);
            adam.squares[block] = Elementwise.SumOfSquares(adam.gradients[0].Slice(start, length));
        }
    }

    private sealed class Updates(Adam adam) : IWork
    {
        public void Run(int block, int worker)
        {
            var (start, length) = adam.Block(block, BlockSize);
            Elementwise.Adam(
                adam.network.Parameters.Slice(start, length),
                adam.gradients[0].Slice(start, length),
                adam.first.Slice(start, length),
                adam.second.Slice(start, length),
                adam.step
            );
        }
    }
}
