using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>What a policy's observations are normalized with, in the memory of a GPU.</summary>
internal sealed class CudaNormalizer : IDisposable
{
    private readonly Normalizer normalizer;
    private readonly CudaBuffer<float> mean;
    private readonly CudaBuffer<float> scale;

    public CudaNormalizer(CudaDevice device, Normalizer normalizer)
    {
        this.normalizer = normalizer;
        mean = new(device, normalizer.Size, "a normalizer");
        scale = new(device, normalizer.Size, "a normalizer");
        Upload();
    }

    /// <summary>Numbers of an observation.</summary>
    public int Size => normalizer.Size;

    public nint Mean => mean.Address;

    public nint Scale => scale.Address;

    /// <summary>Takes the statistics.</summary>
    public void Upload()
    {
        mean.Write(normalizer.Mean);
        scale.Write(normalizer.Scale);
    }

    /// <summary>Merges a batch, here and there: see <see cref="Normalizer.Merge"/>.</summary>
    public void Merge(long count, ReadOnlySpan<double> sums, ReadOnlySpan<double> squares)
    {
        normalizer.Merge(count, sums, squares);
        Upload();
    }

    public void Dispose()
    {
        mean.Dispose();
        scale.Dispose();
    }
}
