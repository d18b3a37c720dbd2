namespace Distill.Algorithms;

/// <summary>
/// How the shuffled samples of a rollout are cut. They keep their order in all passes of an iteration, so that mini-batches are runs of
/// panels.
/// </summary>
/// <param name="Panels">Of samples.</param>
/// <param name="Count">Mini-batches of a pass.</param>
/// <param name="Parts">Parts whose advantages are standardized apart.</param>
internal readonly record struct PpoBatches(int Panels, int Count, int Parts)
{
    /// <summary>Parts of a mini-batch, at most, whose gradients are added up apart.</summary>
    public const int MaxChunks = 32;

    public static PpoBatches Of(PpoConfig now, int panels)
    {
        var count = Math.Min(now.NumMiniBatches.Whole, panels);
        return new(panels, count, now.NormalizeAdvantagePerMiniBatch ? count : 1);
    }

    /// <summary>The panels of a mini-batch.</summary>
    public (int Start, int End) Batch(int batch) => (Start(batch, Count), Start(batch + 1, Count));

    /// <summary>The panels of a part.</summary>
    public (int Start, int End) Part(int part) => (Start(part, Parts), Start(part + 1, Parts));

    /// <summary>How many chunks a mini-batch is cut into: that depends on it alone, never on the machine.</summary>
    /// <param name="panels">Of the mini-batch.</param>
    /// <param name="sequences">Whether samples are sequences.</param>
    public static int Chunks(int panels, bool sequences) =>
        Math.Clamp(sequences ? panels : panels / 4, 1, MaxChunks);

    private int Start(int part, int parts) => (int)((long)part * Panels / parts);
}
