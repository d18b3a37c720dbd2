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
