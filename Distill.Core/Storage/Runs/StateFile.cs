using System.Security.Cryptography;

namespace Distill.Storage;

/// <summary>
/// The state of a run as a safetensors file with a tensor of bytes per block, and last the SHA-256 of everything before it.
/// Blocks go straight between memory and file, so that a large dataset is never held twice.
/// </summary>
public static class StateFile
{
    private const string Checksum = "sha256";

    /// <summary>Writes atomically. The state is walked twice: for names and sizes, and for the bytes.</summary>
    /// <exception cref="DistillException">Two blocks have one name, or the file cannot be written.</exception>
    public static void Save(string path, Action<State> walk)
    {
        var sizes = new Sizes();
        walk(sizes);
        var begin = 0L;
        var blocks = sizes
            .Blocks.OrderBy(block => block.Name, StringComparer.Ordinal)
            .Select(block => new SafeTensors.Entry(
                block.Name,
                ElementType.UInt8,
                [block.Bytes],
                begin,
                begin += block.Bytes
            ))
            .ToArray();
        var checksum = new SafeTensors.Entry(
            Checksum,
            ElementType.UInt8,
            [SHA256.HashSizeInBytes],
            begin,
            begin + SHA256.HashSizeInBytes
        );
        SafeTensors.Write(
            path,
            [.. blocks, checksum],
            metadata: null,
            stream =>
            {
                walk(new Saver(stream, blocks.ToDictionary(entry => entry.Name)));
                stream.Position = 0;
                stream.Write(SHA256.HashData(stream));
            }
        );
    }

    /// <summary>Overwrites a state with a saved one.</summary>
    /// <exception cref="DistillException">
    /// The file is missing or damaged; or a block is missing, left over or has another size: the run was made with other
    /// settings; or a value in it is impossible.
    /// </exception>
    public static void Load(string path, Action<State> walk) =>
        InputFile.Parse(
            path,
            "checkpoint",
            stream =>
            {
                var (entries, _) = SafeTensors.ReadHeader(stream);
                CheckBytes(stream, entries);
                var loader = new Loader(path, stream, entries.ToDictionary(entry => entry.Name));
                walk(loader);
                loader.CheckAllRead();
                return entries.Count;
            }
        );

    /// <summary>Leaves the stream where it was.</summary>
    private static void CheckBytes(Stream stream, IReadOnlyList<SafeTensors.Entry> entries)
    {
        if (entries is not [.., { Name: Checksum } last] || last.End - last.Begin != SHA256.HashSizeInBytes)
            throw new InvalidDataException(
                "it has no checksum; older versions of Distill wrote none, and go on from it themselves"
            );
        var position = stream.Position;
        stream.Position = 0;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 20];
        for (var left = stream.Length - SHA256.HashSizeInBytes; left > 0; )
        {
            var part = buffer.AsSpan(0, (int)Math.Min(left, buffer.Length));
            stream.ReadExactly(part);
            hash.AppendData(part);
            left -= part.Length;
        }
        var saved = buffer.AsSpan(0, SHA256.HashSizeInBytes);
        stream.ReadExactly(saved);
        if (!saved.SequenceEqual(hash.GetHashAndReset()))
            throw new InvalidDataException("its checksum is wrong, so it was damaged after it was written");
        stream.Position = position;
    }

    private sealed class Sizes : State
    {
        public List<(string Name, int Bytes)> Blocks { get; } = [];

        protected override void Visit(string name, Span<byte> values) => Blocks.Add((name, values.Length));
    }

    private sealed class Saver(Stream stream, Dictionary<string, SafeTensors.Entry> entries) : State
    {
        private readonly long start = stream.Position;

        protected override void Visit(string name, Span<byte> values)
        {
            stream.Position = start + entries[name].Begin;
            stream.Write(values);
        }
    }

    private sealed class Loader(string path, Stream stream, Dictionary<string, SafeTensors.Entry> entries)
        : State
    {
        private readonly long start = stream.Position;
        private readonly HashSet<string> read = [Checksum];

        public void CheckAllRead()
        {
            if (entries.Keys.FirstOrDefault(name => !read.Contains(name)) is { } left)
                throw new DistillException(
                    $"{path} has a block '{left}' that this run does not: it belongs to a run with other settings."
                );
        }

        protected override void Visit(string name, Span<byte> values)
        {
            read.Add(name);
            if (!entries.TryGetValue(name, out var entry))
                throw new DistillException(
                    $"{path} has no block '{name}': it belongs to a run with other settings."
                );
            if (entry.End - entry.Begin != values.Length)
                throw new DistillException(
                    $"Block '{name}' of {path} has {entry.End - entry.Begin} bytes where this run needs {values.Length}: "
                        + "it belongs to a run with other settings."
                );
            stream.Position = start + entry.Begin;
            stream.ReadExactly(values);
        }
    }
}
