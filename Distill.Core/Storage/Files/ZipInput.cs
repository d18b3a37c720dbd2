using System.IO.Compression;

namespace Distill.Storage;

/// <summary>
/// Entries of a ZIP archive from outside, read within a budget and checked against their CRC-32. The base library
/// trusts the sizes and leaves the CRC to the caller.
/// </summary>
internal sealed class ZipInput : IDisposable
{
    // Deflate cannot expand by more than 1032; an entry that claims more lies about its size.
    private const long MaximumExpansion = 1032;

    private readonly ZipArchive archive;
    private readonly Dictionary<string, ZipArchiveEntry> entries = [];
    private long budget;

    /// <param name="budget">Bytes that may be read from all entries together; entries can overlap in a hostile file.</param>
    internal ZipInput(Stream stream, long budget)
    {
        this.budget = budget;
        archive = new ZipArchive(stream, ZipArchiveMode.Read, leaveOpen: true);
        foreach (var entry in archive.Entries)
        {
            if (!entries.TryAdd(entry.FullName, entry))
                throw new InvalidDataException($"two of its entries are named '{entry.FullName}'");
        }
    }

    /// <summary>Names of all entries, in the order of the central directory.</summary>
    internal IReadOnlyCollection<string> Names => entries.Keys;

    internal bool Contains(string name) => entries.ContainsKey(name);

    /// <summary>Takes <paramref name="bytes"/> from the budget; callers do so for what they expand themselves.</summary>
    internal void Charge(long bytes)
    {
        budget -= bytes;
        if (budget < 0)
            throw new InvalidDataException("its content expands to more than is read of such a file");
    }

    /// <summary>Bytes of an entry, as it claims.</summary>
    internal long LengthOf(string name) => Find(name).Length;

    /// <summary>The first bytes of an entry, at most this many, without looking at its CRC-32.</summary>
    internal byte[] ReadBeginning(string name, int count)
    {
        using var stream = Find(name).Open();
        var data = new byte[count];
        return data[..stream.ReadAtLeast(data, count, throwOnEndOfStream: false)];
    }

    /// <param name="name">Of the entry.</param>
    /// <param name="compressed">Whether a compressed entry is acceptable.</param>
    internal byte[] Read(string name, bool compressed)
    {
        var entry = Find(name);

        // The base library does not tell the compression method; a stored entry has two equal lengths.
        if (!compressed && entry.CompressedLength != entry.Length)
            throw new InvalidDataException(
                $"its entry '{name}' is compressed, which the format does not allow"
            );

        CheckLength(entry, Array.MaxLength);
        Charge(entry.Length);
        using var stream = entry.Open();
        var data = new byte[entry.Length];
        stream.ReadExactly(data);
        if (stream.ReadByte() >= 0 || Crc32.Of(data) != entry.Crc32)
            throw Damaged(name);

        return data;
    }

    /// <summary>An entry of any length, to be read from its beginning to its end; several can be read side by side.</summary>
    /// <exception cref="InvalidDataException">There is none, or its length is impossible.</exception>
    internal ZipEntryInput Open(string name)
    {
        var entry = Find(name);
        CheckLength(entry, long.MaxValue);
        return new ZipEntryInput(name, entry);
    }

    /// <summary>Name, length and CRC-32 of every entry, which change with its content.</summary>
    internal IEnumerable<(string Name, long Length, uint Crc32)> Directory =>
        entries.Values.Select(entry => (entry.FullName, entry.Length, entry.Crc32));

    internal static InvalidDataException Damaged(string entry) =>
        new($"its entry '{entry}' is damaged (length or CRC-32 differ)");

    public void Dispose() => archive.Dispose();

    private ZipArchiveEntry Find(string name) =>
        entries.GetValueOrDefault(name) ?? throw new InvalidDataException($"it has no entry '{name}'");

    private static void CheckLength(ZipArchiveEntry entry, long most)
    {
        if (
            entry.Length < 0
            || entry.Length > most
            || entry.CompressedLength < 0
            || entry.Length / MaximumExpansion > entry.CompressedLength
        )
            throw new InvalidDataException(
                $"its entry '{entry.FullName}' claims the impossible length {entry.Length}"
            );
    }
}

/// <summary>One entry of a ZIP archive, read from its beginning to its end and checked against its CRC-32 there.</summary>
internal sealed class ZipEntryInput(string name, ZipArchiveEntry entry) : IDisposable
{
    private readonly Stream stream = entry.Open();
    private Crc32 crc = new();

    /// <summary>Bytes that were not read yet.</summary>
    internal long Left { get; private set; } = entry.Length;

    /// <exception cref="InvalidDataException">At the end of the entry: its content is not what its CRC-32 says.</exception>
    /// <exception cref="EndOfStreamException">It ends before.</exception>
    internal void Read(Span<byte> target)
    {
        stream.ReadExactly(target);
        crc.Add(target);
        Left -= target.Length;
        if (Left == 0 && (stream.ReadByte() >= 0 || crc.Value != entry.Crc32))
            throw ZipInput.Damaged(name);
    }

    public void Dispose() => stream.Dispose();
}
