using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>Policies of rsl_rl's checkpoints.</summary>
internal static class RslRlPolicy
{
    public static Policy Read(string path, RslRlCheckpoint checkpoint, Activation? given, PolicyRole? role)
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
            given is { } known ? (known, Policy.AsSet)
            : RslRl.TrainedActivation(path, source.Role) is { } trained ? (trained, "params/agent.yaml")
            : (Activation.Elu, Policy.Assumed);

        var layers = new List<LayerSpec>();
        var tensors = new Dictionary<string, Tensor>();
        var inputs = source.Layers[0].Weight.Shape[1];
        if (source.Memory?.Layers is { } memory)
        {
            inputs = memory[0].WeightIh.Shape[1];
            for (var i = 0; i < memory.Count; i++)
            {
                layers.Add(new Gru(memory[i].WeightHh.Shape[1]));
                tensors[$"rnn.rnn.weight_ih_l{i}"] = memory[i].WeightIh;
                tensors[$"rnn.rnn.weight_hh_l{i}"] = memory[i].WeightHh;
                tensors[$"rnn.rnn.bias_ih_l{i}"] = memory[i].BiasIh;
                tensors[$"rnn.rnn.bias_hh_l{i}"] = memory[i].BiasHh;
            }
        }
        for (var i = 0; i < source.Layers.Count; i++)
        {
            var (weight, bias) = source.Layers[i];
            var last = i == source.Layers.Count - 1;
            layers.Add(new Dense(weight.Shape[0], last ? Activation.Identity : activation));
            tensors[$"mlp.{2 * i}.weight"] = weight;
            tensors[$"mlp.{2 * i}.bias"] = bias;
        }
        if (source.Std is { } std)
            tensors["distribution.log_std_param"] = std.IsLog ? std.Values : Logarithm(std.Values);

        var spec = new NetworkSpec(inputs, layers, source.Std is null ? Head.Plain : Head.Gaussian);
        var read = new PolicySource(path, tensors);
        var policy = read.Create(
            spec,
            source.Role == PolicyRole.Student ? "student" : "teacher",
            view => PyTorchFormat.NameOf(spec, view),
            origin
        );
        if (source.Normalizer is { } normalizer)
            policy.Normalizer = read.Normalizer(
                inputs,
                normalizer.Mean,
                normalizer.Var,
                normalizer.Count ?? 0
            );
        policy.Metadata["source"] = $"rsl_rl {Text(source.Role)}, iteration {checkpoint.Iteration}";
        return policy;

        static Tensor Logarithm(Tensor values) =>
            Tensor.OfFloats(
                "std",
                [.. values.ToFloats().Select(value => MathF.Log(value))],
                [.. values.Shape]
            );

        static string Text(PolicyRole role) => role.ToString().ToLowerInvariant();
    }
}
