using Distill.Compute;

namespace Distill.Networks;

/// <summary>
/// A stack of layers over one flat parameter vector. Forward and backward work on one panel (or half panel) and one step, on
/// buffers that the caller owns, and change nothing in the network: any number of threads may use it at once.
/// </summary>
public sealed class Network : IDisposable
{
    private readonly Layer[] layers;
    private readonly int[] parameterStart;
    private readonly int[] activationStart;
    private readonly int[] memoryStart;
    private readonly NetworkSize size;

    public Network(NetworkSpec spec)
    {
        if (spec.Layers.Count == 0)
            throw new DistillException($"The network {spec} has no layers.");
        if (spec.Inputs < 1 || spec.Layers.Any(layer => layer.Size < 1))
            throw new DistillException($"The network {spec} has a layer without inputs or outputs.");
        size = spec.Size;
        Spec = spec;
        layers = [.. spec.LayersWithInputs.Select(layer => layer.Spec.Create(layer.Inputs))];
        parameterStart = Starts(layer => layer.ParameterCount);
        activationStart = Starts(layer => layer.ActivationSize);
        memoryStart = Starts(layer => layer.MemorySize);
        Parameters = new FloatBuffer(Matrix.Padded(ParameterCount));
        Views =
        [
            .. layers.SelectMany(
                (layer, i) =>
                    layer.Views.Select(view => new ParameterView(
                        $"{i}.{view.Name}",
                        view.Shape,
                        parameterStart[i] + view.Offset
                    ))
            ),
            .. spec.Head == Head.Gaussian
                ? [new ParameterView("log_std", [spec.Outputs], ParameterCount - spec.Outputs)]
                : Array.Empty<ParameterView>(),
        ];
    }

    public NetworkSpec Spec { get; }

    /// <summary>All parameters, padded with zeros to a multiple of 16.</summary>
    public FloatBuffer Parameters { get; }

    /// <summary>Number of parameters without the padding.</summary>
    public int ParameterCount => (int)size.Parameters;

    /// <summary>Logarithm of the Gaussian head's standard deviations, <c>[outputs]</c>; empty for other heads.</summary>
    public Span<float> LogStd =>
        Spec.Head == Head.Gaussian ? Parameters.Slice(ParameterCount - Spec.Outputs, Spec.Outputs) : [];

    /// <summary>The named parts of <see cref="Parameters"/>.</summary>
    public IReadOnlyList<ParameterView> Views { get; }

    /// <summary>Floats per lane that one step keeps from forward to backward.</summary>
    public int ActivationSize => (int)size.Activations;

    /// <summary>Floats per lane that a step hands to the next; 0 for a network without memory.</summary>
    public int MemorySize => (int)size.Memory;

    /// <summary>Floats of scratch that <see cref="Forward"/> and <see cref="Backward"/> need.</summary>
    public int ScratchSize => (int)size.Scratch;

    private int LayerScratch => (int)size.LayerScratch;
    private int GradientScratch => (int)size.Widest;

    /// <summary>
    /// Draws all parameters uniformly from +-1/sqrt(fan in), GRUs from +-1/sqrt(hidden): PyTorch's default. The last layer
    /// is then multiplied by <paramref name="outputScale"/>. A Gaussian head starts at a standard deviation of 1.
    /// </summary>
    public void Initialise(RandomStream stream, float outputScale = 1)
    {
        var values = Parameters.Span;
        for (var i = 0; i < layers.Length; i++)
        {
            var range = layers[i].InitialRange * (i == layers.Length - 1 ? outputScale : 1);
            for (var j = 0; j < layers[i].ParameterCount; j++)
                values[parameterStart[i] + j] = range * (2 * stream.Uniform((uint)j, (uint)i) - 1);
        }
        LogStd.Clear();
    }

    /// <summary>Copies the parameters that both networks have by the same name and shape.</summary>
    public void CopyTo(Network other)
    {
        foreach (var view in Views)
            if (other.Views.FirstOrDefault(their => their.Name == view.Name) is { } target)
                Parameters
                    .Slice(view.Offset, view.Length)
                    .CopyTo(other.Parameters.Slice(target.Offset, target.Length));
    }

    /// <summary>One step of one panel.</summary>
    /// <param name="x"><c>[inputs, 32]</c>.</param>
    /// <param name="memory"><c>[memory, 32]</c> before the step.</param>
    /// <param name="activations"><c>[activation size, 32]</c>, written; <see cref="Output"/> and <see cref="CopyMemory"/> read it.</param>
    /// <param name="scratch">At least <see cref="ScratchSize"/> floats.</param>
    public void Forward(
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> memory,
        Span<float> activations,
        Span<float> scratch
    )
    {
        ReadOnlySpan<float> parameters = Parameters.Span;
        var width = Panel.WidthOf(x.Length, Spec.Inputs);
        for (var i = 0; i < layers.Length; i++)
        {
            var own = Activations(i, activations, width);
            layers[i]
                .Forward(
                    ParametersOf(i, parameters),
                    x,
                    memory.Slice(memoryStart[i] * width, layers[i].MemorySize * width),
                    own,
                    scratch[..LayerScratch]
                );
            x = own[^(layers[i].Outputs * width)..];
        }
    }

    /// <summary>The output <c>[outputs, 32]</c> of the step that wrote these activations.</summary>
    public Span<float> Output(Span<float> activations)
    {
        var width = Panel.WidthOf(activations.Length, ActivationSize);
        return activations[^(Spec.Outputs * width)..];
    }

    /// <summary>Copies the memory after the step that wrote these activations, <c>[memory, 32]</c>.</summary>
    public void CopyMemory(ReadOnlySpan<float> activations, Span<float> memory)
    {
        var width = Panel.WidthOf(activations.Length, ActivationSize);
        for (var i = 0; i < layers.Length; i++)
        {
            var own = layers[i].MemorySize * width;
            if (own > 0)
                Activations(i, activations, width)[^own..].CopyTo(memory.Slice(memoryStart[i] * width, own));
        }
    }

    /// <summary>Adds the gradient of one step of one panel to <paramref name="gradient"/>.</summary>
    /// <param name="x">As given to <see cref="Forward"/>.</param>
    /// <param name="activations">As <see cref="Forward"/> left them.</param>
    /// <param name="dOutput"><c>[outputs, 32]</c>: gradient of the output.</param>
    /// <param name="dMemory"><c>[memory, 32]</c>: on entry the gradient of the memory after this step, on return before it.</param>
    /// <param name="gradient">Same layout as <see cref="Parameters"/>.</param>
    /// <param name="scratch">At least <see cref="ScratchSize"/> floats.</param>
    public void Backward(
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> activations,
        ReadOnlySpan<float> dOutput,
        Span<float> dMemory,
        Span<float> gradient,
        Span<float> scratch
    )
    {
        ReadOnlySpan<float> parameters = Parameters.Span;
        var width = Panel.WidthOf(x.Length, Spec.Inputs);
        var even = scratch.Slice(LayerScratch, GradientScratch);
        var odd = scratch.Slice(LayerScratch + GradientScratch, GradientScratch);
        var dy = even[..dOutput.Length];
        dOutput.CopyTo(dy);
        for (var i = layers.Length - 1; i >= 0; i--)
        {
            var layer = layers[i];
            var input = i == 0 ? x : Activations(i - 1, activations, width)[^(layer.Inputs * width)..];
            var dx = i == 0 ? [] : odd[..(layer.Inputs * width)];
            layer.Backward(
                ParametersOf(i, parameters),
                input,
                Activations(i, activations, width),
                dy,
                dx,
                dMemory.Slice(memoryStart[i] * width, layer.MemorySize * width),
                gradient.Slice(parameterStart[i], layer.ParameterCount),
                scratch[..LayerScratch]
            );
            dy = dx;
            var free = even;
            even = odd;
            odd = free;
        }
    }

    /// <summary>The parameters for checkpoints: a block for each view, so that another architecture's do not fit.</summary>
    public void Visit(State state)
    {
        foreach (var view in Views)
            state.Block(view.Name, Parameters.Slice(view.Offset, view.Length));
    }

    public void Dispose() => Parameters.Dispose();

    /// <summary>Where each layer's part begins, of all parts one after another.</summary>
    private int[] Starts(Func<Layer, int> sizeOf)
    {
        var starts = new int[layers.Length];
        for (var i = 1; i < starts.Length; i++)
            starts[i] = starts[i - 1] + sizeOf(layers[i - 1]);
        return starts;
    }

    private ReadOnlySpan<float> ParametersOf(int layer, ReadOnlySpan<float> parameters) =>
        parameters.Slice(parameterStart[layer], layers[layer].ParameterCount);

    private Span<float> Activations(int layer, Span<float> activations, int width) =>
        activations.Slice(activationStart[layer] * width, layers[layer].ActivationSize * width);

    private ReadOnlySpan<float> Activations(int layer, ReadOnlySpan<float> activations, int width) =>
        activations.Slice(activationStart[layer] * width, layers[layer].ActivationSize * width);
}
