using Distill.Datasets;
using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>Encodings of windows of recorded episodes, cut off where the episode begins as when acting (<see cref="Policies.TrajectoryEncoder"/>).</summary>
public static class Encodings
{
    /// <summary>The encodings of windows that end with the given steps, <c>[windows, encoding]</c>.</summary>
    /// <param name="windows">Episode, and the last step that is seen, from 0.</param>
    /// <exception cref="DistillException">The network is for other states or actions, or there is no such step.</exception>
    public static float[] Of(
        TrajectoryTransformer network,
        Trajectories data,
        ReadOnlySpan<(int Episode, int Last)> windows,
        WorkerPool pool
    )
    {
        if ((network.States, network.Actions) != (data.StateSize, data.ActionSize))
            throw new DistillException(
                $"The encoder reads {network.States} numbers of a state and {network.Actions} of an action; the episodes have "
                    + $"{data.StateSize} and {data.ActionSize}."
            );
        foreach (var (episode, last) in windows)
            if (episode < 0 || episode >= data.Episodes || last < 0 || last >= data.Steps)
                throw new DistillException($"There is no step {last} of episode {episode}.");
        var all = windows.ToArray();
        var encodings = new float[all.Length * network.Config.Encoding];
        pool.Run(new Work(Encode), (all.Length + Sequences.Lanes - 1) / Sequences.Lanes);
        return encodings;

        void Encode(int group, int worker)
        {
            var own = pool.Workspace(worker);
            using var scope = own.Open();
            var first = group * Sequences.Lanes;
            var count = Math.Min(Sequences.Lanes, all.Length - first);
            var steps = 1;
            for (var i = first; i < first + count; i++)
                steps = Math.Max(steps, Math.Min(all[i].Last + 1, network.Config.Window));
            var values = own.Floats(TrajectoryWindow.Size(steps, network.States, network.Actions));
            var valid = own.Floats(TrajectoryWindow.Tokens(steps) * Sequences.Lanes);
            Span<int> lengths = stackalloc int[Sequences.Lanes];
            var window = new TrajectoryWindow(values, valid, steps, network.States, network.Actions, false);
            // What is left of the last sixteen repeats the last window.
            for (var lane = 0; lane < Sequences.Lanes; lane++)
            {
                var (episode, last) = all[first + Math.Min(lane, count - 1)];
                lengths[lane] = data.Gather(episode, last, window, lane);
            }
            TrajectoryWindow.Mark(valid, lengths, steps);
            var encoding = own.Sequences(network.Config.Encoding, 1);
            network.Encode(window, encoding, own);
            for (var lane = 0; lane < count; lane++)
            for (var i = 0; i < encoding.Features; i++)
                encodings[(first + lane) * encoding.Features + i] = encoding[i, 0, lane];
        }
    }
}
