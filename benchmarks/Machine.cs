using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Distill.Benchmarks;

/// <summary>Where and when results were measured.</summary>
/// <param name="Load">Runnable processes per core at the start, mean over a minute; null where the system does not say.</param>
/// <param name="Commit">Short, with "+" where files were changed; "unknown" outside a repository.</param>
public sealed record Machine(
    string Name,
    string Cpu,
    int Cores,
    string Os,
    string DotNet,
    string Path,
    double? Load,
    string Commit,
    DateTime Date
)
{
    /// <summary>More than this load makes figures doubtful.</summary>
    public const double BusyLoad = 0.5;

    public static Machine Here(string root) =>
        new(
            Environment.MachineName,
            CpuModel(),
            Environment.ProcessorCount,
            RuntimeInformation.OSDescription,
            RuntimeInformation.FrameworkDescription,
            Simd.Path.ToString(),
            LoadPerCore(),
            CurrentCommit(root),
            DateTime.UtcNow
        );

    private static string CpuModel()
    {
        const string CpuInfo = "/proc/cpuinfo";
        if (!File.Exists(CpuInfo))
            return RuntimeInformation.ProcessArchitecture.ToString();
        // Virtual machines name the maker alone; family and model then tell the generation.
        var facts = File.ReadLines(CpuInfo)
            .TakeWhile(line => line.Length > 0)
            .Select(line => line.Split(':', 2, StringSplitOptions.TrimEntries))
            .Where(pair => pair.Length == 2)
            .DistinctBy(pair => pair[0])
            .ToDictionary(pair => pair[0], pair => pair[1]);
        return facts.TryGetValue("model name", out var name)
            ? $"{name}, family {facts.GetValueOrDefault("cpu family", "?")} model {facts.GetValueOrDefault("model", "?")}"
            : RuntimeInformation.ProcessArchitecture.ToString();
    }

    private static double? LoadPerCore() =>
        File.Exists("/proc/loadavg")
            ? double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture)
                / Environment.ProcessorCount
            : null;

    private static string CurrentCommit(string root)
    {
        var commit = Git("rev-parse", "--short", "HEAD");
        return commit is null ? BuiltFrom() : commit + (Git("status", "--porcelain") is "" ? "" : "+");

        string? Git(params string[] arguments) =>
            Programs.Run("git", arguments, root) is (0, var output, _) ? output.Trim() : null;
    }

    /// <summary>For programs that run elsewhere than in their checkout: what the compiler noted.</summary>
    private static string BuiltFrom()
    {
        var version = typeof(Machine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>();
        return version?.InformationalVersion.Split('+') is [_, { Length: >= 7 } commit]
            ? commit[..7]
            : "unknown";
    }
}
