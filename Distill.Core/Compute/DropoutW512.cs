using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>The random words of <see cref="Dropout"/>, and what they leave of values.</summary>
internal static unsafe class DropoutW512
{
    /// <summary>
    /// A random word for each lane: its key and the counter, mixed (the finalizer "lowbias32"). Words of Threefry would cost more
    /// than the attention that they are for.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Word(DropoutArguments dropout, uint counter, int lane)
    {
        var x =
            Vector512.Load(dropout.Keys + lane) + Vector512.Create((dropout.First + counter) * 0x9E3779B9u);
        x = (x ^ (x >> 16)) * Vector512.Create(0x7FEB352Du);
        x = (x ^ (x >> 15)) * Vector512.Create(0x846CA68Bu);
        return x ^ (x >> 16);
    }

    /// <summary>All bits of what the low half of a random word keeps.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Keep(Vector512<uint> word, DropoutArguments dropout) =>
        Vector512
            .GreaterThanOrEqual(
                (word & Vector512.Create(0xFFFFu)).AsInt32(),
                Vector512.Create(dropout.Threshold)
            )
            .AsSingle();

    /// <summary>The value scaled, or 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Kept(
        Vector512<float> value,
        Vector512<uint> word,
        DropoutArguments dropout
    ) => value * Vector512.Create(dropout.Scale) & Keep(word, dropout);
}
