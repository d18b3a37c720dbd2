namespace Distill.Networks;

/// <summary>
/// The last layer of a <see cref="Gaussian"/> policy: outputs [mean; log_std], where the input is the mean, and log_std a
/// parameter of each action, the same in all states.
/// </summary>
internal sealed record GaussianOutput(int Actions) : LayerSpec(2 * Actions)
{
    public override string Kind => "gaussian";

    internal override long ActivationSize => 2L * Actions;

    internal override Int128 ParameterCount(int inputs) => Actions;

    internal override Layer Create(int inputs) => new GaussianOutputLayer(inputs, this);
}

internal sealed class GaussianOutputLayer(int inputs, GaussianOutput spec) : Layer(inputs, spec)
{
    public override float InitialRange => 0;

    public override IEnumerable<ParameterView> Views => [new("log_std", [Inputs], 0)];

    public override void Forward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel memory,
        Panel activations,
        Workspace own
    )
    {
        x.Values.CopyTo(activations.Values);
        for (var action = 0; action < Inputs; action++)
            activations.Row(Inputs + action).Fill(parameters[action]);
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
        if (!dx.IsEmpty)
            dy.Rows(0, Inputs).Values.CopyTo(dx.Values);
        for (var action = 0; action < gradient.Length; action++)
        {
            // In the order of lanes, whatever the vectors' width.
            var change = 0f;
            foreach (var value in dy.Row(Inputs + action))
                change += value;
            gradient[action] += change;
        }
    }
}
