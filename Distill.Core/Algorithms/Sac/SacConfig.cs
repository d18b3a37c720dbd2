using Distill.Environments;
using Distill.Networks;
using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>Where the entropy bonus -alpha log pi(a'|s') stands in the critics' target.</summary>
public enum EntropyTarget
{
    /// <summary>r + gamma (1 - terminated) (min Q' + bonus): SAC as published (Haarnoja et al. 2018, equation 3).</summary>
    Discounted,

    /// <summary>r + gamma (1 - terminated) min Q' + bonus: as rl-tools trains RAPTOR's teachers.</summary>
    Undiscounted,
}

/// <summary>
/// Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905). The number of environments is the environment's setting; as
/// published it is 1.
/// </summary>
public sealed record SacConfig
{
    /// <summary>
    /// The pre-training of one of RAPTOR's teachers (Eschmann, Albani and Loianno 2026, and its code in rl-tools), on 1
    /// environment: a million steps, one update after each.
    /// </summary>
    public static SacConfig Raptor { get; } =
        new()
        {
            Iterations = 1000,
            StepsPerEnv = 1000,
            WarmupSteps = 0,
            LearningStarts = 10_000,
            UpdateToData = 1,
            ActorInterval = 2,
            TargetInterval = 1,
            MiniBatchSize = 128,
            Gamma = 0.99,
            Polyak = 0.005,
            ReplayCapacity = 1_000_000,
            CriticLearningRate = 3e-4,
            AlphaLearningRate = 1e-4,
            InitialAlpha = 0.5,
            TargetEntropy = -2,
            EntropyTarget = EntropyTarget.Undiscounted,
            Actor = new MlpStudent
            {
                ObservationGroup = "teacher",
                Hidden = [64, 64],
                Activation = Activation.Relu,
            },
            Critic = new MlpStudent
            {
                ObservationGroup = "teacher",
                Hidden = [256, 256],
                Activation = Activation.Relu,
            },
            Optimizer = new AdamConfig
            {
                LearningRate = 3e-4,
                Epsilon = 1e-7,
                Floor = 1e-7,
                MaxGradNorm = 0,
            },
        };

    private static MlpStudent Wide =>
        new()
        {
            ObservationGroup = "teacher",
            NormalizeObservations = true,
            Hidden = [256, 256],
            Activation = Activation.Relu,
        };

    /// <summary>
    /// Experts of manipulation (<see cref="Environments.Manipulation.ManipulationConfig"/>) on 32 environments: about a thousand steps an
    /// iteration. Networks, batch, targets and the entropy aimed at are those of collective learning's experts (argator18's
    /// framework, a fork of mtrl). That has an update after each step, gamma 0.99, a learning rate of 3e-4 and a temperature that begins
    /// at 1 and moves by 1e-4; here there is one update after four steps, on normalized observations, gamma is 0.9, the rate falls from
    /// 6e-4, and the temperature begins at 0.1 and moves by 1e-3. Rewards hardly fall around a goal, so that a critic must tell 1 % of
    /// its value for a hand that stops a centimetre too early: it does with the lower gamma.
    /// </summary>
    public static SacConfig Manipulation { get; } =
        new()
        {
            Iterations = 100,
            StepsPerEnv = 32,
            LearningStarts = 1000,
            UpdateToData = 0.25,
            ActorInterval = 1,
            TargetInterval = 2,
            MiniBatchSize = 512,
            Gamma = 0.9,
            Polyak = 0.005,
            ReplayCapacity = 1_000_000,
            AlphaLearningRate = 1e-3,
            InitialAlpha = 0.1,
            Actor = Wide,
            Critic = Wide,
            Optimizer = new AdamConfig { LearningRate = Schedule.Linear(6e-4, 1e-4, 100), MaxGradNorm = 0 },
        };

    /// <summary>Seed of everything random. Same seed, same policy, whatever the number of threads.</summary>
    public ulong Seed { get; init; }

    /// <summary>
    /// Iterations: so many steps, and the updates that are due between them. Schedules count in them. Raise it while the return
    /// still rises, lower it when that stopped long before.
    /// </summary>
    public int Iterations { get; init; } = 1000;

    /// <summary>
    /// Steps of each environment per iteration. Raise it when evaluations and reports come too often, lower it with many
    /// environments.
    /// </summary>
    public int StepsPerEnv { get; init; } = 1000;

    /// <summary>
    /// Steps at the start, of all environments together, whose actions are uniformly random. Raise it where an untrained actor, whose
    /// noise has a deviation of 1 before it is squashed, sees too little of the task; 0 leaves exploration to the actor.
    /// Lower it when random actions end episodes at once.
    /// </summary>
    public int WarmupSteps { get; init; }

    /// <summary>
    /// Steps at the start, of all environments together, that a teacher drives, before chance or the actor do; each number of its actions
    /// is taken as from -1 to 1. Raise it where exploration does not find what is rewarded, lower it where the actor does not get beyond
    /// the teacher.
    /// </summary>
    public int GuidedSteps { get; init; }

    /// <summary>
    /// Steps, of all environments together, before the first update. Raise it when the first updates fit too few samples, lower it
    /// to begin sooner.
    /// </summary>
    public int LearningStarts { get; init; } = 10_000;

    /// <summary>
    /// Updates of the critics per environment step, all environments counted; below 1 there is one every so many steps. Raise it to
    /// learn more from few samples, lower it, with more environments, when samples are cheap: 1/16 and less.
    /// </summary>
    public Schedule UpdateToData { get; init; } = 1;

    /// <summary>
    /// Updates of the critics from one of actor and temperature to the next. Raise it when the actor runs after critics that are
    /// wrong, lower it, to 1, when it learns too slowly.
    /// </summary>
    public int ActorInterval { get; init; } = 2;

    /// <summary>
    /// Updates of the critics from one of their targets to the next. Begin with 1; raise it, with <see cref="Polyak"/>, for targets that
    /// stand still between, lower it when the critics lag.
    /// </summary>
    public int TargetInterval { get; init; } = 1;

    /// <summary>
    /// Transitions per update, drawn uniformly with replacement; critics and actor see the same. Multiples of 32 use the machine
    /// best. Raise it when the losses are noisy, lower it for more updates in the same time.
    /// </summary>
    public int MiniBatchSize { get; init; } = 128;

    /// <summary>Discount per step, in [0, 1]. Raise it when what matters lies more than 1 / (1 - gamma) steps ahead, lower it for a less noisy value.</summary>
    public Schedule Gamma { get; init; } = 0.99;

    /// <summary>
    /// Share of the way that the target critics move to the critics in an update of theirs, in (0, 1]. Lower it when the critics'
    /// values run away, raise it when they follow the return too slowly.
    /// </summary>
    public Schedule Polyak { get; init; } = 0.005;

    /// <summary>
    /// Transitions held at most; then the oldest go. Memory grows as they come. Raise it when the policy forgets what it rarely
    /// sees, lower it when memory is short or old data mislead.
    /// </summary>
    public int ReplayCapacity { get; init; } = 1_000_000;

    /// <summary>
    /// Learning rate of the critics; null for the optimizer's, which is the actor's. Raise it while their loss falls slowly and
    /// smoothly, lower it when it jumps.
    /// </summary>
    public Schedule? CriticLearningRate { get; init; }

    /// <summary>
    /// Learning rate of the temperature's logarithm; 0 keeps it at <see cref="InitialAlpha"/>. Raise it when the entropy stays far
    /// from its target, lower it when it swings around it.
    /// </summary>
    public Schedule AlphaLearningRate { get; init; } = 3e-4;

    /// <summary>
    /// Temperature at the start: what a nat of entropy is worth, in units of reward. Raise it where rewards are large or
    /// exploration dies before it has begun, lower it when the noise drowns them.
    /// </summary>
    public double InitialAlpha { get; init; } = 0.5;

    /// <summary>
    /// Entropy that the temperature holds the actor's actions at, in nats; null for minus the number of action numbers. Raise it for
    /// more exploration, lower it when the noise will not shrink.
    /// </summary>
    public double? TargetEntropy { get; init; }

    /// <summary>Where the entropy bonus stands in the critics' target.</summary>
    public EntropyTarget EntropyTarget { get; init; }

    /// <summary>
    /// A bonus in the critics' target for doing what a teacher would do; null for none. Set it, with a teacher, where exploration alone takes
    /// long to find what is rewarded.
    /// </summary>
    public ImitationBonus? Imitation { get; init; }

    /// <summary>
    /// The actor: a network without memory, or one from a file to go on with; its head is the squashed Gaussian. Widen it when the return
    /// stays low although the critics' loss is small.
    /// </summary>
    public StudentConfig Actor { get; init; } =
        new MlpStudent { ObservationGroup = "teacher", Activation = Activation.Relu };

    /// <summary>
    /// The two critics, likewise; they read the action beside their observation, and may be shown more than the actor. Most of the
    /// time goes here. Widen them while their loss stays high, narrow them for speed.
    /// </summary>
    public StudentConfig Critic { get; init; } =
        new MlpStudent
        {
            ObservationGroup = "teacher",
            Hidden = [256, 256],
            Activation = Activation.Relu,
        };

    /// <summary>The optimizer, for actor, critics and temperature each.</summary>
    public OptimizerConfig Optimizer { get; init; } = new AdamConfig { LearningRate = 3e-4, MaxGradNorm = 0 };

    /// <exception cref="DistillException">A field has a value that cannot work, in some iteration; the message names it.</exception>
    public void Validate()
    {
        Require(Iterations >= 1, "iterations", Iterations, "at least 1");
        Schedule.Check(this, Iterations, now => now.Check());
    }

    /// <summary>Whether there is something for a teacher to do.</summary>
    internal bool NeedsTeacher => Imitation is not null || GuidedSteps > 0;

    /// <summary>What a transition consists of.</summary>
    internal SacTransition Layout(EnvironmentSpec environment) =>
        new(
            SizeOf(Actor, environment),
            Actor.ObservationGroup == Critic.ObservationGroup ? null : SizeOf(Critic, environment),
            environment.Actions.Floats,
            guided: Imitation is not null
        );

    /// <summary>What normalizes the critics' observations; null for nothing.</summary>
    internal Normalizer? CriticNormalizer(EnvironmentSpec environment) =>
        Critic.NormalizeObservations ? new Normalizer(SizeOf(Critic, environment)) : null;

    /// <summary>The entropy that is aimed at.</summary>
    internal double TargetEntropyFor(ActionSpace actions) => TargetEntropy ?? -actions.Size;

    /// <summary>Architecture of the actor.</summary>
    /// <exception cref="DistillException">SAC cannot work with it, or not in this environment.</exception>
    internal NetworkSpec ActorNetwork(EnvironmentSpec environment)
    {
        if (environment.Actions.Discrete)
            throw new DistillException(
                $"SAC gives continuous actions, but those of {environment.Name} are choices; use PPO there."
            );
        Require(
            Actor.Head is null or Head.SquashedGaussian,
            "actor.head",
            Actor.Head,
            "left out, because SAC's actor is a squashed Gaussian"
        );
        var network = Actor.Network(
            SizeOf(Actor, environment),
            environment.Actions.Size,
            Head.SquashedGaussian
        );
        return Memoryless(network, "actor");
    }

    /// <summary>Architecture of a critic: of observation and action.</summary>
    /// <exception cref="DistillException">SAC cannot work with it.</exception>
    internal NetworkSpec CriticNetwork(EnvironmentSpec environment)
    {
        Require(
            Critic.Head is null or Head.Plain,
            "critic.head",
            Critic.Head,
            "left out, because a critic gives a value"
        );
        if (!Critic.Drawn)
            throw new DistillException(
                "SAC's critics cannot come from a file; leave out critic=file, or give the network's sizes."
            );
        var inputs = SizeOf(Critic, environment) + environment.Actions.Size;
        return Memoryless(Critic.Network(inputs, 1, Head.Plain), "critic");
    }

    private static int SizeOf(StudentConfig network, EnvironmentSpec environment) =>
        new ObservationView(environment, network.ObservationGroup).Size;

    private static NetworkSpec Memoryless(NetworkSpec network, string role) =>
        network.Recurrent
            ? throw new DistillException(
                $"SAC learns from single steps, so its {role} cannot have a memory; use {role}=mlp, or PPO."
            )
            : network;

    private void Check()
    {
        Require(StepsPerEnv >= 1, "steps_per_env", StepsPerEnv, "at least 1");
        Require(WarmupSteps >= 0, "warmup_steps", WarmupSteps, "at least 0");
        Require(GuidedSteps >= 0, "guided_steps", GuidedSteps, "at least 0");
        Require(LearningStarts >= 0, "learning_starts", LearningStarts, "at least 0");
        Require(ZeroOrPositive(UpdateToData), "update_to_data", UpdateToData, ZeroOrAbove);
        Require(ActorInterval >= 1, "actor_interval", ActorInterval, "at least 1");
        Require(TargetInterval >= 1, "target_interval", TargetInterval, "at least 1");
        Require(MiniBatchSize >= 1, "mini_batch_size", MiniBatchSize, "at least 1");
        Require(Gamma.Value is >= 0 and <= 1, "gamma", Gamma, "within 0 and 1");
        Require(Positive(Polyak) && Polyak <= 1.0, "polyak", Polyak, "above 0, at most 1");
        Require(ReplayCapacity >= 1, "replay_capacity", ReplayCapacity, "at least 1");
        Require(
            CriticLearningRate is null || Positive(CriticLearningRate.Value),
            "critic_learning_rate",
            CriticLearningRate,
            AboveZero
        );
        Require(ZeroOrPositive(AlphaLearningRate), "alpha_learning_rate", AlphaLearningRate, ZeroOrAbove);
        Require(Positive(InitialAlpha), "initial_alpha", InitialAlpha, AboveZero);
        Require(
            TargetEntropy is null || float.IsFinite((float)TargetEntropy.Value),
            "target_entropy",
            TargetEntropy,
            "a number, or null"
        );
        Imitation?.Check();
        Optimizer.Check();
    }
}
