using System.Numerics;

namespace Distill.Evaluation;

/// <summary>Returns and lengths of the last 100 finished episodes of training, as rsl_rl reports them.</summary>
/// <param name="envs">Number of environments that run side by side.</param>
public sealed class EpisodeStatistics(int envs)
{
    private const int Window = 100;

    private readonly double[] runningReturn = new double[envs];
    private readonly int[] runningLength = new int[envs];
    private readonly double[] returns = new double[Window];
    private readonly int[] lengths = new int[Window];
    private readonly byte[] terminations = new byte[Window];
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

    private int Kept => (int)Math.Min(finished, Window);

    /// <summary>Return of the episode that finished last; only after one has.</summary>
    public double LatestReturn => returns[(finished - 1) % Window];

    /// <summary>Counts one step of one environment. Call in an order that does not depend on threads.</summary>
    public void Add(int env, float reward, bool terminated, bool truncated)
    {
        runningReturn[env] += reward;
        runningLength[env]++;
        if (!terminated && !truncated)
            return;
        var place = (int)(finished++ % Window);
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
