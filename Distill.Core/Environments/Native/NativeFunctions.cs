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

    private readonly nint create;
    private readonly nint destroy;
    private readonly nint reset;
    private readonly nint observe;
    private readonly nint step;
    private readonly nint save;
    private readonly nint load;

    private NativeFunctions(NativeConfig config)
    {
        (library, options) = (Path.GetFullPath(config.Library), config.Options);
        handle = Open(library);
        var described = NativeCalls.Describe(Address("describe"), options);
        if (described == 0)
            throw Failed("describe");
        Facts = NativeFacts.Read(described, Name);
        (create, destroy) = (Address("create"), Address("destroy"));
        (reset, observe, step) = (Address("reset"), Address("observe"), Address("step"));
        if (Facts.StateBytes > 0)
            (save, load) = (Address("save"), Address("load"));
    }

    public NativeFacts Facts { get; }

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
    public nint Create(int envs, ulong seed)
    {
        var simulator = NativeCalls.Create(create, options, envs, seed);
        return simulator != 0 ? simulator : throw Failed("create");
    }

    public void Destroy(nint simulator) => NativeCalls.Call(destroy, simulator);

    public void Reset(nint simulator, int environment, int episode) =>
        NativeCalls.Reset(reset, simulator, environment, (uint)episode);

    /// <param name="observations"><c>[count, size of the group]</c>.</param>
    public void Observe(nint simulator, int first, int count, int group, Span<float> observations) =>
        NativeCalls.Observe(observe, simulator, first, count, group, observations);

    /// <param name="actions"><c>[count, action floats]</c>.</param>
    /// <param name="measures"><c>[count, measures]</c>, or empty where nobody asks.</param>
    public void Step(
        nint simulator,
        int first,
        int count,
        ReadOnlySpan<float> actions,
        StepOutcome outcome,
        Span<float> measures
    ) =>
        NativeCalls.Step(
            step,
            simulator,
            first,
            count,
            actions,
            outcome.Reward,
            outcome.Terminated,
            outcome.Truncated,
            measures
        );

    /// <param name="state"><c>[state bytes]</c>.</param>
    public void Save(nint simulator, int environment, Span<byte> state) =>
        NativeCalls.Transfer(save, simulator, environment, state);

    /// <inheritdoc cref="Save"/>
    public void Restore(nint simulator, int environment, Span<byte> state) =>
        NativeCalls.Transfer(load, simulator, environment, state);

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

    private nint Address(string function) =>
        NativeLibrary.TryGetExport(handle, "distill_" + function, out var address)
            ? address
            : throw new DistillException(
                $"{Name} has no function distill_{function}; see native/distill_environment.h."
            );

    private DistillException Failed(string function)
    {
        var reason = NativeLibrary.TryGetExport(handle, "distill_error", out var address)
            ? NativeCalls.Explain(address)
            : null;
        var given = options == "" ? "" : $" with the options '{options}'";
        return new($"{Name}: distill_{function} failed{given}: {reason ?? "it does not say why"}.");
    }
}
