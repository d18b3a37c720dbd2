// What a card can do at most, which benchmarks hold the other kernels against.
#pragma once
#include "distill.cuh"

constexpr int Chains = 8;

struct MultiplyAddArguments {
    // [threads], written, so that it must be computed.
    float *results;
    int rounds;
    float factor;
    float summand;
};

// Chains of multiply-adds that wait for nothing but each for itself: 2 * Chains operations a round and thread.
KERNEL(multiply_adds, MultiplyAddArguments) {
    float sums[Chains];
#pragma unroll
    for (int i = 0; i < Chains; i++)
        sums[i] = threadIndex() + i;
#pragma unroll 16
    for (int round = 0; round < given.rounds; round++)
#pragma unroll
        for (int i = 0; i < Chains; i++)
            sums[i] = fma(sums[i], given.factor, given.summand);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < Chains; i++)
        sum += sums[i];
    given.results[globalIndex()] = sum;
}

constexpr int CopyShare = 4;

struct CopyArguments {
    const ulong *from;
    ulong *to;
    long long length;
};

// A thread copies four words of eight bytes, beside those of its neighbours.
KERNEL(copy_memory, CopyArguments) {
    long long first = (long long)blockIndex() * threads() * CopyShare + threadIndex();
#pragma unroll
    for (int share = 0; share < CopyShare; share++) {
        long long i = first + share * threads();
        if (i < given.length)
            given.to[i] = given.from[i];
    }
}
