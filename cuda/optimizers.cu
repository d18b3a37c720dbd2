// The steps of optimizers, with the bits of Distill.Core/Networks/Optimizers.
#pragma once
#include "distill.cuh"

// Numbers of one training that stay on the device.
struct Progress {
    // Norm of the last gradient, before clipping.
    double gradientNorm;
    // Steps whose gradient was scaled down.
    long long clipped;
    // Not 0 once a gradient was not finite: from then on nothing changes.
    int failed;
    // Factor of the gradient, at most 1.
    float scale;
};

struct SumArguments {
    // [chunks, length]: the first becomes the sum.
    float *gradients;
    long long length;
    int chunks;
};

KERNEL(sum_gradients, SumArguments) {
    long long i = globalIndex();
    if (i >= given.length)
        return;
    float sum = given.gradients[i];
    for (int chunk = 1; chunk < given.chunks; chunk++)
        sum += given.gradients[chunk * given.length + i];
    given.gradients[i] = sum;
}

constexpr int NormThreads = 8;

struct NormArguments {
    const float *gradient;
    // [parts]: sums of squares of parts of so many numbers.
    double *squares;
    long long length;
    long long part;
};

// A block adds up one part: eight threads every eighth number each, then these in the order of Elementwise.SumOfSquares.
KERNEL(square_gradient, NormArguments) {
    SHARED double sums[NormThreads];
    long long start = blockIndex() * given.part;
    long long end = start + given.part < given.length ? start + given.part : given.length;
    double sum = 0.0;
    for (long long i = start + threadIndex(); i < end; i += NormThreads) {
        double value = given.gradient[i];
        sum += value * value;
    }
    sums[threadIndex()] = sum;
    barrier();
    if (threadIndex() == 0)
        given.squares[blockIndex()] = (sums[0] + sums[4] + (sums[2] + sums[6])) + (sums[1] + sums[5] + (sums[3] + sums[7]));
}

struct ClipArguments {
    Progress *progress;
    // Steps since the corrections of the next ones were brought.
    int *taken;
    const double *squares;
    int parts;
    // 0 for none.
    double mostNorm;
};

// One thread.
KERNEL(clip_gradient, ClipArguments) {
    Progress &progress = *given.progress;
    ++*given.taken;
    if (progress.failed)
        return;
    double sum = 0.0;
    for (int part = 0; part < given.parts; part++)
        sum += given.squares[part];
    progress.gradientNorm = squareRoot(sum);
    if (!(progress.gradientNorm < __builtin_inf())) {
        progress.failed = 1;
        return;
    }
    double scale = given.mostNorm > 0.0 ? given.mostNorm / (progress.gradientNorm + 1e-6) : 1.0;
    scale = scale < 1.0 ? scale : 1.0;
    progress.clipped += scale < 1.0;
    progress.scale = (float)scale;
}

// Of the moments, which begin as 0.
struct Correction {
    float first;
    float second;
};

struct AdamArguments {
    Progress *progress;
    // [steps], and how many of these have begun.
    const Correction *corrections;
    const int *taken;
    float *parameters;
    const float *gradient;
    float *first;
    float *second;
    long long length;
    // Where the device makes the rate; null where it is the next.
    const double *adapted;
    float rate;
    float beta1;
    float beta2;
    float oneMinusBeta1;
    float oneMinusBeta2;
    float epsilon;
    float floor;
    float coupledDecay;
    float decoupledDecay;
};

KERNEL(adam_step, AdamArguments) {
    long long i = globalIndex();
    if (i >= given.length || given.progress->failed)
        return;
    float rate = given.adapted ? (float)*given.adapted : given.rate;
    Correction correction = given.corrections[*given.taken - 1];
    float parameter = given.parameters[i];
    float gradient = fma(given.coupledDecay, parameter, given.gradient[i] * given.progress->scale);
    float first = fma(given.beta1, given.first[i], given.oneMinusBeta1 * gradient);
    float second = fma(given.beta2, given.second[i], given.oneMinusBeta2 * (gradient * gradient));
    float spread = squareRoot(most(second * correction.second, given.floor)) + given.epsilon;
    given.first[i] = first;
    given.second[i] = second;
    given.parameters[i] = fma(-rate, first * correction.first / spread, parameter * (1.0f - rate * given.decoupledDecay));
}
