using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Networks;
using Distill.Networks.Cuda;
using Distill.Policies.Cuda;

namespace Distill.Algorithms;

/// <summary>The sums of <see cref="HeldOutLoss"/> in the memory of a GPU, with its bits.</summary>
internal sealed class CudaHeldOutLoss : IDisposable
{
    // At a time.
    private const int Panels = 64;

    private readonly CudaDevice device;
    private readonly AggregatedDataset books;
    private readonly CudaPolicy student;
    private readonly CudaWindow windows;
    private readonly CudaBuffer<float> unused;
    private readonly CudaKernel<SumArguments> sum;
    private CudaBuffer<int>? places;
    private CudaBuffer<double>? sums;

    public CudaHeldOutLoss(
        CudaDevice device,
        AggregatedDataset books,
        CudaDataset dataset,
        CudaPolicy student
    )
    {
        (this.device, this.books, this.student) = (device, books, student);
        var steps = Math.Min(AggregatedDataset.StepsAtATime, books.SegmentLength);
        windows = new(device, books, dataset, student, Panels, steps, Panel.Width);
        unused = new(device, (long)Panels * steps * Panel.Width * student.Network.OutputSize, "losses");
        sum = device.Kernel<SumArguments>("sum_held_out");
    }

    /// <summary>The sum of the weighted loss over the rows that are held out, for each 32 of some segments.</summary>
    /// <param name="sums"><c>[panels]</c>, written.</param>
    public void Sum(Loss loss, ReadOnlySpan<int> segments, Span<double> sums)
    {
        if (segments.IsEmpty)
            return;
        device.Reserve(ref places, books.Capacity / books.SegmentLength, "losses");
        device.Reserve(ref this.sums, (places!.Length + Panel.Width - 1) / Panel.Width, "losses");
        places.Write(segments);
        this.sums!.Clear();
        for (var first = 0; first < segments.Length; first += Panels * Panel.Width)
            Sum(loss, first, Math.Min(Panels * Panel.Width, segments.Length - first));
        this.sums.Read(sums);
    }

    public void Dispose()
    {
        windows.Dispose();
        unused.Dispose();
        places?.Dispose();
        sums?.Dispose();
    }

    /// <param name="start">Of the segments.</param>
    private void Sum(Loss loss, int start, int segments)
    {
        var panels = Panel.Count(segments);
        for (var first = 0; first < books.SegmentLength; first += AggregatedDataset.StepsAtATime)
        {
            var steps = Math.Min(AggregatedDataset.StepsAtATime, books.SegmentLength - first);
            var shape = new CudaShape(panels, steps, Panel.Width);
            windows.Take(shape, places!.Address + start * sizeof(int), default, segments, first);
            windows.Evaluate(shape, loss, default, CudaPanels.Of(unused, student.Network.OutputSize));
            sum.Start(
                new()
                {
                    Losses = windows.Losses,
                    Sums = sums!.Address + start / Panel.Width * sizeof(double),
                    Panels = panels,
                    Steps = steps,
                    Lanes = Panel.Width,
                },
                panels
            );
        }
    }

    // The record of cuda/training.cu.
    private struct SumArguments
    {
        public nint Losses;
        public nint Sums;
        public int Panels;
        public int Steps;
        public int Lanes;
    }
}
