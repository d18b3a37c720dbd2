namespace Distill.Datasets;

/// <summary>
/// The newest rows of an endless stream of rows: what off-policy learning draws from. Memory comes in chunks as rows arrive, and
/// where it is full each new row takes the place of the oldest.
/// </summary>
public sealed class Replay : IDisposable
{
    private const int ChunkRows = 1 << 16;

    // A checkpoint stores each chunk as one array of bytes.
    private const int LargestChunkFloats = int.MaxValue / 8;

    private readonly int chunkRows;
    private readonly List<Table> chunks = [];
    private long added;

    /// <param name="capacity">Rows held at most, at least 1.</param>
    public Replay(Columns columns, int capacity)
    {
        (Columns, Capacity) = (columns, capacity);
        chunkRows = Math.Clamp(LargestChunkFloats / columns.Size, 1, ChunkRows);
    }

    /// <summary>What a row consists of.</summary>
    public Columns Columns { get; }

    /// <summary>Rows held at most.</summary>
    public int Capacity { get; }

    /// <summary>Rows held.</summary>
    public int Count => (int)Math.Min(added, Capacity);

    /// <summary>Bytes that so many rows take.</summary>
    internal static long EstimateBytes(long rows, Columns columns) => rows * columns.Size * sizeof(float);

    /// <summary>The place of the next row, <c>[columns]</c>, for the caller to write.</summary>
    public Span<float> Next()
    {
        var place = (int)(added++ % Capacity);
        if (place == chunks.Count * chunkRows)
            Grow();
        return Row(place);
    }

    /// <summary>One row, <c>[columns]</c>.</summary>
    public ReadOnlySpan<float> this[int place] => Row(place);

    /// <summary>Everything held, for checkpoints.</summary>
    /// <exception cref="DistillException">What is restored does not fit.</exception>
    public void Visit(State state)
    {
        state.Count("added", ref added);
        while (chunks.Count * (long)chunkRows < Count)
            Grow();
        for (var i = 0; i * chunkRows < Count; i++)
            state.Block($"chunk{i}", chunks[i].Rows(0, Math.Min(Count - i * chunkRows, chunkRows)));
    }

    public void Dispose()
    {
        foreach (var chunk in chunks)
            chunk.Dispose();
    }

    private Span<float> Row(int place) => chunks[place / chunkRows].Rows(place % chunkRows, 1);

    private void Grow() =>
        chunks.Add(new Table(Columns, Math.Min(chunkRows, Capacity - chunks.Count * chunkRows)));
}
