using Distill.Environments;
using Distill.Evaluation;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The guide beside SAC's actor, who never drives: says how much what was done is like what it would have done
/// (<see cref="ImitationBonus"/>).
/// </summary>
internal sealed class SacGuide : IDisposable
{
    private readonly ITeacher guide;
    private readonly double? deviation;
    private readonly float least;
    private readonly byte[] starting;

    /// <exception cref="DistillException">Guide, settings and environment do not fit together.</exception>
    public SacGuide(SacConfig config, ImitationBonus bonus, ITeachers guides, IBatchedEnvironment environment)
    {
        guide = guides.Teach(environment);
        (deviation, least) = (bonus.Deviation, (float)bonus.LeastDeviation);
        if (deviation is null && guide.Outputs != 2 * environment.Spec.Actions.Size)
        {
            guide.Dispose();
            throw new DistillException(
                "imitation.deviation=null cannot work with this teacher: it gives actions, not a distribution over them; add "
                    + "imitation.deviation=0.1 or so."
            );
        }
        starting = new byte[Panel.Count(environment.Count) * Panel.Width];
        starting.AsSpan().Fill(1);
        Last = -1;
        for (var iteration = 0; iteration < config.Iterations; iteration++)
            if (bonus.Weight.At(iteration) > 0)
                // A run may go on beyond what was planned.
                Last = iteration == config.Iterations - 1 ? int.MaxValue : iteration;
    }

    /// <summary>The last iteration that needs the guide; it is asked in all up to it.</summary>
    public int Last { get; }

    /// <summary>
    /// How much actions are like the guide's. Those of a squashed Gaussian are compared with the hyperbolic tangent of its mean, on the
    /// scale of the deviation that it has before it is squashed.
    /// </summary>
    /// <param name="time">Steps since the start of training.</param>
    /// <param name="action"><c>[actions, 32]</c>: what is done.</param>
    /// <param name="likeness"><c>[32]</c>, written: L, from 0 to 1.</param>
    /// <returns>Whether all that the guide sees and gives is finite.</returns>
    public bool Compare(in PanelStep step, long time, Panel action, Span<float> likeness, FiniteWatch watch)
    {
        var own = step.Own;
        Span<byte> counted = stackalloc byte[Panel.Width];
        Span<float> keep = stackalloc float[Panel.Width];
        counted.Fill(1);
        for (var lane = 0; lane < Panel.Width; lane++)
            keep[lane] = 1 - starting[step.First + lane];
        guide.Forget(step.Panel, keep);
        var mean = own.Panel(action.Features);
        var described = deviation is null ? own.Panel(guide.Outputs) : default;
        if (!guide.Act(step.Panel, step.Number, time, mean, described, watch, counted, own))
            return false;
        likeness.Clear();
        for (var i = 0; i < action.Features; i++)
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var sigma = MathF.Max(
                least,
                deviation is { } given ? (float)given : MathF.Exp(described[action.Features + i, lane])
            );
            var off = (action[i, lane] - mean[i, lane]) / sigma;
            likeness[lane] -= 0.5f * off * off;
        }
        for (var lane = 0; lane < Panel.Width; lane++)
            likeness[lane] = MathF.Exp(likeness[lane]);
        return true;
    }

    /// <summary>Notes where the next step begins an episode.</summary>
    public void Take(in PanelStep step)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
            starting[step.First + lane] = step.Done(lane) || !step.Counts(lane) ? (byte)1 : (byte)0;
    }

    /// <summary>All environments begin anew.</summary>
    public void Restart() => starting.AsSpan().Fill(1);

    public void Visit(State state)
    {
        state.Flags("starting", starting);
        guide.Visit(state);
    }

    public void Dispose() => guide.Dispose();
}
