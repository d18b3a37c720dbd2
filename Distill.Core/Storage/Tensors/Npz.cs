using System.IO.Compression;

namespace Distill.Storage;

/// <summary>
/// NumPy's <c>.npz</c>: a ZIP archive of <c>.npy</c> arrays (numpy.lib.format, versions 1 and 2), little-endian numbers
/// and bools only.
/// </summary>
public static class Npz
{
    internal const string Suffix = ".npy";
    private const long MaximumBytes = 512L << 20;

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
    public static void Write(string path, IEnumerable<Tensor> arrays, bool compress = false) =>
        Write(
            path,
            arrays.Select(array => new NpzArray(
                array.Name,
                array.ElementType,
                array.Shape,
                stream => stream.Write(array.Data.Span)
            )),
            compress
        );

    /// <summary>The same of arrays that are written piece by piece, and may be larger than memory.</summary>
    public static void Write(string path, IEnumerable<NpzArray> arrays, bool compress = false)
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
                    content.Write(NpyHeader.Write(array.ElementType, array.Shape));
                    array.Write(content);
                }
            }
        );
    }

    /// <summary>Expands no more of the entry than its header says.</summary>
    private static Tensor ReadArray(ZipInput archive, string entry, string name)
    {
        var layout = NpyHeader.Read(name, archive.ReadBeginning(entry, NpyHeader.Maximum));
        var length = archive.LengthOf(entry);
        if (layout.Start + Tensor.CountOf(layout.Shape) * layout.ElementSize != length)
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
}

/// <summary>An array on its way into a <c>.npz</c>.</summary>
/// <param name="Shape">Sizes, outermost first.</param>
/// <param name="Write">Writes the row-major little-endian elements, all of them.</param>
public sealed record NpzArray(
    string Name,
    ElementType ElementType,
    IReadOnlyList<int> Shape,
    Action<Stream> Write
);
