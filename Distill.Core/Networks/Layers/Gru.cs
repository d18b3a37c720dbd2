using Distill.Compute;

namespace Distill.Networks;

/// <summary>A gated recurrent unit in PyTorch's convention (gate rows r, z, n); its memory is its output.</summary>
public sealed record Gru(int Size) : LayerSpec(Size)
{
    public override string Kind => "gru";
    public override long MemorySize => Size;

    public override string ToString() => Text;

    internal override long ActivationSize => 6L * Size;

    internal override Int128 ParameterCount(int inputs) => 3 * (Int128)Size * ((long)inputs + Size + 2);

    internal override long ScratchSize(int inputs) =>
        Panel.Width * (6L * Size + Matrix.Padded(inputs) + Matrix.Padded(Size));

    internal override Layer Create(int inputs) => new GruLayer(inputs, this);
}

/// <summary>Activations: r, z, n, W_hn h + b_hn, the memory before the step, and h'; six panels of <c>[H, 32]</c>.</summary>
internal sealed class GruLayer(int inputs, Gru spec) : Layer(inputs, spec)
{
    private int InputWeights => 3 * Outputs * Inputs;
    private int HiddenWeights => 3 * Outputs * Outputs;
    private int InputBias => InputWeights + HiddenWeights;
    private int HiddenBias => InputBias + 3 * Outputs;

    public override float InitialRange => 1 / MathF.Sqrt(Outputs);

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
