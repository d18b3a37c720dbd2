using System.Reflection;
using System.Runtime.InteropServices;

namespace Distill.Compute.Cuda;

/// <summary>
/// The functions of NVIDIA's driver that are used: here, because that cannot be written without pointers. What they do is in
/// <c>cuda.h</c>. Each returns 0, or an error.
/// </summary>
internal static unsafe class CudaCalls
{
    /// <summary>A file to load in place of the driver: the emulated one of the tests.</summary>
    public const string Variable = "DISTILL_CUDA_DRIVER";

    private const string Library = "libcuda.so.1";
    private const string WindowsLibrary = "nvcuda.dll";

    static CudaCalls() => NativeLibrary.SetDllImportResolver(typeof(CudaCalls).Assembly, Resolve);

    /// <summary>Whether there is a driver.</summary>
    public static bool IsInstalled => Find(out _);

    [DllImport(Library, EntryPoint = "cuInit")]
    public static extern int Init(uint flags);

    [DllImport(Library, EntryPoint = "cuDriverGetVersion")]
    public static extern int DriverVersion(out int version);

    [DllImport(Library, EntryPoint = "cuDeviceGetCount")]
    public static extern int DeviceCount(out int count);

    [DllImport(Library, EntryPoint = "cuDeviceGet")]
    public static extern int Device(out int device, int ordinal);

    [DllImport(Library, EntryPoint = "cuDeviceGetAttribute")]
    public static extern int DeviceAttribute(out int value, int attribute, int device);

    [DllImport(Library, EntryPoint = "cuDevicePrimaryCtxRetain")]
    public static extern int RetainContext(out nint context, int device);

    [DllImport(Library, EntryPoint = "cuDevicePrimaryCtxRelease_v2")]
    public static extern int ReleaseContext(int device);

    [DllImport(Library, EntryPoint = "cuCtxSetCurrent")]
    public static extern int SetContext(nint context);

    [DllImport(Library, EntryPoint = "cuCtxSynchronize")]
    public static extern int Synchronize();

    [DllImport(Library, EntryPoint = "cuModuleUnload")]
    public static extern int UnloadModule(nint module);

    [DllImport(Library, EntryPoint = "cuMemGetInfo_v2")]
    public static extern int MemoryInfo(out nuint free, out nuint total);

    [DllImport(Library, EntryPoint = "cuMemAlloc_v2")]
    public static extern int Allocate(out nint address, nuint bytes);

    [DllImport(Library, EntryPoint = "cuMemFree_v2")]
    public static extern int Free(nint address);

    [DllImport(Library, EntryPoint = "cuMemcpyDtoD_v2")]
    public static extern int CopyWithin(nint to, nint from, nuint bytes);

    [DllImport(Library, EntryPoint = "cuMemsetD32Async")]
    public static extern int Fill(nint to, uint value, nuint count, nint stream);

    [DllImport(Library, EntryPoint = "cuStreamCreate")]
    public static extern int CreateStream(out nint stream, uint flags);

    [DllImport(Library, EntryPoint = "cuStreamDestroy_v2")]
    public static extern int DestroyStream(nint stream);

    [DllImport(Library, EntryPoint = "cuStreamBeginCapture_v2")]
    public static extern int BeginCapture(nint stream, int mode);

    [DllImport(Library, EntryPoint = "cuStreamEndCapture")]
    public static extern int EndCapture(nint stream, out nint graph);

    [DllImport(Library, EntryPoint = "cuGraphLaunch")]
    public static extern int LaunchGraph(nint executable, nint stream);

    [DllImport(Library, EntryPoint = "cuGraphExecDestroy")]
    public static extern int DestroyExecutable(nint executable);

    [DllImport(Library, EntryPoint = "cuGraphDestroy")]
    public static extern int DestroyGraph(nint graph);

    [DllImport(Library, EntryPoint = "cuFuncGetAttribute")]
    public static extern int FunctionAttribute(out int value, int attribute, nint function);

    [DllImport(Library, EntryPoint = "cuOccupancyMaxActiveBlocksPerMultiprocessor")]
    public static extern int BlocksAtOnce(out int blocks, nint function, int threads, nuint sharedBytes);

    [DllImport(Library, EntryPoint = "cuEventCreate")]
    public static extern int CreateEvent(out nint created, uint flags);

    [DllImport(Library, EntryPoint = "cuEventRecord")]
    public static extern int Record(nint recorded, nint stream);

    [DllImport(Library, EntryPoint = "cuEventSynchronize")]
    public static extern int WaitFor(nint recorded);

    [DllImport(Library, EntryPoint = "cuEventElapsedTime")]
    public static extern int ElapsedTime(out float milliseconds, nint start, nint end);

    [DllImport(Library, EntryPoint = "cuEventDestroy_v2")]
    public static extern int DestroyEvent(nint created);

    public static string DeviceName(int device)
    {
        const int Length = 256;
        var name = stackalloc byte[Length];
        return DeviceName(name, Length, device) == 0
            ? Marshal.PtrToStringUTF8((nint)name)!
            : "unknown device";
    }

    /// <param name="image">PTX, ended by a 0.</param>
    public static int LoadModule(out nint module, ReadOnlySpan<byte> image)
    {
        fixed (byte* text = image)
            return LoadModule(out module, text);
    }

    public static int Function(out nint function, nint module, string name)
    {
        Span<byte> text = stackalloc byte[System.Text.Encoding.UTF8.GetMaxByteCount(name.Length) + 1];
        text.Clear();
        System.Text.Encoding.UTF8.GetBytes(name, text);
        fixed (byte* pointer = text)
            return Function(out function, module, pointer);
    }

    public static int CopyTo<T>(nint to, ReadOnlySpan<T> from)
        where T : unmanaged
    {
        fixed (T* pointer = from)
            return CopyTo(to, pointer, (nuint)from.Length * (nuint)sizeof(T));
    }

    public static int CopyFrom<T>(Span<T> to, nint from)
        where T : unmanaged
    {
        fixed (T* pointer = to)
            return CopyFrom(pointer, from, (nuint)to.Length * (nuint)sizeof(T));
    }

    /// <summary>Makes a graph ready to be launched.</summary>
    public static int Instantiate(out nint executable, nint graph) =>
        Instantiate(out executable, graph, null, null, 0);

    /// <summary>Starts a kernel whose one argument is a record.</summary>
    public static int Launch<T>(nint function, uint blocks, uint threads, nint stream, in T arguments)
        where T : unmanaged
    {
        fixed (T* pointer = &arguments)
        {
            var given = (void*)pointer;
            return Launch(function, blocks, 1, 1, threads, 1, 1, 0, stream, &given, null);
        }
    }

    /// <summary>What an error is called.</summary>
    public static string Describe(int error) =>
        ErrorString(error, out var text) == 0 && text != 0
            ? Marshal.PtrToStringUTF8(text)!
            : $"error {error}";

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path) =>
        name == Library && Find(out var library) ? library : 0;

    private static bool Find(out nint library)
    {
        var given = Environment.GetEnvironmentVariable(Variable);
        return string.IsNullOrEmpty(given)
            ? NativeLibrary.TryLoad(OperatingSystem.IsWindows() ? WindowsLibrary : Library, out library)
            : NativeLibrary.TryLoad(given, out library);
    }

    [DllImport(Library, EntryPoint = "cuDeviceGetName")]
    private static extern int DeviceName(byte* name, int length, int device);

    [DllImport(Library, EntryPoint = "cuModuleLoadData")]
    private static extern int LoadModule(out nint module, byte* image);

    [DllImport(Library, EntryPoint = "cuModuleGetFunction")]
    private static extern int Function(out nint function, nint module, byte* name);

    [DllImport(Library, EntryPoint = "cuMemcpyHtoD_v2")]
    private static extern int CopyTo(nint to, void* from, nuint bytes);

    [DllImport(Library, EntryPoint = "cuMemcpyDtoH_v2")]
    private static extern int CopyFrom(void* to, nint from, nuint bytes);

    // Which the oldest drivers have, too, unlike those that came after it.
    [DllImport(Library, EntryPoint = "cuGraphInstantiate_v2")]
    private static extern int Instantiate(
        out nint executable,
        nint graph,
        nint* failed,
        byte* log,
        nuint logBytes
    );

    [DllImport(Library, EntryPoint = "cuLaunchKernel")]
    private static extern int Launch(
        nint function,
        uint blocksX,
        uint blocksY,
        uint blocksZ,
        uint threadsX,
        uint threadsY,
        uint threadsZ,
        uint sharedBytes,
        nint stream,
        void** arguments,
        void** extra
    );

    [DllImport(Library, EntryPoint = "cuGetErrorString")]
    private static extern int ErrorString(int error, out nint text);
}
