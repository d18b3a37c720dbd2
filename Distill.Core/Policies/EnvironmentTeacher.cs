using Distill.Environments;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// The environments themselves as teachers: an observation group carries what the expert that is built into them would do, such as a
/// planner, an MPC or a script. Where actions are continuous, the group is the action. Where they are choices, it is the index of one, or
/// a probability for each.
/// </summary>
/// <param name="group">The observation group.</param>
public sealed class EnvironmentTeachers(string group) : ITeachers
{
    public string? LabelGroup => group;

    public ITeacher Teach(IBatchedEnvironment environment, RandomStream? noise = null) =>
        new EnvironmentTeacher(environment, group, noise);
}

/// <summary>Reads labels from an observation group; see <see cref="EnvironmentTeachers"/>.</summary>
internal sealed class EnvironmentTeacher : ITeacher
{
    private const string What = "expert's action";

    // How far the sum of probabilities may be from 1, and what takes the place of 0, whose logarithm is infinite.
    private const float Tolerance = 1e-3f;
    private const float Least = 1e-12f;

    private readonly IBatchedEnvironment environment;
    private readonly int group;
    private readonly RandomStream? noise;
    private readonly ActionSpace actions;

    public EnvironmentTeacher(IBatchedEnvironment environment, string group, RandomStream? noise)
    {
        (this.environment, this.noise) = (environment, noise);
        var spec = environment.Spec;
        this.group = spec.Group(group);
        actions = spec.Actions;
        var size = spec.Groups[this.group].Size;
        if (size != actions.Size && size != actions.Floats)
            throw new DistillException(
                $"The observation group '{group}' of {spec.Name} has {size} numbers, so it cannot carry an expert's action: that is "
                    + (
                        actions.Discrete
                            ? $"1 number, the index of a choice, or {actions.Size}, a probability for each."
                            : $"{actions.Size} numbers."
                    )
            );
        Outputs = actions.Discrete && size == actions.Size ? size : 0;
        if (Outputs == 0)
            ITeachers.RefuseNoise(noise);
    }

    public int Outputs { get; }

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
        var read = Outputs > 0 ? own.Panel(Outputs) : action;
        environment.Observe(panel, group, read.Values);
        if (watch.Catches(panel, step, What, read.Values, counted))
            return false;
        if (Outputs == 0)
            return !actions.Discrete
                || !watch.CatchesIndices(panel, step, What, read.Values, actions.Size, counted);
        if (!Logarithms(panel, step, read, watch, counted))
            return false;
        var distribution = ActionDistribution.Of(Head.Categorical)!;
        if (noise is { } stream)
            distribution.Sample(read, stream, panel * Panel.Width, time, action);
        else
            distribution.Mode(read, action);
        if (!outputs.IsEmpty)
            read.Values.CopyTo(outputs.Values);
        return true;
    }

    public void Visit(State state) { }

    public void Dispose() { }

    /// <summary>Makes probabilities their logarithms, which are the outputs of a policy that chooses so.</summary>
    /// <returns>Whether they are probabilities wherever it counts.</returns>
    private static bool Logarithms(
        int panel,
        int step,
        Panel probabilities,
        FiniteWatch watch,
        ReadOnlySpan<byte> counted
    )
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var (sum, lowest) = (0f, 0f);
            for (var i = 0; i < probabilities.Features; i++)
            {
                var value = probabilities[i, lane];
                sum += value;
                lowest = MathF.Min(lowest, value);
                probabilities[i, lane] = MathF.Log(MathF.Max(value, Least));
            }
            if (
                lowest < 0
                    && watch.Refuses(
                        panel,
                        step,
                        $"{What} as a probability",
                        lane,
                        lowest,
                        "at least 0",
                        counted
                    )
                || MathF.Abs(sum - 1) > Tolerance
                    && watch.Refuses(
                        panel,
                        step,
                        $"{What} as a sum of probabilities",
                        lane,
                        sum,
                        "1",
                        counted
                    )
            )
                return false;
        }
        return true;
    }
}
