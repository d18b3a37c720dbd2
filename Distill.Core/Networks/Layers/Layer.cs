using Distill.Compute;

namespace Distill.Networks;

/// <summary>
/// A layer on panels or half panels. It owns no memory: parameters, gradient, activations and scratch are slices that the network hands
/// it. <c>activations</c> keeps what backward needs; the layer's output is the last <c>[Outputs, 32]</c> (or 16) of it.
/// </summary>
internal abstract class Layer(int inputs, int outputs)
{
    public int Inputs { get; } = inputs;
    public int Outputs { get; } = outputs;
    public abstract int ParameterCount { get; }

    /// <summary>Floats per lane kept from forward to backward, outputs included.</summary>
    public virtual int ActivationSize => Outputs;

    /// <summary>Floats per lane carried from step to step.</summary>
    public virtual int MemorySize => 0;

    /// <summary>Floats of scratch that forward or backward of a whole panel needs.</summary>
    public abstract int ScratchSize { get; }

    /// <summary>Names, shapes and offsets (from the layer's first parameter).</summary>
    public abstract IEnumerable<ParameterView> Views { get; }

    /// <summary>Half-width of the uniform distribution that parameters start from (PyTorch's default).</summary>
    public abstract float InitialRange { get; }

    public abstract void Forward(
        ReadOnlySpan<float> parameters,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> memory,
        Span<float> activations,
        Span<float> scratch
    );

    /// <param name="dy">Gradient of the output; overwritten.</param>
    /// <param name="dx">Receives the gradient of the input; empty when nobody needs it.</param>
    /// <param name="dMemory">On entry the gradient that the next step sends back through the memory, on return the one for the step before.</param>
    public abstract void Backward(
        ReadOnlySpan<float> parameters,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> activations,
        Span<float> dy,
        Span<float> dx,
        Span<float> dMemory,
        Span<float> gradient,
        Span<float> scratch
    );

    public static Layer Create(int inputs, LayerSpec spec) =>
        spec switch
        {
            Dense dense => new DenseLayer(inputs, dense.Size, dense.Activation),
            Gru gru => new GruLayer(inputs, gru.Size),
            _ => throw new NotSupportedException($"No layer for {spec}."),
        };
}

internal sealed class DenseLayer(int inputs, int outputs, Activation activation) : Layer(inputs, outputs)
{
    private int Weights => Outputs * Inputs;

    public override int ParameterCount => Weights + Outputs;
    public override int ScratchSize => Panel.Width * Matrix.Padded(Inputs);
    public override float InitialRange => 1 / MathF.Sqrt(Inputs);

    public override IEnumerable<ParameterView> Views =>
        [new("weight", [Outputs, Inputs], 0), new("bias", [Outputs], Weights)];

    public override void Forward(
        ReadOnlySpan<float> parameters,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> memory,
        Span<float> activations,
        Span<float> scratch
    )
    {
        Matrix.Forward(parameters[..Weights], parameters[Weights..], x, activations, Inputs, Outputs);
        Elementwise.Activate(activation, activations);
    }

    public override void Backward(
        ReadOnlySpan<float> parameters,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> activations,
        Span<float> dy,
        Span<float> dx,
        Span<float> dMemory,
        Span<float> gradient,
        Span<float> scratch
    )
    {
        Elementwise.ActivateBackward(activation, activations, dy);
        var width = Panel.WidthOf(x.Length, Inputs);
        var rows = scratch[..(width * Matrix.Padded(Inputs))];
        Matrix.ToRows(x, rows, Inputs);
        Matrix.WeightGradient(dy, rows, gradient[..Weights], Inputs, Outputs);
        Elementwise.AddLaneSums(dy, gradient[Weights..]);
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters[..Weights], dy, dx, Inputs, Outputs, Start.FromZero);
    }
}

/// <summary>Activations: r, z, n, W_hn h + b_hn, the memory before the step, and h'; six panels of <c>[H, 32]</c>.</summary>
internal sealed class GruLayer(int inputs, int hidden) : Layer(inputs, hidden)
{
    private int InputWeights => 3 * Outputs * Inputs;
    private int HiddenWeights => 3 * Outputs * Outputs;
    private int InputBias => InputWeights + HiddenWeights;
    private int HiddenBias => InputBias + 3 * Outputs;

    public override int ParameterCount => HiddenBias + 3 * Outputs;
    public override int ActivationSize => 6 * Outputs;
    public override int MemorySize => Outputs;
    public override float InitialRange => 1 / MathF.Sqrt(Outputs);
    public override int ScratchSize =>
        Panel.Width * (6 * Outputs + Matrix.Padded(Inputs) + Matrix.Padded(Outputs));

    public override IEnumerable<ParameterView> Views =>
        [
            new("weight_ih", [3 * Outputs, Inputs], 0),
            new("weight_hh", [3 * Outputs, Outputs], InputWeights),
            new("bias_ih", [3 * Outputs], InputBias),
            new("bias_hh", [3 * Outputs], HiddenBias),
        ];

    public override void Forward(
        ReadOnlySpan<float> parameters,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> memory,
        Span<float> activations,
        Span<float> scratch
    )
    {
        var panel = Outputs * Panel.WidthOf(x.Length, Inputs);
        var gates = activations[..(3 * panel)];
        var hidden = activations.Slice(4 * panel, panel);
        var hiddenGates = scratch[..(3 * panel)];
        memory.CopyTo(hidden);
        Matrix.Forward(
            parameters[..InputWeights],
            parameters.Slice(InputBias, 3 * Outputs),
            x,
            gates,
            Inputs,
            3 * Outputs
        );
        Matrix.Forward(
            parameters.Slice(InputWeights, HiddenWeights),
            parameters.Slice(HiddenBias, 3 * Outputs),
            hidden,
            hiddenGates,
            Outputs,
            3 * Outputs
        );
        hiddenGates.Slice(2 * panel, panel).CopyTo(activations.Slice(3 * panel, panel));
        Elementwise.GruForward(gates, hiddenGates, hidden, activations.Slice(5 * panel, panel));
    }

    public override void Backward(
        ReadOnlySpan<float> parameters,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> activations,
        Span<float> dy,
        Span<float> dx,
        Span<float> dMemory,
        Span<float> gradient,
        Span<float> scratch
    )
    {
        var width = Panel.WidthOf(x.Length, Inputs);
        var panel = Outputs * width;
        var dGates = scratch[..(3 * panel)];
        var dHiddenGates = scratch.Slice(3 * panel, 3 * panel);
        var xRows = scratch.Slice(6 * panel, width * Matrix.Padded(Inputs));
        var hiddenRows = scratch.Slice(6 * panel + xRows.Length, width * Matrix.Padded(Outputs));
        var hidden = activations.Slice(4 * panel, panel);

        Elementwise.Add(dMemory, dy);
        Elementwise.GruBackward(
            activations[..(3 * panel)],
            activations.Slice(3 * panel, panel),
            hidden,
            dy,
            dGates,
            dHiddenGates,
            dMemory
        );
        Matrix.ToRows(x, xRows, Inputs);
        Matrix.ToRows(hidden, hiddenRows, Outputs);
        Matrix.WeightGradient(dGates, xRows, gradient[..InputWeights], Inputs, 3 * Outputs);
        Matrix.WeightGradient(
            dHiddenGates,
            hiddenRows,
            gradient.Slice(InputWeights, HiddenWeights),
            Outputs,
            3 * Outputs
        );
        Elementwise.AddLaneSums(dGates, gradient.Slice(InputBias, 3 * Outputs));
        Elementwise.AddLaneSums(dHiddenGates, gradient.Slice(HiddenBias, 3 * Outputs));
        Matrix.InputGradient(
            parameters.Slice(InputWeights, HiddenWeights),
            dHiddenGates,
            dMemory,
            Outputs,
            3 * Outputs,
            Start.FromValues
        );
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters[..InputWeights], dGates, dx, Inputs, 3 * Outputs, Start.FromZero);
    }
}
