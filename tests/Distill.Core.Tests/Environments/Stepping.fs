namespace Distill.Tests

open System
open System.Runtime.CompilerServices
open Distill.Compute
open Distill.Environments

/// Steps whose outcome goes to arrays.
[<Extension>]
type Stepping =
    /// Reward, terminated and truncated, `[32]` each, and `[measures, 32]`.
    [<Extension>]
    static member Step
        (
            environment: IBatchedEnvironment,
            panel: int,
            actions: float32[],
            reward: float32[],
            terminated: float32[],
            truncated: float32[],
            measures: float32[]
        ) =
        let rows = Array.zeroCreate (StepOutcome.Rows * Panel.Width + measures.Length)
        environment.Step(panel, ReadOnlySpan actions, StepOutcome(Span rows))

        for i, target in List.indexed [ reward; terminated; truncated ] do
            Array.blit rows (i * Panel.Width) target 0 Panel.Width

        Array.blit rows (StepOutcome.Rows * Panel.Width) measures 0 measures.Length

    [<Extension>]
    static member Step
        (
            environment: IBatchedEnvironment,
            panel: int,
            actions: float32[],
            reward: float32[],
            terminated: float32[],
            truncated: float32[]
        ) =
        environment.Step(panel, actions, reward, terminated, truncated, [||])
