using Distill.Compute;

namespace Distill.Networks;

/// <summary>One layer of a network.</summary>
/// <param name="Size">Number of outputs.</param>
public abstract record LayerSpec(int Size);

/// <summary>y = f(W x + b).</summary>
public sealed record Dense(int Size, Activation Activation) : LayerSpec(Size);

/// <summary>A gated recurrent unit in PyTorch's convention (gate rows r, z, n); its memory is its output.</summary>
public sealed record Gru(int Size) : LayerSpec(Size);

/// <summary>What a network's outputs mean as a policy.</summary>
public enum Head
{
    /// <summary>The outputs are the action (or, for a critic, the value).</summary>
    Plain,

    /// <summary>The outputs are the mean of a Gaussian; one <c>log_std</c> per output is a parameter of its own.</summary>
    Gaussian,

    /// <summary>The outputs are the logits of a choice.</summary>
    Categorical,
}

/// <summary>The architecture of a network: what it reads, its layers in order and what its outputs mean.</summary>
public sealed record NetworkSpec(int Inputs, IReadOnlyList<LayerSpec> Layers, Head Head = Head.Plain)
{
    public int Outputs => Layers.Count == 0 ? Inputs : Layers[^1].Size;

    /// <summary>Whether any layer keeps a memory between steps.</summary>
    public bool Recurrent => Layers.Any(layer => layer is Gru);

    /// <summary>Dense hidden layers of one activation and an identity output layer.</summary>
    public static NetworkSpec Mlp(
        int inputs,
        IEnumerable<int> hidden,
        int outputs,
        Activation activation = Activation.Elu,
        Head head = Head.Plain
    ) =>
        new(
            inputs,
            [.. hidden.Select(size => new Dense(size, activation)), new Dense(outputs, Activation.Identity)],
            head
        );

    /// <summary>
    /// Dense (ReLU), GRU, optionally another dense (ReLU), and an identity output layer: the RAPTOR student is 22, 16, 16, 0, 4
    /// (arXiv 2509.11481, section "Policy architecture").
    /// </summary>
    /// <param name="before">Size of the dense layer before the GRU.</param>
    /// <param name="after">Size of the dense layer after it; 0 for none.</param>
    public static NetworkSpec GruStack(
        int inputs,
        int before,
        int hidden,
        int after,
        int outputs,
        Head head = Head.Plain
    ) =>
        new(
            inputs,
            [
                new Dense(before, Activation.Relu),
                new Gru(hidden),
                .. after > 0 ? [new Dense(after, Activation.Relu)] : Array.Empty<LayerSpec>(),
                new Dense(outputs, Activation.Identity),
            ],
            head
        );

    /// <summary>Records compare layer by layer.</summary>
    public bool Equals(NetworkSpec? other) =>
        other is not null
        && Inputs == other.Inputs
        && Head == other.Head
        && Layers.SequenceEqual(other.Layers);

    public override int GetHashCode() => Layers.Aggregate(Inputs, HashCode.Combine);

    /// <summary>For messages: <c>26 -> 64 elu -> 64 elu -> 4</c>.</summary>
    public override string ToString() =>
        string.Join(
            " -> ",
            Layers
                .Select(layer =>
                    layer switch
                    {
                        Gru gru => $"gru {gru.Size}",
                        Dense { Activation: Activation.Identity } dense => $"{dense.Size}",
                        Dense dense => $"{dense.Size} {dense.Activation.ToString().ToLowerInvariant()}",
                        _ => layer.ToString(),
                    }
                )
                .Prepend($"{Inputs}")
        );
}

/// <summary>A named part of a network's flat parameter vector.</summary>
/// <param name="Name">Layer index and role, e.g. <c>2.weight</c> or <c>1.weight_hh</c>.</param>
/// <param name="Shape">Row-major; weights are <c>[out, in]</c>.</param>
/// <param name="Offset">First element in the flat vector.</param>
public sealed record ParameterView(string Name, IReadOnlyList<int> Shape, int Offset)
{
    public int Length { get; } = Shape.Aggregate(1, (product, size) => product * size);
}
