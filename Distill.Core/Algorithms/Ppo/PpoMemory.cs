using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Bytes that PPO will take, known before anything is allocated.</summary>
/// <param name="RolloutBytes">The rollout, as it is collected and as it is shuffled.</param>
/// <param name="NetworkBytes">Parameters, moments, gradients of every chunk, and activations of every thread, of actor and critic.</param>
/// <param name="AvailableBytes">What the machine has for this process, with a tenth to spare.</param>
public sealed record PpoMemory(long RolloutBytes, long NetworkBytes, long AvailableBytes)
{
    public long TotalBytes => RolloutBytes + NetworkBytes;

    public bool Fits => TotalBytes <= AvailableBytes;

    /// <param name="threads">Of the pool that PPO will run on.</param>
    /// <param name="availableBytes">What the machine has for this process; null asks it.</param>
    /// <exception cref="DistillException">The settings, or the sizes that follow from them, cannot work.</exception>
    public static PpoMemory Of(
        PpoConfig config,
        IEnvironmentConfig environment,
        int threads,
        long? availableBytes = null
    )
    {
        config.Validate();
        var spec = environment.Spec;
        var actor = Network(config.ActorGroup, config.ActorHidden, spec.Actions.Size, Head.Gaussian);
        var critic = Network(config.CriticGroup, config.CriticHidden, 1, Head.Plain);
        var layout = new SampleLayout(
            actor.Inputs,
            config.ActorGroup == config.CriticGroup ? null : critic.Inputs,
            spec.Actions.Floats,
            actor.Size.Outputs
        );
        var perThread =
            Policy.EstimateBytes(actor)
            + Policy.EstimateBytes(critic)
            + (long)(layout.Recorded + actor.Size.Outputs + 1) * Panel.Width * sizeof(float);
        return new PpoMemory(
            PpoRollout.EstimateBytes(environment.Envs, config.StepsPerEnv, layout),
            threads * perThread + Ppo.EstimateBytes(config.Optimizer, actor, critic),
            MemoryEstimate.WithATenthToSpare(availableBytes)
        );

        NetworkSpec Network(string group, IReadOnlyList<int> hidden, int outputs, Head head) =>
            NetworkSpec.Mlp(new ObservationView(spec, group).Size, hidden, outputs, config.Activation, head);
    }
}
