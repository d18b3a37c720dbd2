namespace Distill.Algorithms;

/// <summary>A rollout of PPO in the memory of a GPU: PpoRollout of <c>cuda/ppo.cu</c>.</summary>
internal struct CudaPpoRollout
{
    public CudaSampleLayout Layout;
    public nint Recorded;
    public nint Rewards;
    public nint Terminated;
    public nint Truncated;
    public nint Advantages;
    public nint Beyond;
    public nint Values;
    public nint Findings;
    public uint Envs;
    public uint Lanes;
    public int Steps;
}

/// <summary>Where the parts of a sample begin, and how large those are that differ: SampleLayout of <c>cuda/ppo.cu</c>.</summary>
internal readonly struct CudaSampleLayout(SampleLayout layout, bool criticObserves)
{
    private readonly int actorObservation = layout.ActorObservation.Start;
    private readonly int actorInputs = layout.ActorObservation.Size;
    private readonly int criticObservation = layout.CriticObservation.Start;
    private readonly int criticInputs = criticObserves ? layout.CriticObservation.Size : 0;
    private readonly int action = layout.Action.Start;
    private readonly int actions = layout.Action.Size;
    private readonly int outputs = layout.Outputs.Start;
    private readonly int logProbability = layout.LogProbability.Start;
    private readonly int value = layout.Value.Start;
    private readonly int advantage = layout.Advantage.Start;
    private readonly int returns = layout.Return.Start;
    private readonly int weight = layout.Weight.Start;
    private readonly int recorded = layout.Recorded;
    private readonly int size = layout.Size;
}
