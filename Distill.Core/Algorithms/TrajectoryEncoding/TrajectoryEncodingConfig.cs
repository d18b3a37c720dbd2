using Distill.Networks;
using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>
/// Training of a trajectory transformer without rewards or labels: it fills in what was masked, and its encodings of two differently
/// masked views of a window should be closer than those of different tasks. Defaults are those of Liu et al.'s collective learning framework.
/// </summary>
public sealed record TrajectoryEncodingConfig
{
    /// <summary>Seed of everything random. Same seed, same encoder, whatever the number of threads.</summary>
    public ulong Seed { get; init; }

    /// <summary>The transformer.</summary>
    public TransformerConfig Network { get; init; } = new();

    /// <summary>Iterations at most, after each of which the validation loss is taken. Raise it while that still falls, lower it to try something out.</summary>
    public int Iterations { get; init; } = 50;

    /// <summary>Updates per iteration. Raise it when validation takes much of the time, lower it to stop closer to the best.</summary>
    public int UpdatesPerIteration { get; init; } = 500;

    /// <summary>Windows per update, drawn uniformly; multiples of 16 use the machine best. Raise it for more negatives, lower it for speed.</summary>
    public int BatchSize { get; init; } = 128;

    /// <summary>
    /// Steps of the shortest windows. 1 trains on windows that end at any step, cut off where the episode begins, as an encoder that
    /// acts will see them; the network's window, 20, takes full ones only, as published. Lower it when the first steps of an episode
    /// tell too little, raise it when only later ones matter.
    /// </summary>
    public int ShortestWindow { get; init; } = 1;

    /// <summary>Share of states, of actions and of rewards that are masked, at least one of each in a window. Raise it when the loss falls too easily, lower it when it hardly falls.</summary>
    public double MaskProbability { get; init; } = 0.15;

    /// <summary>Weight of the contrast beside the reconstruction. Raise it when a probe cannot tell tasks apart, lower it, to 0, when the reconstruction suffers.</summary>
    public double ContrastWeight { get; init; } = 0.25;

    /// <summary>What encodings are pushed away from.</summary>
    public Contrast Contrast { get; init; } = new OtherTasks();

    /// <summary>Temperature of the contrast. Lower it to care about the closest negatives alone, raise it to push from all.</summary>
    public double Temperature { get; init; } = 0.15;

    /// <summary>Share of the episodes that are held out, whole, for validation. Raise it to know more exactly what an encoder is worth, lower it to train on more.</summary>
    public double ValidationShare { get; init; } = 0.2;

    /// <summary>Batches of the validation, the same every time. Raise it when its loss jumps, lower it for speed.</summary>
    public int ValidationBatches { get; init; } = 20;

    /// <summary>Iterations without a lower validation loss, after which training ends; the best is kept. 0 never ends early. Raise it when training ends too soon, lower it to save time.</summary>
    public int Patience { get; init; } = 5;

    /// <summary>The optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new AdamConfig { LearningRate = 2e-4, MaxGradNorm = 0 };

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public void Validate()
    {
        Network.Check();
        Require(Iterations >= 1, "iterations", Iterations, "at least 1");
        Require(UpdatesPerIteration >= 1, "updates_per_iteration", UpdatesPerIteration, "at least 1");
        Require(BatchSize is >= 2 and <= 100_000, "batch_size", BatchSize, "2 to 100000");
        Require(
            ShortestWindow >= 1 && ShortestWindow <= Network.Window,
            "shortest_window",
            ShortestWindow,
            $"1 to the window, {Network.Window}"
        );
        Require(MaskProbability is > 0 and <= 1, "mask_probability", MaskProbability, "above 0, at most 1");
        Require(ZeroOrPositive(ContrastWeight), "contrast_weight", ContrastWeight, ZeroOrAbove);
        Require(Positive(Temperature), "temperature", Temperature, AboveZero);
        Require(ValidationShare is > 0 and < 1, "validation_share", ValidationShare, "above 0 and below 1");
        Require(ValidationBatches >= 1, "validation_batches", ValidationBatches, "at least 1");
        Require(Patience >= 0, "patience", Patience, "at least 0");
        Schedule.Check(Optimizer, Iterations, optimizer => optimizer.Check());
    }
}

/// <summary>The parts of the loss, each a mean over what it is of.</summary>
/// <param name="State">Squared error of masked states, both views together. Likewise below.</param>
/// <param name="Contrast">InfoNCE, not weighted.</param>
public readonly record struct EncodingLosses(double State, double Action, double Reward, double Contrast)
{
    public static EncodingLosses operator +(EncodingLosses a, EncodingLosses b) =>
        new(a.State + b.State, a.Action + b.Action, a.Reward + b.Reward, a.Contrast + b.Contrast);

    public static EncodingLosses operator *(EncodingLosses a, double factor) =>
        new(a.State * factor, a.Action * factor, a.Reward * factor, a.Contrast * factor);

    /// <summary>What is minimized.</summary>
    public double Total(double contrastWeight) => State + Action + Reward + contrastWeight * Contrast;
}

/// <summary>What one iteration of training an encoder did.</summary>
/// <param name="Iteration">From 0.</param>
/// <param name="Updates">Since the start.</param>
/// <param name="Training">Means over the iteration's updates.</param>
/// <param name="Validation">On the episodes held out, without dropout.</param>
/// <param name="Loss">All of it on the episodes held out: what is kept is where it was lowest.</param>
/// <param name="BestLoss">The lowest so far.</param>
public sealed record EncodingReport(
    int Iteration,
    long Updates,
    EncodingLosses Training,
    EncodingLosses Validation,
    double Loss,
    double BestLoss,
    double Seconds
)
{
    /// <summary>For logs.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics =>
        [
            new("Loss/state", Training.State),
            new("Loss/action", Training.Action),
            new("Loss/reward", Training.Reward),
            new("Loss/contrast", Training.Contrast),
            new("Validation/state", Validation.State),
            new("Validation/action", Validation.Action),
            new("Validation/reward", Validation.Reward),
            new("Validation/contrast", Validation.Contrast),
            new("Validation/loss", Loss),
        ];
}
