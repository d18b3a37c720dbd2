namespace Distill.Algorithms;

/// <summary>Generalized advantage estimation (Schulman et al. 2016, equation 16) on one panel.</summary>
internal static class PpoAdvantage
{
    /// <summary>
    /// A_t = d_t + gamma lambda A_t+1 with d_t = r_t + gamma V(s_t+1) - V(s_t), cut where an episode ends. Where a step limit
    /// ended it, V(s_t+1) is what <paramref name="beyond"/> says (<see cref="PpoConfig.TimeOutBootstrap"/>).
    /// </summary>
    /// <param name="rewards"><c>[steps, 32]</c>.</param>
    /// <param name="values"><c>[steps + 1, 32]</c>: V(s_t), and last that of the state after the rollout.</param>
    /// <param name="terminated"><c>[steps, 32]</c>, 0 or 1.</param>
    /// <param name="truncated"><c>[steps, 32]</c>, 0 or 1.</param>
    /// <param name="beyond"><c>[steps, 32]</c>: where the step limit ended an episode, the value of what would have followed.</param>
    /// <param name="advantages"><c>[steps, 32]</c>, written; the return is A_t + V(s_t).</param>
    public static void Estimate(
        Panel rewards,
        Panel values,
        Panel terminated,
        Panel truncated,
        Panel beyond,
        float gamma,
        float lambda,
        Panel advantages
    )
    {
        Span<float> advantage = stackalloc float[Panel.Width];
        advantage.Clear();
        for (var step = advantages.Features - 1; step >= 0; step--)
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var goesOn = 1 - terminated[step, lane] - truncated[step, lane];
            var next = goesOn * values[step + 1, lane] + truncated[step, lane] * beyond[step, lane];
            var surprise = rewards[step, lane] + gamma * next - values[step, lane];
            advantage[lane] = surprise + gamma * lambda * goesOn * advantage[lane];
            advantages[step, lane] = advantage[lane];
        }
    }
}
