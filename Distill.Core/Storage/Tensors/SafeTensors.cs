using System.Buffers.Binary;
using System.Text;
using System.Text.Json;

namespace Distill.Storage;

/// <summary>Content of a safetensors file.</summary>
/// <param name="Tensors">In the order of their data.</param>
/// <param name="Metadata">The free text entries of <c>__metadata__</c>.</param>
public sealed record SafeTensorsContent(
    IReadOnlyList<Tensor> Tensors,
    IReadOnlyDictionary<string, string> Metadata
);

/// <summary>
/// The safetensors format (huggingface/safetensors, format description in its README): header length as u64, JSON
/// header, packed little-endian data.
/// </summary>
public static class SafeTensors
{
    private const string MetadataKey = "__metadata__";
    private const int MaximumHeader = 100_000_000;
    private const long MaximumBytes = 4L << 30;

    /// <exception cref="DistillException">The file is missing, damaged or breaks a rule of the format.</exception>
    public static SafeTensorsContent Read(string path) => InputFile.Parse(path, "safetensors file", Read);

    /// <summary>Writes atomically. Same tensors and metadata, same bytes.</summary>
    /// <param name="path">The file to create or to replace.</param>
    /// <param name="tensors">In any order, names unique.</param>
    /// <param name="metadata">Free text; configuration goes here as JSON.</param>
    /// <exception cref="DistillException">A name occurs twice, or the file cannot be written.</exception>
    public static void Write(
        string path,
        IEnumerable<Tensor> tensors,
        IReadOnlyDictionary<string, string>? metadata = null
    )
    {
        // Largest elements first keeps every tensor aligned to its element size.
        var ordered = tensors
            .OrderByDescending(tensor => ElementTypes.SizeOf(tensor.ElementType))
            .ThenBy(tensor => tensor.Name, StringComparer.Ordinal)
            .ToArray();
        var begin = 0L;
        var entries = Array.ConvertAll(
            ordered,
            tensor => new Entry(
                tensor.Name,
                tensor.ElementType,
                [.. tensor.Shape],
                begin,
                begin += tensor.Data.Length
            )
        );
        Write(
            path,
            entries,
            metadata,
            stream =>
            {
                foreach (var tensor in ordered)
                    stream.Write(tensor.Data.Span);
            }
        );
    }

    /// <summary>One tensor of a file.</summary>
    /// <param name="Begin">First byte, from the end of the header.</param>
    /// <param name="End">Byte after the last one.</param>
    internal sealed record Entry(string Name, ElementType Type, int[] Shape, long Begin, long End);

    /// <summary>Writes atomically: the header, then whatever <paramref name="writeData"/> writes behind it.</summary>
    /// <param name="entries">In the order of their data.</param>
    internal static void Write(
        string path,
        IReadOnlyList<Entry> entries,
        IReadOnlyDictionary<string, string>? metadata,
        Action<Stream> writeData
    )
    {
        var names = new HashSet<string> { MetadataKey };
        foreach (var entry in entries)
        {
            if (!names.Add(entry.Name))
                throw new DistillException(
                    $"Cannot write '{path}': the tensor name '{entry.Name}' is "
                        + (entry.Name == MetadataKey ? "reserved." : "given twice.")
                );
        }

        var header = Header(entries, metadata);
        AtomicFile.Write(
            path,
            stream =>
            {
                Span<byte> length = stackalloc byte[8];
                BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.Length);
                stream.Write(length);
                stream.Write(header);
                writeData(stream);
            }
        );
    }

    private static byte[] Header(IReadOnlyList<Entry> entries, IReadOnlyDictionary<string, string>? metadata)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject(MetadataKey);
                foreach (var (key, value) in metadata.OrderBy(entry => entry.Key, StringComparer.Ordinal))
                    json.WriteString(key, value);

                json.WriteEndObject();
            }

            foreach (var entry in entries)
            {
                json.WriteStartObject(entry.Name);
                json.WriteString("dtype", ElementTypes.Of(entry.Type).SafeTensors);
                json.WriteStartArray("shape");
                foreach (var size in entry.Shape)
                    json.WriteNumberValue(size);

                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(entry.Begin);
                json.WriteNumberValue(entry.End);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        // Spaces up to a multiple of 8, so that the data can be memory-mapped.
        while (buffer.Length % 8 != 0)
            buffer.WriteByte((byte)' ');

        return buffer.ToArray();
    }

    private static SafeTensorsContent Read(Stream stream)
    {
        InputFile.CheckLength(stream, MaximumBytes);
        var (entries, metadata) = ReadHeader(stream);
        var tensors = entries.Select(entry =>
        {
            var data = new byte[entry.End - entry.Begin];
            stream.ReadExactly(data);
            return new Tensor(entry.Name, entry.Type, entry.Shape, data);
        });
        return new SafeTensorsContent([.. tensors], metadata);
    }

    /// <summary>Reads up to the data, which are as long as the entries say.</summary>
    /// <returns>The tensors in the order of their data, which follow each other without gaps.</returns>
    /// <exception cref="InvalidDataException">The file breaks a rule of the format.</exception>
    internal static (IReadOnlyList<Entry> Entries, IReadOnlyDictionary<string, string> Metadata) ReadHeader(
        Stream stream
    )
    {
        Span<byte> prefix = stackalloc byte[8];
        stream.ReadExactly(prefix);
        var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (headerLength > MaximumHeader || (long)headerLength > stream.Length - 8)
            throw new InvalidDataException(
                $"its header claims {headerLength} bytes, the file has {stream.Length}"
            );

        var header = new byte[headerLength];
        stream.ReadExactly(header);
        if (header.Length == 0 || header[0] != '{')
            throw new InvalidDataException("its header does not begin with '{'");

        var metadata = new Dictionary<string, string>();
        var entries = new List<Entry>();
        try
        {
            // Refuses text that is not UTF-8, which the JSON reader would let through.
            _ = new UTF8Encoding(false, throwOnInvalidBytes: true).GetCharCount(header);
            using var json = JsonDocument.Parse(
                header,
                new JsonDocumentOptions { AllowDuplicateProperties = false, MaxDepth = 8 }
            );
            foreach (var property in json.RootElement.EnumerateObject())
            {
                if (property.Name == MetadataKey)
                {
                    foreach (var text in property.Value.EnumerateObject())
                        metadata.Add(text.Name, text.Value.GetString() ?? throw new FormatException());
                }
                else
                    entries.Add(ReadEntry(property));
            }
        }
        catch (Exception e)
            when (e is JsonException or InvalidOperationException or FormatException or ArgumentException)
        {
            throw new InvalidDataException("its header is not the JSON that the format prescribes", e);
        }

        return (InOrder(entries, stream.Length - stream.Position), metadata);
    }

    private static Entry ReadEntry(JsonProperty property)
    {
        string? dtype = null;
        int[]? shape = null;
        long[]? range = null;
        foreach (var field in property.Value.EnumerateObject())
        {
            switch (field.Name)
            {
                case "dtype":
                    dtype = field.Value.GetString();
                    break;
                case "shape":
                    shape = [.. field.Value.EnumerateArray().Select(size => size.GetInt32())];
                    break;
                case "data_offsets":
                    range = [.. field.Value.EnumerateArray().Select(offset => offset.GetInt64())];
                    break;
                default:
                    throw new InvalidDataException(
                        $"tensor '{property.Name}' has the unknown field '{field.Name}'"
                    );
            }
        }

        if (dtype is null || shape is null || range is not [var begin, var end])
            throw new InvalidDataException(
                $"tensor '{property.Name}' needs the fields dtype, shape and data_offsets [begin, end]"
            );

        var type =
            ElementTypes.Find(names => names.SafeTensors == dtype)
            ?? throw new InvalidDataException(
                $"tensor '{property.Name}' has the unsupported element type '{dtype}'"
            );
        var bytes = Tensor.CountOf(shape) * type.Size;
        if (begin < 0 || end < begin || end - begin != bytes || bytes > Array.MaxLength)
            throw new InvalidDataException(
                $"tensor '{property.Name}' of {bytes} bytes has the data range {begin} to {end}"
            );

        return new Entry(property.Name, type.Type, shape, begin, end);
    }

    private static Entry[] InOrder(List<Entry> entries, long available)
    {
        var position = 0L;
        var ordered = entries.OrderBy(entry => entry.Begin).ThenBy(entry => entry.End).ToArray();
        foreach (var entry in ordered)
        {
            if (entry.Begin != position)
                throw new InvalidDataException(
                    $"the data of tensor '{entry.Name}' begin at {entry.Begin} instead of {position}"
                );

            position = entry.End;
        }

        if (position != available)
            throw new InvalidDataException($"its tensors need {position} bytes of data, it has {available}");

        return ordered;
    }
}
