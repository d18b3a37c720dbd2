// Elementary functions with the bits that Distill.Core/Compute/MathW512.cs gives: the same polynomials and fused multiply-adds in
// the same order.
#pragma once
#include "distill.cuh"

DEVICE float exponential(float x) {
    x = least(88.3f, most(-87.3f, x));
    // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits of the mantissa.
    float shifted = fma(x, 1.44269504f, 12582912.0f);
    float n = shifted - 12582912.0f;
    float r = fma(n, -0.693359375f, x);
    r = fma(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fma(p, r, 1.3981999507e-3f);
    p = fma(p, r, 8.3334519073e-3f);
    p = fma(p, r, 4.1665795894e-2f);
    p = fma(p, r, 1.6666665459e-1f);
    p = fma(p, r, 5.0000001201e-1f);
    p = fma(p, r * r, r) + 1.0f;
    return asFloat(asBits(p) + (asBits(shifted) << 23));
}

DEVICE float hyperbolicTangent(float x) {
    x = least(7.90531111f, most(-7.90531111f, x));
    float s = x * x;
    float p = -2.76076847742355e-16f;
    p = fma(p, s, 2.00018790482477e-13f);
    p = fma(p, s, -8.60467152213735e-11f);
    p = fma(p, s, 5.12229709037114e-08f);
    p = fma(p, s, 1.48572235717979e-05f);
    p = fma(p, s, 6.37261928875436e-04f);
    p = fma(p, s, 4.89352455891786e-03f);
    float q = 1.19825839466702e-06f;
    q = fma(q, s, 1.18534705686654e-04f);
    q = fma(q, s, 2.26843463243900e-03f);
    q = fma(q, s, 4.89352518554385e-03f);
    return x * p / q;
}

DEVICE float sigmoid(float x) { return fma(hyperbolicTangent(x * 0.5f), 0.5f, 0.5f); }

// Of normal positive numbers.
DEVICE float logarithm(float x) {
    // x = m * 2^e with m in [squareRoot(1/2), squareRoot(2)): the exponent is taken relative to the bits of squareRoot(1/2).
    int bits = (int)asBits(x) - 0x3f3504f3;
    float e = (float)(bits >> 23);
    float m = asFloat((unsigned)((bits & 0x007fffff) + 0x3f3504f3));
    float r = m - 1.0f;
    float s = r * r;
    float p = 7.0376836292e-2f;
    p = fma(p, r, -1.1514610310e-1f);
    p = fma(p, r, 1.1676998740e-1f);
    p = fma(p, r, -1.2420140846e-1f);
    p = fma(p, r, 1.4249322787e-1f);
    p = fma(p, r, -1.6668057665e-1f);
    p = fma(p, r, 2.0000714765e-1f);
    p = fma(p, r, -2.4999993993e-1f);
    p = fma(p, r, 3.3333331174e-1f);
    float y = p * (s * r);
    y = fma(e, -2.12194440e-4f, y);
    y = fma(s, -0.5f, y);
    return fma(e, 0.693359375f, r + y);
}

// Sine and cosine of 2 pi t for t in [0, 1].
DEVICE void sinCosTurns(float t, float &sine, float &cosine) {
    float quarter = fma(t, 4.0f, 12582912.0f);
    unsigned quadrant = asBits(quarter);
    float n = quarter - 12582912.0f;
    float x = fma(n, -0.25f, t) * 6.28318531f;
    float s = x * x;
    float p = -1.9515295891e-4f;
    p = fma(p, s, 8.3321608736e-3f);
    p = fma(p, s, -1.6666654611e-1f);
    float sinX = fma(p * s, x, x);
    float q = 2.443315711809948e-5f;
    q = fma(q, s, -1.388731625493765e-3f);
    q = fma(q, s, 4.166664568298827e-2f);
    q = fma(q, s, -0.5f);
    float cosX = fma(q, s, 1.0f);
    bool odd = quadrant & 1;
    sine = asFloat(asBits(odd ? cosX : sinX) ^ ((quadrant & 2) << 30));
    cosine = asFloat(asBits(odd ? sinX : cosX) ^ (((quadrant + 1) & 2) << 30));
}

// The bits of 2^(i / 32), less i in the place where the exponent is added.
CONSTANT ulong Powers[32] = {
    0x3ff0000000000000, 0x3fefd9b0d3158574, 0x3fefb5586cf9890f, 0x3fef9301d0125b51, 0x3fef72b83c7d517b, 0x3fef54873168b9aa,
    0x3fef387a6e756238, 0x3fef1e9df51fdee1, 0x3fef06fe0a31b715, 0x3feef1a7373aa9cb, 0x3feedea64c123422, 0x3feece086061892d,
    0x3feebfdad5362a27, 0x3feeb42b569d4f82, 0x3feeab07dd485429, 0x3feea47eb03a5585, 0x3feea09e667f3bcd, 0x3fee9f75e8ec5f74,
    0x3feea11473eb0187, 0x3feea589994cce13, 0x3feeace5422aa0db, 0x3feeb737b0cdc5e5, 0x3feec49182a3f090, 0x3feed503b23e255d,
    0x3feee89f995ad3ad, 0x3feeff76f2fb5e47, 0x3fef199bdd85529c, 0x3fef3720dcef9069, 0x3fef5818dcfba487, 0x3fef7c97337b9b5f,
    0x3fefa4afa2a490da, 0x3fefd0765b6e4540,
};

// With the bits of Distill.Core/Compute/Exponential.cs: exact to 0.502 units in the last place.
DEVICE float preciseExponential(float x) {
    if (!(x <= 88.72283f))
        return x + __builtin_inff();
    if (x < -103.972084f)
        return 0.0f;
    double wide = x, shifted = fma(46.16624130844683, wide, 6755399441055744.0);
    ulong whole = asBits(shifted);
    double r = fma(46.16624130844683, wide, -(shifted - 6755399441055744.0));
    double power = asDouble(Powers[whole % 32] + (whole << 47));
    double high = fma(1.6938359250920212e-06, r, 0.00023459809789509004);
    double low = fma(0.021660849396613134, r, 1.0);
    return (float)(fma(high, r * r, low) * power);
}
