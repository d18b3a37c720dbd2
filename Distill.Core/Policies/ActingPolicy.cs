using Distill.Environments;

namespace Distill.Policies;

/// <summary>A policy at work in a batch of environments: what it reads there, and its memory in each.</summary>
public sealed class ActingPolicy : IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly ObservationView view;
    private readonly FloatBuffer memory;

    /// <param name="policy">Left as it is, and not disposed here.</param>
    /// <param name="role">For messages: "teacher" or "student".</param>
    /// <exception cref="DistillException">The policy does not fit the environment.</exception>
    public ActingPolicy(Policy policy, IBatchedEnvironment environment, string role)
    {
        policy.Check(environment.Spec, role);
        Policy = policy;
        this.environment = environment;
        view = new ObservationView(environment.Spec, policy.ObservationGroup);
        memory = new FloatBuffer((long)Panel.Count(environment.Count) * policy.MemorySize * Panel.Width);
    }

    public Policy Policy { get; }

    /// <summary>The policy's memory in the environments of a panel, <c>[memory, 32]</c>.</summary>
    public Panel Memory(int panel) => Panel.At(memory.Span, panel, Policy.MemorySize);

    /// <summary>The same of all panels, <c>[panels, memory, 32]</c>.</summary>
    internal Span<float> Memories => memory.Span;

    /// <summary>Clears the memory where an episode starts.</summary>
    /// <param name="keep"><c>[32]</c>: 0 there, else 1.</param>
    public void Forget(int panel, ReadOnlySpan<float> keep) => Elementwise.ScaleLanes(Memory(panel), keep);

    /// <summary>Writes what the policy reads, <c>[inputs, 32]</c>, not normalized.</summary>
    public void Observe(int panel, Panel observation) => view.Observe(environment, panel, observation);

    /// <summary>Runs the network on an observation and advances the memory.</summary>
    /// <returns>The raw outputs <c>[output size, 32]</c>.</returns>
    public Panel Forward(int panel, Panel observation, Workspace own) =>
        Policy.Forward(observation, Memory(panel), own);

    /// <summary>The memory in all environments, for checkpoints.</summary>
    public void Visit(State state, string name) => state.Block(name, memory);

    public void Dispose() => memory.Dispose();
}
