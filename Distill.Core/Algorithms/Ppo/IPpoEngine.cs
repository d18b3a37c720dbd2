namespace Distill.Algorithms;

/// <summary>
/// The two stages of an iteration of PPO. A device that computes them stands behind this; the loop around it, the books and the
/// reports are written once, and what both work on are the same <see cref="PpoParts"/>.
/// </summary>
internal interface IPpoEngine : IDisposable
{
    /// <summary>Starts new episodes in some panels of environments.</summary>
    /// <param name="panels">Their indices.</param>
    void Restart(ReadOnlySpan<int> panels);

    /// <summary>Runs the environments with the stochastic actor, and brings <see cref="PpoParts.Outcomes"/> up to date.</summary>
    /// <exception cref="DistillException">An observation, an action, a value or a reward is not finite.</exception>
    void Collect(in PpoTurn turn);

    /// <summary>Estimates advantages and takes passes of gradient steps over the rollout; then the networks are up to date.</summary>
    /// <returns>Means over the optimizer steps.</returns>
    /// <exception cref="DistillException">A loss or a gradient is not finite.</exception>
    PpoLossSums Learn(in PpoTurn turn);

    /// <summary>Everything that the next iteration depends on.</summary>
    void Visit(State state);
}

/// <summary>An iteration, as an engine needs to know it.</summary>
/// <param name="Now">The settings, resolved.</param>
/// <param name="Iteration">From 0.</param>
/// <param name="Steps">Steps of each environment before it, the counter of draws.</param>
/// <param name="Guided">Whether the teacher is asked.</param>
/// <param name="Warming">Whether the actor stays as it is.</param>
internal readonly record struct PpoTurn(PpoConfig Now, int Iteration, long Steps, bool Guided, bool Warming);
