// What is not finite is noted, not fatal: Distill.Core/Policies/Cuda/CudaFiniteWatch.cs says it when all is done.
#pragma once
#include "networks.cu"

// What first was not finite in an environment.
struct Finding {
    // Counted from 1; 0 for none.
    int step;
    int quantity;
    float value;
};

DEVICE void watch(Finding &finding, int step, int quantity, float value) {
    if (finding.step == 0 && !(absolute(value) < __builtin_inff()))
        finding = {step + 1, quantity, value};
}

// All features of a sample.
DEVICE void watch(Finding &finding, int step, int quantity, const Panels &panels, unsigned sample, int features) {
    for (int i = 0; i < features; i++)
        watch(finding, step, quantity, *elementOf(panels, sample, i));
}
