// Rows of the aggregated dataset and the losses of a distillation, with the bits of Distill.Core/Datasets/AggregatedDataset.cs,
// Distill.Core/Networks/Losses and Distill.Core/Algorithms/Distillation/StudentTrainer.cs.
#pragma once
#include "collection.cu"
#include "optimizers.cu"

// Rows that are masked go through networks like others, and must give numbers; as in the dataset.
constexpr float LargestMasked = 1e15f;

DEVICE float usable(float value) { return absolute(value) <= LargestMasked ? value : 0.0f; }

struct AddArguments {
    // [rows, columns] and [rows], from those of a rollout to those of a chunk.
    const float *rows;
    const int *marks;
    float *toRows;
    int *toMarks;
    // [rows], or null where all count alike.
    float *toWeights;
    // [segments, memory].
    const float *memory;
    float *toMemory;
    long long rowCount;
    long long memoryCount;
    int columns;
};

KERNEL(add_rows, AddArguments) {
    long long i = globalIndex();
    if (i < given.memoryCount)
        given.toMemory[i] = usable(given.memory[i]);
    if (i >= given.rowCount * given.columns)
        return;
    long long row = i / given.columns;
    given.toRows[i] = given.marks[row] & Mark::Valid ? given.rows[i] : usable(given.rows[i]);
    if (i % given.columns != 0)
        return;
    given.toMarks[row] = given.marks[row];
    if (given.toWeights)
        given.toWeights[row] = 1.0f;
}

// Some segments of the dataset.
struct Chunk {
    float *rows;
    int *marks;
    float *memory;
    // How much each row counts, or null where all count alike.
    float *weights;
};

struct PackArguments {
    // [rows, columns] and [rows] of a rollout.
    const float *rows;
    const int *marks;
    const Chunk *chunks;
    // [segments]: their places, which are all different; and [segments, rows of a segment]: the rollout's rows they become.
    const int *places;
    const int *sources;
    int segments;
    int chunkSegments;
    int segmentLength;
    int columns;
};

// Segments of rows from here and there; their memory is 0, and stays so. A thread has a row.
KERNEL(pack_rows, PackArguments) {
    unsigned i = globalIndex();
    if (i >= (unsigned)given.segments * given.segmentLength)
        return;
    int place = given.places[i / given.segmentLength], local = place % given.chunkSegments, step = i % given.segmentLength;
    const Chunk &chunk = given.chunks[place / given.chunkSegments];
    long long source = given.sources[i], target = (long long)local * given.segmentLength + step;
    bool valid = given.marks[source] & Mark::Valid;
    for (int column = 0; column < given.columns; column++) {
        float value = given.rows[source * given.columns + column];
        chunk.rows[target * given.columns + column] = valid ? value : usable(value);
    }
    chunk.marks[target] = given.marks[source];
    if (chunk.weights)
        chunk.weights[target] = 1.0f;
}

// What differs from window to window of a pass.
struct Turn {
    // Where the mini-batch begins in the order, and its number.
    int start;
    int batch;
    // Factor of the gradient.
    float scale;
};

// The windows of a pass, one after another, and the one that it is at; null for what is no window of a pass.
struct Turns {
    const Turn *all;
    int *now;
};

struct GatherArguments {
    const Chunk *chunks;
    // The order that a mini-batch is of, or, where it is of none, [segments]: the places.
    const int *places;
    Turns turns;
    // [features], or null for no normalization.
    const float *mean;
    const float *scale;
    // Written: [panels, steps, observation and label, lanes], [panels, steps, 1, lanes] twice, and, where the first step is the
    // segments' first, [panels, 1, memory, lanes].
    Panels rows;
    Panels weights;
    Panels keeps;
    Panels memory;
    unsigned samples;
    int segments;
    int chunkSegments;
    int segmentLength;
    int columns;
    int observation;
    int features;
    int memorySize;
    int first;
    int steps;
    // Whether the rows that are held out count, instead of those that are trained on; and how much where the episode failed.
    int heldOut;
    float failedWeight;
};

// How much a row counts, by its mark; DatasetChunk.
DEVICE float weightOf(const Chunk &chunk, long long row, int heldOut, float failedWeight) {
    int mark = chunk.marks[row];
    if (!(mark & Mark::Valid) || ((mark & Mark::HeldOut) != 0) != (heldOut != 0))
        return 0.0f;
    float weight = mark & Mark::Failed ? failedWeight : 1.0f;
    return chunk.weights ? weight * chunk.weights[row] : weight;
}

// A thread has a row.
KERNEL(gather_rows, GatherArguments) {
    unsigned sample = globalIndex();
    if (sample >= given.samples)
        return;
    int lanes = given.rows.lanes, lane = sample % lanes, step = sample / lanes % given.steps, panel = sample / lanes / given.steps;
    bool used = panel * lanes + lane < given.segments;
    // Unused lanes repeat the panel's first segment, so that they hold numbers like any other.
    int start = given.turns.all ? given.turns.all[*given.turns.now].start : 0;
    int place = given.places[start + panel * lanes + (used ? lane : 0)];
    const Chunk &chunk = given.chunks[place / given.chunkSegments];
    long long local = place % given.chunkSegments, at = local * given.segmentLength + given.first + step;
    const float *row = chunk.rows + at * given.columns;
    for (int i = 0; i < given.features; i++) {
        float value = row[i];
        bool normalized = given.mean && i < given.observation;
        *elementOf(given.rows, sample, i) = normalized ? (value - given.mean[i]) * given.scale[i] : value;
    }
    *elementOf(given.weights, sample, 0) = used ? weightOf(chunk, at, given.heldOut, given.failedWeight) : 0.0f;
    *elementOf(given.keeps, sample, 0) = chunk.marks[at] & Mark::Start ? 0.0f : 1.0f;
    for (int i = 0; i < given.memorySize && given.first + step == 0; i++)
        *elementOf(given.memory, panel * lanes + lane, i) = used ? chunk.memory[local * given.memorySize + i] : 0.0f;
}

struct LossArguments {
    // [panels, steps, actions, lanes].
    Panels outputs;
    Panels labels;
    // Written.
    Panels gradients;
    // [panels, steps, 1, lanes].
    Panels weights;
    // [samples], written: each row's share of the sum.
    double *losses;
    Turns turns;
    unsigned samples;
    int actions;
    // Of Huber's loss.
    float delta;
};

// Factor of the gradient; 0 where nobody learns.
DEVICE float scaleOf(const Turns &turns) { return turns.all ? turns.all[*turns.now].scale : 0.0f; }

// A thread has a row. What does not count is left out, not multiplied by 0: it may be infinite or not a number.
KERNEL(mean_squared, LossArguments) {
    unsigned sample = globalIndex();
    if (sample >= given.samples)
        return;
    float weight = *elementOf(given.weights, sample, 0), slope = 2.0f * scaleOf(given.turns);
    double sum = 0.0;
    for (int i = 0; i < given.actions; i++) {
        float error = weight == 0.0f ? 0.0f : *elementOf(given.outputs, sample, i) - *elementOf(given.labels, sample, i);
        *elementOf(given.gradients, sample, i) = slope * weight * error;
        sum += weight * (error * error);
    }
    given.losses[sample] = sum;
}

KERNEL(huber, LossArguments) {
    unsigned sample = globalIndex();
    if (sample >= given.samples)
        return;
    float weight = *elementOf(given.weights, sample, 0), scale = scaleOf(given.turns), delta = given.delta;
    double sum = 0.0;
    for (int i = 0; i < given.actions; i++) {
        float error = weight == 0.0f ? 0.0f : *elementOf(given.outputs, sample, i) - *elementOf(given.labels, sample, i);
        float size = absolute(error);
        float limited = error < -delta ? -delta : error > delta ? delta : error;
        *elementOf(given.gradients, sample, i) = scale * weight * limited;
        sum += weight * (size <= delta ? 0.5f * error * error : delta * (size - 0.5f * delta));
    }
    given.losses[sample] = sum;
}

constexpr int SumThreads = 256;

struct SumLossesArguments {
    // [panels, steps, lanes] and [panels]; the second for a moment.
    const double *losses;
    double *ofPanels;
    // [mini-batches]: what the windows of each come to, added to.
    double *sums;
    Turns turns;
    Progress *progress;
    int panels;
    int steps;
    int lanes;
    int chunks;
    // Numbers of a row.
    int terms;
};

// The loss of a window of a mini-batch, in the order of lanes, steps, panels and chunks; and from here on it is the next one's turn. One
// block.
KERNEL(sum_losses, SumLossesArguments) {
    for (int panel = threadIndex(); panel < given.panels; panel += SumThreads) {
        double sum = 0.0;
        for (int step = given.steps - 1; step >= 0; step--) {
            const double *row = given.losses + ((long long)panel * given.steps + step) * given.lanes;
            double total = 0.0;
            for (int lane = 0; lane < given.lanes; lane++)
                total += row[lane];
            sum += total;
        }
        given.ofPanels[panel] = sum;
    }
    barrier();
    if (threadIndex() != 0)
        return;
    double *ofBatch = given.sums + given.turns.all[(*given.turns.now)++].batch;
    if (given.progress->failed)
        return;
    double sum = *ofBatch;
    for (int chunk = 0; chunk < given.chunks; chunk++) {
        double part = 0.0;
        for (int panel = chunkStart(chunk, given.panels, given.chunks); panel < chunkStart(chunk + 1, given.panels, given.chunks); panel++)
            part += given.ofPanels[panel];
        sum += part / given.terms;
    }
    *ofBatch = sum;
    if (!(__builtin_fabs(sum) < __builtin_inf()))
        given.progress->failed = 1;
}

// What is known of a segment so far.
struct SegmentLoss {
    double sum, weight;
};

struct NoteLossesArguments {
    const double *losses;
    Panels weights;
    // The order.
    const int *places;
    Turns turns;
    // [segments], and [places]: the mean of each, written with the last window.
    SegmentLoss *segmentLosses;
    float *noted;
    int segments;
    int steps;
    int terms;
    int isFirst;
    int isLast;
};

// A thread has a segment.
KERNEL(note_losses, NoteLossesArguments) {
    int segment = globalIndex();
    if (segment >= given.segments)
        return;
    int lanes = given.weights.lanes, panel = segment / lanes, lane = segment % lanes;
    SegmentLoss loss = given.isFirst ? SegmentLoss{} : given.segmentLosses[segment];
    for (int step = given.steps - 1; step >= 0; step--) {
        unsigned sample = (panel * given.steps + step) * lanes + lane;
        loss.sum += given.losses[sample];
    }
    for (int step = 0; step < given.steps; step++)
        loss.weight += *elementOf(given.weights, (panel * given.steps + step) * lanes + lane, 0);
    given.segmentLosses[segment] = loss;
    if (given.isLast)
        given.noted[given.places[given.turns.all[*given.turns.now].start + segment]] = loss.weight == 0.0 ? 0.0f : (float)(loss.sum / (loss.weight * given.terms));
}

struct SumHeldOutArguments {
    // [panels, steps, lanes].
    const double *losses;
    // [panels]: added to.
    double *sums;
    int panels;
    int steps;
    int lanes;
};

// What a window of rows that are held out comes to, in the order of lanes and steps. A thread has a panel.
KERNEL(sum_held_out, SumHeldOutArguments) {
    int panel = globalIndex();
    if (panel >= given.panels)
        return;
    double sum = 0.0;
    for (int step = 0; step < given.steps; step++) {
        const double *row = given.losses + ((long long)panel * given.steps + step) * given.lanes;
        double total = 0.0;
        for (int lane = 0; lane < given.lanes; lane++)
            total += row[lane];
        sum += total;
    }
    given.sums[panel] += sum;
}
