using System.Runtime.Intrinsics;

namespace Distill.Networks;

/// <summary>Independent normal distributions: the outputs are [mean; log_std].</summary>
internal sealed class Gaussian : ActionDistribution
{
    internal const float HalfLogTwoPi = 0.918938533f;

    public override void Mode(Panel outputs, Panel actions) =>
        outputs.Rows(0, actions.Features).Values.CopyTo(actions.Values);

    public override void Sample(Panel outputs, RandomStream noise, int first, long step, Panel actions)
    {
        noise.Normals(actions.Values, (uint)first, (uint)step, (uint)(step >> 32));
        Span<float> std = stackalloc float[Panel.Width];
        for (var i = 0; i < actions.Features; i++)
        {
            var action = actions.Row(i);
            var mean = outputs.Row(i);
            Exp(1, outputs.Row(actions.Features + i), std);
            for (var lane = 0; lane < action.Length; lane++)
                action[lane] = mean[lane] + std[lane] * action[lane];
        }
    }

    public override void LogProbability(Panel outputs, Panel actions, Span<float> logProbability)
    {
        logProbability.Clear();
        Span<float> inverse = stackalloc float[Panel.Width];
        for (var i = 0; i < actions.Features; i++)
        {
            var action = actions.Row(i);
            var mean = outputs.Row(i);
            var logStd = outputs.Row(actions.Features + i);
            Exp(-1, logStd, inverse);
            for (var lane = 0; lane < action.Length; lane += Vector256<float>.Count)
            {
                var deviation = (Load(action, lane) - Load(mean, lane)) * Load(inverse, lane);
                var constant = Load(logStd, lane) + Vector256.Create(HalfLogTwoPi);
                (Load(logProbability, lane) - (0.5f * deviation * deviation + constant)).CopyTo(
                    logProbability[lane..]
                );
            }
        }
    }

    public override void Entropy(Panel outputs, Span<float> entropy)
    {
        entropy.Clear();
        for (var i = outputs.Features / 2; i < outputs.Features; i++)
        {
            var logStd = outputs.Row(i);
            for (var lane = 0; lane < logStd.Length; lane += Vector256<float>.Count)
            {
                var own = Load(logStd, lane) + Vector256.Create(HalfLogTwoPi) + Vector256.Create(0.5f);
                (Load(entropy, lane) + own).CopyTo(entropy[lane..]);
            }
        }
    }

    public override void KlDivergence(Panel oldOutputs, Panel outputs, Span<float> kl)
    {
        kl.Clear();
        Span<float> logRatios = stackalloc float[outputs.Lanes];
        Span<float> squares = stackalloc float[Panel.Width];
        Span<float> inverse = stackalloc float[Panel.Width];
        var actions = outputs.Features / 2;
        for (var i = 0; i < actions; i++)
        {
            var oldMean = oldOutputs.Row(i);
            var oldLogStd = oldOutputs.Row(actions + i);
            var mean = outputs.Row(i);
            var logStd = outputs.Row(actions + i);
            for (var lane = 0; lane < mean.Length; lane += Vector256<float>.Count)
                (Load(logStd, lane) - Load(oldLogStd, lane)).CopyTo(logRatios[lane..]);
            Exp(-2, logRatios, squares);
            Exp(-1, logStd, inverse);
            for (var lane = 0; lane < mean.Length; lane += Vector256<float>.Count)
            {
                var constant = Load(logRatios, lane) + 0.5f * Load(squares, lane) - Vector256.Create(0.5f);
                var shift = (Load(mean, lane) - Load(oldMean, lane)) * Load(inverse, lane);
                (Load(kl, lane) + (0.5f * shift * shift + constant)).CopyTo(kl[lane..]);
            }
        }
    }

    /// <summary>
    /// With m and s the new mean and standard deviation, those before with a prime: d KL / dm = (m - m') / s^2 and
    /// d KL / d log s = 1 - (s'^2 + (m - m')^2) / s^2.
    /// </summary>
    public override void KlBackward(Panel oldOutputs, Panel outputs, float scale, Panel dOutputs)
    {
        var actions = outputs.Features / 2;
        for (var i = 0; i < actions; i++)
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var logStd = outputs[actions + i, lane];
            var precision = Exponential.Of(-2 * logStd);
            var shift = outputs[i, lane] - oldOutputs[i, lane];
            var ratio = Exponential.Of(2 * (oldOutputs[actions + i, lane] - logStd));
            dOutputs[i, lane] = scale * shift * precision;
            dOutputs[actions + i, lane] = scale * (1 - ratio - shift * shift * precision);
        }
    }

    public override void Backward(
        Panel outputs,
        Panel actions,
        ReadOnlySpan<float> dLogProbability,
        ReadOnlySpan<float> dEntropy,
        Panel dOutputs
    )
    {
        Span<float> inverse = stackalloc float[Panel.Width];
        for (var i = 0; i < actions.Features; i++)
        {
            var action = actions.Row(i);
            var mean = outputs.Row(i);
            var dMean = dOutputs.Row(i);
            var dLogStd = dOutputs.Row(actions.Features + i);
            Exp(-1, outputs.Row(actions.Features + i), inverse);
            for (var lane = 0; lane < action.Length; lane += Vector256<float>.Count)
            {
                var own = Load(inverse, lane);
                var deviation = (Load(action, lane) - Load(mean, lane)) * own;
                var slope = Load(dLogProbability, lane);
                (slope * deviation * own).CopyTo(dMean[lane..]);
                (slope * (deviation * deviation - Vector256<float>.One) + Load(dEntropy, lane)).CopyTo(
                    dLogStd[lane..]
                );
            }
        }
    }

    private static Vector256<float> Load(ReadOnlySpan<float> row, int lane) => Vector256.Create(row[lane..]);

    /// <summary>The standard deviation of this logarithm.</summary>
    public static float Deviation(float logStd)
    {
        Span<float> deviation = stackalloc float[1];
        Exp(1, [logStd], deviation);
        return deviation[0];
    }

    /// <summary>e^(factor x) of each lane; of one for all where, as without states that it depends on, they are equal.</summary>
    private static void Exp(float factor, ReadOnlySpan<float> row, Span<float> result)
    {
        result.Fill(Exponential.Of(factor * row[0]));
        if (row.ContainsAnyExcept(row[0]))
            for (var lane = 1; lane < row.Length; lane++)
                result[lane] = Exponential.Of(factor * row[lane]);
    }
}
