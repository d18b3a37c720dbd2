namespace Distill.Algorithms;

/// <summary>What the steps of a rollout brought, in panels <c>[panels, steps, 32]</c>.</summary>
internal sealed class PpoOutcomes : IDisposable
{
    private readonly int steps;
    private readonly FloatBuffer rewards;
    private readonly FloatBuffer terminated;
    private readonly FloatBuffer truncated;
    private readonly byte[] counted;

    /// <param name="pauses">Whether there are steps that do not count.</param>
    public PpoOutcomes(int envs, int steps, bool pauses)
    {
        this.steps = steps;
        Panels = Panel.Count(envs);
        var samples = (long)Panels * steps * Panel.Width;
        (rewards, terminated, truncated) = (new(samples), new(samples), new(samples));
        counted = new byte[pauses ? samples : 0];
    }

    /// <summary>Panels of environments.</summary>
    public int Panels { get; }

    /// <summary>Whether all steps count.</summary>
    public bool AllCount => counted.Length == 0;

    /// <summary>Rewards, and 1 where an episode terminated or reached its step limit, else 0: of all panels, for a device.</summary>
    public (FloatBuffer Rewards, FloatBuffer Terminated, FloatBuffer Truncated) All =>
        (rewards, terminated, truncated);

    /// <summary><c>[steps, 32]</c>; likewise below.</summary>
    public Panel Rewards(int panel) => Panel.At(rewards.Span, panel, steps);

    public Panel Terminated(int panel) => Panel.At(terminated.Span, panel, steps);

    public Panel Truncated(int panel) => Panel.At(truncated.Span, panel, steps);

    /// <summary><c>[32]</c>: 0 in lanes whose step does not count; empty where all do.</summary>
    public Span<byte> Counted(int panel, int step) =>
        AllCount ? default : counted.AsSpan((panel * steps + step) * Panel.Width, Panel.Width);

    public void Dispose()
    {
        rewards.Dispose();
        terminated.Dispose();
        truncated.Dispose();
    }
}
