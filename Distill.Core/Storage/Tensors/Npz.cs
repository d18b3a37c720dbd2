using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using System.Text.RegularExpressions;

namespace Distill.Storage;

/// <summary>
/// NumPy's <c>.npz</c>: a ZIP archive of <c>.npy</c> arrays (numpy.lib.format, versions 1 and 2), little-endian numbers
/// and bools only.
/// </summary>
public static partial class Npz
{
    private const string Suffix = ".npy";
    private const int MaximumHeader = 64 << 10;
    private const long MaximumBytes = 512L << 20;

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <returns>The arrays in the order of the file; arrays in Fortran order are brought into row-major order.</returns>
    /// <exception cref="DistillException">
    /// The file is missing or damaged, an array has another element type, or all arrays have more than 512 MiB.
    /// </exception>
    public static IReadOnlyList<Tensor> Read(string path) =>
        InputFile.Parse<IReadOnlyList<Tensor>>(
            path,
            ".npz file",
            stream =>
            {
                using var archive = new ZipInput(stream, MaximumBytes);
                return
                [
                    .. archive.Names.Select(name =>
                        name.EndsWith(Suffix, StringComparison.Ordinal)
                            ? ReadArray(archive, name, name[..^Suffix.Length])
                            : throw new InvalidDataException($"its entry '{name}' is not a {Suffix} array")
                    ),
                ];
            }
        );

    /// <summary>Writes atomically. Same arrays, same bytes.</summary>
    /// <param name="path">The file to create or to replace.</param>
    /// <param name="arrays">Names unique.</param>
    /// <param name="compress">Smaller and slower, as <c>numpy.savez_compressed</c>.</param>
    /// <exception cref="DistillException">A name occurs twice, NumPy lacks the type, or the file cannot be written.</exception>
    public static void Write(string path, IEnumerable<Tensor> arrays, bool compress = false)
    {
        var checkedArrays = arrays.ToArray();
        var names = new HashSet<string>();
        foreach (var array in checkedArrays)
        {
            if (!names.Add(array.Name) || ElementTypes.Of(array.ElementType).NumPy is null)
                throw new DistillException(
                    $"Cannot write '{path}': the array '{array.Name}' is given twice or has a type "
                        + $"({array.ElementType}) that NumPy lacks."
                );
        }

        AtomicFile.Write(
            path,
            stream =>
            {
                using var archive = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true);
                foreach (var array in checkedArrays)
                {
                    var entry = archive.CreateEntry(
                        array.Name + Suffix,
                        compress ? CompressionLevel.Optimal : CompressionLevel.NoCompression
                    );
                    entry.LastWriteTime = new DateTimeOffset(1980, 1, 1, 0, 0, 0, TimeSpan.Zero);
                    using var content = entry.Open();
                    content.Write(Header(array));
                    content.Write(array.Data.Span);
                }
            }
        );
    }

    private static byte[] Header(Tensor array)
    {
        // A Python tuple of one needs its comma.
        var shape = string.Join(", ", array.Shape) + (array.Shape.Count == 1 ? "," : "");
        var type = ElementTypes.Of(array.ElementType).NumPy;
        var text = $"{{'descr': '{type}', 'fortran_order': False, 'shape': ({shape}), }}";
        // Magic, version and length take 10 bytes; the data begin at a multiple of 64.
        var length = (10 + text.Length + 1 + 63) / 64 * 64 - 10;
        var header = new byte[10 + length];
        Magic.CopyTo(header);
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)length);
        Encoding.ASCII.GetBytes(text.PadRight(length - 1) + "\n").CopyTo(header, 10);
        return header;
    }

    /// <summary>What the header of an array says.</summary>
    /// <param name="Start">First byte of the data.</param>
    private sealed record Layout(int Start, ElementType Type, int[] Shape, bool IsFortran)
    {
        public int ElementSize => ElementTypes.SizeOf(Type);

        public long End => Start + Tensor.CountOf(Shape) * ElementSize;
    }

    /// <summary>Expands no more of the entry than its header says.</summary>
    private static Tensor ReadArray(ZipInput archive, string entry, string name)
    {
        var layout = ReadLayout(name, archive.ReadBeginning(entry, MaximumHeader));
        var length = archive.LengthOf(entry);
        if (layout.End != length)
            throw new InvalidDataException(
                $"its array '{name}' has {length - layout.Start} bytes, which is not what it claims"
            );

        var data = archive.Read(entry, compressed: true).AsSpan(layout.Start);
        if (!layout.IsFortran)
            return new Tensor(name, layout.Type, layout.Shape, data.ToArray());

        // Column-major strides are the row-major strides of the reversed shape, reversed.
        var strides = Tensor.DenseStrides([.. layout.Shape.Reverse()]);
        Array.Reverse(strides);
        return new Tensor(
            name,
            layout.Type,
            layout.Shape,
            Tensor.Gather(data, layout.ElementSize, 0, layout.Shape, strides)
        );
    }

    private static Layout ReadLayout(string name, byte[] file)
    {
        if (file.Length < 12 || !file.AsSpan().StartsWith(Magic) || file[6] is not (1 or 2))
            throw new InvalidDataException($"its array '{name}' is not in the .npy format, version 1 or 2");

        var start = file[6] == 1 ? 10 : 12;
        var length =
            file[6] == 1
                ? BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(8))
                : BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(8));
        if (length > file.Length - start)
            throw new InvalidDataException($"the header of its array '{name}' is longer than the array");

        var header = HeaderPattern().Match(Encoding.Latin1.GetString(file, start, (int)length));
        if (!header.Success)
            throw new InvalidDataException(
                $"its array '{name}' has a header that is not that of a plain array"
            );

        var descr = header.Groups["descr"].Value;
        var type =
            ElementTypes.Find(names => names.NumPy == descr)
            ?? throw new InvalidDataException(
                $"its array '{name}' has the unsupported element type '{descr}'; "
                    + "little-endian numbers and bools can be read"
            );
        var shape = header
            .Groups["size"]
            .Captures.Select(size =>
                int.TryParse(size.ValueSpan, out var value)
                    ? value
                    : throw new InvalidDataException(
                        $"its array '{name}' has the impossible size {size.Value}"
                    )
            )
            .ToArray();
        return new Layout(start + (int)length, type.Type, shape, header.Groups["fortran"].Value == "True");
    }

    [GeneratedRegex(
        @"^\{'descr': '(?<descr>[^']{1,8})', 'fortran_order': (?<fortran>True|False), "
            + @"'shape': \(((?<size>\d{1,10})(, |,|(?=\))))*\), \}\s*$",
        RegexOptions.CultureInvariant,
        matchTimeoutMilliseconds: 1000
    )]
    private static partial Regex HeaderPattern();
}
