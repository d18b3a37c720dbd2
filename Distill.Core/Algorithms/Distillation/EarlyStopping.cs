using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>
/// Ends the passes of an iteration when for some of them the loss on the rows that are held out was above its lowest by more than
/// 2 %, and takes the students and their optimizers back to the last pass for which it was not (Prechelt 1998, "Early stopping -
/// but when?", with the generalization loss as criterion). What is nearer to the lowest is noise: going back for it would
/// only cost steps of learning.
/// </summary>
/// <param name="patience">Passes above that, after which it ends.</param>
/// <param name="learners">All that learn, the student first.</param>
internal sealed class EarlyStopping(
    int patience,
    OptimizerConfig config,
    IReadOnlyList<(Network Network, Optimizer Optimizer)> learners
) : IDisposable
{
    private readonly (FloatBuffer Parameters, Optimizer Optimizer)[] kept =
    [
        .. learners.Select(learner =>
            (new FloatBuffer(learner.Network.Parameters.Length), config.Create(learner.Network, maxChunks: 0))
        ),
    ];
    private const double Tolerance = 0.02;

    private double? lowest;
    private int passesSince;

    /// <summary>The loss of the student that is kept; null where no row is held out.</summary>
    public double? Loss { get; private set; }

    /// <summary>Bytes for one learner.</summary>
    internal static long EstimateBytes(NetworkSpec network, OptimizerConfig config) =>
        network.Size.Parameters * sizeof(float) + config.EstimateBytes(network.Size.Parameters, maxChunks: 0);

    /// <summary>A new iteration.</summary>
    public void Begin() => (lowest, Loss, passesSince) = (null, null, 0);

    /// <summary>Takes the loss after a pass; says whether to stop.</summary>
    public bool After(double? loss)
    {
        if (loss is not { } now)
            return false;
        lowest = Math.Min(lowest ?? now, now);
        if (now <= lowest + Tolerance * Math.Abs(lowest.Value))
        {
            Keep();
            (Loss, passesSince) = (now, 0);
        }
        else
            passesSince++;
        return passesSince >= patience;
    }

    /// <summary>Goes back to the pass that is kept.</summary>
    public void Restore()
    {
        for (var i = 0; i < kept.Length && passesSince > 0; i++)
        {
            kept[i].Parameters.Span.CopyTo(learners[i].Network.Parameters.Span);
            kept[i].Optimizer.CopyTo(learners[i].Optimizer);
        }
    }

    public void Dispose()
    {
        foreach (var (parameters, optimizer) in kept)
        {
            parameters.Dispose();
            optimizer.Dispose();
        }
    }

    private void Keep()
    {
        for (var i = 0; i < kept.Length; i++)
        {
            learners[i].Network.Parameters.Span.CopyTo(kept[i].Parameters.Span);
            learners[i].Optimizer.CopyTo(kept[i].Optimizer);
        }
    }
}
