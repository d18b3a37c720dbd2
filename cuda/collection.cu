// What a collection of a distillation does beside flying drones and running networks, with the bits of Distill.Core/Algorithms/Distillation
// and Distill.Core/Networks/ObservationStatistics.cs. A thread is an environment.
#pragma once
#include "random.cuh"
#include "watch.cuh"

// What is noted of a row.
struct Mark {
    enum : int { Valid = 1, Start = 2, Terminated = 4, Truncated = 8, HeldOut = 16, Failed = 32 };
};

struct Quantity {
    enum : int { TeachersObservation, TeachersAction, StudentsObservation, StudentsAction, Reward };
};

struct NormalizeArguments {
    Panels from;
    Panels to;
    // [features]; Normalizer.
    const float *mean;
    const float *scale;
    unsigned samples;
    int features;
};

DEVICE void normalizeFeature(const NormalizeArguments &given, unsigned sample, int feature) {
    if (sample < given.samples && feature < given.features)
        *elementOf(given.to, sample, feature) = (*elementOf(given.from, sample, feature) - given.mean[feature]) * given.scale[feature];
}

KERNEL(normalize, NormalizeArguments) { normalizeFeature(given, globalIndex() % given.samples, globalIndex() / given.samples); }

// A rollout: [envs, steps] of everything.
struct RolloutRows {
    // [envs, steps, columns]: the student's observation and the label.
    float *rows;
    float *rewards;
    int *marks;
    // [lanes]: 0 where an episode starts with the next row, else 1; and 0 where rows do not count any more, else 1.
    float *keeps;
    float *alive;
    // [envs].
    Finding *findings;
    unsigned envs;
    unsigned lanes;
    int steps;
    int columns;
};

struct ChooseArguments {
    RolloutRows rollout;
    // [panels, features, 32]: what teacher and student see, and what they would do.
    Panels teacherSees;
    Panels teacherSays;
    Panels studentSees;
    Panels studentSays;
    // What it does of that: the same, but where it explores.
    Panels studentDoes;
    // [panels, features, 32]: what is taken from what the student saw, after it has acted; null for nothing.
    Panels correction;
    // [panels, actions, 32], written.
    Panels actions;
    int teacherInputs;
    int studentInputs;
    int actionSize;
    // Of the rollout; and steps since the start of training, the counter of draws.
    int step;
    unsigned time;
    // Probability that the teacher drives.
    double share;
    // Whether the processor asks the teacher for blocks of steps of an environment, and where none counts writes zeros.
    int later;
    Stream acting;
};

constexpr int StepsLater = 32;

// Whether a step counts in the block that this one is in.
DEVICE bool countsLater(const RolloutRows &rollout, unsigned env, int step) {
    int first = step - step % StepsLater;
    return first == step ? rollout.alive[env] != 0.0f : rollout.marks[(ulong)env * rollout.steps + first] & Mark::Valid;
}

// Who drives, and the row of a step.
STEP_KERNEL(choose_actions, ChooseArguments) {
    const RolloutRows &rollout = given.rollout;
    unsigned env = globalIndex();
    int step = given.step + ahead;
    if (env >= rollout.lanes)
        return;
    bool taught = given.share >= 1.0;
    if (given.share > 0.0 && given.share < 1.0)
        taught = (double)uniform(randomWords(given.acting, env, given.time + ahead, 0, 0).x[0]) < given.share;
    for (int i = 0; i < given.actionSize; i++)
        *elementOf(given.actions, env, i) = *elementOf(taught ? given.teacherSays : given.studentDoes, env, i);
    if (env >= rollout.envs)
        return;
    float *row = rollout.rows + ((ulong)env * rollout.steps + step) * rollout.columns;
    for (int i = 0; i < given.studentInputs; i++)
        row[i] = *elementOf(given.studentSees, env, i) - (given.correction.at ? *elementOf(given.correction, env, i) : 0.0f);
    bool asked = !given.later || countsLater(rollout, env, step);
    for (int i = 0; i < given.actionSize; i++)
        row[given.studentInputs + i] = asked ? *elementOf(given.teacherSays, env, i) : 0.0f;
    if (rollout.alive[env] == 0.0f)
        return;
    Finding &finding = rollout.findings[env];
    watch(finding, step, Quantity::TeachersObservation, given.teacherSees, env, given.teacherInputs);
    watch(finding, step, Quantity::TeachersAction, given.teacherSays, env, given.actionSize);
    watch(finding, step, Quantity::StudentsObservation, given.studentSees, env, given.studentInputs);
    watch(finding, step, Quantity::StudentsAction, given.studentSays, env, given.actionSize);
}

struct TakeArguments {
    RolloutRows rollout;
    // [panels, 3, 32]: reward, terminated, truncated.
    float *outcomes;
    int step;
    // Whether rows after an episode's end do not count.
    int wholeEpisodes;
};

// What the step brought.
STEP_KERNEL(take_outcomes, TakeArguments) {
    const RolloutRows &rollout = given.rollout;
    unsigned env = globalIndex();
    int step = given.step + ahead;
    if (env >= rollout.lanes)
        return;
    Lane outcome = laneOf(given.outcomes, env, 3);
    bool terminated = outcome[1] != 0.0f, truncated = outcome[2] != 0.0f, counts = rollout.alive[env] != 0.0f;
    if (env < rollout.envs) {
        if (counts)
            watch(rollout.findings[env], step, Quantity::Reward, outcome[0]);
        ulong row = (ulong)env * rollout.steps + step;
        rollout.rewards[row] = outcome[0];
        rollout.marks[row] = (counts ? Mark::Valid : 0) | (rollout.keeps[env] == 0.0f ? Mark::Start : 0)
            | (terminated ? Mark::Terminated : truncated ? Mark::Truncated : 0);
    }
    rollout.keeps[env] = terminated || truncated ? 0.0f : 1.0f;
    if (given.wholeEpisodes && (terminated || truncated))
        rollout.alive[env] = 0.0f;
}

struct DrawArguments {
    // [panels, actions, 32]: means, and what is drawn.
    Panels means;
    Panels actions;
    // [networks, actions]: standard deviations; and [lanes]: which network acts.
    const float *deviations;
    const int *networks;
    // Steps since the start of training, the counter of draws: its low and its high word.
    unsigned time;
    unsigned epoch;
    unsigned lanes;
    int actionSize;
    // How far an action goes from the mean to a draw; a draw, where it is negative.
    float exploration;
    Stream noise;
};

// Draws from normal distributions, or goes a part of the way there; Policy.Explore and Gaussian.Sample.
STEP_KERNEL(draw_actions, DrawArguments) {
    unsigned env = globalIndex();
    if (env >= given.lanes)
        return;
    const float *deviations = given.deviations + given.networks[env] * given.actionSize;
    ulong time = timeOf(given.time, given.epoch) + ahead;
    float drawn[4];
    for (int i = 0; i < given.actionSize; i++) {
        if (i % 4 == 0) {
            Words words = randomWords(given.noise, env, (unsigned)time, time >> 32, i / 4);
            normals(words.x[0], words.x[1], drawn[0], drawn[1]);
            normals(words.x[2], words.x[3], drawn[2], drawn[3]);
        }
        float mean = *elementOf(given.means, env, i), draw = mean + deviations[i] * drawn[i % 4];
        *elementOf(given.actions, env, i) = given.exploration < 0.0f ? draw : mean + given.exploration * (draw - mean);
    }
}

struct RecordColumnArguments {
    RolloutRows rollout;
    // [panels, features, 32].
    Panels from;
    int features;
    // Where it begins in a row.
    int column;
    int step;
};

// What else is wanted of a step.
STEP_KERNEL(record_column, RecordColumnArguments) {
    unsigned env = globalIndex();
    if (env >= given.rollout.envs)
        return;
    float *row = given.rollout.rows + ((ulong)env * given.rollout.steps + given.step + ahead) * given.rollout.columns;
    for (int i = 0; i < given.features; i++)
        row[given.column + i] = *elementOf(given.from, env, i);
}

struct RecordMemoryArguments {
    RolloutRows rollout;
    // [panels, 1, memory, 32].
    Panels memory;
    // [envs, sequences, memory], written.
    float *records;
    int memorySize;
    int sequence;
    int sequences;
};

// The student's memory before the first row of a sequence.
KERNEL(record_memory, RecordMemoryArguments) {
    unsigned env = globalIndex();
    if (env >= given.rollout.envs)
        return;
    float *record = given.records + ((ulong)env * given.sequences + given.sequence) * given.memorySize;
    float keep = given.rollout.keeps[env];
    for (int i = 0; i < given.memorySize; i++)
        record[i] = keep == 0.0f ? 0.0f : *elementOf(given.memory, env, i) * keep;
}

struct StatisticsArguments {
    RolloutRows rollout;
    // [features].
    const float *mean;
    // [panels, features]: of deviations from the mean.
    double *sums;
    double *squares;
    int features;
    int panels;
};

// The moments of the student's observations: a thread has a feature of a panel's environments.
KERNEL(sum_deviations, StatisticsArguments) {
    const RolloutRows &rollout = given.rollout;
    int panel = globalIndex() / given.features, feature = globalIndex() % given.features;
    if (panel >= given.panels)
        return;
    unsigned first = panel * PanelWidth, end = first + PanelWidth < rollout.envs ? first + PanelWidth : rollout.envs;
    float mean = given.mean[feature];
    double sum = 0.0, square = 0.0;
    for (int step = 0; step < rollout.steps; step++)
        for (unsigned env = first; env < end; env++) {
            ulong row = (ulong)env * rollout.steps + step;
            if (!(rollout.marks[row] & Mark::Valid))
                continue;
            double deviation = rollout.rows[row * rollout.columns + feature] - mean;
            sum += deviation;
            square += deviation * deviation;
        }
    given.sums[globalIndex()] = sum;
    given.squares[globalIndex()] = square;
}

struct DeviationArguments {
    // [panels, features, 32].
    Panels observations;
    // [features], and [panels, features]: as above.
    const float *mean;
    double *sums;
    double *squares;
    unsigned envs;
    int features;
    int panels;
};

// The same of one step, added to what is there.
DEVICE void addDeviations(const DeviationArguments &given, int panel, int feature) {
    if (panel >= given.panels)
        return;
    int place = panel * given.features + feature;
    unsigned first = panel * PanelWidth, end = first + PanelWidth < given.envs ? first + PanelWidth : given.envs;
    float mean = given.mean[feature];
    double sum = given.sums[place], square = given.squares[place];
    for (unsigned env = first; env < end; env++) {
        double deviation = *elementOf(given.observations, env, feature) - mean;
        sum += deviation;
        square += deviation * deviation;
    }
    given.sums[place] = sum;
    given.squares[place] = square;
}

KERNEL(add_deviations, DeviationArguments) { addDeviations(given, globalIndex() / given.features, globalIndex() % given.features); }

struct MergeArguments {
    double *sums;
    double *squares;
    int features;
    int panels;
};

// All panels' into the first's: a thread has a feature.
KERNEL(merge_deviations, MergeArguments) {
    int feature = globalIndex();
    if (feature >= given.features)
        return;
    for (int panel = 1; panel < given.panels; panel++) {
        given.sums[feature] += given.sums[panel * given.features + feature];
        given.squares[feature] += given.squares[panel * given.features + feature];
    }
}
