using System.Runtime.InteropServices;

namespace Distill.Storage;

/// <summary>
/// A <c>.npz</c> whose arrays are read from their beginning to their end, piece by piece and side by side: files may be larger
/// than memory. Of what <see cref="Npz.Read"/> accepts, all but arrays in Fortran order.
/// </summary>
public sealed class NpzInput : IDisposable
{
    internal const string Kind = ".npz file";

    private readonly string path;
    private readonly Stream stream;
    private readonly ZipInput archive;

    /// <exception cref="DistillException">The file is missing or damaged.</exception>
    public NpzInput(string path)
    {
        this.path = path;
        Stream? opened = null;
        try
        {
            stream = opened = InputFile.Open(path);
            archive = new ZipInput(stream, budget: 0);
        }
        catch (Exception e)
        {
            var empty = opened?.Length == 0;
            opened?.Dispose();
            if (InputFile.Explain(path, Kind, e, empty) is { } told)
                throw told;
            throw;
        }
    }

    /// <summary>Names of the arrays, in the order of the file.</summary>
    public IEnumerable<string> Names =>
        archive
            .Names.Where(name => name.EndsWith(Npz.Suffix, StringComparison.Ordinal))
            .Select(name => name[..^Npz.Suffix.Length]);

    /// <summary>Name, length and CRC-32 of everything in the file: another content has others.</summary>
    public IEnumerable<(string Name, long Length, uint Crc32)> Directory => archive.Directory;

    public bool Contains(string name) => archive.Contains(name + Npz.Suffix);

    /// <summary>An array before its first element.</summary>
    /// <exception cref="DistillException">There is none of this name, or it cannot be read so.</exception>
    public NpzInputArray Open(string name)
    {
        try
        {
            return new NpzInputArray(path, name, archive);
        }
        catch (Exception e) when (InputFile.Explain(path, Kind, e, empty: false) is { } told)
        {
            throw told;
        }
    }

    public void Dispose()
    {
        archive.Dispose();
        stream.Dispose();
    }
}

/// <summary>An array that is read from its beginning to its end.</summary>
public sealed class NpzInputArray : IDisposable
{
    private const int BufferSize = 64 << 10;

    private readonly string path;
    private readonly ZipEntryInput entry;
    private readonly byte[] buffer = new byte[BufferSize];

    internal NpzInputArray(string path, string name, ZipInput archive)
    {
        this.path = path;
        Name = name;
        var header = NpyHeader.Read(name, archive.ReadBeginning(name + Npz.Suffix, NpyHeader.Maximum));
        (ElementType, Shape) = (header.Type, header.Shape);
        if (header.IsFortran && header.Shape.Count(size => size > 1) > 1)
            throw new InvalidDataException(
                $"its array '{name}' is in Fortran order; write it after numpy.ascontiguousarray"
            );
        var length = archive.LengthOf(name + Npz.Suffix);
        if (Bytes(header) != length - header.Start)
            throw new InvalidDataException(
                $"its array '{name}' has {length - header.Start} bytes, which is not what it claims"
            );
        entry = archive.Open(name + Npz.Suffix);
        entry.Read(new byte[header.Start]);
    }

    public string Name { get; }

    public ElementType ElementType { get; }

    /// <summary>Sizes, outermost first.</summary>
    public IReadOnlyList<int> Shape { get; }

    /// <summary>Whether its elements are whole numbers or bools.</summary>
    public bool IsWhole =>
        ElementType
            is not (
                ElementType.Float16
                or ElementType.BFloat16
                or ElementType.Float32
                or ElementType.Float64
            );

    /// <summary>The next elements, rounded to float32 where they do not fit.</summary>
    /// <exception cref="DistillException">The array ends before, or its content is damaged.</exception>
    public void Read(Span<float> target)
    {
        try
        {
            if (ElementType == ElementType.Float32)
                entry.Read(MemoryMarshal.AsBytes(target));
            else
                Convert(target);
        }
        catch (Exception e) when (InputFile.Explain(path, NpzInput.Kind, e, empty: false) is { } told)
        {
            throw told;
        }
    }

    public void Dispose() => entry.Dispose();

    private void Convert(Span<float> target)
    {
        var size = ElementTypes.SizeOf(ElementType);
        while (!target.IsEmpty)
        {
            var count = Math.Min(target.Length, BufferSize / size);
            var bytes = buffer.AsSpan(0, count * size);
            entry.Read(bytes);
            Tensor.Convert(ElementType, bytes, target[..count]);
            target = target[count..];
        }
    }

    private static Int128 Bytes(NpyHeader header)
    {
        Int128 bytes = header.ElementSize;
        foreach (var size in header.Shape)
            // Beyond any file.
            bytes = Int128.Min(bytes * size, Int128.One << 90);
        return bytes;
    }
}
