using static Distill.SettingCheck;

namespace Distill.Datasets;

/// <summary>In which order, and how often, an epoch visits the segments of a dataset.</summary>
public abstract record Sampling
{
    /// <summary>Bytes that the order of an epoch takes.</summary>
    internal virtual int BytesPerSegment => sizeof(int);

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public virtual void Check() { }
}

/// <summary>Every segment once.</summary>
public abstract record EachOnce : Sampling
{
    /// <param name="order"><c>[segments]</c>, written.</param>
    /// <param name="epoch">Number of the epoch since the start of the run.</param>
    public abstract void Order(Span<int> order, RandomStream stream, long epoch);
}

/// <summary>What the weights of an epoch may depend on.</summary>
/// <param name="SegmentsPerIteration">Segments that one iteration adds: the unit of age.</param>
/// <param name="Losses">What <see cref="Weighted.LossRange"/> gave.</param>
public readonly record struct WeighedEpoch(
    AggregatedDataset Dataset,
    int SegmentsPerIteration,
    (float Lowest, float Highest) Losses
);

/// <summary>As many draws as there are segments, with replacement, with probabilities in proportion to weights.</summary>
public abstract record Weighted : Sampling
{
    // The weights, and a guide to them.
    internal override int BytesPerSegment => base.BytesPerSegment + sizeof(double) + sizeof(int);

    /// <summary>What the weights of all segments depend on, found once per epoch.</summary>
    public virtual (float Lowest, float Highest) LossRange(AggregatedDataset dataset) => default;

    /// <summary>The weights of some segments; different ones are weighed by different threads.</summary>
    /// <param name="first">The first segment.</param>
    /// <param name="weights"><c>[segments]</c>, written.</param>
    public abstract void Weigh(WeighedEpoch epoch, int first, Span<double> weights);
}

/// <summary>Every segment once, in a fresh random order each epoch.</summary>
public sealed record Permutation : EachOnce
{
    public override void Order(Span<int> order, RandomStream stream, long epoch) =>
        stream.Permutation(order, (uint)epoch, (uint)(epoch >> 32));
}

/// <summary>Every segment once, in the order it is stored (<c>shuffle = false</c>); for looking into a run, not for the best student.</summary>
public sealed record InOrder : EachOnce
{
    public override void Order(Span<int> order, RandomStream stream, long epoch)
    {
        for (var i = 0; i < order.Length; i++)
            order[i] = i;
    }
}

/// <summary>Newer segments more often: p ~ exp(-Decay x age).</summary>
/// <param name="Decay">Per iteration of age. 0 is uniform; raise it when the student lags behind its own newest mistakes.</param>
public sealed record RecencyWeighted(Schedule Decay) : Weighted
{
    public RecencyWeighted()
        : this(0.01) { }

    public override void Check() =>
        Require(Decay.Value is >= 0 and < double.PositiveInfinity, "decay", Decay, "at least 0");

    public override void Weigh(WeighedEpoch epoch, int first, Span<double> weights)
    {
        double decay = Decay;
        var (last, weight) = (-1L, 0.0);
        for (var i = 0; i < weights.Length; i++)
        {
            var age = (epoch.Dataset.Added - 1 - epoch.Dataset.Birth(first + i)) / epoch.SegmentsPerIteration;
            // Neighbours mostly came together.
            if (age != last)
                (last, weight) = (age, Math.Exp(-decay * age));
            weights[i] = weight;
        }
    }
}

/// <summary>
/// Segments that the student last got most wrong more often: p ~ (loss + Epsilon)^Exponent (Schaul et al. 2016, section 3.3,
/// proportional). Segments it has not been trained on count as the worst one; losses that can be negative count from the
/// lowest one.
/// </summary>
/// <param name="Exponent">0 is uniform, 1 proportional to the loss. Lower it when outliers or wrong labels take over.</param>
/// <param name="Epsilon">In units of the loss; above 0, so that what is learned is still visited. Raise it against forgetting.</param>
public sealed record LossPrioritized(Schedule Exponent, Schedule Epsilon) : Weighted
{
    public LossPrioritized()
        : this(0.6, 1e-3) { }

    public override void Check()
    {
        Require(Exponent.Value is >= 0 and <= 10, "exponent", Exponent, "between 0 and 10");
        Require(Epsilon.Value is > 0 and < double.PositiveInfinity, "epsilon", Epsilon, "above 0");
    }

    public override (float Lowest, float Highest) LossRange(AggregatedDataset dataset) => dataset.LossRange();

    public override void Weigh(WeighedEpoch epoch, int first, Span<double> weights)
    {
        var (exponent, epsilon) = (Exponent.Value, Epsilon.Value);
        for (var i = 0; i < weights.Length; i++)
        {
            var loss = epoch.Dataset.Loss(first + i);
            var wrong = (double)(float.IsFinite(loss) ? loss : epoch.Losses.Highest) - epoch.Losses.Lowest;
            weights[i] = Math.Pow(wrong + epsilon, exponent);
        }
    }
}
