namespace Distill.Algorithms;

/// <summary>What one iteration of SAC did.</summary>
/// <param name="Iteration">From 0.</param>
/// <param name="StepsCollected">Environment steps since the start, all environments together.</param>
/// <param name="Updates">Updates of the critics since the start.</param>
/// <param name="CriticLoss">(Q - y)^2 / 2, mean of the critics and of the iteration's updates; null where there was none. Likewise below.</param>
/// <param name="Value">Q(s, a) of what was drawn from the replay.</param>
/// <param name="ActorLoss">alpha log pi - min Q.</param>
/// <param name="Entropy">Of the actor's actions, nats.</param>
/// <param name="Alpha">The temperature at the end.</param>
/// <param name="Transitions">Held in the replay.</param>
/// <param name="MeanReturn">Of the last 100 finished training episodes, exploration included; null before the first. Likewise below.</param>
public sealed record SacReport(
    int Iteration,
    long StepsCollected,
    long Updates,
    double? CriticLoss,
    double? Value,
    double? ActorLoss,
    double? Entropy,
    double Alpha,
    int Transitions,
    double? MeanReturn,
    double? MeanEpisodeLength,
    double? ShareTerminated,
    double CollectionSeconds,
    double LearningSeconds
)
{
    /// <summary>How much the actions of the iteration's steps were like the guide's, mean, from 0 to 1; null where none was asked.</summary>
    public double? Likeness { get; init; }

    /// <summary>What SAC alone has, for logs.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics
    {
        get
        {
            if (CriticLoss is { } critic)
                yield return new("Loss/critic", critic);
            if (Value is { } value)
                yield return new("Policy/mean_q", value);
            if (ActorLoss is { } actor)
                yield return new("Loss/actor", actor);
            if (Entropy is { } entropy)
                yield return new("Loss/entropy", entropy);
            yield return new("Policy/alpha", Alpha);
            if (Likeness is { } likeness)
                yield return new("Policy/likeness", likeness);
            yield return new("dataset/rows", Transitions);
            if (ShareTerminated is { } share)
                yield return new("data_collection/share_terminated", share);
        }
    }
}
