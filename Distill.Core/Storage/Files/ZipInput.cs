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

    private static readonly uint[] CrcTable = MakeCrcTable();

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

        if (
            entry.Length < 0
            || entry.Length > Array.MaxLength
            || entry.CompressedLength < 0
            || entry.Length / MaximumExpansion > entry.CompressedLength
        )
            throw new InvalidDataException($"its entry '{name}' claims the impossible length {entry.Length}");

        Charge(entry.Length);
        using var stream = entry.Open();
        var data = new byte[entry.Length];
        stream.ReadExactly(data);
        if (stream.ReadByte() >= 0 || Crc32(data) != entry.Crc32)
            throw new InvalidDataException($"its entry '{name}' is damaged (length or CRC-32 differ)");

        return data;
    }

    public void Dispose() => archive.Dispose();

    private ZipArchiveEntry Find(string name) =>
        entries.GetValueOrDefault(name) ?? throw new InvalidDataException($"it has no entry '{name}'");

    private static uint Crc32(ReadOnlySpan<byte> data)
    {
        var crc = uint.MaxValue;
        foreach (var value in data)
            crc = (crc >> 8) ^ CrcTable[(byte)(crc ^ value)];

        return ~crc;
    }

    private static uint[] MakeCrcTable()
    {
        var table = new uint[256];
        for (var i = 0u; i < 256; i++)
        {
            var crc = i;
            for (var bit = 0; bit < 8; bit++)
                crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320u);

            table[i] = crc;
        }

        return table;
    }
}
