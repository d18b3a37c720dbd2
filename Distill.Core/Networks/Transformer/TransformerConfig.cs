using static Distill.SettingCheck;

namespace Distill.Networks;

/// <summary>
/// A transformer that reads the last steps of an episode, states, actions and rewards, and says in a few numbers what is going on:
/// the encoder of Liu et al.'s collective learning framework, with its sizes as defaults.
/// </summary>
public sealed record TransformerConfig
{
    /// <summary>Steps that it sees at most. Raise it when the task shows only over many steps, lower it for speed: time grows with its square.</summary>
    public int Window { get; init; } = 20;

    /// <summary>Numbers of a token; a multiple of 4 times the heads. Raise it when the reconstruction loss stays high, lower it for speed.</summary>
    public int Model { get; init; } = 32;

    /// <summary>Heads of attention. Raise it to look at more places at once, lower it for more numbers in each.</summary>
    public int Heads { get; init; } = 8;

    /// <summary>Encoder layers, one after another. Raise it when the reconstruction loss stays high, lower it for speed.</summary>
    public int Layers { get; init; } = 3;

    /// <summary>Hidden units of a layer's feed-forward network; even. Raise it when the reconstruction loss stays high, lower it for speed.</summary>
    public int FeedForward { get; init; } = 128;

    /// <summary>Share of numbers dropped in training, in [0, 1). Raise it when the validation loss rises while the training loss falls, lower it when both stay high.</summary>
    public double Dropout { get; init; } = 0.1;

    /// <summary>Numbers of the encoding. Raise it when a probe cannot tell the tasks apart, lower it when the encoding tells single episodes apart.</summary>
    public int Encoding { get; init; } = 6;

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public void Check()
    {
        Require(Window is >= 1 and <= 1000, "window", Window, "1 to 1000");
        Require(Heads >= 1, "heads", Heads, "at least 1");
        Require(
            Model >= 1 && Heads >= 1 && Model % (4 * Heads) == 0,
            "model",
            Model,
            "a multiple of 4 times the heads"
        );
        Require(Model <= 1024, "model", Model, "at most 1024");
        Require(Layers is >= 1 and <= 100, "layers", Layers, "1 to 100");
        Require(
            FeedForward is >= 2 and <= 8192 && FeedForward % 2 == 0,
            "feed_forward",
            FeedForward,
            "even, 2 to 8192"
        );
        Require(Dropout is >= 0 and < 1, "dropout", Dropout, "at least 0 and below 1");
        Require(Encoding is >= 1 and <= 1024, "encoding", Encoding, "1 to 1024");
    }
}
