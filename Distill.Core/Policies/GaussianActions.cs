using Distill.Compute;

namespace Distill.Policies;

/// <summary>Independent normal distributions: the outputs are the means, <c>log_std</c> is shared by all states.</summary>
internal sealed class GaussianActions : ActionDistribution
{
    private const float HalfLogTwoPi = 0.918938533f;

    public override void Sample(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        RandomStream noise,
        int first,
        long step,
        Span<float> actions
    )
    {
        noise.Normals(actions, (uint)first, (uint)step, (uint)(step >> 32));
        for (var action = 0; action < logStd.Length; action++)
        {
            var std = MathF.Exp(logStd[action]);
            for (var i = action * Panel.Width; i < (action + 1) * Panel.Width; i++)
                actions[i] = outputs[i] + std * actions[i];
        }
    }

    public override void LogProbability(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        ReadOnlySpan<float> actions,
        Span<float> logProbability
    )
    {
        logProbability.Clear();
        for (var action = 0; action < logStd.Length; action++)
        {
            var inverse = MathF.Exp(-logStd[action]);
            var constant = logStd[action] + HalfLogTwoPi;
            for (var lane = 0; lane < Panel.Width; lane++)
            {
                var i = action * Panel.Width + lane;
                var deviation = (actions[i] - outputs[i]) * inverse;
                logProbability[lane] -= 0.5f * deviation * deviation + constant;
            }
        }
    }

    public override void Entropy(ReadOnlySpan<float> outputs, ReadOnlySpan<float> logStd, Span<float> entropy)
    {
        var sum = 0f;
        foreach (var value in logStd)
            sum += value + HalfLogTwoPi + 0.5f;
        entropy.Fill(sum);
    }

    public override void Divergence(
        ReadOnlySpan<float> oldOutputs,
        ReadOnlySpan<float> oldLogStd,
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        Span<float> divergence
    )
    {
        divergence.Clear();
        for (var action = 0; action < logStd.Length; action++)
        {
            var narrowing = logStd[action] - oldLogStd[action];
            var constant = narrowing + 0.5f * MathF.Exp(-2 * narrowing) - 0.5f;
            var inverse = MathF.Exp(-logStd[action]);
            for (var lane = 0; lane < Panel.Width; lane++)
            {
                var i = action * Panel.Width + lane;
                var shift = (outputs[i] - oldOutputs[i]) * inverse;
                divergence[lane] += 0.5f * shift * shift + constant;
            }
        }
    }

    public override void Backward(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        ReadOnlySpan<float> actions,
        ReadOnlySpan<float> dLogProbability,
        ReadOnlySpan<float> dEntropy,
        Span<float> dOutputs,
        Span<float> dLogStd
    )
    {
        for (var action = 0; action < logStd.Length; action++)
        {
            var inverse = MathF.Exp(-logStd[action]);
            var change = 0f;
            for (var lane = 0; lane < Panel.Width; lane++)
            {
                var i = action * Panel.Width + lane;
                var deviation = (actions[i] - outputs[i]) * inverse;
                dOutputs[i] = dLogProbability[lane] * deviation * inverse;
                change += dLogProbability[lane] * (deviation * deviation - 1) + dEntropy[lane];
            }
            dLogStd[action] += change;
        }
    }
}
