using System.Collections;

namespace Distill.Datasets;

/// <summary>One quantity of a row: <see cref="Size"/> floats from <see cref="Start"/>.</summary>
public readonly record struct Column(string Name, int Start, int Size)
{
    public int End => Start + Size;

    /// <summary>The column in a panel of rows, <c>[Size, lanes]</c>.</summary>
    public Panel Of(Panel rows) => rows.Rows(Start, Size);
}

/// <summary>What a row of floats consists of, in the order in which it lies in memory.</summary>
public sealed class Columns : IReadOnlyList<Column>
{
    private readonly Column[] columns;

    public Columns(params IReadOnlyList<(string Name, int Size)> columns)
    {
        this.columns = new Column[columns.Count];
        for (var i = 0; i < columns.Count; i++)
        {
            this.columns[i] = new(columns[i].Name, Size, columns[i].Size);
            Size += columns[i].Size;
        }
    }

    /// <summary>Floats of a row.</summary>
    public int Size { get; }

    public int Count => columns.Length;

    public Column this[int index] => columns[index];

    /// <exception cref="ArgumentException">There is no such column.</exception>
    public Column this[string name] =>
        Array.Find(columns, column => column.Name == name) is { Name: not null } found
            ? found
            : throw new ArgumentException($"There is no column '{name}'.");

    public IEnumerator<Column> GetEnumerator() => ((IEnumerable<Column>)columns).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>Rows of floats with the same columns, one after another in memory.</summary>
public sealed class Table(Columns columns, long rows) : IDisposable
{
    private readonly FloatBuffer values = new(rows * columns.Size);

    public Columns Columns { get; } = columns;

    /// <summary>Number of rows.</summary>
    public long Length { get; } = rows;

    /// <summary>Some rows, <c>[count, columns]</c>.</summary>
    public Span<float> Rows(int first, int count) => values.Slice(first * Columns.Size, count * Columns.Size);

    /// <summary>Copies the first features of some rows, <c>[count, features]</c>.</summary>
    public void Read(int first, int count, int features, Span<float> target)
    {
        if (features == Columns.Size)
            Rows(first, count).CopyTo(target);
        else
            for (var i = 0; i < count; i++)
                Rows(first + i, 1)[..features].CopyTo(target[(i * features)..]);
    }

    /// <summary>One column of one row.</summary>
    public Span<float> Cell(int row, Column column) =>
        values.Slice(row * Columns.Size + column.Start, column.Size);

    /// <summary>Writes the first lanes of a panel to the rows <paramref name="first"/>, first + stride, …</summary>
    /// <param name="panel"><c>[columns, 32]</c>, or its first columns.</param>
    public void Scatter(Panel panel, int first, int stride, int lanes) =>
        Matrix.Scatter(panel, values.Span[(first * Columns.Size)..], stride * Columns.Size, lanes);

    /// <summary>Writes the first lanes of a panel to one column of consecutive rows.</summary>
    /// <param name="panel"><c>[column, 32]</c>.</param>
    public void Scatter(Panel panel, Column column, int first, int lanes) =>
        Matrix.Scatter(panel, values.Span[(first * Columns.Size + column.Start)..], Columns.Size, lanes);

    public void Dispose() => values.Dispose();
}
