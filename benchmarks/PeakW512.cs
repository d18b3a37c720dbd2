using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Distill.Benchmarks;

/// <summary>What the machine can do at most with vectors of this width.</summary>
internal static class PeakW512
{
    /// <summary>Floating-point operations of one round of <see cref="MultiplyAdd"/>: 12 fused multiply-adds, two each.</summary>
    public static int OperationsPerRound => 2 * 12 * Vector512<float>.Count;

    /// <summary>
    /// Twelve chains of multiply-adds that never leave the registers: more than latency times throughput of today's
    /// processors (4 cycles x 2 per cycle), fewer than the 16 registers of AVX2.
    /// </summary>
    public static float MultiplyAdd(int rounds)
    {
        var a = Vector512.Create(0.999999f);
        var b = Vector512.Create(1e-6f);
        Vector512<float> c0 = a,
            c1 = a,
            c2 = a,
            c3 = a,
            c4 = a,
            c5 = a;
        Vector512<float> c6 = a,
            c7 = a,
            c8 = a,
            c9 = a,
            c10 = a,
            c11 = a;
        for (var i = 0; i < rounds; i++)
        {
            c0 = Vector512.FusedMultiplyAdd(c0, a, b);
            c1 = Vector512.FusedMultiplyAdd(c1, a, b);
            c2 = Vector512.FusedMultiplyAdd(c2, a, b);
            c3 = Vector512.FusedMultiplyAdd(c3, a, b);
            c4 = Vector512.FusedMultiplyAdd(c4, a, b);
            c5 = Vector512.FusedMultiplyAdd(c5, a, b);
            c6 = Vector512.FusedMultiplyAdd(c6, a, b);
            c7 = Vector512.FusedMultiplyAdd(c7, a, b);
            c8 = Vector512.FusedMultiplyAdd(c8, a, b);
            c9 = Vector512.FusedMultiplyAdd(c9, a, b);
            c10 = Vector512.FusedMultiplyAdd(c10, a, b);
            c11 = Vector512.FusedMultiplyAdd(c11, a, b);
        }
        return Vector512.Sum(c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11);
    }

    /// <summary>a = b + s c (McCalpin's triad); the lengths are multiples of 16.</summary>
    public static void Triad(Span<float> a, ReadOnlySpan<float> b, ReadOnlySpan<float> c, float s)
    {
        ref var target = ref MemoryMarshal.GetReference(a);
        ref var first = ref MemoryMarshal.GetReference(b);
        ref var second = ref MemoryMarshal.GetReference(c);
        var factor = Vector512.Create(s);
        for (nuint i = 0; i < (nuint)a.Length; i += (nuint)Vector512<float>.Count)
            Vector512
                .FusedMultiplyAdd(
                    Vector512.LoadUnsafe(ref second, i),
                    factor,
                    Vector512.LoadUnsafe(ref first, i)
                )
                .StoreUnsafe(ref target, i);
    }
}
