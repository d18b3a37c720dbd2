using Distill.Compute;

namespace Distill.Algorithms;

/// <summary>Generalised advantage estimation (Schulman et al. 2016, equation 16) on one panel.</summary>
internal static class PpoAdvantage
{
    /// <summary>
    /// A_t = d_t + gamma lambda A_t+1 with d_t = r_t + gamma V(s_t+1) - V(s_t), cut where an episode ends. Where a step limit
    /// ended it, the unseen next value is taken to be V(s_t), as rsl_rl does.
    /// </summary>
    /// <param name="rewards"><c>[steps, 32]</c>.</param>
    /// <param name="values"><c>[steps + 1, 32]</c>: V(s_t), and last that of the state after the rollout.</param>
    /// <param name="terminated"><c>[steps, 32]</c>, 0 or 1.</param>
    /// <param name="truncated"><c>[steps, 32]</c>, 0 or 1.</param>
    /// <param name="advantages"><c>[steps, 32]</c>, written; the return is A_t + V(s_t).</param>
    public static void Estimate(
        ReadOnlySpan<float> rewards,
        ReadOnlySpan<float> values,
        ReadOnlySpan<float> terminated,
        ReadOnlySpan<float> truncated,
        float gamma,
        float lambda,
        Span<float> advantages
    )
    {
        Span<float> advantage = stackalloc float[Panel.Width];
        advantage.Clear();
        for (var start = advantages.Length - Panel.Width; start >= 0; start -= Panel.Width)
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var i = start + lane;
            var goesOn = 1 - terminated[i] - truncated[i];
            var next = goesOn * values[i + Panel.Width] + truncated[i] * values[i];
            var surprise = rewards[i] + gamma * next - values[i];
            advantage[lane] = surprise + gamma * lambda * goesOn * advantage[lane];
            advantages[i] = advantage[lane];
        }
    }
}
