namespace Distill.Networks;

/// <summary>y = W x + b on all tokens; its parameters are a part of a network's.</summary>
/// <param name="Offset">Where its weights <c>[outputs, inputs]</c> begin; the bias follows.</param>
internal sealed record Linear(string Name, int Offset, int Inputs, int Outputs)
{
    private int Weights => Outputs * Inputs;

    public int End => Offset + Weights + Outputs;

    /// <param name="separator">PyTorch's attention joins its input projection's names by an underscore.</param>
    public IEnumerable<ParameterView> Views(char separator = '.') =>
        [
            new($"{Name}{separator}weight", [Outputs, Inputs], Offset),
            new($"{Name}{separator}bias", [Outputs], Offset + Weights),
        ];

    public void Forward(ReadOnlySpan<float> parameters, Sequences x, Sequences y) =>
        Matrix.Forward(parameters.Slice(Offset, Weights), parameters.Slice(Offset + Weights, Outputs), x, y);

    /// <summary>Some of the outputs alone, as many as <paramref name="y"/> has features.</summary>
    public void Forward(ReadOnlySpan<float> parameters, Sequences x, Sequences y, int first) =>
        Matrix.Forward(
            parameters.Slice(Offset + first * Inputs, y.Features * Inputs),
            parameters.Slice(Offset + Weights + first, y.Features),
            x,
            y
        );

    /// <param name="dx">Receives the gradient of the input, or is added to; empty when nobody needs it.</param>
    public void Backward(
        ReadOnlySpan<float> parameters,
        Sequences x,
        Sequences dy,
        Sequences dx,
        Start start,
        Span<float> gradient
    )
    {
        SequenceMath.WeightGradient(dy, x, gradient.Slice(Offset, Weights));
        SequenceMath.AddSums(dy, default, gradient.Slice(Offset + Weights, Outputs));
        if (!dx.IsEmpty)
            Matrix.InputGradient(parameters.Slice(Offset, Weights), dy, dx, start);
    }

    /// <summary>Weights and bias uniform in these ranges.</summary>
    public void Initialize(Span<float> parameters, RandomStream stream, double weights, double bias)
    {
        for (var i = 0; i < Weights + Outputs; i++)
            parameters[Offset + i] =
                (float)(i < Weights ? weights : bias) * (2 * stream.Uniform((uint)(Offset + i)) - 1);
    }
}

/// <summary>Layer normalization of a residual and a branch.</summary>
internal sealed record LayerNorm(string Name, int Offset, int Size)
{
    public int End => Offset + 2 * Size;

    public IEnumerable<ParameterView> Views =>
        [new($"{Name}.weight", [Size], Offset), new($"{Name}.bias", [Size], Offset + Size)];

    /// <summary>See <see cref="SequenceMath.AddNorm"/>.</summary>
    public void Forward(
        ReadOnlySpan<float> parameters,
        Sequences residual,
        Sequences branch,
        Dropout dropout,
        Sequences normed,
        Sequences scales,
        Sequences y
    ) =>
        SequenceMath.AddNorm(
            residual,
            branch,
            dropout,
            parameters.Slice(Offset, Size),
            parameters.Slice(Offset + Size, Size),
            normed,
            scales,
            y
        );

    /// <summary>See <see cref="SequenceMath.AddNormBackward"/>.</summary>
    public void Backward(
        ReadOnlySpan<float> parameters,
        Sequences normed,
        Sequences scales,
        Dropout dropout,
        Sequences dy,
        Sequences dBranch,
        Span<float> gradient
    )
    {
        SequenceMath.AddSums(dy, normed, gradient.Slice(Offset, Size));
        SequenceMath.AddSums(dy, default, gradient.Slice(Offset + Size, Size));
        SequenceMath.AddNormBackward(parameters.Slice(Offset, Size), normed, scales, dropout, dy, dBranch);
    }

    public void Initialize(Span<float> parameters)
    {
        parameters.Slice(Offset, Size).Fill(1);
        parameters.Slice(Offset + Size, Size).Clear();
    }
}
