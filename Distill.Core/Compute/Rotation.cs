using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Distill.Compute;

/// <summary>
/// Words rotated left by a constant, 1 to 31. AVX-512 has an instruction for it at every width; the compiler does not find
/// it in the two shifts that other machines need.
/// </summary>
internal static class Rotation
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Left(Vector512<uint> words, [ConstantExpected] byte count) =>
        Avx512F.IsSupported ? Avx512F.RotateLeft(words, count) : (words << count) | (words >>> (32 - count));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Left(Vector256<uint> words, [ConstantExpected] byte count) =>
        Avx512F.VL.IsSupported
            ? Avx512F.VL.RotateLeft(words, count)
            : (words << count) | (words >>> (32 - count));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<uint> Left(Vector128<uint> words, [ConstantExpected] byte count) =>
        Avx512F.VL.IsSupported
            ? Avx512F.VL.RotateLeft(words, count)
            : (words << count) | (words >>> (32 - count));
}
