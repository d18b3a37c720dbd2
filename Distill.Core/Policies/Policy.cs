using Distill.Environments;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// What acts: an observation group, an optional normalizer, a network and the meaning of its outputs. A teacher, a student
/// and a PPO actor are all policies. Acting changes nothing in the policy, so any number of threads may act with it at
/// once.
/// </summary>
public sealed class Policy : IDisposable
{
    /// <param name="spec">Architecture; its inputs must be the size of the observation group.</param>
    /// <param name="observationGroup">The group of the environment that it reads.</param>
    /// <param name="normalize">Whether observations are normalized by running statistics.</param>
    public Policy(NetworkSpec spec, string observationGroup, bool normalize = false)
    {
        Network = new Network(spec);
        Distribution = ActionDistribution.Of(spec.Head);
        ObservationGroup = observationGroup;
        Normalizer = normalize ? new Normalizer(spec.Inputs) : null;
    }

    /// <summary>Values of <see cref="ActivationSource"/>.</summary>
    internal const string Assumed = "assumed";
    internal const string AsSet = "as set";

    public Network Network { get; }
    public Normalizer? Normalizer { get; set; }

    /// <summary>What the outputs describe; null where they are the action itself.</summary>
    internal ActionDistribution? Distribution { get; }

    /// <summary>The observation group that it reads, or several, joined by plus signs: "state+encoding".</summary>
    public string ObservationGroup { get; set; }

    /// <summary>Facts that travel with the file: who made it, how, and what it scored.</summary>
    public Dictionary<string, string> Metadata { get; } = [];

    /// <summary>
    /// How the nonlinearity of the hidden layers is known, where the policy's own file does not say it: "assumed", "as set" or
    /// the name of the file that says it; null otherwise.
    /// </summary>
    public string? ActivationSource { get; init; }

    /// <summary>How a standard deviation that depends on the state is known where the policy's own file does not say it, likewise.</summary>
    public string? HeadSource { get; init; }

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
                + Spread
                + (Normalizer is null ? "" : ", normalized");
        }
    }

    private string Spread
    {
        get
        {
            var text = Network.Spec.Head switch
            {
                Head.StateDependentStd => ", std of the state",
                Head.StateDependentLogStd => ", log_std of the state",
                Head.SquashedGaussian => ", squashed",
                _ => "",
            };
            return text + (text != "" && HeadSource is { } source ? $" ({source})" : "");
        }
    }

    /// <summary>Whether the policy fits an environment.</summary>
    /// <param name="role">For the message: "teacher" or "student".</param>
    /// <exception cref="DistillException">It does not; the message says which sizes differ.</exception>
    public void Check(EnvironmentSpec environment, string role)
    {
        var view = new ObservationView(environment, ObservationGroup);
        var size = view.Size;
        if (size != Network.Spec.Inputs)
            throw new DistillException(
                $"The {role} reads {Network.Spec.Inputs} numbers but observation group '{ObservationGroup}' of {environment.Name} "
                    + $"has {size}; groups: {string.Join(", ", environment.Groups.Select(g => $"{g.Name} ({g.Size})"))}."
            );
        if (
            view.ComputedBy != ""
            && Metadata.TryGetValue(PolicyFacts.Encoder, out var encoder)
            && encoder != view.ComputedBy
        )
            throw new DistillException(
                $"The {role} was trained with the encoder whose file's SHA-256 is {encoder}; that of {environment.Name} is "
                    + $"{view.ComputedBy}, whose encodings mean something else."
            );
        if (environment.Actions.Size != Network.Spec.Outputs)
        {
            var doubt =
                HeadSource == Assumed
                    ? $"; that half of {2 * Network.Spec.Outputs} outputs are standard deviations was assumed"
                : !environment.Actions.Discrete && Network.Spec.Outputs == 2 * environment.Actions.Size
                    ? "; where half of them are standard deviations, params/agent.yaml beside the file has to say so"
                : "";
            throw new DistillException(
                $"The {role} gives {Network.Spec.Outputs} outputs but {environment.Name} takes {environment.Actions.Size} "
                    + $"{(environment.Actions.Discrete ? "choices" : "action numbers")}{doubt}."
            );
        }
        if (environment.Actions.Discrete != (Network.Spec.Head == Head.Categorical))
            throw new DistillException(
                $"The {role} has a {Network.Spec.Head.ToString().ToLowerInvariant()} head but the actions of "
                    + $"{environment.Name} are {(environment.Actions.Discrete ? "discrete" : "continuous")}."
            );
    }

    /// <summary>Bytes of scratch that acting takes.</summary>
    internal static long EstimateBytes(NetworkSpec network)
    {
        var size = network.Size;
        return ((network.Inputs + size.Activations) * Panel.Width + size.Scratch) * sizeof(float);
    }

    /// <summary>Runs the network on one panel.</summary>
    /// <param name="observation"><c>[inputs, 32]</c>, not normalized; left as it is.</param>
    /// <param name="memory"><c>[memory, 32]</c>, advanced by one step.</param>
    /// <returns>The raw outputs <c>[output size, 32]</c>, until the workspace's scope ends.</returns>
    public Panel Forward(Panel observation, Panel memory, Workspace own)
    {
        var activations = own.Panel(Network.ActivationSize);
        using var scope = own.Open();
        if (Normalizer is not null)
        {
            var normalized = own.Panel(observation.Features);
            observation.Values.CopyTo(normalized.Values);
            Normalizer.Apply(normalized);
            observation = normalized;
        }
        Network.Forward(observation, memory, activations, own);
        Network.CopyMemory(activations, memory);
        return Network.Output(activations);
    }

    /// <summary>Turns outputs into actions: the outputs themselves, the Gaussian's mean or the likeliest choice, or a draw.</summary>
    /// <param name="outputs"><c>[output size, 32]</c>.</param>
    /// <param name="action"><c>[action floats, 32]</c>.</param>
    /// <param name="noise">Draws from the distribution that the outputs describe, if they do; null for what it deems best.</param>
    /// <param name="first">Index of lane 0's environment, and the steps since the start of training: the counter of the draw.</param>
    public void Decide(Panel outputs, Panel action, RandomStream? noise = null, int first = 0, long time = 0)
    {
        if (Distribution is null)
            outputs.Values.CopyTo(action.Values);
        else if (noise is { } stream)
            Distribution.Sample(outputs, stream, first, time, action);
        else
            Distribution.Mode(outputs, action);
    }

    /// <summary>
    /// The action deemed best, with noise of mean zero around it from the distribution that the outputs describe: continuous
    /// actions go that part of the way to a draw, which for a Gaussian is noise of that many standard deviations; choices are
    /// drawn with that probability.
    /// </summary>
    /// <param name="exploration">0 for none, 1 for a draw. Without a distribution only 0 is possible.</param>
    public void Explore(
        Panel outputs,
        Panel action,
        float exploration,
        RandomStream noise,
        int first,
        long time,
        Workspace own
    )
    {
        Decide(outputs, action);
        if (exploration == 0 || Distribution is null)
            return;
        using var scope = own.Open();
        var drawn = own.Panel(action.Features);
        Distribution.Sample(outputs, noise, first, time, drawn);
        if (Network.Spec.Head == Head.Categorical)
        {
            Span<byte> chosen = stackalloc byte[Panel.Width];
            for (var lane = 0; lane < Panel.Width; lane++)
                // Another counter than that of the draw itself.
                chosen[lane] =
                    noise.Uniform((uint)(first + lane), (uint)time, (uint)(time >> 32), 1) < exploration
                        ? (byte)1
                        : (byte)0;
            Elementwise.CopyLanes(drawn, action, chosen);
        }
        else
            for (var i = 0; i < action.Values.Length; i++)
                action.Values[i] += exploration * (drawn.Values[i] - action.Values[i]);
    }

    public void Dispose() => Network.Dispose();
}
