using System.Diagnostics.CodeAnalysis;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Recorded;
using Distill.Evaluation;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Fills a rollout. At every step teacher and student look at the same state; the acting schedule decides whose action is
/// executed, the teacher's is always the label.
/// </summary>
public sealed class RolloutCollector : IRollout, IDisposable
{
    private readonly IBatchedEnvironment environment;
    private ITeacher teacher;
    private readonly ActingPolicy student;
    private readonly Rollout rollout;
    private readonly RandomStream acting;
    private readonly RandomStream exploring;
    private readonly bool wholeEpisodes;
    private readonly bool labelIsDistribution;
    private readonly (Column Column, ObservationView View)[] recorded;
    private readonly Column? studentAction;
    private readonly ObservationStatistics? statistics;
    private readonly byte[] starting;
    private readonly byte[] alive;
    private readonly FiniteWatch watch;
    private readonly RolloutLoop loop;
    private LaterLabels? later;
    private double teacherShare;
    private double exploration;
    private long steps;

    /// <param name="teacher">Is disposed here.</param>
    /// <param name="rollout">
    /// Its columns: the student's observation, the label, then whatever is to be recorded of observation groups and of
    /// <see cref="StudentAction"/>, by name.
    /// </param>
    /// <param name="acting">Draws who drives.</param>
    /// <param name="exploring">Draws the noise of a student that explores.</param>
    /// <param name="labelIsDistribution">Whether the label is all that describes the teacher's distribution, not its action.</param>
    /// <param name="wholeEpisodes">Every collection starts new episodes and keeps one per environment.</param>
    /// <exception cref="DistillException">The student or a column does not fit the environment.</exception>
    public RolloutCollector(
        IBatchedEnvironment environment,
        ITeacher teacher,
        Policy student,
        Rollout rollout,
        RandomStream acting,
        bool wholeEpisodes,
        WorkerPool pool,
        RandomStream exploring = default,
        bool labelIsDistribution = false
    )
    {
        this.environment = environment;
        this.student = new ActingPolicy(student, environment, "student");
        this.rollout = rollout;
        this.acting = acting;
        this.exploring = exploring;
        this.wholeEpisodes = wholeEpisodes;
        this.labelIsDistribution = labelIsDistribution;
        var extra = rollout.Table.Columns.Skip(2).ToLookup(column => column.Name == StudentAction);
        recorded =
        [
            .. extra[false].Select(column => (column, new ObservationView(environment.Spec, column.Name))),
        ];
        studentAction = extra[true].Select(column => (Column?)column).FirstOrDefault();
        if (student.Normalizer is { } normalizer)
            statistics = new ObservationStatistics(normalizer, environment.Count);
        var panels = Panel.Count(environment.Count);
        starting = new byte[panels * Panel.Width];
        starting.AsSpan().Fill(1);
        alive = new byte[panels * Panel.Width];
        watch = new FiniteWatch(environment.Count);
        loop = new RolloutLoop(environment, pool, this);
        Use(teacher);
        for (var panel = 0; panel < panels; panel++)
            environment.Reset(panel);
    }

    /// <summary>Name of the column that holds what the student would do or did.</summary>
    public const string StudentAction = "student_action";

    /// <summary>Runs every environment for the rollout's steps.</summary>
    /// <param name="teacherShare">Probability that the teacher drives, per environment and step.</param>
    /// <param name="iteration">For the message.</param>
    /// <param name="exploration">How far the student's actions are drawn away from what it deems best; see <see cref="Policy.Explore"/>.</param>
    /// <exception cref="DistillException">An observation, an action or a reward of a valid row is not finite.</exception>
    public void Collect(double teacherShare, int iteration = 0, double exploration = 0)
    {
        (this.teacherShare, this.exploration) = (teacherShare, exploration);
        if (environment.Lost && !wholeEpisodes)
            for (var panel = 0; panel < Panel.Count(environment.Count); panel++)
                Restart(panel);
        loop.Run(rollout.Steps);
        watch.Check(iteration);
        steps += rollout.Steps;
    }

    /// <summary>Takes what the student saw to what is trained on; null for the same.</summary>
    internal SteadyStateCorrection? Correction { get; init; }

    /// <summary>The environment, where it shows what was recorded: lanes end where that does.</summary>
    internal RecordedEnvironment? Recorded { get; init; }

    /// <summary>What labels.</summary>
    internal ITeacher Teacher => teacher;

    /// <summary>The student's memory, <c>[panels, memory, 32]</c>.</summary>
    internal Span<float> StudentMemories => student.Memories;

    /// <summary><c>[panels, 32]</c>: 1 where an episode starts with the next step.</summary>
    internal Span<byte> Starting => starting;

    /// <summary>Steps of every environment since the start.</summary>
    internal long Steps
    {
        get => steps;
        set => steps = value;
    }

    /// <summary>Whether <see cref="Use"/> brings a teacher before every collection, so that none needs to be saved.</summary>
    internal bool ChangesTeacher { get; init; }

    /// <summary>Goes on with another teacher, whose memory is empty. Only between collections of whole episodes.</summary>
    /// <param name="now">Is disposed here.</param>
    [MemberNotNull(nameof(teacher))]
    internal void Use(ITeacher now)
    {
        if (now != teacher)
            teacher?.Dispose();
        later?.Dispose();
        teacher = now;
        later = now.Reads is null
            ? null
            : new LaterLabels(environment, now, rollout, labelIsDistribution, watch);
    }

    /// <summary>Brings the student's normalizer up to date with the valid rows that were collected.</summary>
    public void Normalize() => statistics?.Merge();

    void IRollout.Begin(int panel)
    {
        alive.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
        if (Recorded is not null)
            BeginRecorded(panel, Recorded);
        if (wholeEpisodes)
            Restart(panel);
    }

    bool IRollout.Act(in PanelStep step)
    {
        var (panel, own) = (step.Panel, step.Own);
        Span<byte> counted = stackalloc byte[Panel.Width];
        Count(step, counted);
        Span<float> keep = stackalloc float[Panel.Width];
        for (var lane = 0; lane < Panel.Width; lane++)
            keep[lane] = 1 - starting[step.First + lane];
        teacher.Forget(panel, keep);
        student.Forget(panel, keep);
        if (step.Number % rollout.Sequence == 0)
            RecordMemory(panel, step.Number / rollout.Sequence);

        var columns = rollout.Table.Columns;
        var row = own.Panel(columns.Size);
        var observation = columns[0].Of(row);
        var label = columns[1].Of(row);
        var advice = labelIsDistribution ? own.Panel(step.Action.Features) : label;
        var time = steps + step.Number;
        student.Observe(panel, observation);
        if (!Label(step, time, advice, labelIsDistribution ? label : default, counted))
            return false;
        var action = own.Panel(step.Action.Features);
        var outputs = student.Forward(panel, observation, own);
        student.Policy.Explore(outputs, action, (float)exploration, exploring, step.First, time, own);
        if (
            watch.Catches(panel, step.Number, "student's observation", observation.Values, counted)
            || watch.Catches(panel, step.Number, "student's action", outputs.Values, counted)
        )
            return false;
        ChooseDriver(step, advice, action);

        Correction?.Apply(panel, observation);
        foreach (var (column, view) in recorded)
            view.Observe(environment, panel, column.Of(row));
        if (studentAction is { } copy)
            action.Values.CopyTo(copy.Of(row).Values);
        statistics?.Add(panel, observation, counted);
        rollout.Table.Scatter(row, step.First * rollout.Steps + step.Number, rollout.Steps, Lanes(panel));
        return true;
    }

    bool IRollout.Take(in PanelStep step)
    {
        var start = starting.AsSpan(step.First, Panel.Width);
        var living = alive.AsSpan(step.First, Panel.Width);
        Span<byte> counted = stackalloc byte[Panel.Width];
        Count(step, counted);
        if (watch.Catches(step.Panel, step.Number, "reward", step.Reward, counted))
            return false;
        var rewards = rollout.Rewards.Span;
        var row = step.First * rollout.Steps + step.Number;
        for (var lane = 0; lane < Lanes(step.Panel); lane++, row += rollout.Steps)
        {
            rewards[row] = step.Reward[lane];
            rollout.EpisodeStart[row] = start[lane];
            rollout.Valid[row] = counted[lane];
            rollout.Ends[row] =
                step.Terminated[lane] != 0 ? EpisodeEnd.Terminated
                : step.Truncated[lane] != 0 ? EpisodeEnd.Truncated
                : EpisodeEnd.None;
        }
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            start[lane] = step.Done(lane) || !step.Counts(lane) ? (byte)1 : (byte)0;
            if (wholeEpisodes && step.Done(lane))
                living[lane] = 0;
        }
        if (Recorded is not null)
            CountRecorded(step.Panel, Recorded, step.Number + 1);
        return !LabelsLater || later!.Write(step);
    }

    void IRollout.End(int panel, Workspace own) { }

    public void Visit(State state)
    {
        state.Count("steps", ref steps);
        state.Flags("starting", starting);
        if (!ChangesTeacher)
            teacher.Visit(state);
        student.Visit(state, "student_memory");
        state.Part("environment", environment.Visit);
    }

    public void Dispose()
    {
        later?.Dispose();
        teacher.Dispose();
        student.Dispose();
        loop.Dispose();
    }

    private int Lanes(int panel) => Math.Min(Panel.Width, environment.Count - panel * Panel.Width);

    /// <summary>Starts new episodes in a panel.</summary>
    private void Restart(int panel)
    {
        environment.Reset(panel);
        starting.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
    }

    /// <summary>Which rows of a step are valid: those of episodes that are kept, in steps that count.</summary>
    private void Count(in PanelStep step, Span<byte> counted)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
            counted[lane] = step.Counts(lane) ? alive[step.First + lane] : (byte)0;
    }

    private bool LabelsLater => later is not null && teacherShare <= 0;

    /// <summary>Asks the teacher, or keeps what it is to be asked about.</summary>
    private bool Label(in PanelStep step, long time, Panel advice, Panel outputs, ReadOnlySpan<byte> counted)
    {
        if (!LabelsLater)
            return teacher.Act(step.Panel, step.Number, time, advice, outputs, watch, counted, step.Own);
        // Written with the row, before it gets its label.
        advice.Values.Clear();
        outputs.Values.Clear();
        return later!.Keep(step, counted);
    }

    /// <summary>The student's action, or the teacher's in the lanes that it drives.</summary>
    private void ChooseDriver(in PanelStep step, Panel advice, Panel action)
    {
        (teacherShare >= 1 ? advice : action).Values.CopyTo(step.Action.Values);
        if (teacherShare is <= 0 or >= 1)
            return;
        Span<float> draws = stackalloc float[Panel.Width];
        Span<byte> driven = stackalloc byte[Panel.Width];
        acting.Uniforms(draws, (uint)step.First, (uint)(steps + step.Number));
        for (var lane = 0; lane < Panel.Width; lane++)
            driven[lane] = draws[lane] < teacherShare ? (byte)1 : (byte)0;
        Elementwise.CopyLanes(advice, step.Action, driven);
    }

    private void BeginRecorded(int panel, RecordedEnvironment recorded)
    {
        CountRecorded(panel, recorded, 0);
        // A piece of what follows each other begins without memory, as packed sequences do.
        if (recorded.Flat)
            starting.AsSpan(panel * Panel.Width, Panel.Width).Fill(1);
    }

    /// <summary>Counts the lanes that have a row for a step.</summary>
    private void CountRecorded(int panel, RecordedEnvironment recorded, int step)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var env = panel * Panel.Width + lane;
            alive[env] = env < recorded.Count && step < recorded.StepsOf(env) ? (byte)1 : (byte)0;
        }
    }

    private void RecordMemory(int panel, int sequence)
    {
        var size = student.Policy.MemorySize;
        if (size == 0)
            return;
        var perEnv = rollout.Steps / rollout.Sequence;
        Matrix.Scatter(
            student.Memory(panel),
            rollout.Memory.Span[((panel * Panel.Width * perEnv + sequence) * size)..],
            perEnv * size,
            Lanes(panel)
        );
    }
}
