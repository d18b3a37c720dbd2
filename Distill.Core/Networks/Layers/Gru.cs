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
        Panel x,
        Panel memory,
        Panel activations,
        Workspace own
    )
    {
        var gates = activations.Rows(0, 3 * Outputs).Values;
        var hidden = activations.Rows(4 * Outputs, Outputs).Values;
        var hiddenGates = own.Panel(3 * Outputs, x.Lanes);
        memory.Values.CopyTo(hidden);
        Matrix.Forward(
            parameters[..InputWeights],
            parameters.Slice(InputBias, 3 * Outputs),
            x.Values,
            gates,
            Inputs,
            3 * Outputs
        );
        Matrix.Forward(
            parameters.Slice(InputWeights, HiddenWeights),
            parameters.Slice(HiddenBias, 3 * Outputs),
            hidden,
            hiddenGates.Values,
            Outputs,
            3 * Outputs
        );
        hiddenGates.Rows(2 * Outputs, Outputs).Values.CopyTo(activations.Rows(3 * Outputs, Outputs).Values);
        Elementwise.GruForward(
            gates,
            hiddenGates.Values,
            hidden,
            activations.Rows(5 * Outputs, Outputs).Values
        );
    }

    public override void Backward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel activations,
        Panel dy,
        Panel dx,
        Panel dMemory,
        Span<float> gradient,
        Workspace own
    )
    {
        var dGates = own.Panel(3 * Outputs, x.Lanes).Values;
        var dHiddenGates = own.Panel(3 * Outputs, x.Lanes).Values;
        var xRows = own.Floats(x.Lanes * Matrix.Padded(Inputs));
        var hiddenRows = own.Floats(x.Lanes * Matrix.Padded(Outputs));
        var hidden = activations.Rows(4 * Outputs, Outputs).Values;

        Elementwise.Add(dMemory.Values, dy.Values);
        Elementwise.GruBackward(
            activations.Rows(0, 3 * Outputs).Values,
            activations.Rows(3 * Outputs, Outputs).Values,
            hidden,
            dy.Values,
            dGates,
            dHiddenGates,
            dMemory.Values
        );
        Matrix.ToRows(x.Values, xRows, Inputs);
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
            dMemory.Values,
            Outputs,
            3 * Outputs,
            Start.FromValues
        );
        if (!dx.IsEmpty)
            Matrix.InputGradient(
                parameters[..InputWeights],
                dGates,
                dx.Values,
                Inputs,
                3 * Outputs,
                Start.FromZero
            );
    }
}
