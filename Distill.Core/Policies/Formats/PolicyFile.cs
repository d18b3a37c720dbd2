using System.Text.Json;
using Distill.Compute;
using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>
/// Policies in files. Distill's own form is safetensors with the architecture in its metadata; PyTorch checkpoints of every
/// rsl_rl generation and safetensors without metadata are read by what their tensors are.
/// </summary>
public static class PolicyFile
{
    private const string ArchitectureKey = "distill.architecture";
    private const string StudentKey = "student_state_dict";
    private const string Assumed = "assumed";
    private const string AsSet = "as set";

    /// <summary>Reads a policy.</summary>
    /// <param name="path">A <c>.safetensors</c> or <c>.pt</c> file.</param>
    /// <param name="observationGroup">The group it reads; null for what the file says, else "teacher" (actors) or "student".</param>
    /// <param name="activation">
    /// Nonlinearity of hidden layers; null for what the file says, else for what <c>params/agent.yaml</c> beside the file
    /// says, else for rsl_rl's default, ELU. <see cref="Policy.ActivationSource"/> says which it was.
    /// </param>
    /// <param name="role">Which policy of an rsl_rl checkpoint; null for a distillation's student or else the actor.</param>
    /// <exception cref="DistillException">
    /// The file is missing, damaged, has no policy that Distill can run, or says another activation than the one given.
    /// </exception>
    public static Policy Load(
        string path,
        string? observationGroup = null,
        Activation? activation = null,
        PolicyRole? role = null
    )
    {
        var extension = Path.GetExtension(path).ToLowerInvariant();
        var policy = extension switch
        {
            ".safetensors" => FromSafeTensors(path, SafeTensors.Read(path), activation),
            ".pt" or ".pth" => FromPyTorch(path, PyTorchFile.Read(path), activation, role),
            _ => throw new DistillException(
                $"{path} is not a policy file; a .safetensors or .pt file is needed."
            ),
        };
        if (policy.ActivationSource is null)
            CheckActivation(path, policy.Network.Spec, activation);
        if (observationGroup is not null)
            policy.ObservationGroup = observationGroup;
        return policy;
    }

    /// <summary>Writes a policy as safetensors (atomically). Same policy, same bytes.</summary>
    public static void Save(string path, Policy policy)
    {
        var network = policy.Network;
        var tensors = network
            .Views.Select(view =>
                Tensor.OfFloats(
                    view.Name,
                    network.Parameters.Slice(view.Offset, view.Length),
                    [.. view.Shape]
                )
            )
            .ToList();
        if (policy.Normaliser is { } normaliser)
        {
            tensors.Add(Tensor.OfFloats("normaliser.mean", normaliser.Mean, normaliser.Size));
            tensors.Add(Tensor.OfFloats("normaliser.variance", normaliser.Variance, normaliser.Size));
            tensors.Add(Tensor.OfIntegers("normaliser.count", [normaliser.Count]));
        }
        var metadata = new SortedDictionary<string, string>(policy.Metadata, StringComparer.Ordinal)
        {
            [ArchitectureKey] = DescribeArchitecture(policy),
        };
        SafeTensors.Write(path, tensors, metadata);
    }

    /// <summary>
    /// Writes a policy as a PyTorch checkpoint (atomically), under <c>model_state_dict</c> and <c>student_state_dict</c> with the
    /// names of rsl_rl 5 for an MLP or a GRU in front of one, and with the architecture as text for all others.
    /// </summary>
    /// <param name="iteration">Training iterations completed, for <c>iter</c> and <c>epoch</c>.</param>
    /// <param name="optimizer">For <c>optimizer_state_dict</c>, which is written of Adam; null for none.</param>
    /// <param name="bestReturn">For <c>best_return</c>: the highest mean return of the evaluations so far; null for none yet.</param>
    public static void SavePyTorch(
        string path,
        Policy policy,
        long iteration,
        Optimizer? optimizer = null,
        double? bestReturn = null
    )
    {
        var network = policy.Network;
        var entries = new List<(string, TorchValue)>();
        if (policy.Normaliser is { } normaliser)
        {
            float[] std = [.. normaliser.Variance.Select(MathF.Sqrt)];
            entries.Add(Named("obs_normalizer._mean", normaliser.Mean, 1, normaliser.Size));
            entries.Add(Named("obs_normalizer._var", normaliser.Variance, 1, normaliser.Size));
            entries.Add(Named("obs_normalizer._std", std, 1, normaliser.Size));
            entries.Add(
                ("obs_normalizer.count", new TorchValue.Array(Tensor.OfIntegers("", [normaliser.Count])))
            );
        }
        foreach (var view in network.Views)
            entries.Add(
                Named(
                    TorchName(network.Spec, view),
                    network.Parameters.Slice(view.Offset, view.Length),
                    [.. view.Shape]
                )
            );
        var model = TorchValue.Dict.Of(entries);
        PyTorchFile.Write(
            path,
            TorchValue.Dict.Of([
                ("epoch", new TorchValue.Int(iteration)),
                ("model_state_dict", model),
                .. optimizer is Adam adam
                    ? [OptimizerState.Of(network, adam)]
                    : Array.Empty<(string, TorchValue)>(),
                ("best_return", bestReturn is { } best ? new TorchValue.Float(best) : new TorchValue.None()),
                (StudentKey, model),
                ("iter", new TorchValue.Int(iteration)),
                ("infos", new TorchValue.None()),
                (ArchitectureKey, new TorchValue.Text(DescribeArchitecture(policy))),
            ])
        );

        static (string, TorchValue) Named(string name, ReadOnlySpan<float> values, params int[] shape) =>
            (name, new TorchValue.Array(Tensor.OfFloats(name, values, shape)));
    }

    /// <summary>Lets an optimizer go on from the state that a .pt checkpoint of Distill has of it, if there is one: Adam's.</summary>
    /// <returns>Whether there is.</returns>
    /// <exception cref="DistillException">The file cannot be read, or its state does not fit the network.</exception>
    public static bool RestoreOptimizer(string path, Network network, Optimizer optimizer) =>
        optimizer is Adam adam
        && Path.GetExtension(path).ToLowerInvariant() is ".pt" or ".pth"
        && PyTorchFile.Read(path) is var file
        && file.Other.ContainsKey(ArchitectureKey)
        && OptimizerState.Restore(file, network, adam);

    /// <summary>
    /// The name of a parameter in rsl_rl 5, which counts activations as modules; a layer before the last with a memory is <c>input</c>.
    /// </summary>
    private static string TorchName(NetworkSpec spec, ParameterView view)
    {
        if (view.Name == "log_std")
            return "distribution.log_std_param";
        var parts = view.Name.Split('.');
        var layer = int.Parse(parts[0]);
        if (Remembers(spec.Layers[layer]))
            return $"rnn.rnn.{parts[1]}_l{spec.Layers.Take(layer).Count(Remembers)}";
        var memory = spec.Layers.ToList().FindLastIndex(Remembers);
        return layer < memory
            ? $"input.{2 * layer}.{parts[1]}"
            : $"mlp.{2 * (layer - memory - 1)}.{parts[1]}";

        static bool Remembers(LayerSpec layer) => layer.MemorySize > 0;
    }

    private static string DescribeArchitecture(Policy policy) =>
        JsonSerializer.Serialize(
            new Architecture(
                policy.Network.Spec.Inputs,
                [.. policy.Network.Spec.Layers.Select(layer => layer.Text)],
                policy.Network.Spec.Head,
                policy.ObservationGroup,
                policy.Normaliser?.Epsilon
            )
        );

    private sealed record Architecture(
        int Inputs,
        string[] Layers,
        Head Head,
        string ObservationGroup,
        double? NormaliserEpsilon
    );

    private static Policy FromSafeTensors(string path, SafeTensorsContent content, Activation? activation)
    {
        var tensors = content.Tensors.ToDictionary(tensor => tensor.Name);
        if (!content.Metadata.TryGetValue(ArchitectureKey, out var json))
            return FromNamedTensors(path, tensors, activation);
        var policy = FromArchitecture(path, json, tensors, view => view.Name);
        if (policy.Normaliser is { } empty)
            policy.Normaliser = ReadNormaliser(
                path,
                empty.Size,
                empty.Epsilon,
                Find(path, tensors, "normaliser.mean"),
                Find(path, tensors, "normaliser.variance"),
                FirstInteger(path, Find(path, tensors, "normaliser.count"))
            );
        foreach (var (key, value) in content.Metadata)
            if (key != ArchitectureKey)
                policy.Metadata[key] = value;
        return policy;
    }

    private static Policy FromPyTorch(string path, PyTorchFile file, Activation? activation, PolicyRole? role)
    {
        if (file.Other.GetValueOrDefault(ArchitectureKey) is not TorchValue.Text json)
            return FromRslRl(path, RslRl.Map(file), activation, role);
        const string Prefix = StudentKey + "/";
        var tensors = new Dictionary<string, Tensor>();
        foreach (var tensor in file.Tensors)
            if (
                tensor.Name.StartsWith(Prefix, StringComparison.Ordinal)
                && !tensors.TryAdd(tensor.Name[Prefix.Length..], tensor)
            )
                throw new DistillException($"{path} has the tensor '{tensor.Name}' twice.");
        var spec = ParseSpec(path, json.Value).Spec;
        var policy = FromArchitecture(path, json.Value, tensors, view => TorchName(spec, view));
        if (policy.Normaliser is { } empty)
            policy.Normaliser = ReadNormaliser(
                path,
                empty.Size,
                empty.Epsilon,
                Find(path, tensors, "obs_normalizer._mean"),
                Find(path, tensors, "obs_normalizer._var"),
                FirstInteger(path, Find(path, tensors, "obs_normalizer.count"))
            );
        return policy;
    }

    private static Policy FromArchitecture(
        string path,
        string json,
        Dictionary<string, Tensor> tensors,
        Func<ParameterView, string> nameOf
    )
    {
        var (spec, architecture) = ParseSpec(path, json);
        CheckSizes(path, spec, tensors.Values.Sum(tensor => (long)tensor.Count));
        var policy = new Policy(spec, architecture.ObservationGroup);
        foreach (var view in policy.Network.Views)
            Copy(path, Find(path, tensors, nameOf(view)), view, policy.Network);
        if (architecture.NormaliserEpsilon is { } epsilon)
            policy.Normaliser = new Normaliser(spec.Inputs, epsilon);
        return policy;
    }

    /// <summary>
    /// Safetensors without an architecture: <c>input</c>, <c>gru</c>, <c>output</c>, the form of the released RAPTOR student,
    /// whose first layer has a ReLU.
    /// </summary>
    private static Policy FromNamedTensors(
        string path,
        Dictionary<string, Tensor> tensors,
        Activation? activation
    )
    {
        if (
            !tensors.ContainsKey("gru.weight_ih")
            || !tensors.ContainsKey("input.weight")
            || !tensors.ContainsKey("output.weight")
        )
            throw new DistillException(
                $"{path} says nothing about its architecture (metadata '{ArchitectureKey}') and is not of the form input, gru, output."
            );
        var input = tensors["input.weight"];
        var output = tensors["output.weight"];
        var hidden = Find(path, tensors, "gru.weight_hh");
        foreach (var matrix in new[] { input, output, hidden })
            if (matrix.Shape.Count != 2)
                throw new DistillException(
                    $"Tensor '{matrix.Name}' of {path} has shape {matrix.ShapeText}; a matrix is needed."
                );
        var spec = new NetworkSpec(
            input.Shape[1],
            [
                new Dense(input.Shape[0], activation ?? Activation.Relu),
                new Gru(hidden.Shape[1]),
                new Dense(output.Shape[0], Activation.Identity),
            ]
        );
        CheckSizes(path, spec, tensors.Values.Sum(tensor => (long)tensor.Count));
        var policy = new Policy(spec, "student") { ActivationSource = activation is null ? Assumed : AsSet };
        string[] names = ["input", "gru", "output"];
        foreach (var view in policy.Network.Views)
        {
            var parts = view.Name.Split('.');
            Copy(path, Find(path, tensors, $"{names[int.Parse(parts[0])]}.{parts[1]}"), view, policy.Network);
        }
        return policy;
    }

    private static Policy FromRslRl(
        string path,
        RslRlCheckpoint checkpoint,
        Activation? given,
        PolicyRole? role
    )
    {
        var source = role is { } wanted
            ? checkpoint.Policies.FirstOrDefault(policy => policy.Role == wanted)
                ?? throw new DistillException(
                    $"{path} has no {Text(wanted)}, but: {string.Join(", ", checkpoint.Policies.Select(policy => Text(policy.Role)))}."
                )
            : checkpoint.Policies.FirstOrDefault(policy => policy.Role == PolicyRole.Student)
                ?? checkpoint.Policies.FirstOrDefault(policy => policy.Role == PolicyRole.Actor)
                ?? checkpoint.Policies[0];
        if (source.Memory is { Kind: not MemoryKind.Gru })
            throw new DistillException($"The {Text(source.Role)} of {path} has an LSTM; Distill runs GRUs.");
        var (activation, origin) =
            given is { } known ? (known, AsSet)
            : RslRl.TrainedActivation(path, source.Role) is { } trained ? (trained, "params/agent.yaml")
            : (Activation.Elu, Assumed);
        var memory = source.Memory?.Layers ?? [];
        var layers = new List<LayerSpec>();
        layers.AddRange(memory.Select(gru => new Gru(gru.WeightHh.Shape[1])));
        layers.AddRange(
            source.Layers.SkipLast(1).Select(layer => new Dense(layer.Weight.Shape[0], activation))
        );
        layers.Add(new Dense(source.Layers[^1].Weight.Shape[0], Activation.Identity));
        var inputs = memory.Count > 0 ? memory[0].WeightIh.Shape[1] : source.Layers[0].Weight.Shape[1];
        var head = source.Std is null ? Head.Plain : Head.Gaussian;
        var spec = new NetworkSpec(inputs, layers, head);

        var tensors = new List<Tensor>();
        foreach (var gru in memory)
            tensors.AddRange([gru.WeightIh, gru.WeightHh, gru.BiasIh, gru.BiasHh]);
        foreach (var layer in source.Layers)
            tensors.AddRange([layer.Weight, layer.Bias]);
        if (source.Std is { } std)
            tensors.Add(
                std.IsLog
                    ? std.Values
                    : Tensor.OfFloats(
                        "std",
                        [.. std.Values.ToFloats().Select(value => MathF.Log(value))],
                        [.. std.Values.Shape]
                    )
            );
        CheckSizes(path, spec, tensors.Sum(tensor => (long)tensor.Count));

        var policy = new Policy(spec, source.Role == PolicyRole.Student ? "student" : "teacher")
        {
            ActivationSource = origin,
        };
        foreach (var (tensor, view) in tensors.Zip(policy.Network.Views))
            Copy(path, tensor, view, policy.Network);
        if (source.Normaliser is { } normaliser)
            policy.Normaliser = ReadNormaliser(
                path,
                inputs,
                epsilon: 1e-2,
                normaliser.Mean,
                normaliser.Var,
                normaliser.Count ?? 0
            );
        policy.Metadata["source"] = $"rsl_rl {Text(source.Role)}, iteration {checkpoint.Iteration}";
        return policy;

        static string Text(PolicyRole role) => role.ToString().ToLowerInvariant();
    }

    private static Normaliser ReadNormaliser(
        string path,
        int size,
        double epsilon,
        Tensor mean,
        Tensor variance,
        long count
    )
    {
        if (mean.Count != size || variance.Count != size)
            throw new DistillException(
                $"The normaliser of {path} has {mean.Count} means and {variance.Count} variances where the network reads {size} numbers."
            );
        var normaliser = new Normaliser(size, epsilon) { Count = count };
        mean.ToFloats().CopyTo(normaliser.Mean, 0);
        variance.ToFloats().CopyTo(normaliser.Variance, 0);
        if (
            count < 0
            || !(epsilon > 0 && double.IsFinite(epsilon))
            || !Array.TrueForAll(normaliser.Mean, float.IsFinite)
            || !Array.TrueForAll(normaliser.Variance, value => value >= 0 && float.IsFinite(value))
        )
            throw new DistillException(
                $"The normaliser of {path} cannot be used: means must be finite, variances and count not negative, epsilon "
                    + "above 0."
            );
        normaliser.Refresh();
        return normaliser;
    }

    private static void Copy(string path, Tensor tensor, ParameterView view, Network network)
    {
        if (!tensor.Shape.SequenceEqual(view.Shape))
            throw new DistillException(
                $"Tensor '{tensor.Name}' of {path} has shape {tensor.ShapeText} where [{string.Join(", ", view.Shape)}] is needed."
            );
        var values = tensor.ToFloats();
        if (Array.Exists(values, value => !float.IsFinite(value)))
            throw new DistillException(
                $"Tensor '{tensor.Name}' of {path} holds a number that is not finite."
            );
        values.CopyTo(network.Parameters.Slice(view.Offset, view.Length));
    }

    private static Tensor Find(string path, Dictionary<string, Tensor> tensors, string name) =>
        tensors.TryGetValue(name, out var tensor)
            ? tensor
            : throw new DistillException($"{path} has no tensor '{name}', which its architecture needs.");

    /// <summary>A network is only allocated if the file holds at least as many numbers, so a lie in it costs nothing.</summary>
    private static void CheckSizes(string path, NetworkSpec spec, long available)
    {
        if (
            spec.Layers.Count == 0
            || spec.Inputs < 1
            || spec.Layers.Any(layer => layer.Size < 1)
            || spec.ParameterCount > available
        )
            throw new DistillException($"{path} does not hold the parameters of its architecture {spec}.");
    }

    private static void CheckActivation(string path, NetworkSpec spec, Activation? given)
    {
        foreach (var layer in spec.Layers.SkipLast(1))
            if (given is { } wanted && layer.Nonlinearity is { } own && own != wanted)
                throw new DistillException(
                    $"{path} says that its hidden layers have the activation {Lower(own)}, not {Lower(wanted)}; "
                        + "leave the activation out."
                );

        static string Lower(Activation activation) => activation.ToString().ToLowerInvariant();
    }

    private static long FirstInteger(string path, Tensor tensor) =>
        tensor.ToIntegers() is [var value, ..]
            ? value
            : throw new DistillException($"Tensor '{tensor.Name}' of {path} is empty.");

    private static (NetworkSpec Spec, Architecture Architecture) ParseSpec(string path, string json)
    {
        try
        {
            if (
                JsonSerializer.Deserialize<Architecture>(json)
                    is not { Layers: not null, ObservationGroup: not null } parsed
                || !Enum.IsDefined(parsed.Head)
            )
                throw new JsonException();
            return (
                new NetworkSpec(
                    parsed.Inputs,
                    [
                        .. parsed.Layers.Select(text =>
                            LayerSpec.Parse(text)
                            ?? throw new DistillException(
                                $"{path} has a layer '{text}', which Distill does not know."
                            )
                        ),
                    ],
                    parsed.Head
                ),
                parsed
            );
        }
        catch (JsonException)
        {
            throw new DistillException($"The architecture in the metadata of {path} cannot be read.");
        }
    }
}
