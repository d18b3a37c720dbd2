namespace Distill.Networks;

/// <summary>One of several choices: the outputs are logits, an action is the index of the choice.</summary>
internal sealed class Categorical : ActionDistribution
{
    public override void Mode(Panel outputs, Panel actions)
    {
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var best = 0;
            for (var i = 1; i < outputs.Features; i++)
                if (outputs[i, lane] > outputs[best, lane])
                    best = i;
            actions[0, lane] = best;
        }
    }

    public override void Sample(Panel outputs, RandomStream noise, int first, long step, Panel actions)
    {
        Span<float> normalizer = stackalloc float[Panel.Width];
        LogNormalizer(outputs, normalizer);
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var left = noise.Uniform((uint)(first + lane), (uint)step, (uint)(step >> 32));
            var choice = 0;
            for (; choice < outputs.Features - 1; choice++)
            {
                left -= MathF.Exp(outputs[choice, lane] - normalizer[lane]);
                if (left < 0)
                    break;
            }
            actions[0, lane] = choice;
        }
    }

    public override void LogProbability(Panel outputs, Panel actions, Span<float> logProbability)
    {
        Span<float> normalizer = stackalloc float[Panel.Width];
        LogNormalizer(outputs, normalizer);
        for (var lane = 0; lane < outputs.Lanes; lane++)
            logProbability[lane] = outputs[(int)actions[0, lane], lane] - normalizer[lane];
    }

    public override void Entropy(Panel outputs, Span<float> entropy)
    {
        Span<float> normalizer = stackalloc float[Panel.Width];
        LogNormalizer(outputs, normalizer);
        entropy.Clear();
        for (var i = 0; i < outputs.Features; i++)
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var logProbability = outputs[i, lane] - normalizer[lane];
            entropy[lane] -= MathF.Exp(logProbability) * logProbability;
        }
    }

    public override void KlDivergence(Panel oldOutputs, Panel outputs, Span<float> kl)
    {
        Span<float> oldNormalizer = stackalloc float[Panel.Width];
        Span<float> normalizer = stackalloc float[Panel.Width];
        LogNormalizer(oldOutputs, oldNormalizer);
        LogNormalizer(outputs, normalizer);
        kl.Clear();
        for (var i = 0; i < outputs.Features; i++)
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var before = oldOutputs[i, lane] - oldNormalizer[lane];
            var after = outputs[i, lane] - normalizer[lane];
            kl[lane] += MathF.Exp(before) * (before - after);
        }
    }

    /// <summary>d KL / d logit_j = p_j - old p_j.</summary>
    public override void KlBackward(Panel oldOutputs, Panel outputs, float scale, Panel dOutputs)
    {
        Span<float> oldNormalizer = stackalloc float[Panel.Width];
        Span<float> normalizer = stackalloc float[Panel.Width];
        LogNormalizer(oldOutputs, oldNormalizer);
        LogNormalizer(outputs, normalizer);
        for (var i = 0; i < outputs.Features; i++)
        for (var lane = 0; lane < outputs.Lanes; lane++)
            dOutputs[i, lane] =
                scale
                * (
                    MathF.Exp(outputs[i, lane] - normalizer[lane])
                    - MathF.Exp(oldOutputs[i, lane] - oldNormalizer[lane])
                );
    }

    /// <summary>d log p(a) / d logit_j = [j = a] - p_j and d H / d logit_j = -p_j (log p_j + H).</summary>
    public override void Backward(
        Panel outputs,
        Panel actions,
        ReadOnlySpan<float> dLogProbability,
        ReadOnlySpan<float> dEntropy,
        Panel dOutputs
    )
    {
        Span<float> normalizer = stackalloc float[Panel.Width];
        Span<float> entropy = stackalloc float[Panel.Width];
        LogNormalizer(outputs, normalizer);
        Entropy(outputs, entropy);
        for (var i = 0; i < outputs.Features; i++)
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var logProbability = outputs[i, lane] - normalizer[lane];
            var probability = MathF.Exp(logProbability);
            var chosen = i == (int)actions[0, lane] ? 1 : 0;
            dOutputs[i, lane] =
                dLogProbability[lane] * (chosen - probability)
                - dEntropy[lane] * probability * (logProbability + entropy[lane]);
        }
    }

    /// <summary>log of the sum of e^logit, per lane.</summary>
    public static void LogNormalizer(Panel logits, Span<float> normalizer)
    {
        for (var lane = 0; lane < logits.Lanes; lane++)
        {
            var largest = float.NegativeInfinity;
            for (var i = 0; i < logits.Features; i++)
                largest = MathF.Max(largest, logits[i, lane]);
            var sum = 0f;
            for (var i = 0; i < logits.Features; i++)
                sum += MathF.Exp(logits[i, lane] - largest);
            normalizer[lane] = largest + MathF.Log(sum);
        }
    }
}
