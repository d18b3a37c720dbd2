using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Networks;
using Distill.Networks.Cuda;
using Distill.Policies.Cuda;

namespace Distill.Algorithms;

/// <summary>
/// Some steps of segments of the dataset and what the student makes of them, in the memory of a GPU: <see cref="Window"/> for many
/// panels at once.
/// </summary>
internal sealed class CudaWindow : IDisposable
{
    private readonly AggregatedDataset books;
    private readonly CudaDataset dataset;
    private readonly CudaPolicy student;
    private readonly int lanes;
    private readonly CudaBuffer<float> rows;
    private readonly CudaBuffer<float> weights;
    private readonly CudaBuffer<float> keeps;
    private readonly CudaBuffer<float>? memory;
    private readonly CudaBuffer<float> activations;
    private readonly CudaBuffer<double> losses;
    private readonly CudaKernel<GatherArguments> gather;
    private readonly CudaKernel<LossArguments> squared;
    private readonly CudaKernel<LossArguments> huber;

    /// <param name="panels">At most, as are the steps.</param>
    public CudaWindow(
        CudaDevice device,
        AggregatedDataset books,
        CudaDataset dataset,
        CudaPolicy student,
        int panels,
        int steps,
        int lanes
    )
    {
        (this.books, this.dataset, this.student, this.lanes) = (books, dataset, student, lanes);
        var samples = (long)panels * steps * lanes;
        var network = student.Network;
        rows = new(device, samples * books.Columns[1].End, "a mini-batch");
        weights = new(device, samples, "a mini-batch");
        keeps = new(device, samples, "a mini-batch");
        if (network.MemorySize > 0)
            memory = new(device, (long)panels * lanes * network.MemorySize, "a mini-batch");
        activations = new(device, samples * network.ActivationSize, "activations");
        losses = new(device, samples, "losses");
        gather = device.Kernel<GatherArguments>("gather_rows");
        squared = device.Kernel<LossArguments>("mean_squared");
        huber = device.Kernel<LossArguments>("huber");
    }

    /// <summary><c>[panels, steps, observation and label, lanes]</c>, the observations normalized.</summary>
    public CudaPanels Rows => Of(rows, books.Columns[1].End);

    /// <summary><c>[panels, steps, 1, lanes]</c>: how much each row counts.</summary>
    public CudaPanels Weights => Of(weights, 1);

    /// <summary>Of a student that has one, as it is now.</summary>
    public CudaMemory Memory =>
        memory is null ? default : new(Of(keeps, 1), Of(memory, student.Network.MemorySize));

    /// <summary><c>[panels, steps, activation size, lanes]</c>.</summary>
    public CudaPanels Activations => Of(activations, student.Network.ActivationSize);

    /// <summary><c>[panels, steps, lanes]</c>: of each row.</summary>
    public nint Losses => losses.Address;

    /// <summary>Gathers steps, and lets the student go on through them; before the first it remembers what it did.</summary>
    /// <param name="places"><c>[segments]</c>; in a pass its order.</param>
    /// <param name="turns">Of a pass; none where rows that are held out count, instead of those that are trained on.</param>
    /// <param name="first">Step.</param>
    public void Take(CudaShape shape, nint places, CudaTurns turns, int segments, int first)
    {
        gather.Start(
            new()
            {
                Chunks = dataset.Chunks,
                Places = places,
                Turns = turns,
                Mean = student.Normalizer?.Mean ?? 0,
                Scale = student.Normalizer?.Scale ?? 0,
                Rows = Rows,
                Weights = Weights,
                Keeps = Of(keeps, 1),
                Memory = Memory.Values,
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
                HeldOut = turns == default ? 1 : 0,
                FailedWeight = (float)books.FailedWeight,
            },
            shape.Samples
        );
        student.Network.Forward(shape, Rows, Memory, Activations);
    }

    /// <summary>The loss of each row.</summary>
    /// <param name="turns">As given to <see cref="Take"/>.</param>
    /// <param name="gradients"><c>[panels, steps, actions, lanes]</c>, written; 0 outside of a pass.</param>
    public void Evaluate(CudaShape shape, Loss loss, CudaTurns turns, CudaPanels gradients) =>
        (loss is Huber ? huber : squared).Start(
            new()
            {
                Outputs = student.Network.Outputs(Activations),
                Labels = Rows.From(books.Columns[1].Start),
                Gradients = gradients,
                Weights = Weights,
                Losses = Losses,
                Turns = turns,
                Samples = (uint)shape.Samples,
                Actions = books.Columns[1].Size,
                Delta = loss is Huber { Delta: var delta } ? (float)delta : 0,
            },
            shape.Samples
        );

    public void Dispose()
    {
        rows.Dispose();
        weights.Dispose();
        keeps.Dispose();
        memory?.Dispose();
        activations.Dispose();
        losses.Dispose();
    }

    private CudaPanels Of(CudaBuffer<float> buffer, int features) => CudaPanels.Of(buffer, features, lanes);

    // The records of cuda/training.cu.

    private struct GatherArguments : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) =>
            new(0, sizeof(float) * (2.0 * Features + 4) * Samples);

        public nint Chunks;
        public nint Places;
        public CudaTurns Turns;
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
        public int HeldOut;
        public float FailedWeight;
    }

    private struct LossArguments
    {
        public CudaPanels Outputs;
        public CudaPanels Labels;
        public CudaPanels Gradients;
        public CudaPanels Weights;
        public nint Losses;
        public CudaTurns Turns;
        public uint Samples;
        public int Actions;
        public float Delta;
    }
}

/// <summary>What differs from window to window of a pass, in the layout of <c>cuda/training.cu</c>.</summary>
/// <param name="All">Where the windows begin in the GPU's memory.</param>
/// <param name="Now">Where the number of the one that it is at stands.</param>
internal readonly record struct CudaTurns(nint All, nint Now);
