using System.Runtime.Intrinsics;
using Distill.Compute;

namespace Distill.Networks;

/// <summary>Independent normal distributions: the outputs are the means, <c>log_std</c> is shared by all states.</summary>
internal sealed class Gaussian : ActionDistribution
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
            for (var lane = 0; lane < Panel.Width; lane += Vector256<float>.Count)
            {
                var i = action * Panel.Width + lane;
                var deviation = (Vector256.Create(actions[i..]) - Vector256.Create(outputs[i..])) * inverse;
                var sum = Vector256.Create<float>(logProbability[lane..]);
                (sum - (0.5f * deviation * deviation + Vector256.Create(constant))).CopyTo(
                    logProbability[lane..]
                );
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

    public override void KlDivergence(
        ReadOnlySpan<float> oldOutputs,
        ReadOnlySpan<float> oldLogStd,
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        Span<float> kl
    )
    {
        kl.Clear();
        for (var action = 0; action < logStd.Length; action++)
        {
            var logRatio = logStd[action] - oldLogStd[action];
            var constant = logRatio + 0.5f * MathF.Exp(-2 * logRatio) - 0.5f;
            var inverse = MathF.Exp(-logStd[action]);
            for (var lane = 0; lane < Panel.Width; lane += Vector256<float>.Count)
            {
                var i = action * Panel.Width + lane;
                var shift = (Vector256.Create(outputs[i..]) - Vector256.Create(oldOutputs[i..])) * inverse;
                var sum = Vector256.Create<float>(kl[lane..]);
                (sum + (0.5f * shift * shift + Vector256.Create(constant))).CopyTo(kl[lane..]);
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
        Span<float> changes = stackalloc float[Panel.Width];
        for (var action = 0; action < logStd.Length; action++)
        {
            var inverse = MathF.Exp(-logStd[action]);
            for (var lane = 0; lane < Panel.Width; lane += Vector256<float>.Count)
            {
                var i = action * Panel.Width + lane;
                var deviation = (Vector256.Create(actions[i..]) - Vector256.Create(outputs[i..])) * inverse;
                var slope = Vector256.Create(dLogProbability[lane..]);
                (slope * deviation * inverse).CopyTo(dOutputs[i..]);
                (
                    slope * (deviation * deviation - Vector256<float>.One)
                    + Vector256.Create(dEntropy[lane..])
                ).CopyTo(changes[lane..]);
            }
            // In the order of lanes, whatever the vectors' width.
            var change = 0f;
            foreach (var value in changes)
                change += value;
            dLogStd[action] += change;
        }
    }
}
