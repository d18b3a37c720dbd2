using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The teacher beside the actor: says what it would do, and drives a share of the steps (kickstarting: Schmitt et al. 2018,
/// arXiv 1803.03835; with a share of the driving as in DAgger).
/// </summary>
internal sealed class PpoGuide : IDisposable
{
    private readonly ITeacher teacher;
    private readonly RandomStream acting;

    /// <exception cref="DistillException">The teacher, the loss and the environment do not fit together.</exception>
    public PpoGuide(PpoConfig config, Policy teacher, Policy actor, IBatchedEnvironment environment)
    {
        this.teacher = new PolicyTeacher([teacher], environment);
        acting = new RandomStream(config.Seed, "ppo.acting");
        Loss = config.GuidingLoss(environment.Spec);
        if (Loss.LabelIsDistribution && this.teacher.Outputs != actor.Network.OutputSize)
            throw new DistillException(
                "The loss cannot work with this teacher: it compares distributions, and the teacher's file has no distribution over actions (no log_std); "
                    + "take a loss of actions, such as loss=mse."
            );
        Last = -1;
        for (var iteration = 0; iteration < config.Iterations; iteration++)
            if (config.DistillationCoef.At(iteration) > 0 || config.Beta.At(iteration) > 0)
                // A run may go on beyond what was planned.
                Last = iteration == config.Iterations - 1 ? int.MaxValue : iteration;
    }

    /// <summary>What the actor minimizes beside PPO's loss.</summary>
    public Loss Loss { get; }

    /// <summary>The last iteration that needs the teacher; it is asked in all up to it, for its memory.</summary>
    public int Last { get; }

    /// <summary>Asks the teacher, and hands it the lanes that it drives.</summary>
    /// <param name="beta">Probability that it drives.</param>
    /// <param name="action">The actor's actions, <c>[action floats, 32]</c>, overwritten where the teacher drives.</param>
    /// <param name="label">What the loss compares with, written.</param>
    /// <returns>Whether all of it is finite.</returns>
    public bool Act(
        in Evaluation.PanelStep step,
        long time,
        double beta,
        ReadOnlySpan<float> keep,
        Panel action,
        Panel label,
        FiniteWatch watch
    )
    {
        Span<byte> counted = stackalloc byte[Panel.Width];
        counted.Fill(1);
        teacher.Forget(step.Panel, keep);
        var advice = Loss.LabelIsDistribution ? step.Own.Panel(action.Features) : label;
        var described = Loss.LabelIsDistribution ? label : default;
        if (!teacher.Act(step.Panel, step.Number, time, advice, described, watch, counted, step.Own))
            return false;
        Span<float> draws = stackalloc float[Panel.Width];
        Span<byte> driven = stackalloc byte[Panel.Width];
        acting.Uniforms(draws, (uint)step.First, (uint)time, (uint)(time >> 32));
        for (var lane = 0; lane < Panel.Width; lane++)
            driven[lane] = draws[lane] < beta ? (byte)1 : (byte)0;
        Elementwise.CopyLanes(advice, action, driven);
        return true;
    }

    public void Visit(State state) => teacher.Visit(state);

    public void Dispose() => teacher.Dispose();
}
