using Distill.Compute;

namespace Distill.Networks;

/// <summary>
/// Gathers the moments of observations for a normaliser, panel by panel, so that threads do not share them and merging in the
/// order of panels gives the same bits for any number of threads.
/// </summary>
/// <param name="envs">Number of environments that run side by side.</param>
public sealed class ObservationStatistics(Normaliser normaliser, int envs)
{
    private readonly double[] sums = new double[Panel.Count(envs) * normaliser.Size];
    private readonly double[] squares = new double[Panel.Count(envs) * normaliser.Size];
    private readonly long[] counts = new long[Panel.Count(envs)];

    /// <summary>Adds the observations of a panel's environments.</summary>
    /// <param name="observation"><c>[size, 32]</c>, not normalised.</param>
    /// <param name="counted"><c>[32]</c>: 0 for lanes that do not count; empty if all do.</param>
    public void Add(int panel, Panel observation, ReadOnlySpan<byte> counted = default)
    {
        var lanes = Math.Min(Panel.Width, envs - panel * Panel.Width);
        for (var i = 0; i < normaliser.Size; i++)
        {
            ref var sum = ref sums[panel * normaliser.Size + i];
            ref var square = ref squares[panel * normaliser.Size + i];
            var values = observation.Row(i)[..lanes];
            for (var lane = 0; lane < lanes; lane++)
            {
                if (!counted.IsEmpty && counted[lane] == 0)
                    continue;
                double deviation = values[lane] - normaliser.Mean[i];
                sum += deviation;
                square += deviation * deviation;
            }
        }
        for (var lane = 0; lane < lanes; lane++)
            counts[panel] += counted.IsEmpty ? 1 : counted[lane];
    }

    /// <summary>Merges what was gathered into the normaliser and starts anew.</summary>
    public void Merge()
    {
        var size = normaliser.Size;
        for (var panel = 1; panel < counts.Length; panel++)
        {
            counts[0] += counts[panel];
            for (var i = 0; i < size; i++)
            {
                sums[i] += sums[panel * size + i];
                squares[i] += squares[panel * size + i];
            }
        }
        normaliser.Merge(counts[0], sums.AsSpan(0, size), squares.AsSpan(0, size));
        counts.AsSpan().Clear();
        sums.AsSpan().Clear();
        squares.AsSpan().Clear();
    }
}
