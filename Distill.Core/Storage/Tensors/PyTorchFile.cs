using System.IO.Compression;
using System.Text;

namespace Distill.Storage;

/// <summary>
/// A checkpoint of <c>torch.save</c> (PyTorch 1.6 and later), read without Python and without executing anything.
/// </summary>
/// <param name="Path">Where it was read from; for messages.</param>
/// <param name="Root">The saved object.</param>
/// <param name="Tensors">Every tensor, named by its path of keys joined with <c>/</c>, in the order of the file.</param>
/// <param name="Other">
/// Everything else by the same paths. A list or tuple without tensors or containers in it is one value; so is an empty
/// dict.
/// </param>
public sealed record PyTorchFile(
    string Path,
    TorchValue Root,
    IReadOnlyList<Tensor> Tensors,
    IReadOnlyDictionary<string, TorchValue> Other
)
{
    private const long MaximumBytes = 4L << 30;
    private const int MaximumDepth = 64;
    private const int MaximumValues = 1_000_000;
    private const int MaximumPathCharacters = 64 << 20;

    // torch.save without its ZIP format begins with a pickle of this magic number.
    private static readonly byte[] LegacyMagic =
    [
        0x80,
        0x02,
        0x8a,
        0x0a,
        0x6c,
        0xfc,
        0x9c,
        0x46,
        0xf9,
        0x20,
        0x6a,
        0xa8,
        0x50,
        0x19,
    ];

    /// <exception cref="DistillException">
    /// The file is missing or damaged, is another format, holds anything but plain data and tensors, or expands to more
    /// than 64 MiB and 16 times its size.
    /// </exception>
    public static PyTorchFile Read(string path) =>
        InputFile.Parse(path, "PyTorch checkpoint", stream => Read(path, stream));

    /// <summary>Writes atomically what <c>torch.load</c> reads. Same tree, same bytes.</summary>
    /// <param name="path">The file to create or to replace.</param>
    /// <param name="root">Usually a dict; names of tensors do not matter, the keys do.</param>
    /// <exception cref="DistillException">The tree holds what PyTorch cannot, or the file cannot be written.</exception>
    public static void Write(string path, TorchValue root)
    {
        var pickle = new PickleWriter();
        var code = pickle.Write(root);
        AtomicFile.Write(
            path,
            stream =>
            {
                using var archive = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true);
                Add(archive, "data.pkl", code);
                Add(archive, "byteorder", "little"u8);
                for (var i = 0; i < pickle.Storages.Count; i++)
                    Add(archive, $"data/{i}", pickle.Storages[i].Data.Span);

                Add(archive, "version", "3\n"u8);
            }
        );
    }

    private static void Add(ZipArchive archive, string name, ReadOnlySpan<byte> content)
    {
        var entry = archive.CreateEntry($"archive/{name}", CompressionLevel.NoCompression);
        entry.LastWriteTime = new DateTimeOffset(1980, 1, 1, 0, 0, 0, TimeSpan.Zero);
        using var stream = entry.Open();
        stream.Write(content);
    }

    private static PyTorchFile Read(string path, Stream stream)
    {
        InputFile.CheckLength(stream, MaximumBytes);
        RefuseOtherFormats(stream);
        using var archive = new ZipInput(stream, budget: (64L << 20) + 16 * stream.Length);
        var pickles = archive
            .Names.Where(name => name.EndsWith("/data.pkl", StringComparison.Ordinal))
            .ToArray();
        if (pickles is not [var pickle])
            throw new InvalidDataException(
                $"it holds {pickles.Length} entries named data.pkl instead of one"
            );

        var folder = pickle[..^"data.pkl".Length];
        if (archive.Names.Any(name => name == folder + "constants.pkl" || name.StartsWith(folder + "code/")))
            throw new InvalidDataException(
                "it is a TorchScript export, which is a program; the checkpoints of the same training, model_*.pt, hold the "
                    + "weights (or save the state_dict with torch.save)"
            );

        Expect(archive, folder + "byteorder", "little");
        Expect(archive, folder + ".format_version", "1");
        var machine = new PickleReader(
            archive.Read(pickle, compressed: false),
            key => archive.Read($"{folder}data/{key}", compressed: false),
            archive.Charge
        );
        var root = machine.Run();
        var tensors = new List<Tensor>();
        var other = new Dictionary<string, TorchValue>();
        Flatten(root, tensors, other);
        return new PyTorchFile(path, root, tensors, other);
    }

    private static void RefuseOtherFormats(Stream stream)
    {
        Span<byte> start = stackalloc byte[16];
        start = start[..stream.ReadAtLeast(start, start.Length, throwOnEndOfStream: false)];
        stream.Position = 0;
        if (start.StartsWith("PK"u8))
            return;

        throw new InvalidDataException(
            start.StartsWith(LegacyMagic)
                ? "it has the legacy format from before PyTorch 1.6; load it in Python and torch.save it again"
            : start is [0x80, ..] ? "it is a bare pickle; save it with torch.save"
            : start.Length > 8 && start[8] == '{' ? "it looks like a safetensors file"
            : "it is not a ZIP archive as torch.save writes it"
        );
    }

    private static void Expect(ZipInput archive, string name, string value)
    {
        if (archive.Contains(name))
        {
            var found = Encoding.Latin1.GetString(archive.Read(name, compressed: false)).Trim();
            if (found != value)
                throw new InvalidDataException(
                    $"its {name} is '{found[..Math.Min(found.Length, 20)]}', not '{value}'"
                );
        }
    }

    /// <summary>
    /// Names every leaf. A pickle can hold cycles, and values that share parts so often that their paths explode; the
    /// limits on depth, values and path lengths stop both, so that a tree that was read is safe to walk recursively.
    /// </summary>
    private static void Flatten(TorchValue root, List<Tensor> tensors, Dictionary<string, TorchValue> other)
    {
        var pending = new Stack<(string Path, TorchValue Value, int Depth)>();
        var values = 0L;
        var characters = 0L;
        pending.Push(("", root, 0));
        while (pending.TryPop(out var item))
        {
            var (path, value, depth) = item;
            var children = Children(value);
            Spend(1 + (children?.Count ?? 0), 0);
            if (value is TorchValue.Array array)
                tensors.Add(array.Tensor.Named(path));
            else if (value is PickleReader.Global or PickleReader.Storage)
                throw new InvalidDataException($"its value '{path}' is neither plain data nor a tensor");
            else if (
                children is null or { Count: 0 }
                || (value is not TorchValue.Dict && children.All(child => IsScalar(child.Value)))
            )
                other[path] = value;
            else if (depth == MaximumDepth)
                throw new InvalidDataException($"it is nested more than {MaximumDepth} levels deep");
            else
            {
                for (var i = children.Count - 1; i >= 0; i--)
                {
                    var (key, child) = children[i];
                    var name = key.ToString();
                    Spend(0, path.Length + 1 + name.Length);
                    pending.Push((path.Length == 0 ? name : $"{path}/{name}", child, depth + 1));
                }
            }
        }

        void Spend(int moreValues, int moreCharacters)
        {
            values += moreValues;
            characters += moreCharacters;
            if (values > MaximumValues || characters > MaximumPathCharacters)
                throw new InvalidDataException(
                    $"it holds more than {MaximumValues} values, or names of more than {MaximumPathCharacters} characters"
                );
        }
    }

    private static bool IsScalar(TorchValue value) =>
        value is TorchValue.None or TorchValue.Bool or TorchValue.Int or TorchValue.Float or TorchValue.Text;

    private static IReadOnlyList<(TorchKey Key, TorchValue Value)>? Children(TorchValue value) =>
        value switch
        {
            TorchValue.Dict dict => [.. dict.Entries.Select(entry => (entry.Key, entry.Value))],
            TorchValue.List list => [.. list.Items.Select((item, i) => ((TorchKey)i, item))],
            TorchValue.Tuple tuple => [.. tuple.Items.Select((item, i) => ((TorchKey)i, item))],
            _ => null,
        };
}
