namespace Distill.Networks;

/// <summary>What the student minimizes. Each is the mean over valid rows (and, where said, over actions).</summary>
public abstract record Loss
{
    /// <summary>What the outputs of a student for continuous actions mean where its settings do not say it.</summary>
    public virtual Head Head => Head.Plain;

    /// <summary>Whether it can judge outputs with this meaning.</summary>
    public virtual bool Fits(Head head) => head == Head;

    /// <summary>Whether a row's label is all that describes the teacher's distribution; else it is the teacher's action.</summary>
    public virtual bool LabelIsDistribution => false;

    /// <summary>What a sum over rows is divided by, per row, to give the mean that the loss is defined as.</summary>
    public virtual int TermsPerRow(int outputs) => 1;

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public virtual void Check() { }

    /// <summary>Adds up one panel or half panel and writes the gradient of scale * sum.</summary>
    /// <param name="y">Network output <c>[output size, 32]</c>.</param>
    /// <param name="target"><c>[label size, 32]</c>.</param>
    /// <param name="weight"><c>[1, 32]</c>: 0 for lanes that do not count, else 1 (or an importance weight).</param>
    /// <param name="scale">Factor of the gradient, 1 / (rows * terms per row) for a mean.</param>
    /// <param name="dy"><c>[output size, 32]</c>, overwritten.</param>
    /// <param name="laneSums"><c>[32]</c>: each lane's share of the result is added; empty if nobody needs it.</param>
    /// <param name="head">What the outputs mean; null for <see cref="Head"/>.</param>
    /// <returns>Weighted sum over rows and terms, without <paramref name="scale"/>.</returns>
    public double Evaluate(
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> laneSums = default,
        Head? head = null
    )
    {
        Span<double> sums = stackalloc double[weight.Lanes];
        sums.Clear();
        Add(head ?? Head, y, target, weight, scale, dy, sums);
        var total = 0.0;
        for (var lane = 0; lane < sums.Length; lane++)
            total += sums[lane];
        for (var lane = 0; lane < laneSums.Length; lane++)
            laneSums[lane] += sums[lane];
        return total;
    }

    /// <summary>Adds each lane's share to <paramref name="sums"/> and writes the gradient, as <see cref="Evaluate"/> says.</summary>
    protected abstract void Add(
        Head head,
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> sums
    );
}
