namespace Distill.Evaluation;

/// <summary>How well each variant of the environments goes: mean return over the episodes of the last rollout in which it finished any.</summary>
public sealed class VariantStatistics
{
    private readonly double[] sums;
    private readonly int[] episodes;
    private readonly double[] means;
    private readonly Comparison<int> best;

    public VariantStatistics(int variants)
    {
        sums = new double[variants];
        episodes = new int[variants];
        means = new double[variants];
        means.AsSpan().Fill(double.NaN);
        // NaN is below all numbers.
        best = (a, b) => means[b].CompareTo(means[a]) is not 0 and var order ? order : a.CompareTo(b);
    }

    /// <summary><c>[variants]</c>; NaN before the first episode has finished.</summary>
    public ReadOnlySpan<double> MeanReturns => means;

    /// <summary>Mean and standard deviation (population) over the variants that are known, and the lowest; null where none is.</summary>
    public (double Mean, double Std, double Worst)? Spread
    {
        get
        {
            var (known, sum, squares, worst) = (0, 0.0, 0.0, double.PositiveInfinity);
            foreach (var mean in means)
            {
                if (double.IsNaN(mean))
                    continue;
                known++;
                sum += mean;
                worst = Math.Min(worst, mean);
            }
            foreach (var mean in means)
                squares += double.IsNaN(mean) ? 0 : (mean - sum / known) * (mean - sum / known);
            return known == 0 ? null : (sum / known, Math.Sqrt(squares / known), worst);
        }
    }

    /// <summary>Counts an episode that has finished. Call in an order that does not depend on threads.</summary>
    public void Add(int variant, double episodeReturn)
    {
        sums[variant] += episodeReturn;
        episodes[variant]++;
    }

    /// <summary>Ends a rollout.</summary>
    public void Complete()
    {
        for (var variant = 0; variant < means.Length; variant++)
            if (episodes[variant] > 0)
                means[variant] = sums[variant] / episodes[variant];
        sums.AsSpan().Clear();
        episodes.AsSpan().Clear();
    }

    /// <summary>Ranks the variants from the highest mean return; those that are not known are the last, and of equal ones the first comes first.</summary>
    /// <param name="order"><c>[variants]</c>, written.</param>
    public void Rank(Span<int> order)
    {
        for (var i = 0; i < order.Length; i++)
            order[i] = i;
        order.Sort(best);
    }

    public void Visit(State state) => state.Block<double>("mean_returns", means);
}
