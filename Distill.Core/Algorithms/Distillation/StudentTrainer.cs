using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Supervised steps of the student on mini-batches of segments. A row is a segment of length 1. Longer segments are cut
/// into windows of <c>gradient_length</c> steps, the shorter tail included: memory is carried from window to window,
/// gradients are not, and every window is one optimizer step.
/// </summary>
public sealed class StudentTrainer : IWork, IDisposable
{
    private const int MaxChunks = 16;

    // Up to so many sequences go in half panels, or few threads would have work.
    private const int MostInHalves = 128;

    private readonly Policy student;
    private readonly Disagreement? disagreement;
    private readonly int member;
    private readonly int segmentLength;
    private readonly int width;
    private readonly FloatBuffer memory;
    private readonly double[] losses = new double[MaxChunks];
    private readonly double[] laneLosses;

    // The settings in force.
    private Loss loss;
    private int gradientLength;

    // The mini-batch that is being worked on.
    private readonly int[] segments;
    private WorkerPool pool = null!;
    private AggregatedDataset dataset = null!;
    private int count;
    private int panels;
    private int chunks;
    private int first;
    private int length;
    private float scale;

    /// <param name="batch">Most segments per mini-batch.</param>
    /// <param name="segmentLength">Rows per segment.</param>
    /// <param name="disagreement">Of an ensemble, is told what the student gives; null where it learns alone.</param>
    /// <param name="member">Its number in the ensemble; 0 for the one whose losses the dataset notes.</param>
    public StudentTrainer(
        Policy student,
        Loss loss,
        OptimizerConfig optimizer,
        int gradientLength,
        int batch,
        int segmentLength,
        Disagreement? disagreement = null,
        int member = 0
    )
    {
        this.disagreement = disagreement;
        this.member = member;
        this.student = student;
        this.loss = loss;
        this.segmentLength = segmentLength;
        this.gradientLength = Math.Min(gradientLength, segmentLength);
        segments = new int[batch];
        width = WidthOf(batch, segmentLength);
        laneLosses = new double[PanelsOf(batch) * width];
        memory = new FloatBuffer((long)PanelsOf(batch) * student.MemorySize * width);
        Optimizer = optimizer.Create(student.Network, Chunks(PanelsOf(batch), segmentLength));
    }

    public Optimizer Optimizer { get; }

    /// <summary>Segments side by side in a panel.</summary>
    internal int Lanes => width;

    /// <summary>Rows of the largest mini-batch, unused lanes included.</summary>
    internal static long PaddedRows(int batch, int segmentLength)
    {
        var width = WidthOf(batch, segmentLength);
        return (long)PanelsOf(batch, width) * width * segmentLength;
    }

    /// <summary>Goes on with these settings.</summary>
    /// <param name="optimizer">Of the kind that it was made with.</param>
    /// <param name="gradientLength">Steps of back-propagation through time.</param>
    public void Use(Loss loss, OptimizerConfig optimizer, int gradientLength)
    {
        this.loss = loss;
        this.gradientLength = Math.Min(gradientLength, segmentLength);
        Optimizer.Config = optimizer;
        Optimizer.LearningRate = optimizer.LearningRate;
    }

    /// <summary>Bytes that a trainer takes, its optimizer included.</summary>
    internal static long EstimateBytes(
        NetworkSpec student,
        OptimizerConfig optimizer,
        int labels,
        int gradientLength,
        int batch,
        int segmentLength,
        int threads
    )
    {
        var size = student.Size;
        var width = WidthOf(batch, segmentLength);
        var panels = PanelsOf(batch, width);
        var steps = (long)Math.Min(gradientLength, segmentLength);
        var perLane = steps * (student.Inputs + labels + 2 + size.Activations) + size.Memory + size.Outputs;
        return optimizer.EstimateBytes(size.Parameters, Chunks(panels, segmentLength))
            + panels * width * (size.Memory * sizeof(float) + sizeof(double))
            + batch * sizeof(int)
            // The workspaces, with rows that are being gathered.
            + threads
                * (
                    (perLane + Math.Min(AggregatedDataset.StepsAtATime, steps) * (student.Inputs + labels))
                        * width
                    + size.Scratch
                )
                * sizeof(float);
    }

    /// <summary>Trains on one mini-batch and notes in the dataset how well the student did on each segment.</summary>
    /// <returns>
    /// Weighted sum of the loss over the rows that are trained on, and the sum of their weights: the number of valid rows, where
    /// none is held out or failed. Where the loss or the gradient's norm is not finite it ends early, with the student as it was
    /// before that step.
    /// </returns>
    public (double Sum, double Weight) Train(
        WorkerPool pool,
        AggregatedDataset dataset,
        ReadOnlySpan<int> batch
    )
    {
        (this.pool, this.dataset) = (pool, dataset);
        batch.CopyTo(segments);
        var used = segments.AsSpan(0, batch.Length);
        panels = PanelsOf(batch.Length);
        chunks = Chunks(panels, dataset.SegmentLength);
        count = batch.Length;
        for (var panel = 0; panel < panels && student.MemorySize > 0; panel++)
            dataset.GatherMemory(Segments(panel), MemoryOf(panel));
        laneLosses.AsSpan(0, count).Clear();
        var terms = loss.TermsPerRow(student.Network.Spec.Outputs);
        var sum = 0.0;
        var total = 0.0;
        for (first = 0; first < dataset.SegmentLength; first += gradientLength)
        {
            length = Math.Min(gradientLength, dataset.SegmentLength - first);
            var weight = dataset.Weight(used, first, first + length);
            // A window without a row to train on has nothing to teach, but its memory must still be carried on.
            scale = weight == 0 ? 0 : 1f / ((float)weight * terms);
            pool.Run(this, chunks);
            foreach (var part in losses.AsSpan(0, chunks))
                sum += part / terms;
            total += weight;
            if (!double.IsFinite(sum))
                return (sum, total);
            if (weight > 0)
                Optimizer.Step(pool, chunks);
            if (!double.IsFinite(Optimizer.GradientNorm))
                return (sum, total);
        }
        for (var i = 0; i < count && member == 0; i++)
        {
            var weight = dataset.Weight(used.Slice(i, 1), 0, dataset.SegmentLength);
            dataset.RecordLoss(used[i], weight == 0 ? 0 : (float)(laneLosses[i] / (weight * terms)));
        }
        return (sum, total);
    }

    /// <summary>Forward and backward of one chunk of panels through one window.</summary>
    void IWork.Run(int chunk, int worker)
    {
        var gradient = Optimizer.Gradient(chunk);
        gradient.Clear();
        losses[chunk] = 0;
        var end = (chunk + 1) * panels / chunks;
        for (var panel = chunk * panels / chunks; panel < end; panel++)
            losses[chunk] += Learn(
                panel,
                gradient,
                laneLosses.AsSpan(panel * width, width),
                pool.Workspace(worker)
            );
    }

    public void Visit(State state) => state.Part("adam", Optimizer.Visit);

    public void Dispose()
    {
        Optimizer.Dispose();
        memory.Dispose();
    }

    /// <summary>Adds the gradient of one panel through one window; gives its loss.</summary>
    private double Learn(int panel, Span<float> gradient, Span<double> laneSums, Workspace own)
    {
        var network = student.Network;
        using var scope = own.Open();
        var window = Window.Take(
            student,
            dataset,
            Segments(panel),
            (first, length),
            MemoryOf(panel),
            width,
            heldOut: false,
            own
        );
        disagreement?.Note(member, panel, first, student, window, own);
        var dOutputs = own.Panel(length * network.OutputSize, width);
        var sum = 0.0;
        for (var step = length - 1; step >= 0; step--)
            sum += loss.Evaluate(
                window.Output(step),
                window.Label(step),
                window.Weights.Part(step, length),
                scale,
                dOutputs.Part(step, length),
                laneSums,
                network.Spec.Head
            );
        network.Backward(length, window.Rows, window.Keeps, window.Activations, dOutputs, gradient, own);
        return sum;
    }

    private int PanelsOf(int segments) => PanelsOf(segments, width);

    internal static int PanelsOf(int segments, int width) => (int)(((long)segments + width - 1) / width);

    /// <summary>Segments side by side where a mini-batch has at most so many.</summary>
    internal static int WidthOf(int batch, int segmentLength) =>
        segmentLength > 1 && batch <= MostInHalves ? Panel.HalfWidth : Panel.Width;

    private ReadOnlySpan<int> Segments(int panel) =>
        segments.AsSpan(panel * width, Math.Min(width, count - panel * width));

    private Panel MemoryOf(int panel) => Panel.At(memory.Span, panel, student.MemorySize, width);

    /// <summary>
    /// Depends on the problem alone, never on the machine. Summing a chunk's gradient costs as much as training a few rows,
    /// so short mini-batches of rows are cut less finely than sequences.
    /// </summary>
    internal static int Chunks(int panels, int segmentLength) =>
        segmentLength > 1 ? Math.Min(panels, MaxChunks)
        : panels < 128 ? Math.Clamp((panels + 1) / 2, 1, MaxChunks / 2)
        : MaxChunks;
}
