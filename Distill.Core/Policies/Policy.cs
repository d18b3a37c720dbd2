using Distill.Compute;
using Distill.Environments;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// What acts: an observation group, an optional normaliser, a network and the meaning of its outputs. A teacher, a student
/// and a PPO actor are all policies. Acting changes nothing in the policy, so any number of threads may act with it at
/// once, each with its own <see cref="PolicyScratch"/>.
/// </summary>
public sealed class Policy : IDisposable
{
    /// <param name="spec">Architecture; its inputs must be the size of the observation group.</param>
    /// <param name="observationGroup">The group of the environment that it reads.</param>
    /// <param name="normalise">Whether observations are normalised by running statistics.</param>
    public Policy(NetworkSpec spec, string observationGroup, bool normalise = false)
    {
        Network = new Network(spec);
        ObservationGroup = observationGroup;
        Normaliser = normalise ? new Normaliser(spec.Inputs) : null;
    }

    public Network Network { get; }
    public Normaliser? Normaliser { get; set; }
    public string ObservationGroup { get; set; }

    /// <summary>Facts that travel with the file: who made it, how, and what it scored.</summary>
    public Dictionary<string, string> Metadata { get; } = [];

    /// <summary>
    /// How the nonlinearity of the hidden layers is known, where the policy's own file does not say it: "assumed", "as set" or
    /// the name of the file that says it; null otherwise.
    /// </summary>
    public string? ActivationSource { get; init; }

    /// <summary>Floats of one environment's action.</summary>
    public int ActionFloats => Network.Spec.Head == Head.Categorical ? 1 : Network.Spec.Outputs;

    /// <summary>Floats per environment carried from step to step.</summary>
    public int MemorySize => Network.MemorySize;

    /// <summary>For messages: <c>obs=26, actions=4, hidden=[64, 64, 64], elu (assumed)</c>.</summary>
    public string Architecture
    {
        get
        {
            var layers = Network.Spec.Layers.SkipLast(1).ToArray();
            var hidden = layers.Select(layer => layer.Nonlinearity is null ? $"{layer}" : $"{layer.Size}");
            var chosen = layers.Select(layer => layer.Nonlinearity).OfType<Activation>().Distinct().ToArray();
            return $"obs={Network.Spec.Inputs}, actions={Network.Spec.Outputs}, hidden=[{string.Join(", ", hidden)}]"
                + string.Concat(chosen.Select(activation => $", {activation.ToString().ToLowerInvariant()}"))
                + (chosen.Length > 0 && ActivationSource is { } source ? $" ({source})" : "")
                + (Normaliser is null ? "" : ", normalised");
        }
    }

    /// <summary>Whether the policy fits an environment.</summary>
    /// <param name="role">For the message: "teacher" or "student".</param>
    /// <exception cref="DistillException">It does not; the message says which sizes differ.</exception>
    public void Check(EnvironmentSpec environment, string role)
    {
        var group = environment.Groups[environment.Group(ObservationGroup)];
        if (group.Size != Network.Spec.Inputs)
            throw new DistillException(
                $"The {role} reads {Network.Spec.Inputs} numbers but observation group '{group.Name}' of {environment.Name} "
                    + $"has {group.Size}; groups: {string.Join(", ", environment.Groups.Select(g => $"{g.Name} ({g.Size})"))}."
            );
        if (!environment.Actions.Discrete && Network.Spec.Outputs == 2 * environment.Actions.Size)
            throw new DistillException(
                $"The {role} gives two outputs for each of the {environment.Actions.Size} action numbers of {environment.Name}: "
                    + "its standard deviation depends on the state (or it is a Beta distribution), which Distill does not run; "
                    + "train it with a standard deviation that is a parameter of its own (rsl_rl: GaussianDistribution)."
            );
        if (environment.Actions.Size != Network.Spec.Outputs)
            throw new DistillException(
                $"The {role} gives {Network.Spec.Outputs} outputs but {environment.Name} takes {environment.Actions.Size} "
                    + (environment.Actions.Discrete ? "choices." : "action numbers.")
            );
        if (environment.Actions.Discrete != (Network.Spec.Head == Head.Categorical))
            throw new DistillException(
                $"The {role} has a {Network.Spec.Head.ToString().ToLowerInvariant()} head but the actions of "
                    + $"{environment.Name} are {(environment.Actions.Discrete ? "discrete" : "continuous")}."
            );
    }

    /// <summary>Runs the network on one panel; the raw outputs are <see cref="PolicyScratch.Outputs"/> afterwards.</summary>
    /// <param name="observation"><c>[inputs, 32]</c>, not normalised; left as it is.</param>
    /// <param name="memory"><c>[memory, 32]</c>, advanced by one step.</param>
    public void Forward(ReadOnlySpan<float> observation, Span<float> memory, PolicyScratch scratch)
    {
        if (Normaliser is not null)
        {
            var normalised = scratch.Input;
            observation.CopyTo(normalised);
            Normaliser.Apply(normalised);
            observation = normalised;
        }
        Network.Forward(observation, memory, scratch.Activations, scratch.Network);
        Network.CopyMemory(scratch.Activations, memory);
    }

    /// <summary>The deterministic action of one panel: the network's output, the Gaussian's mean, or the likeliest choice.</summary>
    /// <param name="observation"><c>[inputs, 32]</c>.</param>
    /// <param name="memory"><c>[memory, 32]</c>, advanced by one step.</param>
    /// <param name="action"><c>[action floats, 32]</c>.</param>
    public void Act(
        ReadOnlySpan<float> observation,
        Span<float> memory,
        Span<float> action,
        PolicyScratch scratch
    )
    {
        Forward(observation, memory, scratch);
        if (Network.Spec.Head == Head.Categorical)
            Likeliest(scratch.Outputs, action);
        else
            scratch.Outputs.CopyTo(action);
    }

    public void Dispose() => Network.Dispose();

    private static void Likeliest(ReadOnlySpan<float> logits, Span<float> choice)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var best = 0;
            for (var i = 1; i < logits.Length / Panel.Width; i++)
                if (logits[i * Panel.Width + lane] > logits[best * Panel.Width + lane])
                    best = i;
            choice[lane] = best;
        }
    }
}

/// <summary>Working memory for one thread that acts with one policy.</summary>
public sealed class PolicyScratch : IDisposable
{
    private readonly Policy policy;
    private readonly FloatBuffer input;
    private readonly FloatBuffer activations;
    private readonly FloatBuffer network;

    public PolicyScratch(Policy policy)
    {
        this.policy = policy;
        input = new FloatBuffer(policy.Network.Spec.Inputs * Panel.Width);
        activations = new FloatBuffer(policy.Network.ActivationSize * Panel.Width);
        network = new FloatBuffer(policy.Network.ScratchSize);
    }

    internal static long EstimateBytes(NetworkSpec network)
    {
        var size = network.Size;
        return ((network.Inputs + size.Activations) * Panel.Width + size.Scratch) * sizeof(float);
    }

    /// <summary>Raw network outputs <c>[outputs, 32]</c> of the last forward pass.</summary>
    public Span<float> Outputs => policy.Network.Output(activations.Span);

    internal Span<float> Input => input.Span;
    internal Span<float> Activations => activations.Span;
    internal Span<float> Network => network.Span;

    public void Dispose()
    {
        input.Dispose();
        activations.Dispose();
        network.Dispose();
    }
}
