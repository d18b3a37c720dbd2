using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>Gathers the moments of observations as <see cref="ObservationStatistics"/> does, in the memory of a GPU and with its bits.</summary>
internal sealed class CudaStatistics : IDisposable
{
    private readonly CudaNormalizer normalizer;
    private readonly int envs;
    private readonly int panels;
    private readonly CudaBuffer<double> sums;
    private readonly CudaBuffer<double> squares;
    private readonly CudaKernel<AddArguments> add;
    private readonly CudaKernel<MergeArguments> merge;

    /// <param name="envs">Number of environments that run side by side.</param>
    public CudaStatistics(CudaDevice device, CudaNormalizer normalizer, int envs)
    {
        (this.normalizer, this.envs) = (normalizer, envs);
        panels = Panel.Count(envs);
        sums = new(device, (long)panels * normalizer.Size, "statistics");
        squares = new(device, (long)panels * normalizer.Size, "statistics");
        add = device.Kernel<AddArguments>("add_deviations");
        merge = device.Kernel<MergeArguments>("merge_deviations");
    }

    /// <summary><c>[panels, features]</c>: of deviations from the normalizer's mean, and of their squares.</summary>
    public (CudaBuffer<double> Sums, CudaBuffer<double> Squares) Moments => (sums, squares);

    public void Clear()
    {
        sums.Clear();
        squares.Clear();
    }

    /// <summary>Adds the observations of all environments.</summary>
    /// <param name="observations"><c>[panels, features, 32]</c>, not normalized.</param>
    public void Add(CudaPanels observations) =>
        add.Start(
            new()
            {
                Observations = observations,
                Mean = normalizer.Mean,
                Sums = sums.Address,
                Squares = squares.Address,
                Envs = (uint)envs,
                Features = normalizer.Size,
                Panels = panels,
            },
            sums.Length
        );

    /// <summary>Merges what was gathered into the normalizer.</summary>
    /// <param name="count">How many observations that were.</param>
    public void Merge(long count)
    {
        merge.Start(
            new()
            {
                Sums = sums.Address,
                Squares = squares.Address,
                Features = normalizer.Size,
                Panels = panels,
            },
            normalizer.Size
        );
        var (first, second) = (new double[normalizer.Size], new double[normalizer.Size]);
        sums.Read(first);
        squares.Read(second);
        normalizer.Merge(count, first, second);
    }

    public void Dispose()
    {
        sums.Dispose();
        squares.Dispose();
    }

    // The records of cuda/collection.cu.

    private struct AddArguments
    {
        public CudaPanels Observations;
        public nint Mean;
        public nint Sums;
        public nint Squares;
        public uint Envs;
        public int Features;
        public int Panels;
    }

    private struct MergeArguments
    {
        public nint Sums;
        public nint Squares;
        public int Features;
        public int Panels;
    }
}
