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
        var gates = activations.Rows(0, 3 * Outputs);
        var hidden = activations.Rows(4 * Outputs, Outputs);
        var hiddenGates = own.Panel(3 * Outputs, x.Lanes);
        memory.Values.CopyTo(hidden.Values);
        Matrix.Forward(parameters[..InputWeights], parameters.Slice(InputBias, 3 * Outputs), x, gates);
        Matrix.Forward(
            parameters.Slice(InputWeights, HiddenWeights),
            parameters.Slice(HiddenBias, 3 * Outputs),
            hidden,
            hiddenGates
        );
        var candidate = activations.Rows(3 * Outputs, Outputs);
        hiddenGates.Rows(2 * Outputs, Outputs).Values.CopyTo(candidate.Values);
        var next = activations.Rows(5 * Outputs, Outputs);
        Elementwise.GruForward(gates.Values, hiddenGates.Values, hidden.Values, next.Values);
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
        var dGates = own.Panel(3 * Outputs, x.Lanes);
        var dHiddenGates = own.Panel(3 * Outputs, x.Lanes);
        var xRows = own.Floats(x.Lanes * Matrix.Padded(Inputs));
        var hiddenRows = own.Floats(x.Lanes * Matrix.Padded(Outputs));
        var hidden = activations.Rows(4 * Outputs, Outputs);

        Elementwise.Add(dMemory.Values, dy.Values);
        Elementwise.GruBackward(
            activations.Rows(0, 3 * Outputs).Values,
            activations.Rows(3 * Outputs, Outputs).Values,
            hidden.Values,
            dy.Values,
            dGates.Values,
            dHiddenGates.Values,
            dMemory.Values
        );
        if (!gradient.IsEmpty)
        {
            Matrix.ToRows(x, xRows);
            Matrix.ToRows(hidden, hiddenRows);
            var ofHidden = gradient.Slice(InputWeights, HiddenWeights);
            Matrix.WeightGradient(dGates, xRows, gradient[..InputWeights], Inputs);
            Matrix.WeightGradient(dHiddenGates, hiddenRows, ofHidden, Outputs);
            Elementwise.AddLaneSums(dGates, gradient.Slice(InputBias, 3 * Outputs));
            Elementwise.AddLaneSums(dHiddenGates, gradient.Slice(HiddenBias, 3 * Outputs));
        }
        var hiddenWeights = parameters.Slice(InputWeights, HiddenWeights);
        Matrix.InputGradient(hiddenWeights, dHiddenGates, dMemory, Start.FromValues);
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters[..InputWeights], dGates, dx, Start.FromZero);
    }
}
