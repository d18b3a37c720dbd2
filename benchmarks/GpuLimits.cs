using Distill.Compute.Cuda;

namespace Distill.Benchmarks;

/// <summary>What a GPU can do at most.</summary>
internal sealed class GpuLimits : IDisposable
{
    private const int Chains = 8;
    private const int CopyShare = 4;
    private const int BlockThreads = 256;

    private readonly CudaDevice device;
    private readonly CudaBuffer<float> results;
    private readonly CudaBuffer<ulong> from;
    private readonly CudaBuffer<ulong> to;
    private readonly CudaKernel<MultiplyAddArguments> multiplyAdds;
    private readonly CudaKernel<CopyArguments> copy;
    private readonly int rounds;

    public GpuLimits(CudaDevice device, Settings settings)
    {
        this.device = device;
        rounds = settings.Size(1 << 16, 2);
        // Enough threads for all multiprocessors, and arrays that fit no cache.
        results = new(device, (long)device.Multiprocessors * settings.Size(4096, 256), "a limit");
        from = new(device, settings.Size(1 << 27, 1 << 10), "a limit");
        to = new(device, from.Length, "a limit");
        multiplyAdds = device.Kernel<MultiplyAddArguments>("multiply_adds");
        copy = device.Kernel<CopyArguments>("copy_memory");
    }

    /// <summary>Multiply-adds from registers: floating-point operations per second.</summary>
    public Peak Fma =>
        new(
            "FMA",
            "FLOP/s",
            () =>
                Gpu.Seconds(
                    device,
                    () =>
                        multiplyAdds.Start(
                            new()
                            {
                                Results = results.Address,
                                Rounds = rounds,
                                Factor = 0.5f,
                                Summand = 1,
                            },
                            results.Length,
                            BlockThreads
                        )
                )
                    is var seconds
                    ? 2.0 * Chains * rounds * results.Length / seconds
                    : 0
        );

    /// <summary>A copy: bytes per second read and written.</summary>
    public Peak Memory =>
        new(
            "memory",
            "B/s",
            () =>
                2.0
                * sizeof(ulong)
                * from.Length
                / Gpu.Seconds(
                    device,
                    () =>
                        copy.Start(
                            new()
                            {
                                From = from.Address,
                                To = to.Address,
                                Length = from.Length,
                            },
                            from.Length / CopyShare,
                            BlockThreads
                        )
                )
        );

    public void Dispose()
    {
        results.Dispose();
        from.Dispose();
        to.Dispose();
    }

    // The records of cuda/limits.cu.

    private struct MultiplyAddArguments
    {
        public nint Results;
        public int Rounds;
        public float Factor;
        public float Summand;
    }

    private struct CopyArguments
    {
        public nint From;
        public nint To;
        public long Length;
    }
}
