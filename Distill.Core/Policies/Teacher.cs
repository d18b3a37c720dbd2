using Distill.Environments;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>What labels the states of a batch of environments. Calls for different panels come from different threads.</summary>
public interface ITeacher : IDisposable
{
    /// <summary>Clears its memory where an episode starts.</summary>
    /// <param name="keep"><c>[32]</c>: 0 there, else 1.</param>
    void Forget(int panel, ReadOnlySpan<float> keep);

    /// <summary>Floats per lane of all that describes its distribution over actions; 0 where it has none.</summary>
    int Outputs { get; }

    /// <summary>Says what it does in the current states of a panel.</summary>
    /// <param name="step">Index of the step within the rollout, for messages.</param>
    /// <param name="time">Steps since the start of training, for draws.</param>
    /// <param name="action"><c>[action floats, 32]</c>, written.</param>
    /// <param name="outputs"><c>[outputs, 32]</c>: all that describes its distribution, written; empty if nobody needs it.</param>
    /// <param name="watch">Is shown all that the teacher sees and gives.</param>
    /// <param name="counted"><c>[32]</c>: 0 where nothing counts.</param>
    /// <returns>Whether all of it is finite.</returns>
    bool Act(
        int panel,
        int step,
        long time,
        Panel action,
        Panel outputs,
        FiniteWatch watch,
        ReadOnlySpan<byte> counted,
        Workspace own
    );

    /// <summary>Its memory, for checkpoints.</summary>
    void Visit(State state);
}

/// <summary>One policy, or several, each for some of the environments.</summary>
public sealed class PolicyTeacher : ITeacher
{
    private readonly ActingPolicy[] policies;
    private readonly byte[][] responsible;
    private readonly RandomStream? noise;

    /// <param name="policies">Left as they are, and not disposed here.</param>
    /// <param name="assignment">Index of each environment's policy, one per environment; null for the first policy everywhere.</param>
    /// <param name="noise">Draws actions from the policies' distributions; null for their deterministic actions.</param>
    /// <exception cref="DistillException">
    /// A policy or the assignment does not fit the environments, or actions are to be drawn and a policy has no distribution.
    /// </exception>
    public PolicyTeacher(
        IReadOnlyList<Policy> policies,
        IBatchedEnvironment environment,
        IReadOnlyList<int>? assignment = null,
        RandomStream? noise = null
    )
    {
        if (assignment is not null && assignment.Count != environment.Count)
            throw new DistillException(
                $"The assignment of teachers has {assignment.Count} entries for {environment.Count} environments; it needs one for each."
            );
        this.noise = noise;
        this.policies = [.. policies.Select(policy => new ActingPolicy(policy, environment, "teacher"))];
        responsible = Array.ConvertAll(
            this.policies,
            _ => new byte[Panel.Count(environment.Count) * Panel.Width]
        );
        for (var env = 0; env < responsible[0].Length; env++)
        {
            var index = assignment is null || env >= environment.Count ? 0 : assignment[env];
            if (index < 0 || index >= policies.Count)
                throw new DistillException(
                    $"Environment {env} is assigned teacher {index}, but the teachers are 0 to {policies.Count - 1}."
                );
            responsible[index][env] = 1;
        }
        if (noise is not null && policies.Any(policy => policy.Distribution is null))
            throw new DistillException(
                "teacher_deterministic=false cannot work with this teacher: its file has no distribution over actions "
                    + "(no log_std); use teacher_deterministic=true."
            );
    }

    public int Outputs =>
        Array.TrueForAll(policies, policy => policy.Policy.Distribution is not null)
        && policies.Select(policy => policy.Policy.Network.OutputSize).Distinct().ToArray() is [var size]
            ? size
            : 0;

    public void Forget(int panel, ReadOnlySpan<float> keep)
    {
        foreach (var policy in policies)
            policy.Forget(panel, keep);
    }

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
        Span<byte> watched = stackalloc byte[Panel.Width];
        for (var i = 0; i < policies.Length; i++)
        {
            ReadOnlySpan<byte> mine = responsible[i].AsSpan(panel * Panel.Width, Panel.Width);
            if (!mine.Contains((byte)1))
                continue;
            using var scope = own.Open();
            var policy = policies[i];
            var alone = !mine.Contains((byte)0);
            var observation = own.Panel(policy.Policy.Network.Spec.Inputs);
            var decided = alone ? action : own.Panel(action.Features);
            for (var lane = 0; lane < Panel.Width; lane++)
                watched[lane] = (byte)(mine[lane] & counted[lane]);
            policy.Observe(panel, observation);
            var computed = policy.Forward(panel, observation, own);
            policy.Policy.Decide(computed, decided, noise, panel * Panel.Width, time);
            // An index of a choice is always finite, so the outputs count too.
            if (
                watch.Catches(panel, step, "teacher's observation", observation.Values, watched)
                || watch.Catches(panel, step, "teacher's action", computed.Values, watched)
                || watch.Catches(panel, step, "teacher's action", decided.Values, watched)
            )
                return false;
            if (!alone)
                Elementwise.CopyLanes(decided, action, mine);
            if (!outputs.IsEmpty)
                Elementwise.CopyLanes(computed, outputs, mine);
        }
        return true;
    }

    public void Visit(State state)
    {
        for (var i = 0; i < policies.Length; i++)
            policies[i].Visit(state, i == 0 ? "teacher_memory" : $"teacher_memory{i}");
    }

    public void Dispose()
    {
        foreach (var policy in policies)
            policy.Dispose();
    }
}
