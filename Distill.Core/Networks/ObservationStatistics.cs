namespace Distill.Networks;

/// <summary>
/// Gathers the moments of observations for a normalizer, panel by panel, so that threads do not share them and merging in the
/// order of panels gives the same bits for any number of threads.
/// </summary>
/// <param name="envs">Number of environments that run side by side.</param>
public sealed class ObservationStatistics(Normalizer normalizer, int envs)
{
    private readonly double[] sums = new double[Panel.Count(envs) * normalizer.Size];
    private readonly double[] squares = new double[Panel.Count(envs) * normalizer.Size];
    private readonly long[] counts = new long[Panel.Count(envs)];

    /// <summary>Adds the observations of a panel's environments.</summary>
    /// <param name="observation"><c>[size, 32]</c>, not normalized.</param>
    /// <param name="counted"><c>[32]</c>: 0 for lanes that do not count; empty if all do.</param>
    public void Add(int panel, Panel observation, ReadOnlySpan<byte> counted = default)
    {
        var lanes = Math.Min(Panel.Width, envs - panel * Panel.Width);
        for (var i = 0; i < normalizer.Size; i++)
        {
            ref var sum = ref sums[panel * normalizer.Size + i];
            ref var square = ref squares[panel * normalizer.Size + i];
            var values = observation.Row(i)[..lanes];
            for (var lane = 0; lane < lanes; lane++)
            {
                if (!counted.IsEmpty && counted[lane] == 0)
                    continue;
                double deviation = values[lane] - normalizer.Mean[i];
                sum += deviation;
                square += deviation * deviation;
            }
        }
        for (var lane = 0; lane < lanes; lane++)
            counts[panel] += counted.IsEmpty ? 1 : counted[lane];
    }

    /// <summary>Merges what was gathered into the normalizer and starts anew.</summary>
    public void Merge()
    {
        var size = normalizer.Size;
        for (var panel = 1; panel < counts.Length; panel++)
        {
            counts[0] += counts[panel];
            for (var i = 0; i < size; i++)
            {
                sums[i] += sums[panel * size + i];
                squares[i] += squares[panel * size + i];
            }
        }
        normalizer.Merge(counts[0], sums.AsSpan(0, size), squares.AsSpan(0, size));
        counts.AsSpan().Clear();
        sums.AsSpan().Clear();
        squares.AsSpan().Clear();
    }
}
