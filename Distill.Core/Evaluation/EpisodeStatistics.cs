using System.Numerics;

namespace Distill.Evaluation;

/// <summary>Returns and lengths of the last finished episodes of training: 100, as rsl_rl reports them.</summary>
/// <param name="envs">Number of environments that run side by side.</param>
/// <param name="together">
/// Episodes that begin together, of which those that end last would tell only the longest: the last so many count, if they are more.
/// </param>
public sealed class EpisodeStatistics(int envs, int together = 0)
{
    private readonly int window = Math.Max(100, together);

    private readonly double[] runningReturn = new double[envs];
    private readonly int[] runningLength = new int[envs];
    private readonly double[] returns = new double[Math.Max(100, together)];
    private readonly int[] lengths = new int[Math.Max(100, together)];
    private readonly byte[] terminations = new byte[Math.Max(100, together)];
    private long finished;

    /// <summary>Episodes finished since the start.</summary>
    public long Finished => finished;

    /// <summary>Mean return; null before the first episode has ended. Likewise below.</summary>
    public double? MeanReturn => Mean(returns);

    /// <summary>Population standard deviation of the returns.</summary>
    public double? StdReturn
    {
        get
        {
            if (MeanReturn is not { } mean)
                return null;
            var sum = 0.0;
            for (var i = 0; i < Kept; i++)
                sum += (returns[i] - mean) * (returns[i] - mean);
            return Math.Sqrt(sum / Kept);
        }
    }

    public double? MeanLength => Mean(lengths);
    public double? ShareTerminated => Mean(terminations);

    private int Kept => (int)Math.Min(finished, window);

    /// <summary>Return of the episode that finished last; only after one has.</summary>
    public double LatestReturn => returns[(finished - 1) % window];

    /// <summary>Counts one step of one environment. Call in an order that does not depend on threads.</summary>
    public void Add(int env, float reward, bool terminated, bool truncated)
    {
        runningReturn[env] += reward;
        runningLength[env]++;
        if (!terminated && !truncated)
            return;
        var place = (int)(finished++ % window);
        returns[place] = runningReturn[env];
        lengths[place] = runningLength[env];
        terminations[place] = terminated ? (byte)1 : (byte)0;
        Abandon(env);
    }

    /// <summary>Forgets the unfinished episode of an environment.</summary>
    public void Abandon(int env)
    {
        runningReturn[env] = 0;
        runningLength[env] = 0;
    }

    public void Visit(State state)
    {
        state.Block<double>("running_return", runningReturn);
        state.Block<int>("running_length", runningLength);
        state.Block<double>("returns", returns);
        state.Block<int>("lengths", lengths);
        state.Flags("terminations", terminations);
        state.Count("finished", ref finished);
    }

    private double? Mean<T>(T[] values)
        where T : INumber<T>
    {
        if (finished == 0)
            return null;
        var sum = 0.0;
        for (var i = 0; i < Kept; i++)
            sum += double.CreateChecked(values[i]);
        return sum / Kept;
    }
}
