namespace Distill.Compute.Cuda;

/// <summary>
/// Kernels, and memory that is cleared, started as one: for short kernels, which take longer to start than to run. They are taken down
/// once with their arguments; what changes from one start to the next they find in the GPU's memory.
/// </summary>
internal sealed class CudaGraph : IDisposable
{
    // Of cuda.h. The default stream, which all else goes to, cannot be captured. The graph is started there, in order with all else, so
    // that the stream it is made on needs no order with any other, and others may work while it is made.
    private const uint NonBlocking = 1;
    private const int OfThisThread = 1;

    private readonly CudaDevice device;
    private readonly nint executable;
    private bool disposed;

    /// <param name="work">Starts all that the graph is to have, on this device, and nothing else.</param>
    /// <exception cref="DistillException">The driver refuses.</exception>
    public CudaGraph(CudaDevice device, Action work)
    {
        this.device = device;
        var graph = Capture(device, work);
        var error = CudaCalls.Instantiate(out executable, graph);
        _ = CudaCalls.DestroyGraph(graph);
        device.Check(error, "making a graph");
    }

    /// <summary>Starts all of it, as one launch.</summary>
    /// <exception cref="DistillException">A kernel failed.</exception>
    public void Start()
    {
        device.Check(CudaCalls.LaunchGraph(executable, 0), "a graph of kernels");
        device.CountLaunch();
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        _ = CudaCalls.DestroyExecutable(executable);
    }

    private static nint Capture(CudaDevice device, Action work)
    {
        const string Doing = "making a graph";
        device.Check(CudaCalls.CreateStream(out var stream, NonBlocking), Doing);
        try
        {
            device.Check(CudaCalls.BeginCapture(stream, OfThisThread), Doing);
            device.Stream = stream;
            nint graph;
            int error;
            try
            {
                work();
            }
            finally
            {
                device.Stream = 0;
                error = CudaCalls.EndCapture(stream, out graph);
            }
            device.Check(error, Doing);
            return graph;
        }
        finally
        {
            _ = CudaCalls.DestroyStream(stream);
        }
    }
}
