using System.ComponentModel;
using System.Runtime.Intrinsics.X86;
using System.Text.Json.Nodes;

namespace Distill.Benchmarks;

/// <summary>
/// PyTorch in its best setting. As Debian installs it, two pools of threads (its own OpenMP and the BLAS's) compete, which is
/// many times slower; so its threads, the BLAS and the BLAS's kernels are set before it starts, and a short run of every
/// setting picks the fastest for each case.
/// </summary>
internal sealed class PyTorch(Settings settings, TextWriter progress) : IDisposable
{
    private static readonly string[] Interpreters = ["python3", "/usr/bin/python3"];

    private readonly string script = Path.Combine(AppContext.BaseDirectory, "peers", "pytorch.py");
    private readonly string? openMpBlas = Directory.Exists("/usr/lib")
        ? Directory
            .EnumerateDirectories("/usr/lib")
            .Select(folder => Path.Combine(folder, "openblas-openmp"))
            .FirstOrDefault(folder => File.Exists(Path.Combine(folder, "libblas.so.3")))
        : null;
    private readonly Dictionary<(int Threads, bool Wide), Server> servers = [];
    private string? interpreter;
    private bool sought;

    /// <summary>A sentence, once PyTorch was asked for and is not there or not at its best.</summary>
    public string? Absence { get; private set; }

    /// <summary>The fastest setting with at most so many threads for a job; null where there is no PyTorch.</summary>
    public Contender? Best(int threads, JsonObject job)
    {
        if (!settings.Peers || !Found())
            return null;
        (Contender Contender, double Rate)? best = null;
        foreach (var setting in SettingsUpTo(threads))
        {
            var rate = setting.Contender.Rate();
            if (best is null || rate > best.Value.Rate)
                best = (setting.Contender, rate);
        }
        return best?.Contender;

        IEnumerable<(Contender Contender, Server Server)> SettingsUpTo(int most)
        {
            // Kernels for AVX-512 must be forced: this BLAS and PyTorch do not take them on all processors that have them.
            bool[] widths = settings.Quick || !Avx512F.IsSupported ? [false] : [true, false];
            for (var count = settings.Quick ? most : 1; count <= most; count = count < most ? Math.Min(2 * count, most) : most + 1)
            foreach (var wide in widths)
            {
                var server = Start(count, wide);
                foreach (var adam in server.Adam)
                foreach (var compile in server.Compile ? new[] { false, true } : [false])
                    if (Works(server, Request(adam, compile, 0)))
                        yield return (
                            new Contender(
                                $"PyTorch {server.Version}, {count} thread{(count == 1 ? "" : "s")}, "
                                    + $"{(wide ? "AVX-512 forced" : "its own choice of kernels")}, Adam {adam}"
                                    + (compile ? ", compiled" : ""),
                                () => Ask(server, Request(adam, compile, settings.Seconds))
                            ),
                            server
                        );
            }
        }

        JsonObject Request(string adam, bool compile, double seconds)
        {
            var request = job.DeepClone().AsObject();
            request["adam"] = adam;
            if (compile)
                request["compile"] = true;
            request["seconds"] = seconds;
            return request;
        }
    }

    public void Dispose()
    {
        foreach (var server in servers.Values)
            server.Process.Dispose();
    }

    private static double Ask(Server server, JsonObject request) =>
        server.Process.Ask(request)["rate"]!.GetValue<double>();

    /// <summary>Not every PyTorch that has a setting can do it here: compiling needs a C++ compiler, for example.</summary>
    private bool Works(Server server, JsonObject request)
    {
        try
        {
            // A job that takes seconds is not tried in vain.
            if (request["compile"] is not null || request["adam"]!.GetValue<string>() == "fused")
                Ask(server, request);
            return true;
        }
        catch (IOException error)
        {
            progress.WriteLine($"  PyTorch skips a setting: {error.Message.Split('\n')[0]}");
            return false;
        }
    }

    private bool Found()
    {
        if (sought)
            return interpreter is not null;
        sought = true;
        foreach (var candidate in Interpreters)
        {
            interpreter = candidate;
            try
            {
                Start(1, false);
                if (openMpBlas is null)
                    Absence =
                        "PyTorch runs with the BLAS that it finds, because libopenblas0-openmp is not installed: it may be slower than it could be.";
                return true;
            }
            catch (Exception error) when (error is Win32Exception or IOException)
            {
                interpreter = null;
            }
        }
        Absence = "PyTorch is not installed (Debian: python3-torch and libopenblas0-openmp), so there is no comparison with it.";
        return false;
    }

    private Server Start(int threads, bool wide)
    {
        if (servers.TryGetValue((threads, wide), out var known))
            return known;
        List<(string, string)> environment =
        [
            ("OMP_NUM_THREADS", $"{threads}"),
            ("OPENBLAS_NUM_THREADS", $"{threads}"),
            ("MKL_NUM_THREADS", $"{threads}"),
        ];
        if (openMpBlas is not null)
            environment.Add(("LD_LIBRARY_PATH", openMpBlas));
        if (wide)
            environment.AddRange([("OPENBLAS_CORETYPE", "SkylakeX"), ("ATEN_CPU_CAPABILITY", "avx512")]);
        var process = new PeerProcess(interpreter!, [script], environment);
        try
        {
            var hello = process.Answer();
            return servers[(threads, wide)] = new Server(
                process,
                hello["version"]!.GetValue<string>(),
                [.. hello["adam"]!.AsArray().Select(form => form!.GetValue<string>())],
                hello["compile"]!.GetValue<bool>() && !settings.Quick
            );
        }
        catch (IOException)
        {
            process.Dispose();
            throw;
        }
    }

    private sealed record Server(PeerProcess Process, string Version, string[] Adam, bool Compile);
}
