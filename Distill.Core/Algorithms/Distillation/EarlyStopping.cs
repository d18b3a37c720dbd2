using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>
/// Ends the passes of an iteration when the loss on the rows that are held out has not fallen for some passes, and takes the
/// students and their optimizers back to the pass after which it was lowest (Prechelt 1998, "Early stopping - but when?").
/// </summary>
/// <param name="patience">Passes without a lower loss, after which it ends.</param>
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
    private double? best;
    private int passesSince;

    /// <summary>The lowest loss of this iteration; null where no row is held out.</summary>
    public double? Best => best;

    /// <summary>Bytes for one learner.</summary>
    internal static long EstimateBytes(NetworkSpec network, OptimizerConfig config) =>
        network.Size.Parameters * sizeof(float) + config.EstimateBytes(network.Size.Parameters, maxChunks: 0);

    /// <summary>A new iteration.</summary>
    public void Begin() => (best, passesSince) = (null, 0);

    /// <summary>Takes the loss after a pass; says whether to stop.</summary>
    public bool After(double? loss)
    {
        if (loss is null)
            return false;
        if (best is null || loss < best)
        {
            Keep();
            (best, passesSince) = (loss, 0);
        }
        else
            passesSince++;
        return passesSince >= patience;
    }

    /// <summary>Goes back to the best pass.</summary>
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
