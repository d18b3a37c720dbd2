namespace Distill.Datasets;

/// <summary>
/// What one collection gathered: <c>[envs, steps]</c> rows, environment by environment, so that the rows of one
/// environment are a sequence in time. Allocated once and overwritten by every collection.
/// </summary>
public sealed class Rollout : IDisposable
{
    /// <param name="columns">Of a row: the student's observation, the label, and what else is to be recorded.</param>
    /// <param name="memory">Numbers of the student's memory.</param>
    /// <param name="sequence">Steps after which the student's memory is recorded again; 0 for once, at the start.</param>
    /// <exception cref="DistillException">It has more numbers than one block of memory can hold.</exception>
    public Rollout(int envs, int steps, Columns columns, int memory, int sequence = 0)
    {
        Sequence = sequence == 0 ? steps : sequence;
        CheckSize(envs, steps, Math.Max(columns.Size, (memory + Sequence - 1) / Sequence));
        var rows = envs * steps;
        (Envs, Steps, MemorySize) = (envs, steps, memory);
        Table = new Table(columns, rows);
        Rewards = new FloatBuffer(rows);
        Memory = new FloatBuffer(envs * (steps / Sequence) * memory);
        Ends = new byte[rows];
        Valid = new byte[rows];
        EpisodeStart = new byte[rows];
        HeldOut = new byte[rows];
        Failed = new byte[rows];
        Kept = new byte[envs];
        Kept.AsSpan().Fill(1);
    }

    public int Envs { get; }
    public int Steps { get; }

    /// <summary>Steps between two records of the student's memory; divides <see cref="Steps"/>.</summary>
    public int Sequence { get; }
    public int Rows => Envs * Steps;
    public int MemorySize { get; }

    /// <summary><c>[envs, steps, columns]</c>: the student's observation, the label (whoever drove), and what else was asked for.</summary>
    public Table Table { get; }

    /// <summary><c>[envs, steps]</c></summary>
    public FloatBuffer Rewards { get; }

    /// <summary><c>[envs, steps / sequence, memory]</c>: the student's memory before the first row of each sequence.</summary>
    public FloatBuffer Memory { get; }

    /// <summary><c>[envs, steps]</c>: 0, or how the episode ended with this row (<see cref="EpisodeEnd"/>).</summary>
    public byte[] Ends { get; }

    /// <summary><c>[envs, steps]</c>: 0 for rows that must never reach a loss.</summary>
    public byte[] Valid { get; }

    /// <summary><c>[envs, steps]</c>: 1 where an episode starts, so that memory is cleared before the row.</summary>
    public byte[] EpisodeStart { get; }

    /// <summary><c>[envs, steps]</c>: 1 for rows of episodes that are never trained on.</summary>
    public byte[] HeldOut { get; }

    /// <summary><c>[envs, steps]</c>: 1 for rows of episodes that end in a terminal state within the rollout.</summary>
    public byte[] Failed { get; }

    /// <summary><c>[envs, steps]</c>: how much each row counts in training; null where all count alike.</summary>
    public float[]? Weights { get; init; }

    /// <summary><c>[envs]</c>: 0 for environments whose rows the dataset does not take.</summary>
    public byte[] Kept { get; }

    /// <summary>Refuses a rollout that no block of memory can hold: its elements are counted in 32 bits.</summary>
    /// <param name="numbers">Numbers per step of one environment.</param>
    /// <exception cref="DistillException">It is too large; the message says how many rows would fit.</exception>
    internal static void CheckSize(int envs, int steps, int numbers)
    {
        var most = int.MaxValue / Math.Max(numbers, 1);
        if ((long)Panel.Count(envs) * Panel.Width * steps > most)
            throw new DistillException(
                $"A rollout of {envs} environments and {steps} steps is too large with {numbers} numbers per step; shorten "
                    + $"it to at most {most} rows."
            );
    }

    public void Dispose()
    {
        Table.Dispose();
        Rewards.Dispose();
        Memory.Dispose();
    }
}

/// <summary>How a row ended its episode.</summary>
public static class EpisodeEnd
{
    public const byte None = 0;
    public const byte Terminated = 1;
    public const byte Truncated = 2;
}
