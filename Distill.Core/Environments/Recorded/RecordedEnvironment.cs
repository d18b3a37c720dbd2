namespace Distill.Environments.Recorded;

/// <summary>
/// Environments that show what was recorded, whatever is done in them: as many rows as a rollout has at a time.
/// </summary>
public sealed class RecordedEnvironment : IBatchedEnvironment
{
    private readonly RecordedWish wish;
    private readonly IReadOnlyList<string> paths;
    private readonly RecordedBlock block;
    private readonly int[] at;
    private RecordedFile? file;
    private int opened;

    internal RecordedEnvironment(
        RecordedWish wish,
        IReadOnlyList<string> paths,
        bool flat,
        int lanes,
        int steps
    )
    {
        (this.wish, this.paths, Flat, Count, Steps) = (wish, paths, flat, lanes, steps);
        block = new RecordedBlock(wish, flat, lanes, steps);
        at = new int[Panel.Count(lanes)];
    }

    public EnvironmentSpec Spec => wish.Spec;

    public int Count { get; }

    /// <summary>Steps that are read at once.</summary>
    public int Steps { get; }

    /// <summary>Whether rows follow each other, so that lanes of the next block do not go on where those of this one end.</summary>
    public bool Flat { get; }

    /// <summary>Rows that were read last.</summary>
    public int Rows => block.Rows;

    /// <summary>Episodes that ended with them.</summary>
    public int Ended => block.Ended;

    /// <summary>Reads what comes next.</summary>
    /// <returns>Whether there was anything.</returns>
    /// <exception cref="DistillException">A file is damaged, or a number cannot be; the message says which.</exception>
    public bool Next()
    {
        at.AsSpan().Clear();
        return block.Fill(Open);
    }

    /// <summary>Steps of an environment that were read last: the first ones.</summary>
    public int StepsOf(int environment) => block.StepsOf(environment);

    /// <summary>What was recorded beside observations and actions.</summary>
    public RecordedRow Row(int environment, int step)
    {
        var row = block.Row(environment, step);
        return new RecordedRow(
            block.EnvironmentOf(environment),
            block.Episodes[row],
            block.Starts[row],
            block.Ends[row] == RecordedBlock.Terminated && !block.Succeeded[row],
            block.Ends[row] != RecordedBlock.None,
            block.Weights[row]
        );
    }

    /// <summary>The recorded actions in the current states, <c>[action floats, 32]</c>.</summary>
    public void Label(int panel, Span<float> actions) => Read(block.Actions!, panel, actions);

    public void Observe(int panel, int group, Span<float> observation)
    {
        for (var i = 0; i < wish.Groups.Count; i++)
            if (wish.Groups[i] == group)
            {
                Read(block.Groups[i], panel, observation);
                return;
            }
        throw new DistillException($"The observation group '{Spec.Groups[group].Name}' is not read.");
    }

    public void Reset(int panel) { }

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var there = RowOf(panel, lane) is var row && row >= 0;
            outcome.Reward[lane] = there ? block.Rewards[row] : 0;
            outcome.Terminated[lane] = there && block.Ends[row] == RecordedBlock.Terminated ? 1 : 0;
            outcome.Truncated[lane] = there && block.Ends[row] == RecordedBlock.Truncated ? 1 : 0;
        }
        outcome.Measures.Clear();
        at[panel]++;
    }

    public void Rewind() => throw new NotSupportedException("Recorded data are read once.");

    public void Visit(State state) => throw new NotSupportedException("Recorded data are read at once.");

    public void Dispose()
    {
        file?.Dispose();
        block.Dispose();
    }

    /// <summary>The row of a lane now; -1 where none was read.</summary>
    private int RowOf(int panel, int lane)
    {
        var environment = panel * Panel.Width + lane;
        return environment < Count && at[panel] < block.StepsOf(environment)
            ? block.Row(environment, at[panel])
            : -1;
    }

    private void Read(RowsOf rows, int panel, Span<float> target)
    {
        target.Clear();
        for (var lane = 0; lane < Panel.Width; lane++)
            if (RowOf(panel, lane) is var row && row >= 0)
                rows.CopyTo(row, target, lane);
    }

    private RecordedFile? Open()
    {
        if (file is not null && file.Position < file.Steps)
            return file;
        file?.Dispose();
        file = opened < paths.Count ? new RecordedFile(paths[opened++], wish) : null;
        return file;
    }
}

/// <summary>What was recorded of a row beside observations and actions.</summary>
/// <param name="Environment">The recorded environment; 0 for rows that follow each other.</param>
/// <param name="Episode">Number of its episode there, from 1.</param>
/// <param name="Starts">Whether it is the episode's first.</param>
/// <param name="Failed">Whether the episode ends with it in a terminal state that is no success.</param>
/// <param name="Ends">Whether the episode ends with it.</param>
/// <param name="Weight">How much it counts in training.</param>
public readonly record struct RecordedRow(
    int Environment,
    long Episode,
    bool Starts,
    bool Failed,
    bool Ends,
    float Weight
);
