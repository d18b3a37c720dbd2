namespace Distill.Networks;

/// <summary>
/// Hyperbolic tangents of independent normal distributions: a = tanh u, where the outputs are [mean; log_std] of u (SAC: Haarnoja
/// et al. 2018, arXiv 1812.05905, appendix C). Densities are those of a, and log p(a) = log N(u) - sum log(1 - a^2). Actions are
/// taken as at most 1 - 2^-23 in size, where u is 8.3, as Stable-Baselines3 and rsl_rl do it.
/// </summary>
internal sealed class SquashedGaussian : ActionDistribution
{
    private static readonly Gaussian Underlying = new();

    private const float Largest = 1 - 1f / (1 << 23);

    /// <summary>Of SAC's first code, Stable-Baselines3 and rl-tools.</summary>
    private const float Margin = 1e-6f;

    // Expectations over N(0, 1) by the trapezoidal rule from -5 to 5, which for smooth functions is as good as any.
    private const int Nodes = 21;
    private const float Spacing = 0.5f;
    private const float Density = 0.398942280f;

    public override void Mode(Panel outputs, Panel actions)
    {
        Underlying.Mode(outputs, actions);
        Elementwise.Activate(Activation.Tanh, actions.Values);
    }

    public override void Sample(Panel outputs, RandomStream noise, int first, long step, Panel actions)
    {
        Underlying.Sample(outputs, noise, first, step, actions);
        Elementwise.Activate(Activation.Tanh, actions.Values);
    }

    /// <summary>
    /// Draws of given noise, a = tanh(mean + std n), through which gradients go back (<see cref="DrawBackward"/>), and their
    /// log-probabilities as SAC has them: with <see cref="Margin"/> added to 1 - a^2, so that they end at 13.8 where tanh does.
    /// </summary>
    /// <param name="noise"><c>[actions, 32]</c>: standard normals.</param>
    /// <param name="actions"><c>[actions, 32]</c>, written.</param>
    /// <param name="logProbability"><c>[32]</c>, written.</param>
    public static void Draw(Panel outputs, Panel noise, Panel actions, Span<float> logProbability)
    {
        for (var i = 0; i < actions.Features; i++)
        for (var lane = 0; lane < actions.Lanes; lane++)
            actions[i, lane] =
                outputs[i, lane] + MathF.Exp(outputs[actions.Features + i, lane]) * noise[i, lane];
        Elementwise.Activate(Activation.Tanh, actions.Values);
        logProbability.Clear();
        for (var i = 0; i < actions.Features; i++)
        for (var lane = 0; lane < actions.Lanes; lane++)
        {
            var (n, a) = (noise[i, lane], actions[i, lane]);
            var logSlope = MathF.Log((1 - a) * (1 + a) + Margin);
            logProbability[lane] -=
                0.5f * n * n + outputs[actions.Features + i, lane] + Gaussian.HalfLogTwoPi + logSlope;
        }
    }

    /// <summary>Takes the gradients of draws and of their log-probabilities back to the outputs, the noise held.</summary>
    /// <param name="dActions"><c>[actions, 32]</c>.</param>
    /// <param name="dLogProbability"><c>[32]</c>.</param>
    /// <param name="dOutputs"><c>[2 actions, 32]</c>, overwritten.</param>
    public static void DrawBackward(
        Panel outputs,
        Panel noise,
        Panel actions,
        Panel dActions,
        ReadOnlySpan<float> dLogProbability,
        Panel dOutputs
    )
    {
        for (var i = 0; i < actions.Features; i++)
        for (var lane = 0; lane < actions.Lanes; lane++)
        {
            var a = actions[i, lane];
            var slope = (1 - a) * (1 + a);
            var dLogSlope = 2 * a * slope / (slope + Margin);
            var dMean = dActions[i, lane] * slope + dLogProbability[lane] * dLogSlope;
            var deviation = MathF.Exp(outputs[actions.Features + i, lane]) * noise[i, lane];
            dOutputs[i, lane] = dMean;
            dOutputs[actions.Features + i, lane] = dMean * deviation - dLogProbability[lane];
        }
    }

    public override void LogProbability(Panel outputs, Panel actions, Span<float> logProbability)
    {
        logProbability.Clear();
        for (var i = 0; i < actions.Features; i++)
        for (var lane = 0; lane < actions.Lanes; lane++)
        {
            var action = Inside(actions[i, lane]);
            var logStd = outputs[actions.Features + i, lane];
            var deviation = (MathF.Atanh(action) - outputs[i, lane]) * MathF.Exp(-logStd);
            // 1 - a is exact where it is small.
            var logSlope = MathF.Log((1 - action) * (1 + action));
            logProbability[lane] -= 0.5f * deviation * deviation + logStd + Gaussian.HalfLogTwoPi + logSlope;
        }
    }

    /// <summary>
    /// That of the Gaussian and the mean of log(1 - tanh^2 u), which has no closed form: within 1e-4 up to a standard deviation of 2,
    /// within 0.1 up to the largest, for each action.
    /// </summary>
    public override void Entropy(Panel outputs, Span<float> entropy)
    {
        Underlying.Entropy(outputs, entropy);
        var actions = outputs.Features / 2;
        for (var i = 0; i < actions; i++)
        for (var lane = 0; lane < outputs.Lanes; lane++)
        {
            var std = MathF.Exp(outputs[actions + i, lane]);
            for (var node = 0; node < Nodes; node++)
            {
                var (z, weight) = Node(node);
                var size = MathF.Abs(outputs[i, lane] + std * z);
                // log(1 - tanh^2 u) without the loss of digits where tanh u is near 1.
                entropy[lane] += weight * 2 * (MathF.Log(2) - size - MathF.Log(1 + MathF.Exp(-2 * size)));
            }
        }
    }

    /// <summary>That of the Gaussians, since both are squashed by the same function.</summary>
    public override void KlDivergence(Panel oldOutputs, Panel outputs, Span<float> kl) =>
        Underlying.KlDivergence(oldOutputs, outputs, kl);

    public override void KlBackward(Panel oldOutputs, Panel outputs, float scale, Panel dOutputs) =>
        Underlying.KlBackward(oldOutputs, outputs, scale, dOutputs);

    public override void Backward(
        Panel outputs,
        Panel actions,
        ReadOnlySpan<float> dLogProbability,
        ReadOnlySpan<float> dEntropy,
        Panel dOutputs
    )
    {
        for (var i = 0; i < actions.Features; i++)
        for (var lane = 0; lane < actions.Lanes; lane++)
        {
            var mean = outputs[i, lane];
            var std = MathF.Exp(outputs[actions.Features + i, lane]);
            var deviation = (MathF.Atanh(Inside(actions[i, lane])) - mean) / std;
            var (dMean, dLogStd) = (0f, 1f);
            for (var node = 0; node < Nodes && dEntropy[lane] != 0; node++)
            {
                var (z, weight) = Node(node);
                var slope = -2 * weight * MathF.Tanh(mean + std * z);
                dMean += slope;
                dLogStd += slope * std * z;
            }
            dOutputs[i, lane] = dLogProbability[lane] * deviation / std + dEntropy[lane] * dMean;
            dOutputs[actions.Features + i, lane] =
                dLogProbability[lane] * (deviation * deviation - 1) + dEntropy[lane] * dLogStd;
        }
    }

    private static float Inside(float action) => Math.Clamp(action, -Largest, Largest);

    private static (float Z, float Weight) Node(int index)
    {
        var z = (index - Nodes / 2) * Spacing;
        return (z, Spacing * Density * MathF.Exp(-0.5f * z * z));
    }
}
