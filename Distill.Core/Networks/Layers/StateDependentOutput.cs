namespace Distill.Networks;

/// <summary>
/// The last layer of a <see cref="Gaussian"/> policy whose standard deviation depends on the state: outputs [mean; log_std] of
/// inputs [mean; std] or [mean; log_std], where the second half is clamped first. No gradient passes where it is.
/// </summary>
/// <param name="IsLog">Whether the second half of the inputs are logarithms.</param>
internal sealed record StateDependentOutput(int Actions, bool IsLog, float Lowest, float Highest)
    : LayerSpec(2 * Actions)
{
    public override string Kind => "state-dependent";

    internal override long ActivationSize => 2L * Actions;

    internal override Int128 ParameterCount(int inputs) => 0;

    internal override Layer Create(int inputs) => new StateDependentOutputLayer(inputs, this);

    /// <summary>rsl_rl clamps to a std from 1e-6 to 1e6; before 5.2 it did not.</summary>
    public static StateDependentOutput OfStd(int actions) => new(actions, IsLog: false, 1e-6f, 1e6f);

    public static StateDependentOutput OfLogStd(int actions) =>
        new(actions, IsLog: true, -13.8155106f, 13.8155106f);

    /// <summary>
    /// log_std from -20 to 2, as SAC's first code and Stable-Baselines3 have it (CleanRL maps a tanh to -5 to 2 instead).
    /// </summary>
    public static StateDependentOutput Squashed(int actions) => new(actions, IsLog: true, -20, 2);
}

internal sealed class StateDependentOutputLayer(int inputs, StateDependentOutput spec) : Layer(inputs, spec)
{
    public override float InitialRange => 0;

    public override IEnumerable<ParameterView> Views => [];

    public override void Forward(
        ReadOnlySpan<float> parameters,
        Panel x,
        Panel memory,
        Panel activations,
        Workspace own
    )
    {
        var means = spec.Actions * x.Lanes;
        x.Values[..means].CopyTo(activations.Values);
        for (var i = means; i < x.Values.Length; i++)
        {
            var spread = Math.Clamp(x.Values[i], spec.Lowest, spec.Highest);
            activations.Values[i] = spec.IsLog ? spread : MathF.Log(spread);
        }
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
        var means = spec.Actions * x.Lanes;
        dy.Values[..means].CopyTo(dx.Values);
        for (var i = means; i < x.Values.Length; i++)
        {
            var spread = x.Values[i];
            dx.Values[i] =
                spread < spec.Lowest || spread > spec.Highest ? 0
                : spec.IsLog ? dy.Values[i]
                : dy.Values[i] / spread;
        }
    }
}
