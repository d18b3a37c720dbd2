using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// The counter-based generator behind every random number: Threefry-4x32 with 20 rounds (Salmon et al., "Parallel random
/// numbers: as easy as 1, 2, 3", SC11), chosen over Philox because it needs no widening multiplication.
/// </summary>
internal sealed class RandomW512 : RandomKernels
{
    /// <summary>Encrypts one counter per lane; x0..x3 hold the counter on entry and four random words on return.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Bits(
        RandomStream stream,
        ref Vector512<uint> x0,
        ref Vector512<uint> x1,
        ref Vector512<uint> x2,
        ref Vector512<uint> x3
    )
    {
        var k0 = Vector512.Create(stream.Key0);
        var k1 = Vector512.Create(stream.Key1);
        var k2 = Vector512.Create(stream.Key2);
        var k3 = Vector512.Create(stream.Key3);
        var k4 = k0 ^ k1 ^ k2 ^ k3 ^ Vector512.Create(0x1BD11BDAu);
        x0 += k0;
        x1 += k1;
        x2 += k2;
        x3 += k3;
        EvenRounds(ref x0, ref x1, ref x2, ref x3);
        x0 += k1;
        x1 += k2;
        x2 += k3;
        x3 += k4 + Vector512.Create(1u);
        OddRounds(ref x0, ref x1, ref x2, ref x3);
        x0 += k2;
        x1 += k3;
        x2 += k4;
        x3 += k0 + Vector512.Create(2u);
        EvenRounds(ref x0, ref x1, ref x2, ref x3);
        x0 += k3;
        x1 += k4;
        x2 += k0;
        x3 += k1 + Vector512.Create(3u);
        OddRounds(ref x0, ref x1, ref x2, ref x3);
        x0 += k4;
        x1 += k0;
        x2 += k1;
        x3 += k2 + Vector512.Create(4u);
        EvenRounds(ref x0, ref x1, ref x2, ref x3);
        x0 += k0;
        x1 += k1;
        x2 += k2;
        x3 += k3 + Vector512.Create(5u);
    }

    /// <summary>Random words to floats uniform on [0, 1), multiples of 2^-24.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Uniform(Vector512<uint> bits) =>
        Vector512.ConvertToSingle((bits >> 8).AsInt32()) * Vector512.Create(1f / 16777216f);

    /// <summary>Two random words to two independent standard normals (Box-Muller).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Normal(
        Vector512<uint> a,
        Vector512<uint> b,
        out Vector512<float> first,
        out Vector512<float> second
    )
    {
        // 1 - u is in (0, 1], where the logarithm exists.
        var u = Vector512<float>.One - Uniform(a);
        var radius = Vector512.Sqrt(
            Vector512.MaxNative(MathW512.Log(u) * Vector512.Create(-2f), Vector512<float>.Zero)
        );
        MathW512.SinCosTurns(Uniform(b), out var sin, out var cos);
        first = radius * cos;
        second = radius * sin;
    }

    public override void Normals(RandomStream stream, Span<float> panel, uint first, uint c1, uint c2)
    {
        ref var target = ref MemoryMarshal.GetReference(panel);
        var lanes = Vector512<uint>.Indices + Vector512.Create(first);
        for (var feature = 0; feature < panel.Length / Panel.Width; feature += 4)
        for (var lane = 0; lane < Panel.Width; lane += Vector512<float>.Count)
        {
            var x0 = lanes + Vector512.Create((uint)lane);
            var x1 = Vector512.Create(c1);
            var x2 = Vector512.Create(c2);
            var x3 = Vector512.Create((uint)(feature / 4));
            Bits(stream, ref x0, ref x1, ref x2, ref x3);
            Normal(x0, x1, out var n0, out var n1);
            Normal(x2, x3, out var n2, out var n3);
            Store(n0, feature, lane, panel.Length, ref target);
            Store(n1, feature + 1, lane, panel.Length, ref target);
            Store(n2, feature + 2, lane, panel.Length, ref target);
            Store(n3, feature + 3, lane, panel.Length, ref target);
        }
    }

    public override void Words(
        RandomStream stream,
        Span<uint> high,
        Span<uint> low,
        uint first,
        uint c1,
        uint c2,
        uint c3
    )
    {
        ref var words = ref MemoryMarshal.GetReference(high);
        ref var others = ref MemoryMarshal.GetReference(low[..high.Length]);
        for (var i = 0; i < high.Length; i += Vector512<uint>.Count)
        {
            var x0 = Vector512<uint>.Indices + Vector512.Create(first + (uint)i);
            var x1 = Vector512.Create(c1);
            var x2 = Vector512.Create(c2);
            var x3 = Vector512.Create(c3);
            Bits(stream, ref x0, ref x1, ref x2, ref x3);
            x0.StoreUnsafe(ref words, (nuint)i);
            x1.StoreUnsafe(ref others, (nuint)i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector512<float> values, int feature, int lane, int length, ref float target)
    {
        var start = feature * Panel.Width + lane;
        if (start < length)
            values.StoreUnsafe(ref target, (nuint)start);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EvenRounds(
        ref Vector512<uint> x0,
        ref Vector512<uint> x1,
        ref Vector512<uint> x2,
        ref Vector512<uint> x3
    )
    {
        x0 += x1;
        x1 = ((x1 << 10) | (x1 >>> 22)) ^ x0;
        x2 += x3;
        x3 = ((x3 << 26) | (x3 >>> 6)) ^ x2;
        x0 += x3;
        x3 = ((x3 << 11) | (x3 >>> 21)) ^ x0;
        x2 += x1;
        x1 = ((x1 << 21) | (x1 >>> 11)) ^ x2;
        x0 += x1;
        x1 = ((x1 << 13) | (x1 >>> 19)) ^ x0;
        x2 += x3;
        x3 = ((x3 << 27) | (x3 >>> 5)) ^ x2;
        x0 += x3;
        x3 = ((x3 << 23) | (x3 >>> 9)) ^ x0;
        x2 += x1;
        x1 = ((x1 << 5) | (x1 >>> 27)) ^ x2;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void OddRounds(
        ref Vector512<uint> x0,
        ref Vector512<uint> x1,
        ref Vector512<uint> x2,
        ref Vector512<uint> x3
    )
    {
        x0 += x1;
        x1 = ((x1 << 6) | (x1 >>> 26)) ^ x0;
        x2 += x3;
        x3 = ((x3 << 20) | (x3 >>> 12)) ^ x2;
        x0 += x3;
        x3 = ((x3 << 17) | (x3 >>> 15)) ^ x0;
        x2 += x1;
        x1 = ((x1 << 11) | (x1 >>> 21)) ^ x2;
        x0 += x1;
        x1 = ((x1 << 25) | (x1 >>> 7)) ^ x0;
        x2 += x3;
        x3 = ((x3 << 10) | (x3 >>> 22)) ^ x2;
        x0 += x3;
        x3 = ((x3 << 18) | (x3 >>> 14)) ^ x0;
        x2 += x1;
        x1 = ((x1 << 20) | (x1 >>> 12)) ^ x2;
    }
}
