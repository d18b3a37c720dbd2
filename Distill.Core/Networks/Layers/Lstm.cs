namespace Distill.Networks;

/// <summary>
/// A long short-term memory in PyTorch's convention (gate rows i, f, g, o): its memory is the cell and the output, [c; h].
/// </summary>
public sealed record Lstm(int Size) : LayerSpec(Size)
{
    public override string Kind => "lstm";
    public override long MemorySize => 2L * Size;

    public override string ToString() => Text;

    internal override long ActivationSize => 9L * Size;

    internal override Int128 ParameterCount(int inputs) => 4 * (Int128)Size * ((long)inputs + Size + 2);

    internal override Layer Create(int inputs) => new LstmLayer(inputs, this);
}

/// <summary>Activations: i, f, g, o, the memory c and h before the step, tanh c', c' and h'; nine panels of <c>[H, 32]</c>.</summary>
internal sealed class LstmLayer(int inputs, Lstm spec) : Layer(inputs, spec)
{
    private int InputWeights => 4 * Outputs * Inputs;
    private int HiddenWeights => 4 * Outputs * Outputs;
    private int InputBias => InputWeights + HiddenWeights;
    private int HiddenBias => InputBias + 4 * Outputs;

    public override float InitialRange => 1 / MathF.Sqrt(Outputs);

    public override IEnumerable<ParameterView> Views =>
        [
            new("weight_ih", [4 * Outputs, Inputs], 0),
            new("weight_hh", [4 * Outputs, Outputs], InputWeights),
            new("bias_ih", [4 * Outputs], InputBias),
            new("bias_hh", [4 * Outputs], HiddenBias),
        ];

    public override void Forward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel memory,
        Panel activations,
        Workspace own
    )
    {
        var gates = activations.Rows(0, 4 * Outputs);
        var hidden = activations.Rows(5 * Outputs, Outputs);
        var hiddenGates = own.Panel(4 * Outputs, x.Lanes);
        memory.Values.CopyTo(activations.Rows(4 * Outputs, 2 * Outputs).Values);
        Matrix.Forward(parameters[..InputWeights], parameters.Slice(InputBias, 4 * Outputs), x, gates);
        Matrix.Forward(
            parameters.Slice(InputWeights, HiddenWeights),
            parameters.Slice(HiddenBias, 4 * Outputs),
            hidden,
            hiddenGates
        );
        Elementwise.LstmForward(
            gates.Values,
            hiddenGates.Values,
            cell: activations.Rows(4 * Outputs, Outputs).Values,
            nextCell: activations.Rows(7 * Outputs, Outputs).Values,
            squashed: activations.Rows(6 * Outputs, Outputs).Values,
            next: activations.Rows(8 * Outputs, Outputs).Values
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
        var dGates = own.Panel(4 * Outputs, x.Lanes);
        var xRows = own.Floats(x.Lanes * Matrix.Padded(Inputs));
        var hiddenRows = own.Floats(x.Lanes * Matrix.Padded(Outputs));
        var dCell = dMemory.Rows(0, Outputs);
        var dHidden = dMemory.Rows(Outputs, Outputs);

        Elementwise.Add(dHidden.Values, dy.Values);
        Elementwise.LstmBackward(
            activations.Rows(0, 4 * Outputs).Values,
            cell: activations.Rows(4 * Outputs, Outputs).Values,
            squashed: activations.Rows(6 * Outputs, Outputs).Values,
            dNext: dy.Values,
            dCell.Values,
            dGates.Values
        );
        if (!gradient.IsEmpty)
        {
            Matrix.ToRows(x, xRows);
            Matrix.ToRows(activations.Rows(5 * Outputs, Outputs), hiddenRows);
            Matrix.WeightGradient(dGates, xRows, gradient[..InputWeights], Inputs);
            Matrix.WeightGradient(dGates, hiddenRows, gradient.Slice(InputWeights, HiddenWeights), Outputs);
            Elementwise.AddLaneSums(dGates, gradient.Slice(InputBias, 4 * Outputs));
            Elementwise.AddLaneSums(dGates, gradient.Slice(HiddenBias, 4 * Outputs));
        }
        Matrix.InputGradient(parameters.Slice(InputWeights, HiddenWeights), dGates, dHidden, Start.FromZero);
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters[..InputWeights], dGates, dx, Start.FromZero);
    }
}
