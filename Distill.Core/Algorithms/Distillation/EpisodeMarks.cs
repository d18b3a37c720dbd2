using Distill.Datasets;

namespace Distill.Algorithms;

/// <summary>
/// Marks the rows of a rollout by the episodes that they belong to. An episode is held out or not by a draw of its environment
/// and its number there. It failed if it ends in a terminal state: its rows within the rollout are marked, back to its start or
/// the rollout's; of one that is still running nothing is known yet, and it counts as one that did not fail.
/// </summary>
/// <param name="heldOut">Share of the episodes that are held out.</param>
/// <param name="failed">Whether it is to be known which failed.</param>
/// <param name="stream">For the draws.</param>
internal sealed class EpisodeMarks(Rollout rollout, double heldOut, bool failed, RandomStream stream)
{
    // Begun by each environment.
    private readonly long[] episodes = new long[rollout.Envs];

    public void Mark()
    {
        for (var env = 0; env < rollout.Envs; env++)
        {
            if (heldOut > 0)
                MarkHeldOut(env);
            if (failed)
                MarkFailed(env);
        }
    }

    /// <summary>What is held out next depends on it.</summary>
    public void Visit(State state)
    {
        if (heldOut > 0)
            state.Block("episodes", episodes.AsSpan());
    }

    private void MarkHeldOut(int env)
    {
        var isHeldOut = IsHeldOut(env);
        for (var row = env * rollout.Steps; row < (env + 1) * rollout.Steps; row++)
        {
            if (rollout.EpisodeStart[row] != 0 && rollout.Valid[row] != 0)
            {
                episodes[env]++;
                isHeldOut = IsHeldOut(env);
            }
            rollout.HeldOut[row] = isHeldOut ? (byte)1 : (byte)0;
        }
    }

    private void MarkFailed(int env)
    {
        var isFailed = false;
        for (var row = (env + 1) * rollout.Steps - 1; row >= env * rollout.Steps; row--)
        {
            if (rollout.Ends[row] != EpisodeEnd.None)
                isFailed = rollout.Ends[row] == EpisodeEnd.Terminated;
            rollout.Failed[row] = isFailed ? (byte)1 : (byte)0;
            isFailed &= rollout.EpisodeStart[row] == 0;
        }
    }

    private bool IsHeldOut(int env) => IsHeldOut(stream, heldOut, env, episodes[env]);

    /// <summary>Whether an episode is held out.</summary>
    /// <param name="episode">Its number in the environment, from 1.</param>
    internal static bool IsHeldOut(RandomStream stream, double share, int env, long episode) =>
        stream.Uniform((uint)env, (uint)episode, (uint)(episode >> 32)) < share;
}
