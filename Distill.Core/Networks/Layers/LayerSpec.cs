namespace Distill.Networks;

/// <summary>One layer of a network: what it is, and what it takes.</summary>
/// <param name="Size">Number of outputs.</param>
public abstract record LayerSpec(int Size)
{
    // All kinds of layers, by the word that stands for them in files; a dense layer is called by its nonlinearity.
    private static readonly Dictionary<string, Func<int, LayerSpec>> Kinds = new(
        Enum.GetValues<Activation>()
            .Select(activation =>
                KeyValuePair.Create<string, Func<int, LayerSpec>>(
                    $"{activation}",
                    size => new Dense(size, activation)
                )
            ),
        StringComparer.OrdinalIgnoreCase
    )
    {
        ["gru"] = size => new Gru(size),
        ["lstm"] = size => new Lstm(size),
    };

    /// <summary>The word for its kind in files.</summary>
    public abstract string Kind { get; }

    /// <summary>As <see cref="Parse"/> reads it: <c>elu 64</c>.</summary>
    public string Text => $"{Kind} {Size}";

    /// <summary>The nonlinearity that was chosen for it; null where there is nothing to choose.</summary>
    public virtual Activation? Nonlinearity => null;

    /// <summary>Floats per lane carried from step to step.</summary>
    public virtual long MemorySize => 0;

    /// <summary>Floats per lane kept from forward to backward, outputs included.</summary>
    internal abstract long ActivationSize { get; }

    /// <summary>Counted wide, because the sizes of layers multiply.</summary>
    internal abstract Int128 ParameterCount(int inputs);

    internal abstract Layer Create(int inputs);

    /// <summary>The layer that a file describes; null if there is none of this kind.</summary>
    /// <param name="text">Kind and size, such as <c>gru 16</c>.</param>
    public static LayerSpec? Parse(string? text) =>
        text?.Split(' ') is [var kind, var digits]
        && int.TryParse(digits, out var size)
        && Kinds.TryGetValue(kind, out var make)
            ? make(size)
            : null;
}
