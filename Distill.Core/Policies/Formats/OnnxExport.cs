using Distill.Networks;
using Distill.Storage;
using static Distill.Policies.OnnxGraph;

namespace Distill.Policies;

/// <summary>
/// One step of a batch of policies as ONNX: <c>observation [batch, n]</c> and <c>memory_in [batch, k]</c> to <c>action
/// [batch, m]</c> and <c>memory_out [batch, k]</c>, without the memories where there are none. A choice is an int64
/// <c>action [batch, 1]</c> beside its <c>logits [batch, m]</c>. Cells with a memory are basic operators: ONNX's own GRU is one
/// of sequences, with another order of gates.
/// </summary>
internal sealed class OnnxExport
{
    private readonly OnnxGraph graph = new();
    private readonly Policy policy;
    private readonly ExportedNetwork network;
    private readonly List<string> kept = [];

    private OnnxExport(Policy policy)
    {
        this.policy = policy;
        network = new ExportedNetwork(policy);
    }

    public static void Save(string path, Policy policy)
    {
        var model = new OnnxExport(policy).Model();
        AtomicFile.Write(path, stream => stream.Write(model));
    }

    private byte[] Model()
    {
        var facts = PolicyFacts.Of(policy);
        var spec = policy.Network.Spec;
        var x = Normalized(graph.Input("observation", spec.Inputs, Fact("observation")));
        var memory = Memories();
        foreach (var layer in network.Layers)
            x = layer.Spec switch
            {
                Dense dense => Activated(
                    dense.Activation,
                    layer,
                    Affine(layer, layer.Tensors[0], layer.Tensors[1], x)
                ),
                Gru => GruCell(layer, x, memory.Dequeue()),
                Lstm => LstmCell(layer, x, memory.Dequeue(), memory.Dequeue()),
                _ => x,
            };
        Actions(x, Fact("action"));
        if (kept.Count > 0)
        {
            graph.Node("Concat", "memory_out", [.. kept], Attribute("axis", 1L));
            graph.Output("memory_out", policy.MemorySize, "memory_in of the next step");
        }
        return graph.Model("policy", "One step of a policy that was trained with Distill.", facts);

        string Fact(string name) => facts.First(fact => fact.Name == name).Text;
    }

    private string Normalized(string observation)
    {
        if (policy.Normalizer is not { } normalizer)
            return observation;
        var mean = graph.Constant("normalizer.mean", normalizer.Mean, normalizer.Size);
        var scale = graph.Constant("normalizer.scale", normalizer.Scale, normalizer.Size);
        var centred = graph.Node("Sub", "normalizer.centred", [observation, mean]);
        return graph.Node("Mul", "normalizer.normalized", [centred, scale]);
    }

    /// <summary>The memories of the layers before the step: a GRU's output, an LSTM's cell and output.</summary>
    private Queue<string> Memories()
    {
        int[] sizes =
        [
            .. network.Layers.SelectMany(layer =>
                Enumerable.Repeat(layer.Size, layer.MemorySize / layer.Size)
            ),
        ];
        if (sizes.Length == 0)
            return [];
        var all = graph.Input("memory_in", policy.MemorySize, "zeros where an episode starts");
        return new(graph.Split(all, "memory", sizes));
    }

    /// <summary>W x + b.</summary>
    private string Affine(ExportedLayer layer, ExportedTensor weight, ExportedTensor bias, string x)
    {
        var product = $"layer{layer.Index}.{weight.Name}.product";
        return graph.Node("Gemm", product, [x, Constant(weight), Constant(bias)], Attribute("transB", 1L));

        string Constant(ExportedTensor tensor) =>
            graph.Constant($"layer{layer.Index}.{tensor.Name}", network.Values(layer, tensor), tensor.Shape);
    }

    private string Activated(Activation activation, ExportedLayer layer, string x)
    {
        var name = $"layer{layer.Index}.output";
        return activation switch
        {
            Activation.Relu => graph.Node("Relu", name, [x]),
            Activation.Elu => graph.Node("Elu", name, [x], Attribute("alpha", 1f)),
            Activation.Tanh => graph.Node("Tanh", name, [x]),
            Activation.Selu => graph.Node(
                "Selu",
                name,
                [x],
                Attribute("alpha", 1.6732632423543772f),
                Attribute("gamma", 1.0507009873554805f)
            ),
            _ => x,
        };
    }

    /// <summary>W_ih x + b_ih and W_hh h + b_hh, each cut into gates.</summary>
    private (string[] OfInput, string[] OfMemory) Gates(ExportedLayer layer, string x, string h)
    {
        int[] sizes = [.. Enumerable.Repeat(layer.Size, layer.Gates)];
        var name = $"layer{layer.Index}";
        var tensors = layer.Tensors;
        return (
            graph.Split(Affine(layer, tensors[0], tensors[2], x), $"{name}.of_input", sizes),
            graph.Split(Affine(layer, tensors[1], tensors[3], h), $"{name}.of_memory", sizes)
        );
    }

    /// <summary>r, z and n as in <see cref="GruLayer"/>; h' = n + z (h - n).</summary>
    private string GruCell(ExportedLayer layer, string x, string h)
    {
        var (input, memory) = Gates(layer, x, h);
        var name = $"layer{layer.Index}";
        var r = Gate("Sigmoid", $"{name}.r", input[0], memory[0]);
        var z = Gate("Sigmoid", $"{name}.z", input[1], memory[1]);
        var n = Gate("Tanh", $"{name}.n", input[2], graph.Node("Mul", $"{name}.reset", [r, memory[2]]));
        var change = graph.Node("Sub", $"{name}.change", [h, n]);
        var old = graph.Node("Mul", $"{name}.old", [z, change]);
        return Keep(graph.Node("Add", $"{name}.output", [n, old]));
    }

    /// <summary>i, f, g and o as in <see cref="LstmLayer"/>.</summary>
    private string LstmCell(ExportedLayer layer, string x, string c, string h)
    {
        var (input, memory) = Gates(layer, x, h);
        var name = $"layer{layer.Index}";
        var i = Gate("Sigmoid", $"{name}.i", input[0], memory[0]);
        var f = Gate("Sigmoid", $"{name}.f", input[1], memory[1]);
        var g = Gate("Tanh", $"{name}.g", input[2], memory[2]);
        var o = Gate("Sigmoid", $"{name}.o", input[3], memory[3]);
        var old = graph.Node("Mul", $"{name}.old", [f, c]);
        var added = graph.Node("Mul", $"{name}.new", [i, g]);
        var cell = Keep(graph.Node("Add", $"{name}.cell", [old, added]));
        var squashed = graph.Node("Tanh", $"{name}.squashed", [cell]);
        return Keep(graph.Node("Mul", $"{name}.output", [o, squashed]));
    }

    private string Gate(string type, string name, string ofInput, string ofMemory) =>
        graph.Node(type, name, [graph.Node("Add", $"{name}.sum", [ofInput, ofMemory])]);

    private string Keep(string memory)
    {
        kept.Add(memory);
        return memory;
    }

    private void Actions(string x, string meaning)
    {
        var spec = policy.Network.Spec;
        if (spec.Head == Head.Categorical)
        {
            graph.Node("Identity", "logits", [x]);
            graph.Node("ArgMax", "action", [x], Attribute("axis", 1L), Attribute("keepdims", 1L));
            graph.Output("action", 1, meaning, integers: true);
            graph.Output("logits", spec.Outputs, "how likely each choice is");
        }
        else
        {
            graph.Node(spec.Head == Head.SquashedGaussian ? "Tanh" : "Identity", "action", [x]);
            graph.Output("action", spec.Outputs, meaning);
        }
    }
}
