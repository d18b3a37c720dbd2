using System.Text.Json;
using System.Text.Json.Nodes;

namespace Distill.Benchmarks;

/// <summary>
/// Another checkout as the peer, such as the commit before. Its benchmark program and ours run in turns, each time in a new
/// process, so that a change of clock and the whims of the just-in-time compiler hit both.
/// </summary>
internal static class Checkout
{
    /// <summary>Of each measurement in one process; a process is one repetition of the comparison.</summary>
    private const int RepetitionsInside = 3;

    /// <summary>Adds a line for each that both have.</summary>
    /// <param name="folder">The other checkout; it is built if it changed since.</param>
    /// <param name="names">Benchmarks to run.</param>
    /// <exception cref="DistillException">It is no checkout, cannot be built, or a benchmark fails.</exception>
    public static void Compare(Session session, string folder, IEnumerable<string> names)
    {
        var settings = session.Settings;
        var root = Path.GetFullPath(folder);
        if (!File.Exists(Path.Combine(root, "build.fsx")))
            throw new DistillException($"--peer={folder} is no checkout: it has no build.fsx.");
        session.Say($"Building {root}");
        Run(root, "fsi", "build.fsx", "bench", "list");
        foreach (var name in names)
        {
            session.Say($"{name}:");
            List<JsonObject> ours = [];
            List<JsonObject> theirs = [];
            for (var i = 0; i < settings.Repetitions; i++)
            {
                ours.Add(Measure(settings.Root, name));
                theirs.Add(Measure(root, name));
            }
            Add(ours, theirs);
        }

        JsonObject Measure(string checkout, string name)
        {
            string[] command =
            [
                Path.Combine(checkout, "benchmarks", "bin", "Release", "net10.0", "Distill.Benchmarks.dll"),
                name,
                "--no-peers",
                $"--repetitions={RepetitionsInside}",
                $"--threads={string.Join(',', settings.Threads)}",
            ];
            var output = Run(checkout, settings.Quick ? [.. command, "--quick"] : command);
            var path = output.Split("Results: ")[^1].Split(".json")[0];
            var results = JsonNode.Parse(File.ReadAllText(path + ".json"))!.AsObject();
            File.Delete(path + ".json");
            File.Delete(path + ".md");
            return results;
        }

        void Add(List<JsonObject> ours, List<JsonObject> theirs)
        {
            var commit = theirs[0]["machine"]!["commit"]!.GetValue<string>();
            foreach (var line in Lines(ours[0]))
            {
                var mine = Medians(ours, line);
                var others = Medians(theirs, line);
                if (others.Count < mine.Count)
                {
                    session.Warn($"{line} is not measured by commit {commit}.");
                    continue;
                }
                session.Add(
                    new Result
                    {
                        Benchmark = line.Benchmark,
                        Case = line.Case,
                        Threads = line.Threads,
                        Path = line.Path,
                        Unit = line.Unit,
                        Ours = Spread.Of(mine),
                        Peer = $"commit {commit}",
                        PeerValue = Spread.Of(others),
                        Ratio = Spread.Of([.. mine.Zip(others, (a, b) => a / b)]),
                    }
                );
            }
        }
    }

    private static IEnumerable<Line> Lines(JsonObject run) =>
        run["results"]!
            .AsArray()
            .Select(result => new Line(
                result!["benchmark"]!.GetValue<string>(),
                result["case"]!.GetValue<string>(),
                result["threads"]!.GetValue<int>(),
                result["path"]!.GetValue<string>(),
                result["unit"]!.GetValue<string>()
            ));

    /// <summary>What a line's measurements gave in each run that has it.</summary>
    private static List<double> Medians(List<JsonObject> runs, Line line) =>
        [
            .. runs.SelectMany(run =>
                Lines(run)
                    .Zip(run["results"]!.AsArray())
                    .Where(pair => pair.First == line)
                    .Select(pair => pair.Second!["ours"]!["median"]!.GetValue<double>())
                    .Take(1)
            ),
        ];

    private static string Run(string folder, params string[] arguments)
    {
        var (code, output, errors) = Programs.Run("dotnet", arguments, folder)!.Value;
        return code == 0
            ? output
            : throw new DistillException(
                $"dotnet {string.Join(' ', arguments)} failed in {folder}: {(errors + output).Trim()}"
            );
    }

    /// <summary>What tells one line of the table from another.</summary>
    private sealed record Line(string Benchmark, string Case, int Threads, string Path, string Unit)
    {
        public override string ToString() => $"{Benchmark}, {Case}, {Threads} threads";
    }
}
