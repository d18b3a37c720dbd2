namespace Distill.Compute;

/// <summary>
/// e^x of one number, exact to 0.502 units in the last place: the table and the polynomial of Arm's optimized routines (MIT licence), which
/// C libraries have as <c>expf</c>, here so that every machine and <c>cuda/math.cuh</c> give the same bits.
/// </summary>
internal static class Exponential
{
    // Beyond these the result is infinite or 0.
    private const float Largest = 88.72283f;
    private const float Smallest = -103.972084f;

    // 1.5 * 2^52: adding it rounds to the nearest integer, which then stands in the low bits.
    private const double Shift = 6755399441055744;
    private const int TableBits = 5;

    // 32 / ln 2, and the polynomial of 2^(r / 32).
    private const double PerLogarithm = 46.16624130844683;
    private const double Cubic = 1.6938359250920212e-06;
    private const double Square = 0.00023459809789509004;
    private const double Linear = 0.021660849396613134;

    // The bits of 2^(i / 32), less i in the place where the exponent is added.
    private static ReadOnlySpan<ulong> Powers =>
        [
            0x3ff0000000000000,
            0x3fefd9b0d3158574,
            0x3fefb5586cf9890f,
            0x3fef9301d0125b51,
            0x3fef72b83c7d517b,
            0x3fef54873168b9aa,
            0x3fef387a6e756238,
            0x3fef1e9df51fdee1,
            0x3fef06fe0a31b715,
            0x3feef1a7373aa9cb,
            0x3feedea64c123422,
            0x3feece086061892d,
            0x3feebfdad5362a27,
            0x3feeb42b569d4f82,
            0x3feeab07dd485429,
            0x3feea47eb03a5585,
            0x3feea09e667f3bcd,
            0x3fee9f75e8ec5f74,
            0x3feea11473eb0187,
            0x3feea589994cce13,
            0x3feeace5422aa0db,
            0x3feeb737b0cdc5e5,
            0x3feec49182a3f090,
            0x3feed503b23e255d,
            0x3feee89f995ad3ad,
            0x3feeff76f2fb5e47,
            0x3fef199bdd85529c,
            0x3fef3720dcef9069,
            0x3fef5818dcfba487,
            0x3fef7c97337b9b5f,
            0x3fefa4afa2a490da,
            0x3fefd0765b6e4540,
        ];

    public static float Of(float x)
    {
        if (!(x <= Largest))
            return x + float.PositiveInfinity;
        if (x < Smallest)
            return 0;
        double wide = x;
        var shifted = Math.FusedMultiplyAdd(PerLogarithm, wide, Shift);
        var whole = BitConverter.DoubleToUInt64Bits(shifted);
        var r = Math.FusedMultiplyAdd(PerLogarithm, wide, -(shifted - Shift));
        var power = BitConverter.UInt64BitsToDouble(
            Powers[(int)(whole % (1 << TableBits))] + (whole << (52 - TableBits))
        );
        var high = Math.FusedMultiplyAdd(Cubic, r, Square);
        var low = Math.FusedMultiplyAdd(Linear, r, 1);
        return (float)(Math.FusedMultiplyAdd(high, r * r, low) * power);
    }
}
