namespace Distill.Environments.Manipulation;

/// <summary>
/// MetaWorld's tasks reach, push, pick-place, drawer-open and button-press-topdown, each environment one of them, with its observations,
/// actions, rewards, successes and random starts, in scenes of its own without an arm. Episodes end at the step limit; and, as terminal, where MuJoCo's state was
/// not finite: then the reward is 0, the measure warnings says how often MuJoCo warned, and the last finite state is shown.
/// </summary>
public sealed class ManipulationEnvironment : IHoldingEnvironment
{
    private readonly ManipulationTask[] tasks;
    private readonly ExpertNoise noise;
    private readonly World[] worlds;
    private readonly NativeBuffer<Episode> episodes;
    private readonly RandomStream starts;
    private readonly RandomStream noises;
    private bool disposed;

    /// <param name="seed">With an environment's index and the number of its episode, it determines all random numbers.</param>
    /// <exception cref="DistillException">The configuration is wrong, or MuJoCo is missing.</exception>
    public ManipulationEnvironment(ManipulationConfig config, ulong seed)
    {
        Spec = config.CheckedSpec();
        (Count, tasks, noise) = (config.Envs, [.. config.Tasks], config.ExpertNoise);
        (starts, noises) = (new(seed, "manipulation.reset"), new(seed, "manipulation.noise"));
        episodes = new(Count);
        worlds = new World[Count];
        for (var environment = 0; environment < Count; environment++)
        {
            var table = Tabletop.Load(TaskOf(environment));
            worlds[environment] = new(table, MujocoCalls.MakeData(table.Model));
        }
        Rewind();
    }

    public EnvironmentSpec Spec { get; }

    public int Count { get; }

    public int VariantOf(int environment) => environment % tasks.Length;

    public void Reset(int panel)
    {
        for (var lane = 0; lane < Lanes(panel); lane++)
            Start(panel * Panel.Width + lane);
    }

    public void Observe(int panel, int group, Span<float> observation)
    {
        observation.Clear();
        for (var lane = 0; lane < Lanes(panel); lane++)
        {
            var environment = panel * Panel.Width + lane;
            ref readonly var episode = ref episodes.Span[environment];
            switch (group)
            {
                case ManipulationViews.Task:
                    observation[(int)TaskOf(environment) * Panel.Width + lane] = 1;
                    break;
                case ManipulationViews.Expert:
                    Advise(environment, episode, 0, observation, lane);
                    break;
                case ManipulationViews.NoisyExpert:
                    var progress = (double)episode.Step / Spec.EpisodeLimit;
                    Advise(environment, episode, noise.At(progress), observation, lane);
                    break;
                default:
                    var shown = ManipulationViews.FrameSize * Panel.Width;
                    ManipulationViews.Write(episode.Now, observation, lane);
                    if (group != ManipulationViews.Reduced)
                    {
                        ManipulationViews.Write(episode.Before, observation[shown..], lane);
                        shown *= 2;
                    }
                    ManipulationViews.Write(episode.Goal, observation[shown..], lane);
                    break;
            }
        }
    }

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        Advance(panel, actions, outcome);
        if (outcome.AnyEnded)
            Restart(panel, outcome);
    }

    public void Advance(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        outcome.Reward.Clear();
        outcome.Terminated.Clear();
        outcome.Truncated.Clear();
        outcome.Measures.Clear();
        for (var lane = 0; lane < Lanes(panel); lane++)
            Advance(panel * Panel.Width + lane, lane, actions, outcome);
    }

    public void Restart(int panel, StepOutcome outcome)
    {
        for (var lane = 0; lane < Lanes(panel); lane++)
            if (outcome.Terminated[lane] + outcome.Truncated[lane] != 0)
                Start(panel * Panel.Width + lane);
    }

    public void Rewind()
    {
        episodes.Span.Clear();
        for (var panel = 0; panel < Panel.Count(Count); panel++)
            Reset(panel);
    }

    public void Visit(State state)
    {
        state.Block("manipulation.episodes", episodes.Span);
        foreach (ref readonly var episode in episodes.Span)
        {
            state.Require("manipulation.episodes", episode.Step >= 0, episode.Step, "a count");
            state.Require("manipulation.episodes", episode.Started >= 0, episode.Started, "a count");
        }
        using var states = new NativeBuffer<double>(worlds.Sum(world => (long)world.StateSize));
        // Whether something is saved or restored cannot be told, so MuJoCo gets back what it gave, or what was saved.
        Copy(into: false);
        state.Block("manipulation.states", states.Span);
        Copy(into: true);

        void Copy(bool into)
        {
            var rest = states.Span;
            foreach (var world in worlds)
            {
                world.Copy(rest[..world.StateSize], into);
                rest = rest[world.StateSize..];
            }
        }
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        foreach (var world in worlds)
            MujocoCalls.DeleteData(world.Data);
        episodes.Dispose();
    }

    private int Lanes(int panel) => Math.Min(Panel.Width, Count - panel * Panel.Width);

    private ManipulationTask TaskOf(int environment) => tasks[VariantOf(environment)];

    private void Start(int environment)
    {
        ref var episode = ref episodes.Span[environment];
        episode = new() { Started = episode.Started + 1 };
        var layout = Starts.Draw(TaskOf(environment), starts, environment, episode.Started);
        episode.Goal = layout.Goal;
        worlds[environment].Reset(layout);
        episode.Start = episode.Now = episode.Before = worlds[environment].Look();
        episode.StartGrip = worlds[environment].Grip();
    }

    private void Advance(int environment, int lane, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        ref var episode = ref episodes.Span[environment];
        var world = worlds[environment];
        var close = Number(actions, 3);
        var finite = world.Step(
            Number(actions, 0),
            Number(actions, 1),
            Number(actions, 2),
            close,
            environment,
            out var warnings
        );
        episode.Step++;
        episode.Warnings += warnings;
        if (finite)
        {
            episode.Before = episode.Now;
            episode.Now = world.Look();
        }
        var gain = Rewards.Of(TaskOf(environment), episode, finite ? world.Grip() : episode.StartGrip, close);
        outcome.Reward[lane] = finite ? (float)gain.Reward : 0;
        outcome.Terminated[lane] = finite ? 0 : 1;
        outcome.Truncated[lane] = finite && episode.Step >= Spec.EpisodeLimit ? 1 : 0;
        if (outcome.Measures.Length == 0)
            return;
        outcome.Measures[lane] = outcome.Measures[Panel.Width + lane] = finite && gain.Success ? 1 : 0;
        outcome.Measures[2 * Panel.Width + lane] = (float)gain.ToGoal;
        outcome.Measures[3 * Panel.Width + lane] = episode.Warnings;

        double Number(ReadOnlySpan<float> from, int i) =>
            Math.Clamp((double)from[i * Panel.Width + lane], -1, 1);
    }

    /// <summary>Writes what the scripted expert would do, with noise of that deviation.</summary>
    private void Advise(int environment, in Episode episode, double deviation, Span<float> rows, int lane)
    {
        Span<double> action = stackalloc double[ManipulationViews.ActionSize];
        ScriptedExpert.Act(TaskOf(environment), episode.Now, episode.Goal, action);
        for (var i = 0; i < action.Length; i++)
        {
            var added =
                deviation > 0
                    ? deviation
                        * noises.Normal((uint)environment, (uint)episode.Started, (uint)episode.Step, (uint)i)
                    : 0;
            rows[i * Panel.Width + lane] = (float)Math.Clamp(action[i] + added, -1, 1);
        }
    }
}
