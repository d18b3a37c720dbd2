using Distill.Environments;

namespace Distill.Policies;

/// <summary>
/// A function as a teacher: a planner, a controller, whatever says what to do in a state that an observation group shows. It is called for
/// one environment at a time, for several of them at once on different threads, and must not keep anything between calls.
/// </summary>
/// <param name="group">The observation group that it reads, or several, joined by plus signs.</param>
/// <param name="expert">Gets an observation and writes the action, or the index of the choice.</param>
public sealed class FunctionTeachers(string group, Action<double[], double[]> expert) : ITeachers
{
    public ITeacher Teach(IBatchedEnvironment environment, RandomStream? noise = null)
    {
        ITeachers.RefuseNoise(noise);
        return new FunctionTeacher(environment, group, expert);
    }
}

/// <summary>Labels by a function; see <see cref="FunctionTeachers"/>.</summary>
internal sealed class FunctionTeacher : ITeacher
{
    private readonly IBatchedEnvironment environment;
    private readonly ObservationView view;
    private readonly Action<double[], double[]> expert;

    // Of each panel: what the function gets and what it writes.
    private readonly (double[] Seen, double[] Action)[] scratch;

    public FunctionTeacher(IBatchedEnvironment environment, string group, Action<double[], double[]> expert)
    {
        (this.environment, this.expert) = (environment, expert);
        view = new(environment.Spec, group);
        scratch =
        [
            .. Enumerable
                .Range(0, Panel.Count(environment.Count))
                .Select(_ => (new double[view.Size], new double[environment.Spec.Actions.Floats])),
        ];
    }

    public int Outputs => 0;

    public void Forget(int panel, ReadOnlySpan<float> keep) { }

    public bool Act(
        int panel,
        int step,
        long time,
        Panel action,
        Panel outputs,
        FiniteWatch watch,
        ReadOnlySpan<byte> counted,
        Workspace own
    )
    {
        using var scope = own.Open();
        var observation = own.Panel(view.Size);
        view.Observe(environment, panel, observation);
        if (watch.Catches(panel, step, "teacher's observation", observation.Values, counted))
            return false;
        var (seen, decided) = scratch[panel];
        action.Values.Clear();
        for (var lane = 0; lane < Math.Min(Panel.Width, environment.Count - panel * Panel.Width); lane++)
        {
            if (counted[lane] == 0)
                continue;
            for (var i = 0; i < seen.Length; i++)
                seen[i] = observation[i, lane];
            Array.Clear(decided);
            expert(seen, decided);
            for (var i = 0; i < decided.Length; i++)
                action[i, lane] = (float)decided[i];
        }
        var actions = environment.Spec.Actions;
        return !watch.Catches(panel, step, "teacher's action", action.Values, counted)
            && (
                !actions.Discrete
                || !watch.CatchesIndices(
                    panel,
                    step,
                    "teacher's action",
                    action.Values,
                    actions.Size,
                    counted
                )
            );
    }

    public void Visit(State state) { }

    public void Dispose() { }
}
