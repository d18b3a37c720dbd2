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
    /// <param name="sample">A shorter job that ranks the settings in place of it.</param>
    public Contender? Best(int threads, JsonObject job, JsonObject? sample = null)
    {
        if (!settings.Peers || !Found())
            return null;
        (Server Server, string Name, string Adam, bool Compile, double Rate)? best = null;
        // Kernels for AVX-512 must be forced: this BLAS and PyTorch do not take them on all processors that have them.
        bool[] widths = settings.Quick || !Avx512F.IsSupported ? [false] : [true, false];
        foreach (var count in Counts(threads))
        foreach (var wide in widths)
        {
            var server = Start(count, wide);
            foreach (var adam in server.Adam)
            foreach (var compile in server.Compile ? new[] { false, true } : [false])
            {
                var name =
                    $"PyTorch {server.Version}, {count} thread{(count == 1 ? "" : "s")}"
                    + (wide ? ", AVX-512 forced" : "")
                    + $", Adam {adam}{(compile ? ", compiled" : "")}";
                var rate = Try(server, name, Request(sample ?? job, adam, compile));
                if (rate > (best?.Rate ?? 0))
                    best = (server, name, adam, compile, rate);
            }
        }
        return best is not { } fastest
            ? null
            : new Contender(
                fastest.Name,
                () => Ask(fastest.Server, Request(job, fastest.Adam, fastest.Compile))
            );

        JsonObject Request(JsonObject work, string adam, bool compile)
        {
            var request = work.DeepClone().AsObject();
            request["adam"] = adam;
            if (compile)
                request["compile"] = true;
            request["seconds"] = settings.Seconds;
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

    /// <summary>1, 2, 4 ... and the most; a quick run tries the most alone.</summary>
    private IEnumerable<int> Counts(int most)
    {
        for (var count = 1; count < most && !settings.Quick; count *= 2)
            yield return count;
        yield return most;
    }

    /// <summary>The rate of a setting; 0 where it does not work: compiling needs a C++ compiler, for example.</summary>
    private double Try(Server server, string name, JsonObject request)
    {
        try
        {
            return Ask(server, request);
        }
        catch (IOException error)
        {
            progress.WriteLine($"  {name} does not work here: {error.Message.Split('\n')[0]}");
            return 0;
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
        Absence =
            "PyTorch is not installed (Debian: python3-torch and libopenblas0-openmp), so there is no comparison with it.";
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
