using System.Security.Cryptography;
using System.Text;
using Distill.Storage;

namespace Distill.Environments.Recorded;

/// <summary>Recorded rows in files (docs/recorded-data.md), looked at but not read yet.</summary>
public sealed class RecordedData
{
    private readonly RecordedWish wish;
    private readonly (string Path, int Envs)[] files;

    /// <param name="paths">Files, or folders of which all <c>.npz</c> are taken, in the order of their names.</param>
    /// <exception cref="DistillException">A file is missing, damaged, or not what is wanted; the message says why.</exception>
    public RecordedData(IReadOnlyList<string> paths, RecordedWish wish)
    {
        this.wish = wish;
        files = [.. Find(paths).Select(path => (path, 0))];
        using var digest = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var (withoutEnds, unused) = (0, new SortedSet<string>(StringComparer.Ordinal));
        for (var i = 0; i < files.Length; i++)
        {
            using var file = new RecordedFile(files[i].Path, wish);
            files[i].Envs = file.Envs;
            Rows += file.Rows;
            Weighs |= file.HasWeights;
            withoutEnds += file.HasEnds ? 0 : 1;
            unused.UnionWith(file.Unused);
            foreach (var (name, length, crc) in file.Directory)
                digest.AppendData(Encoding.UTF8.GetBytes($"{name}:{length}:{crc:x8}\n"));
            Doubt(file);
        }
        Digest = digest.GetHashAndReset();
        if (withoutEnds > 0)
            Remarks.Add(
                $"{withoutEnds} of {files.Length} files do not say where episodes end (terminated, truncated): each file, or each environment in it, counts as one episode"
            );
        if (unused.Count > 0)
            Remarks.Add($"Arrays that nobody reads: {string.Join(", ", unused)}");
    }

    /// <summary>Rows in all files.</summary>
    public long Rows { get; }

    public int Files => files.Length;

    /// <summary>Whether rows follow each other in all of them.</summary>
    public bool Flat => Array.TrueForAll(files, file => file.Envs == 0);

    /// <summary>Whether any file says how much its rows count.</summary>
    public bool Weighs { get; }

    /// <summary>Changes with the files' content, by the names, lengths and CRC-32s in them, and with their order.</summary>
    public byte[] Digest { get; }

    /// <summary>What whoever uses the data should know, in sentences.</summary>
    public List<string> Remarks { get; } = [];

    /// <summary>
    /// The data as environments that can be read once, for files that follow each other and have as many environments, or else
    /// rows that follow each other.
    /// </summary>
    /// <param name="lanes">Environments side by side for rows that follow each other.</param>
    /// <param name="steps">Steps that are read at once.</param>
    public IEnumerable<RecordedEnvironment> Environments(int lanes, int steps)
    {
        for (var first = 0; first < files.Length; )
        {
            var envs = files[first].Envs;
            var count = files.Skip(first).TakeWhile(file => file.Envs == envs).Count();
            yield return new RecordedEnvironment(
                wish,
                [.. files.Skip(first).Take(count).Select(file => file.Path)],
                envs == 0,
                envs == 0 ? lanes : envs,
                steps
            );
            first += count;
        }
    }

    /// <summary>The <c>.npz</c> files that files and folders stand for.</summary>
    /// <exception cref="DistillException">There is none.</exception>
    internal static IReadOnlyList<string> Find(IReadOnlyList<string> paths)
    {
        var found = new List<string>();
        foreach (var path in paths)
        {
            var inside = Directory.Exists(path)
                ? Directory.GetFiles(path, "*.npz").Order(StringComparer.Ordinal).ToArray()
                : [path];
            if (inside.Length == 0)
                throw new DistillException($"The folder '{path}' has no recorded data: no .npz file.");
            found.AddRange(inside);
        }
        return found.Count > 0
            ? found
            : throw new DistillException("Recorded data need a file: name .npz files, or folders of them.");
    }

    /// <summary>The observation groups in the first file.</summary>
    internal static IReadOnlyList<string> GroupsOf(IReadOnlyList<string> paths)
    {
        using var file = new NpzInput(Find(paths)[0]);
        return [.. RecordedForm.Groups(file)];
    }

    private void Doubt(RecordedFile file)
    {
        if (file.Facts is not { } facts)
            return;
        if (facts.Environment != wish.Spec.Name)
            Remarks.Add($"'{file.Path}' was recorded in {facts.Environment}, not in {wish.Spec.Name}");
        else if (facts.StepSeconds != wish.Spec.StepSeconds)
            Remarks.Add(
                FormattableString.Invariant(
                    $"'{file.Path}' was recorded with steps of {facts.StepSeconds} s, and those of {wish.Spec.Name} here take {wish.Spec.StepSeconds} s"
                )
            );
    }
}
