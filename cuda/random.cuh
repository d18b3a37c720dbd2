// Random numbers as functions of counters, with the bits that Distill.Core/Compute/RandomW512.cs gives: Threefry-4x32 with 20 rounds
// (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).
#pragma once
#include "math.cuh"

// A named stream: its key.
struct Stream {
    unsigned key[4];
};

struct Words {
    unsigned x[4];
};

DEVICE unsigned rotated(unsigned x, int by) { return x << by | x >> (32 - by); }

// Two mixes side by side, of the words a and b and of the words c and d.
DEVICE void mix(unsigned &a, unsigned &b, int byB, unsigned &c, unsigned &d, int byD) {
    a += b;
    b = rotated(b, byB) ^ a;
    c += d;
    d = rotated(d, byD) ^ c;
}

DEVICE Words randomWords(const Stream &stream, unsigned c0, unsigned c1, unsigned c2, unsigned c3) {
    const unsigned *k = stream.key;
    const unsigned key[5] = {k[0], k[1], k[2], k[3], k[0] ^ k[1] ^ k[2] ^ k[3] ^ 0x1BD11BDAu};
    unsigned x0 = c0 + key[0], x1 = c1 + key[1], x2 = c2 + key[2], x3 = c3 + key[3];
#pragma unroll
    for (unsigned group = 0; group < 5; group++) {
        bool even = group % 2 == 0;
        mix(x0, x1, even ? 10 : 6, x2, x3, even ? 26 : 20);
        mix(x0, x3, even ? 11 : 17, x2, x1, even ? 21 : 11);
        mix(x0, x1, even ? 13 : 25, x2, x3, even ? 27 : 10);
        mix(x0, x3, even ? 23 : 18, x2, x1, even ? 5 : 20);
        x0 += key[(group + 1) % 5];
        x1 += key[(group + 2) % 5];
        x2 += key[(group + 3) % 5];
        x3 += key[(group + 4) % 5] + group + 1;
    }
    return {{x0, x1, x2, x3}};
}

// A counter of steps, from its low and its high word.
DEVICE ulong timeOf(unsigned low, unsigned high) { return (ulong)high << 32 | low; }

// On [0, 1), a multiple of 2^-24.
DEVICE float uniform(unsigned bits) { return (float)(int)(bits >> 8) * (1.0f / 16777216.0f); }

// On [-1, 1).
DEVICE float symmetric(unsigned bits) {
    float value = uniform(bits);
    return value + value - 1.0f;
}

// Two independent standard normals (Box-Muller).
DEVICE void normals(unsigned a, unsigned b, float &first, float &second) {
    // 1 - u is in (0, 1], where the logarithm exists.
    float radius = squareRoot(most(logarithm(1.0f - uniform(a)) * -2.0f, 0.0f));
    float sine, cosine;
    sinCosTurns(uniform(b), sine, cosine);
    first = radius * cosine;
    second = radius * sine;
}
