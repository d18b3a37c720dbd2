// What PPO does beside flying drones and running networks, with the bits of Distill.Core/Algorithms/Ppo and
// Distill.Core/Networks/Distributions/Gaussian.cs.
#pragma once
#include "collection.cu"
#include "optimizers.cu"

// What a sample consists of: where its parts begin, and how large those are that differ. Critic inputs of its own, or 0.
struct SampleLayout {
    int actorObservation, actorInputs, criticObservation, criticInputs, action, actions, outputs, logProbability;
    int value, advantage, returns, weight, recorded, size;
};

// A rollout in panels [panels, steps, ., 32].
struct PpoRollout {
    SampleLayout layout;
    // [panels, steps, recorded, 32].
    float *recorded;
    // [panels, steps, 32].
    float *rewards;
    float *terminated;
    float *truncated;
    float *advantages;
    // The same, where states that step limits end episodes in are valued; else null.
    float *beyond;
    // [panels, steps + 1, 32].
    float *values;
    // [envs].
    Finding *findings;
    unsigned envs;
    unsigned lanes;
    int steps;
};

struct PpoQuantity {
    // In the order in which the processor looks at them.
    enum : int { ActorsObservation, CriticsObservation, Action, Value, ActorsArrival, CriticsArrival, Reward, Beyond };
};

// An environment's number of a step, of steps in panels.
DEVICE float &stepOf(float *panels, unsigned env, int step, int steps) {
    return panels[((ulong)(env / PanelWidth) * steps + step) * PanelWidth + env % PanelWidth];
}

// What is recorded of an environment's step.
DEVICE Lane recordOf(const PpoRollout &rollout, unsigned env, int step) {
    int size = rollout.layout.recorded;
    return {&stepOf(rollout.recorded, env, step * size, rollout.steps * size)};
}

// A normal distribution of an action

constexpr float HalfLogTwoPi = 0.918938533f;

struct Normal {
    float mean;
    float logStd;
    // One over the standard deviation.
    float inverse;
};

DEVICE Normal normalOf(float mean, float logStd) { return {mean, logStd, preciseExponential(-1.0f * logStd)}; }

DEVICE float deviationOf(Normal normal, float action) { return (action - normal.mean) * normal.inverse; }

// What an action's density takes from the logarithm of all.
DEVICE float improbability(Normal normal, float action) {
    float deviation = deviationOf(normal, action), constant = normal.logStd + HalfLogTwoPi;
    return 0.5f * deviation * deviation + constant;
}

// KL(old || new).
DEVICE float divergence(float oldMean, float oldLogStd, Normal normal) {
    float logRatio = normal.logStd - oldLogStd;
    float constant = logRatio + 0.5f * preciseExponential(-2.0f * logRatio) - 0.5f;
    float shift = (normal.mean - oldMean) * normal.inverse;
    return 0.5f * shift * shift + constant;
}

// Collecting

struct MarkArguments {
    // The panels that begin anew.
    const int *panels;
    // [panels, 3, 32]: reward, terminated, truncated.
    float *outcomes;
    int count;
};

KERNEL(mark_restarts, MarkArguments) {
    int i = globalIndex() / PanelWidth, lane = globalIndex() % PanelWidth;
    if (i < given.count)
        laneOf(given.outcomes, given.panels[i] * PanelWidth + lane, 3)[1] = 1.0f;
}

struct ActArguments {
    PpoRollout rollout;
    // [panels, features, 32]: what actor and critic see, and what they say: means, and a value.
    Panels actorSees;
    Panels criticSees;
    Panels means;
    Panels values;
    // [actions].
    const float *logStd;
    // [panels, actions, 32], written.
    Panels actions;
    // Of the rollout.
    int step;
    // Steps since the start of training, the counter of draws: its low and its high word.
    unsigned time;
    unsigned epoch;
    Stream noise;
};

// The stochastic actor acts, and the step is recorded. A thread is an environment.
STEP_KERNEL(ppo_act, ActArguments) {
    const PpoRollout &rollout = given.rollout;
    const SampleLayout &layout = rollout.layout;
    unsigned env = globalIndex();
    int step = given.step + ahead;
    if (env >= rollout.lanes)
        return;
    Lane sample = recordOf(rollout, env, step);
    for (int i = 0; i < layout.actorInputs; i++)
        sample[layout.actorObservation + i] = *elementOf(given.actorSees, env, i);
    for (int i = 0; i < layout.criticInputs; i++)
        sample[layout.criticObservation + i] = *elementOf(given.criticSees, env, i);
    float logProbability = 0.0f, drawn[4];
    ulong time = timeOf(given.time, given.epoch) + ahead;
    for (int i = 0; i < layout.actions; i++) {
        if (i % 4 == 0) {
            Words words = randomWords(given.noise, env, (unsigned)time, time >> 32, i / 4);
            normals(words.x[0], words.x[1], drawn[0], drawn[1]);
            normals(words.x[2], words.x[3], drawn[2], drawn[3]);
        }
        Normal normal = normalOf(*elementOf(given.means, env, i), given.logStd[i]);
        float action = normal.mean + preciseExponential(normal.logStd) * drawn[i % 4];
        logProbability -= improbability(normal, action);
        *elementOf(given.actions, env, i) = action;
        sample[layout.action + i] = action;
        sample[layout.outputs + i] = normal.mean;
        sample[layout.outputs + layout.actions + i] = normal.logStd;
    }
    sample[layout.logProbability] = logProbability;
    float value = *elementOf(given.values, env, 0);
    stepOf(rollout.values, env, step, rollout.steps + 1) = value;
    if (env >= rollout.envs)
        return;
    Finding &finding = rollout.findings[env];
    watch(finding, step, PpoQuantity::ActorsObservation, given.actorSees, env, layout.actorInputs);
    watch(finding, step, PpoQuantity::CriticsObservation, given.criticSees, env, layout.criticInputs);
    for (int i = 0; i < 2 * layout.actions; i++)
        watch(finding, step, PpoQuantity::Action, sample[layout.outputs + i]);
    watch(finding, step, PpoQuantity::Action, given.actions, env, layout.actions);
    watch(finding, step, PpoQuantity::Value, value);
}

struct ValueArguments {
    PpoRollout rollout;
    Panels actorSees;
    Panels criticSees;
    Panels values;
    // [panels, 3, 32] where the step limit may have ended episodes; null for the states after the rollout.
    float *outcomes;
    int step;
};

// The value of a state that nobody acts in.
STEP_KERNEL(ppo_value, ValueArguments) {
    const PpoRollout &rollout = given.rollout;
    unsigned env = globalIndex();
    int step = given.step + ahead;
    if (env >= rollout.lanes)
        return;
    bool wanted = !given.outcomes;
    for (int lane = 0; lane < PanelWidth && given.outcomes; lane++)
        wanted = wanted || laneOf(given.outcomes, env / PanelWidth * PanelWidth + lane, 3)[2] != 0.0f;
    if (!wanted)
        return;
    float value = *elementOf(given.values, env, 0);
    if (given.outcomes)
        stepOf(rollout.beyond, env, step, rollout.steps) = value;
    else
        stepOf(rollout.values, env, step, rollout.steps + 1) = value;
    if (env >= rollout.envs)
        return;
    Finding &finding = rollout.findings[env];
    int shift = given.outcomes ? PpoQuantity::ActorsArrival - PpoQuantity::ActorsObservation : 0;
    watch(finding, step, PpoQuantity::ActorsObservation + shift, given.actorSees, env, rollout.layout.actorInputs);
    watch(finding, step, PpoQuantity::CriticsObservation + shift, given.criticSees, env, rollout.layout.criticInputs);
}

struct PpoTakeArguments {
    PpoRollout rollout;
    // [panels, 3, 32].
    float *outcomes;
    int step;
};

// What the step brought.
STEP_KERNEL(ppo_take, PpoTakeArguments) {
    const PpoRollout &rollout = given.rollout;
    unsigned env = globalIndex();
    int step = given.step + ahead;
    if (env >= rollout.lanes)
        return;
    Lane outcome = laneOf(given.outcomes, env, 3);
    stepOf(rollout.rewards, env, step, rollout.steps) = outcome[0];
    stepOf(rollout.terminated, env, step, rollout.steps) = outcome[1];
    stepOf(rollout.truncated, env, step, rollout.steps) = outcome[2];
    if (env >= rollout.envs)
        return;
    watch(rollout.findings[env], step, PpoQuantity::Reward, outcome[0]);
    if (rollout.beyond)
        watch(rollout.findings[env], step, PpoQuantity::Beyond, stepOf(rollout.beyond, env, step, rollout.steps));
}

// Advantages and samples

struct AdvantageArguments {
    PpoRollout rollout;
    float rewardScale;
    float gamma;
    float lambda;
};

KERNEL(ppo_advantages, AdvantageArguments) {
    const PpoRollout &rollout = given.rollout;
    unsigned env = globalIndex();
    if (env >= rollout.lanes)
        return;
    int steps = rollout.steps;
    float advantage = 0.0f;
    for (int step = steps - 1; step >= 0; step--) {
        float truncated = stepOf(rollout.truncated, env, step, steps);
        float goesOn = 1.0f - stepOf(rollout.terminated, env, step, steps) - truncated;
        float value = stepOf(rollout.values, env, step, steps + 1);
        float beyond = rollout.beyond ? stepOf(rollout.beyond, env, step, steps) : value;
        float next = goesOn * stepOf(rollout.values, env, step + 1, steps + 1) + truncated * beyond;
        float reward = stepOf(rollout.rewards, env, step, steps) * given.rewardScale;
        float surprise = reward + given.gamma * next - value;
        advantage = surprise + given.gamma * given.lambda * goesOn * advantage;
        stepOf(rollout.advantages, env, step, steps) = advantage;
    }
}

struct PpoGatherArguments {
    PpoRollout rollout;
    // [count]: which step of which environment is where.
    const int *order;
    // [panels, size, 32], written.
    float *samples;
    unsigned count;
    unsigned places;
};

// A thread has a place; those beyond the last sample hold zeros.
KERNEL(ppo_gather, PpoGatherArguments) {
    const PpoRollout &rollout = given.rollout;
    const SampleLayout &layout = rollout.layout;
    unsigned place = globalIndex();
    if (place >= given.places)
        return;
    Lane sample = laneOf(given.samples, place, layout.size);
    if (place >= given.count) {
        for (int i = 0; i < layout.size; i++)
            sample[i] = 0.0f;
        return;
    }
    unsigned step = given.order[place] / rollout.envs, env = given.order[place] % rollout.envs;
    Lane record = recordOf(rollout, env, step);
    for (int i = 0; i < layout.recorded; i++)
        sample[i] = record[i];
    float value = stepOf(rollout.values, env, step, rollout.steps + 1), advantage = stepOf(rollout.advantages, env, step, rollout.steps);
    sample[layout.value] = value;
    sample[layout.advantage] = advantage;
    sample[layout.returns] = value + advantage;
    sample[layout.weight] = 1.0f;
}

constexpr int StandardizeThreads = 256;

struct StandardizeArguments {
    // [panels, size, 32]: of one part, and where in a sample its advantage is.
    float *samples;
    int size;
    int advantage;
    int panels;
    // Places that hold a sample.
    int count;
};

// Advantages of a part to mean 0 and standard deviation 1. One block, whose first and last threads add up what the others fetch.
KERNEL(ppo_standardize, StandardizeArguments) {
    SHARED float fetched[StandardizeThreads];
    SHARED double sums[2];
    int places = given.panels * PanelWidth;
    auto advantageOf = [&](int place) -> float & { return laneOf(given.samples, place, given.size)[given.advantage]; };
    bool plain = threadIndex() == 0, squared = threadIndex() == StandardizeThreads - 1;
    double sum = 0.0;
    for (int first = 0; first < places; first += StandardizeThreads) {
        int place = first + threadIndex(), count = places - first < StandardizeThreads ? places - first : StandardizeThreads;
        barrier();
        fetched[threadIndex()] = place < places ? advantageOf(place) : 0.0f;
        barrier();
        for (int i = 0; i < count && (plain || squared); i++) {
            double advantage = fetched[i];
            sum += squared ? advantage * advantage : advantage;
        }
    }
    if (plain || squared)
        sums[squared] = sum;
    barrier();
    double mean = sums[0] / given.count, rest = sums[1] - sums[0] * mean;
    // What is not a number stays so.
    rest = rest <= 0.0 ? 0.0 : rest;
    double deviation = squareRoot(rest / (given.count > 2 ? given.count - 1 : 1));
    for (int place = threadIndex(); place < places; place += StandardizeThreads)
        advantageOf(place) = (float)((advantageOf(place) - mean) / (deviation + 1e-8));
}

// Losses

constexpr float LargestLogRatio = 60.0f;

struct LossTerm {
    enum : int { Surrogate, Value, Entropy, KlDivergence, Total };
};

struct PpoLossArguments {
    SampleLayout layout;
    // [panels, size, 32]: the mini-batch.
    float *samples;
    // Of the network: means, or values; and of the means the logarithms of the deviations.
    Panels outputs;
    const float *logStd;
    // Written: the outputs' gradients, those of the deviations' logarithms [panels, actions, 32], and what each sample adds to the
    // losses [panels, 4, 32].
    Panels gradients;
    float *deviations;
    float *terms;
    unsigned places;
    // Infinite for none.
    float clip;
    // Factors of the gradient, and of the entropy.
    float scale;
    float entropy;
};

// Clipped surrogate minus the entropy bonus. A thread has a sample.
KERNEL(ppo_actor_loss, PpoLossArguments) {
    const SampleLayout &layout = given.layout;
    unsigned place = globalIndex();
    if (place >= given.places)
        return;
    Lane sample = laneOf(given.samples, place, layout.size);
    Lane terms = laneOf(given.terms, place, LossTerm::Total), deviations = laneOf(given.deviations, place, layout.actions);
    float weight = sample[layout.weight], logProbability = 0.0f, entropy = 0.0f, divergences = 0.0f;
    for (int i = 0; i < layout.actions; i++) {
        Normal normal = normalOf(*elementOf(given.outputs, place, i), given.logStd[i]);
        logProbability -= improbability(normal, sample[layout.action + i]);
        entropy += normal.logStd + HalfLogTwoPi + 0.5f;
        divergences += divergence(sample[layout.outputs + i], sample[layout.outputs + layout.actions + i], normal);
    }
    float slope = 0.0f, surrogate = 0.0f;
    if (given.scale != 0.0f) {
        float logRatio = logProbability - sample[layout.logProbability], advantage = sample[layout.advantage];
        float ratio = preciseExponential(logRatio > LargestLogRatio ? LargestLogRatio : logRatio);
        float low = 1.0f - given.clip, high = 1.0f + given.clip;
        float free = -advantage * ratio, clipped = -advantage * (ratio < low ? low : ratio > high ? high : ratio);
        surrogate = weight * (free < clipped ? clipped : free);
        slope = free >= clipped ? given.scale * weight * free : 0.0f;
    }
    float bonus = -given.entropy * given.scale * weight;
    for (int i = 0; i < layout.actions; i++) {
        Normal normal = normalOf(*elementOf(given.outputs, place, i), given.logStd[i]);
        float deviation = deviationOf(normal, sample[layout.action + i]);
        *elementOf(given.gradients, place, i) = slope * deviation * normal.inverse;
        deviations[i] = slope * (deviation * deviation - 1.0f) + bonus;
    }
    terms[LossTerm::Surrogate] = surrogate;
    terms[LossTerm::Entropy] = weight * entropy;
    terms[LossTerm::KlDivergence] = weight * divergences;
}

KERNEL(ppo_critic_loss, PpoLossArguments) {
    const SampleLayout &layout = given.layout;
    unsigned place = globalIndex();
    if (place >= given.places)
        return;
    Lane sample = laneOf(given.samples, place, layout.size);
    float value = *elementOf(given.outputs, place, 0), old = sample[layout.value], target = sample[layout.returns];
    float weight = sample[layout.weight], change = value - old, limit = given.clip, error = value - target;
    float kept = old + (change < -limit ? -limit : change > limit ? limit : change) - target;
    bool free = absolute(change) <= limit || error * error >= kept * kept;
    float counted = free ? error : kept;
    laneOf(given.terms, place, LossTerm::Total)[LossTerm::Value] = weight * (counted * counted);
    *elementOf(given.gradients, place, 0) = free ? 2.0f * given.scale * weight * error : 0.0f;
}

struct DeviationGradientArguments {
    // [panels, actions, 32].
    float *deviations;
    // [chunks, stride]: each chunk's own gradient of the deviations' logarithms, added to.
    float *gradients;
    long long stride;
    int panels;
    int chunks;
    int actions;
};

// A thread has an action of a chunk, whose lanes it adds up in order.
KERNEL(deviation_gradient, DeviationGradientArguments) {
    int chunk = globalIndex() / given.actions, action = globalIndex() % given.actions;
    if (chunk >= given.chunks)
        return;
    float &gradient = given.gradients[chunk * given.stride + action];
    for (int panel = chunkStart(chunk, given.panels, given.chunks); panel < chunkStart(chunk + 1, given.panels, given.chunks); panel++) {
        float change = 0.0f;
        for (int lane = 0; lane < PanelWidth; lane++)
            change += laneOf(given.deviations, panel * PanelWidth + lane, given.actions)[action];
        gradient += change;
    }
}

struct LearningRates {
    double actor;
    double critic;
};

constexpr int LossThreads = 256;

struct SumPpoLossesArguments {
    // [panels, 4, 32]; and [panels, 4] for a moment.
    float *terms;
    double *ofPanels;
    // [steps, 4]: the means over the samples, written at the number of the critic's steps.
    double *losses;
    const int *steps;
    Progress *actor;
    Progress *critic;
    LearningRates *rates;
    int panels;
    int chunks;
    // One over the number of samples.
    double share;
    // What the divergence should be; 0 where the rates stay. Bounds of the actor's rate, and the critic's rate, or 0 for the actor's.
    double desiredKl;
    double leastRate;
    double mostRate;
    double criticRate;
};

// The losses of a mini-batch, in the order of lanes, panels and chunks, and the rates of the step that follows. One block.
KERNEL(sum_ppo_losses, SumPpoLossesArguments) {
    SHARED double losses[LossTerm::Total];
    for (int i = threadIndex(); i < given.panels * LossTerm::Total; i += LossThreads) {
        const float *row = given.terms + i * PanelWidth;
        double sum = 0.0;
        for (int lane = 0; lane < PanelWidth; lane++)
            sum += row[lane];
        given.ofPanels[i] = sum;
    }
    barrier();
    if (threadIndex() < LossTerm::Total) {
        double sum = 0.0;
        for (int chunk = 0; chunk < given.chunks; chunk++) {
            double part = 0.0;
            for (int panel = chunkStart(chunk, given.panels, given.chunks); panel < chunkStart(chunk + 1, given.panels, given.chunks); panel++)
                part += given.ofPanels[panel * LossTerm::Total + threadIndex()];
            sum += part;
        }
        losses[threadIndex()] = sum * given.share;
    }
    barrier();
    if (threadIndex() != 0)
        return;
    bool failed = given.actor->failed || given.critic->failed;
    for (int i = 0; i < LossTerm::Total && !failed; i++)
        given.losses[*given.steps * LossTerm::Total + i] = losses[i];
    for (int i = 0; i < LossTerm::Total; i++)
        failed = failed || !(__builtin_fabs(losses[i]) < __builtin_inf());
    if (failed) {
        given.actor->failed = given.critic->failed = 1;
        return;
    }
    double kl = losses[LossTerm::KlDivergence], rate = given.rates->actor;
    if (kl > 2.0 * given.desiredKl && given.desiredKl > 0.0)
        rate = rate / 1.5 < given.leastRate ? given.leastRate : rate / 1.5;
    else if (kl > 0.0 && kl < given.desiredKl / 2.0)
        rate = rate * 1.5 > given.mostRate ? given.mostRate : rate * 1.5;
    else
        return;
    given.rates->actor = rate;
    given.rates->critic = given.criticRate > 0.0 ? given.criticRate : rate;
}
