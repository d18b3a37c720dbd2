using System.Buffers.Binary;
using System.Text;
using System.Text.RegularExpressions;

namespace Distill.Storage;

/// <summary>What the header of a <c>.npy</c> array says (numpy.lib.format, versions 1 and 2).</summary>
/// <param name="Start">First byte of the data.</param>
internal sealed partial record NpyHeader(int Start, ElementType Type, int[] Shape, bool IsFortran)
{
    /// <summary>Bytes that a header has at most.</summary>
    public const int Maximum = 64 << 10;

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    public int ElementSize => ElementTypes.SizeOf(Type);

    /// <summary>The beginning of a file with an array of this type and shape.</summary>
    public static byte[] Write(ElementType type, IReadOnlyList<int> shape)
    {
        // A Python tuple of one needs its comma.
        var sizes = string.Join(", ", shape) + (shape.Count == 1 ? "," : "");
        var text =
            $"{{'descr': '{ElementTypes.Of(type).NumPy}', 'fortran_order': False, 'shape': ({sizes}), }}";
        // Magic, version and length take 10 bytes; the data begin at a multiple of 64.
        var length = (10 + text.Length + 1 + 63) / 64 * 64 - 10;
        var header = new byte[10 + length];
        Magic.CopyTo(header);
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)length);
        Encoding.ASCII.GetBytes(text.PadRight(length - 1) + "\n").CopyTo(header, 10);
        return header;
    }

    /// <param name="name">Of the array, for messages.</param>
    /// <param name="file">Its beginning, as much as a header can have.</param>
    /// <exception cref="InvalidDataException">It is not the header of an array of numbers or bools.</exception>
    public static NpyHeader Read(string name, byte[] file)
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
                    + (
                        descr == "|O"
                            ? "these are pickled Python objects, which are never run; make it an array of numbers"
                            : "little-endian numbers and bools can be read"
                    )
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
        return new NpyHeader(start + (int)length, type.Type, shape, header.Groups["fortran"].Value == "True");
    }

    [GeneratedRegex(
        @"^\{'descr': '(?<descr>[^']{1,8})', 'fortran_order': (?<fortran>True|False), "
            + @"'shape': \(((?<size>\d{1,10})(, |,|(?=\))))*\), \}\s*$",
        RegexOptions.CultureInvariant,
        matchTimeoutMilliseconds: 1000
    )]
    private static partial Regex HeaderPattern();
}
