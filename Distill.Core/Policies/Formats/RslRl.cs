using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>What a network is for.</summary>
public enum PolicyRole
{
    Actor,
    Student,
    Teacher,
}

/// <summary>Kind of a recurrent memory; gate order as in PyTorch: GRU r, z, n; LSTM i, f, g, o.</summary>
public enum MemoryKind
{
    Gru,
    Lstm,
}

/// <summary>One linear layer.</summary>
/// <param name="Weight"><c>[out, in]</c>.</param>
/// <param name="Bias"><c>[out]</c>.</param>
public sealed record LayerTensors(Tensor Weight, Tensor Bias);

/// <summary>One recurrent layer of H units with G gates (3 or 4).</summary>
/// <param name="WeightIh"><c>[G H, in]</c>.</param>
/// <param name="WeightHh"><c>[G H, H]</c>.</param>
/// <param name="BiasIh"><c>[G H]</c>.</param>
/// <param name="BiasHh"><c>[G H]</c>.</param>
public sealed record MemoryLayerTensors(Tensor WeightIh, Tensor WeightHh, Tensor BiasIh, Tensor BiasHh);

/// <summary>The memory in front of the layers; the last of its layers feeds the first linear one.</summary>
public sealed record MemoryTensors(MemoryKind Kind, IReadOnlyList<MemoryLayerTensors> Layers);

/// <summary>rsl_rl's <c>EmpiricalNormalization</c>: <c>y = (x - mean) / (std + eps)</c>, eps 1e-2.</summary>
/// <param name="Mean"><c>[1, obs]</c>.</param>
/// <param name="Var"><c>[1, obs]</c>, population variance.</param>
/// <param name="Std"><c>[1, obs]</c>.</param>
/// <param name="Count">Samples seen; null where the version does not save it.</param>
public sealed record NormalizerTensors(Tensor Mean, Tensor Var, Tensor Std, long? Count);

/// <summary>Standard deviation of the action noise, independent of the state.</summary>
/// <param name="Values"><c>[actions]</c>.</param>
/// <param name="IsLog">Whether the values are logarithms.</param>
public sealed record StdTensors(Tensor Values, bool IsLog);

/// <summary>The tensors of one network: normalizer, then memory, then layers.</summary>
/// <param name="Layers">
/// First to last. With a state-dependent std or a Beta distribution the last one has 2 x actions rows, the first half
/// being the means; only the training's settings say so.
/// </param>
/// <param name="Std">Null for a deterministic or state-dependent policy; teachers of v2 and v3 share the student's.</param>
public sealed record PolicyTensors(
    PolicyRole Role,
    MemoryTensors? Memory,
    IReadOnlyList<LayerTensors> Layers,
    NormalizerTensors? Normalizer,
    StdTensors? Std
)
{
    /// <summary>Outputs of the last layer.</summary>
    public int Outputs => Layers[^1].Weight.Shape[0];
}

/// <param name="Iteration">Learning iteration at which it was saved.</param>
/// <param name="Policies">The roles that are in the file: actor, or student and teacher.</param>
public sealed record RslRlCheckpoint(long Iteration, IReadOnlyList<PolicyTensors> Policies);

/// <summary>
/// Finds the policies in a checkpoint of rsl_rl, versions 1 to 5, whose key names differ: by role, not by name.
/// Critics, optimizer and random network distillation are left out.
/// </summary>
public static class RslRl
{
    /// <summary>Where a role's tensors are: prefixes of names within one state dict.</summary>
    /// <param name="State">Top-level key of the state dict.</param>
    /// <param name="OldNormalizer">Top-level key of a normalizer saved beside the model (v2); null if never.</param>
    /// <param name="HasStd">Whether the std in the state dict belongs to this role.</param>
    /// <param name="IsWhole">Whether all names of the state dict belong to this role.</param>
    private sealed record Layout(
        PolicyRole Role,
        string State,
        string Mlp,
        string Rnn,
        string Normalizer,
        string? OldNormalizer,
        bool HasStd,
        bool IsWhole
    );

    private const string V1To3 = "model_state_dict";

    // Sources: rsl_rl tags v1.0.2 to v5.4, modules/ and models/, runners/on_policy_runner.py.
    private static readonly Layout[] Layouts =
    [
        SinceV4(PolicyRole.Actor, "actor"),
        SinceV4(PolicyRole.Student, "student"),
        SinceV4(PolicyRole.Teacher, "teacher"),
        UpToV3(PolicyRole.Actor, "actor", "obs_norm_state_dict"),
        UpToV3(PolicyRole.Student, "student", "obs_norm_state_dict"),
        UpToV3(PolicyRole.Teacher, "teacher", "privileged_obs_norm_state_dict"),
    ];

    private static Layout SinceV4(PolicyRole role, string name) =>
        new(
            role,
            $"{name}_state_dict",
            "mlp.",
            "rnn.rnn.",
            "obs_normalizer.",
            null,
            HasStd: true,
            IsWhole: true
        );

    private static Layout UpToV3(PolicyRole role, string name, string oldNormalizer) =>
        new(
            role,
            V1To3,
            $"{name}.",
            $"memory_{name[0]}.rnn.",
            $"{name}_obs_normalizer.",
            oldNormalizer,
            HasStd: role != PolicyRole.Teacher,
            IsWhole: false
        );

    private static readonly (string Name, bool IsLog)[] StdNames =
    [
        ("std", false),
        ("log_std", true),
        ("distribution.std_param", false),
        ("distribution.log_std_param", true),
    ];

    /// <exception cref="DistillException">The file has no policy of rsl_rl, or one whose tensors do not fit together.</exception>
    public static RslRlCheckpoint Map(PyTorchFile file)
    {
        var policies = Layouts.Select(layout => MapRole(file, layout)).OfType<PolicyTensors>().ToArray();
        if (policies.Length == 0)
            throw Broken(
                file,
                $"it has none of {V1To3}, actor_state_dict, student_state_dict and teacher_state_dict with an MLP in it"
            );

        var iteration = (file.Root as TorchValue.Dict)?.Find("iter") is TorchValue.Int number
            ? number.Value
            : 0;
        return new RslRlCheckpoint(iteration, policies);
    }

    /// <summary>
    /// The activation of a checkpoint's hidden layers, which only the training's settings say: <c>params/agent.yaml</c>, which
    /// IsaacLab writes beside the checkpoints. Null where there are none, or where they do not say it.
    /// </summary>
    /// <param name="checkpoint">Path of the checkpoint.</param>
    /// <exception cref="DistillException">They name an activation that Distill does not have, or cannot be read.</exception>
    public static Activation? TrainedActivation(string checkpoint, PolicyRole role) =>
        Trained(checkpoint, role, "activation") is { } name
            ? ParseActivation(SettingsPath(checkpoint), name)
            : null;

    /// <summary>
    /// What the outputs of a checkpoint's policy mean that has no std of its own, as the same settings say it; null where they do not.
    /// </summary>
    /// <exception cref="DistillException">They name a distribution that Distill does not have, or cannot be read.</exception>
    public static Head? TrainedHead(string checkpoint, PolicyRole role)
    {
        // The name may have its module before it.
        var kind = Trained(checkpoint, role, "distribution_cfg.class_name")?.Split('.', ':')[^1];
        if (kind is not (null or "GaussianDistribution" or "HeteroscedasticGaussianDistribution"))
            throw new DistillException(
                $"{SettingsPath(checkpoint)} says that the {role.ToString().ToLowerInvariant()} has a {kind}; "
                    + "Distill has GaussianDistribution and HeteroscedasticGaussianDistribution."
            );
        var depends =
            kind == "HeteroscedasticGaussianDistribution"
            || bool.TryParse(Trained(checkpoint, role, "state_dependent_std"), out var on) && on;
        if (!depends)
            return null;
        var type =
            Trained(checkpoint, role, "distribution_cfg.std_type")
            ?? Trained(checkpoint, role, "noise_std_type");
        return type == "log" ? Head.StateDependentLogStd : Head.StateDependentStd;
    }

    private static string SettingsPath(string checkpoint) =>
        Path.Combine(Path.GetDirectoryName(Path.GetFullPath(checkpoint))!, "params", "agent.yaml");

    /// <summary>A setting of a policy's training, from the files that <see cref="TrainedActivation"/> names.</summary>
    private static string? Trained(string checkpoint, PolicyRole role, string name)
    {
        var path = SettingsPath(checkpoint);
        if (!File.Exists(path))
            return null;

        // Versions 4 and later have a section a model; before, one for all.
        string[] names = [$"{role.ToString().ToLowerInvariant()}.{name}", $"policy.{name}"];
        var settings = Yaml.Read(path);
        return names
            .SelectMany(name => settings.Where(setting => setting.Key == name))
            .Select(setting => setting.Value)
            .FirstOrDefault();
    }

    private static Activation ParseActivation(string path, string name) =>
        name.ToLowerInvariant() switch
        {
            "elu" or "crelu" => Activation.Elu, // torch.nn.CELU with alpha 1 is ELU.
            "selu" => Activation.Selu,
            "relu" => Activation.Relu,
            "tanh" => Activation.Tanh,
            "identity" => Activation.Identity,
            _ => throw new DistillException(
                $"{path} says that the policy has the activation {name}; Distill has elu, selu, relu, tanh and identity."
            ),
        };

    private static PolicyTensors? MapRole(PyTorchFile file, Layout layout)
    {
        var state = Section(file, layout.State);
        var layers = Layers(file, state, layout.Mlp);
        if (layers.Count == 0)
            return null;

        var memory = Memory(file, state, layout.Rnn);
        var normalizer =
            Normalizer(file, state, layout.Normalizer)
            ?? (layout.OldNormalizer is { } old ? Normalizer(file, Section(file, old), "") : null);
        var std = layout.HasStd ? Std(state) : null;
        if (layout.IsWhole)
            RefuseUnknown(file, layout, state);

        var policy = new PolicyTensors(layout.Role, memory, layers, normalizer, std);
        CheckSizes(file, policy);
        return policy;
    }

    private static Dictionary<string, Tensor> Section(PyTorchFile file, string key)
    {
        var values = (file.Root as TorchValue.Dict)?.Find(key) as TorchValue.Dict;
        return values is null
            ? []
            : values
                .Entries.Where(entry => entry.Value is TorchValue.Array && entry.Key.Text is not null)
                .ToDictionary(
                    entry => entry.Key.Text!,
                    entry => ((TorchValue.Array)entry.Value).Tensor.Named($"{key}/{entry.Key.Text}")
                );
    }

    /// <summary>Linear layers by their index in the Sequential, which counts activations: 0, 2, 4, …</summary>
    private static List<LayerTensors> Layers(
        PyTorchFile file,
        Dictionary<string, Tensor> state,
        string prefix
    )
    {
        var names = state.Keys.Where(name => name.StartsWith(prefix, StringComparison.Ordinal)).ToArray();
        var layers = new SortedDictionary<int, LayerTensors>();
        foreach (var name in names)
        {
            if (
                name.Split('.') is not [_, var text, "weight" or "bias"]
                || !int.TryParse(text, out var index)
            )
                throw Broken(file, $"'{name}' is not a tensor of a linear layer");

            layers[index] = new LayerTensors(
                Need(file, state, $"{prefix}{text}.weight", axes: 2),
                Need(file, state, $"{prefix}{text}.bias", axes: 1)
            );
        }

        return [.. layers.Values];
    }

    private static MemoryTensors? Memory(PyTorchFile file, Dictionary<string, Tensor> state, string prefix)
    {
        var layers = new List<MemoryLayerTensors>();
        while (state.ContainsKey($"{prefix}weight_ih_l{layers.Count}"))
            layers.Add(
                new MemoryLayerTensors(
                    Need(file, state, $"{prefix}weight_ih_l{layers.Count}", axes: 2),
                    Need(file, state, $"{prefix}weight_hh_l{layers.Count}", axes: 2),
                    Need(file, state, $"{prefix}bias_ih_l{layers.Count}", axes: 1),
                    Need(file, state, $"{prefix}bias_hh_l{layers.Count}", axes: 1)
                )
            );

        if (state.Keys.Count(name => name.StartsWith(prefix, StringComparison.Ordinal)) != 4 * layers.Count)
            throw Broken(file, $"the memory '{prefix}' is neither a GRU nor an LSTM with biases");

        if (layers.Count == 0)
            return null;

        var hidden = layers[0].WeightHh.Shape[1];
        return (hidden == 0 ? 0 : layers[0].WeightHh.Shape[0] / hidden) switch
        {
            3 => new MemoryTensors(MemoryKind.Gru, layers),
            4 => new MemoryTensors(MemoryKind.Lstm, layers),
            _ => throw Broken(file, $"{Describe(layers[0].WeightHh)} belongs to neither a GRU nor an LSTM"),
        };
    }

    private static NormalizerTensors? Normalizer(
        PyTorchFile file,
        Dictionary<string, Tensor> state,
        string prefix
    )
    {
        if (!state.ContainsKey($"{prefix}_mean"))
            return null;

        var count = state.GetValueOrDefault($"{prefix}count");
        if (count is not null && count.Count != 1)
            throw Broken(file, $"{Describe(count)} is not a single number");

        return new NormalizerTensors(
            Need(file, state, $"{prefix}_mean", axes: 2),
            Need(file, state, $"{prefix}_var", axes: 2),
            Need(file, state, $"{prefix}_std", axes: 2),
            count?.ToIntegers()[0]
        );
    }

    private static StdTensors? Std(Dictionary<string, Tensor> state)
    {
        foreach (var (name, isLog) in StdNames)
            if (state.TryGetValue(name, out var values))
                return new StdTensors(values, isLog);

        return null;
    }

    /// <summary>A part that we do not know (a convolutional encoder) would be missing from the policy without notice.</summary>
    private static void RefuseUnknown(PyTorchFile file, Layout layout, Dictionary<string, Tensor> state)
    {
        string[] known = [layout.Mlp, layout.Rnn, layout.Normalizer];
        var unknown = state.Keys.FirstOrDefault(name =>
            !known.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal))
            && !StdNames.Any(std => std.Name == name)
        );
        if (unknown is not null)
            throw Broken(
                file,
                $"'{layout.State}/{unknown}' belongs to a kind of model that is not supported"
            );
    }

    private static void CheckSizes(PyTorchFile file, PolicyTensors policy)
    {
        var width = policy.Memory?.Layers[0].WeightIh.Shape[1] ?? policy.Layers[0].Weight.Shape[1];
        if (policy.Normalizer is { } normalizer)
        {
            Expect(normalizer.Mean, 1, width);
            Expect(normalizer.Var, 1, width);
            Expect(normalizer.Std, 1, width);
        }

        if (policy.Memory is { } memory)
        {
            var hidden = memory.Layers[0].WeightHh.Shape[1];
            var rows = hidden * (memory.Kind == MemoryKind.Gru ? 3 : 4);
            foreach (var layer in memory.Layers)
            {
                Expect(layer.WeightIh, rows, width);
                Expect(layer.WeightHh, rows, hidden);
                Expect(layer.BiasIh, rows);
                Expect(layer.BiasHh, rows);
                width = hidden;
            }
        }

        foreach (var layer in policy.Layers)
        {
            Expect(layer.Weight, layer.Weight.Shape[0], width);
            width = layer.Weight.Shape[0];
            Expect(layer.Bias, width);
        }

        void Expect(Tensor tensor, params int[] shape)
        {
            if (!tensor.Shape.SequenceEqual(shape))
                throw Broken(file, $"{Describe(tensor)} should have the shape [{string.Join(", ", shape)}]");
        }
    }

    private static Tensor Need(PyTorchFile file, Dictionary<string, Tensor> state, string name, int axes)
    {
        if (!state.TryGetValue(name, out var tensor))
            throw Broken(file, $"the tensor '{name}' is missing");

        return tensor.Shape.Count == axes
            ? tensor
            : throw Broken(file, $"{Describe(tensor)} should have {axes} axes");
    }

    private static string Describe(Tensor tensor) => $"'{tensor.Name}' of shape {tensor.ShapeText}";

    private static DistillException Broken(PyTorchFile file, string reason) =>
        new($"'{file.Path}' is not an rsl_rl checkpoint that can be used: {reason}.");
}
