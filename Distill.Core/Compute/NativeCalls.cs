using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// Calls of functions in libraries that were loaded at run time, by their addresses: here, because that cannot be written without
/// pointers. What the functions do is in <c>native/distill_environment.h</c>.
/// </summary>
internal static unsafe class NativeCalls
{
    /// <summary>Calls a function that takes a simulator.</summary>
    public static void Call(nint function, nint simulator) =>
        ((delegate* unmanaged[Cdecl]<nint, void>)function)(simulator);

    /// <summary>Calls a function that takes a simulator, an environment and an episode.</summary>
    public static void Reset(nint function, nint simulator, int environment, uint episode) =>
        ((delegate* unmanaged[Cdecl]<nint, int, uint, void>)function)(simulator, environment, episode);

    /// <summary>Calls a function that writes an observation group of a range of environments; what it leaves out is NaN.</summary>
    /// <param name="observations"><c>[32, size]</c>.</param>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Observe(
        nint function,
        nint simulator,
        int first,
        int count,
        int group,
        Span<float> observations
    )
    {
        Fill(observations, float.NaN);
        fixed (float* to = observations)
            ((delegate* unmanaged[Cdecl]<nint, int, int, int, float*, void>)function)(
                simulator,
                first,
                count,
                group,
                to
            );
    }

    /// <summary>
    /// Calls a function that advances a range of environments by one step; rewards that it leaves out are NaN, ends are 0.
    /// </summary>
    /// <param name="reward"><c>[32]</c>; likewise below.</param>
    /// <param name="measures">Empty where nobody asks: the function gets NULL.</param>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Step(
        nint function,
        nint simulator,
        int first,
        int count,
        ReadOnlySpan<float> actions,
        Span<float> reward,
        Span<float> terminated,
        Span<float> truncated,
        Span<float> measures
    )
    {
        Fill(reward, float.NaN);
        Fill(terminated, 0);
        Fill(truncated, 0);
        fixed (
            float* from = actions,
                gained = reward,
                ended = terminated,
                cut = truncated,
                measured = measures
        )
            (
                (delegate* unmanaged[Cdecl]<
                    nint,
                    int,
                    int,
                    float*,
                    float*,
                    float*,
                    float*,
                    float*,
                    void>)function
            )(simulator, first, count, from, gained, ended, cut, measured);
    }

    /// <summary>Calls a function that writes the state of an environment, or takes it back.</summary>
    public static void Transfer(nint function, nint simulator, int environment, Span<byte> state)
    {
        fixed (byte* bytes = state)
            ((delegate* unmanaged[Cdecl]<nint, int, byte*, void>)function)(simulator, environment, bytes);
    }

    /// <summary>Calls a function that takes text and gives an address.</summary>
    public static nint Describe(nint function, string options)
    {
        var text = Marshal.StringToCoTaskMemUTF8(options);
        try
        {
            return ((delegate* unmanaged[Cdecl]<nint, nint>)function)(text);
        }
        finally
        {
            Marshal.FreeCoTaskMem(text);
        }
    }

    /// <summary>Calls a function that takes text, a number of environments and a seed, and gives an address.</summary>
    public static nint Create(nint function, string options, int envs, ulong seed)
    {
        var text = Marshal.StringToCoTaskMemUTF8(options);
        try
        {
            return ((delegate* unmanaged[Cdecl]<nint, int, ulong, nint>)function)(text, envs, seed);
        }
        finally
        {
            Marshal.FreeCoTaskMem(text);
        }
    }

    /// <summary>Calls a function that gives text; null where it gives none.</summary>
    public static string? Explain(nint function) =>
        Marshal.PtrToStringUTF8(((delegate* unmanaged[Cdecl]<nint>)function)());

    /// <summary>
    /// Fills rows of panels, right before a call. Libraries are mostly compiled for SSE, which is slow while the upper halves of
    /// vector registers hold something, and the runtime does not clear them for calls by address. It does where a method with such
    /// vectors ends: this one, as long as neither it nor its caller is inlined.
    /// </summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Fill(Span<float> rows, float value)
    {
        ref var first = ref MemoryMarshal.GetReference(rows);
        for (nuint i = 0; i < (nuint)rows.Length; i += (nuint)Vector256<float>.Count)
            Vector256.Create(value).StoreUnsafe(ref first, i);
    }
}
