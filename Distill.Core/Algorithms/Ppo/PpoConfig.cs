using Distill.Networks;
using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>What happens to PPO's learning rate.</summary>
public enum RateSchedule
{
    /// <summary>
    /// Before every step: divided by 1.5 where the policy has moved more than twice <see cref="PpoConfig.DesiredKl"/> from the
    /// one that collected, multiplied by 1.5 where less than half of it; within <see cref="PpoConfig.MinLearningRate"/> and
    /// <see cref="PpoConfig.MaxLearningRate"/>.
    /// </summary>
    Adaptive,

    /// <summary>It stays what the optimizer's settings say.</summary>
    Fixed,
}

/// <summary>Proximal policy optimization; the defaults are rsl_rl's. The number of environments is the environment's setting.</summary>
public sealed record PpoConfig
{
    /// <summary>
    /// Trains a quadrotor's teacher from scratch, with 4,096 environments: small mini-batches, little noise (the reward
    /// charges every change of action), restarts against the forgetting of initial states, and a critic that keeps learning when
    /// the schedule slows the actor down.
    /// </summary>
    public static PpoConfig Quadrotor { get; } =
        new()
        {
            Iterations = 250,
            RestartProbability = 0.1,
            NumMiniBatches = 32,
            EntropyCoef = 0.004,
            DesiredKl = 0.015,
            CriticLearningRate = 1e-3,
            RewardScale = 0.02,
            InitStd = 0.3,
        };

    /// <summary>Seed of everything random. Same seed, same policy, whatever the number of threads.</summary>
    public ulong Seed { get; init; }

    /// <summary>Iterations (collect, then learn). Raise it while the return still rises.</summary>
    public int Iterations { get; init; } = 1500;

    /// <summary>
    /// Steps of each environment per iteration. Raise it when rewards come late or the value function is poor; lower it,
    /// with more environments, for more updates per sample.
    /// </summary>
    public int StepsPerEnv { get; init; } = 24;

    /// <summary>
    /// Probability that a panel of 32 environments starts new episodes at the beginning of an iteration. Environments of a
    /// good policy end their episodes together, by the step limit, so that most rollouts hold no initial states at all and the
    /// policy forgets them; restarts keep the episodes out of step. Raise it when episodes end early although the return is high.
    /// </summary>
    public Schedule RestartProbability { get; init; }

    /// <summary>Passes over each rollout. Raise it to learn more from few samples; lower it when the KL divergence runs away.</summary>
    public Schedule NumLearningEpochs { get; init; } = 5;

    /// <summary>Optimizer steps per pass. Raise it with the number of environments; lower it when gradients are noisy.</summary>
    public Schedule NumMiniBatches { get; init; } = 4;

    /// <summary>
    /// How far the probability ratio may leave 1, and the value its old estimate, before the gradient stops. Lower it when
    /// the return collapses now and then, raise it when the policy hardly moves.
    /// </summary>
    public Schedule ClipParam { get; init; } = 0.2;

    /// <summary>Discount per step, in [0, 1]. Raise it when what matters lies more than 1 / (1 - gamma) steps ahead, lower it for a less noisy value.</summary>
    public Schedule Gamma { get; init; } = 0.99;

    /// <summary>
    /// Decay of generalized advantage estimation, in [0, 1]. Raise it to trust returns over the value function (less bias),
    /// lower it to trust the value function (less noise).
    /// </summary>
    public Schedule Lambda { get; init; } = 0.95;

    /// <summary>Factor of the value loss. With gradients clipped apart for actor and critic it acts on the critic alone.</summary>
    public Schedule ValueLossCoef { get; init; } = 1;

    /// <summary>Factor of the entropy bonus. Raise it when exploration dies before the task is found, lower it when the noise will not shrink.</summary>
    public Schedule EntropyCoef { get; init; } = 0.01;

    /// <summary>What happens to the learning rate.</summary>
    public RateSchedule Schedule { get; init; } = RateSchedule.Adaptive;

    /// <summary>
    /// KL divergence, in nats, that the adaptive schedule aims at. Lower it for small, safe updates (and a good end of
    /// training), raise it for fast ones.
    /// </summary>
    public Schedule DesiredKl { get; init; } = 0.01;

    /// <summary>Least that the adaptive schedule lowers the learning rate to. Lower it when the KL divergence stays above what is desired.</summary>
    public Schedule MinLearningRate { get; init; } = 1e-5;

    /// <summary>Most that the adaptive schedule raises the learning rate to. Lower it when the value loss explodes.</summary>
    public Schedule MaxLearningRate { get; init; } = 1e-2;

    /// <summary>
    /// Learning rate of the critic; null for the actor's, whatever the schedule does to it. Set it when the schedule takes
    /// the rate so low that the value loss stops falling: a stale critic misleads the actor.
    /// </summary>
    public Schedule? CriticLearningRate { get; init; }

    /// <summary>Whether the value is kept near its old estimate. Switch it off when returns are far larger than <see cref="ClipParam"/> and the value learns too slowly.</summary>
    public bool UseClippedValueLoss { get; init; } = true;

    /// <summary>Whether advantages are standardized per mini-batch instead of over the whole rollout.</summary>
    public bool NormalizeAdvantagePerMiniBatch { get; init; }

    /// <summary>
    /// Factor of the rewards that advantages and values are made from; reported returns are never scaled. Lower it when
    /// discounted returns are far from the order of 1, which the critic starts from.
    /// </summary>
    public Schedule RewardScale { get; init; } = 1;

    /// <summary>Standard deviation of continuous actions at the start, in action units. Lower it when noise alone ends episodes, raise it to explore.</summary>
    public double InitStd { get; init; } = 1;

    /// <summary>Observation group of the actor, which the trained policy reads.</summary>
    public string ActorGroup { get; init; } = "teacher";

    /// <summary>Observation group of the critic; it may show more than the actor's.</summary>
    public string CriticGroup { get; init; } = "teacher";

    /// <summary>Hidden layers of the actor. Widen them while more training no longer helps.</summary>
    public IReadOnlyList<int> ActorHidden { get; init; } = [64, 64];

    /// <summary>Hidden layers of the critic. Widen them while the value loss stays high.</summary>
    public IReadOnlyList<int> CriticHidden { get; init; } = [64, 64];

    /// <summary>Nonlinearity of the hidden layers.</summary>
    public Activation Activation { get; init; } = Activation.Elu;

    /// <summary>Whether observations are normalized by running statistics, updated once per iteration. Switch it on when their scales differ by orders.</summary>
    public bool NormalizeObservations { get; init; }

    /// <summary>The optimizer, for actor and critic each; gradients of the two are clipped separately.</summary>
    public OptimizerConfig Optimizer { get; init; } = new AdamConfig();

    /// <exception cref="DistillException">A field has a value that cannot work, in some iteration; the message names it.</exception>
    public void Validate()
    {
        Require(Iterations >= 1, "iterations", Iterations, "at least 1");
        RequireWhole("num_learning_epochs", NumLearningEpochs);
        RequireWhole("num_mini_batches", NumMiniBatches);
        Require(
            Schedule == RateSchedule.Fixed || !Optimizer.LearningRate.Varies,
            "learning_rate",
            Optimizer.LearningRate,
            "a number where schedule=adaptive changes it; or add schedule=fixed"
        );
        Distill.Schedule.Check(this, Iterations, now => now.Check());
    }

    private void Check()
    {
        Require(StepsPerEnv >= 1, "steps_per_env", StepsPerEnv, "at least 1");
        Require(
            RestartProbability.Value is >= 0 and <= 1,
            "restart_probability",
            RestartProbability,
            "within 0 and 1"
        );
        Require(NumLearningEpochs.Whole >= 1, "num_learning_epochs", NumLearningEpochs, "at least 1");
        Require(NumMiniBatches.Whole >= 1, "num_mini_batches", NumMiniBatches, "at least 1");
        Require(Positive(ClipParam), "clip_param", ClipParam, AboveZero);
        Require(Gamma.Value is >= 0 and <= 1, "gamma", Gamma, "within 0 and 1");
        Require(Lambda.Value is >= 0 and <= 1, "lambda", Lambda, "within 0 and 1");
        Require(ZeroOrPositive(ValueLossCoef), "value_loss_coef", ValueLossCoef, ZeroOrAbove);
        Require(ZeroOrPositive(EntropyCoef), "entropy_coef", EntropyCoef, ZeroOrAbove);
        Require(Positive(DesiredKl), "desired_kl", DesiredKl, AboveZero);
        Require(Positive(MinLearningRate), "min_learning_rate", MinLearningRate, AboveZero);
        Require(
            Positive(MaxLearningRate) && MaxLearningRate >= (double)MinLearningRate,
            "max_learning_rate",
            MaxLearningRate,
            $"at least min_learning_rate={MinLearningRate}, in the range of single precision"
        );
        Require(
            CriticLearningRate is null || Positive(CriticLearningRate.Value),
            "critic_learning_rate",
            CriticLearningRate,
            AboveZero
        );
        Require(Positive(RewardScale), "reward_scale", RewardScale, AboveZero);
        Require(Positive(InitStd), "init_std", InitStd, AboveZero);
        Optimizer.Check();
    }
}
