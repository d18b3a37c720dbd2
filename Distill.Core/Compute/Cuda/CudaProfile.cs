namespace Distill.Compute.Cuda;

/// <summary>How much the record of a kernel asks of it; for what benchmarks hold against the card's limits.</summary>
internal interface ICudaWork
{
    CudaWork WorkOf(long blocks);
}

/// <summary>What a kernel has to do, if it does nothing twice.</summary>
/// <param name="Operations">Additions and multiplications of floating-point numbers; 0 where they are not what limits it.</param>
/// <param name="Bytes">Read from the GPU's memory and written to it.</param>
internal readonly record struct CudaWork(double Operations, double Bytes);

/// <summary>What one kernel came to.</summary>
/// <param name="Occupancy">Share of the threads that a multiprocessor can hold, where blocks are many.</param>
/// <param name="SpilledBytes">Of each thread, kept in memory for want of registers.</param>
/// <param name="Work">Of all launches; 0 where it is not known.</param>
internal sealed record CudaKernelProfile(
    string Name,
    long Launches,
    double Seconds,
    int Registers,
    int SharedBytes,
    int SpilledBytes,
    double Occupancy,
    CudaWork Work
);

/// <summary>
/// Times each kernel by the GPU's own clock while it is a device's <see cref="CudaDevice.Profile"/>. Each waits for the one before, so
/// that it has the GPU for itself.
/// </summary>
internal sealed class CudaProfile : IDisposable
{
    // Of cuda.h.
    private const int SharedAttribute = 1;
    private const int LocalAttribute = 3;
    private const int RegistersAttribute = 4;

    private readonly CudaDevice device;
    private readonly nint start;
    private readonly nint end;
    private readonly Dictionary<string, CudaKernelProfile> kernels = [];

    public CudaProfile(CudaDevice device)
    {
        this.device = device;
        device.Check(CudaCalls.CreateEvent(out start, 0), "making a clock");
        device.Check(CudaCalls.CreateEvent(out end, 0), "making a clock");
    }

    /// <summary>The longest first.</summary>
    public IReadOnlyList<CudaKernelProfile> Kernels =>
        [.. kernels.Values.OrderByDescending(kernel => kernel.Seconds)];

    public void Dispose()
    {
        _ = CudaCalls.DestroyEvent(start);
        _ = CudaCalls.DestroyEvent(end);
    }

    internal void Begin() => device.Check(CudaCalls.Record(start, 0), "starting a clock");

    internal void End(string name, nint function, int threads, CudaWork work)
    {
        device.Check(CudaCalls.Record(end, 0), "stopping a clock");
        device.Check(CudaCalls.WaitFor(end), $"the kernel {name}");
        device.Check(CudaCalls.ElapsedTime(out var milliseconds, start, end), "reading a clock");
        if (!kernels.TryGetValue(name, out var known))
            known = Properties(name, function, threads);
        kernels[name] = known with
        {
            Launches = known.Launches + 1,
            Seconds = known.Seconds + milliseconds / 1000,
            Work = new(known.Work.Operations + work.Operations, known.Work.Bytes + work.Bytes),
        };
    }

    private CudaKernelProfile Properties(string name, nint function, int threads)
    {
        device.Check(
            CudaCalls.BlocksAtOnce(out var blocks, function, threads, 0),
            "asking for the occupancy"
        );
        return new(
            name,
            0,
            0,
            Attribute(RegistersAttribute),
            Attribute(SharedAttribute),
            Attribute(LocalAttribute),
            (double)blocks * threads / device.MultiprocessorThreads,
            default
        );

        int Attribute(int attribute)
        {
            device.Check(
                CudaCalls.FunctionAttribute(out var value, attribute, function),
                "asking for a kernel's properties"
            );
            return value;
        }
    }
}
