using Distill.Environments;
using Distill.Environments.Manipulation;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// Environments with one more observation group, <c>encoding</c>: what a trajectory transformer says of the last steps of the episode,
/// the current state included. At the start that is the first state alone, and it grows from there. Whoever trains, evaluates or acts in them
/// sees the same encodings.
/// </summary>
public sealed record EncodedConfig : IEnvironmentConfig
{
    /// <summary>Name of the observation group.</summary>
    public const string Group = "encoding";

    private KnownEncoder? known;

    /// <summary>The environments. They must be able to wait in the states in which episodes end, as all do that are simulated here but cart poles.</summary>
    public IEnvironmentConfig Environment { get; init; } = new ManipulationConfig();

    /// <summary>The trajectory transformer: a .safetensors file, trained before on episodes of such environments. It is not trained any further.</summary>
    public string Encoder { get; init; } = "";

    /// <summary>The observation group whose numbers are the states that it reads, as it was when the encoder was trained.</summary>
    public string States { get; init; } = "reduced";

    int IEnvironmentConfig.Envs => Environment.Envs;

    EnvironmentSpec IEnvironmentConfig.Spec => CheckedSpec();

    IEnvironmentConfig? IEnvironmentConfig.AtRest =>
        Environment.AtRest is { } rest ? this with { Environment = rest } : null;

    IEnvironmentConfig IEnvironmentConfig.Grouped => this with { Environment = Environment.Grouped };

    public IEnvironmentConfig? Only(int variant) =>
        Environment.Only(variant) is { } one ? this with { Environment = one } : null;

    public IBatchedEnvironment Create(int envs, ulong seed)
    {
        var spec = CheckedSpec();
        // What is known of the file may be older than the file.
        if (EncoderFile.HashOf(Encoder) != known!.Hash)
            throw new DistillException($"The encoder '{Encoder}' has changed since the run began.");
        var inner = Environment.Create(envs, seed);
        if (inner is IHoldingEnvironment holding)
            return new EncodedEnvironment(
                spec,
                holding,
                EncoderFile.Load(Encoder),
                inner.Spec.Group(States),
                known.Hash
            );
        inner.Dispose();
        throw new DistillException(
            $"{spec.Name} cannot be encoded: it does not wait in the states in which its episodes end."
        );
    }

    private EnvironmentSpec CheckedSpec()
    {
        var spec = Environment.Spec;
        if (Encoder == "")
            throw new DistillException($"Which encoder is {spec.Name} to have? Name its file: encoder=FILE.");
        // Asked for often, and it reads a file.
        if (known?.Path != Encoder)
            known = KnownEncoder.Read(Encoder);
        var (states, actions) = (spec.Groups[spec.Group(States)].Size, spec.Actions.Floats);
        if ((known.States, known.Actions) != (states, actions))
            throw new DistillException(
                $"The encoder '{Encoder}' reads {known.States} numbers of a state and {known.Actions} of an action; the group '{States}' of "
                    + $"{spec.Name} has {states}, and its actions {actions}."
            );
        if (spec.Groups.Any(group => group.Name == Group))
            throw new DistillException($"{spec.Name} already has an observation group '{Group}'.");
        return spec with
        {
            Groups =
            [
                .. spec.Groups,
                new(Group, [new($"encoding of the last {known.Config.Window} steps", known.Config.Encoding)])
                {
                    ComputedBy = known.Hash,
                },
            ],
        };
    }

    /// <summary>What is to be known of an encoder's file before it is used.</summary>
    private sealed record KnownEncoder(
        string Path,
        string Hash,
        TransformerConfig Config,
        int States,
        int Actions
    )
    {
        public static KnownEncoder Read(string path)
        {
            var hash = EncoderFile.HashOf(path);
            using var network = EncoderFile.Load(path);
            return new(path, hash, network.Config, network.States, network.Actions);
        }
    }
}
