using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// The parts of a transformer but attention, sixteen sequences at a time. Everything is vertical: what is summed over lanes goes
/// through sixteen running sums, whatever the width.
/// </summary>
internal sealed unsafe class SequencesW512 : SequenceKernels
{
    private const int Lanes = Sequences.Lanes;

    public override void Products(
        float* a,
        nint aRow,
        int rows,
        float* b,
        nint bRow,
        int others,
        int columns,
        float* c
    )
    {
        var sums = stackalloc float[16 * Lanes + Panel.Padding];
        sums = (float*)(((nuint)sums + 63) & ~(nuint)63);
        // Sixteen accumulators need 32 registers, which come with the widest vectors.
        var wide = Vector512<float>.Count == Lanes ? 4 : 2;
        for (var row = 0; row < rows; )
        {
            var height = row + 4 <= rows ? 4 : 1;
            for (var other = 0; other < others; )
            {
                var width = height == 4 && other + wide <= others ? wide : 1;
                float* first = a + row * aRow;
                float* second = b + other * bRow;
                for (var lane = 0; lane < Lanes; lane += Vector512<float>.Count)
                    if (width == 4)
                        Tile4x4(first + lane, aRow, second + lane, bRow, columns, sums + lane);
                    else if (width == 2)
                        Tile4x2(first + lane, aRow, second + lane, bRow, columns, sums + lane);
                    else
                        for (var i = 0; i < height; i++)
                            Tile1x1(first + i * aRow + lane, second + lane, columns, sums + i * Lanes + lane);
                for (var i = 0; i < height; i++)
                for (var j = 0; j < width; j++)
                    c[(row + i) * others + other + j] += Sum(sums + (i * width + j) * Lanes);
                other += width;
            }
            row += height;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x4(float* a, nint aRow, float* b, nint bRow, int columns, float* sums)
    {
        Vector512<float> s00,
            s01,
            s02,
            s03,
            s10,
            s11,
            s12,
            s13,
            s20,
            s21,
            s22,
            s23,
            s30,
            s31,
            s32,
            s33;
        s00 =
            s01 =
            s02 =
            s03 =
            s10 =
            s11 =
            s12 =
            s13 =
            s20 =
            s21 =
            s22 =
            s23 =
            s30 =
            s31 =
            s32 =
            s33 =
                Vector512<float>.Zero;
        float* a3 = a + 3 * aRow;
        float* b3 = b + 3 * bRow;
        nint aRow2 = 2 * aRow;
        nint bRow2 = 2 * bRow;
        for (nint i = 0; i < columns; i += Lanes)
        {
            var b0 = Vector512.Load(b + i);
            var b1 = Vector512.Load(b + bRow + i);
            var b2 = Vector512.Load(b + bRow2 + i);
            var bThird = Vector512.Load(b3 + i);
            var x = Vector512.Load(a + i);
            s00 = Vector512.FusedMultiplyAdd(x, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b1, s01);
            s02 = Vector512.FusedMultiplyAdd(x, b2, s02);
            s03 = Vector512.FusedMultiplyAdd(x, bThird, s03);
            x = Vector512.Load(a + aRow + i);
            s10 = Vector512.FusedMultiplyAdd(x, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b1, s11);
            s12 = Vector512.FusedMultiplyAdd(x, b2, s12);
            s13 = Vector512.FusedMultiplyAdd(x, bThird, s13);
            x = Vector512.Load(a + aRow2 + i);
            s20 = Vector512.FusedMultiplyAdd(x, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b1, s21);
            s22 = Vector512.FusedMultiplyAdd(x, b2, s22);
            s23 = Vector512.FusedMultiplyAdd(x, bThird, s23);
            x = Vector512.Load(a3 + i);
            s30 = Vector512.FusedMultiplyAdd(x, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b1, s31);
            s32 = Vector512.FusedMultiplyAdd(x, b2, s32);
            s33 = Vector512.FusedMultiplyAdd(x, bThird, s33);
        }
        s00.Store(sums);
        s01.Store(sums + Lanes);
        s02.Store(sums + 2 * Lanes);
        s03.Store(sums + 3 * Lanes);
        s10.Store(sums + 4 * Lanes);
        s11.Store(sums + 5 * Lanes);
        s12.Store(sums + 6 * Lanes);
        s13.Store(sums + 7 * Lanes);
        s20.Store(sums + 8 * Lanes);
        s21.Store(sums + 9 * Lanes);
        s22.Store(sums + 10 * Lanes);
        s23.Store(sums + 11 * Lanes);
        s30.Store(sums + 12 * Lanes);
        s31.Store(sums + 13 * Lanes);
        s32.Store(sums + 14 * Lanes);
        s33.Store(sums + 15 * Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x2(float* a, nint aRow, float* b, nint bRow, int columns, float* sums)
    {
        Vector512<float> s00,
            s01,
            s10,
            s11,
            s20,
            s21,
            s30,
            s31;
        s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = Vector512<float>.Zero;
        float* a3 = a + 3 * aRow;
        nint aRow2 = 2 * aRow;
        for (nint i = 0; i < columns; i += Lanes)
        {
            var b0 = Vector512.Load(b + i);
            var b1 = Vector512.Load(b + bRow + i);
            var x = Vector512.Load(a + i);
            s00 = Vector512.FusedMultiplyAdd(x, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b1, s01);
            x = Vector512.Load(a + aRow + i);
            s10 = Vector512.FusedMultiplyAdd(x, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b1, s11);
            x = Vector512.Load(a + aRow2 + i);
            s20 = Vector512.FusedMultiplyAdd(x, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b1, s21);
            x = Vector512.Load(a3 + i);
            s30 = Vector512.FusedMultiplyAdd(x, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b1, s31);
        }
        s00.Store(sums);
        s01.Store(sums + Lanes);
        s10.Store(sums + 2 * Lanes);
        s11.Store(sums + 3 * Lanes);
        s20.Store(sums + 4 * Lanes);
        s21.Store(sums + 5 * Lanes);
        s30.Store(sums + 6 * Lanes);
        s31.Store(sums + 7 * Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x1(float* a, float* b, int columns, float* sums)
    {
        var sum = Vector512<float>.Zero;
        for (nint i = 0; i < columns; i += Lanes)
            sum = Vector512.FusedMultiplyAdd(Vector512.Load(a + i), Vector512.Load(b + i), sum);
        sum.Store(sums);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void AddNorm(
        float* residual,
        nint residualRow,
        float* branch,
        nint branchRow,
        DropoutArguments dropout,
        float* gain,
        float* bias,
        float* normed,
        nint normedRow,
        float* scales,
        float* y,
        nint yRow,
        int features,
        int columns,
        float epsilon
    )
    {
        var share = Vector512.Create(1f / features);
        for (nint i = 0; i < columns; i += Vector512<float>.Count)
        {
            var sum = Vector512<float>.Zero;
            for (var f = 0; f < features; f += 2)
            {
                var even = Vector512.Load(branch + f * branchRow + i);
                var odd = Vector512.Load(branch + (f + 1) * branchRow + i);
                if (dropout.Threshold > 0)
                {
                    var word = DropoutW512.Word(dropout, (uint)(f / 2 * columns + i) / Lanes, (int)i % Lanes);
                    even = DropoutW512.Kept(even, word, dropout);
                    odd = DropoutW512.Kept(odd, word >> 16, dropout);
                }
                if (residual is not null)
                {
                    even += Vector512.Load(residual + f * residualRow + i);
                    odd += Vector512.Load(residual + (f + 1) * residualRow + i);
                }
                even.Store(normed + f * normedRow + i);
                odd.Store(normed + (f + 1) * normedRow + i);
                sum += even;
                sum += odd;
            }
            var mean = sum * share;
            var squares = Vector512<float>.Zero;
            for (var f = 0; f < features; f++)
            {
                var x = Vector512.Load(normed + f * normedRow + i) - mean;
                squares = Vector512.FusedMultiplyAdd(x, x, squares);
            }
            var scale =
                Vector512<float>.One
                / Vector512.Sqrt(Vector512.FusedMultiplyAdd(squares, share, Vector512.Create(epsilon)));
            scale.Store(scales + i);
            for (var f = 0; f < features; f++)
            {
                var x = (Vector512.Load(normed + f * normedRow + i) - mean) * scale;
                x.Store(normed + f * normedRow + i);
                Vector512
                    .FusedMultiplyAdd(x, Vector512.Create(gain[f]), Vector512.Create(bias[f]))
                    .Store(y + f * yRow + i);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void AddNormBackward(
        float* gain,
        float* normed,
        nint normedRow,
        float* scales,
        DropoutArguments dropout,
        float* dy,
        nint dyRow,
        float* dBranch,
        nint branchRow,
        int features,
        int columns
    )
    {
        var share = Vector512.Create(1f / features);
        for (nint i = 0; i < columns; i += Vector512<float>.Count)
        {
            var sum = Vector512<float>.Zero;
            var along = Vector512<float>.Zero;
            for (var f = 0; f < features; f++)
            {
                var d = Vector512.Load(dy + f * dyRow + i) * Vector512.Create(gain[f]);
                sum += d;
                along = Vector512.FusedMultiplyAdd(d, Vector512.Load(normed + f * normedRow + i), along);
            }
            var mean = sum * share;
            along *= share;
            var scale = Vector512.Load(scales + i);
            for (var f = 0; f < features; f += 2)
            {
                var even = Slope(gain[f], dy + f * dyRow + i, normed + f * normedRow + i, mean, along, scale);
                var odd = Slope(
                    gain[f + 1],
                    dy + (f + 1) * dyRow + i,
                    normed + (f + 1) * normedRow + i,
                    mean,
                    along,
                    scale
                );
                if (dropout.Threshold > 0)
                {
                    var word = DropoutW512.Word(dropout, (uint)(f / 2 * columns + i) / Lanes, (int)i % Lanes);
                    even = DropoutW512.Kept(even, word, dropout);
                    odd = DropoutW512.Kept(odd, word >> 16, dropout);
                }
                even.Store(dBranch + f * branchRow + i);
                odd.Store(dBranch + (f + 1) * branchRow + i);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Slope(
        float gain,
        float* dy,
        float* normed,
        Vector512<float> mean,
        Vector512<float> along,
        Vector512<float> scale
    )
    {
        var d = Vector512.FusedMultiplyAdd(Vector512.Load(dy), Vector512.Create(gain), -mean);
        d = Vector512.FusedMultiplyAdd(-along, Vector512.Load(normed), d) * scale;
        d.Store(dy);
        return d;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Relu(float* x, nint row, int features, int columns, DropoutArguments dropout)
    {
        for (var f = 0; f < features; f += 2)
        {
            var even = x + f * row;
            var odd = even + row;
            for (nint i = 0; i < columns; i += Vector512<float>.Count)
            {
                var a = Vector512.Load(even + i);
                var b = Vector512.Load(odd + i);
                a = Vector512.AndNot(a, Vector512.LessThanOrEqual(a, Vector512<float>.Zero));
                b = Vector512.AndNot(b, Vector512.LessThanOrEqual(b, Vector512<float>.Zero));
                if (dropout.Threshold > 0)
                {
                    var word = DropoutW512.Word(dropout, (uint)(f / 2 * columns + i) / Lanes, (int)i % Lanes);
                    a = DropoutW512.Kept(a, word, dropout);
                    b = DropoutW512.Kept(b, word >> 16, dropout);
                }
                a.Store(even + i);
                b.Store(odd + i);
            }
        }
    }

    public override void ReluBackward(float* y, float* dy, int columns, float scale)
    {
        var factor = Vector512.Create(scale);
        for (nint i = 0; i < columns; i += Vector512<float>.Count)
        {
            var positive = Vector512.GreaterThan(Vector512.Load(y + i), Vector512<float>.Zero);
            (Vector512.Load(dy + i) * factor & positive).Store(dy + i);
        }
    }
}
