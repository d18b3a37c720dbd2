using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Distill.Compute;

/// <summary>Transposition of small matrices; pure data movement, so it needs no version per instruction-set path.</summary>
internal static unsafe class Transpose
{
    /// <summary>target[column, row] = source[row, column] for a source of rows x columns.</summary>
    public static void Blocks(
        float* source,
        nint sourceRow,
        float* target,
        nint targetRow,
        int rows,
        int columns
    )
    {
        var row = 0;
        if (Avx.IsSupported)
            for (; row + 8 <= rows; row += 8)
            {
                var column = 0;
                for (; column + 8 <= columns; column += 8)
                    Block8(
                        source + row * sourceRow + column,
                        sourceRow,
                        target + column * targetRow + row,
                        targetRow
                    );
                Scalar(source, sourceRow, target, targetRow, row, row + 8, column, columns);
            }
        Scalar(source, sourceRow, target, targetRow, row, rows, 0, columns);
    }

    private static void Scalar(
        float* source,
        nint sourceRow,
        float* target,
        nint targetRow,
        int firstRow,
        int lastRow,
        int firstColumn,
        int lastColumn
    )
    {
        for (var column = firstColumn; column < lastColumn; column++)
        for (var row = firstRow; row < lastRow; row++)
            target[column * targetRow + row] = source[row * sourceRow + column];
    }

    private static void Block8(float* source, nint sourceRow, float* target, nint targetRow)
    {
        var r0 = Vector256.Load(source);
        var r1 = Vector256.Load(source + sourceRow);
        var r2 = Vector256.Load(source + 2 * sourceRow);
        var r3 = Vector256.Load(source + 3 * sourceRow);
        var r4 = Vector256.Load(source + 4 * sourceRow);
        var r5 = Vector256.Load(source + 5 * sourceRow);
        var r6 = Vector256.Load(source + 6 * sourceRow);
        var r7 = Vector256.Load(source + 7 * sourceRow);

        // Pairs, then fours, then eights of rows are interleaved.
        var p0 = Avx.UnpackLow(r0, r1);
        var p1 = Avx.UnpackHigh(r0, r1);
        var p2 = Avx.UnpackLow(r2, r3);
        var p3 = Avx.UnpackHigh(r2, r3);
        var p4 = Avx.UnpackLow(r4, r5);
        var p5 = Avx.UnpackHigh(r4, r5);
        var p6 = Avx.UnpackLow(r6, r7);
        var p7 = Avx.UnpackHigh(r6, r7);
        var q0 = Avx.Shuffle(p0, p2, 0x44);
        var q1 = Avx.Shuffle(p0, p2, 0xEE);
        var q2 = Avx.Shuffle(p1, p3, 0x44);
        var q3 = Avx.Shuffle(p1, p3, 0xEE);
        var q4 = Avx.Shuffle(p4, p6, 0x44);
        var q5 = Avx.Shuffle(p4, p6, 0xEE);
        var q6 = Avx.Shuffle(p5, p7, 0x44);
        var q7 = Avx.Shuffle(p5, p7, 0xEE);

        Avx.Permute2x128(q0, q4, 0x20).Store(target);
        Avx.Permute2x128(q1, q5, 0x20).Store(target + targetRow);
        Avx.Permute2x128(q2, q6, 0x20).Store(target + 2 * targetRow);
        Avx.Permute2x128(q3, q7, 0x20).Store(target + 3 * targetRow);
        Avx.Permute2x128(q0, q4, 0x31).Store(target + 4 * targetRow);
        Avx.Permute2x128(q1, q5, 0x31).Store(target + 5 * targetRow);
        Avx.Permute2x128(q2, q6, 0x31).Store(target + 6 * targetRow);
        Avx.Permute2x128(q3, q7, 0x31).Store(target + 7 * targetRow);
    }
}
