// What a collection of a distillation does beside flying drones and running networks, with the bits of Distill.Core/Algorithms/Distillation
// and Distill.Core/Networks/ObservationStatistics.cs. A thread is an environment.
#pragma once
#include "random.cuh"
#include "watch.cuh"

// What is noted of a row.
struct Mark {
    enum : int { Valid = 1, Start = 2, Terminated = 4, Truncated = 8 };
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

KERNEL(normalize, NormalizeArguments) {
    unsigned sample = globalIndex() % given.samples;
    int feature = globalIndex() / given.samples;
    if (feature < given.features)
        *elementOf(given.to, sample, feature) = (*elementOf(given.from, sample, feature) - given.mean[feature]) * given.scale[feature];
}

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
    Stream acting;
};

// Who drives, and the row of a step.
KERNEL(choose_actions, ChooseArguments) {
    const RolloutRows &rollout = given.rollout;
    unsigned env = globalIndex();
    if (env >= rollout.lanes)
        return;
    bool taught = given.share >= 1.0;
    if (given.share > 0.0 && given.share < 1.0)
        taught = (double)uniform(randomWords(given.acting, env, given.time, 0, 0).x[0]) < given.share;
    for (int i = 0; i < given.actionSize; i++)
        *elementOf(given.actions, env, i) = *elementOf(taught ? given.teacherSays : given.studentSays, env, i);
    if (env >= rollout.envs)
        return;
    float *row = rollout.rows + ((ulong)env * rollout.steps + given.step) * rollout.columns;
    for (int i = 0; i < given.studentInputs; i++)
        row[i] = *elementOf(given.studentSees, env, i);
    for (int i = 0; i < given.actionSize; i++)
        row[given.studentInputs + i] = *elementOf(given.teacherSays, env, i);
    if (rollout.alive[env] == 0.0f)
        return;
    Finding &finding = rollout.findings[env];
    watch(finding, given.step, Quantity::TeachersObservation, given.teacherSees, env, given.teacherInputs);
    watch(finding, given.step, Quantity::TeachersAction, given.teacherSays, env, given.actionSize);
    watch(finding, given.step, Quantity::StudentsObservation, given.studentSees, env, given.studentInputs);
    watch(finding, given.step, Quantity::StudentsAction, given.studentSays, env, given.actionSize);
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
KERNEL(take_outcomes, TakeArguments) {
    const RolloutRows &rollout = given.rollout;
    unsigned env = globalIndex();
    if (env >= rollout.lanes)
        return;
    Lane outcome = laneOf(given.outcomes, env, 3);
    bool terminated = outcome[1] != 0.0f, truncated = outcome[2] != 0.0f, counts = rollout.alive[env] != 0.0f;
    if (env < rollout.envs) {
        if (counts)
            watch(rollout.findings[env], given.step, Quantity::Reward, outcome[0]);
        ulong row = (ulong)env * rollout.steps + given.step;
        rollout.rewards[row] = outcome[0];
        rollout.marks[row] = (counts ? Mark::Valid : 0) | (rollout.keeps[env] == 0.0f ? Mark::Start : 0)
            | (terminated ? Mark::Terminated : truncated ? Mark::Truncated : 0);
    }
    rollout.keeps[env] = terminated || truncated ? 0.0f : 1.0f;
    if (given.wholeEpisodes && (terminated || truncated))
        rollout.alive[env] = 0.0f;
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
KERNEL(add_deviations, DeviationArguments) {
    int panel = globalIndex() / given.features, feature = globalIndex() % given.features;
    if (panel >= given.panels)
        return;
    unsigned first = panel * PanelWidth, end = first + PanelWidth < given.envs ? first + PanelWidth : given.envs;
    float mean = given.mean[feature];
    double sum = given.sums[globalIndex()], square = given.squares[globalIndex()];
    for (unsigned env = first; env < end; env++) {
        double deviation = *elementOf(given.observations, env, feature) - mean;
        sum += deviation;
        square += deviation * deviation;
    }
    given.sums[globalIndex()] = sum;
    given.squares[globalIndex()] = square;
}

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
