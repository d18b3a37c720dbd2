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

    /// <summary>
    /// What it reads, where it is faster with many states of one environment than with one of many: all environments read the
    /// same, and what it says of a state depends on nothing else. Null elsewhere; only with it there is <see cref="Label"/>.
    /// </summary>
    ObservationView? Reads => null;

    /// <summary>Says what it does in states of one environment; bit for bit what <see cref="Act"/> says of them.</summary>
    /// <param name="observation"><c>[inputs, 32]</c>: what it reads there, a state in each lane.</param>
    /// <param name="action"><c>[action floats, 32]</c>, written.</param>
    /// <returns>All that describes its distribution, or else the action, <c>[output size, 32]</c>, until the workspace's scope ends.</returns>
    Panel Label(int environment, Panel observation, Panel action, Workspace own) =>
        throw new NotSupportedException();

    /// <summary>Its memory, for checkpoints.</summary>
    void Visit(State state);
}

/// <summary>One policy, or several, each for some of the environments, or of which an observation group chooses in every step.</summary>
public sealed class PolicyTeacher : ITeacher
{
    private readonly IBatchedEnvironment environment;
    private readonly Policy[] policies;
    private readonly ObservationView[] views;
    private readonly int widest;
    private readonly int[] assigned;
    private readonly Part[][] parts;
    private readonly FloatBuffer memory;
    private readonly RandomStream? noise;
    private readonly ObservationView? chooser;

    /// <summary>A policy that labels lanes of a panel.</summary>
    /// <param name="policy">Its index.</param>
    /// <param name="memory">Where its memory of this panel begins, <c>[memory, 32]</c>.</param>
    private sealed class Part(int policy, int memory)
    {
        public int Policy => policy;

        public int Memory => memory;

        /// <summary><c>[32]</c>: 1 where it is the one to ask; lanes past the environments belong to the last one.</summary>
        public byte[] Lanes { get; } = new byte[Panel.Width];

        /// <summary><c>[32]</c>: the same as factors.</summary>
        public float[] Keep { get; } = new float[Panel.Width];

        /// <summary>Whether that is everywhere.</summary>
        public bool Alone { get; private set; }

        /// <summary>Whether it is nowhere.</summary>
        public bool Idle { get; private set; }

        /// <param name="policies"><c>[32]</c>: index of the policy to ask.</param>
        public void Take(ReadOnlySpan<float> policies)
        {
            for (var lane = 0; lane < Lanes.Length; lane++)
                Keep[lane] = Lanes[lane] = policies[lane] == policy ? (byte)1 : (byte)0;
            (Alone, Idle) = (!Lanes.Contains((byte)0), !Lanes.Contains((byte)1));
        }
    }

    /// <param name="policies">Left as they are, and not disposed here.</param>
    /// <param name="assignment">Index of each environment's policy, one per environment; null for the first policy everywhere.</param>
    /// <param name="noise">Draws actions from the policies' distributions; null for their deterministic actions.</param>
    /// <param name="chosenBy">
    /// Observation group whose number is the index of the policy to ask, in every step; a policy with memory remembers the steps since
    /// it was chosen, within the episode. Null to go by the assignment.
    /// </param>
    /// <exception cref="DistillException">
    /// A policy, the group or the assignment does not fit the environments, or actions are to be drawn and a policy has no distribution.
    /// </exception>
    public PolicyTeacher(
        IReadOnlyList<Policy> policies,
        IBatchedEnvironment environment,
        IReadOnlyList<int>? assignment = null,
        RandomStream? noise = null,
        string? chosenBy = null
    )
    {
        if (assignment is not null && assignment.Count != environment.Count)
            throw new DistillException(
                $"The assignment of teachers has {assignment.Count} entries for {environment.Count} environments; it needs one for each."
            );
        foreach (var policy in policies)
            policy.Check(environment.Spec, "teacher");
        if (noise is not null && policies.Any(policy => policy.Distribution is null))
            throw new DistillException(
                "teacher_deterministic=false cannot work with this teacher: its file has no distribution over actions "
                    + "(no log_std); use teacher_deterministic=true."
            );
        this.environment = environment;
        this.noise = noise;
        chooser = chosenBy is null ? null : new ObservationView(environment.Spec, chosenBy);
        if (chooser is { Size: not 1 })
            throw new DistillException(
                $"The observation group '{chosenBy}' of {environment.Spec.Name} has {chooser.Size} numbers; one that chooses a teacher "
                    + "has 1, its index."
            );
        this.policies = [.. policies];
        var byGroup = policies
            .Select(policy => policy.ObservationGroup)
            .Distinct()
            .ToDictionary(group => group, group => new ObservationView(environment.Spec, group));
        views = Array.ConvertAll(this.policies, policy => byGroup[policy.ObservationGroup]);
        widest = policies.Max(policy => policy.Network.Spec.Inputs);
        assigned = Assigned(assignment);
        var room = 0;
        parts = new Part[Panel.Count(environment.Count)][];
        for (var panel = 0; panel < parts.Length; panel++)
            parts[panel] = PartsOf(panel, ref room);
        memory = new FloatBuffer(room);
    }

    /// <summary>Draws actions; null for deterministic ones.</summary>
    internal RandomStream? Noise => noise;

    /// <summary>The policies and <c>[lanes]</c>: the index of each one's; null where an observation group chooses.</summary>
    internal (IReadOnlyList<Policy> Policies, int[] Assignment)? ByEnvironment =>
        chooser is null ? (policies, assigned) : null;

    /// <summary>What the only policy remembers, <c>[panels, memory, 32]</c>.</summary>
    internal Span<float> Memories => memory.Span;

    public int Outputs =>
        Array.TrueForAll(policies, policy => policy.Distribution is not null)
        && policies.Select(policy => policy.Network.OutputSize).Distinct().ToArray() is [var size]
            ? size
            : 0;

    public void Forget(int panel, ReadOnlySpan<float> keep)
    {
        foreach (var part in parts[panel])
            Elementwise.ScaleLanes(MemoryOf(part), keep);
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
        if (chooser is not null && !Choose(panel, step, watch, counted, own))
            return false;
        Span<byte> watched = stackalloc byte[Panel.Width];
        ObservationView? seen = null;
        var state = own.Panel(widest);
        foreach (var part in parts[panel])
        {
            if (part.Idle)
                continue;
            using var scope = own.Open();
            var policy = policies[part.Policy];
            var observation = state.Rows(0, policy.Network.Spec.Inputs);
            var decided = part.Alone ? action : own.Panel(action.Features);
            for (var lane = 0; lane < Panel.Width; lane++)
                watched[lane] = (byte)(part.Lanes[lane] & counted[lane]);
            if (seen != views[part.Policy])
                views[part.Policy].Observe(environment, panel, observation);
            seen = views[part.Policy];
            var computed = policy.Forward(observation, MemoryOf(part), own);
            // Where it is not the one to ask it remembers nothing, so that what it says elsewhere does not matter there.
            if (chooser is not null)
                Elementwise.ScaleLanes(MemoryOf(part), part.Keep);
            policy.Decide(computed, decided, noise, panel * Panel.Width, time);
            // An index of a choice is always finite, so the outputs count too.
            if (
                watch.Catches(panel, step, "teacher's observation", observation.Values, watched)
                || watch.Catches(panel, step, "teacher's action", computed.Values, watched)
                || watch.Catches(panel, step, "teacher's action", decided.Values, watched)
            )
                return false;
            if (!part.Alone)
                Elementwise.CopyLanes(decided, action, part.Lanes);
            if (!outputs.IsEmpty)
                Elementwise.CopyLanes(computed, outputs, part.Lanes);
        }
        return true;
    }

    public ObservationView? Reads =>
        noise is null
        && chooser is null
        && views.Distinct().Count() == 1
        && Array.TrueForAll(policies, policy => policy.MemorySize == 0)
        && Array.Exists(parts, panel => panel.Length > 1)
            ? views[0]
            : null;

    public Panel Label(int environment, Panel observation, Panel action, Workspace own)
    {
        var policy = policies[assigned[environment]];
        var outputs = policy.Forward(observation, default, own);
        policy.Decide(outputs, action);
        return outputs;
    }

    public void Visit(State state) => state.Block("teacher_memory", memory);

    public void Dispose() => memory.Dispose();

    private Panel MemoryOf(Part part) => new(memory.Span[part.Memory..], policies[part.Policy].MemorySize);

    /// <summary>The policy of every lane; lanes past the environments go with the last of them.</summary>
    private int[] Assigned(IReadOnlyList<int>? assignment)
    {
        var assigned = new int[Panel.Count(environment.Count) * Panel.Width];
        for (var lane = 0; lane < assigned.Length && assignment is not null; lane++)
        {
            var env = Math.Min(lane, environment.Count - 1);
            assigned[lane] = assignment[env];
            if (assigned[lane] < 0 || assigned[lane] >= policies.Length)
                throw new DistillException(
                    $"Environment {env} is assigned teacher {assigned[lane]}, but the teachers are 0 to {policies.Length - 1}."
                );
        }
        return assigned;
    }

    /// <summary>Asks the environments which policies are to be asked.</summary>
    /// <returns>Whether there are such policies.</returns>
    private bool Choose(int panel, int step, FiniteWatch watch, ReadOnlySpan<byte> counted, Workspace own)
    {
        using var scope = own.Open();
        var index = own.Panel(1);
        chooser!.Observe(environment, panel, index);
        if (watch.CatchesIndices(panel, step, "index of the teacher", index.Values, policies.Length, counted))
            return false;
        foreach (var part in parts[panel])
        {
            part.Take(index.Values);
            if (part.Idle)
                MemoryOf(part).Values.Clear();
        }
        return true;
    }

    /// <param name="room">Numbers of memory given to parts so far.</param>
    private Part[] PartsOf(int panel, ref int room)
    {
        Span<float> lanes = stackalloc float[Panel.Width];
        for (var lane = 0; lane < Panel.Width; lane++)
            lanes[lane] = assigned[panel * Panel.Width + lane];
        var found = new List<Part>();
        for (var policy = 0; policy < policies.Length; policy++)
        {
            if (chooser is null && !lanes.Contains(policy))
                continue;
            var part = new Part(policy, room);
            part.Take(lanes);
            found.Add(part);
            room = checked(room + policies[policy].MemorySize * Panel.Width);
        }
        return [.. found];
    }
}
