namespace Distill.Networks;

/// <summary>y = f(W x + b).</summary>
public sealed record Dense(int Size, Activation Activation) : LayerSpec(Size)
{
    public override string Kind => Activation.ToString().ToLowerInvariant();
    public override Activation? Nonlinearity => Activation;

    public override string ToString() => Activation == Activation.Identity ? $"{Size}" : $"{Size} {Kind}";

    internal override long ActivationSize => Size;

    internal override Int128 ParameterCount(int inputs) => (Int128)Size * ((long)inputs + 1);

    internal override Layer Create(int inputs) => new DenseLayer(inputs, this);
}

internal sealed class DenseLayer(int inputs, Dense spec) : Layer(inputs, spec)
{
    private int Weights => Outputs * Inputs;

    public override float InitialRange => 1 / MathF.Sqrt(Inputs);

    public override IEnumerable<ParameterView> Views =>
        [new("weight", [Outputs, Inputs], 0), new("bias", [Outputs], Weights)];

    public override void Forward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel memory,
        Panel activations,
        Workspace own
    )
    {
        Matrix.Forward(parameters[..Weights], parameters[Weights..], x, activations);
        Elementwise.Activate(spec.Activation, activations.Values);
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
        Elementwise.ActivateBackward(spec.Activation, activations.Values, dy.Values);
        if (!gradient.IsEmpty)
        {
            var rows = own.Floats(x.Lanes * Matrix.Padded(Inputs));
            Matrix.ToRows(x, rows);
            Matrix.WeightGradient(dy, rows, gradient[..Weights], Inputs);
            Elementwise.AddLaneSums(dy, gradient[Weights..]);
        }
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters[..Weights], dy, dx, Start.FromZero);
    }
}
