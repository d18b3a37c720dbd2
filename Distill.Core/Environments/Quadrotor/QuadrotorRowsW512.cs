using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Distill.Environments.Quadrotor.QuadrotorConstant;

namespace Distill.Environments.Quadrotor;

/// <summary>Rows of a quadrotor panel by name, and what several of its kernels compute.</summary>
internal static class QuadrotorRowsW512
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(ref float state, QuadrotorField row, nuint lane) =>
        RowsW512.Load(ref state, (int)row, lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(ref float constants, QuadrotorConstant row, nuint lane) =>
        RowsW512.Load(ref constants, (int)row, lane);

    /// <summary>Three rows, from this one on; likewise below.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 Load3(ref float state, QuadrotorField row, nuint lane) =>
        RowsW512.Load3(ref state, (int)row, lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 Load3(ref float constants, QuadrotorConstant row, nuint lane) =>
        RowsW512.Load3(ref constants, (int)row, lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuaternionW512 LoadOrientation(ref float state, nuint lane) =>
        new(
            Load(ref state, QuadrotorField.Orientation, lane),
            Load(ref state, QuadrotorField.Orientation + 1, lane),
            Load(ref state, QuadrotorField.Orientation + 2, lane),
            Load(ref state, QuadrotorField.Orientation + 3, lane)
        );

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector512<float> value, ref float state, QuadrotorField row, nuint lane) =>
        RowsW512.Store(value, ref state, (int)row, lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Vector3W512 value, ref float state, QuadrotorField row, nuint lane) =>
        RowsW512.Store(value, ref state, (int)row, lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreOrientation(QuaternionW512 q, ref float state, nuint lane)
    {
        Store(q.W, ref state, QuadrotorField.Orientation, lane);
        Store(new Vector3W512(q.X, q.Y, q.Z), ref state, QuadrotorField.Orientation + 1, lane);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Clamp(
        Vector512<float> value,
        Vector512<float> min,
        Vector512<float> max
    ) => Vector512.MinNative(Vector512.MaxNative(value, min), max);

    /// <summary>The action in [-1, 1] whose command is this rotor state.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> AsAction(Vector512<float> rotor, ref float constants, nuint lane) =>
        Vector512.FusedMultiplyAdd(
            rotor,
            Load(ref constants, RotorScale, lane),
            Load(ref constants, RotorOffset, lane)
        );
}
