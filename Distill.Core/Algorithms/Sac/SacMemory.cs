using Distill.Datasets;
using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Bytes that SAC will take, known before anything is allocated.</summary>
/// <param name="ReplayBytes">The replay, as full as the run will make it.</param>
/// <param name="NetworkBytes">Parameters, moments, gradients of every chunk, a batch, and activations of every thread.</param>
/// <param name="AvailableBytes">What the machine has for this process, with a tenth to spare.</param>
public sealed record SacMemory(long ReplayBytes, long NetworkBytes, long AvailableBytes)
{
    public long TotalBytes => ReplayBytes + NetworkBytes;

    public bool Fits => TotalBytes <= AvailableBytes;

    /// <param name="threads">Of the pool that SAC will run on.</param>
    /// <param name="availableBytes">What the machine has for this process; null asks it.</param>
    /// <exception cref="DistillException">The settings, or the sizes that follow from them, cannot work.</exception>
    public static SacMemory Of(
        SacConfig config,
        IEnvironmentConfig environment,
        int threads,
        long? availableBytes = null
    )
    {
        config.Validate();
        var spec = environment.Spec;
        var (actor, critic) = (config.ActorNetwork(spec), config.CriticNetwork(spec));
        var columns = config.Layout(spec).Columns;
        var transitions = (double)config.Iterations * config.StepsPerEnv * environment.Envs;
        // An actor's pass, both critics' and back.
        var perThread =
            (
                actor.Inputs
                + actor.Size.Activations
                + 3 * actor.Size.Outputs
                + 3 * critic.Inputs
                + 2 * critic.Size.Activations
            ) * Panel.Width
            + Math.Max(actor.Size.Scratch, critic.Size.Scratch);
        return new SacMemory(
            Replay.EstimateBytes((long)Math.Min(transitions, config.ReplayCapacity), columns)
                + (long)Panel.Count(environment.Envs) * Panel.Width * columns.Size * sizeof(float),
            SacLearner.EstimateBytes(config, actor, critic, columns) + threads * perThread * sizeof(float),
            MemoryEstimate.WithATenthToSpare(availableBytes)
        );
    }
}
