using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>
/// PyTorch checkpoints: those of Distill, under <c>model_state_dict</c> and <c>student_state_dict</c> with the names of
/// rsl_rl 5 for an MLP, or GRUs or LSTMs of one size in front of one, and with the architecture as text for all others; and those
/// of rsl_rl.
/// </summary>
internal sealed class PyTorchFormat : PolicyFormat
{
    private const string StudentKey = "student_state_dict";

    /// <summary>What rsl_rl keeps for the user: here what the policy's numbers are.</summary>
    private const string InfosKey = "infos";

    public override Policy Load(string path, Activation? activation, PolicyRole? role)
    {
        var file = PyTorchFile.Read(path);
        if (file.Other.GetValueOrDefault(Architecture.Key) is not TorchValue.Text json)
            return RslRlPolicy.Read(path, RslRl.Map(file), activation, role);
        const string Prefix = StudentKey + "/";
        var tensors = new Dictionary<string, Tensor>();
        foreach (var tensor in file.Tensors)
            if (
                tensor.Name.StartsWith(Prefix, StringComparison.Ordinal)
                && !tensors.TryAdd(tensor.Name[Prefix.Length..], tensor)
            )
                throw new DistillException($"{path} has the tensor '{tensor.Name}' twice.");
        var policy = Architecture.Read(
            json.Value,
            new PolicySource(path, tensors),
            NameOf,
            ("obs_normalizer._mean", "obs_normalizer._var", "obs_normalizer.count")
        );
        if ((file.Root as TorchValue.Dict)?.Find(InfosKey) is TorchValue.Dict infos)
            foreach (var (key, value) in infos.Entries)
                if (key.Text is { } name && PolicyFacts.IsFact(name) && value is TorchValue.Text text)
                    policy.Metadata[name] = text.Value;
        return policy;
    }

    public override void Save(
        string path,
        Policy policy,
        long iteration,
        Optimizer? optimizer,
        double? bestReturn
    )
    {
        var network = policy.Network;
        var entries = new List<(string, TorchValue)>();
        if (policy.Normalizer is { } normalizer)
        {
            float[] std = [.. normalizer.Variance.Select(MathF.Sqrt)];
            entries.Add(Named("obs_normalizer._mean", normalizer.Mean, 1, normalizer.Size));
            entries.Add(Named("obs_normalizer._var", normalizer.Variance, 1, normalizer.Size));
            entries.Add(Named("obs_normalizer._std", std, 1, normalizer.Size));
            entries.Add(
                ("obs_normalizer.count", new TorchValue.Array(Tensor.OfIntegers("", [normalizer.Count])))
            );
        }
        foreach (var view in network.Views)
            entries.Add(Named(NameOf(network.Spec, view), network[view], [.. view.Shape]));
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
                (InfosKey, Infos(policy)),
                (Architecture.Key, new TorchValue.Text(Architecture.Describe(policy))),
            ])
        );

        static (string, TorchValue) Named(string name, ReadOnlySpan<float> values, params int[] shape) =>
            (name, new TorchValue.Array(Tensor.OfFloats(name, values, shape)));
    }

    /// <summary>Without who made it and how: the same training gives the same bytes, whatever its command was.</summary>
    private static TorchValue Infos(Policy policy)
    {
        var facts = policy.Metadata.Where(entry => PolicyFacts.IsFact(entry.Key)).ToArray();
        return facts.Length == 0
            ? new TorchValue.None()
            : TorchValue.Dict.Of(
                facts
                    .OrderBy(entry => entry.Key, StringComparer.Ordinal)
                    .Select(entry => (entry.Key, (TorchValue)new TorchValue.Text(entry.Value)))
            );
    }

    public override bool RestoreOptimizer(string path, Network network, Adam adam) =>
        PyTorchFile.Read(path) is var file
        && file.Other.ContainsKey(Architecture.Key)
        && OptimizerState.Restore(file, network, adam);

    /// <summary>
    /// The name of a parameter in rsl_rl 5, which counts activations as modules; a layer before the last with a memory is <c>input</c>.
    /// </summary>
    internal static string NameOf(NetworkSpec spec, ParameterView view)
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
}
