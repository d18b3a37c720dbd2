using System.Globalization;

namespace Distill.Storage;

/// <summary>
/// Where a run keeps what it makes: <c>logs/&lt;experiment&gt;/&lt;yyyy-MM-dd_HH-mm-ss&gt;[_run_name]/</c> with
/// <c>params/</c>, <c>checkpoints/</c> and the files of <see cref="MetricsLog"/>.
/// </summary>
/// <param name="Path">Full path of the folder.</param>
public sealed record RunFolder(string Path)
{
    private const string ParametersName = "params";
    private const string CheckpointsName = "checkpoints";
    private const string LockName = ".lock";
    private const string HolderName = ".lock-holder";

    // Making a folder takes no time; one that is older than this was left by a process that was killed.
    private static readonly TimeSpan LongGone = TimeSpan.FromHours(1);

    /// <summary>
    /// Creates the folder of a new run. Runs that start in the same second, in whatever processes, get different
    /// folders: <c>_2</c>, <c>_3</c>, … is added.
    /// </summary>
    /// <param name="logs">The folder of all experiments, usually <c>logs</c>; created if missing.</param>
    /// <param name="experiment">Letters, digits, '.', '-' and '_'.</param>
    /// <param name="runName">As <paramref name="experiment"/>; null or empty for none.</param>
    /// <param name="clock">Whose local time names the folder; the machine's if null.</param>
    /// <exception cref="DistillException">A name is not acceptable, or the folder cannot be written.</exception>
    public static RunFolder Create(
        string logs,
        string experiment,
        string? runName = null,
        TimeProvider? clock = null
    )
    {
        CheckName("experiment", experiment);
        var time = (clock ?? TimeProvider.System).GetLocalNow();
        var name = time.ToString("yyyy-MM-dd_HH-mm-ss", CultureInfo.InvariantCulture);
        if (!string.IsNullOrEmpty(runName))
        {
            CheckName("run", runName);
            name += $"_{runName}";
        }

        var parent = System.IO.Path.GetFullPath(System.IO.Path.Combine(logs, experiment));
        var made = AtomicFile.TemporaryName(System.IO.Path.Combine(parent, name));
        var path = "";
        AtomicFile.RemoveLeftovers(parent, LongGone, within: false);
        OutputFile.Guard(
            parent,
            () =>
            {
                Directory.CreateDirectory(System.IO.Path.Combine(made, ParametersName));
                Directory.CreateDirectory(System.IO.Path.Combine(made, CheckpointsName));
                path = Claim(made, System.IO.Path.Combine(parent, name));
            }
        );
        return new RunFolder(path);
    }

    /// <summary>Makes this very folder that of a run; it may exist.</summary>
    /// <exception cref="DistillException">The folder cannot be written.</exception>
    public static RunFolder CreateAt(string path)
    {
        var full = System.IO.Path.GetFullPath(path);
        OutputFile.Guard(
            full,
            () =>
            {
                Directory.CreateDirectory(System.IO.Path.Combine(full, ParametersName));
                Directory.CreateDirectory(System.IO.Path.Combine(full, CheckpointsName));
            }
        );
        return new RunFolder(full);
    }

    /// <summary>Makes the folder of a run with what is written into it: wholly, or not at all.</summary>
    /// <param name="path">Must not exist.</param>
    /// <param name="write">Writes into the folder that it is given.</param>
    /// <exception cref="DistillException">The folder is there already, or cannot be written.</exception>
    public static RunFolder CreateWith(string path, Action<RunFolder> write)
    {
        var full = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        if (System.IO.Path.Exists(full))
            throw new DistillException($"'{path}' is there already; name a folder that is not.");
        var made = CreateAt(AtomicFile.TemporaryName(full));
        try
        {
            write(made);
            OutputFile.Guard(full, () => Directory.Move(made.Path, full));
        }
        catch
        {
            Directory.Delete(made.Path, recursive: true);
            throw;
        }
        return new RunFolder(full);
    }

    /// <exception cref="DistillException">There is no such run.</exception>
    public static RunFolder Open(string path) =>
        Directory.Exists(System.IO.Path.Combine(path, ParametersName))
            ? new RunFolder(System.IO.Path.GetFullPath(path))
            : throw new DistillException(
                $"'{path}' is not a run folder: it has no folder '{ParametersName}'."
            );

    /// <summary>
    /// The right to train in this folder, which one run at a time can have; a process that dies loses it. Removes the
    /// temporary files of one that was killed.
    /// </summary>
    /// <exception cref="DistillException">Another run has it, or the folder cannot be written.</exception>
    public IDisposable Lock()
    {
        var holder = System.IO.Path.Combine(Path, HolderName);
        var held = TryLock();
        if (held is null)
        {
            var who = File.Exists(holder)
                ? InputFile.ReadBeginning(holder, "name of a process", 200)
                : "another run";
            throw new DistillException(
                $"'{Path}' is in use by {who.Trim()}; wait until that has ended, or stop it."
            );
        }

        try
        {
            AtomicFile.RemoveLeftovers(Path, TimeSpan.Zero, within: true);
            var who =
                $"process {Environment.ProcessId} on {Environment.MachineName} since {DateTime.Now:yyyy-MM-dd HH:mm:ss}";
            OutputFile.Guard(holder, () => File.WriteAllText(holder, who));
            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>As <see cref="Lock"/>, but null while another run is at work, and nothing is removed.</summary>
    /// <exception cref="DistillException">The folder cannot be written.</exception>
    public FileLock? TryLock() => FileLock.TryTake(System.IO.Path.Combine(Path, LockName));

    /// <summary>Path of a checkpoint of this run, existing or not.</summary>
    /// <param name="name">File name with its extension: <c>best_student.safetensors</c>.</param>
    public string Checkpoint(string name) => System.IO.Path.Combine(Path, CheckpointsName, name);

    /// <summary>Names of the finished checkpoints, sorted.</summary>
    public IReadOnlyList<string> Checkpoints() =>
        [
            .. Directory
                .GetFiles(System.IO.Path.Combine(Path, CheckpointsName))
                .Select(file => System.IO.Path.GetFileName(file))
                .Where(name => !name.StartsWith('.'))
                .Order(StringComparer.Ordinal),
        ];

    /// <summary>Writes <c>params/&lt;name&gt;.yaml</c>.</summary>
    /// <param name="name">Without extension: <c>env</c>, <c>agent</c>.</param>
    /// <param name="record">The configuration.</param>
    /// <exception cref="DistillException">The file cannot be written.</exception>
    public void WriteParameters(string name, object record) =>
        Yaml.Write(System.IO.Path.Combine(Path, ParametersName, name + ".yaml"), record);

    /// <summary>Renames to the first free name; renaming onto a folder with content fails, so only one can win.</summary>
    private static string Claim(string made, string wanted)
    {
        for (var number = 1; ; number++)
        {
            var path = number == 1 ? wanted : $"{wanted}_{number}";
            try
            {
                Directory.Move(made, path);
                return path;
            }
            catch (IOException) when (Directory.Exists(path)) { }
        }
    }

    private static void CheckName(string what, string name)
    {
        if (
            name.Length == 0
            || name[0] == '.'
            || name.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('.' or '-' or '_'))
        )
            throw new DistillException(
                $"The {what} name '{name}' is not acceptable: use letters, digits, '.', '-' and '_', not beginning with '.'."
            );
    }
}
