using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>Settings of Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).</summary>
public sealed record AdamConfig : OptimizerConfig
{
    /// <summary>
    /// Memory of the mean gradient, in [0, 1). Raise it when gradients are noisy, lower it when they change direction quickly.
    /// </summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>
    /// Memory of the squared gradient, in [0, 1). Lower it when gradients change scale quickly, raise it when they are noisy.
    /// </summary>
    public double Beta2 { get; init; } = 0.999;

    /// <summary>
    /// Added to the square root of the squared gradient. Raise it when tiny gradients cause large steps, lower it when they cause none.
    /// </summary>
    public Schedule Epsilon { get; init; } = 1e-8;

    /// <summary>
    /// Smallest value under the square root (rl-tools uses 1e-7 here, which turns Adam into momentum descent for gradients
    /// below 3e-4). Begin with 0, the usual Adam; raise it when tiny gradients cause large steps, lower it when they cause none.
    /// </summary>
    public Schedule Floor { get; init; } = 0;

    /// <summary>
    /// Pull of the weights towards zero. Raise it (1e-4 .. 1e-2) when the student overfits a small dataset, lower it when the loss on
    /// what it is trained on stays high.
    /// </summary>
    public Schedule WeightDecay { get; init; } = 0;

    /// <summary>Whether the decay acts on the weights directly (AdamW) instead of through the gradient (Adam with L2).</summary>
    public bool Decoupled { get; init; } = false;

    internal override IReadOnlyList<string> Moments => ["first", "second"];

    public override Optimizer Create(FloatBuffer parameters, int maxChunks) =>
        new Adam(parameters, this, maxChunks);

    public override void Check()
    {
        base.Check();
        Require(Beta1 >= 0 && (float)Beta1 < 1, "beta1", Beta1, "at least 0 and below 1");
        Require(Beta2 >= 0 && (float)Beta2 < 1, "beta2", Beta2, "at least 0 and below 1");
        Require(Positive(Epsilon), "epsilon", Epsilon, AboveZero);
        Require(ZeroOrPositive(Floor), "floor", Floor, ZeroOrAbove);
        Require(ZeroOrPositive(WeightDecay), "weight_decay", WeightDecay, ZeroOrAbove);
    }
}

/// <summary>Adam on one block of parameters.</summary>
public sealed class Adam(FloatBuffer parameters, AdamConfig config, int maxChunks)
    : Optimizer(parameters, config, maxChunks)
{
    private AdamStep step;

    public Adam(Network network, AdamConfig config, int maxChunks)
        : this(network.Parameters, config, maxChunks) { }

    /// <summary>The settings in force.</summary>
    public new AdamConfig Config => (AdamConfig)base.Config;

    /// <summary>Running mean of the gradient, in the layout of the parameters.</summary>
    public Span<float> FirstMoments => Moments[0].Span;

    /// <summary>Running mean of the squared gradient, in the same layout.</summary>
    public Span<float> SecondMoments => Moments[1].Span;

    protected override void Prepare(double gradientScale) => step = StepNow(gradientScale);

    /// <summary>The numbers of the step that was counted last.</summary>
    /// <param name="gradientScale">Factor of the gradient, at most 1.</param>
    internal AdamStep StepNow(double gradientScale) =>
        new(
            Rate: (float)LearningRate,
            Beta1: (float)Config.Beta1,
            Beta2: (float)Config.Beta2,
            OneMinusBeta1: (float)(1 - Config.Beta1),
            OneMinusBeta2: (float)(1 - Config.Beta2),
            Epsilon: (float)Config.Epsilon,
            Floor: (float)Config.Floor,
            Correction1: (float)(1 / (1 - Math.Pow(Config.Beta1, Steps))),
            Correction2: (float)(1 / (1 - Math.Pow(Config.Beta2, Steps))),
            GradientScale: (float)gradientScale,
            CoupledDecay: Config.Decoupled ? 0 : (float)Config.WeightDecay,
            DecoupledDecay: Config.Decoupled ? (float)Config.WeightDecay : 0
        );

    protected override void Update(Span<float> parameters, ReadOnlySpan<float> gradient, int start) =>
        Elementwise.Adam(
            parameters,
            gradient,
            Moments[0].Slice(start, parameters.Length),
            Moments[1].Slice(start, parameters.Length),
            step
        );
}
