// What an evaluation notes of each step, with the bits of Distill.Core/Evaluation/Evaluator.cs. A thread is an environment, which has one
// episode.
#pragma once
#include "watch.cuh"

struct EvaluateArguments {
    // [panels, features, 32]: what was seen and done before the step, and what that brought: reward, terminated, truncated, measures.
    Panels sees;
    Panels says;
    Panels outcomes;
    // [episodes], of all written: the sum of rewards; steps, 0 while the episode goes on; and whether it ended in a terminal state.
    float *returns;
    int *lengths;
    int *terminated;
    // [measures, episodes]: means over the steps so far.
    float *measures;
    Finding *findings;
    unsigned episodes;
    int inputs;
    int actionSize;
    int measureCount;
    int step;
};

STEP_KERNEL(evaluate_step, EvaluateArguments) {
    unsigned env = globalIndex();
    if (env >= given.episodes || given.lengths[env] > 0)
        return;
    int step = given.step + ahead;
    enum { Reward, Terminated, Truncated, Measures };
    enum { Observation, Action };
    float reward = *elementOf(given.outcomes, env, Reward);
    bool terminated = *elementOf(given.outcomes, env, Terminated) != 0.0f;
    watch(given.findings[env], step, Observation, given.sees, env, given.inputs);
    watch(given.findings[env], step, Action, given.says, env, given.actionSize);
    watch(given.findings[env], step, Action + 1, reward);
    for (int i = 0; i < given.measureCount; i++) {
        float &mean = given.measures[(ulong)i * given.episodes + env];
        mean += (*elementOf(given.outcomes, env, Measures + i) - mean) / (float)(step + 1);
    }
    given.returns[env] += reward;
    if (!terminated && *elementOf(given.outcomes, env, Truncated) == 0.0f)
        return;
    given.lengths[env] = step + 1;
    given.terminated[env] = terminated;
}
