using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Networks;
using Distill.Networks.Cuda;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The steps of <see cref="StudentTrainer"/> in the memory of a GPU, with its bits. The machine sends the order of a pass, 4 bytes a
/// segment, and is told at the end what each mini-batch and each segment came to. Where a loss or a gradient is not finite, the steps
/// after it change nothing.
/// </summary>
internal sealed class CudaTrainer : IDisposable
{
    private const int SumThreads = 256;

    private readonly CudaDevice device;
    private readonly AggregatedDataset books;
    private readonly CudaDataset dataset;
    private readonly CudaPolicy student;
    private readonly CudaAdam adam;
    private readonly int lanes;
    private readonly int labels;
    private readonly int longest;
    private readonly CudaBuffer<float> rows;
    private readonly CudaBuffer<float> weights;
    private readonly CudaBuffer<float> keeps;
    private readonly CudaBuffer<float>? memory;
    private readonly CudaBuffer<float> activations;
    private readonly CudaBuffer<float> gradients;
    private readonly CudaBuffer<double> losses;
    private readonly CudaBuffer<double> ofPanels;
    private readonly CudaBuffer<SegmentLoss> segmentLosses;
    private readonly CudaKernel<GatherArguments> gather;
    private readonly CudaKernel<LossArguments> squared;
    private readonly CudaKernel<LossArguments> huber;
    private readonly CudaKernel<SumArguments> sumLosses;
    private readonly CudaKernel<NoteArguments> noteLosses;

    // As large as the dataset and as the number of mini-batches.
    private CudaBuffer<int>? order;
    private CudaBuffer<float>? noted;
    private CudaBuffer<double>? sums;
    private float[] lossOf = [];
    private double[] sumOf = [];

    // The settings in force.
    private Loss loss;
    private int window;

    // Of the training that is going on.
    private int batches;
    private double weight;

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
        (this.device, this.books, this.dataset, this.student, this.loss) = (
            device,
            books,
            dataset,
            student,
            loss
        );
        this.longest = Math.Min(longest, books.SegmentLength);
        window = this.longest;
        lanes = StudentTrainer.WidthOf(batch, books.SegmentLength);
        labels = books.Columns[1].Size;
        var panels = StudentTrainer.PanelsOf(batch, lanes);
        var samples = (long)panels * this.longest * lanes;
        var network = student.Network;
        adam = new(device, network, optimizer, StudentTrainer.Chunks(panels, books.SegmentLength));
        rows = new(device, samples * books.Columns[1].End, "a mini-batch");
        weights = new(device, samples, "a mini-batch");
        keeps = new(device, samples, "a mini-batch");
        if (network.MemorySize > 0)
            memory = new(device, (long)panels * lanes * network.MemorySize, "a mini-batch");
        activations = new(device, samples * network.ActivationSize, "activations");
        gradients = new(device, samples * network.GradientSize, "gradients");
        losses = new(device, samples, "losses");
        ofPanels = new(device, panels, "losses");
        segmentLosses = new(device, (long)panels * lanes, "losses");
        gather = device.Kernel<GatherArguments>("gather_rows");
        squared = device.Kernel<LossArguments>("mean_squared");
        huber = device.Kernel<LossArguments>("huber");
        sumLosses = device.Kernel<SumArguments>("sum_losses");
        noteLosses = device.Kernel<NoteArguments>("note_losses");
    }

    /// <summary>Goes on with these settings.</summary>
    /// <param name="gradientLength">Steps of back-propagation through time.</param>
    public void Use(Loss loss, int gradientLength) =>
        (this.loss, window) = (loss, Math.Min(gradientLength, longest));

    /// <summary>Makes room for passes over all that is held.</summary>
    /// <param name="mostBatches">Mini-batches of all passes.</param>
    public void Begin(long mostBatches)
    {
        var room = (int)(books.Capacity / books.SegmentLength);
        Reserve(ref order, room, "an order");
        Reserve(ref noted, room, "losses");
        Reserve(ref sums, Math.Max(1, mostBatches), "losses");
        if (lossOf.Length < room)
            lossOf = new float[room];
        if (sumOf.Length < mostBatches)
            sumOf = new double[mostBatches];
        sums!.Clear();
        (batches, weight) = (0, 0);
    }

    /// <summary>One pass.</summary>
    /// <param name="segments">The order of the segments; not all, where some are drawn more often.</param>
    /// <param name="size">Segments of a mini-batch.</param>
    public void Pass(ReadOnlySpan<int> segments, int size)
    {
        order!.Write(segments);
        for (var start = 0; start < segments.Length; start += size)
            Train(segments[start..Math.Min(start + size, segments.Length)], start);
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
        rows.Dispose();
        weights.Dispose();
        keeps.Dispose();
        memory?.Dispose();
        activations.Dispose();
        gradients.Dispose();
        losses.Dispose();
        ofPanels.Dispose();
        segmentLosses.Dispose();
        order?.Dispose();
        noted?.Dispose();
        sums?.Dispose();
    }

    /// <summary>The windows of one mini-batch.</summary>
    /// <param name="start">Where it begins in the order.</param>
    private void Train(ReadOnlySpan<int> batch, int start)
    {
        var panels = StudentTrainer.PanelsOf(batch.Length, lanes);
        var chunks = StudentTrainer.Chunks(panels, books.SegmentLength);
        for (var first = 0; first < books.SegmentLength; first += window)
        {
            var steps = Math.Min(window, books.SegmentLength - first);
            var shape = new CudaShape(panels, steps, lanes);
            var places = order!.Address + start * sizeof(int);
            var counted = books.Weight(batch, first, first + steps);
            weight += counted;
            Gather(shape, places, batch.Length, first);
            Learn(shape, chunks, counted);
            Note(shape, places, batch.Length, first);
            if (counted > 0)
                adam.Step(chunks);
        }
        batches++;
    }

    private void Gather(CudaShape shape, nint places, int segments, int first) =>
        gather.Start(
            new()
            {
                Chunks = dataset.Chunks,
                Places = places,
                Mean = student.Normalizer?.Mean ?? 0,
                Scale = student.Normalizer?.Scale ?? 0,
                Rows = Of(rows, books.Columns[1].End),
                Weights = Of(weights, 1),
                Keeps = Of(keeps, 1),
                Memory = memory is null ? default : Of(memory, student.Network.MemorySize),
                Samples = (uint)shape.Samples,
                Segments = segments,
                ChunkSegments = books.ChunkSegments,
                SegmentLength = books.SegmentLength,
                Columns = books.Columns.Size,
                Observation = books.Columns[0].Size,
                Features = books.Columns[1].End,
                MemorySize = student.Network.MemorySize,
                First = first,
                Steps = shape.Steps,
            },
            shape.Samples
        );

    /// <summary>Forward, loss and backward of one window.</summary>
    /// <param name="counted">Weights of its rows.</param>
    private void Learn(CudaShape shape, int chunks, double counted)
    {
        var network = student.Network;
        var (inputs, kept) = (Of(rows, books.Columns[1].End), Of(activations, network.ActivationSize));
        var slopes = Of(gradients, network.GradientSize);
        var remembered = memory is null
            ? default
            : new CudaMemory(Of(keeps, 1), Of(memory, network.MemorySize));
        network.Forward(shape, inputs, remembered, kept);
        var arguments = new LossArguments
        {
            Outputs = network.Outputs(kept),
            Labels = inputs.From(books.Columns[1].Start),
            Gradients = network.OutputGradients(slopes),
            Weights = Of(weights, 1),
            Losses = losses.Address,
            Samples = (uint)shape.Samples,
            Actions = labels,
            // A window without a row to train on has nothing to teach, but its memory must still be carried on.
            Scale = counted == 0 ? 0 : 1f / ((float)counted * labels),
            Delta = loss is Huber { Delta: var delta } ? (float)delta : 0,
        };
        (loss is Huber ? huber : squared).Start(arguments, shape.Samples);
        sumLosses.StartBlocks(
            new()
            {
                Losses = losses.Address,
                OfPanels = ofPanels.Address,
                Sum = sums!.Address + batches * sizeof(double),
                Progress = adam.ProgressAddress,
                Panels = shape.Panels,
                Steps = shape.Steps,
                Lanes = lanes,
                Chunks = chunks,
                Terms = labels,
            },
            1,
            SumThreads
        );
        adam.Clear();
        network.Backward(shape, inputs, remembered, kept, slopes, adam.Gradients, chunks);
    }

    private void Note(CudaShape shape, nint places, int segments, int first) =>
        noteLosses.Start(
            new()
            {
                Losses = losses.Address,
                Weights = Of(weights, 1),
                Places = places,
                SegmentLosses = segmentLosses.Address,
                Noted = noted!.Address,
                Segments = segments,
                Steps = shape.Steps,
                Terms = labels,
                IsFirst = first == 0 ? 1 : 0,
                IsLast = first + shape.Steps == books.SegmentLength ? 1 : 0,
            },
            segments
        );

    private CudaPanels Of(CudaBuffer<float> buffer, int features) => CudaPanels.Of(buffer, features, lanes);

    private void Reserve<T>(ref CudaBuffer<T>? buffer, long length, string what)
        where T : unmanaged
    {
        if (buffer is not null && buffer.Length >= length)
            return;
        buffer?.Dispose();
        buffer = new(device, length, what);
    }

    // The records of cuda/training.cu.

    private readonly record struct SegmentLoss(double Sum, double Weight);

    private struct GatherArguments : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) =>
            new(0, sizeof(float) * (2.0 * Features + 4) * Samples);

        public nint Chunks;
        public nint Places;
        public nint Mean;
        public nint Scale;
        public CudaPanels Rows;
        public CudaPanels Weights;
        public CudaPanels Keeps;
        public CudaPanels Memory;
        public uint Samples;
        public int Segments;
        public int ChunkSegments;
        public int SegmentLength;
        public int Columns;
        public int Observation;
        public int Features;
        public int MemorySize;
        public int First;
        public int Steps;
    }

    private struct LossArguments
    {
        public CudaPanels Outputs;
        public CudaPanels Labels;
        public CudaPanels Gradients;
        public CudaPanels Weights;
        public nint Losses;
        public uint Samples;
        public int Actions;
        public float Scale;
        public float Delta;
    }

    private struct SumArguments
    {
        public nint Losses;
        public nint OfPanels;
        public nint Sum;
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
        public nint SegmentLosses;
        public nint Noted;
        public int Segments;
        public int Steps;
        public int Terms;
        public int IsFirst;
        public int IsLast;
    }
}
