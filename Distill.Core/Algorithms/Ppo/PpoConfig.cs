using Distill.Environments;
using Distill.Networks;
using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>What happens to PPO's learning rate.</summary>
public enum RateSchedule
{
    /// <summary>
    /// Before every step: divided by 1.5 where the policy has moved more than twice <see cref="PpoConfig.DesiredKl"/> from the
    /// one that collected, multiplied by 1.5 where less than half of it; within <see cref="PpoConfig.MinLearningRate"/> and
    /// <see cref="PpoConfig.MaxLearningRate"/>. Not in iterations with a <see cref="PpoConfig.DistillationCoef"/> above 0.
    /// </summary>
    Adaptive,

    /// <summary>It stays what the optimizer's settings say.</summary>
    Fixed,
}

/// <summary>Whose value PPO takes for what follows where a step limit ends an episode.</summary>
public enum Bootstrap
{
    /// <summary>The state before the last step, as rsl_rl does: close where a step changes little, and nothing more is computed.</summary>
    Before,

    /// <summary>The state that the last step led to, as generalized advantage estimation says; the environment must show it.</summary>
    Reached,
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

    /// <summary>
    /// Trains one teacher of many quadrotors that is told which one it flies: larger networks, and steps that shrink towards the end,
    /// without which the policy strays about its best.
    /// </summary>
    public static PpoConfig Privileged { get; } =
        Quadrotor with
        {
            Iterations = 500,
            DesiredKl = Distill.Schedule.Exponential(0.015, 0.003, 500),
            EntropyCoef = Distill.Schedule.Exponential(0.004, 0.001, 500),
            Actor = new MlpStudent { ObservationGroup = "privileged", Hidden = [128, 128] },
            Critic = new MlpStudent { ObservationGroup = "privileged", Hidden = [128, 128] },
        };

    /// <summary>
    /// Goes on with a policy and a critic that know their task, such as a distilled student and the critic of its teacher's training:
    /// small steps that shrink, and nothing that rewards noise. A critic that has to begin anew would first lead the policy astray.
    /// </summary>
    /// <param name="actor">Of a file. One without a distribution needs <see cref="InitStd"/>, 0.03 or so.</param>
    /// <param name="critic">Of a file: <c>checkpoints/critic.safetensors</c> of a run.</param>
    /// <param name="iterations">80 to adapt a policy to one drone, 400 to improve a student.</param>
    public static PpoConfig GoOn(StudentConfig actor, StudentConfig critic, int iterations) =>
        Quadrotor with
        {
            Iterations = iterations,
            NumMiniBatches = 16,
            Schedule = RateSchedule.Fixed,
            Optimizer = new AdamConfig
            {
                LearningRate = Distill.Schedule.Exponential(2e-4, 1e-5, iterations),
            },
            CriticLearningRate = 3e-4,
            EntropyCoef = 0,
            InitStd = null,
            Actor = actor,
            Critic = critic,
        };

    /// <summary>Seed of everything random. Same seed, same policy, whatever the number of threads.</summary>
    public ulong Seed { get; init; }

    /// <summary>
    /// Where it is computed: on the processor, on an NVIDIA GPU, or on a GPU where there is one and what is asked for runs there, which
    /// is not everything yet (docs/gpu.md). Policies, metrics and checkpoints are the same. Take auto for thousands of environments or
    /// large mini-batches; small ones are faster on the processor.
    /// </summary>
    public ComputeDevice Device { get; init; }

    /// <summary>Iterations (collect, then learn). Raise it while the return still rises, lower it when that stopped long before.</summary>
    public int Iterations { get; init; } = 1500;

    /// <summary>
    /// Steps of each environment per iteration. Raise it when rewards come late or the value function is poor; lower it,
    /// with more environments, for more updates per sample.
    /// </summary>
    public int StepsPerEnv { get; init; } = 24;

    /// <summary>
    /// Probability that a panel of 32 environments starts new episodes at the beginning of an iteration. Environments of a
    /// good policy end their episodes together, by the step limit, so that most rollouts hold no initial states at all and the
    /// policy forgets them; restarts keep the episodes out of step. Raise it when episodes end early although the return is high, lower
    /// it when few episodes come to their end.
    /// </summary>
    public Schedule RestartProbability { get; init; }

    /// <summary>Passes over each rollout. Raise it to learn more from few samples; lower it when the KL divergence runs away.</summary>
    public Schedule NumLearningEpochs { get; init; } = 5;

    /// <summary>
    /// Whose value stands for what follows where the step limit ends an episode; null for the reached state in simulators of another
    /// process or a library that show it, and for the state before elsewhere. Say reached where one step changes the value much.
    /// </summary>
    public Bootstrap? TimeOutBootstrap { get; init; }

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

    /// <summary>
    /// Factor of the value loss. With gradients clipped apart for actor and critic it acts on the critic alone: raise it while that
    /// learns too slowly, lower it when the value loss jumps.
    /// </summary>
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

    /// <summary>
    /// Least that the adaptive schedule lowers the learning rate to. Lower it when the KL divergence stays above what is desired,
    /// raise it when the rate gets stuck there and the return no longer rises.
    /// </summary>
    public Schedule MinLearningRate { get; init; } = 1e-5;

    /// <summary>
    /// Most that the adaptive schedule raises the learning rate to. Lower it when the value loss explodes, raise it when the KL
    /// divergence stays below what is desired.
    /// </summary>
    public Schedule MaxLearningRate { get; init; } = 1e-2;

    /// <summary>
    /// Learning rate of the critic; null for the actor's, whatever the schedule does to it. Set it when the schedule takes
    /// the rate so low that the value loss stops falling: a stale critic misleads the actor. Raise it while that loss falls slowly,
    /// lower it when it jumps.
    /// </summary>
    public Schedule? CriticLearningRate { get; init; }

    /// <summary>Whether the value is kept near its old estimate. Switch it off when returns are far larger than <see cref="ClipParam"/> and the value learns too slowly.</summary>
    public bool UseClippedValueLoss { get; init; } = true;

    /// <summary>Whether advantages are standardized per mini-batch instead of over the whole rollout.</summary>
    public bool NormalizeAdvantagePerMiniBatch { get; init; }

    /// <summary>
    /// Factor of the rewards that advantages and values are made from; reported returns are never scaled. The critic starts
    /// from values of the order of 1: lower it when discounted returns are far above, raise it when they are far below.
    /// </summary>
    public Schedule RewardScale { get; init; } = 1;

    /// <summary>
    /// Standard deviation of continuous actions at the start, in action units; null for 1, or for what an actor's file says.
    /// Lower it when noise alone ends episodes, raise it to explore. An actor from a file is fine-tuned with 0.05 to 0.3.
    /// </summary>
    public double? InitStd { get; init; }

    /// <summary>
    /// The actor: a network of any kind that a student can be, or one from a file to go on with. Give it a memory where one
    /// observation does not tell the state.
    /// </summary>
    public StudentConfig Actor { get; init; } = new MlpStudent { ObservationGroup = "teacher" };

    /// <summary>The critic, likewise; it may be shown more than the actor. Widen it while the value loss stays high.</summary>
    public StudentConfig Critic { get; init; } = new MlpStudent { ObservationGroup = "teacher" };

    /// <summary>
    /// Iterations at the start in which only the critic learns, so that a critic that knows nothing does not mislead an actor that
    /// is good already: 10 to 20 for an actor from a file at a fixed rate, 0 for a new one, or with the adaptive schedule, which
    /// begins slowly by itself. Raise it when the return drops after it, lower it when the value loss has long stopped falling by
    /// then.
    /// </summary>
    public int CriticWarmup { get; init; }

    /// <summary>
    /// Factor of PPO's loss (surrogate and entropy) in the actor's. Begin with 0 and let it rise to 1 to distil first; lower it
    /// when the actor leaves the teacher before it is as good, raise it when it does not get better than its teacher.
    /// </summary>
    public Schedule PpoCoef { get; init; } = 1;

    /// <summary>
    /// Factor of the distillation loss, the actor's distance from the teacher, in the actor's loss; needs a teacher. 1 without
    /// PPO; beside it 1 for cross-entropy, 10 for the squared error of actions, which is a small number, falling to 0 so that the
    /// actor can become better than its teacher. Raise it when the actor forgets what the teacher does, lower it when it gets no
    /// better than that.
    /// </summary>
    public Schedule DistillationCoef { get; init; } = 0;

    /// <summary>
    /// Probability that the teacher drives, per environment and step, within 0 and 1; needs a teacher. Raise it where the actor
    /// alone never reaches what is worth seeing, lower it, to 0, before PPO is to improve on the teacher.
    /// </summary>
    public Schedule Beta { get; init; } = 0;

    /// <summary>
    /// In iterations in which the teacher drives some of the steps: ratio beyond which the gradient of an action that turned out
    /// badly stops, above 1. What the teacher does is not drawn from the actor, so ratios have no bound otherwise. Lower it when
    /// the actor is torn about, raise it to learn more from the teacher's failures.
    /// </summary>
    public Schedule DualClip { get; init; } = 3;

    /// <summary>What the distillation loss is; null for the squared error of actions, or for choices cross-entropy.</summary>
    public Loss? Loss { get; init; }

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

    /// <summary>Whether any iteration needs a teacher.</summary>
    internal bool NeedsTeacher =>
        DistillationCoef.Range(Iterations).Highest > 0 || Beta.Range(Iterations).Highest > 0;

    /// <summary>Whether the critic is shown what the actor sees, as the actor sees it.</summary>
    internal bool SharesObservations =>
        Actor.ObservationGroup == Critic.ObservationGroup
        && Actor.NormalizeObservations == Critic.NormalizeObservations
        && Actor.Drawn
        && Critic.Drawn;

    /// <summary>What a sample consists of.</summary>
    internal SampleLayout Layout(
        EnvironmentSpec environment,
        NetworkSpec actor,
        NetworkSpec critic,
        bool guided
    ) =>
        new(
            actor.Inputs,
            SharesObservations ? null : critic.Inputs,
            environment.Actions.Floats,
            actor.Size.Outputs,
            !guided ? 0
                : GuidingLoss(environment).LabelIsDistribution ? actor.Size.Outputs
                : environment.Actions.Floats,
            actor.Recurrent || critic.Recurrent
        );

    /// <summary>The distillation loss for the actions of an environment.</summary>
    internal Loss GuidingLoss(EnvironmentSpec environment) =>
        Loss ?? (environment.Actions.Discrete ? new CrossEntropy() : new MeanSquared());

    /// <summary>What the actor's outputs mean.</summary>
    /// <exception cref="DistillException">PPO or the distillation loss cannot work with it.</exception>
    internal Head HeadOf(EnvironmentSpec environment)
    {
        var discrete = environment.Actions.Discrete;
        var head = Actor.Head ?? (discrete ? Head.Categorical : Head.Gaussian);
        if (head == Head.Plain || discrete != (head == Head.Categorical))
            throw new DistillException(
                $"actor.head={Word(head)} cannot work: PPO draws the actions of {environment.Name}, which are "
                    + (discrete ? "choices; leave it out." : "continuous; it needs a Gaussian of some kind.")
            );
        if (!GuidingLoss(environment).Fits(head))
            throw new DistillException(
                $"The distillation loss does not fit the actions of {environment.Name}: use "
                    + (discrete ? "cross_entropy or kl." : "mse, huber, gaussian_log_likelihood or kl.")
            );
        return head;
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
        Require(InitStd is null || Positive(InitStd.Value), "init_std", InitStd, AboveZero);
        Require(CriticWarmup >= 0, "critic_warmup", CriticWarmup, "at least 0");
        Require(ZeroOrPositive(PpoCoef), "ppo_coef", PpoCoef, ZeroOrAbove);
        Require(ZeroOrPositive(DistillationCoef), "distillation_coef", DistillationCoef, ZeroOrAbove);
        Require(Beta.Value is >= 0 and <= 1, "beta", Beta, "within 0 and 1");
        Require(Positive(DualClip) && DualClip.Value > 1, "dual_clip", DualClip, "above 1");
        Require(
            Critic.Head is null or Head.Plain,
            "critic.head",
            Critic.Head,
            "left out, because a critic gives a value"
        );
        Loss?.Check();
        Optimizer.Check();
    }
}
