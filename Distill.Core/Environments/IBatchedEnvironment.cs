namespace Distill.Environments;

/// <summary>A named view of the state that a policy may be given, e.g. "teacher" with 26 numbers.</summary>
/// <param name="Name">How configurations refer to it.</param>
/// <param name="Components">What its numbers are, in order, with their sizes.</param>
public sealed record ObservationGroup(string Name, IReadOnlyList<ObservationComponent> Components)
{
    /// <summary>Number of floats per environment.</summary>
    public int Size { get; } = Components.Sum(component => component.Size);

    /// <summary>
    /// The file whose network computes it, as SHA-256 in hexadecimal digits; empty where none does. What was trained to read the numbers
    /// of one network cannot read those of another.
    /// </summary>
    public string ComputedBy { get; init; } = "";
}

/// <param name="Name">With frame and unit, e.g. "position error, world, m".</param>
public sealed record ObservationComponent(string Name, int Size);

/// <summary>What an environment accepts as an action.</summary>
/// <param name="Size">Continuous: number of floats per environment. Discrete: number of choices.</param>
/// <param name="Discrete">When set, an action is one float per environment that holds the index of the choice.</param>
public sealed record ActionSpace(int Size, bool Discrete)
{
    /// <summary>Floats that one environment's action takes: <see cref="Size"/>, or 1 when discrete.</summary>
    public int Floats => Discrete ? 1 : Size;

    /// <summary>What its numbers do, with units and range, or what the choices are: for whoever flies an exported policy.</summary>
    public string Meaning { get; init; } = "";
}

/// <summary>A number that every step has and that evaluations report of an episode, e.g. how far a drone was from its reference.</summary>
/// <param name="Name">As the column of a table, e.g. "position_error".</param>
/// <param name="Unit">E.g. "m"; empty for a pure number.</param>
/// <param name="Over">How the steps of an episode become the episode's number.</param>
public sealed record EnvironmentMeasure(string Name, string Unit, MeasureOver Over)
{
    /// <summary>Whether more is better, as of successes; less is, as of errors, where nothing is said.</summary>
    public bool HigherIsBetter { get; init; }
}

/// <summary>How a measure of steps becomes that of an episode.</summary>
public enum MeasureOver
{
    /// <summary>The mean over the episode's steps.</summary>
    Mean,

    /// <summary>The value after its last step, such as 1 where it succeeded.</summary>
    Final,

    /// <summary>The largest of its steps.</summary>
    Max,
}

public static class MeasuresOver
{
    /// <summary>The measure of an episode up to a step, from 0, given that up to the step before.</summary>
    public static float Add(this MeasureOver over, float soFar, float value, int step) =>
        over switch
        {
            MeasureOver.Mean => soFar + (value - soFar) / (step + 1),
            MeasureOver.Max when step > 0 => MathF.Max(soFar, value),
            _ => value,
        };
}

/// <summary>The facts about an environment that policies and trainers check against.</summary>
/// <param name="Name">For messages and files, e.g. "quadrotor".</param>
/// <param name="EpisodeLimit">Steps after which an episode is truncated.</param>
/// <param name="StepSeconds">Simulated seconds of one step.</param>
public sealed record EnvironmentSpec(
    string Name,
    IReadOnlyList<ObservationGroup> Groups,
    ActionSpace Actions,
    int EpisodeLimit,
    double StepSeconds
)
{
    /// <summary>What <see cref="IBatchedEnvironment.Step"/> can tell beside the reward, in the order of its rows.</summary>
    public IReadOnlyList<EnvironmentMeasure> Measures { get; init; } = [];

    /// <summary>
    /// Names of what the environments differ in, such as their drones or tasks: each environment is one of these
    /// (<see cref="IBatchedEnvironment.VariantOf"/>). Empty where all are alike.
    /// </summary>
    public IReadOnlyList<string> Variants { get; init; } = [];

    /// <summary>
    /// Names of components of the groups that would be zero at rest if policies were perfect, such as the error of a position:
    /// what is left of them is a policy's bias.
    /// </summary>
    public IReadOnlyList<string> SteadyStates { get; init; } = [];

    /// <summary>
    /// Whether a checkpoint says where the environments are. Else a run that goes on begins new episodes in all of them, and its numbers
    /// are not those of a run that was never stopped.
    /// </summary>
    public bool Resumes { get; init; } = true;

    /// <summary>Index of a group in <see cref="Groups"/>.</summary>
    /// <exception cref="DistillException">There is no such group.</exception>
    public int Group(string name)
    {
        for (var i = 0; i < Groups.Count; i++)
            if (Groups[i].Name == name)
                return i;
        throw new DistillException(
            $"Environment {Name} has no observation group '{name}'; it has: "
                + string.Join(", ", Groups.Select(group => $"{group.Name} ({group.Size})"))
                + "."
        );
    }
}

/// <summary>What one step of a panel brings, for the environment to write.</summary>
/// <param name="rows"><c>[3 + measures, 32]</c>: reward, terminated, truncated, and the measures if somebody asks for them.</param>
public readonly ref struct StepOutcome(Span<float> rows)
{
    /// <summary>Rows that are there without measures.</summary>
    public const int Rows = 3;

    /// <summary><c>[32]</c>, of this step.</summary>
    public Span<float> Reward { get; } = rows[..Panel.Width];

    /// <summary><c>[32]</c>, 1 where the episode ended in a terminal state, else 0.</summary>
    public Span<float> Terminated { get; } = rows.Slice(Panel.Width, Panel.Width);

    /// <summary><c>[32]</c>, 1 where it ended by the step limit without being terminal, else 0.</summary>
    public Span<float> Truncated { get; } = rows.Slice(2 * Panel.Width, Panel.Width);

    /// <summary>
    /// <c>[measures, 32]</c>, of the state that the step led to, before another episode starts; or empty where nobody asks, and
    /// then nothing is computed.
    /// </summary>
    public Span<float> Measures { get; } = rows[(Rows * Panel.Width)..];

    /// <summary>Whether any episode of the panel ended.</summary>
    public bool AnyEnded => Terminated.ContainsAnyExcept(0f) || Truncated.ContainsAnyExcept(0f);
}

/// <summary>
/// Many environments stepped side by side, in panels of 32 (<see cref="Panel"/>). Panels are independent, so
/// different threads may work on different panels at once, and a whole rollout of one panel can run while its state is
/// in cache. All spans are panels <c>[size, 32]</c>; lanes past <see cref="Count"/> are computed and mean nothing.
/// Random numbers depend on (seed, environment index, episode, step) alone.
/// </summary>
public interface IBatchedEnvironment : IDisposable
{
    EnvironmentSpec Spec { get; }

    /// <summary>Number of environments.</summary>
    int Count { get; }

    /// <summary>Index in <see cref="EnvironmentSpec.Variants"/> of what an environment is; 0 where all are alike.</summary>
    int VariantOf(int environment) => 0;

    /// <summary>
    /// Whether no episode is under way: none was begun yet, or they are lost, because others have used the same simulator or because a
    /// run goes on whose environments could not be saved. Every environment must then be reset before the next step.
    /// </summary>
    bool Lost => false;

    /// <summary>Starts a new episode in every environment of the panel.</summary>
    void Reset(int panel);

    /// <summary>Writes one observation group of the current state, <c>[group size, 32]</c>.</summary>
    void Observe(int panel, int group, Span<float> observation);

    /// <summary>
    /// Advances one step. An environment whose episode ends starts its next one at once, so the following
    /// <see cref="Observe"/> shows the first state of that.
    /// </summary>
    /// <param name="actions"><c>[action floats, 32]</c>.</param>
    void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome);

    /// <summary>
    /// Goes back to where construction left everything: what followed the construction, resets included, follows again
    /// bit for bit.
    /// </summary>
    void Rewind();

    /// <summary>
    /// Shows everything that changes while stepping, for checkpoints: saved, and later overwritten in place. What follows
    /// from the rest, such as numbers drawn ahead, may be left out.
    /// </summary>
    void Visit(State state);
}

/// <summary>Environments that can become other variants: where those in trouble are to be seen more often.</summary>
public interface IAssignableEnvironment : IBatchedEnvironment
{
    /// <summary>Makes every environment another variant, or the same again. It must be reset before it goes on.</summary>
    /// <param name="variants"><c>[envs]</c>: index in <see cref="EnvironmentSpec.Variants"/> of each.</param>
    void Assign(ReadOnlySpan<int> variants);
}

/// <summary>
/// Environments that can stay in the states in which episodes end until they are told to go on, so that these can be observed:
/// <see cref="IBatchedEnvironment.Step"/> in two halves.
/// </summary>
public interface IHoldingEnvironment : IBatchedEnvironment
{
    /// <summary>
    /// Advances one step, as <see cref="IBatchedEnvironment.Step"/> says, but <see cref="IBatchedEnvironment.Observe"/> then shows
    /// the states that the step led to. <see cref="Restart"/> must follow before the next step where an episode ended.
    /// </summary>
    /// <param name="actions"><c>[action floats, 32]</c>.</param>
    void Advance(int panel, ReadOnlySpan<float> actions, StepOutcome outcome);

    /// <summary>Starts the next episode of every environment of the panel whose episode ended with that outcome.</summary>
    void Restart(int panel, StepOutcome outcome);
}

/// <summary>
/// Environments that can only step all together, such as those of another process: <see cref="IBatchedEnvironment.Step"/> of
/// one panel is not called. Some simulators begin an episode in the step after the one before has ended: that step shows its last state
/// once more, no action counts in it, its reward is 0, and nothing may be learned from it (<see cref="Counted"/>).
/// </summary>
public interface ILockstepEnvironment : IBatchedEnvironment
{
    /// <summary>Advances all environments by one step, as <see cref="IBatchedEnvironment.Step"/> says.</summary>
    /// <param name="actions"><c>[panels, action floats, 32]</c>.</param>
    /// <param name="outcomes">
    /// <c>[panels, 3 + measures, 32]</c>: the <see cref="StepOutcome"/> of every panel; with 0 measures where nobody asks.
    /// </param>
    void Step(ReadOnlySpan<float> actions, Span<float> outcomes);

    /// <summary>
    /// Carries out the resets that were asked for, all at once. They may be put off until this is called, or somebody looks.
    /// </summary>
    void Begin() { }

    /// <summary>Whether it can show the states in which episodes ended, when others have begun already.</summary>
    bool ShowsEnds => false;

    /// <summary>
    /// From now on <see cref="IBatchedEnvironment.Observe"/> shows the states that the last step led to, before other episodes began;
    /// or no longer, which must be so before the next step.
    /// </summary>
    void ShowEnds(bool shown) { }

    /// <summary>Whether there are steps that some environments spend on beginning another episode, whatever they are told to do.</summary>
    bool Pauses => false;

    /// <summary><c>[32]</c>: 0 for environments that spend the next step so, 1 for the others; empty where none ever does.</summary>
    ReadOnlySpan<byte> Counted(int panel) => default;
}
