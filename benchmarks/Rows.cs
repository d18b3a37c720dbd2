using System.Diagnostics;
using System.Text.Json.Nodes;
using Distill.Datasets;

namespace Distill.Benchmarks;

/// <summary>Datasets: random ones to train on, and how one grows.</summary>
internal static class Rows
{
    private const int Observation = 26;
    private const int Action = 4;

    /// <summary>What a row consists of.</summary>
    public static Columns Columns(int observation, int action) =>
        new(("observation", observation), ("label", action));

    /// <summary>A dataset of so many rows of numbers in [0, 1), all valid, each segment the start of an episode.</summary>
    public static AggregatedDataset Random(int rows, int segment, int observation, int action, int memory)
    {
        var data = new AggregatedDataset(
            Columns(observation, action),
            segment,
            memory,
            rows,
            new FirstInFirstOut(rows),
            new RandomStream(1, "retention")
        );
        using var rollout = RandomRollout(rows / segment, segment, observation, action, memory);
        data.Add(rollout);
        return data;
    }

    /// <summary>Fills a dataset to ten million rows in a process of its own, whose memory is then the dataset's.</summary>
    public static void RunGrowth(Session session)
    {
        var rows = session.Settings.Size(10_000_000, 200_000);
        using var child = new PeerProcess(
            Environment.ProcessPath!,
            [typeof(Rows).Assembly.Location, Program.ServeGrowth],
            []
        );
        List<double> pauses = [];
        List<double> typical = [];
        List<double> memory = [];
        for (var i = 0; i < (session.Settings.Quick ? 1 : 3); i++)
        {
            var answer = child.Ask(new JsonObject { ["rows"] = rows });
            pauses.Add(answer["longest"]!.GetValue<double>());
            typical.Add(answer["typical"]!.GetValue<double>());
            memory.Add(answer["memory"]!.GetValue<double>());
        }
        session.Add(
            "growth",
            $"{rows:N0} rows, longest pause while growing",
            1,
            "ms",
            pauses,
            10,
            $"an addition of 40,000 rows takes {Spread.Of(typical).Median:F1} ms"
        );
        var name = $"{rows:N0} rows, memory / estimate";
        session.Add("growth", name, 1, "", memory, 1.02, "resident memory of the full dataset");
    }

    /// <summary>The child's side of <see cref="RunGrowth"/>.</summary>
    public static void Serve(TextReader requests, TextWriter answers)
    {
        const int Envs = 100;
        const int Steps = 400;
        while (requests.ReadLine() is { } line)
        {
            var rows = JsonNode.Parse(line)!["rows"]!.GetValue<int>();
            using var rollout = RandomRollout(Envs, Steps, Observation, Action, 0);
            // The first dataset only warms up: code is compiled and the allocator has its arenas.
            Grow(rollout, 2 * rollout.Rows).Data.Dispose();
            var before = Resident();
            var (data, seconds) = Grow(rollout, rows);
            var after = Resident();
            answers.WriteLine(
                new JsonObject
                {
                    ["longest"] = 1000 * seconds.Max(),
                    ["typical"] = 1000 * Spread.Of(seconds).Median,
                    ["memory"] =
                        (double)(after - before)
                        / (
                            AggregatedDataset.EstimateBytes(rows, Columns(Observation, Action))
                            + AggregatedDataset.EstimateBookkeepingBytes(rows, 1, 0)
                        ),
                }.ToJsonString()
            );
            answers.Flush();
            data.Dispose();
        }
    }

    private static (AggregatedDataset Data, double[] Seconds) Grow(Rollout rollout, int rows)
    {
        var data = new AggregatedDataset(
            Columns(Observation, Action),
            1,
            0,
            Math.Min(10L * rollout.Rows, rows),
            new FirstInFirstOut(rows),
            new RandomStream(1, "retention")
        );
        var seconds = new double[(rows + rollout.Rows - 1) / rollout.Rows];
        for (var i = 0; i < seconds.Length; i++)
        {
            var start = Stopwatch.GetTimestamp();
            data.Add(rollout);
            seconds[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        return (data, seconds);
    }

    private static long Resident()
    {
        GC.Collect();
        using var self = Process.GetCurrentProcess();
        return self.WorkingSet64;
    }

    private static Rollout RandomRollout(int envs, int steps, int observation, int action, int memory)
    {
        var rollout = new Rollout(envs, steps, Columns(observation, action), memory, steps);
        var random = new Random(1);
        foreach (ref var value in rollout.Table.Rows(0, rollout.Rows))
            value = random.NextSingle();
        rollout.Valid.AsSpan().Fill(1);
        for (var env = 0; env < envs; env++)
            rollout.EpisodeStart[env * steps] = 1;
        return rollout;
    }
}
