using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>
/// Elementary functions on vectors of floats. Polynomials and fused multiply-adds only, so that every width and every
/// machine gives the same bits. Errors are given against the exact value. What is not a number stays so: MinNative and
/// MaxNative return their second operand then, on x86, and NaN anyway on ARM.
/// </summary>
internal static class MathW512
{
    /// <summary>e^x, relative error below 2e-7; x is clamped to [-87.3, 88.3]. Method: Cody-Waite reduction by ln 2.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Exp(Vector512<float> x)
    {
        x = Vector512.MinNative(Vector512.Create(88.3f), Vector512.MaxNative(Vector512.Create(-87.3f), x));
        // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits of the mantissa.
        var shifted = Vector512.FusedMultiplyAdd(
            x,
            Vector512.Create(1.44269504f),
            Vector512.Create(12582912f)
        );
        var n = shifted - Vector512.Create(12582912f);
        var r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.693359375f), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(2.12194440e-4f), r);
        var p = Vector512.Create(1.9875691500e-4f);
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.3981999507e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(8.3334519073e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(4.1665795894e-2f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.6666665459e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(5.0000001201e-1f));
        p = Vector512.FusedMultiplyAdd(p, r * r, r) + Vector512<float>.One;
        return (p.AsInt32() + (shifted.AsInt32() << 23)).AsSingle();
    }

    /// <summary>tanh x, absolute error below 3e-7. Odd rational minimax approximation (degrees 13 and 6) on [-7.9, 7.9].</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Tanh(Vector512<float> x)
    {
        x = Vector512.MinNative(
            Vector512.Create(7.90531111f),
            Vector512.MaxNative(Vector512.Create(-7.90531111f), x)
        );
        var s = x * x;
        var p = Vector512.Create(-2.76076847742355e-16f);
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(2.00018790482477e-13f));
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(-8.60467152213735e-11f));
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(5.12229709037114e-08f));
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(1.48572235717979e-05f));
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(6.37261928875436e-04f));
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(4.89352455891786e-03f));
        var q = Vector512.Create(1.19825839466702e-06f);
        q = Vector512.FusedMultiplyAdd(q, s, Vector512.Create(1.18534705686654e-04f));
        q = Vector512.FusedMultiplyAdd(q, s, Vector512.Create(2.26843463243900e-03f));
        q = Vector512.FusedMultiplyAdd(q, s, Vector512.Create(4.89352518554385e-03f));
        return x * p / q;
    }

    /// <summary>1 / (1 + e^-x) = (1 + tanh(x/2)) / 2, absolute error below 2e-7.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Sigmoid(Vector512<float> x)
    {
        var half = Vector512.Create(0.5f);
        return Vector512.FusedMultiplyAdd(Tanh(x * half), half, half);
    }

    /// <summary>ln x for normal positive x, relative error below 3e-7 away from 1 and absolute error below 1e-7 near it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Log(Vector512<float> x)
    {
        // x = m * 2^e with m in [sqrt(1/2), sqrt(2)): the exponent is taken relative to the bits of sqrt(1/2).
        var bits = x.AsInt32() - Vector512.Create(0x3f3504f3);
        var exponent = bits >> 23;
        var m = ((bits & Vector512.Create(0x007fffff)) + Vector512.Create(0x3f3504f3)).AsSingle();
        var e = Vector512.ConvertToSingle(exponent);
        var r = m - Vector512<float>.One;
        var s = r * r;
        var p = Vector512.Create(7.0376836292e-2f);
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(-1.1514610310e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.1676998740e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(-1.2420140846e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.4249322787e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(-1.6668057665e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(2.0000714765e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(-2.4999993993e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(3.3333331174e-1f));
        var y = p * (s * r);
        y = Vector512.FusedMultiplyAdd(e, Vector512.Create(-2.12194440e-4f), y);
        y = Vector512.FusedMultiplyAdd(s, Vector512.Create(-0.5f), y);
        return Vector512.FusedMultiplyAdd(e, Vector512.Create(0.693359375f), r + y);
    }

    /// <summary>sin and cos of 2 pi t for t in [0, 1], absolute error below 2e-7.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void SinCosTurns(Vector512<float> t, out Vector512<float> sin, out Vector512<float> cos)
    {
        var quarter = Vector512.FusedMultiplyAdd(t, Vector512.Create(4f), Vector512.Create(12582912f));
        var quadrant = quarter.AsInt32();
        var n = quarter - Vector512.Create(12582912f);
        var x = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.25f), t) * Vector512.Create(6.28318531f);
        var s = x * x;
        var p = Vector512.Create(-1.9515295891e-4f);
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(8.3321608736e-3f));
        p = Vector512.FusedMultiplyAdd(p, s, Vector512.Create(-1.6666654611e-1f));
        var sinX = Vector512.FusedMultiplyAdd(p * s, x, x);
        var q = Vector512.Create(2.443315711809948e-5f);
        q = Vector512.FusedMultiplyAdd(q, s, Vector512.Create(-1.388731625493765e-3f));
        q = Vector512.FusedMultiplyAdd(q, s, Vector512.Create(4.166664568298827e-2f));
        q = Vector512.FusedMultiplyAdd(q, s, Vector512.Create(-0.5f));
        var cosX = Vector512.FusedMultiplyAdd(q, s, Vector512<float>.One);
        var odd = Vector512.Equals(quadrant & Vector512<int>.One, Vector512<int>.One).AsSingle();
        var sinSign = ((quadrant & Vector512.Create(2)) << 30).AsSingle();
        var cosSign = (((quadrant + Vector512<int>.One) & Vector512.Create(2)) << 30).AsSingle();
        sin = Vector512.ConditionalSelect(odd, cosX, sinX) ^ sinSign;
        cos = Vector512.ConditionalSelect(odd, sinX, cosX) ^ cosSign;
    }
}
