namespace Distill.Environments;

/// <summary>What a policy reads: an observation group, or several, one after another.</summary>
/// <param name="groups">Name of a group, or names joined by plus signs: "state+encoding".</param>
/// <exception cref="DistillException">The environment has no group of such a name.</exception>
public sealed class ObservationView(EnvironmentSpec environment, string groups)
{
    private readonly int[] indices = Array.ConvertAll(groups.Split('+'), environment.Group);

    /// <summary>Numbers of all groups together.</summary>
    public int Size { get; } =
        groups.Split('+').Sum(group => environment.Groups[environment.Group(group)].Size);

    /// <summary>What its numbers are, in order, each with where it starts.</summary>
    public IEnumerable<(ObservationComponent Component, int Start)> Components
    {
        get
        {
            var start = 0;
            foreach (var component in indices.SelectMany(index => environment.Groups[index].Components))
            {
                yield return (component, start);
                start += component.Size;
            }
        }
    }

    /// <summary>The files whose networks compute groups (<see cref="ObservationGroup.ComputedBy"/>), joined by plus signs; empty where none does.</summary>
    public string ComputedBy { get; } =
        string.Join(
            '+',
            groups
                .Split('+')
                .Select(group => environment.Groups[environment.Group(group)].ComputedBy)
                .Where(file => file != "")
        );

    /// <summary>Writes the groups of the current state, <c>[size, 32]</c>.</summary>
    public void Observe(IBatchedEnvironment from, int panel, Panel observation)
    {
        var start = 0;
        foreach (var index in indices)
        {
            var group = observation.Rows(start, environment.Groups[index].Size);
            from.Observe(panel, index, group.Values);
            start += group.Features;
        }
    }
}
