using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Environments;

/// <summary>Vectors in and out of the rows of a panel. A kernel steps through a row's 32 lanes by <see cref="Lanes"/>.</summary>
internal static class RowsW512
{
    /// <summary>Lanes of one vector.</summary>
    public static nuint Lanes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (nuint)Vector512<float>.Count;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(ref float block, int row, nuint lane) =>
        Vector512.LoadUnsafe(ref block, (nuint)(row * Panel.Width) + lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<float> value, ref float block, int row, nuint lane) =>
        value.StoreUnsafe(ref block, (nuint)(row * Panel.Width) + lane);

    /// <summary>Three rows, from this one on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 Load3(ref float block, int row, nuint lane) =>
        new(Load(ref block, row, lane), Load(ref block, row + 1, lane), Load(ref block, row + 2, lane));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector3W512 value, ref float block, int row, nuint lane)
    {
        Store(value.X, ref block, row, lane);
        Store(value.Y, ref block, row + 1, lane);
        Store(value.Z, ref block, row + 2, lane);
    }

    /// <summary>Stores the lanes that the mask selects.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Blend(
        Vector512<float> value,
        Vector512<float> mask,
        ref float block,
        int row,
        nuint lane
    ) => Store(Vector512.ConditionalSelect(mask, value, Load(ref block, row, lane)), ref block, row, lane);

    /// <summary>Indices of the environments in the lanes of a vector, when lane 0 of the panel has index <paramref name="first"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Indices(int first, nuint lane) =>
        Vector512.Create((uint)first + (uint)lane) + Vector512<uint>.Indices;
}
