using Distill.Environments;
using Distill.Environments.Recorded;

namespace Distill.Policies;

/// <summary>Labels recorded states with the actions that were recorded there.</summary>
public sealed class RecordedLabels(RecordedEnvironment environment) : ITeacher
{
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
        environment.Label(panel, action.Values);
        return true;
    }

    public void Visit(State state) { }

    public void Dispose() { }
}
