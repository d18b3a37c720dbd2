using Distill.Compute;

namespace Distill.Networks;

/// <summary>y = f(W x + b).</summary>
public sealed record Dense(int Size, Activation Activation) : LayerSpec(Size)
{
    public override string Kind => Activation.ToString().ToLowerInvariant();
    public override Activation? Nonlinearity => Activation;

    public override string ToString() => Activation == Activation.Identity ? $"{Size}" : $"{Size} {Kind}";

    internal override long ActivationSize => Size;

    internal override Int128 ParameterCount(int inputs) => (Int128)Size * ((long)inputs + 1);

    internal override long ScratchSize(int inputs) => (long)Panel.Width * Matrix.Padded(inputs);

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
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> memory,
        Span<float> activations,
        Span<float> scratch
    )
    {
        Matrix.Forward(parameters[..Weights], parameters[Weights..], x, activations, Inputs, Outputs);
        Elementwise.Activate(spec.Activation, activations);
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
        Elementwise.ActivateBackward(spec.Activation, activations, dy);
        var width = Panel.WidthOf(x.Length, Inputs);
        var rows = scratch[..(width * Matrix.Padded(Inputs))];
        Matrix.ToRows(x, rows, Inputs);
        Matrix.WeightGradient(dy, rows, gradient[..Weights], Inputs, Outputs);
        Elementwise.AddLaneSums(dy, gradient[Weights..]);
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters[..Weights], dy, dx, Inputs, Outputs, Start.FromZero);
    }
}
