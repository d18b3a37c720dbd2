namespace Distill.Networks;

/// <summary>What a network's outputs mean as a policy.</summary>
public enum Head
{
    /// <summary>The outputs are the action (or, for a critic, the value).</summary>
    Plain,

    /// <summary>The last layer's outputs are the mean of a Gaussian; one <c>log_std</c> for each is a parameter of its own.</summary>
    Gaussian,

    /// <summary>The outputs are the logits of a choice.</summary>
    Categorical,

    /// <summary>
    /// The last layer has two outputs for each number of the action: first all means of a Gaussian, then all standard deviations
    /// (rsl_rl's <c>HeteroscedasticGaussianDistribution</c> or <c>state_dependent_std</c>, with the std type "scalar").
    /// </summary>
    StateDependentStd,

    /// <summary>The same with the logarithms of the standard deviations (rsl_rl's std type "log").</summary>
    StateDependentLogStd,

    /// <summary>The same as those; the action is the hyperbolic tangent of what the Gaussian gives, as in SAC.</summary>
    SquashedGaussian,
}

/// <summary>The architecture of a network: what it reads, its layers in order and what its outputs mean.</summary>
public sealed record NetworkSpec(int Inputs, IReadOnlyList<LayerSpec> Layers, Head Head = Head.Plain)
{
    // A checkpoint stores each part of the parameters as one array of bytes.
    private const long MostParameters = int.MaxValue / 8;

    // A panel of them, and what a layer needs beside it, is one block of memory.
    private const long MostActivations = MostParameters / Panel.Width;

    /// <summary>
    /// Numbers of an action, logits of a choice, or 1 for a critic's value: the size of the last layer, which the head may widen.
    /// </summary>
    public int Outputs => Layers.Count == 0 ? Inputs : Layers[^1].Size;

    /// <summary>Whether any layer keeps a memory between steps.</summary>
    public bool Recurrent => Layers.Any(layer => layer.MemorySize > 0);

    /// <summary>What a network of this architecture takes.</summary>
    /// <exception cref="DistillException">It is larger than any network can be.</exception>
    public NetworkSize Size
    {
        get
        {
            var parameters = ParameterCount;
            var layers = LayersWithInputs.Select(layer => layer.Spec).ToArray();
            var activations = layers.Sum(layer => layer.ActivationSize);
            if (parameters > MostParameters || Math.Max(activations, Inputs) > MostActivations)
                throw new DistillException(
                    $"The network {this} is too large with {parameters} parameters and {activations} outputs of layers; at most "
                        + $"{MostParameters} and {MostActivations} are possible."
                );
            return new(
                (long)parameters,
                activations,
                layers.Sum(layer => layer.MemorySize),
                layers[^1].Size,
                // What layers take to work is less than what they read and keep; so are the gradients between them.
                2 * Panel.Width * (Inputs + activations + Matrix.RowPadding)
            );
        }
    }

    /// <summary>Counted wide, because the sizes of layers multiply.</summary>
    internal Int128 ParameterCount =>
        LayersWithInputs.Aggregate(
            (Int128)0,
            (count, layer) => count + layer.Spec.ParameterCount(layer.Inputs)
        );

    /// <summary>All layers as the head wants them, with the number of inputs of each.</summary>
    internal IEnumerable<(LayerSpec Spec, int Inputs)> LayersWithInputs
    {
        get
        {
            LayerSpec[] layers = [.. Layers.SkipLast(1), .. ActionDistribution.Output(Head, Layers[^1])];
            return layers.Select((layer, i) => (layer, i == 0 ? Inputs : layers[i - 1].Size));
        }
    }

    /// <summary>
    /// The same network whose outputs mean something else. The tanh of a squashed Gaussian becomes that of the last layer and the
    /// other way round, so that what it deems best stays the same; actions that had no bounds get them.
    /// </summary>
    public NetworkSpec WithHead(Head head)
    {
        if ((head == Head.SquashedGaussian) == (Head == Head.SquashedGaussian))
            return this with { Head = head };
        var last = new Dense(Outputs, Head == Head.SquashedGaussian ? Activation.Tanh : Activation.Identity);
        return new(Inputs, [.. Layers.SkipLast(1), last], head);
    }

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
    ) => RecurrentStack(inputs, before, new Gru(hidden), after, outputs, head);

    /// <summary>The same around any layer with a memory.</summary>
    public static NetworkSpec RecurrentStack(
        int inputs,
        int before,
        LayerSpec memory,
        int after,
        int outputs,
        Head head = Head.Plain
    ) =>
        new(
            inputs,
            [
                new Dense(before, Activation.Relu),
                memory,
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
        string.Join(" -> ", Layers.Select(layer => $"{layer}").Prepend($"{Inputs}"));
}

/// <summary>What a network takes, in floats.</summary>
/// <param name="Parameters">All parameters, without padding.</param>
/// <param name="Activations">Per lane, kept from forward to backward.</param>
/// <param name="Memory">Per lane, handed from step to step.</param>
/// <param name="Outputs">Per lane: the action, or all that describes its distribution.</param>
/// <param name="Scratch">Of one thread, at most.</param>
public readonly record struct NetworkSize(
    long Parameters,
    long Activations,
    long Memory,
    int Outputs,
    long Scratch
);

/// <summary>A named part of a network's flat parameter vector.</summary>
/// <param name="Name">Layer index and role, e.g. <c>2.weight</c> or <c>1.weight_hh</c>.</param>
/// <param name="Shape">Row-major; weights are <c>[out, in]</c>.</param>
/// <param name="Offset">First element in the flat vector.</param>
public sealed record ParameterView(string Name, IReadOnlyList<int> Shape, int Offset)
{
    public int Length { get; } = Shape.Aggregate(1, (product, size) => product * size);
}
