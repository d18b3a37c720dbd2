using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// A trajectory transformer at work in a batch of environments: it remembers the last steps of each, and before each step says
/// in a few numbers what it saw, for a policy to read beside the state. At the start of an episode that is the first state alone, and
/// it grows from there.
/// </summary>
/// <param name="network">Left as it is, and not disposed here.</param>
/// <param name="environments">How many run side by side.</param>
public sealed class TrajectoryEncoder(TrajectoryTransformer network, int environments) : IDisposable
{
    private const int GroupsOfPanel = Panel.Width / Sequences.Lanes;

    private readonly int window = network.Config.Window;
    private readonly FloatBuffer history = new(
        (long)Panel.Count(environments) * GroupsOfPanel * network.WindowFloats
    );
    private readonly int[] lengths = new int[Panel.Count(environments) * Panel.Width];

    // Of each environment, whether the last of the states remembered is the current one.
    private readonly byte[] seen = new byte[Panel.Count(environments) * Panel.Width];

    /// <summary>Numbers of an encoding.</summary>
    public int Size => network.Config.Encoding;

    /// <summary>Whether it has yet to be shown the current state of an environment of a panel.</summary>
    public bool Waits(int panel) => seen.AsSpan(panel * Panel.Width, Panel.Width).Contains((byte)0);

    /// <summary>Shows the current states of a panel's environments; those that it was shown already it does not look at again.</summary>
    /// <param name="states"><c>[state, 32]</c>.</param>
    public void See(int panel, Panel states)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            ref var shown = ref seen[panel * Panel.Width + lane];
            if (shown != 0)
                continue;
            shown = 1;
            var own = History(GroupOf(panel, lane)).States;
            ref var length = ref lengths[panel * Panel.Width + lane];
            for (var i = 0; i < own.Features; i++)
                own[i, length, lane % Sequences.Lanes] = states[i, lane];
            length++;
        }
    }

    /// <summary>Writes the encodings of a panel's environments, all of whose current states it must have been shown.</summary>
    /// <param name="encodings"><c>[encoding, 32]</c>, written: for example the first rows of a policy's observation.</param>
    public void Encode(int panel, Panel encodings, Workspace own)
    {
        using var scope = own.Open();
        for (var half = 0; half < GroupsOfPanel; half++)
        {
            var group = panel * GroupsOfPanel + half;
            var encoding = own.Sequences(Size, 1);
            Encode(group, Lengths(group), encoding, own);
            for (var i = 0; i < Size; i++)
                encoding.Row(i).CopyTo(encodings.Row(i)[(half * Sequences.Lanes)..]);
        }
    }

    /// <summary>Takes what was done in the states shown last, and what it brought.</summary>
    /// <param name="actions"><c>[action, 32]</c>.</param>
    /// <param name="rewards"><c>[32]</c>.</param>
    public void Take(int panel, ReadOnlySpan<float> actions, ReadOnlySpan<float> rewards)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            seen[panel * Panel.Width + lane] = 0;
            ref var length = ref lengths[panel * Panel.Width + lane];
            var place = lane % Sequences.Lanes;
            var own = History(GroupOf(panel, lane));
            // The oldest step goes where a window is full.
            if (length == window)
            {
                Forget(own.States, place);
                Forget(own.Actions, place);
                Forget(own.Rewards, place);
                length--;
            }
            // One more state will come: what was done lies between it and the last.
            if (length == 0)
                continue;
            for (var i = 0; i < network.Actions; i++)
                own.Actions[i, length - 1, place] = actions[i * Panel.Width + lane];
            own.Rewards[0, length - 1, place] = rewards[lane];
        }
    }

    /// <summary>Forgets what was before, where the next state is that of a new episode.</summary>
    /// <param name="keep"><c>[32]</c>: 0 there, else 1.</param>
    public void Forget(int panel, ReadOnlySpan<float> keep)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
            if (keep[lane] == 0)
                lengths[panel * Panel.Width + lane] = seen[panel * Panel.Width + lane] = 0;
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        lengths.AsSpan().Clear();
        seen.AsSpan().Clear();
    }

    /// <summary>What it remembers, for checkpoints.</summary>
    public void Visit(State state)
    {
        state.Block("history", history);
        state.Block<int>("lengths", lengths);
        state.Flags("seen", seen);
        foreach (var length in lengths)
            if (length < 0 || length > window)
                throw new DistillException($"An encoder cannot remember {length} steps of {window}.");
    }

    public void Dispose() => history.Dispose();

    private Span<int> Lengths(int group) => lengths.AsSpan(group * Sequences.Lanes, Sequences.Lanes);

    private static int GroupOf(int panel, int lane) => panel * GroupsOfPanel + lane / Sequences.Lanes;

    private TrajectoryWindow History(int group) =>
        new(
            history.Slice(group * network.WindowFloats, network.WindowFloats),
            [],
            window,
            network.States,
            network.Actions,
            true
        );

    /// <summary>All but the first move one place.</summary>
    private static void Forget(Sequences tokens, int lane)
    {
        for (var feature = 0; feature < tokens.Features; feature++)
        for (var place = 1; place < tokens.Tokens; place++)
            tokens[feature, place - 1, lane] = tokens[feature, place, lane];
    }

    /// <summary>The encodings of sixteen environments, in as many steps as the longest needs.</summary>
    private void Encode(int group, ReadOnlySpan<int> counts, Sequences encoding, Workspace own)
    {
        var steps = 1;
        foreach (var count in counts)
            steps = Math.Max(steps, count);
        var values = own.Floats(TrajectoryWindow.Size(steps, network.States, network.Actions));
        var valid = own.Floats(TrajectoryWindow.Tokens(steps) * Sequences.Lanes);
        TrajectoryWindow.Mark(valid, counts, steps);
        var complete = !counts.ContainsAnyExcept(steps);
        var seen = new TrajectoryWindow(values, valid, steps, network.States, network.Actions, complete);
        var all = History(group);
        for (var kind = 0; kind < TrajectoryWindow.Kinds; kind++)
        {
            var target = seen[kind];
            for (var feature = 0; feature < target.Features; feature++)
                all[kind].Row(feature)[..target.Columns].CopyTo(target.Row(feature));
        }
        network.Encode(seen, encoding, own);
    }
}
