using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Distill.Storage;

namespace Distill.Benchmarks;

/// <summary>A benchmark that can be called by its name.</summary>
internal sealed record Benchmark(string Name, string What, Action<Session> Run);

/// <summary>Measures Distill and its peers in turns; see docs/performance.md.</summary>
public static class Program
{
    internal const string ServeTraining = "serve-training";
    internal const string ServeGrowth = "serve-growth";

    private static readonly Benchmark[] Benchmarks =
    [
        new("simulator", "the quadrotor: observe, step, reward, reset", Simulator.Run),
        new("policy", "the same with a network 22-64-64-4 in the loop", Simulator.RunWithPolicy),
        new("native", "a pendulum in a shared library, beside the same in C#", Natives.Run),
        new(
            "manipulation",
            "a hand, a table and a puck on MuJoCo, beside the same loop in C",
            Manipulations.Run
        ),
        new("products", "matrix products, beside OpenBLAS", Products.Run),
        new("mlp", "training steps of 26-256-256-256-4, beside PyTorch", Training.RunMlp),
        new("epoch", "an epoch over 1,000,000 rows, beside PyTorch", Training.RunEpoch),
        new("gru", "back-propagation through 500 steps of a GRU of 16, beside PyTorch", Training.RunGru),
        new("lstm", "the same with an LSTM of 16", Training.RunLstm),
        new("foundation", "an epoch of a thousand teachers into one recurrent student", Foundation.Run),
        new("ppo", "PPO on 4,096 quadrotors", Training.RunPpo),
        new("sac", "SAC: one quadrotor, and updates beside PyTorch", Training.RunSac),
        new(
            "transformer",
            "training steps of a trajectory transformer, beside PyTorch",
            Training.RunTransformer
        ),
        new(
            "external",
            "steps of a simulator in another process, beside pickles through a pipe",
            External.Run
        ),
        new("gpu", "simulator, networks and distillation on an NVIDIA GPU", Gpu.Run),
        new("growth", "a dataset growing to 10,000,000 rows", Rows.RunGrowth),
        new("start", "from the command to the first iteration of the quickstart", Processes.RunStart),
        new("idle", "processor time of a pool without work", Processes.RunIdle),
        new("many", "one-thread trainings side by side, against one alone", Training.RunMany),
    ];

    private const string Usage =
        "bench [list] [NAME ...] [--threads=1,4] [--repetitions=N] [--no-peers | --peer=FOLDER] [--quick] [--profile] [--write=FILE] [--no-files]";

    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    public static int Main(string[] arguments)
    {
        try
        {
            return Run(arguments, Console.Out);
        }
        catch (DistillException error)
        {
            Console.Error.WriteLine(error.Message);
            return 2;
        }
    }

    /// <summary>What <c>build.fsx bench</c> does.</summary>
    /// <exception cref="DistillException">The arguments have no sense, or something that they need is missing.</exception>
    public static int Run(IReadOnlyList<string> arguments, TextWriter output)
    {
        switch (arguments)
        {
            case [ServeTraining]:
                Training.Serve(Console.In, Console.Out);
                return 0;
            case [ServeGrowth]:
                Rows.Serve(Console.In, Console.Out);
                return 0;
            case ["list"]:
                foreach (var benchmark in Benchmarks)
                    output.WriteLine($"  {benchmark.Name, -12} {benchmark.What}");
                return 0;
        }
        var options = arguments
            .Where(argument => argument.StartsWith("--", StringComparison.Ordinal))
            .ToList();
        var names = arguments.Except(options).ToList();
        var settings = Parse(options);
        var chosen = names.Count == 0 ? Benchmarks : [.. names.Select(Find)];
        if (options.Contains("--profile"))
        {
            foreach (var benchmark in chosen)
                Profile.Run(benchmark.Name, settings, output);
            return 0;
        }

        var machine = Machine.Here(settings.Root);
        using var session = new Session(settings, output);
        output.WriteLine($"{machine.Cpu}, {machine.Cores} cores, {machine.Path}, commit {machine.Commit}");
        if (machine.Load > Machine.BusyLoad)
            session.Warn(
                $"The machine was busy at the start: {machine.Load:F2} runnable processes per core."
            );
        if (Value(options, "--peer") is { } checkout)
            Checkout.Compare(session, checkout, chosen.Select(benchmark => benchmark.Name));
        else
            foreach (var benchmark in chosen)
            {
                output.WriteLine($"{benchmark.Name}: {benchmark.What}");
                benchmark.Run(session);
            }
        if (session.Results.Any(result => result.Ours.Relative > Table.WideSpread))
            session.Warn(
                $"Lines marked ±! spread by more than {100 * Table.WideSpread:F0} % between their quartiles: something else was running."
            );
        foreach (var remark in session.Remarks)
            output.WriteLine(remark);
        if (!options.Contains("--no-files"))
            Write(machine, session, options, output);
        return 0;
    }

    private static void Write(Machine machine, Session session, List<string> options, TextWriter output)
    {
        var folder = Path.Combine(session.Settings.Root, "benchmarks", "results");
        Directory.CreateDirectory(folder);
        var path = Path.Combine(folder, $"{machine.Date:yyyy-MM-dd_HH-mm-ss}-{machine.Name}");
        var table =
            Table.Markdown(machine, session.Results, session.Remarks) + Table.Markdown(session.Kernels);
        var all = new
        {
            machine,
            session.Remarks,
            session.Results,
            session.Kernels,
        };
        AtomicFile.WriteText(path + ".json", JsonSerializer.Serialize(all, Json));
        AtomicFile.WriteText(path + ".md", table);
        output.WriteLine($"Results: {path}.json and .md");
        if (Value(options, "--write") is { } document)
            AtomicFile.WriteText(document, Table.Replace(File.ReadAllText(document), table));
    }

    private static Settings Parse(List<string> options)
    {
        string[] known =
        [
            "--threads",
            "--repetitions",
            "--no-peers",
            "--peer",
            "--quick",
            "--profile",
            "--write",
            "--no-files",
        ];
        foreach (var option in options)
            if (!known.Contains(option.Split('=')[0]))
                throw new DistillException($"There is no option {option}. Called so: {Usage}");
        var quick = options.Contains("--quick");
        return new Settings
        {
            Root = Root(),
            Quick = quick,
            Peers = !options.Contains("--no-peers"),
            Seconds = quick ? 0.001 : 0.25,
            Repetitions =
                Value(options, "--repetitions") is { } count ? Number(count)
                : quick ? 2
                : 9,
            Threads = Value(options, "--threads") is { } threads
                ? [.. threads.Split(',').Select(Number)]
                : [.. new[] { 1, Environment.ProcessorCount }.Distinct()],
        };
    }

    private static string? Value(List<string> options, string name) =>
        options.Find(option => option.StartsWith(name + "=", StringComparison.Ordinal))?[(name.Length + 1)..];

    private static int Number(string text) =>
        int.TryParse(text, out var number) && number is >= 1 and <= 1024
            ? number
            : throw new DistillException($"'{text}' is not a number between 1 and 1024. Called so: {Usage}");

    private static Benchmark Find(string name) =>
        Array.Find(Benchmarks, benchmark => benchmark.Name == name)
        ?? throw new DistillException(
            $"There is no benchmark {name}; there are: {string.Join(", ", Benchmarks.Select(benchmark => benchmark.Name))}"
        );

    /// <summary>The folder of the solution, above this program.</summary>
    private static string Root()
    {
        for (
            var folder = new DirectoryInfo(AppContext.BaseDirectory);
            folder is not null;
            folder = folder.Parent
        )
            if (File.Exists(Path.Combine(folder.FullName, "Distill.slnx")))
                return folder.FullName;
        throw new DistillException(
            "The benchmarks run inside a checkout: there is no Distill.slnx above this program."
        );
    }
}
