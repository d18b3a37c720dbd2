// Dense layers, forward and backward, on panels. Each element of a product is one chain of fused multiply-adds in the order of
// Distill.Core/Compute/MatrixW512.cs, so that every bit is the same.
#pragma once
#include "math.cuh"

// Samples in panels of so many lanes, [features, lanes], one after another: a panel for each step of each panel of sequences,
// [panels, steps, features, lanes].
struct Panels {
    float *at;
    // Floats from one to the next.
    long long stride;
    int lanes;
};

// A feature of a sample.
DEVICE float *elementOf(const Panels &panels, unsigned sample, int feature) {
    return panels.at + (sample / panels.lanes) * panels.stride + feature * panels.lanes + sample % panels.lanes;
}

struct CopyFeaturesArguments {
    Panels from;
    Panels to;
    unsigned samples;
    int features;
};

DEVICE void copyFeature(const CopyFeaturesArguments &given, unsigned sample, int feature) {
    if (sample < given.samples && feature < given.features)
        *elementOf(given.to, sample, feature) = *elementOf(given.from, sample, feature);
}

KERNEL(copy_features, CopyFeaturesArguments) { copyFeature(given, globalIndex() % given.samples, globalIndex() / given.samples); }

enum class Activation : int { Identity, Relu, Elu, Tanh, Selu };

constexpr float SeluScale = 1.0507009873554805f, SeluNegative = (float)(1.0507009873554805 * 1.6732632423543772);

DEVICE float activated(Activation activation, float x) {
    switch (activation) {
    case Activation::Relu: return x <= 0.0f ? 0.0f : x;
    case Activation::Elu: return x > 0.0f ? x : exponential(x) - 1.0f;
    case Activation::Tanh: return hyperbolicTangent(x);
    case Activation::Selu: return x > 0.0f ? SeluScale * x : SeluNegative * (exponential(x) - 1.0f);
    default: return x;
    }
}

// The gradient before the activation that gave y, from that after it.
DEVICE float activatedBackward(Activation activation, float y, float dy) {
    switch (activation) {
    case Activation::Relu: return y > 0.0f ? dy : 0.0f;
    case Activation::Elu: return dy * (least(0.0f, y) + 1.0f);
    case Activation::Tanh: return dy * (1.0f - y * y);
    case Activation::Selu: return dy * (y > 0.0f ? SeluScale : y + SeluNegative);
    default: return dy;
    }
}

// Y = f(A X + bias), or dX = A' dY

constexpr int ProductThreads = 128, ProductRows = 8, ProductInner = 256;

struct ProductArguments {
    // Element (row, inner) is at row * matrixRow + inner * matrixInner.
    const float *matrix;
    // Null for 0.
    const float *bias;
    Panels from;
    Panels to;
    unsigned samples;
    int matrixRow;
    int matrixInner;
    int rows;
    int inner;
    Activation activation;
};

// Eight rows of the matrix are in shared memory, and a block takes each to one sample per thread.
DEVICE void productOfRows(const ProductArguments &given, int firstRow, unsigned sample) {
    SHARED float matrix[ProductInner][ProductRows];
    bool there = sample < given.samples;
    float sums[ProductRows];
#pragma unroll
    for (int row = 0; row < ProductRows; row++)
        sums[row] = given.bias && firstRow + row < given.rows ? given.bias[firstRow + row] : 0.0f;
    for (int start = 0; start < given.inner; start += ProductInner) {
        int count = given.inner - start < ProductInner ? given.inner - start : ProductInner;
        barrier();
        for (int i = threadIndex(); i < count * ProductRows; i += ProductThreads) {
            int row = firstRow + i % ProductRows, inner = i / ProductRows;
            matrix[inner][i % ProductRows] =
                row < given.rows ? given.matrix[row * given.matrixRow + (start + inner) * given.matrixInner] : 0.0f;
        }
        barrier();
        for (int inner = 0; there && inner < count; inner++) {
            float value = *elementOf(given.from, sample, start + inner);
#pragma unroll
            for (int row = 0; row < ProductRows; row++)
                sums[row] = fma(matrix[inner][row], value, sums[row]);
        }
    }
    for (int row = 0; there && row < ProductRows && firstRow + row < given.rows; row++)
        *elementOf(given.to, sample, firstRow + row) = activated(given.activation, sums[row]);
}

KERNEL(panel_product, ProductArguments) {
    int sampleBlocks = (given.samples + ProductThreads - 1) / ProductThreads;
    int firstRow = blockIndex() / sampleBlocks * ProductRows;
    productOfRows(given, firstRow, blockIndex() % sampleBlocks * ProductThreads + threadIndex());
}

// The same of equal networks side by side, each in panels of its own.

constexpr int StackThreads = 128, StackRows = 32, StackInner = 64;

struct StackArguments {
    // Of the first network: [rows, inner] and [rows]; those of the others follow so many floats after each other.
    const float *matrices;
    const float *biases;
    long long stride;
    // [panels]: which network each has.
    const int *networks;
    Panels from;
    Panels to;
    int rows;
    int inner;
    Activation activation;
};

// A block has 32 rows of one network's matrix in shared memory, a part at a time, and takes them to one panel: a warp has eight rows.
KERNEL(stacked_product, StackArguments) {
    SHARED float matrix[StackInner][StackRows + 1];
    int down = (given.rows + StackRows - 1) / StackRows;
    int panel = blockIndex() / down, firstRow = blockIndex() % down * StackRows;
    const float *weights = given.matrices + given.networks[panel] * given.stride, *biases = given.biases + given.networks[panel] * given.stride;
    unsigned sample = panel * PanelWidth + threadIndex() % PanelWidth;
    int mine = threadIndex() / PanelWidth * ProductRows;
    float sums[ProductRows];
#pragma unroll
    for (int row = 0; row < ProductRows; row++)
        sums[row] = firstRow + mine + row < given.rows ? biases[firstRow + mine + row] : 0.0f;
    for (int start = 0; start < given.inner; start += StackInner) {
        int count = given.inner - start < StackInner ? given.inner - start : StackInner;
        barrier();
        for (int i = threadIndex(); i < count * StackRows; i += StackThreads) {
            int row = i / count, inner = i % count;
            matrix[inner][row] = firstRow + row < given.rows ? weights[(firstRow + row) * given.inner + start + inner] : 0.0f;
        }
        barrier();
        for (int inner = 0; inner < count; inner++) {
            float value = *elementOf(given.from, sample, start + inner);
#pragma unroll
            for (int row = 0; row < ProductRows; row++)
                sums[row] = fma(matrix[inner][mine + row], value, sums[row]);
        }
    }
    for (int row = 0; row < ProductRows && firstRow + mine + row < given.rows; row++)
        *elementOf(given.to, sample, firstRow + mine + row) = activated(given.activation, sums[row]);
}

struct LanesArguments {
    Panels from;
    Panels to;
    // [samples]: of each, which of the others it becomes.
    const int *sources;
    // [panels] of what is written: which network's; and [networks, features], or null for no normalization.
    const int *networks;
    const float *means;
    const float *scales;
    unsigned samples;
    int features;
};

// Puts samples in another order, and normalizes them as the network does that is to read them.
KERNEL(gather_lanes, LanesArguments) {
    unsigned sample = globalIndex() % given.samples;
    int feature = globalIndex() / given.samples;
    if (feature >= given.features)
        return;
    float value = *elementOf(given.from, given.sources[sample], feature);
    if (given.means) {
        int place = given.networks[sample / PanelWidth] * given.features + feature;
        value = (value - given.means[place]) * given.scales[place];
    }
    *elementOf(given.to, sample, feature) = value;
}

struct ActivationArguments {
    // What the forward pass gave, and the gradient, changed in place.
    Panels values;
    Panels gradients;
    unsigned samples;
    int features;
    Activation activation;
};

KERNEL(activation_backward, ActivationArguments) {
    unsigned sample = globalIndex() % given.samples;
    int feature = globalIndex() / given.samples;
    if (feature >= given.features)
        return;
    float *gradient = elementOf(given.gradients, sample, feature);
    *gradient = activatedBackward(given.activation, *elementOf(given.values, sample, feature), *gradient);
}

// dW += dY X', in chunks of panels

constexpr int GradientThreads = 256, GradientTile = 64, GradientShare = 4, MostLanes = 32;

struct GradientArguments {
    Panels outputs;
    Panels inputs;
    // [chunks, stride]: each chunk's own gradient of this layer's weights [outputs, inputs], added to.
    float *gradients;
    long long stride;
    int panels;
    int steps;
    int chunks;
    int outputSize;
    int inputSize;
};

// Where a chunk's panels begin.
DEVICE int chunkStart(int chunk, int panels, int chunks) { return (int)((long long)chunk * panels / chunks); }

// The panel of the nth step, where each panel's steps come from the last to the first.
DEVICE long long backwards(int n, int steps) { return (long long)(n / steps) * steps + (steps - 1 - n % steps); }

// A block has a tile of one chunk's weights, and a thread 4 by 4 of them.
KERNEL(weight_gradient, GradientArguments) {
    SHARED float dy[MostLanes][GradientTile];
    SHARED float x[MostLanes][GradientTile];
    int across = (given.inputSize + GradientTile - 1) / GradientTile;
    int down = (given.outputSize + GradientTile - 1) / GradientTile;
    int chunk = blockIndex() / (across * down);
    int firstOutput = blockIndex() / across % down * GradientTile, firstInput = blockIndex() % across * GradientTile;
    constexpr int Side = GradientTile / GradientShare;
    int row = threadIndex() / Side * GradientShare, column = threadIndex() % Side * GradientShare;
    float *weights = given.gradients + chunk * given.stride;
    float sums[GradientShare][GradientShare];
    auto mine = [&](int i, int j) { return firstOutput + row + i < given.outputSize && firstInput + column + j < given.inputSize; };
#pragma unroll
    for (int i = 0; i < GradientShare; i++)
#pragma unroll
        for (int j = 0; j < GradientShare; j++)
            sums[i][j] = mine(i, j) ? weights[(firstOutput + row + i) * given.inputSize + firstInput + column + j] : 0.0f;
    int lanes = given.inputs.lanes;
    int steps = chunkStart(chunk, given.panels, given.chunks) * given.steps, end = chunkStart(chunk + 1, given.panels, given.chunks) * given.steps;
    for (; steps < end; steps++) {
        long long panel = backwards(steps, given.steps);
        barrier();
        for (int i = threadIndex(); i < lanes * GradientTile; i += GradientThreads) {
            int lane = i % lanes, feature = i / lanes;
            dy[lane][feature] = firstOutput + feature < given.outputSize
                ? given.outputs.at[panel * given.outputs.stride + (firstOutput + feature) * lanes + lane]
                : 0.0f;
            x[lane][feature] = firstInput + feature < given.inputSize
                ? given.inputs.at[panel * given.inputs.stride + (firstInput + feature) * lanes + lane]
                : 0.0f;
        }
        barrier();
        for (int lane = 0; lane < lanes; lane++)
#pragma unroll
            for (int i = 0; i < GradientShare; i++)
#pragma unroll
                for (int j = 0; j < GradientShare; j++)
                    sums[i][j] = fma(dy[lane][row + i], x[lane][column + j], sums[i][j]);
    }
    for (int i = 0; i < GradientShare; i++)
        for (int j = 0; j < GradientShare; j++)
            if (mine(i, j))
                weights[(firstOutput + row + i) * given.inputSize + firstInput + column + j] = sums[i][j];
}

struct BiasArguments {
    Panels outputs;
    // [chunks, stride]: each chunk's own gradient of this layer's bias, added to.
    float *gradients;
    long long stride;
    int panels;
    int steps;
    int chunks;
    int outputSize;
};

// The lanes of a row are added in the order of Elementwise.AddLaneSums.
DEVICE float laneSum(const float *row, int lanes) {
    float all[8];
    for (int i = 0; i < 8; i++) {
        all[i] = row[i] + row[i + 8];
        if (lanes == MostLanes)
            all[i] += row[i + 16] + row[i + 24];
    }
    for (int i = 0; i < 4; i++)
        all[i] += all[i + 4];
    return (all[0] + all[2]) + (all[1] + all[3]);
}

KERNEL(bias_gradient, BiasArguments) {
    int chunk = globalIndex() / given.outputSize, output = globalIndex() % given.outputSize;
    if (chunk >= given.chunks)
        return;
    float *bias = given.gradients + chunk * given.stride + output;
    float sum = *bias;
    int steps = chunkStart(chunk, given.panels, given.chunks) * given.steps, end = chunkStart(chunk + 1, given.panels, given.chunks) * given.steps;
    for (; steps < end; steps++) {
        const float *panel = given.outputs.at + backwards(steps, given.steps) * given.outputs.stride;
        sum += laneSum(panel + output * given.outputs.lanes, given.outputs.lanes);
    }
    *bias = sum;
}
