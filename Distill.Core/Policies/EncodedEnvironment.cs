using Distill.Environments;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// Environments with encodings of their last steps as one more observation group, the last; see <see cref="EncodedConfig"/>. Every state is
/// encoded once, when somebody asks for it first.
/// </summary>
/// <param name="spec">Its facts, which are those of the environments but for the last group.</param>
/// <param name="inner">The environments, disposed with these.</param>
/// <param name="network">Likewise.</param>
/// <param name="states">Index of the observation group that the network reads.</param>
/// <param name="hash">Of the network's file.</param>
internal sealed class EncodedEnvironment(
    EnvironmentSpec spec,
    IHoldingEnvironment inner,
    TrajectoryTransformer network,
    int states,
    string hash
) : IHoldingEnvironment
{
    private readonly TrajectoryEncoder encoder = new(network, inner.Count);
    private readonly FloatBuffer encodings = new(
        (long)Panel.Count(inner.Count) * network.Config.Encoding * Panel.Width
    );

    // Of each panel, whether the encodings are those of the current states.
    private readonly bool[] encoded = new bool[Panel.Count(inner.Count)];
    private readonly ThreadLocal<Workspace> workspaces = new(() => new(), trackAllValues: true);

    public EnvironmentSpec Spec => spec;

    public int Count => inner.Count;

    public bool Lost => inner.Lost;

    public int VariantOf(int environment) => inner.VariantOf(environment);

    public void Reset(int panel)
    {
        inner.Reset(panel);
        Span<float> keep = stackalloc float[Panel.Width];
        keep.Clear();
        Forget(panel, keep);
    }

    public void Observe(int panel, int group, Span<float> observation)
    {
        if (group < spec.Groups.Count - 1)
        {
            inner.Observe(panel, group, observation);
            return;
        }
        var own = Panel.At(encodings.Span, panel, encoder.Size);
        if (!encoded[panel])
        {
            See(panel);
            encoder.Encode(panel, own, workspaces.Value!);
            encoded[panel] = true;
        }
        own.Values.CopyTo(observation);
    }

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        Advance(panel, actions, outcome);
        if (outcome.AnyEnded)
            Restart(panel, outcome);
    }

    public void Advance(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        // Of states that nobody wanted to have encoded, too, later ones know.
        See(panel);
        inner.Advance(panel, actions, outcome);
        encoder.Take(panel, actions, outcome.Reward);
        encoded[panel] = false;
    }

    public void Restart(int panel, StepOutcome outcome)
    {
        inner.Restart(panel, outcome);
        Span<float> keep = stackalloc float[Panel.Width];
        for (var lane = 0; lane < Panel.Width; lane++)
            keep[lane] = outcome.Terminated[lane] + outcome.Truncated[lane] != 0 ? 0 : 1;
        Forget(panel, keep);
    }

    public void Rewind()
    {
        inner.Rewind();
        encoder.Clear();
        encoded.AsSpan().Clear();
    }

    public void Visit(State state)
    {
        var digest = Convert.FromHexString(hash);
        state.Block<byte>("encoding.file", digest);
        if (Convert.ToHexStringLower(digest) != hash)
            throw new DistillException(
                "The run began with another encoder, or with another version of its file; it cannot go on with this one."
            );
        inner.Visit(state);
        state.Part("encoding", encoder.Visit);
        encoded.AsSpan().Clear();
    }

    public void Dispose()
    {
        inner.Dispose();
        encoder.Dispose();
        network.Dispose();
        encodings.Dispose();
        foreach (var workspace in workspaces.Values)
            workspace.Dispose();
        workspaces.Dispose();
    }

    private void See(int panel)
    {
        if (!encoder.Waits(panel))
            return;
        var own = workspaces.Value!;
        using var scope = own.Open();
        var shown = own.Panel(network.States);
        inner.Observe(panel, states, shown.Values);
        encoder.See(panel, shown);
    }

    private void Forget(int panel, ReadOnlySpan<float> keep)
    {
        encoder.Forget(panel, keep);
        encoded[panel] = false;
    }
}
