namespace Distill.Networks;

/// <summary>
/// Takes the steps of one block of parameters, such as a network's. A mini-batch is cut into chunks whose number depends on the
/// batch alone; each chunk adds up its own gradient, and <see cref="Step"/> sums them in the order of the chunks, clips by global norm and updates.
/// </summary>
public abstract class Optimizer : IDisposable
{
    // What is elementwise goes in small blocks: other threads' gradients come from their caches, slowly, so even those of a
    // small network are summed by all threads.
    private const int BlockSize = 1024;

    // Part of the definition of the norm: the squares of a part are added up in order, then the parts.
    internal const int NormSize = 16384;

    private readonly FloatBuffer parameters;
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

    /// <param name="parameters">A multiple of 16.</param>
    protected Optimizer(FloatBuffer parameters, OptimizerConfig config, int maxChunks)
    {
        this.parameters = parameters;
        Config = config;
        learningRate = config.LearningRate.At(0);
        var length = parameters.Length;
        Moments = [.. config.Moments.Select(_ => new FloatBuffer(length))];
        gradients = [.. Enumerable.Range(0, maxChunks).Select(_ => new FloatBuffer(length))];
        squares = new double[(length + NormSize - 1) / NormSize];
        blocks = (length + BlockSize - 1) / BlockSize;
        sums = new Sums(this);
        norms = new Squares(this);
        updates = new Updates(this);
    }

    /// <summary>The settings in force, of the kind that it was made with; schedules change them.</summary>
    public OptimizerConfig Config { get; set; }

    /// <summary>The step size in force, which an algorithm sets.</summary>
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

    /// <summary>Steps whose gradient was scaled down.</summary>
    public long ClippedSteps => clippedSteps;

    /// <summary>Norm of the last gradient, before clipping.</summary>
    public double GradientNorm { get; private set; }

    /// <summary>The gradient that a chunk adds to, in the layout of the parameters. The chunk clears it first.</summary>
    public Span<float> Gradient(int chunk) => gradients[chunk].Span;

    /// <summary>
    /// Sums the gradients of the first <paramref name="usedChunks"/> chunks, clips and updates the parameters. A gradient whose
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
        var most = Config.MaxGradNorm.Value;
        var scale = most > 0 ? Math.Min(1, most / (GradientNorm + 1e-6)) : 1;
        if (scale < 1)
            clippedSteps++;
        Prepare(scale);
        pool.Run(updates, blocks);
    }

    /// <summary>Takes over what a device's steps came to.</summary>
    /// <param name="gradientNorm">Of the last, before clipping.</param>
    /// <param name="clipped">How many were scaled down.</param>
    internal void Took(double gradientNorm, long clipped)
    {
        GradientNorm = gradientNorm;
        clippedSteps += clipped;
    }

    /// <summary>Hands moments and counters to one of the same kind, for a network of the same architecture.</summary>
    internal void CopyTo(Optimizer other)
    {
        for (var i = 0; i < Moments.Count; i++)
            Moments[i].Span.CopyTo(other.Moments[i].Span);
        (other.steps, other.clippedSteps) = (steps, clippedSteps);
    }

    /// <summary>Moments, counters and the step size, for checkpoints.</summary>
    public void Visit(State state)
    {
        foreach (var (name, values) in Config.Moments.Zip(Moments))
            state.Block(name, values);
        state.Count("steps", ref steps);
        state.Count("clipped_steps", ref clippedSteps);
        state.Amount("learning_rate", ref learningRate);
    }

    public void Dispose()
    {
        foreach (var buffer in Moments.Concat(gradients))
            buffer.Dispose();
    }

    /// <summary>What is kept from step to step, each in the layout of the parameters.</summary>
    protected IReadOnlyList<FloatBuffer> Moments { get; }

    /// <summary>Readies what all parts of a step have in common.</summary>
    /// <param name="gradientScale">Factor of the gradient, at most 1.</param>
    protected abstract void Prepare(double gradientScale);

    /// <summary>Takes the step of a part of the parameters; several threads do so at once.</summary>
    /// <param name="start">Where the part begins in the parameters.</param>
    protected abstract void Update(Span<float> parameters, ReadOnlySpan<float> gradient, int start);

    private (int Start, int Length) Block(int block, int size) =>
        (block * size, Math.Min(size, parameters.Length - block * size));

    /// <summary>Sums the chunks' gradients into the first chunk's.</summary>
    private sealed class Sums(Optimizer optimizer) : IWork
    {
        public void Run(int block, int worker)
        {
            var (start, length) = optimizer.Block(block, BlockSize);
            var total = optimizer.gradients[0].Slice(start, length);
            for (var chunk = 1; chunk < optimizer.chunks; chunk++)
                Elementwise.Add(optimizer.gradients[chunk].Slice(start, length), total);
        }
    }

    private sealed class Squares(Optimizer optimizer) : IWork
    {
        public void Run(int block, int worker)
        {
            var (start, length) = optimizer.Block(block, NormSize);
            optimizer.squares[block] = Elementwise.SumOfSquares(optimizer.gradients[0].Slice(start, length));
        }
    }

    private sealed class Updates(Optimizer optimizer) : IWork
    {
        public void Run(int block, int worker)
        {
            var (start, length) = optimizer.Block(block, BlockSize);
            optimizer.Update(
                optimizer.parameters.Slice(start, length),
                optimizer.gradients[0].Slice(start, length),
                start
            );
        }
    }
}
