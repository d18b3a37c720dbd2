namespace Distill.Environments.Quadrotor;

/// <summary>How the reference moves, for a whole batch.</summary>
internal enum ReferenceMotion
{
    Still,
    Langevin,
    FigureEight,
}

/// <summary>What all environments of a batch share, in the form in which the kernels use it.</summary>
/// <param name="VelocityCosts">Some drone's reward charges linear or angular velocity.</param>
/// <param name="LoopRate">Figure-eight: loops per second.</param>
/// <param name="LoopSize">Figure-eight: half length, m.</param>
/// <param name="LoopRamp">Figure-eight: seconds until the full rate.</param>
/// <param name="ResetStream">Counter: (environment, episode, draw, 0).</param>
/// <param name="LangevinStream">Counter: (environment, episode, step, 0).</param>
internal sealed record QuadrotorRules(
    int EpisodeLimit,
    ReferenceMotion Motion,
    bool VelocityCosts,
    float LoopRate,
    float LoopSize,
    float LoopRamp,
    RandomStream ResetStream,
    RandomStream LangevinStream
);
