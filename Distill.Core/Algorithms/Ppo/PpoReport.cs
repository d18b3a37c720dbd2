namespace Distill.Algorithms;

/// <summary>What one iteration of PPO did.</summary>
/// <param name="Iteration">From 0.</param>
/// <param name="StepsCollected">Environment steps since the start, all environments together.</param>
/// <param name="ValueLoss">Mean over the iteration's optimizer steps, likewise below; in squared units of scaled rewards.</param>
/// <param name="SurrogateLoss">In units of standardized advantages.</param>
/// <param name="Entropy">Of the distribution over actions, nats.</param>
/// <param name="KlDivergence">KL(old || new) before each optimizer step, nats.</param>
/// <param name="LearningRate">In force at the end.</param>
/// <param name="MeanStd">Mean standard deviation of a Gaussian actor's actions; null for choices.</param>
/// <param name="Steps">Environment steps of this iteration, all environments together.</param>
/// <param name="MeanReturn">Of the last 100 finished training episodes, exploration included; null before the first. Likewise below.</param>
public sealed record PpoReport(
    int Iteration,
    long StepsCollected,
    double ValueLoss,
    double SurrogateLoss,
    double Entropy,
    double KlDivergence,
    double LearningRate,
    double? MeanStd,
    double? MeanReturn,
    double? MeanEpisodeLength,
    double? ShareTerminated,
    long Steps,
    double CollectionSeconds,
    double LearningSeconds
)
{
    /// <summary>The distillation loss, mean over the iteration's optimizer steps; null where there is none.</summary>
    public double? BehaviorLoss { get; init; }

    /// <summary>Probability with which the teacher drove; null without a teacher.</summary>
    public double? TeacherShare { get; init; }

    /// <summary>What PPO alone has, for logs: under rsl_rl's names, so that its dashboards work.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics
    {
        get
        {
            yield return new("Loss/value", ValueLoss);
            yield return new("Loss/surrogate", SurrogateLoss);
            yield return new("Loss/entropy", Entropy);
            yield return new("Loss/learning_rate", LearningRate);
            yield return new("Loss/kl", KlDivergence);
            if (BehaviorLoss is { } behavior)
                yield return new("Loss/behavior", behavior);
            if (TeacherShare is { } beta)
                yield return new("data_collection/teacher_share", beta);
            if (MeanStd is { } std)
                yield return new("Policy/mean_std", std);
            if (ShareTerminated is { } share)
                yield return new("data_collection/share_terminated", share);
        }
    }
}
