using Distill.Networks;

namespace Distill.Policies;

/// <summary>What an export needs of a policy: the layers that give the deterministic action, without deviations.</summary>
internal sealed class ExportedNetwork
{
    private readonly Network network;

    /// <exception cref="DistillException">There is a layer that exports do not know, or one whose deviations cannot be left out.</exception>
    public ExportedNetwork(Policy policy)
    {
        network = policy.Network;
        var spec = network.Spec;
        Layers =
        [
            .. spec.Layers.Select(
                (layer, i) => new ExportedLayer(i, layer, i == 0 ? spec.Inputs : spec.Layers[i - 1].Size)
            ),
        ];
        if (network.OutputSize != spec.Outputs && spec.Head != Head.Gaussian && spec.Layers[^1] is not Dense)
            throw new DistillException(
                $"A policy whose last layer {spec.Layers[^1]} gives deviations, too, cannot be exported."
            );
    }

    public IReadOnlyList<ExportedLayer> Layers { get; }

    /// <summary>The values of a tensor; of a last layer that gives deviations, too, they are those of the means.</summary>
    public float[] Values(ExportedLayer layer, ExportedTensor tensor) =>
        network[$"{layer.Index}.{tensor.Name}"][..tensor.Length].ToArray();
}

/// <summary>A layer of an exported policy.</summary>
/// <param name="Index">Its number in the policy.</param>
internal sealed record ExportedLayer(int Index, LayerSpec Spec, int Inputs)
{
    public int Size => Spec.Size;
    public int MemorySize => (int)Spec.MemorySize;

    /// <summary>Rows of its matrices for each output.</summary>
    public int Gates { get; } =
        Spec switch
        {
            Dense => 1,
            Gru => 3,
            Lstm => 4,
            _ => throw new DistillException($"A policy with a layer {Spec} cannot be exported."),
        };

    /// <summary>As <see cref="ParameterView"/> names them behind the layer's number.</summary>
    public IReadOnlyList<ExportedTensor> Tensors =>
        MemorySize == 0
            ? [Weight("weight", Inputs), Bias("bias")]
            : [Weight("weight_ih", Inputs), Weight("weight_hh", Size), Bias("bias_ih"), Bias("bias_hh")];

    public ExportedTensor Weight(string name, int inputs) => new(name, [Gates * Size, inputs]);

    public ExportedTensor Bias(string name) => new(name, [Gates * Size]);
}

/// <summary>A parameter of a layer: a matrix, row-major, or a vector.</summary>
internal sealed record ExportedTensor(string Name, int[] Shape)
{
    public int Length => Shape.Aggregate(1, (product, size) => product * size);
    public bool IsMatrix => Shape.Length == 2;
}
