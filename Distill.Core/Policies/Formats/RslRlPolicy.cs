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
                var size = memory[i].WeightHh.Shape[1];
                layers.Add(source.Memory.Kind == MemoryKind.Lstm ? new Lstm(size) : new Gru(size));
                tensors[$"rnn.rnn.weight_ih_l{i}"] = memory[i].WeightIh;
                tensors[$"rnn.rnn.weight_hh_l{i}"] = memory[i].WeightHh;
                tensors[$"rnn.rnn.bias_ih_l{i}"] = memory[i].BiasIh;
                tensors[$"rnn.rnn.bias_hh_l{i}"] = memory[i].BiasHh;
            }
        }
        var (head, headSource) = HeadOf(path, checkpoint, source);
        for (var i = 0; i < source.Layers.Count; i++)
        {
            var (weight, bias) = source.Layers[i];
            var last = i == source.Layers.Count - 1;
            layers.Add(
                last
                    ? new Dense(Actions(source, head), Activation.Identity)
                    : new Dense(weight.Shape[0], activation)
            );
            tensors[$"mlp.{2 * i}.weight"] = weight;
            tensors[$"mlp.{2 * i}.bias"] = bias;
        }
        if (source.Std is { } std)
            tensors["distribution.log_std_param"] = std.IsLog ? std.Values : Logarithm(std.Values);

        var spec = new NetworkSpec(inputs, layers, head);
        var read = new PolicySource(path, tensors);
        var policy = read.Create(
            spec,
            source.Role == PolicyRole.Student ? "student" : "teacher",
            view => PyTorchFormat.NameOf(spec, view),
            origin,
            headSource
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
    }

    /// <summary>What the outputs mean, and how that is known where the file does not say it.</summary>
    private static (Head, string?) HeadOf(string path, RslRlCheckpoint checkpoint, PolicyTensors source)
    {
        if (source.Std is not null)
            return (Head.Gaussian, null);
        var head = RslRl.TrainedHead(path, source.Role);
        if (source.Outputs % 2 != 0)
            return head is null
                ? (Head.Plain, null)
                : throw new DistillException(
                    $"The {Text(source.Role)} of {path} has {source.Outputs} outputs, which cannot be means and standard deviations."
                );
        if (head is { } said)
            return (said, "params/agent.yaml");
        // PPO's actors always have a standard deviation; its kind is rsl_rl's default. Others show it beside their like.
        var depends =
            source.Role == PolicyRole.Actor
            || checkpoint.Policies.Any(other =>
                2 * (other.Std?.Values.Count ?? other.Outputs) == source.Outputs
            );
        return depends ? (Head.StateDependentStd, Policy.Assumed) : (Head.Plain, null);
    }

    private static int Actions(PolicyTensors source, Head head) =>
        head is Head.StateDependentStd or Head.StateDependentLogStd ? source.Outputs / 2 : source.Outputs;

    private static string Text(PolicyRole role) => role.ToString().ToLowerInvariant();
}
