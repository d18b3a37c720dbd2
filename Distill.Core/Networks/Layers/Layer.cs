namespace Distill.Networks;

/// <summary>
/// A layer on panels or half panels. It owns no memory: parameters, gradient and activations are what the network hands it.
/// <c>activations</c> keeps what backward needs; the layer's output, and its memory after the step, are the last rows of it.
/// </summary>
internal abstract class Layer(int inputs, LayerSpec spec)
{
    public int Inputs { get; } = inputs;
    public int Outputs { get; } = spec.Size;
    public int ParameterCount { get; } = (int)spec.ParameterCount(inputs);
    public int ActivationSize { get; } = (int)spec.ActivationSize;
    public int MemorySize { get; } = (int)spec.MemorySize;

    /// <summary>Names, shapes and offsets (from the layer's first parameter).</summary>
    public abstract IEnumerable<ParameterView> Views { get; }

    /// <summary>Half-width of the uniform distribution that parameters start from (PyTorch's default).</summary>
    public abstract float InitialRange { get; }

    /// <param name="own">For scratch; what is taken is given back by the caller. Likewise below.</param>
    public abstract void Forward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel memory,
        Panel activations,
        Workspace own
    );

    /// <param name="dy">Gradient of the output; overwritten.</param>
    /// <param name="dx">Receives the gradient of the input; empty when nobody needs it.</param>
    /// <param name="gradient">Is added to; empty when nobody needs it.</param>
    /// <param name="dMemory">On entry the gradient that the next step sends back through the memory, on return the one for the step before.</param>
    public abstract void Backward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel activations,
        Panel dy,
        Panel dx,
        Panel dMemory,
        Span<float> gradient,
        Workspace own
    );
}
