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
    /// <param name="guided">Whether there is a teacher.</param>
    /// <param name="availableBytes">What the machine has for this process; null asks it.</param>
    /// <exception cref="DistillException">The settings, or the sizes that follow from them, cannot work.</exception>
    public static PpoMemory Of(
        PpoConfig config,
        IEnvironmentConfig environment,
        int threads,
        bool guided = false,
        long? availableBytes = null
    )
    {
        config.Validate();
        var spec = environment.Spec;
        var actor = Network(config.Actor, spec.Actions.Size, config.HeadOf(spec));
        var critic = Network(config.Critic, 1, Head.Plain);
        var layout = config.Layout(spec, actor, critic, guided);
        var memory = (int)(actor.Size.Memory + critic.Size.Memory);
        var length = actor.Recurrent || critic.Recurrent ? config.StepsPerEnv : 1;
        var perThread = Math.Max(Collecting(), Math.Max(Learning(actor), Learning(critic))) * sizeof(float);
        return new PpoMemory(
            PpoRollout.EstimateBytes(environment.Envs, config.StepsPerEnv, layout, memory),
            threads * perThread + Ppo.EstimateBytes(config.Optimizer, actor, critic),
            MemoryEstimate.WithATenthToSpare(availableBytes)
        );

        long Collecting() =>
            (layout.Recorded + actor.Size.Activations + critic.Size.Activations) * Panel.Width
            + Math.Max(actor.Size.Scratch, critic.Size.Scratch);

        // Activations and gradients of all steps of a sample, and the gradient of the distillation loss.
        long Learning(NetworkSpec network) =>
            (
                length * (network.Inputs + network.Size.Activations + network.Size.Outputs + 1L)
                + network.Size.Memory
                + network.Size.Outputs
            ) * Panel.Width
            + network.Size.Scratch;

        NetworkSpec Network(StudentConfig network, int outputs, Head head) =>
            network.Network(new ObservationView(spec, network.ObservationGroup).Size, outputs, head);
    }
}
