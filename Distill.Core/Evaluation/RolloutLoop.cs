using Distill.Environments;

namespace Distill.Evaluation;

/// <summary>One step of one panel of environments.</summary>
/// <param name="panel">Index of the panel.</param>
/// <param name="number">Index of the step within the rollout.</param>
/// <param name="own">Scratch memory; what is taken during a call is given back after it.</param>
public readonly ref struct PanelStep(
    int panel,
    int number,
    Workspace own,
    Panel action,
    StepOutcome outcome,
    ReadOnlySpan<byte> counted = default
)
{
    public int Panel { get; } = panel;
    public int Number { get; } = number;
    public Workspace Own { get; } = own;

    /// <summary>Index of the environment in lane 0.</summary>
    public int First => Panel * Compute.Panel.Width;

    /// <summary><c>[action floats, 32]</c>: what the environments are to do.</summary>
    public Panel Action { get; } = action;

    /// <summary><c>[32]</c>: what the step brought; likewise below.</summary>
    public Span<float> Reward { get; } = outcome.Reward;
    public Span<float> Terminated { get; } = outcome.Terminated;
    public Span<float> Truncated { get; } = outcome.Truncated;

    /// <summary><c>[measures, 32]</c>, or empty where nobody asked for them.</summary>
    public Span<float> Measures { get; } = outcome.Measures;

    /// <summary>
    /// <c>[32]</c>: 0 in lanes that spend the step on beginning another episode (<see cref="ILockstepEnvironment.Counted"/>); empty where
    /// all count.
    /// </summary>
    public ReadOnlySpan<byte> Counted { get; } = counted;

    /// <summary>Whether the step of a lane counts.</summary>
    public bool Counts(int lane) => Counted.IsEmpty || Counted[lane] != 0;

    /// <summary>Whether the episode in a lane ended with this step.</summary>
    public bool Done(int lane) => Terminated[lane] != 0 || Truncated[lane] != 0;
}

/// <summary>Who acts in a rollout, and what is kept of it. Calls for different panels come from different threads.</summary>
public interface IRollout
{
    /// <summary>Before the first step of a panel.</summary>
    void Begin(int panel);

    /// <summary>Observes, and fills the step's actions.</summary>
    /// <returns>Whether the panel goes on.</returns>
    bool Act(in PanelStep step);

    /// <summary>Takes what the step brought.</summary>
    /// <returns>Whether the panel goes on.</returns>
    bool Take(in PanelStep step);

    /// <summary>After the last step of a panel that went on to the end.</summary>
    void End(int panel, Workspace own);
}

/// <summary>A rollout that wants to see the states in which episodes end.</summary>
public interface IArrivingRollout : IRollout
{
    /// <summary>
    /// In the states that a step led to, its outcome known, before other episodes start. Called between <see cref="IRollout.Act"/>
    /// and <see cref="IRollout.Take"/> where the environment can show them (<see cref="RolloutLoop.CanShowEnds"/>), else never.
    /// </summary>
    void Arrive(in PanelStep step);

    /// <summary>Whether it is to be called.</summary>
    bool WantsEnds => true;
}

/// <summary>
/// The loop of policies and environments that training, evaluation and recording share. Where panels step independently,
/// each runs all its steps on one worker, while its state is in cache; where a batch steps as a whole, all panels act, the
/// batch steps, all panels are shown where episodes ended if they want to, and take what the step brought.
/// </summary>
public sealed class RolloutLoop : IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly WorkerPool pool;
    private readonly IRollout rollout;
    private readonly int actions;
    private readonly int outcomeRows;
    private readonly int panels;
    private readonly Work independent;
    private readonly Lockstep? lockstep;
    private readonly IArrivingRollout? arriving;
    private readonly IHoldingEnvironment? holding;
    private int steps;

    /// <param name="measured">Whether the rollout wants the environment's extra measures.</param>
    public RolloutLoop(
        IBatchedEnvironment environment,
        WorkerPool pool,
        IRollout rollout,
        bool measured = false
    )
    {
        (this.environment, this.pool, this.rollout) = (environment, pool, rollout);
        actions = environment.Spec.Actions.Floats;
        outcomeRows = StepOutcome.Rows + (measured ? environment.Spec.Measures.Count : 0);
        panels = Panel.Count(environment.Count);
        if (rollout is IArrivingRollout { WantsEnds: true } wanting && CanShowEnds(environment))
            (arriving, holding) = (wanting, environment as IHoldingEnvironment);
        independent = new Work(RunPanel);
        lockstep = environment is ILockstepEnvironment whole ? new Lockstep(this, whole) : null;
    }

    /// <summary>Whether the rollout is shown the states in which episodes end.</summary>
    public bool ShowsEnds => arriving is not null;

    /// <summary>Whether an environment can show the states in which its episodes end.</summary>
    public static bool CanShowEnds(IBatchedEnvironment environment) =>
        environment is IHoldingEnvironment or ILockstepEnvironment { ShowsEnds: true };

    /// <summary>Runs every environment for at most so many steps; a panel ends earlier where its rollout says so.</summary>
    public void Run(int steps)
    {
        this.steps = steps;
        if (lockstep is null)
            pool.Run(independent, panels);
        else
            lockstep.Run();
    }

    public void Dispose() => lockstep?.Dispose();

    private void RunPanel(int panel, int worker)
    {
        var own = pool.Workspace(worker);
        using var whole = own.Open();
        var action = own.Panel(actions);
        var outcome = new StepOutcome(own.Floats(outcomeRows * Panel.Width));
        rollout.Begin(panel);
        for (var number = 0; number < steps; number++)
        {
            using var inner = own.Open();
            var step = new PanelStep(panel, number, own, action, outcome);
            if (!rollout.Act(step))
                return;
            Step(step, outcome);
            if (!rollout.Take(step))
                return;
        }
        rollout.End(panel, own);
    }

    private void Step(in PanelStep step, StepOutcome outcome)
    {
        if (!ShowsEnds)
        {
            environment.Step(step.Panel, step.Action.Values, outcome);
            return;
        }
        holding!.Advance(step.Panel, step.Action.Values, outcome);
        arriving!.Arrive(step);
        if (outcome.AnyEnded)
            holding.Restart(step.Panel, outcome);
    }

    /// <summary>The loop for a batch that steps as a whole.</summary>
    private sealed class Lockstep : IDisposable
    {
        private readonly RolloutLoop loop;
        private readonly ILockstepEnvironment environment;
        private readonly FloatBuffer actions;
        private readonly FloatBuffer outcomes;
        private readonly bool[] running;
        private readonly byte[] counted;
        private readonly Work begin;
        private readonly Work act;
        private readonly Work arrive;
        private readonly Work take;
        private readonly Work end;
        private int number;

        public Lockstep(RolloutLoop loop, ILockstepEnvironment environment)
        {
            (this.loop, this.environment) = (loop, environment);
            var lanes = (long)loop.panels * Panel.Width;
            actions = new FloatBuffer(lanes * loop.actions);
            outcomes = new FloatBuffer(lanes * loop.outcomeRows);
            running = new bool[loop.panels];
            counted = new byte[environment.Pauses ? lanes : 0];
            Part acting = Act;
            Part arriving = Arrive;
            Part taking = loop.rollout.Take;
            begin = new Work((panel, _) => loop.rollout.Begin(panel));
            act = new Work((panel, worker) => Call(panel, worker, acting));
            arrive = new Work((panel, worker) => Call(panel, worker, arriving));
            take = new Work((panel, worker) => Call(panel, worker, taking));
            end = new Work(
                (panel, worker) =>
                {
                    if (running[panel])
                        loop.rollout.End(panel, loop.pool.Workspace(worker));
                }
            );
        }

        public void Run()
        {
            running.AsSpan().Fill(true);
            loop.pool.Run(begin, loop.panels);
            environment.Begin();
            for (number = 0; number < loop.steps && running.AsSpan().Contains(true); number++)
            {
                loop.pool.Run(act, loop.panels);
                environment.Step(actions.Span, outcomes.Span);
                ShowEnds();
                loop.pool.Run(take, loop.panels);
            }
            loop.pool.Run(end, loop.panels);
        }

        public void Dispose()
        {
            actions.Dispose();
            outcomes.Dispose();
        }

        private void ShowEnds()
        {
            if (!loop.ShowsEnds)
                return;
            environment.ShowEnds(true);
            loop.pool.Run(arrive, loop.panels);
            environment.ShowEnds(false);
        }

        private delegate bool Part(in PanelStep step);

        private bool Act(in PanelStep step)
        {
            // Of the step that follows, so that it is kept until what that brings was taken.
            if (environment.Pauses)
                environment.Counted(step.Panel).CopyTo(counted.AsSpan(step.First));
            return loop.rollout.Act(step);
        }

        private bool Arrive(in PanelStep step)
        {
            loop.arriving!.Arrive(step);
            return true;
        }

        private void Call(int panel, int worker, Part part)
        {
            if (!running[panel])
                return;
            var own = loop.pool.Workspace(worker);
            using var scope = own.Open();
            var action = Panel.At(actions.Span, panel, loop.actions);
            var outcome = new StepOutcome(Panel.At(outcomes.Span, panel, loop.outcomeRows).Values);
            var counts = counted.AsSpan(
                environment.Pauses ? panel * Panel.Width : 0,
                environment.Pauses ? Panel.Width : 0
            );
            running[panel] = part(new PanelStep(panel, number, own, action, outcome, counts));
        }
    }
}
