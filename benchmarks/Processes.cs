using System.Diagnostics;

namespace Distill.Benchmarks;

/// <summary>What processes cost: starting a script, and a pool with nothing to do.</summary>
internal static class Processes
{
    /// <summary>From the command to the line of the first iteration, everything built.</summary>
    public static void RunStart(Session session)
    {
        const string Script = "experiments/quickstart.fsx";
        Time("build.fsx run", ["fsi", "build.fsx", "run", Script], 1.5);
        Time("F# Interactive alone", ["fsi", "--optimize+", "--quiet", Script], null);

        void Time(string name, string[] command, double? atMost)
        {
            List<double> seconds = [];
            // The first one builds what is missing and fills the caches of the disk.
            FirstIteration(command);
            for (var i = 0; i < (session.Settings.Quick ? 1 : session.Settings.Repetitions); i++)
                seconds.Add(FirstIteration(command));
            session.Add("start", $"quickstart, {name}", Environment.ProcessorCount, "s", seconds, atMost);
        }

        double FirstIteration(string[] command)
        {
            // A run of one iteration, in a folder that is deleted.
            const string Name = "benchmark-start";
            var start = new ProcessStartInfo(
                "dotnet",
                [.. command, $"name={Name}", "iterations=1", "final_episodes=1"]
            )
            {
                WorkingDirectory = session.Settings.Root,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            var begun = Stopwatch.GetTimestamp();
            using var process = Process.Start(start)!;
            try
            {
                while (process.StandardOutput.ReadLine() is { } line)
                    if (line.StartsWith("[1/1]", StringComparison.Ordinal))
                        return Stopwatch.GetElapsedTime(begun).TotalSeconds;
                throw new DistillException(
                    $"The quickstart ended before its first iteration: {process.StandardError.ReadToEnd().Trim()}"
                );
            }
            finally
            {
                process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                var folder = Path.Combine(session.Settings.Root, "logs", Name);
                if (Directory.Exists(folder))
                    Directory.Delete(folder, recursive: true);
            }
        }
    }

    /// <summary>Processor time that the sleeping threads of a pool take while nothing runs.</summary>
    public static void RunIdle(Session session)
    {
        var threads = session.Settings.Threads.Max();
        var pause = TimeSpan.FromSeconds(session.Settings.Quick ? 0.05 : 2);
        using var pool = new WorkerPool(threads);
        using var self = Process.GetCurrentProcess();
        List<double> milliseconds = [];
        for (var i = 0; i < (session.Settings.Quick ? 1 : 3); i++)
        {
            pool.Run(new Spin(), 4 * threads);
            self.Refresh();
            var before = self.TotalProcessorTime;
            Thread.Sleep(pause);
            self.Refresh();
            milliseconds.Add((self.TotalProcessorTime - before) / pause * 1000);
        }
        session.Add(
            "idle",
            $"pool of {threads} after work",
            threads,
            "ms of CPU per second",
            milliseconds,
            10,
            "the millisecond for which the threads spin before they sleep is in it"
        );
    }

    private sealed class Spin : IWork
    {
        public void Run(int item, int worker) => Thread.SpinWait(100_000);
    }
}
