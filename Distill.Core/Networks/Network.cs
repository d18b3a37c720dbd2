namespace Distill.Networks;

/// <summary>
/// A stack of layers over one flat parameter vector. Forward and backward work on one panel (or half panel) and one step, on
/// memory that the caller owns, and change nothing in the network: any number of threads may use it at once.
/// </summary>
public sealed class Network : IDisposable
{
    private readonly Layer[] layers;
    private readonly int[] parameterStart;
    private readonly int[] activationStart;
    private readonly int[] memoryStart;
    private readonly int widest;
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
        widest = layers.Max(layer => Math.Max(layer.Inputs, layer.Outputs));
        parameterStart = Starts(layer => layer.ParameterCount);
        activationStart = Starts(layer => layer.ActivationSize);
        memoryStart = Starts(layer => layer.MemorySize);
        Parameters = new FloatBuffer(Matrix.Padded(ParameterCount));
        Views =
        [
            .. layers.SelectMany(
                (layer, i) =>
                    layer.Views.Select(view => new ParameterView(
                        // The layer that the head adds has no number.
                        i < spec.Layers.Count
                            ? $"{i}.{view.Name}"
                            : view.Name,
                        view.Shape,
                        parameterStart[i] + view.Offset
                    ))
            ),
        ];
    }

    public NetworkSpec Spec { get; }

    /// <summary>All parameters, padded with zeros to a multiple of 16.</summary>
    public FloatBuffer Parameters { get; }

    /// <summary>Number of parameters without the padding.</summary>
    public int ParameterCount => (int)size.Parameters;

    /// <summary>The named parts of <see cref="Parameters"/>.</summary>
    public IReadOnlyList<ParameterView> Views { get; }

    /// <summary>The parameters of a view.</summary>
    public Span<float> this[ParameterView view] => Parameters.Slice(view.Offset, view.Length);

    /// <summary>The parameters of the view with this name; empty if there is none.</summary>
    public Span<float> this[string name] =>
        Views.FirstOrDefault(view => view.Name == name) is { } found ? this[found] : [];

    /// <summary>Floats per lane of the output: the action, or all that describes its distribution.</summary>
    public int OutputSize => size.Outputs;

    /// <summary>Floats per lane that one step keeps from forward to backward.</summary>
    public int ActivationSize => (int)size.Activations;

    /// <summary>Floats per lane that a step hands to the next; 0 for a network without memory.</summary>
    public int MemorySize => (int)size.Memory;

    /// <summary>
    /// Draws all parameters uniformly from +-1/sqrt(fan in), of layers with a memory from +-1/sqrt(hidden): PyTorch's default. The
    /// last layer is then multiplied by <paramref name="outputScale"/>. A Gaussian head starts at a standard deviation of 1, in all
    /// states.
    /// </summary>
    public void Initialize(RandomStream stream, float outputScale = 1)
    {
        var values = Parameters.Span;
        for (var i = 0; i < layers.Length; i++)
        {
            var range = layers[i].InitialRange * (i == Spec.Layers.Count - 1 ? outputScale : 1);
            for (var j = 0; j < layers[i].ParameterCount; j++)
                values[parameterStart[i] + j] =
                    range == 0 ? 0 : range * (2 * stream.Uniform((uint)j, (uint)i) - 1);
        }
        if (Spec.Head is Head.StateDependentStd or Head.StateDependentLogStd or Head.SquashedGaussian)
        {
            var weight = this[$"{Spec.Layers.Count - 1}.weight"];
            var bias = this[$"{Spec.Layers.Count - 1}.bias"];
            weight[(weight.Length / 2)..].Clear();
            bias[(bias.Length / 2)..].Fill(Spec.Head == Head.StateDependentStd ? 1 : 0);
        }
    }

    /// <summary>
    /// Copies the parameters that both networks have by the same name. Of a last layer under another head these are the first
    /// rows, which give the means: deviations mean something else there, or are none of its outputs.
    /// </summary>
    public void CopyTo(Network other)
    {
        foreach (var view in Views)
            if (other.Views.FirstOrDefault(their => their.Name == view.Name) is { } target)
            {
                var last =
                    Spec.Layers[^1] is Dense
                    && view.Name.StartsWith($"{Spec.Layers.Count - 1}.", StringComparison.Ordinal);
                var rows = last && Spec.Head != other.Spec.Head ? Spec.Outputs : view.Shape[0];
                this[view][..(view.Length / view.Shape[0] * rows)].CopyTo(other[target]);
            }
    }

    /// <summary>One step of one panel.</summary>
    /// <param name="x"><c>[inputs, 32]</c>.</param>
    /// <param name="memory"><c>[memory, 32]</c> before the step.</param>
    /// <param name="activations"><c>[activation size, 32]</c>, written; <see cref="Output"/> and <see cref="CopyMemory"/> read it.</param>
    /// <param name="own">For scratch.</param>
    public void Forward(Panel x, Panel memory, Panel activations, Workspace own)
    {
        using var scope = own.Open();
        for (var i = 0; i < layers.Length; i++)
        {
            var now = Activations(i, activations);
            layers[i].Forward(ParametersOf(i), x, MemoryOf(i, memory), now, own);
            x = Last(now, layers[i].Outputs);
        }
    }

    /// <summary>A run of steps of one panel.</summary>
    /// <param name="rows"><c>[steps, n, 32]</c>: the first of each step's features are the inputs.</param>
    /// <param name="keep"><c>[steps, 32]</c>: 0 where an episode starts, so that memory is cleared before the step, else 1.</param>
    /// <param name="memory"><c>[memory, 32]</c> before the first step, on return after the last.</param>
    /// <param name="activations"><c>[steps, activation size, 32]</c>, written.</param>
    public void Forward(int steps, Panel rows, Panel keep, Panel memory, Panel activations, Workspace own)
    {
        for (var step = 0; step < steps; step++)
        {
            var now = activations.Part(step, steps);
            Elementwise.ScaleLanes(memory, keep.Row(step));
            Forward(rows.Part(step, steps).Rows(0, Spec.Inputs), memory, now, own);
            CopyMemory(now, memory);
        }
    }

    /// <summary>Adds the gradient of a run of steps of one panel, back-propagated through time, to <paramref name="gradient"/>.</summary>
    /// <param name="dOutput"><c>[steps, output size, 32]</c>.</param>
    public void Backward(
        int steps,
        Panel rows,
        Panel keep,
        Panel activations,
        Panel dOutput,
        Span<float> gradient,
        Workspace own
    )
    {
        using var scope = own.Open();
        var dMemory = own.Panel(MemorySize, rows.Lanes);
        dMemory.Values.Clear();
        for (var step = steps - 1; step >= 0; step--)
        {
            Backward(
                rows.Part(step, steps).Rows(0, Spec.Inputs),
                activations.Part(step, steps),
                dOutput.Part(step, steps),
                dMemory,
                gradient,
                own
            );
            Elementwise.ScaleLanes(dMemory, keep.Row(step));
        }
    }

    /// <summary>The output <c>[output size, 32]</c> of the step that wrote these activations.</summary>
    public Panel Output(Panel activations) => Last(activations, OutputSize);

    /// <summary>Copies the memory after the step that wrote these activations, <c>[memory, 32]</c>.</summary>
    public void CopyMemory(Panel activations, Panel memory)
    {
        for (var i = 0; i < layers.Length; i++)
            if (layers[i].MemorySize is > 0 and var own)
                Last(Activations(i, activations), own).Values.CopyTo(MemoryOf(i, memory).Values);
    }

    /// <summary>Adds the gradient of one step of one panel to <paramref name="gradient"/>.</summary>
    /// <param name="x">As given to the forward pass of the step.</param>
    /// <param name="activations">As the forward pass of the step left them.</param>
    /// <param name="dOutput"><c>[output size, 32]</c>: gradient of the output.</param>
    /// <param name="dMemory"><c>[memory, 32]</c>: on entry the gradient of the memory after this step, on return before it.</param>
    /// <param name="gradient">Same layout as <see cref="Parameters"/>; empty when nobody needs it, which saves half of the work.</param>
    /// <param name="own">For scratch.</param>
    /// <param name="dInput"><c>[inputs, 32]</c>: receives the gradient of the input; empty when nobody needs it.</param>
    public void Backward(
        Panel x,
        Panel activations,
        Panel dOutput,
        Panel dMemory,
        Span<float> gradient,
        Workspace own,
        Panel dInput = default
    )
    {
        using var whole = own.Open();
        var even = own.Panel(widest, x.Lanes);
        var odd = own.Panel(widest, x.Lanes);
        var dy = even.Rows(0, dOutput.Features);
        dOutput.Values.CopyTo(dy.Values);
        for (var i = layers.Length - 1; i >= 0; i--)
        {
            using var scope = own.Open();
            var layer = layers[i];
            var input = i == 0 ? x : Last(Activations(i - 1, activations), layer.Inputs);
            var dx = i == 0 ? dInput : odd.Rows(0, layer.Inputs);
            layer.Backward(
                ParametersOf(i),
                input,
                Activations(i, activations),
                dy,
                dx,
                MemoryOf(i, dMemory),
                gradient.IsEmpty ? [] : gradient.Slice(parameterStart[i], layer.ParameterCount),
                own
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
            state.Block(view.Name, this[view]);
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

    private ReadOnlySpan<float> ParametersOf(int layer) =>
        Parameters.Slice(parameterStart[layer], layers[layer].ParameterCount);

    private Panel Activations(int layer, Panel activations) =>
        activations.Rows(activationStart[layer], layers[layer].ActivationSize);

    private Panel MemoryOf(int layer, Panel memory) =>
        memory.Rows(memoryStart[layer], layers[layer].MemorySize);

    private static Panel Last(Panel panel, int count) => panel.Rows(panel.Features - count, count);
}
