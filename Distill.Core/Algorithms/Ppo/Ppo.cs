using System.Diagnostics;
using Distill.Compute.Cuda;
using Distill.Environments;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) with the details of rsl_rl 4 and later. An
/// iteration collects a rollout with the stochastic actor, estimates advantages, and takes a few passes of gradient steps. With a
/// teacher the actor also minimizes its distance from it: the factors of the two losses and the share of the steps that the
/// teacher drives are schedules, so that distillation, distillation that turns into PPO, and PPO guided by a teacher are settings.
/// </summary>
public sealed class Ppo : IDisposable
{
    private readonly PpoParts parts;
    private readonly IPpoEngine engine;
    private readonly RandomStream restarts;
    private readonly int[] restarted;
    private readonly bool varies;
    private int iteration;
    private long steps;

    // The settings of this iteration.
    private PpoConfig now;

    /// <param name="environment">What to train in; it says how many environments run side by side.</param>
    /// <param name="teacher">Guides the actor; left as it is, and not disposed here. Null for nobody.</param>
    /// <exception cref="DistillException">The settings are wrong or do not fit the environment or the teacher.</exception>
    public Ppo(PpoConfig config, IEnvironmentConfig environment, WorkerPool pool, Policy? teacher = null)
    {
        config.Validate();
        Config = config;
        varies = Schedule.AnyVaries(config);
        now = Schedule.Resolve(config, 0);
        parts = new PpoParts(config, environment, teacher);
        parts.SetLearningRate(now, now.Optimizer.LearningRate);
        try
        {
            engine = config.Device.Make<IPpoEngine>(
                () => new CudaPpo(parts),
                () => new CpuPpo(parts, pool),
                out var reason
            );
            RunsOn = engine is CudaPpo { Name: var name } ? name : $"processor{reason}";
        }
        catch
        {
            parts.Dispose();
            throw;
        }
        restarts = new RandomStream(config.Seed, "ppo.restart");
        restarted = new int[parts.Outcomes.Panels];
    }

    public PpoConfig Config { get; }

    /// <summary>What is trained; flown without noise it is a teacher.</summary>
    public Policy Actor => parts.Actor.Policy;

    /// <summary>What values states, to go on with in another training.</summary>
    public Policy Critic => parts.Critic.Policy;

    /// <summary>The actor's optimizer, for checkpoints.</summary>
    public Optimizer ActorOptimizer => parts.Actor.Optimizer;

    /// <summary>What computes: the GPU's name, or the processor, and why where a GPU might have been taken.</summary>
    public string RunsOn { get; }

    /// <summary>Iterations completed.</summary>
    public int Iteration => iteration;

    /// <summary>For tests and measurements; null on the processor.</summary>
    internal CudaDevice? Gpu => (engine as CudaPpo)?.Device;

    private IBatchedEnvironment Environment => parts.Environment;

    /// <summary>Collect, estimate advantages, learn.</summary>
    /// <exception cref="DistillException">
    /// A number is not finite; the message says which. The networks are as they were before the step that would have taken
    /// it over.
    /// </exception>
    public PpoReport Iterate()
    {
        var started = Stopwatch.GetTimestamp();
        Resolve();
        Restart();
        var turn = new PpoTurn(
            now,
            iteration,
            steps,
            Guided: parts.Guide is { } guide && iteration <= guide.Last,
            Warming: iteration < Config.CriticWarmup
        );
        engine.Collect(turn);
        steps += Config.StepsPerEnv;
        CountEpisodes();
        var collected = Stopwatch.GetTimestamp();

        var losses = engine.Learn(turn);
        FiniteWatch.Require(Actor, "actor", iteration);
        FiniteWatch.Require(Critic, "critic", iteration);
        var episodes = parts.Episodes;
        var report = new PpoReport(
            iteration,
            StepsCollected: steps * Environment.Count,
            losses.Value,
            losses.Surrogate,
            losses.Entropy,
            losses.KlDivergence,
            ActorOptimizer.LearningRate,
            MeanStd(),
            episodes.MeanReturn,
            episodes.MeanLength,
            episodes.ShareTerminated,
            Steps: Config.StepsPerEnv * Environment.Count,
            CollectionSeconds: Stopwatch.GetElapsedTime(started, collected).TotalSeconds,
            LearningSeconds: Stopwatch.GetElapsedTime(collected).TotalSeconds
        )
        {
            BehaviorLoss = turn.Guided && now.DistillationCoef > 0 ? losses.Behavior : null,
            TeacherShare = parts.Guide is null ? null : now.Beta,
        };
        iteration++;
        return report;
    }

    /// <summary>Bytes that parameters and optimizers take.</summary>
    internal static long EstimateBytes(OptimizerConfig optimizer, NetworkSpec actor, NetworkSpec critic)
    {
        var parameters = actor.Size.Parameters + critic.Size.Parameters;
        return parameters * sizeof(float) + optimizer.EstimateBytes(parameters, PpoBatches.MaxChunks);
    }

    /// <summary>Everything that the next iteration depends on.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        state.Count("steps", ref steps);
        engine.Visit(state);
    }

    public void Dispose()
    {
        engine.Dispose();
        parts.Dispose();
    }

    /// <summary>The settings of this iteration. What an adaptive schedule made of the learning rate stays.</summary>
    private void Resolve()
    {
        now = varies ? Schedule.Resolve(Config, iteration) : Config;
        (parts.Actor.Optimizer.Config, parts.Critic.Optimizer.Config) = (now.Optimizer, now.Optimizer);
        parts.SetLearningRate(
            now,
            now.Schedule == RateSchedule.Fixed ? now.Optimizer.LearningRate : ActorOptimizer.LearningRate
        );
    }

    /// <summary>
    /// Starts new episodes in some panels, so that they are out of step, or in all where theirs were lost. The rollout before has valued
    /// their last states already, so nothing is lost but the statistics of the unfinished episodes.
    /// </summary>
    private void Restart()
    {
        var (lost, count) = (Environment.Lost, 0);
        for (var panel = 0; panel < restarted.Length; panel++)
        {
            if (!lost && restarts.Uniform((uint)panel, (uint)iteration) >= now.RestartProbability)
                continue;
            restarted[count++] = panel;
            var first = panel * Panel.Width;
            for (var env = first; env < Math.Min(first + Panel.Width, Environment.Count); env++)
                parts.Episodes.Abandon(env);
        }
        engine.Restart(restarted.AsSpan(0, count));
    }

    /// <summary>Episode statistics in the order of time, then environment, so that threads do not matter.</summary>
    private void CountEpisodes()
    {
        var (outcomes, episodes) = (parts.Outcomes, parts.Episodes);
        for (var step = 0; step < Config.StepsPerEnv; step++)
        for (var panel = 0; panel < outcomes.Panels; panel++)
        {
            var first = panel * Panel.Width;
            var lanes = Math.Min(Panel.Width, Environment.Count - first);
            var rewards = outcomes.Rewards(panel).Row(step);
            var terminated = outcomes.Terminated(panel).Row(step);
            var truncated = outcomes.Truncated(panel).Row(step);
            var counted = outcomes.Counted(panel, step);
            for (var lane = 0; lane < lanes; lane++)
                if (counted.IsEmpty || counted[lane] != 0)
                    episodes.Add(first + lane, rewards[lane], terminated[lane] != 0, truncated[lane] != 0);
        }
    }

    private double? MeanStd()
    {
        var logStd = Actor.Network["log_std"];
        if (logStd.IsEmpty)
            return null;
        var sum = 0.0;
        foreach (var value in logStd)
            sum += Math.Exp(value);
        return sum / logStd.Length;
    }
}
