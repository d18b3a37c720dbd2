namespace Distill.Datasets;

/// <summary>Classes of labels: how many valid rows of each are held, and, for a balanced reservoir, what came before.</summary>
/// <param name="classes">Number of classes; 0 where they are not counted.</param>
/// <param name="label">The index of the choice, or a number for each choice, the likeliest of which is the class.</param>
public sealed class LabelClasses(int classes, Column label)
{
    private readonly long[] held = new long[classes];
    private readonly long[] seen = new long[classes];
    private readonly byte[] full = new byte[classes];

    /// <summary>Number of classes; 0 where they are not counted.</summary>
    public int Number => held.Length;

    /// <summary>Valid rows of a class that are held.</summary>
    public long Held(int index) => held[index];

    /// <summary>Rows of a class that ever came to a balanced reservoir.</summary>
    internal long Seen(int index) => seen[index];

    /// <summary>Whether a class was ever the largest of a full reservoir.</summary>
    internal bool IsFull(int index) => full[index] != 0;

    /// <summary>The class of a row.</summary>
    internal int Of(Table rows, int row)
    {
        var value = rows.Cell(row, label);
        if (label.Size == 1)
            return (int)value[0];
        var best = 0;
        for (var i = 1; i < label.Size; i++)
            if (value[i] > value[best])
                best = i;
        return best;
    }

    /// <summary>The class of which most rows are held, the first of equals.</summary>
    internal int Largest()
    {
        var largest = 0;
        for (var i = 1; i < held.Length; i++)
            if (held[i] > held[largest])
                largest = i;
        return largest;
    }

    internal void Count(int index, int by) => held[index] += by;

    internal void See(int index) => seen[index]++;

    internal void MarkFull(int index) => full[index] = 1;

    /// <summary>Forgets what is held.</summary>
    internal void Clear() => Array.Clear(held);

    /// <summary>What the rows that are held do not tell.</summary>
    internal void Visit(State state)
    {
        for (var i = 0; i < seen.Length; i++)
            state.Count($"seen{i}", ref seen[i]);
        state.Flags("full", full);
    }
}
