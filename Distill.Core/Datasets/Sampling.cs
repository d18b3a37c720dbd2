using static Distill.SettingCheck;

namespace Distill.Datasets;

/// <summary>In which order, and how often, an epoch visits the segments of a dataset.</summary>
public abstract record Sampling
{
    /// <summary>Bytes that the order of an epoch takes.</summary>
    internal virtual int BytesPerSegment => sizeof(int);

    /// <summary>Whether it goes by the classes of labels.</summary>
    public virtual bool ByClass => false;

    /// <summary>Students that are trained side by side because it goes by how much they disagree; 1 for the student alone.</summary>
    public virtual int Ensemble => 1;

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
/// <param name="Scores">What <see cref="Weighted.ScoreRange"/> gave.</param>
public readonly record struct WeighedEpoch(
    AggregatedDataset Dataset,
    int SegmentsPerIteration,
    (float Lowest, float Highest) Scores
);

/// <summary>As many draws as there are segments, with replacement, with probabilities in proportion to weights.</summary>
public abstract record Weighted : Sampling
{
    // The weights, and a guide to them.
    internal override int BytesPerSegment => base.BytesPerSegment + sizeof(double) + sizeof(int);

    /// <summary>Lowest and highest of what was noted of the segments and the weights depend on, found once per epoch.</summary>
    public virtual (float Lowest, float Highest) ScoreRange(AggregatedDataset dataset) => default;

    /// <summary>(score + epsilon)^exponent, from the lowest score; the highest where none is known.</summary>
    private protected static double Priority(WeighedEpoch epoch, float score, double epsilon, double exponent)
    {
        var above = (double)(float.IsFinite(score) ? score : epoch.Scores.Highest) - epoch.Scores.Lowest;
        return Math.Pow(above + epsilon, exponent);
    }

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
/// <param name="Decay">
/// Per iteration of age; 0 is uniform. Raise it when the student lags behind its own newest mistakes, lower it when it forgets what
/// it could do.
/// </param>
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
/// <param name="Exponent">
/// 0 is uniform, 1 proportional to the loss. Raise it when hard states are too rare, lower it when outliers or wrong labels take over.
/// </param>
/// <param name="Epsilon">
/// In units of the loss; above 0, so that what is learned is still visited. Raise it against forgetting, lower it when easy states
/// still take most draws.
/// </param>
public sealed record LossPrioritized(Schedule Exponent, Schedule Epsilon) : Weighted
{
    public LossPrioritized()
        : this(0.6, 1e-3) { }

    public override void Check()
    {
        Require(Exponent.Value is >= 0 and <= 10, "exponent", Exponent, "between 0 and 10");
        Require(Epsilon.Value is > 0 and < double.PositiveInfinity, "epsilon", Epsilon, "above 0");
    }

    public override (float Lowest, float Highest) ScoreRange(AggregatedDataset dataset) =>
        dataset.LossRange();

    public override void Weigh(WeighedEpoch epoch, int first, Span<double> weights)
    {
        var (exponent, epsilon) = (Exponent.Value, Epsilon.Value);
        for (var i = 0; i < weights.Length; i++)
            weights[i] = Priority(epoch, epoch.Dataset.Loss(first + i), epsilon, exponent);
    }
}

/// <summary>
/// Segments on which the members of an ensemble disagree more often: p ~ (disagreement + Epsilon)^Exponent. The disagreement is
/// the variance over members of their actions (probabilities of the choices), averaged over rows and outputs, noted while they
/// train (query by committee; Seung, Opper and Sompolinsky 1992). Segments that were not trained on yet count as the worst one.
/// </summary>
/// <param name="Members">
/// Students in all, the one that counts included. Each of the others begins from a draw of its own, is trained on the same
/// mini-batches and takes as long. Raise it when the disagreement is mostly chance, lower it when training gets slow.
/// </param>
/// <param name="Exponent">
/// 0 is uniform, 1 proportional to the disagreement. Raise it when hard states are too rare, lower it when a few take over.
/// </param>
/// <param name="Epsilon">
/// In units of the squared output; above 0, so that what they agree on is still visited. Raise it against forgetting, lower it when
/// easy states still take most draws.
/// </param>
public sealed record DisagreementPrioritized(int Members, Schedule Exponent, Schedule Epsilon) : Weighted
{
    public DisagreementPrioritized()
        : this(3, 0.6, 1e-3) { }

    public override int Ensemble => Members;

    public override void Check()
    {
        Require(Members is >= 2 and <= 100, "members", Members, "between 2 and 100");
        Require(Exponent.Value is >= 0 and <= 10, "exponent", Exponent, "between 0 and 10");
        Require(Epsilon.Value is > 0 and < double.PositiveInfinity, "epsilon", Epsilon, "above 0");
    }

    public override (float Lowest, float Highest) ScoreRange(AggregatedDataset dataset) =>
        dataset.DisagreementRange();

    public override void Weigh(WeighedEpoch epoch, int first, Span<double> weights)
    {
        var (exponent, epsilon) = (Exponent.Value, Epsilon.Value);
        for (var i = 0; i < weights.Length; i++)
            weights[i] = Priority(epoch, epoch.Dataset.Disagreement(first + i), epsilon, exponent);
    }
}

/// <summary>
/// Rows of rare choices more often: p ~ (rows whose label is of the same class)^-Exponent; a sequence by the mean over its valid
/// rows. For discrete actions.
/// </summary>
/// <param name="Exponent">
/// 1 draws all classes equally often, 0 is uniform. Raise it when the student never takes a rare choice, lower it when it takes
/// it too often.
/// </param>
public sealed record ClassBalanced(Schedule Exponent) : Weighted
{
    public ClassBalanced()
        : this(1) { }

    public override bool ByClass => true;

    public override void Check() =>
        Require(Exponent.Value is >= 0 and <= 10, "exponent", Exponent, "between 0 and 10");

    public override void Weigh(WeighedEpoch epoch, int first, Span<double> weights)
    {
        var classes = epoch.Dataset.Classes;
        Span<double> byClass = stackalloc double[classes.Number];
        for (var i = 0; i < byClass.Length; i++)
            byClass[i] = Math.Pow(Math.Max(1, classes.Held(i)), -Exponent.Value);
        epoch.Dataset.MeanByClass(byClass, first, weights);
    }
}
