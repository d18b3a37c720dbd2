// Many steps of a rollout as one kernel, so that small networks do not wait for their launches. A block has 128 environments, four
// panels, and keeps them: step after step it does what the kernels of a step would do, in their order. Nothing of a step needs anything
// of another block.
#pragma once
#include "evaluation.cu"
#include "gru.cu"
#include "ppo.cu"
#include "quadrotor.cu"

constexpr int RolloutThreads = 128, RolloutPanels = RolloutThreads / PanelWidth;

// The kernels that a step may consist of, in the order of CudaSteps.
enum class Part : int {
    Observe,
    Normalize,
    Product,
    Gru,
    Copy,
    Draw,
    Choose,
    RecordColumn,
    Fly,
    Restart,
    Take,
    Evaluate,
    Act,
    Value,
    PpoTake,
    AddDeviations,
};

struct StartedPart {
    Part part;
    // Where its record begins, in bytes.
    int record;
};

struct RolloutArguments {
    // [count], in order.
    const StartedPart *started;
    const char *records;
    int count;
    int steps;
};

KERNEL(run_steps, RolloutArguments) {
    unsigned env = globalIndex();
    int panel = blockIndex() * RolloutPanels;
    for (int step = 0; step < given.steps; step++)
        for (int i = 0; i < given.count; i++) {
            const void *record = given.records + given.started[i].record;
            // Some look at the other environments of a panel.
            barrier();
            switch (given.started[i].part) {
            case Part::Observe: quadrotor_observe_step(*(const ObserveArguments *)record, step); break;
            case Part::Normalize: {
                auto &now = *(const NormalizeArguments *)record;
                for (int feature = 0; feature < now.features; feature++)
                    normalizeFeature(now, env, feature);
                break;
            }
            case Part::Product: {
                auto &now = *(const ProductArguments *)record;
                for (int row = 0; row < now.rows; row += ProductRows)
                    productOfRows(now, row, env);
                break;
            }
            case Part::Gru: {
                auto &now = *(const GruArguments *)record;
                for (int own = panel; own < panel + RolloutPanels && own < now.panels; own++)
                    gruForward(now, own);
                break;
            }
            case Part::Copy: {
                auto &now = *(const CopyFeaturesArguments *)record;
                for (int feature = 0; feature < now.features; feature++)
                    copyFeature(now, env, feature);
                break;
            }
            case Part::Draw: draw_actions_step(*(const DrawArguments *)record, step); break;
            case Part::Choose: choose_actions_step(*(const ChooseArguments *)record, step); break;
            case Part::RecordColumn: record_column_step(*(const RecordColumnArguments *)record, step); break;
            case Part::Fly: quadrotor_step_step(*(const StepArguments *)record, step); break;
            case Part::Restart: quadrotor_restart_step(*(const RestartArguments *)record, step); break;
            case Part::Take: take_outcomes_step(*(const TakeArguments *)record, step); break;
            case Part::Evaluate: evaluate_step_step(*(const EvaluateArguments *)record, step); break;
            case Part::Act: ppo_act_step(*(const ActArguments *)record, step); break;
            case Part::Value: ppo_value_step(*(const ValueArguments *)record, step); break;
            case Part::PpoTake: ppo_take_step(*(const PpoTakeArguments *)record, step); break;
            case Part::AddDeviations: {
                auto &now = *(const DeviationArguments *)record;
                for (int own = threadIndex(); own < RolloutPanels * now.features; own += RolloutThreads)
                    addDeviations(now, panel + own / now.features, own % now.features);
                break;
            }
            }
        }
}
