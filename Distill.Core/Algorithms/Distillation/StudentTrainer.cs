using Distill.Compute;
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
    private readonly Loss loss;
    private readonly int gradientLength;
    private readonly int width;
    private readonly Adam adam;
    private readonly FloatBuffer memory;
    private readonly double[] losses = new double[MaxChunks];
    private readonly double[] laneLosses;
    private readonly Scratch[] scratch;

    // The mini-batch that is being worked on.
    private AggregatedDataset dataset = null!;
    private readonly int[] segments;
    private int count;
    private int panels;
    private int chunks;
    private int first;
    private int length;
    private float scale;

    /// <param name="batch">Most segments per mini-batch.</param>
    /// <param name="segmentLength">Rows per segment.</param>
    public StudentTrainer(
        Policy student,
        Loss loss,
        AdamConfig optimizer,
        int gradientLength,
        int batch,
        int segmentLength,
        int threads
    )
    {
        this.student = student;
        this.loss = loss;
        this.gradientLength = Math.Min(gradientLength, segmentLength);
        segments = new int[batch];
        width = WidthOf(batch, segmentLength);
        laneLosses = new double[PanelsOf(batch) * width];
        memory = new FloatBuffer((long)PanelsOf(batch) * student.MemorySize * width);
        adam = new Adam(student.Network, optimizer, Chunks(PanelsOf(batch), segmentLength));
        var labels = loss.LabelSize(student.Network.Spec.Outputs);
        scratch =
        [
            .. Enumerable
                .Range(0, threads)
                .Select(_ => new Scratch(student, labels, this.gradientLength, width)),
        ];
    }

    public Adam Optimizer => adam;

    /// <summary>Bytes that a trainer takes, its optimizer included.</summary>
    internal static long EstimateBytes(
        NetworkSpec student,
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
        var perLane =
            steps * (student.Inputs + labels + 2 + size.Activations) + size.Memory + student.Outputs;
        return Adam.EstimateBytes(size.Parameters, Chunks(panels, segmentLength))
            + panels * width * (size.Memory * sizeof(float) + sizeof(double))
            + batch * sizeof(int)
            + threads * (perLane * width + size.Scratch) * sizeof(float);
    }

    /// <summary>Trains on one mini-batch and notes in the dataset how well the student did on each segment.</summary>
    /// <returns>
    /// Sum of the loss over valid rows, and the number of those rows. Where the loss or the gradient's norm is not finite it
    /// ends early, with the student as it was before that step.
    /// </returns>
    public (double Sum, long Rows) Train(WorkerPool pool, AggregatedDataset dataset, ReadOnlySpan<int> batch)
    {
        this.dataset = dataset;
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
        var rows = 0L;
        for (first = 0; first < dataset.SegmentLength; first += gradientLength)
        {
            length = Math.Min(gradientLength, dataset.SegmentLength - first);
            var valid = dataset.CountValid(used, first, first + length);
            // A window without a valid row has nothing to teach, but its memory must still be carried on.
            scale = valid == 0 ? 0 : 1f / ((float)valid * terms);
            pool.Run(this, chunks);
            foreach (var part in losses.AsSpan(0, chunks))
                sum += part / terms;
            rows += valid;
            if (!double.IsFinite(sum))
                return (sum, rows);
            if (valid > 0)
                adam.Step(pool, chunks);
            if (!double.IsFinite(adam.GradientNorm))
                return (sum, rows);
        }
        for (var i = 0; i < count; i++)
        {
            var valid = dataset.CountValid(used.Slice(i, 1), 0, dataset.SegmentLength);
            dataset.RecordLoss(used[i], valid == 0 ? 0 : (float)(laneLosses[i] / ((long)valid * terms)));
        }
        return (sum, rows);
    }

    /// <summary>Forward and backward of one chunk of panels through one window.</summary>
    void IWork.Run(int chunk, int worker)
    {
        var own = scratch[worker];
        var gradient = adam.Gradient(chunk);
        gradient.Clear();
        losses[chunk] = 0;
        var end = (chunk + 1) * panels / chunks;
        for (var panel = chunk * panels / chunks; panel < end; panel++)
            losses[chunk] += Window(
                Segments(panel),
                MemoryOf(panel),
                gradient,
                laneLosses.AsSpan(panel * width, width),
                own
            );
    }

    public void Visit(State state) => state.Part("adam", adam.Visit);

    public void Dispose()
    {
        adam.Dispose();
        memory.Dispose();
        foreach (var own in scratch)
            own.Dispose();
    }

    private double Window(
        ReadOnlySpan<int> lanes,
        Span<float> carried,
        Span<float> gradient,
        Span<double> laneSums,
        Scratch own
    )
    {
        var network = student.Network;
        dataset.Gather(
            lanes,
            first,
            length,
            own.Observations,
            own.Labels,
            own.Weights[..(length * width)],
            own.Keeps
        );
        for (var step = 0; step < length; step++)
        {
            var x = own.Observation(step);
            student.Normaliser?.Apply(x);
            Elementwise.ScaleLanes(carried, own.Keep(step));
            network.Forward(x, carried, own.Activations(step), own.Network);
            network.CopyMemory(own.Activations(step), carried);
        }

        var sum = 0.0;
        var dMemory = own.MemoryGradient;
        dMemory.Clear();
        var dLogStd = network.LogStd.IsEmpty
            ? []
            : gradient.Slice(network.ParameterCount - network.LogStd.Length, network.LogStd.Length);
        for (var step = length - 1; step >= 0; step--)
        {
            sum += loss.Evaluate(
                network.Output(own.Activations(step)),
                own.Label(step),
                own.Weight(step),
                scale,
                network.LogStd,
                own.OutputGradient,
                dLogStd,
                laneSums
            );
            network.Backward(
                own.Observation(step),
                own.Activations(step),
                own.OutputGradient,
                dMemory,
                gradient,
                own.Network
            );
            Elementwise.ScaleLanes(dMemory, own.Keep(step));
        }
        return sum;
    }

    private int PanelsOf(int segments) => PanelsOf(segments, width);

    private static int PanelsOf(int segments, int width) => (int)(((long)segments + width - 1) / width);

    private static int WidthOf(int batch, int segmentLength) =>
        segmentLength > 1 && batch <= MostInHalves ? Panel.HalfWidth : Panel.Width;

    private ReadOnlySpan<int> Segments(int panel) =>
        segments.AsSpan(panel * width, Math.Min(width, count - panel * width));

    private Span<float> MemoryOf(int panel) =>
        memory.Slice(panel * student.MemorySize * width, student.MemorySize * width);

    /// <summary>
    /// Depends on the problem alone, never on the machine. Summing a chunk's gradient costs as much as training a few rows,
    /// so short mini-batches of rows are cut less finely than sequences.
    /// </summary>
    private static int Chunks(int panels, int segmentLength) =>
        segmentLength > 1 ? Math.Min(panels, MaxChunks)
        : panels < 128 ? Math.Clamp((panels + 1) / 2, 1, MaxChunks / 2)
        : MaxChunks;

    private sealed class Scratch : IDisposable
    {
        private readonly Policy student;
        private readonly int labels;
        private readonly int width;
        private readonly FloatBuffer observations;
        private readonly FloatBuffer targets;
        private readonly FloatBuffer weights;
        private readonly FloatBuffer keeps;
        private readonly FloatBuffer activations;
        private readonly FloatBuffer memoryGradient;
        private readonly FloatBuffer outputGradient;
        private readonly FloatBuffer network;

        public Scratch(Policy student, int labels, int steps, int width)
        {
            var net = student.Network;
            this.student = student;
            this.labels = labels;
            this.width = width;
            observations = new FloatBuffer((long)steps * net.Spec.Inputs * width);
            targets = new FloatBuffer((long)steps * labels * width);
            weights = new FloatBuffer((long)steps * width);
            keeps = new FloatBuffer((long)steps * width);
            activations = new FloatBuffer((long)steps * net.ActivationSize * width);
            memoryGradient = new FloatBuffer(net.MemorySize * width);
            outputGradient = new FloatBuffer(net.Spec.Outputs * width);
            network = new FloatBuffer(net.ScratchSize);
        }

        public Span<float> Observations => observations.Span;
        public Span<float> Labels => targets.Span;
        public Span<float> Weights => weights.Span;
        public Span<float> Keeps => keeps.Span;
        public Span<float> MemoryGradient => memoryGradient.Span;
        public Span<float> OutputGradient => outputGradient.Span;
        public Span<float> Network => network.Span;

        public Span<float> Observation(int step) => Step(observations, step, student.Network.Spec.Inputs);

        public Span<float> Label(int step) => Step(targets, step, labels);

        public Span<float> Weight(int step) => Step(weights, step, 1);

        public Span<float> Keep(int step) => Step(keeps, step, 1);

        public Span<float> Activations(int step) => Step(activations, step, student.Network.ActivationSize);

        public void Dispose()
        {
            observations.Dispose();
            targets.Dispose();
            weights.Dispose();
            keeps.Dispose();
            activations.Dispose();
            memoryGradient.Dispose();
            outputGradient.Dispose();
            network.Dispose();
        }

        private Span<float> Step(FloatBuffer buffer, int step, int size) =>
            buffer.Slice(step * size * width, size * width);
    }
}
