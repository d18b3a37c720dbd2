namespace Distill.Networks;

/// <summary>
/// The last steps of sixteen episodes, oldest first: n states and the n - 1 actions and rewards between them. A shorter
/// one among them fills its first steps; <c>Valid</c> says which tokens there are.
/// </summary>
/// <param name="values">The features of states, of actions and the reward, one after another; see <see cref="Size"/>.</param>
/// <param name="valid"><c>[3 n - 1, 16]</c>: 1 for a token that is there, else 0; tokens in the order of the transformer.</param>
/// <param name="complete">All are there, so <paramref name="valid"/> need not be read.</param>
public readonly ref struct TrajectoryWindow(
    Span<float> values,
    Span<float> valid,
    int steps,
    int states,
    int actions,
    bool complete
)
{
    private readonly Span<float> values = values;
    private readonly Span<float> valid = valid;

    /// <summary>Steps of the longest.</summary>
    public int Steps { get; } = steps;

    /// <summary><c>[state, n, 16]</c>.</summary>
    public Sequences States => new(values, states, Steps);

    /// <summary><c>[action, n - 1, 16]</c>.</summary>
    public Sequences Actions => Between(states * Steps, actions);

    /// <summary><c>[1, n - 1, 16]</c>.</summary>
    public Sequences Rewards => Between(states * Steps + actions * (Steps - 1), 1);

    /// <summary>States, actions and rewards.</summary>
    public const int Kinds = 3;

    /// <summary>Those of a kind: 0 states, 1 actions, 2 rewards.</summary>
    public Sequences this[int kind] =>
        kind switch
        {
            0 => States,
            1 => Actions,
            _ => Rewards,
        };

    /// <summary>As <see cref="SequenceMath.Attention"/> takes it.</summary>
    public ReadOnlySpan<float> Valid => complete ? [] : valid;

    /// <summary>Floats of the values of sixteen windows of so many steps.</summary>
    public static int Size(int steps, int states, int actions) =>
        (states * steps + (actions + 1) * (steps - 1)) * Sequences.Lanes;

    /// <summary>Tokens of a window of so many steps, the class token included.</summary>
    public static int Tokens(int steps) => 3 * steps - 1;

    /// <summary>Notes which tokens there are.</summary>
    /// <param name="valid"><c>[3 n - 1, 16]</c>, written.</param>
    /// <param name="lengths">Steps of each, <c>[16]</c>, at least 1.</param>
    /// <param name="steps">The most of them, n.</param>
    public static void Mark(Span<float> valid, ReadOnlySpan<int> lengths, int steps)
    {
        for (var token = 0; token < Tokens(steps); token++)
        for (var lane = 0; lane < Sequences.Lanes; lane++)
        {
            var there =
                token < steps
                    ? token < lengths[lane]
                    : token == Tokens(steps) - 1 || (token - steps) % (steps - 1) < lengths[lane] - 1;
            valid[token * Sequences.Lanes + lane] = there ? 1 : 0;
        }
    }

    private Sequences Between(int row, int features) =>
        Steps == 1 ? default : new(values[(row * Sequences.Lanes)..], features, Steps - 1);
}
