using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>What PPO works on, wherever it computes: environments, actor and critic, and the books.</summary>
internal sealed class PpoParts : IDisposable
{
    /// <exception cref="DistillException">The settings do not fit the environment or the teacher.</exception>
    public PpoParts(PpoConfig config, IEnvironmentConfig environment, Policy? teacher)
    {
        Config = config;
        Environment = environment.Create(environment.Envs, new RandomStream(config.Seed, "training").Seed());
        var spec = Environment.Spec;
        Actor = At(Create("actor", config.Actor, spec.Actions.Size, config.HeadOf(spec)), observes: true);
        var shared = config.SharesObservations;
        Critic = At(Create("critic", config.Critic, outputs: 1, Head.Plain), observes: !shared);
        // What it sees then is normalized by the actor's: so must it be for whoever goes on with it from a file.
        if (shared)
            Critic.Policy.Normalizer = Actor.Policy.Normalizer;
        Actor.Policy.Check(spec, "actor");
        CheckCritic();
        StartDeviation();
        if (teacher is not null)
            Guide = new PpoGuide(config, teacher, Actor.Policy, Environment);
        else if (config.NeedsTeacher)
            throw new DistillException(
                $"distillation_coef={config.DistillationCoef} and beta={config.Beta} need a teacher: add teacher=FILE."
            );
        Layout = config.Layout(spec, Actor.Network.Spec, Critic.Network.Spec, guided: Guide is not null);
        ValuesReached = DecideBootstrap();
        Outcomes = new PpoOutcomes(
            Environment.Count,
            config.StepsPerEnv,
            pauses: Environment is ILockstepEnvironment { Pauses: true }
        );
        config.Actor.Prepare(Actor.Optimizer, Actor.Policy);
        config.Critic.Prepare(Critic.Optimizer, Critic.Policy);
        Episodes = new EpisodeStatistics(Environment.Count);
        Noise = new RandomStream(config.Seed, "ppo.action");
        Shuffling = new RandomStream(config.Seed, "ppo.shuffle");
        for (var panel = 0; panel < Outcomes.Panels; panel++)
            Environment.Reset(panel);

        PpoNetwork At(Policy policy, bool observes) =>
            new(policy, Environment, config.Optimizer, PpoBatches.MaxChunks, observes);
    }

    public PpoConfig Config { get; }

    public IBatchedEnvironment Environment { get; }

    public PpoNetwork Actor { get; }

    public PpoNetwork Critic { get; }

    /// <summary>Null without a teacher.</summary>
    public PpoGuide? Guide { get; }

    public SampleLayout Layout { get; }

    /// <summary>Whether the states in which step limits end episodes are valued.</summary>
    public bool ValuesReached { get; }

    /// <summary>Of the last rollout.</summary>
    public PpoOutcomes Outcomes { get; }

    /// <summary>Training episodes.</summary>
    public EpisodeStatistics Episodes { get; }

    /// <summary>Draws actions.</summary>
    public RandomStream Noise { get; }

    /// <summary>Draws the order of samples.</summary>
    public RandomStream Shuffling { get; }

    /// <summary>Samples of a rollout: steps, or of networks with memories whole sequences.</summary>
    public int Samples => Environment.Count * (Sequences ? 1 : Config.StepsPerEnv);

    /// <summary>Whether samples are sequences.</summary>
    public bool Sequences => Layout.Keep.Size > 0;

    /// <summary>Sets the actor's rate, and the critic's where it has none of its own.</summary>
    public void SetLearningRate(PpoConfig now, double rate)
    {
        Actor.Optimizer.LearningRate = rate;
        Critic.Optimizer.LearningRate = now.CriticLearningRate?.Value ?? rate;
    }

    /// <summary>Everything that the next iteration depends on.</summary>
    /// <param name="remembered">Visits what an engine remembers of the environments.</param>
    public void Visit(State state, Action<State>? remembered = null)
    {
        Actor.Visit(state, "actor");
        Critic.Visit(state, "critic");
        remembered?.Invoke(state);
        Guide?.Visit(state);
        state.Part("episodes", Episodes.Visit);
        state.Part("environment", Environment.Visit);
    }

    public void Dispose()
    {
        Environment.Dispose();
        Actor.Dispose();
        Critic.Dispose();
        Guide?.Dispose();
        Outcomes.Dispose();
    }

    private Policy Create(string role, StudentConfig network, int outputs, Head head) =>
        network.Create(
            new ObservationView(Environment.Spec, network.ObservationGroup).Size,
            outputs,
            head,
            new RandomStream(Config.Seed, role)
        );

    private void CheckCritic()
    {
        var (network, group) = (Critic.Network.Spec, Config.Critic.ObservationGroup);
        var size = new ObservationView(Environment.Spec, group).Size;
        if (network.Inputs != size || network.Outputs != 1)
            throw new DistillException(
                $"The critic reads {network.Inputs} numbers and gives {network.Outputs}, but observation group '{group}' of "
                    + $"{Environment.Spec.Name} has {size}, and a value is one number."
            );
    }

    /// <summary>Where the settings say with which deviation exploration begins, that replaces the actor's own.</summary>
    private void StartDeviation()
    {
        if (Actor.Policy.Distribution is Categorical)
            return;
        var logStd = Actor.Network["log_std"];
        if (Config.InitStd is null && !Config.Actor.Described)
            throw new DistillException(
                "The actor's file does not say how far to explore, because it gives actions, not a distribution; add init_std=0.1 or so."
            );
        if (Config.InitStd is not { } std)
            return;
        if (logStd.IsEmpty)
            throw new DistillException(
                $"init_std={std} cannot work: this actor's deviation is not a parameter of its own."
            );
        logStd.Fill((float)Math.Log(std));
    }

    private bool DecideBootstrap()
    {
        var can = RolloutLoop.CanShowEnds(Environment);
        if (Config.TimeOutBootstrap == Bootstrap.Reached && !can)
            throw new DistillException(
                $"time_out_bootstrap=reached cannot work: {Environment.Spec.Name} does not show the states in which its episodes end."
            );
        return Config.TimeOutBootstrap switch
        {
            { } said => said == Bootstrap.Reached,
            null => can && Environment is ILockstepEnvironment,
        };
    }
}
