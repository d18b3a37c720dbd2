using System.Numerics;
using System.Runtime.InteropServices;

namespace Distill.Storage;

/// <summary>
/// A named dense array, row-major, as it lies in a file: the one representation shared by safetensors, <c>.pt</c> and
/// <c>.npz</c>. Integers keep their values; conversion happens only on request.
/// </summary>
public sealed class Tensor
{
    /// <param name="name">Name within its file.</param>
    /// <param name="elementType">What one element is.</param>
    /// <param name="shape">Sizes, outermost first; empty for a scalar; a size may be 0.</param>
    /// <param name="data">Row-major little-endian elements; kept, not copied.</param>
    /// <exception cref="ArgumentException">The data are not as long as the shape says.</exception>
    public Tensor(string name, ElementType elementType, int[] shape, byte[] data)
    {
        Name = name;
        ElementType = elementType;
        Shape = shape;
        Data = data;
        if (CountOf(shape) * ElementTypes.SizeOf(elementType) != data.Length)
            throw new ArgumentException(
                $"Tensor '{name}' of shape {ShapeText} and type {elementType} cannot have {data.Length} bytes."
            );
    }

    public string Name { get; }

    public ElementType ElementType { get; }

    /// <summary>Sizes, outermost first; empty for a scalar.</summary>
    public IReadOnlyList<int> Shape { get; }

    /// <summary>Row-major little-endian elements.</summary>
    public ReadOnlyMemory<byte> Data { get; }

    /// <summary>Number of elements.</summary>
    public int Count => Data.Length / ElementTypes.SizeOf(ElementType);

    /// <summary>The shape as text: <c>[16, 26]</c>.</summary>
    public string ShapeText => $"[{string.Join(", ", Shape)}]";

    /// <summary>The same data under another name.</summary>
    public Tensor Named(string name) => new(name, this);

    private Tensor(string name, Tensor source)
    {
        Name = name;
        ElementType = source.ElementType;
        Shape = source.Shape;
        Data = source.Data;
    }

    /// <param name="name">Name within its file.</param>
    /// <param name="values">Row-major values, copied.</param>
    /// <param name="shape">Sizes, outermost first; none for a scalar.</param>
    public static Tensor OfFloats(string name, ReadOnlySpan<float> values, params int[] shape) =>
        new(name, ElementType.Float32, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <inheritdoc cref="OfFloats"/>
    public static Tensor OfDoubles(string name, ReadOnlySpan<double> values, params int[] shape) =>
        new(name, ElementType.Float64, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <inheritdoc cref="OfFloats"/>
    public static Tensor OfIntegers(string name, ReadOnlySpan<long> values, params int[] shape) =>
        new(name, ElementType.Int64, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <inheritdoc cref="OfFloats"/>
    public static Tensor OfBytes(string name, ReadOnlySpan<byte> values, params int[] shape) =>
        new(name, ElementType.UInt8, shape, values.ToArray());

    /// <inheritdoc cref="OfFloats"/>
    public static Tensor OfBools(string name, ReadOnlySpan<bool> values, params int[] shape) =>
        new(name, ElementType.Bool, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>All elements, row-major, rounded to float32 where they do not fit.</summary>
    public float[] ToFloats() => Convert<float>();

    /// <summary>All elements, row-major; 64-bit integers beyond 2^53 are rounded.</summary>
    public double[] ToDoubles() => Convert<double>();

    /// <summary>All elements of an integer or bool tensor, row-major, exact.</summary>
    /// <exception cref="DistillException">The elements are not integers, or exceed 2^63 - 1.</exception>
    public long[] ToIntegers()
    {
        if (
            ElementType
            is ElementType.Float16
                or ElementType.BFloat16
                or ElementType.Float32
                or ElementType.Float64
        )
            throw new DistillException(
                $"Tensor '{Name}' holds {ElementType} numbers where integers are needed."
            );

        try
        {
            return Convert<long>();
        }
        catch (OverflowException)
        {
            throw new DistillException($"Tensor '{Name}' holds an integer that exceeds 2^63 - 1.");
        }
    }

    private T[] Convert<T>()
        where T : struct, INumberBase<T>
    {
        var result = new T[Count];
        Convert<T>(ElementType, Data.Span, result);
        return result;
    }

    /// <summary>Little-endian elements as numbers.</summary>
    /// <param name="result">As many as there are elements.</param>
    internal static void Convert<T>(ElementType type, ReadOnlySpan<byte> elements, Span<T> result)
        where T : struct, INumberBase<T>
    {
        switch (type)
        {
            case ElementType.Float32:
                Convert<float, T>(elements, result);
                break;
            case ElementType.Float64:
                Convert<double, T>(elements, result);
                break;
            case ElementType.Float16:
                Convert<Half, T>(elements, result);
                break;
            case ElementType.BFloat16:
                // The upper half of a float32.
                var bits = MemoryMarshal.Cast<byte, ushort>(elements);
                for (var i = 0; i < result.Length; i++)
                    result[i] = T.CreateChecked(BitConverter.UInt32BitsToSingle((uint)bits[i] << 16));
                break;
            case ElementType.Int64:
                Convert<long, T>(elements, result);
                break;
            case ElementType.Int32:
                Convert<int, T>(elements, result);
                break;
            case ElementType.Int16:
                Convert<short, T>(elements, result);
                break;
            case ElementType.Int8:
                Convert<sbyte, T>(elements, result);
                break;
            case ElementType.UInt64:
                Convert<ulong, T>(elements, result);
                break;
            case ElementType.UInt32:
                Convert<uint, T>(elements, result);
                break;
            case ElementType.UInt16:
                Convert<ushort, T>(elements, result);
                break;
            default:
                Convert<byte, T>(elements, result);
                break;
        }
    }

    private static void Convert<TElement, TResult>(ReadOnlySpan<byte> data, Span<TResult> result)
        where TElement : struct, INumberBase<TElement>
        where TResult : struct, INumberBase<TResult>
    {
        var elements = MemoryMarshal.Cast<byte, TElement>(data);
        for (var i = 0; i < result.Length; i++)
            result[i] = TResult.CreateChecked(elements[i]);
    }

    /// <summary>Number of elements of a shape.</summary>
    /// <exception cref="InvalidDataException">A size is negative or the product exceeds what an array can hold.</exception>
    internal static long CountOf(ReadOnlySpan<int> shape)
    {
        // A size of 0 makes the tensor empty, however large the others are.
        long count = shape.Contains(0) ? 0 : 1;
        foreach (var size in shape)
        {
            if (size < 0)
                throw new InvalidDataException($"a tensor has the negative size {size}");

            count *= size;
            if (count > Array.MaxLength)
                throw new InvalidDataException($"a tensor has more than {Array.MaxLength} elements");
        }

        return count;
    }

    /// <summary>Copies a strided view of <paramref name="source"/> into dense row-major order.</summary>
    /// <param name="offset">First element, counted in elements.</param>
    /// <param name="strides">Elements between neighbours along each axis.</param>
    /// <exception cref="InvalidDataException">The view leaves the source.</exception>
    internal static byte[] Gather(
        ReadOnlySpan<byte> source,
        int elementSize,
        long offset,
        ReadOnlySpan<int> shape,
        ReadOnlySpan<long> strides
    )
    {
        var count = (int)CountOf(shape);
        var bytes = checked((long)count * elementSize);
        if (bytes > Array.MaxLength)
            throw new InvalidDataException("a tensor is larger than 2 GiB");

        var available = source.Length / elementSize;
        if (offset < 0 || offset > available)
            throw new InvalidDataException($"a tensor begins at element {offset} of {available}");

        if (count == 0)
            return [];

        Int128 last = offset;
        for (var axis = 0; axis < shape.Length; axis++)
        {
            if (strides[axis] < 0)
                throw new InvalidDataException($"a tensor has the negative stride {strides[axis]}");

            last += (Int128)(shape[axis] - 1) * strides[axis];
        }

        if (last >= available)
            throw new InvalidDataException($"a tensor reaches to element {last} of {available}");

        var start = (int)offset * elementSize;
        if (IsDense(shape, strides))
            return source.Slice(start, (int)bytes).ToArray();

        var dense = new byte[bytes];
        var index = new int[shape.Length];
        var position = offset;
        for (var i = 0; i < count; i++)
        {
            source.Slice((int)position * elementSize, elementSize).CopyTo(dense.AsSpan(i * elementSize));
            for (var axis = shape.Length - 1; axis >= 0; axis--)
            {
                position += strides[axis];
                if (++index[axis] < shape[axis])
                    break;

                position -= shape[axis] * strides[axis];
                index[axis] = 0;
            }
        }

        return dense;
    }

    /// <summary>Strides, in elements, of a dense row-major array.</summary>
    internal static long[] DenseStrides(ReadOnlySpan<int> shape)
    {
        var strides = new long[shape.Length];
        var stride = 1L;
        for (var axis = shape.Length - 1; axis >= 0; axis--)
        {
            strides[axis] = stride;
            stride *= Math.Max(shape[axis], 1);
        }

        return strides;
    }

    private static bool IsDense(ReadOnlySpan<int> shape, ReadOnlySpan<long> strides)
    {
        var dense = DenseStrides(shape);
        for (var axis = 0; axis < shape.Length; axis++)
        {
            // The stride of an axis of size 1 is never used.
            if (shape[axis] != 1 && strides[axis] != dense[axis])
                return false;
        }

        return true;
    }
}
