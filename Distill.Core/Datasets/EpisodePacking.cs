namespace Distill.Datasets;

/// <summary>
/// The episodes of a rollout of whole episodes, put end to end in a random order, so that no row of a sequence is wasted on what
/// follows an early end: where an episode ends within a sequence the next one begins, and what does not fit into a sequence goes on
/// in the next, which begins without memory (rl-tools, foundation policy, <c>gather_epoch</c>).
/// </summary>
public sealed class EpisodePacking(Rollout rollout, RandomStream stream)
{
    private readonly int[] order = new int[rollout.Envs];
    private readonly int[] lengths = new int[rollout.Envs];
    private int at;
    private int taken;

    /// <summary>Rows of all episodes.</summary>
    public int Rows { get; private set; }

    /// <summary>Begins with the rollout as it is now.</summary>
    /// <param name="number">Of the rollout: another gives another order.</param>
    public void Begin(long number)
    {
        stream.Permutation(order, (uint)number, (uint)(number >> 32));
        (at, taken, Rows) = (0, 0, 0);
        for (var env = 0; env < rollout.Envs; env++)
        {
            lengths[env] =
                rollout.Kept[env] == 0
                    ? 0
                    : rollout.Valid.AsSpan(env * rollout.Steps, rollout.Steps).Count((byte)1);
            Rows += lengths[env];
        }
    }

    /// <summary>The next rows that lie one after another in the rollout; there must be some left.</summary>
    /// <param name="most">Rows that are wanted.</param>
    public (int First, int Count) Next(int most)
    {
        while (taken == lengths[order[at]])
            (at, taken) = (at + 1, 0);
        var env = order[at];
        var run = (First: env * rollout.Steps + taken, Count: Math.Min(most, lengths[env] - taken));
        taken += run.Count;
        return run;
    }
}
