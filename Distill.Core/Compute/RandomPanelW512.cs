using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>Random numbers for whole panels.</summary>
internal static class RandomPanelW512
{
    /// <summary>See <see cref="RandomStream.Normals"/>.</summary>
    public static void Normals(RandomStream stream, Span<float> panel, uint first, uint c1, uint c2)
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
            RandomW512.Bits(stream, ref x0, ref x1, ref x2, ref x3);
            RandomW512.Normal(x0, x1, out var n0, out var n1);
            RandomW512.Normal(x2, x3, out var n2, out var n3);
            Store(n0, feature, lane, panel.Length, ref target);
            Store(n1, feature + 1, lane, panel.Length, ref target);
            Store(n2, feature + 2, lane, panel.Length, ref target);
            Store(n3, feature + 3, lane, panel.Length, ref target);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector512<float> values, int feature, int lane, int length, ref float target)
    {
        var start = feature * Panel.Width + lane;
        if (start < length)
            values.StoreUnsafe(ref target, (nuint)start);
    }
}
