using Distill.Datasets;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Labels of a rollout in which the student drives alone, so that nobody waits for them. Where the lanes of a panel have
/// teachers of their own, a step of the panel would run each of them for one lane. Here what they read is kept for a block of
/// steps; then the steps of one environment are the lanes, and its teacher labels all of them at once.
/// </summary>
internal sealed class LaterLabels : IDisposable
{
    private const int Block = Panel.Width;

    private readonly IBatchedEnvironment environment;
    private readonly ITeacher teacher;
    private readonly ObservationView view;
    private readonly Rollout rollout;
    private readonly bool labelIsDistribution;
    private readonly FiniteWatch watch;

    // [panels, 32 environments, 32 steps, inputs]
    private readonly FloatBuffer kept;

    /// <param name="teacher">One that <see cref="ITeacher.Reads"/> something.</param>
    public LaterLabels(
        IBatchedEnvironment environment,
        ITeacher teacher,
        Rollout rollout,
        bool labelIsDistribution,
        FiniteWatch watch
    )
    {
        (this.environment, this.teacher, this.rollout) = (environment, teacher, rollout);
        (this.labelIsDistribution, this.watch) = (labelIsDistribution, watch);
        view = teacher.Reads!;
        kept = new FloatBuffer(checked(Panel.Count(environment.Count) * Panel.Width * EnvironmentLength));
    }

    private int EnvironmentLength => Block * view.Size;

    /// <summary>Keeps what the teacher reads now.</summary>
    /// <param name="counted"><c>[32]</c>: 0 where nothing counts.</param>
    /// <returns>Whether all of it is finite.</returns>
    public bool Keep(in PanelStep step, ReadOnlySpan<byte> counted)
    {
        using var scope = step.Own.Open();
        var observation = step.Own.Panel(view.Size);
        view.Observe(environment, step.Panel, observation);
        if (watch.Catches(step.Panel, step.Number, "teacher's observation", observation.Values, counted))
            return false;
        Matrix.Scatter(
            observation,
            Kept(step.First, Panel.Width)[(step.Number % Block * view.Size)..],
            EnvironmentLength,
            Panel.Width
        );
        return true;
    }

    /// <summary>Writes the labels of the panel's steps since the last block, if this step completes one.</summary>
    /// <returns>Whether all of them are finite.</returns>
    public bool Write(in PanelStep step)
    {
        var steps = step.Number % Block + 1;
        if (steps < Block && step.Number + 1 < rollout.Steps)
            return true;
        var finite = true;
        var end = Math.Min(step.First + Panel.Width, environment.Count);
        for (var env = step.First; env < end; env++)
            finite &= Label(env, step.Number + 1 - steps, steps, step.Own);
        return finite;
    }

    public void Dispose() => kept.Dispose();

    private Span<float> Kept(int environment, int count) =>
        kept.Slice(environment * EnvironmentLength, count * EnvironmentLength);

    private bool Label(int env, int first, int steps, Workspace own)
    {
        using var scope = own.Open();
        var column = rollout.Table.Columns[1];
        var row = env * rollout.Steps + first;
        var counted = rollout.Valid.AsSpan(row, steps);
        var label = own.Panel(column.Size);
        if (!counted.Contains((byte)1))
            label.Values.Clear();
        else
        {
            var observation = own.Panel(view.Size);
            Matrix.FromRows(Kept(env, 1), observation);
            var action = labelIsDistribution ? own.Panel(environment.Spec.Actions.Floats) : label;
            var outputs = teacher.Label(env, observation, action, own);
            if (
                watch.CatchesSteps(env, first, "teacher's action", outputs.Values, counted)
                || watch.CatchesSteps(env, first, "teacher's action", action.Values, counted)
            )
                return false;
            if (labelIsDistribution)
                outputs.Values.CopyTo(label.Values);
        }
        rollout.Table.Scatter(label, column, row, steps);
        return true;
    }
}
