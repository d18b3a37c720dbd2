using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// The matrix product on one vector width: C[m, n] = start + sum over k of A[m, k] B[k, n], by register tiles of 8 (6, 4, 1)
/// rows and two vectors of columns. A is read element by element with any strides and broadcast, B and C are rows of
/// contiguous columns. Each element is one chain of fused multiply-adds in the order of k, so the tiling, and with it the
/// vector width, never shows in the bits.
/// </summary>
internal sealed unsafe class MatrixW512 : MatrixKernels
{
    /// <summary>Columns come in groups of 16: the widest vector.</summary>
    private const int Group = 16;

    public override void Multiply(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        int rows,
        int inner,
        int columns,
        Start start,
        float* bias
    )
    {
        var column = 0;
        var pair = 2 * Vector512<float>.Count;
        for (; column + pair <= columns; column += pair)
            Columns(a, aRow, aInner, b + column, bInner, c + column, cRow, rows, inner, start, bias, 2);
        for (; column + Group <= columns; column += Group)
            Columns(a, aRow, aInner, b + column, bInner, c + column, cRow, rows, inner, start, bias, 1);
    }

    private static void Columns(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        int rows,
        nint inner,
        Start start,
        float* bias,
        int vectors
    )
    {
        var row = 0;
        // Sixteen accumulators need 32 registers, which come with the widest vectors; with 16 registers, twelve accumulators fit.
        if (Vector512<float>.Count == Group)
        {
            for (; row + 8 <= rows; row += 8, a += 8 * aRow, c += 8 * cRow, bias += 8)
                if (vectors == 2)
                    Tile8x2(a, aRow, aInner, b, bInner, c, cRow, inner, start, bias);
                else
                    Tile8x1(a, aRow, aInner, b, bInner, c, cRow, inner, start, bias);
        }
        else
        {
            // Narrower vectors always come in pairs: they divide a group evenly.
            for (; row + 6 <= rows; row += 6, a += 6 * aRow, c += 6 * cRow, bias += 6)
                Tile6x2(a, aRow, aInner, b, bInner, c, cRow, inner, start, bias);
        }
        for (; row + 4 <= rows; row += 4, a += 4 * aRow, c += 4 * cRow, bias += 4)
            if (vectors == 2)
                Tile4x2(a, aRow, aInner, b, bInner, c, cRow, inner, start, bias);
            else
                Tile4x1(a, aRow, aInner, b, bInner, c, cRow, inner, start, bias);
        for (; row < rows; row++, a += aRow, c += cRow, bias++)
            if (vectors == 2)
                Tile1x2(a, aInner, b, bInner, c, inner, start, bias);
            else
                Tile1x1(a, aInner, b, bInner, c, inner, start, bias);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile8x2(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        nint inner,
        Start start,
        float* bias
    )
    {
        nint second = Vector512<float>.Count;
        Vector512<float> c0a,
            c0b,
            c1a,
            c1b,
            c2a,
            c2b,
            c3a,
            c3b,
            c4a,
            c4b,
            c5a,
            c5b,
            c6a,
            c6b,
            c7a,
            c7b;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
            c0b = Vector512.Load(c + second);
            c1a = Vector512.Load(c + cRow);
            c1b = Vector512.Load(c + cRow + second);
            c2a = Vector512.Load(c + 2 * cRow);
            c2b = Vector512.Load(c + 2 * cRow + second);
            c3a = Vector512.Load(c + 3 * cRow);
            c3b = Vector512.Load(c + 3 * cRow + second);
            c4a = Vector512.Load(c + 4 * cRow);
            c4b = Vector512.Load(c + 4 * cRow + second);
            c5a = Vector512.Load(c + 5 * cRow);
            c5b = Vector512.Load(c + 5 * cRow + second);
            c6a = Vector512.Load(c + 6 * cRow);
            c6b = Vector512.Load(c + 6 * cRow + second);
            c7a = Vector512.Load(c + 7 * cRow);
            c7b = Vector512.Load(c + 7 * cRow + second);
        }
        else if (start == Start.FromBias)
        {
            c0a = c0b = Vector512.Create(bias[0]);
            c1a = c1b = Vector512.Create(bias[1]);
            c2a = c2b = Vector512.Create(bias[2]);
            c3a = c3b = Vector512.Create(bias[3]);
            c4a = c4b = Vector512.Create(bias[4]);
            c5a = c5b = Vector512.Create(bias[5]);
            c6a = c6b = Vector512.Create(bias[6]);
            c7a = c7b = Vector512.Create(bias[7]);
        }
        else
        {
            c0a =
                c0b =
                c1a =
                c1b =
                c2a =
                c2b =
                c3a =
                c3b =
                c4a =
                c4b =
                c5a =
                c5b =
                c6a =
                c6b =
                c7a =
                c7b =
                    Vector512<float>.Zero;
        }
        nint aRow2 = 2 * aRow;
        float* a3 = a + 3 * aRow;
        float* a6 = a + 6 * aRow;
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + second);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            c0b = Vector512.FusedMultiplyAdd(x, b1, c0b);
            x = Vector512.Create(a[aRow]);
            c1a = Vector512.FusedMultiplyAdd(x, b0, c1a);
            c1b = Vector512.FusedMultiplyAdd(x, b1, c1b);
            x = Vector512.Create(a[aRow2]);
            c2a = Vector512.FusedMultiplyAdd(x, b0, c2a);
            c2b = Vector512.FusedMultiplyAdd(x, b1, c2b);
            x = Vector512.Create(*a3);
            c3a = Vector512.FusedMultiplyAdd(x, b0, c3a);
            c3b = Vector512.FusedMultiplyAdd(x, b1, c3b);
            x = Vector512.Create(a3[aRow]);
            c4a = Vector512.FusedMultiplyAdd(x, b0, c4a);
            c4b = Vector512.FusedMultiplyAdd(x, b1, c4b);
            x = Vector512.Create(a3[aRow2]);
            c5a = Vector512.FusedMultiplyAdd(x, b0, c5a);
            c5b = Vector512.FusedMultiplyAdd(x, b1, c5b);
            x = Vector512.Create(*a6);
            c6a = Vector512.FusedMultiplyAdd(x, b0, c6a);
            c6b = Vector512.FusedMultiplyAdd(x, b1, c6b);
            x = Vector512.Create(a6[aRow]);
            c7a = Vector512.FusedMultiplyAdd(x, b0, c7a);
            c7b = Vector512.FusedMultiplyAdd(x, b1, c7b);
            a += aInner;
            a3 += aInner;
            a6 += aInner;
            b += bInner;
        }
        c0a.Store(c);
        c0b.Store(c + second);
        c1a.Store(c + cRow);
        c1b.Store(c + cRow + second);
        c2a.Store(c + 2 * cRow);
        c2b.Store(c + 2 * cRow + second);
        c3a.Store(c + 3 * cRow);
        c3b.Store(c + 3 * cRow + second);
        c4a.Store(c + 4 * cRow);
        c4b.Store(c + 4 * cRow + second);
        c5a.Store(c + 5 * cRow);
        c5b.Store(c + 5 * cRow + second);
        c6a.Store(c + 6 * cRow);
        c6b.Store(c + 6 * cRow + second);
        c7a.Store(c + 7 * cRow);
        c7b.Store(c + 7 * cRow + second);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile6x2(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        nint inner,
        Start start,
        float* bias
    )
    {
        nint second = Vector512<float>.Count;
        Vector512<float> c0a,
            c0b,
            c1a,
            c1b,
            c2a,
            c2b,
            c3a,
            c3b,
            c4a,
            c4b,
            c5a,
            c5b;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
            c0b = Vector512.Load(c + second);
            c1a = Vector512.Load(c + cRow);
            c1b = Vector512.Load(c + cRow + second);
            c2a = Vector512.Load(c + 2 * cRow);
            c2b = Vector512.Load(c + 2 * cRow + second);
            c3a = Vector512.Load(c + 3 * cRow);
            c3b = Vector512.Load(c + 3 * cRow + second);
            c4a = Vector512.Load(c + 4 * cRow);
            c4b = Vector512.Load(c + 4 * cRow + second);
            c5a = Vector512.Load(c + 5 * cRow);
            c5b = Vector512.Load(c + 5 * cRow + second);
        }
        else if (start == Start.FromBias)
        {
            c0a = c0b = Vector512.Create(bias[0]);
            c1a = c1b = Vector512.Create(bias[1]);
            c2a = c2b = Vector512.Create(bias[2]);
            c3a = c3b = Vector512.Create(bias[3]);
            c4a = c4b = Vector512.Create(bias[4]);
            c5a = c5b = Vector512.Create(bias[5]);
        }
        else
        {
            c0a = c0b = c1a = c1b = c2a = c2b = c3a = c3b = c4a = c4b = c5a = c5b = Vector512<float>.Zero;
        }
        nint aRow2 = 2 * aRow;
        float* a3 = a + 3 * aRow;
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + second);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            c0b = Vector512.FusedMultiplyAdd(x, b1, c0b);
            x = Vector512.Create(a[aRow]);
            c1a = Vector512.FusedMultiplyAdd(x, b0, c1a);
            c1b = Vector512.FusedMultiplyAdd(x, b1, c1b);
            x = Vector512.Create(a[aRow2]);
            c2a = Vector512.FusedMultiplyAdd(x, b0, c2a);
            c2b = Vector512.FusedMultiplyAdd(x, b1, c2b);
            x = Vector512.Create(*a3);
            c3a = Vector512.FusedMultiplyAdd(x, b0, c3a);
            c3b = Vector512.FusedMultiplyAdd(x, b1, c3b);
            x = Vector512.Create(a3[aRow]);
            c4a = Vector512.FusedMultiplyAdd(x, b0, c4a);
            c4b = Vector512.FusedMultiplyAdd(x, b1, c4b);
            x = Vector512.Create(a3[aRow2]);
            c5a = Vector512.FusedMultiplyAdd(x, b0, c5a);
            c5b = Vector512.FusedMultiplyAdd(x, b1, c5b);
            a += aInner;
            a3 += aInner;
            b += bInner;
        }
        c0a.Store(c);
        c0b.Store(c + second);
        c1a.Store(c + cRow);
        c1b.Store(c + cRow + second);
        c2a.Store(c + 2 * cRow);
        c2b.Store(c + 2 * cRow + second);
        c3a.Store(c + 3 * cRow);
        c3b.Store(c + 3 * cRow + second);
        c4a.Store(c + 4 * cRow);
        c4b.Store(c + 4 * cRow + second);
        c5a.Store(c + 5 * cRow);
        c5b.Store(c + 5 * cRow + second);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x2(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        nint inner,
        Start start,
        float* bias
    )
    {
        nint second = Vector512<float>.Count;
        Vector512<float> c0a,
            c0b,
            c1a,
            c1b,
            c2a,
            c2b,
            c3a,
            c3b;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
            c0b = Vector512.Load(c + second);
            c1a = Vector512.Load(c + cRow);
            c1b = Vector512.Load(c + cRow + second);
            c2a = Vector512.Load(c + 2 * cRow);
            c2b = Vector512.Load(c + 2 * cRow + second);
            c3a = Vector512.Load(c + 3 * cRow);
            c3b = Vector512.Load(c + 3 * cRow + second);
        }
        else if (start == Start.FromBias)
        {
            c0a = c0b = Vector512.Create(bias[0]);
            c1a = c1b = Vector512.Create(bias[1]);
            c2a = c2b = Vector512.Create(bias[2]);
            c3a = c3b = Vector512.Create(bias[3]);
        }
        else
        {
            c0a = c0b = c1a = c1b = c2a = c2b = c3a = c3b = Vector512<float>.Zero;
        }
        nint aRow2 = 2 * aRow;
        float* a3 = a + 3 * aRow;
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + second);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            c0b = Vector512.FusedMultiplyAdd(x, b1, c0b);
            x = Vector512.Create(a[aRow]);
            c1a = Vector512.FusedMultiplyAdd(x, b0, c1a);
            c1b = Vector512.FusedMultiplyAdd(x, b1, c1b);
            x = Vector512.Create(a[aRow2]);
            c2a = Vector512.FusedMultiplyAdd(x, b0, c2a);
            c2b = Vector512.FusedMultiplyAdd(x, b1, c2b);
            x = Vector512.Create(*a3);
            c3a = Vector512.FusedMultiplyAdd(x, b0, c3a);
            c3b = Vector512.FusedMultiplyAdd(x, b1, c3b);
            a += aInner;
            a3 += aInner;
            b += bInner;
        }
        c0a.Store(c);
        c0b.Store(c + second);
        c1a.Store(c + cRow);
        c1b.Store(c + cRow + second);
        c2a.Store(c + 2 * cRow);
        c2b.Store(c + 2 * cRow + second);
        c3a.Store(c + 3 * cRow);
        c3b.Store(c + 3 * cRow + second);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x2(
        float* a,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint inner,
        Start start,
        float* bias
    )
    {
        nint second = Vector512<float>.Count;
        Vector512<float> c0a,
            c0b;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
            c0b = Vector512.Load(c + second);
        }
        else if (start == Start.FromBias)
        {
            c0a = c0b = Vector512.Create(bias[0]);
        }
        else
        {
            c0a = c0b = Vector512<float>.Zero;
        }
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + second);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            c0b = Vector512.FusedMultiplyAdd(x, b1, c0b);
            a += aInner;
            b += bInner;
        }
        c0a.Store(c);
        c0b.Store(c + second);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile8x1(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        nint inner,
        Start start,
        float* bias
    )
    {
        Vector512<float> c0a,
            c1a,
            c2a,
            c3a,
            c4a,
            c5a,
            c6a,
            c7a;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
            c1a = Vector512.Load(c + cRow);
            c2a = Vector512.Load(c + 2 * cRow);
            c3a = Vector512.Load(c + 3 * cRow);
            c4a = Vector512.Load(c + 4 * cRow);
            c5a = Vector512.Load(c + 5 * cRow);
            c6a = Vector512.Load(c + 6 * cRow);
            c7a = Vector512.Load(c + 7 * cRow);
        }
        else if (start == Start.FromBias)
        {
            c0a = Vector512.Create(bias[0]);
            c1a = Vector512.Create(bias[1]);
            c2a = Vector512.Create(bias[2]);
            c3a = Vector512.Create(bias[3]);
            c4a = Vector512.Create(bias[4]);
            c5a = Vector512.Create(bias[5]);
            c6a = Vector512.Create(bias[6]);
            c7a = Vector512.Create(bias[7]);
        }
        else
        {
            c0a = c1a = c2a = c3a = c4a = c5a = c6a = c7a = Vector512<float>.Zero;
        }
        nint aRow2 = 2 * aRow;
        float* a3 = a + 3 * aRow;
        float* a6 = a + 6 * aRow;
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            x = Vector512.Create(a[aRow]);
            c1a = Vector512.FusedMultiplyAdd(x, b0, c1a);
            x = Vector512.Create(a[aRow2]);
            c2a = Vector512.FusedMultiplyAdd(x, b0, c2a);
            x = Vector512.Create(*a3);
            c3a = Vector512.FusedMultiplyAdd(x, b0, c3a);
            x = Vector512.Create(a3[aRow]);
            c4a = Vector512.FusedMultiplyAdd(x, b0, c4a);
            x = Vector512.Create(a3[aRow2]);
            c5a = Vector512.FusedMultiplyAdd(x, b0, c5a);
            x = Vector512.Create(*a6);
            c6a = Vector512.FusedMultiplyAdd(x, b0, c6a);
            x = Vector512.Create(a6[aRow]);
            c7a = Vector512.FusedMultiplyAdd(x, b0, c7a);
            a += aInner;
            a3 += aInner;
            a6 += aInner;
            b += bInner;
        }
        c0a.Store(c);
        c1a.Store(c + cRow);
        c2a.Store(c + 2 * cRow);
        c3a.Store(c + 3 * cRow);
        c4a.Store(c + 4 * cRow);
        c5a.Store(c + 5 * cRow);
        c6a.Store(c + 6 * cRow);
        c7a.Store(c + 7 * cRow);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4x1(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        nint inner,
        Start start,
        float* bias
    )
    {
        Vector512<float> c0a,
            c1a,
            c2a,
            c3a;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
            c1a = Vector512.Load(c + cRow);
            c2a = Vector512.Load(c + 2 * cRow);
            c3a = Vector512.Load(c + 3 * cRow);
        }
        else if (start == Start.FromBias)
        {
            c0a = Vector512.Create(bias[0]);
            c1a = Vector512.Create(bias[1]);
            c2a = Vector512.Create(bias[2]);
            c3a = Vector512.Create(bias[3]);
        }
        else
        {
            c0a = c1a = c2a = c3a = Vector512<float>.Zero;
        }
        nint aRow2 = 2 * aRow;
        float* a3 = a + 3 * aRow;
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            x = Vector512.Create(a[aRow]);
            c1a = Vector512.FusedMultiplyAdd(x, b0, c1a);
            x = Vector512.Create(a[aRow2]);
            c2a = Vector512.FusedMultiplyAdd(x, b0, c2a);
            x = Vector512.Create(*a3);
            c3a = Vector512.FusedMultiplyAdd(x, b0, c3a);
            a += aInner;
            a3 += aInner;
            b += bInner;
        }
        c0a.Store(c);
        c1a.Store(c + cRow);
        c2a.Store(c + 2 * cRow);
        c3a.Store(c + 3 * cRow);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x1(
        float* a,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint inner,
        Start start,
        float* bias
    )
    {
        Vector512<float> c0a;
        if (start == Start.FromValues)
        {
            c0a = Vector512.Load(c);
        }
        else if (start == Start.FromBias)
        {
            c0a = Vector512.Create(bias[0]);
        }
        else
        {
            c0a = Vector512<float>.Zero;
        }
        for (nint k = 0; k < inner; k++)
        {
            var b0 = Vector512.Load(b);
            var x = Vector512.Create(*a);
            c0a = Vector512.FusedMultiplyAdd(x, b0, c0a);
            a += aInner;
            b += bInner;
        }
        c0a.Store(c);
    }
}
