using System.Runtime.InteropServices;

namespace Distill.Environments.Native;

/// <summary>The functions of a loaded library; see <c>native/distill_environment.h</c>, whose names these are.</summary>
internal sealed class NativeFunctions
{
    // Steps and episodes are counted in 32 bits, and panels by 32: far more than any machine has room for.
    private const int MostEnvs = 1 << 24;

    private readonly string library;
    private readonly string options;
    private readonly nint handle;

    private NativeFunctions(NativeConfig config)
    {
        (library, options) = (Path.GetFullPath(config.Library), config.Options);
        handle = Open(library);
        var described = Function<Describe>("describe")(options);
        if (described == 0)
            throw Failed("describe");
        Facts = NativeFacts.Read(described, Name);
        MakeSimulator = Function<Create>("create");
        Destroy = Function<WithSimulator>("destroy");
        Reset = Function<ResetEpisode>("reset");
        Observe = Function<ObserveRange>("observe");
        Step = Function<StepRange>("step");
        if (Facts.StateBytes > 0)
            (Save, Restore) = (Function<TransferState>("save"), Function<TransferState>("load"));
    }

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate nint Describe([MarshalAs(UnmanagedType.LPUTF8Str)] string options);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate nint Create([MarshalAs(UnmanagedType.LPUTF8Str)] string options, int envs, ulong seed);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate nint Explain();

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate void WithSimulator(nint simulator);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate void ResetEpisode(nint simulator, int environment, uint episode);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate void ObserveRange(
        nint simulator,
        int first,
        int count,
        int group,
        ref float observations
    );

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate void StepRange(
        nint simulator,
        int first,
        int count,
        ref readonly float actions,
        ref float reward,
        ref float terminated,
        ref float truncated,
        ref float measures
    );

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate void TransferState(nint simulator, int environment, ref byte state);

    public NativeFacts Facts { get; }

    public WithSimulator Destroy { get; }

    public ResetEpisode Reset { get; }

    public ObserveRange Observe { get; }

    public StepRange Step { get; }

    public TransferState? Save { get; }

    public TransferState? Restore { get; }

    private Create MakeSimulator { get; }

    /// <summary>How messages call it.</summary>
    private string Name => $"The native library {library}";

    /// <summary>Loads the library, if it is not yet, and asks what it simulates.</summary>
    /// <exception cref="DistillException">It is missing, no such library, or says what cannot be.</exception>
    public static NativeFunctions Load(NativeConfig config)
    {
        if (config.Library == "")
            throw new DistillException(
                "The environment has no library; name a shared library: library=FILE."
            );
        if (config.Envs is < 1 or > MostEnvs)
            throw new DistillException(
                $"The envs of the native library {config.Library} are {config.Envs}; they must be between 1 and {MostEnvs}."
            );
        return new(config);
    }

    /// <summary>Makes a simulator, which <see cref="Destroy"/> ends.</summary>
    /// <exception cref="DistillException">The library refuses.</exception>
    public nint CreateSimulator(int envs, ulong seed)
    {
        var simulator = MakeSimulator(options, envs, seed);
        return simulator != 0 ? simulator : throw Failed("create");
    }

    private static nint Open(string path)
    {
        if (!File.Exists(path))
            throw new DistillException($"There is no native library {path}.");
        try
        {
            return NativeLibrary.Load(path);
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            // The loader of the system says what is wrong in the last line.
            var lines = e.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            throw new DistillException(
                $"{path} is no shared library for this machine ({RuntimeInformation.RuntimeIdentifier}), or lacks another one: {lines[^1]}",
                e
            );
        }
    }

    private T Function<T>(string name)
        where T : Delegate =>
        NativeLibrary.TryGetExport(handle, "distill_" + name, out var address)
            ? Marshal.GetDelegateForFunctionPointer<T>(address)
            : throw new DistillException(
                $"{Name} has no function distill_{name}; see native/distill_environment.h."
            );

    private DistillException Failed(string function)
    {
        var reason = NativeLibrary.TryGetExport(handle, "distill_error", out var address)
            ? Marshal.PtrToStringUTF8(Marshal.GetDelegateForFunctionPointer<Explain>(address)())
            : null;
        var given = options == "" ? "" : $" with the options '{options}'";
        return new($"{Name}: distill_{function} failed{given}: {reason ?? "it does not say why"}.");
    }
}
