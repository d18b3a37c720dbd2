using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>PPO on the processor: panels of environments run on all threads, and so do chunks of mini-batches.</summary>
internal sealed class CpuPpo : IArrivingRollout, IPpoEngine
{
    private readonly PpoParts parts;
    private readonly IBatchedEnvironment environment;
    private readonly PpoNetwork actor;
    private readonly PpoNetwork critic;
    private readonly PpoGuide? guide;
    private readonly ActionDistribution distribution;
    private readonly SampleLayout layout;
    private readonly PpoOutcomes outcomes;
    private readonly PpoRollout rollout;
    private readonly byte[] starting;
    private readonly FiniteWatch watch;
    private readonly RolloutLoop collect;
    private readonly PpoLearner learner;

    // The iteration that is going on.
    private PpoTurn turn;

    /// <param name="parts">Left to whoever made them.</param>
    public CpuPpo(PpoParts parts, WorkerPool pool)
    {
        this.parts = parts;
        (environment, actor, critic, guide) = (parts.Environment, parts.Actor, parts.Critic, parts.Guide);
        (layout, outcomes) = (parts.Layout, parts.Outcomes);
        distribution = actor.Policy.Distribution!;
        rollout = new PpoRollout(parts, actor.Policy.MemorySize + critic.Policy.MemorySize);
        learner = new PpoLearner(parts, rollout, pool);
        starting = new byte[outcomes.Panels * Panel.Width];
        starting.AsSpan().Fill(1);
        watch = new FiniteWatch(environment.Count);
        collect = new RolloutLoop(environment, pool, this);
    }

    /// <summary>Whether anybody remembers what was before.</summary>
    private bool Remembers => guide is not null || rollout.Length > 1;

    private int Steps => parts.Config.StepsPerEnv;

    public void Restart(ReadOnlySpan<int> panels)
    {
        foreach (var panel in panels)
        {
            environment.Reset(panel);
            starting.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
        }
    }

    public void Collect(in PpoTurn turn)
    {
        this.turn = turn;
        collect.Run(Steps);
        watch.Check(turn.Iteration);
    }

    public PpoLossSums Learn(in PpoTurn turn)
    {
        var losses = learner.Learn(turn);
        actor.Normalize();
        critic.Normalize();
        return losses;
    }

    public void Visit(State state) =>
        parts.Visit(state, Remembers ? state => state.Flags("starting", starting) : null);

    public void Dispose()
    {
        rollout.Dispose();
        collect.Dispose();
    }

    void IRollout.Begin(int panel)
    {
        var starts = rollout.Starts(panel);
        if (starts.IsEmpty)
            return;
        var size = actor.Policy.MemorySize;
        actor.Memory(panel).Values.CopyTo(starts.Rows(0, size).Values);
        critic.Memory(panel).Values.CopyTo(starts.Rows(size, critic.Policy.MemorySize).Values);
    }

    /// <summary>The stochastic actor acts, or the teacher for it, and the critic values the state.</summary>
    bool IRollout.Act(in PanelStep step)
    {
        var own = step.Own;
        var sample = own.Panel(layout.Recorded);
        Span<float> keep = stackalloc float[Panel.Width];
        Forget(step.Panel, keep);
        if (layout.Keep.Size > 0)
            keep.CopyTo(layout.Keep.Of(sample).Values);
        if (!Observe(step.Panel, step.Number, sample, counted: true, step.Counted))
            return false;
        step.Counted.CopyTo(outcomes.Counted(step.Panel, step.Number));
        var action = layout.Action.Of(sample);
        var values = rollout.Values(step.Panel).Row(step.Number);
        var outputs = actor.Forward(step.Panel, layout.ActorObservation.Of(sample), remember: true, own);
        outputs.Values.CopyTo(layout.Outputs.Of(sample).Values);
        actor.Policy.Decide(outputs, action, parts.Noise, step.First, turn.Steps + step.Number);
        if (!Guide(step, keep, sample))
            return false;
        // Of what is done, whoever decided it: the ratio of PPO begins at 1.
        distribution.LogProbability(outputs, action, layout.LogProbability.Of(sample).Values);
        critic
            .Forward(step.Panel, layout.CriticObservation.Of(sample), remember: true, own)
            .Values.CopyTo(values);
        rollout.Record(step.Panel, step.Number, sample);
        action.Values.CopyTo(step.Action.Values);
        // An index of a choice is always finite, so the outputs count too.
        return !watch.Catches(step.Panel, step.Number, "action", outputs.Values)
            && !watch.Catches(step.Panel, step.Number, "action", action.Values)
            && !watch.Catches(step.Panel, step.Number, "value", values);
    }

    bool IArrivingRollout.WantsEnds => parts.ValuesReached;

    /// <summary>Values the states in which the step limit ended an episode.</summary>
    void IArrivingRollout.Arrive(in PanelStep step)
    {
        if (!step.Truncated.ContainsAnyExcept(0f))
            return;
        var sample = step.Own.Panel(layout.Recorded);
        if (Observe(step.Panel, step.Number, sample, counted: false))
            critic
                .Forward(step.Panel, layout.CriticObservation.Of(sample), remember: false, step.Own)
                .Values.CopyTo(rollout.Beyond(step.Panel).Row(step.Number));
    }

    bool IRollout.Take(in PanelStep step)
    {
        step.Reward.CopyTo(outcomes.Rewards(step.Panel).Row(step.Number));
        step.Terminated.CopyTo(outcomes.Terminated(step.Panel).Row(step.Number));
        step.Truncated.CopyTo(outcomes.Truncated(step.Panel).Row(step.Number));
        for (var lane = 0; lane < Panel.Width && Remembers; lane++)
            starting[step.First + lane] = step.Done(lane) || !step.Counts(lane) ? (byte)1 : (byte)0;
        return !watch.Catches(step.Panel, step.Number, "reward", step.Reward)
            && !(
                parts.ValuesReached
                && watch.Catches(
                    step.Panel,
                    step.Number,
                    "value",
                    rollout.Beyond(step.Panel).Row(step.Number)
                )
            );
    }

    void IRollout.End(int panel, Workspace own)
    {
        using var scope = own.Open();
        var sample = own.Panel(layout.Recorded);
        Span<float> keep = stackalloc float[Panel.Width];
        Forget(panel, keep);
        if (Observe(panel, Steps, sample, counted: false))
            critic
                .Forward(panel, layout.CriticObservation.Of(sample), remember: false, own)
                .Values.CopyTo(rollout.Values(panel).Row(Steps));
    }

    /// <summary>Clears what is remembered where an episode starts.</summary>
    /// <param name="keep"><c>[32]</c>, written where anybody remembers: 0 there, else 1.</param>
    private void Forget(int panel, Span<float> keep)
    {
        if (!Remembers)
            return;
        for (var lane = 0; lane < Panel.Width; lane++)
            keep[lane] = 1 - starting[panel * Panel.Width + lane];
        Elementwise.ScaleLanes(actor.Memory(panel), keep);
        Elementwise.ScaleLanes(critic.Memory(panel), keep);
    }

    /// <summary>Lets the teacher say what it would do, and do it where it drives.</summary>
    /// <returns>Whether all of it is finite.</returns>
    private bool Guide(in PanelStep step, ReadOnlySpan<float> keep, Panel sample)
    {
        if (guide is null)
            return true;
        var label = layout.Label.Of(sample);
        if (turn.Guided)
            return guide.Act(
                step,
                turn.Steps + step.Number,
                turn.Now.Beta,
                keep,
                layout.Action.Of(sample),
                label,
                watch
            );
        label.Values.Clear();
        return true;
    }

    /// <summary>What actor and critic see.</summary>
    /// <param name="counted">Whether the statistics of the next iteration take notice.</param>
    /// <param name="lanes"><c>[32]</c>: 0 for lanes of which they do not; empty for all.</param>
    /// <returns>Whether all of it is finite.</returns>
    private bool Observe(int panel, int step, Panel sample, bool counted, ReadOnlySpan<byte> lanes = default)
    {
        var ofActor = layout.ActorObservation.Of(sample);
        var ofCritic = layout.CriticObservation.Of(sample);
        // Statistics that move would move an actor that is to stay as it is.
        actor.Observe(panel, ofActor, counted && !turn.Warming, lanes);
        critic.Observe(panel, ofCritic, counted, lanes);
        return !watch.Catches(panel, step, "actor's observation", ofActor.Values)
            && !watch.Catches(panel, step, "critic's observation", ofCritic.Values);
    }
}
