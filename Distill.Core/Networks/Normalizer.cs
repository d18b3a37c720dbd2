namespace Distill.Networks;

/// <summary>
/// Running mean and variance of observations: y = (x - mean) / (std + epsilon), as rsl_rl's EmpiricalNormalization
/// (population variance, batches merged by Chan's rule, epsilon 1e-2).
/// </summary>
public sealed class Normalizer
{
    private readonly float[] scale;
    private long count;

    public Normalizer(int size, double epsilon = 1e-2)
    {
        Epsilon = epsilon;
        Mean = new float[size];
        Variance = new float[size];
        scale = new float[size];
        Variance.AsSpan().Fill(1);
        Refresh();
    }

    public int Size => Mean.Length;
    public double Epsilon { get; }

    /// <summary><c>[size]</c>; call <see cref="Refresh"/> after writing.</summary>
    public float[] Mean { get; }

    /// <summary><c>[size]</c>; call <see cref="Refresh"/> after writing.</summary>
    public float[] Variance { get; }

    /// <summary><c>[size]</c>: what <see cref="Apply"/> multiplies with, 1 / (std + epsilon).</summary>
    internal ReadOnlySpan<float> Scale => scale;

    /// <summary>Observations seen.</summary>
    public long Count
    {
        get => count;
        set => count = value;
    }

    /// <summary>Recomputes what <see cref="Apply"/> multiplies with.</summary>
    public void Refresh()
    {
        for (var i = 0; i < scale.Length; i++)
            scale[i] = (float)(1 / (Math.Sqrt(Variance[i]) + Epsilon));
    }

    /// <summary>Normalizes a panel <c>[size, 32]</c> (or half panel) in place.</summary>
    public void Apply(Panel panel) => Elementwise.Normalize(panel, Mean, scale);

    /// <summary>Merges a batch given by the moments of its deviations from the present mean.</summary>
    /// <param name="count">Observations in the batch.</param>
    /// <param name="sums"><c>[size]</c>: sum of (x - Mean).</param>
    /// <param name="squares"><c>[size]</c>: sum of (x - Mean)^2.</param>
    public void Merge(long count, ReadOnlySpan<double> sums, ReadOnlySpan<double> squares)
    {
        if (count == 0)
            return;
        Count += count;
        var rate = (double)count / Count;
        for (var i = 0; i < Mean.Length; i++)
        {
            var delta = sums[i] / count;
            var batchVariance = Math.Max(0, squares[i] / count - delta * delta);
            var shift = rate * delta;
            Mean[i] = (float)(Mean[i] + shift);
            Variance[i] = (float)(
                Variance[i] + rate * (batchVariance - Variance[i] + delta * (delta - shift))
            );
        }
        Refresh();
    }

    public void Visit(State state)
    {
        state.Block<float>("mean", Mean);
        state.Block<float>("variance", Variance);
        foreach (var variance in Variance)
            state.Require("variance", variance >= 0, variance, "a variance");
        state.Count("count", ref count);
        Refresh();
    }
}
