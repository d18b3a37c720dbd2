using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Networks;
using Distill.Networks.Cuda;
using Distill.Policies;
using Distill.Policies.Cuda;

namespace Distill.Algorithms;

/// <summary>
/// The steps of <see cref="StudentTrainer"/> in the memory of a GPU, with its bits. The machine sends the order of a pass, 4 bytes a
/// segment, with what differs from step to step, and is told at the end what each mini-batch and each segment came to. Where a loss or a
/// gradient is not finite, the steps after it change nothing. Mini-batches of full size are one launch each, a graph.
/// </summary>
internal sealed class CudaTrainer : IDisposable
{
    /// <summary>Bytes that training takes for each segment of the dataset: its place in an order, and its loss.</summary>
    public const int SegmentBytes = sizeof(int) + sizeof(float);

    private const int SumThreads = 256;

    private readonly CudaDevice device;
    private readonly AggregatedDataset books;
    private readonly CudaPolicy student;
    private readonly CudaAdam adam;
    private readonly int lanes;
    private readonly int longest;
    private readonly CudaWindow windows;
    private readonly CudaBuffer<float> gradients;
    private readonly CudaBuffer<double> ofPanels;
    private readonly CudaBuffer<SegmentLoss> segmentLosses;
    private readonly CudaBuffer<int> turn;
    private readonly CudaKernel<SumArguments> sumLosses;
    private readonly CudaKernel<NoteArguments> noteLosses;

    // As large as the dataset, and as the numbers of windows and of mini-batches.
    private CudaBuffer<int>? order;
    private CudaBuffer<float>? noted;
    private CudaBuffer<Turn>? turns;
    private CudaBuffer<double>? sums;
    private float[] lossOf = [];
    private Turn[] turnOf = [];
    private double[] sumOf = [];

    // The settings in force.
    private Loss loss;
    private int window;

    // Of the training that is going on.
    private int batches;
    private double weight;

    // Of its mini-batches of so many segments.
    private CudaGraph? graph;
    private int graphSegments;

    /// <param name="optimizer">Its settings, moments and counters.</param>
    /// <param name="longest">Most steps of back-propagation through time.</param>
    /// <param name="batch">Most segments of a mini-batch.</param>
    public CudaTrainer(
        CudaDevice device,
        AggregatedDataset books,
        CudaDataset dataset,
        CudaPolicy student,
        Adam optimizer,
        Loss loss,
        int longest,
        int batch
    )
    {
        (this.device, this.books, this.student, this.loss) = (device, books, student, loss);
        this.longest = Math.Min(longest, books.SegmentLength);
        window = this.longest;
        lanes = StudentTrainer.WidthOf(batch, books.SegmentLength);
        var panels = StudentTrainer.PanelsOf(batch, lanes);
        var samples = (long)panels * this.longest * lanes;
        var network = student.Network;
        adam = new(device, network, optimizer, StudentTrainer.Chunks(panels, books.SegmentLength));
        windows = new(device, books, dataset, student, panels, this.longest, lanes);
        gradients = new(device, samples * network.GradientSize, "gradients");
        ofPanels = new(device, panels, "losses");
        segmentLosses = new(device, (long)panels * lanes, "losses");
        turn = new(device, 1, "an order");
        sumLosses = device.Kernel<SumArguments>("sum_losses");
        noteLosses = device.Kernel<NoteArguments>("note_losses");
    }

    /// <summary>Of a mini-batch.</summary>
    private int Windows => (books.SegmentLength + window - 1) / window;

    private CudaTurns Turns => new(turns!.Address, turn.Address);

    /// <summary>Goes on with these settings.</summary>
    /// <param name="gradientLength">Steps of back-propagation through time.</param>
    public void Use(Loss loss, int gradientLength) =>
        (this.loss, window) = (loss, Math.Min(gradientLength, longest));

    /// <summary>Makes room for passes over all that is held, which stays as it is until their end, as do the settings.</summary>
    /// <param name="mostBatches">Mini-batches of all passes.</param>
    public void Begin(long mostBatches)
    {
        var room = (int)(books.Capacity / books.SegmentLength);
        device.Reserve(ref order, room, "an order");
        device.Reserve(ref noted, room, "losses");
        device.Reserve(ref sums, Math.Max(1, mostBatches), "losses");
        device.Reserve(ref turns, Math.Max(1, mostBatches * Windows), "an order");
        adam.Reserve(mostBatches * Windows);
        if (lossOf.Length < room)
            lossOf = new float[room];
        if (sumOf.Length < mostBatches)
            sumOf = new double[mostBatches];
        if (turnOf.Length < mostBatches * Windows)
            turnOf = new Turn[mostBatches * Windows];
        sums!.Clear();
        (batches, weight) = (0, 0);
        // Of other settings, or another dataset.
        DropGraph();
    }

    /// <summary>One pass.</summary>
    /// <param name="segments">The order of the segments; not all, where some are drawn more often.</param>
    /// <param name="size">Segments of a mini-batch.</param>
    public void Pass(ReadOnlySpan<int> segments, int size)
    {
        order!.Write(segments);
        Plan(segments, size);
        for (int start = 0, from = 0; start < segments.Length; start += size, from += Windows)
            if (start + size <= segments.Length && device.MakesGraphs && Counts(from))
                GraphOf(size, from).Start();
            else
                Train(Math.Min(size, segments.Length - start), from);
    }

    /// <summary>Takes from the dataset how well the student did on each segment, where a pass may not come to all of them.</summary>
    public void WriteLosses()
    {
        for (var segment = 0; segment < books.Count; segment++)
            lossOf[segment] = books.Loss(segment);
        noted!.Write(lossOf.AsSpan(0, books.Count));
    }

    /// <summary>Notes in the dataset how well the student did on each segment.</summary>
    public void ReadLosses()
    {
        var losses = lossOf.AsSpan(0, books.Count);
        noted!.Read(losses);
        for (var segment = 0; segment < losses.Length; segment++)
            books.RecordLoss(segment, losses[segment]);
    }

    /// <summary>Brings back the student, and what the passes came to.</summary>
    /// <returns>Weighted sum of the loss over the rows of all passes, and the sum of their weights.</returns>
    /// <exception cref="DistillException">A loss or the norm of a gradient is not finite.</exception>
    public (double Loss, double Weight) End(int iteration)
    {
        student.Network.Download();
        var norm = adam.Download();
        var sum = 0.0;
        var parts = sumOf.AsSpan(0, batches);
        sums!.Read(parts);
        foreach (var part in parts)
        {
            FiniteWatch.Require(part, "loss", iteration);
            sum += part;
        }
        FiniteWatch.Require(norm, "norm of the gradient", iteration);
        return (sum, weight);
    }

    /// <summary>Takes the student and its optimizer.</summary>
    public void Upload()
    {
        student.Network.Upload();
        adam.Upload();
    }

    public void Dispose()
    {
        adam.Dispose();
        windows.Dispose();
        gradients.Dispose();
        ofPanels.Dispose();
        segmentLosses.Dispose();
        turn.Dispose();
        DropGraph();
        order?.Dispose();
        noted?.Dispose();
        turns?.Dispose();
        sums?.Dispose();
    }

    /// <summary>Weighs the windows of a pass, and brings what differs from one to the next.</summary>
    private void Plan(ReadOnlySpan<int> segments, int size)
    {
        var terms = loss.TermsPerRow(student.Network.OutputSize);
        var (count, steps) = (0, 0);
        for (var start = 0; start < segments.Length; start += size, batches++)
        for (var first = 0; first < books.SegmentLength; first += window)
        {
            var batch = segments[start..Math.Min(start + size, segments.Length)];
            var counted = books.Weight(batch, first, Math.Min(first + window, books.SegmentLength));
            // A window without a row to train on has nothing to teach, but its memory must still be carried on.
            var scale = counted == 0 ? 0 : 1f / ((float)counted * terms);
            turnOf[count++] = new(start, batches, scale);
            weight += counted;
            steps += counted > 0 ? 1 : 0;
        }
        turns!.Write(turnOf.AsSpan(0, count));
        turn.Clear();
        adam.Prepare(steps);
    }

    /// <summary>Whether each window of a mini-batch is a step.</summary>
    /// <param name="from">The first of them.</param>
    private bool Counts(int from)
    {
        foreach (var window in turnOf.AsSpan(from, Windows))
            if (!window.Counts)
                return false;
        return true;
    }

    /// <summary>All mini-batches of so many segments, if each window is a step.</summary>
    /// <param name="from">The first window of one of them.</param>
    private CudaGraph GraphOf(int segments, int from)
    {
        if (segments != graphSegments)
            DropGraph();
        graphSegments = segments;
        return graph ??= MakeGraph(segments, from);
    }

    private CudaGraph MakeGraph(int segments, int from) => new(device, () => Train(segments, from));

    private void DropGraph()
    {
        graph?.Dispose();
        graph = null;
    }

    /// <summary>The windows of one mini-batch.</summary>
    /// <param name="from">The first of them.</param>
    private void Train(int segments, int from)
    {
        var panels = StudentTrainer.PanelsOf(segments, lanes);
        var chunks = StudentTrainer.Chunks(panels, books.SegmentLength);
        for (var first = 0; first < books.SegmentLength; first += window)
        {
            var shape = new CudaShape(panels, Math.Min(window, books.SegmentLength - first), lanes);
            windows.Take(shape, order!.Address, Turns, segments, first);
            Learn(shape, chunks, segments, first);
            if (turnOf[from++].Counts)
                adam.Step(chunks);
        }
    }

    /// <summary>Loss and backward of one window.</summary>
    private void Learn(CudaShape shape, int chunks, int segments, int first)
    {
        var network = student.Network;
        var slopes = CudaPanels.Of(gradients, network.GradientSize, lanes);
        windows.Evaluate(shape, loss, Turns, network.OutputGradients(slopes));
        Note(shape, segments, first);
        // With this the turn passes on.
        sumLosses.StartBlocks(
            new()
            {
                Losses = windows.Losses,
                OfPanels = ofPanels.Address,
                Sums = sums!.Address,
                Turns = Turns,
                Progress = adam.ProgressAddress,
                Panels = shape.Panels,
                Steps = shape.Steps,
                Lanes = lanes,
                Chunks = chunks,
                Terms = loss.TermsPerRow(network.OutputSize),
            },
            1,
            SumThreads
        );
        adam.Clear();
        network.Backward(
            shape,
            windows.Rows,
            windows.Memory,
            windows.Activations,
            slopes,
            adam.Gradients,
            chunks
        );
    }

    private void Note(CudaShape shape, int segments, int first) =>
        noteLosses.Start(
            new()
            {
                Losses = windows.Losses,
                Weights = windows.Weights,
                Places = order!.Address,
                Turns = Turns,
                SegmentLosses = segmentLosses.Address,
                Noted = noted!.Address,
                Segments = segments,
                Steps = shape.Steps,
                Terms = loss.TermsPerRow(student.Network.OutputSize),
                IsFirst = first == 0 ? 1 : 0,
                IsLast = first + shape.Steps == books.SegmentLength ? 1 : 0,
            },
            segments
        );

    // The records of cuda/training.cu.

    private readonly record struct SegmentLoss(double Sum, double Weight);

    private readonly record struct Turn(int Start, int Batch, float Scale)
    {
        /// <summary>Whether it has a row to train on.</summary>
        public bool Counts => Scale > 0;
    }

    private struct SumArguments
    {
        public nint Losses;
        public nint OfPanels;
        public nint Sums;
        public CudaTurns Turns;
        public nint Progress;
        public int Panels;
        public int Steps;
        public int Lanes;
        public int Chunks;
        public int Terms;
    }

    private struct NoteArguments
    {
        public nint Losses;
        public CudaPanels Weights;
        public nint Places;
        public CudaTurns Turns;
        public nint SegmentLosses;
        public nint Noted;
        public int Segments;
        public int Steps;
        public int Terms;
        public int IsFirst;
        public int IsLast;
    }
}
