using Distill.Environments;
using Distill.Evaluation;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// The guide beside SAC's actor: drives the first steps if it is to, and says how much what is done is like what it would do
/// (<see cref="ImitationBonus"/>).
/// </summary>
internal sealed class SacGuide : IDisposable
{
    private readonly ITeacher guide;
    private readonly ImitationBonus? bonus;
    private readonly byte[] starting;

    /// <exception cref="DistillException">Guide, settings and environment do not fit together.</exception>
    public SacGuide(SacConfig config, ITeachers guides, IBatchedEnvironment environment)
    {
        guide = guides.Teach(environment);
        (bonus, Last) = (config.Imitation, -1);
        if (bonus is { Deviation: null } && guide.Outputs != 2 * environment.Spec.Actions.Size)
        {
            guide.Dispose();
            throw new DistillException(
                "imitation.deviation=null cannot work with this teacher: it gives actions, not a distribution over them; add "
                    + "imitation.deviation=0.1 or so."
            );
        }
        starting = new byte[Panel.Count(environment.Count) * Panel.Width];
        starting.AsSpan().Fill(1);
        for (var iteration = 0; iteration < config.Iterations; iteration++)
            if (bonus?.Weight.At(iteration) > 0)
                // A run may go on beyond what was planned.
                Last = iteration == config.Iterations - 1 ? int.MaxValue : iteration;
    }

    /// <summary>The last iteration whose bonus needs the guide, which is asked in all up to it.</summary>
    public int Last { get; }

    /// <summary>Says what it would do, does it where it drives, and says how much what is done is like it.</summary>
    /// <param name="time">Steps since the start of training.</param>
    /// <param name="drives">Whether its actions are executed.</param>
    /// <param name="likeness"><c>[32]</c>, written: L, from 0 to 1; empty where nobody needs it.</param>
    /// <returns>Whether all that the guide sees and gives is finite.</returns>
    public bool Act(in PanelStep step, long time, bool drives, Span<float> likeness, FiniteWatch watch)
    {
        var own = step.Own;
        var action = step.Action;
        Span<byte> counted = stackalloc byte[Panel.Width];
        Span<float> keep = stackalloc float[Panel.Width];
        counted.Fill(1);
        for (var lane = 0; lane < Panel.Width; lane++)
            keep[lane] = 1 - starting[step.First + lane];
        guide.Forget(step.Panel, keep);
        var mean = own.Panel(action.Features);
        var described = bonus is { Deviation: null } ? own.Panel(guide.Outputs) : default;
        if (!guide.Act(step.Panel, step.Number, time, mean, described, watch, counted, own))
            return false;
        for (var i = 0; drives && i < action.Values.Length; i++)
            action.Values[i] = Math.Clamp(mean.Values[i], -1, 1);
        if (!likeness.IsEmpty)
            Compare(action, mean, described, likeness);
        return true;
    }

    /// <summary>
    /// How much actions are like the guide's. Those of a squashed Gaussian are compared with the hyperbolic tangent of its mean, on the
    /// scale of the deviation that it has before it is squashed.
    /// </summary>
    /// <param name="mean"><c>[actions, 32]</c>.</param>
    /// <param name="described"><c>[2 actions, 32]</c>: mean and log_std; empty where the settings give the deviation.</param>
    private void Compare(Panel action, Panel mean, Panel described, Span<float> likeness)
    {
        var least = (float)bonus!.LeastDeviation;
        likeness.Clear();
        for (var i = 0; i < action.Features; i++)
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var own = bonus.Deviation is { } given
                ? (float)given
                : MathF.Exp(described[action.Features + i, lane]);
            var off = (action[i, lane] - mean[i, lane]) / MathF.Max(least, own);
            likeness[lane] -= 0.5f * off * off;
        }
        for (var lane = 0; lane < Panel.Width; lane++)
            likeness[lane] = MathF.Exp(likeness[lane]);
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
