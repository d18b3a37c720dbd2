namespace Distill.Environments.Recorded;

/// <summary>Rows of numbers, one after another.</summary>
/// <param name="rows">How many.</param>
/// <param name="size">Numbers of a row.</param>
internal sealed class RowsOf(int rows, int size) : IDisposable
{
    private readonly FloatBuffer values = new((long)rows * size);

    public int Size => size;

    public Span<float> Slice(int first, int count) => values.Slice(first * size, count * size);

    /// <summary>Writes one row to a lane of a panel.</summary>
    public void CopyTo(int row, Span<float> panel, int lane)
    {
        var numbers = Slice(row, 1);
        for (var i = 0; i < numbers.Length; i++)
            panel[i * Panel.Width + lane] = numbers[i];
    }

    public void Dispose() => values.Dispose();
}

/// <summary>
/// As many recorded rows as a rollout has, cut into lanes: one lane for each recorded environment; or, of rows that follow each
/// other, the first rows in the first lane, what follows in the second, and so on.
/// </summary>
internal sealed class RecordedBlock : IDisposable
{
    public const byte None = 0;
    public const byte Terminated = 1;
    public const byte Truncated = 2;

    private readonly bool flat;
    private readonly int steps;

    // Of each recorded environment; of rows that follow each other there is one.
    private readonly bool[] goingOn;
    private readonly long[] begun;
    private int filled;

    /// <param name="lanes">Recorded environments, or into how many pieces rows that follow each other are cut.</param>
    public RecordedBlock(RecordedWish wish, bool flat, int lanes, int steps)
    {
        (this.flat, this.steps, Lanes) = (flat, steps, lanes);
        var rows = checked(lanes * steps);
        Groups = [.. wish.Groups.Select(index => new RowsOf(rows, wish.Spec.Groups[index].Size))];
        Actions = wish.Labels ? new RowsOf(rows, wish.Spec.Actions.Floats) : null;
        Rewards = new float[rows];
        Weights = new float[rows];
        Flags = new float[rows];
        Ends = new byte[rows];
        Succeeded = new bool[rows];
        Starts = new bool[rows];
        Episodes = new long[rows];
        goingOn = new bool[flat ? 1 : lanes];
        begun = new long[flat ? 1 : lanes];
    }

    public int Lanes { get; }

    /// <summary>In the order of what was wished.</summary>
    public RowsOf[] Groups { get; }

    public RowsOf? Actions { get; }
    public float[] Rewards { get; }
    public float[] Weights { get; }
    public byte[] Ends { get; }
    public bool[] Succeeded { get; }

    /// <summary>Whether an episode begins with the row.</summary>
    public bool[] Starts { get; }

    /// <summary>The row's episode: from 1, in its environment or among all rows that follow each other.</summary>
    public long[] Episodes { get; }

    /// <summary>For what is only looked at while reading.</summary>
    public float[] Flags { get; }

    /// <summary>Rows that were read.</summary>
    public int Rows => filled;

    /// <summary>Episodes that ended with a row of the block.</summary>
    public int Ended => Ends.AsSpan(0, filled).Length - Ends.AsSpan(0, filled).Count(None);

    /// <summary>The row of a step of a lane.</summary>
    public int Row(int lane, int step) => flat ? lane * steps + step : step * Lanes + lane;

    /// <summary>Steps of a lane that were read.</summary>
    public int StepsOf(int lane) => flat ? Math.Clamp(filled - lane * steps, 0, steps) : filled / Lanes;

    /// <summary>The recorded environment of a lane, by which episodes are counted.</summary>
    public int EnvironmentOf(int lane) => flat ? 0 : lane;

    /// <summary>Fills the block with what files have next.</summary>
    /// <param name="next">The file to go on with; null when all was read.</param>
    /// <returns>Whether there was anything.</returns>
    public bool Fill(Func<RecordedFile?> next)
    {
        filled = 0;
        while (filled < Ends.Length && next() is { } file)
        {
            var count = Math.Min((Ends.Length - filled) / file.PerStep, file.Steps - file.Position);
            file.Read(this, filled, count);
            Count(count * file.PerStep);
        }
        return filled > 0;
    }

    public void Dispose()
    {
        foreach (var group in Groups)
            group.Dispose();
        Actions?.Dispose();
    }

    /// <summary>Counts the episodes of rows that were just read.</summary>
    private void Count(int rows)
    {
        for (var row = filled; row < filled + rows; row++)
        {
            var environment = flat ? 0 : row % Lanes;
            Starts[row] = !goingOn[environment];
            if (Starts[row])
                begun[environment]++;
            Episodes[row] = begun[environment];
            goingOn[environment] = Ends[row] == None;
        }
        filled += rows;
    }
}
