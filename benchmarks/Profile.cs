using System.Globalization;
using System.Text.RegularExpressions;

namespace Distill.Benchmarks;

/// <summary>Names the methods in which a benchmark spends its time, by Linux's sampling profiler.</summary>
internal static partial class Profile
{
    private const int Shown = 15;

    /// <summary>Runs the benchmark again, without peers, in a process that is sampled.</summary>
    /// <exception cref="DistillException">There is no `perf`, or it may not sample here.</exception>
    public static void Run(string benchmark, Settings settings, TextWriter output)
    {
        var folder = Directory.CreateTempSubdirectory("distill-profile-").FullName;
        try
        {
            var data = Path.Combine(folder, "perf.data");
            Perf([
                "record",
                "--quiet",
                "--freq=499",
                $"--output={data}",
                "--",
                Environment.ProcessPath!,
                typeof(Profile).Assembly.Location,
                benchmark,
                "--no-peers",
                "--no-files",
                $"--threads={string.Join(',', settings.Threads)}",
                .. settings.Quick ? ["--quick"] : Array.Empty<string>(),
            ]);
            output.WriteLine($"{benchmark}: share of all samples");
            var lines = Report(data, "symbol");
            // A method that was compiled more than once is listed as often.
            var methods = lines
                .Select(line => Sample().Match(line))
                .Where(match => match.Success)
                .GroupBy(match => Method(match.Groups[2].Value))
                .Select(group =>
                    (
                        group.Key,
                        Share: group.Sum(match =>
                            double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture)
                        )
                    )
                )
                .OrderByDescending(method => method.Share);
            foreach (var (method, share) in methods.Take(Shown))
                output.WriteLine($"  {share, 6:F1} %  {method}");
            DeleteMaps(data);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Class and method of the runtime's long form, <c>void [Assembly] Class::Method(parameters)[tier]</c>.</summary>
    private static string Method(string symbol) =>
        symbol.Contains("::", StringComparison.Ordinal)
            ? symbol.Split('(')[0].Split(' ', StringSplitOptions.RemoveEmptyEntries)[^1]
            : symbol.Trim();

    /// <summary>
    /// Removes the lists of compiled methods that the runtime left for perf, which finds them in this folder only: two files
    /// for every process that was sampled.
    /// </summary>
    private static void DeleteMaps(string data)
    {
        foreach (var line in Report(data, "pid"))
            if (Sampled().Match(line) is { Success: true } match)
                foreach (var kind in new[] { "perf", "perfinfo" })
                    File.Delete($"/tmp/{kind}-{match.Groups[1].Value}.map");
    }

    private static string[] Report(string data, string key) =>
        Perf(["report", $"--input={data}", "--stdio", "--no-children", $"--sort={key}"]);

    private static string[] Perf(string[] arguments)
    {
        var answer = Programs.Run(
            "perf",
            arguments,
            "",
            // The runtime then tells perf the names of the methods that it compiles.
            ("DOTNET_PerfMapEnabled", "1"),
            // Otherwise compiled code lies in a mapped file, in which perf looks for names in vain.
            ("DOTNET_EnableWriteXorExecute", "0")
        );
        return answer switch
        {
            null => throw new DistillException(
                "A profile needs Linux's `perf` (Debian: linux-perf), which is not installed."
            ),
            (0, var output, _) => output.Split('\n'),
            var (_, _, errors) => throw new DistillException(
                $"`perf {arguments[0]}` failed: {errors.Trim()}"
            ),
        };
    }

    [GeneratedRegex(
        @"^\s*([0-9.]+)%\s+\[.\]\s+(.+?)(\[(?:Optimized|PreJIT|Tier|OptimizedTier|QuickJitted|Instrumented)[^\]]*\])?[\s-]*$"
    )]
    private static partial Regex Sample();

    [GeneratedRegex(@"^\s*[0-9.]+%\s+([0-9]+):")]
    private static partial Regex Sampled();
}
