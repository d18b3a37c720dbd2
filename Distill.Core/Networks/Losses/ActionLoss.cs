namespace Distill.Networks;

/// <summary>
/// A loss of actions, continuous ones: of a distribution it compares the likeliest action with the label, and leaves the
/// deviation alone.
/// </summary>
public abstract record ActionLoss : Loss
{
    public sealed override bool Fits(Head head) => head != Head.Categorical;

    public sealed override int TermsPerRow(int outputs) => outputs;

    protected sealed override void Add(
        Head head,
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> sums
    )
    {
        if (head == Head.Plain)
        {
            Compare(y, target, weight, scale, dy, sums);
            return;
        }
        var actions = target.Features;
        var dMean = dy.Rows(0, actions);
        // What would be the gradient of the deviations holds the actions for a moment.
        var action = dy.Rows(actions, actions);
        ActionDistribution.Of(head)!.Mode(y, action);
        Compare(action, target, weight, scale, dMean, sums);
        if (head == Head.SquashedGaussian)
        {
            // What does not count may be infinite or not a number.
            Span<float> counted = stackalloc float[weight.Lanes];
            for (var lane = 0; lane < counted.Length; lane++)
                counted[lane] = weight[0, lane] == 0 ? 0 : 1;
            Elementwise.ScaleLanes(action, counted);
            Elementwise.ActivateBackward(Activation.Tanh, action.Values, dMean.Values);
        }
        action.Values.Clear();
    }

    /// <summary>As <see cref="Loss.Evaluate"/>, of actions.</summary>
    /// <param name="y"><c>[actions, 32]</c>.</param>
    /// <param name="dy"><c>[actions, 32]</c>, overwritten.</param>
    protected abstract void Compare(
        Panel y,
        Panel target,
        Panel weight,
        float scale,
        Panel dy,
        Span<double> sums
    );
}
