namespace Distill.Compute;

/// <summary>
/// Scratch memory of one thread. Pieces are taken one after another and given back together, when the scope in which they
/// were taken ends; what they hold at first is undefined. It grows to what is needed at once and then allocates nothing.
/// </summary>
public sealed class Workspace : IDisposable
{
    private const int Alignment = 16;
    private const int SmallestBlock = 4096;

    private readonly List<FloatBuffer> blocks = [];
    private int block = -1;
    private int used;
    private long taken;
    private long most;

    /// <summary>The most that was ever taken at once.</summary>
    internal long Bytes => most * sizeof(float);

    /// <summary>Memory for this many floats, aligned to 64 bytes.</summary>
    public Span<float> Floats(int count)
    {
        var room = (count + Alignment - 1) / Alignment * Alignment;
        while (block < 0 || used + room > blocks[block].Length)
        {
            if (block + 1 == blocks.Count)
                blocks.Add(new FloatBuffer(Math.Max(room, Math.Max(SmallestBlock, taken))));
            block++;
            used = 0;
        }
        var piece = blocks[block].Slice(used, count);
        used += room;
        taken += room;
        most = Math.Max(most, taken);
        return piece;
    }

    /// <summary>Memory for a panel <c>[features, lanes]</c>.</summary>
    public Panel Panel(int features, int lanes = Compute.Panel.Width) =>
        new(Floats(features * lanes), features, lanes);

    /// <summary>Memory for sequences <c>[features, tokens, 16]</c>.</summary>
    public Sequences Sequences(int features, int tokens) =>
        new(Floats(features * tokens * Compute.Sequences.Lanes), features, tokens);

    /// <summary>Opens a scope: what is taken from now on is given back when it is disposed.</summary>
    public Scope Open() => new(this);

    public void Dispose()
    {
        foreach (var held in blocks)
            held.Dispose();
        blocks.Clear();
    }

    private void Return(int toBlock, int toUsed, long toTaken)
    {
        (block, used, taken) = (toBlock, toUsed, toTaken);
        // From now on one block has room for the most that was ever taken.
        if (block >= 0 || blocks.Count < 2)
            return;
        Dispose();
        blocks.Add(new FloatBuffer(most));
    }

    /// <summary>What was taken since it was opened.</summary>
    public readonly ref struct Scope(Workspace workspace)
    {
        private readonly int block = workspace.block;
        private readonly int used = workspace.used;
        private readonly long taken = workspace.taken;

        public void Dispose() => workspace.Return(block, used, taken);
    }
}
