using Distill.Compute;

namespace Distill.Networks;

/// <summary>One of several choices: the outputs are logits, an action is the index of the choice.</summary>
internal sealed class Categorical : ActionDistribution
{
    public override void Sample(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        RandomStream noise,
        int first,
        long step,
        Span<float> actions
    )
    {
        Span<float> normaliser = stackalloc float[Panel.Width];
        LogNormaliser(outputs, normaliser);
        var choices = outputs.Length / Panel.Width;
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var left = noise.Uniform((uint)(first + lane), (uint)step, (uint)(step >> 32));
            var choice = 0;
            for (; choice < choices - 1; choice++)
            {
                left -= MathF.Exp(outputs[choice * Panel.Width + lane] - normaliser[lane]);
                if (left < 0)
                    break;
            }
            actions[lane] = choice;
        }
    }

    public override void LogProbability(
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        ReadOnlySpan<float> actions,
        Span<float> logProbability
    )
    {
        Span<float> normaliser = stackalloc float[Panel.Width];
        LogNormaliser(outputs, normaliser);
        for (var lane = 0; lane < Panel.Width; lane++)
            logProbability[lane] = outputs[(int)actions[lane] * Panel.Width + lane] - normaliser[lane];
    }

    public override void Entropy(ReadOnlySpan<float> outputs, ReadOnlySpan<float> logStd, Span<float> entropy)
    {
        Span<float> normaliser = stackalloc float[Panel.Width];
        LogNormaliser(outputs, normaliser);
        entropy.Clear();
        for (var i = 0; i < outputs.Length; i++)
        {
            var logProbability = outputs[i] - normaliser[i % Panel.Width];
            entropy[i % Panel.Width] -= MathF.Exp(logProbability) * logProbability;
        }
    }

    public override void KlDivergence(
        ReadOnlySpan<float> oldOutputs,
        ReadOnlySpan<float> oldLogStd,
        ReadOnlySpan<float> outputs,
        ReadOnlySpan<float> logStd,
        Span<float> kl
    )
    {
        Span<float> oldNormaliser = stackalloc float[Panel.Width];
        Span<float> normaliser = stackalloc float[Panel.Width];
        LogNormaliser(oldOutputs, oldNormaliser);
        LogNormaliser(outputs, normaliser);
        kl.Clear();
        for (var i = 0; i < outputs.Length; i++)
        {
            var before = oldOutputs[i] - oldNormaliser[i % Panel.Width];
            var after = outputs[i] - normaliser[i % Panel.Width];
            kl[i % Panel.Width] += MathF.Exp(before) * (before - after);
        }
    }

    /// <summary>d log p(a) / d logit_j = [j = a] - p_j and d H / d logit_j = -p_j (log p_j + H).</summary>
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
        Span<float> normaliser = stackalloc float[Panel.Width];
        Span<float> entropy = stackalloc float[Panel.Width];
        LogNormaliser(outputs, normaliser);
        Entropy(outputs, logStd, entropy);
        for (var i = 0; i < outputs.Length; i++)
        {
            var lane = i % Panel.Width;
            var logProbability = outputs[i] - normaliser[lane];
            var probability = MathF.Exp(logProbability);
            var chosen = i / Panel.Width == (int)actions[lane] ? 1 : 0;
            dOutputs[i] =
                dLogProbability[lane] * (chosen - probability)
                - dEntropy[lane] * probability * (logProbability + entropy[lane]);
        }
    }

    /// <summary>log of the sum of e^logit, per lane.</summary>
    private static void LogNormaliser(ReadOnlySpan<float> logits, Span<float> normaliser)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var largest = float.NegativeInfinity;
            for (var i = lane; i < logits.Length; i += Panel.Width)
                largest = MathF.Max(largest, logits[i]);
            var sum = 0f;
            for (var i = lane; i < logits.Length; i += Panel.Width)
                sum += MathF.Exp(logits[i] - largest);
            normaliser[lane] = largest + MathF.Log(sum);
        }
    }
}
