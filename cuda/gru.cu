// The part of a gated recurrent unit that goes from step to step, with the bits of Distill.Core/Networks/Layers/Gru.cs. A block has one
// panel of sequences and keeps it for all steps; what the input brings to the gates is there already.
#pragma once
#include "networks.cu"

constexpr int GruThreads = 256;

struct GruArguments {
    // [panels, steps, 6 units, lanes]: r, z, n, the hidden part of n, the memory before the step, and after it. Before the forward
    // pass the first three are what the input brings to the gates.
    Panels activations;
    // [3 units, units] and [3 units].
    const float *weights;
    const float *bias;
    // [panels, steps, 1, lanes]: 0 where an episode starts.
    Panels keeps;
    // [panels, 1, units, lanes]: before the first step; on return after the last.
    Panels memory;
    // [panels, steps, units, lanes]: of the outputs; the backward pass needs it to work.
    Panels gradients;
    // [panels, steps, 3 units, lanes]: written by the backward pass, of the gates and of their hidden parts.
    Panels gates;
    Panels hiddenGates;
    int panels;
    int steps;
    int units;
};

// Whatever is cleared becomes 0, be it not a number.
DEVICE float kept(float value, float keep) { return keep == 0.0f ? 0.0f : value * keep; }

DEVICE float *stepOf(const Panels &panels, int panel, int step, int steps) { return panels.at + ((long long)panel * steps + step) * panels.stride; }

DEVICE void gruForward(const GruArguments &given, int panel) {
    int lanes = given.activations.lanes, units = given.units, size = units * lanes;
    float *start = stepOf(given.memory, panel, 0, 1);
    // What a thread wrote itself in the step before; what others wrote is read behind the barrier.
    const float *memory = start;
    for (int step = 0; step < given.steps; step++) {
        float *now = stepOf(given.activations, panel, step, given.steps);
        const float *keep = stepOf(given.keeps, panel, step, given.steps), *before = now + 4 * size;
        for (int i = threadIndex(); i < size; i += threads())
            now[4 * size + i] = kept(memory[i], keep[i % lanes]);
        barrier();
        for (int i = threadIndex(); i < size; i += threads()) {
            int unit = i / lanes, lane = i % lanes;
            float hidden[3];
            for (int gate = 0; gate < 3; gate++) {
                const float *weights = given.weights + (gate * units + unit) * units;
                float sum = given.bias[gate * units + unit];
                for (int other = 0; other < units; other++)
                    sum = fma(weights[other], before[other * lanes + lane], sum);
                hidden[gate] = sum;
            }
            float r = sigmoid(now[i] + hidden[0]);
            float z = sigmoid(now[size + i] + hidden[1]);
            float n = hyperbolicTangent(fma(r, hidden[2], now[2 * size + i]));
            now[i] = r;
            now[size + i] = z;
            now[2 * size + i] = n;
            now[3 * size + i] = hidden[2];
            now[5 * size + i] = fma(z, before[i] - n, n);
        }
        memory = now + 5 * size;
    }
    for (int i = threadIndex(); i < size; i += threads())
        start[i] = memory[i];
}

KERNEL(gru_forward, GruArguments) { gruForward(given, blockIndex()); }

// The gradient of the memory after a step is added to that of the step's output, and takes its place.
KERNEL(gru_backward, GruArguments) {
    int lanes = given.activations.lanes, units = given.units, size = units * lanes;
    for (int step = given.steps - 1; step >= 0; step--) {
        const float *now = stepOf(given.activations, blockIndex(), step, given.steps);
        const float *keep = stepOf(given.keeps, blockIndex(), step, given.steps);
        float *dy = stepOf(given.gradients, blockIndex(), step, given.steps);
        float *gates = stepOf(given.gates, blockIndex(), step, given.steps), *hiddenGates = stepOf(given.hiddenGates, blockIndex(), step, given.steps);
        for (int i = threadIndex(); i < size; i += GruThreads) {
            float r = now[i], z = now[size + i], n = now[2 * size + i];
            // Adding 0 makes 0 of -0, as where there is a step after it.
            float d = step == given.steps - 1 ? dy[i] + 0.0f : dy[i];
            float dn = d * (1.0f - z) * (1.0f - n * n);
            float dz = d * (now[4 * size + i] - n) * (z * (1.0f - z));
            float dr = dn * now[3 * size + i] * (r * (1.0f - r));
            gates[i] = hiddenGates[i] = dr;
            gates[size + i] = hiddenGates[size + i] = dz;
            gates[2 * size + i] = dn;
            hiddenGates[2 * size + i] = dn * r;
            dy[i] = d * z;
        }
        barrier();
        float *dyBefore = step == 0 ? nullptr : stepOf(given.gradients, blockIndex(), step - 1, given.steps);
        for (int i = threadIndex(); i < size && dyBefore; i += GruThreads) {
            float sum = dy[i];
            for (int row = 0; row < 3 * units; row++)
                sum = fma(given.weights[row * units + i / lanes], hiddenGates[row * lanes + i % lanes], sum);
            dyBefore[i] += kept(sum, keep[i % lanes]);
        }
    }
}
