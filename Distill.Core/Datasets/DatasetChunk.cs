namespace Distill.Datasets;

/// <summary>Some segments of an aggregated dataset, and what is noted of them.</summary>
/// <param name="segments">How many there is room for.</param>
/// <param name="length">Rows of a segment.</param>
/// <param name="memory">Numbers of student memory of a segment.</param>
internal sealed class DatasetChunk(int segments, int length, Columns columns, int memory, DatasetNotes notes)
    : IDisposable
{
    public Table Rows { get; } = new(columns, (long)segments * length);
    public FloatBuffer Memory { get; } = new((long)segments * memory);
    public NativeBuffer<byte> Valid { get; } = new((long)segments * length);
    public NativeBuffer<byte> EpisodeStart { get; } = new((long)segments * length);
    public NativeBuffer<long> Births { get; } = new(segments);
    public FloatBuffer Losses { get; } = new(segments);
    public NativeBuffer<byte>? HeldOut { get; } = notes.HeldOut ? new((long)segments * length) : null;
    public NativeBuffer<byte>? Failed { get; } = notes.Failed ? new((long)segments * length) : null;
    public FloatBuffer? Weights { get; } = notes.Weights ? new((long)segments * length) : null;
    public FloatBuffer? Disagreements { get; } = notes.Disagreements ? new(segments) : null;

    /// <summary>How much a row counts in training, or in the loss on what is held out.</summary>
    public float Weight(int row, bool heldOut, double failedWeight)
    {
        var isHeldOut = HeldOut is { } flags && flags.Span[row] != 0;
        if (Valid.Span[row] == 0 || isHeldOut != heldOut)
            return 0;
        var weight = Failed is { } failed && failed.Span[row] != 0 ? (float)failedWeight : 1;
        return Weights is { } weights ? weight * weights.Span[row] : weight;
    }

    /// <param name="used">Segments that are there.</param>
    /// <param name="added">Segments ever added to the dataset.</param>
    public void Visit(State state, int used, long added)
    {
        var rows = used * length;
        state.Block("rows", Rows.Rows(0, rows));
        state.Flags("valid", Valid.Slice(0, rows));
        state.Flags("episode_start", EpisodeStart.Slice(0, rows));
        state.Block("memory", Memory.Slice(0, used * memory));
        state.Block("births", Births.Slice(0, used));
        foreach (var birth in Births.Slice(0, used))
            if (birth < 0 || birth >= added)
                state.Require("births", false, birth, $"one of {added} segments");
        state.Block("losses", Losses.Slice(0, used));
        if (HeldOut is not null)
            state.Flags("held_out", HeldOut.Slice(0, rows));
        if (Failed is not null)
            state.Flags("failed", Failed.Slice(0, rows));
        if (Weights is not null)
            state.Block("weights", Weights.Slice(0, rows));
        if (Disagreements is not null)
            state.Block("disagreements", Disagreements.Slice(0, used));
    }

    public void Dispose()
    {
        Rows.Dispose();
        Memory.Dispose();
        Valid.Dispose();
        EpisodeStart.Dispose();
        Births.Dispose();
        Losses.Dispose();
        HeldOut?.Dispose();
        Failed?.Dispose();
        Weights?.Dispose();
        Disagreements?.Dispose();
    }
}
