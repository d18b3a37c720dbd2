using System.IO.Compression;
using System.Text;
using System.Text.RegularExpressions;

namespace Distill.Compute.Cuda;

/// <summary>
/// An NVIDIA GPU, by its driver alone, with the kernels of the folder <c>cuda/</c>, which the driver compiles for it when it is opened.
/// What is started runs in order; an error of a kernel shows at the latest when something is read.
/// </summary>
public sealed partial class CudaDevice : IDisposable
{
    /// <summary>Threads of a block where nothing else matters: four panels.</summary>
    public const int BlockThreads = 128;

    private const string Kernels = "kernels.ptx.gz";

    // CUDA 11.0, the first that knows the version of PTX that the kernels are in.
    private const int OldestDriver = 11_000;
    private const int OutOfMemory = 2;
    private const int MajorAttribute = 75;
    private const int MinorAttribute = 76;
    private const int MultiprocessorsAttribute = 16;
    private const int ThreadsAttribute = 39;
    private const int OldestMajor = 7;

    private readonly int device;
    private readonly nint context;
    private readonly nint module;
    private readonly string ptx;
    private bool disposed;

    /// <param name="ordinal">Of the GPUs of the machine.</param>
    /// <exception cref="DistillException">There is no driver or no GPU, or one that is too old.</exception>
    public CudaDevice(int ordinal = 0)
    {
        if (!IsAvailable)
            throw new DistillException(
                "device=cuda needs NVIDIA's driver, and there is none on this machine (libcuda.so.1); install it, or use device=cpu."
            );
        Check(CudaCalls.Init(0), "initializing the driver");
        Check(CudaCalls.DriverVersion(out var version), "asking for the driver's version");
        if (version < OldestDriver)
            throw new DistillException(
                $"NVIDIA's driver is for CUDA {version / 1000}.{version % 1000 / 10}, and Distill needs one for 11.0 or newer; update it, or use "
                    + "device=cpu."
            );
        Check(CudaCalls.DeviceCount(out var count), "counting GPUs");
        if (ordinal >= count)
            throw new DistillException(
                $"There is no GPU {ordinal}: this machine has {count}, counted from 0."
            );
        Check(CudaCalls.Device(out device, ordinal), "asking for the GPU");
        Name = CudaCalls.DeviceName(device);
        Multiprocessors = Attribute(MultiprocessorsAttribute);
        MultiprocessorThreads = Attribute(ThreadsAttribute);
        if (Attribute(MajorAttribute) < OldestMajor)
            throw new DistillException(
                $"The GPU {Name} has compute capability {Attribute(MajorAttribute)}.{Attribute(MinorAttribute)}, and Distill needs 7.0 or newer; use "
                    + "device=cpu."
            );
        Check(CudaCalls.RetainContext(out context, device), "opening the GPU");
        Use();
        ptx = ReadKernels();
        Check(CudaCalls.LoadModule(out module, Encoding.ASCII.GetBytes(ptx + '\0')), "compiling the kernels");
    }

    /// <summary>Whether NVIDIA's driver is on this machine.</summary>
    public static bool IsAvailable => CudaCalls.IsInstalled;

    /// <summary>As its maker calls it.</summary>
    public string Name { get; }

    /// <summary>Groups of cores that each run blocks of their own.</summary>
    public int Multiprocessors { get; }

    /// <summary>Threads that one of these can hold.</summary>
    public int MultiprocessorThreads { get; }

    /// <summary>Kernels, or graphs of them, started since the device was opened.</summary>
    public long Launches { get; private set; }

    /// <summary>Bytes copied between the GPU's memory and the machine's since the device was opened, both ways together.</summary>
    public long BusBytes { get; private set; }

    /// <summary>Where kernels go: the default stream, which is 0, or that of a <see cref="CudaGraph"/> that is being made.</summary>
    internal nint Stream { get; set; }

    /// <summary>Whether there are graphs; not for tests that compare, nor where each kernel is timed.</summary>
    internal bool MakesGraphs
    {
        get => field && Profile is null;
        set;
    } = true;

    /// <summary>Whether steps of rollouts may be one kernel; for tests.</summary>
    internal bool JoinsSteps { get; set; } = true;

    /// <summary>What takes kernels in place of starting them; null while they are started.</summary>
    internal CudaSteps? Steps { get; set; }

    /// <summary>What times each kernel, one at a time; null for none, which is much faster.</summary>
    internal CudaProfile? Profile { get; set; }

    /// <summary>Memory in bytes.</summary>
    public (long Free, long Total) Memory
    {
        get
        {
            Check(CudaCalls.MemoryInfo(out var free, out var total), "asking for the memory");
            return ((long)free, (long)total);
        }
    }

    /// <summary>The text of the kernels, PTX.</summary>
    internal static string ReadKernels()
    {
        using var resource = typeof(CudaDevice).Assembly.GetManifestResourceStream(Kernels)!;
        using var text = new StreamReader(new GZipStream(resource, CompressionMode.Decompress));
        return text.ReadToEnd();
    }

    /// <summary>Lets the calling thread use the device.</summary>
    public void Use() => Check(CudaCalls.SetContext(context), "using the GPU");

    /// <summary>Waits until all that was started is done.</summary>
    /// <exception cref="DistillException">A kernel failed.</exception>
    public void Synchronize() => Check(CudaCalls.Synchronize(), "waiting for a kernel");

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        // After an error neither is possible, and neither is needed.
        _ = CudaCalls.UnloadModule(module);
        _ = CudaCalls.ReleaseContext(device);
    }

    /// <summary>Finds a kernel.</summary>
    /// <typeparam name="T">The record that is its argument, in the layout of its source.</typeparam>
    internal CudaKernel<T> Kernel<T>(string name)
        where T : unmanaged
    {
        Check(CudaCalls.Function(out var function, module, name), $"looking for the kernel {name}");
        var size = ArgumentSize().Matches(ptx).Single(match => match.Groups["name"].Value == name);
        return new CudaKernel<T>(this, name, function, int.Parse(size.Groups["bytes"].Value));
    }

    /// <summary>Makes room for so many numbers; what was there is lost where there was less.</summary>
    /// <param name="what">For messages: what they are.</param>
    internal void Reserve<T>(ref CudaBuffer<T>? buffer, long length, string what)
        where T : unmanaged
    {
        if (buffer is not null && buffer.Length >= length)
            return;
        buffer?.Dispose();
        buffer = new(this, length, what);
    }

    internal void CountLaunch()
    {
        if (Stream == 0)
            Launches++;
    }

    internal void CountBus(long bytes) => BusBytes += bytes;

    /// <exception cref="DistillException">There was an error.</exception>
    internal void Check(int error, string doing)
    {
        if (error == OutOfMemory)
            throw new DistillException(
                $"The GPU's memory is not enough for {doing}; lower envs, max_buffer_size or mini_batch_size (of PPO "
                    + "envs or steps_per_env)."
            );
        if (error != 0)
            throw new DistillException(
                $"The GPU {Name ?? "driver"} failed in {doing}: {CudaCalls.Describe(error)} (CUDA error {error})."
            );
    }

    private int Attribute(int attribute)
    {
        Check(CudaCalls.DeviceAttribute(out var value, attribute, device), "asking for the GPU's properties");
        return value;
    }

    [GeneratedRegex(@"\.param \.align \d+ \.b8 (?<name>\w+)_param_0\[(?<bytes>\d+)\]")]
    private static partial Regex ArgumentSize();
}
