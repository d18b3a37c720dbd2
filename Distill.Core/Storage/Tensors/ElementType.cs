namespace Distill.Storage;

/// <summary>What one element of a <see cref="Tensor"/> is. Values are little-endian in every file format.</summary>
public enum ElementType
{
    Float32,
    Float64,
    Float16,
    BFloat16,
    Int64,
    Int32,
    Int16,
    Int8,
    UInt64,
    UInt32,
    UInt16,
    UInt8,
    Bool,
}

/// <summary>The one table of element sizes and of the names that each file format gives to an element type.</summary>
internal static class ElementTypes
{
    /// <param name="Size">Bytes of one element.</param>
    /// <param name="SafeTensors">The <c>dtype</c> of a safetensors header.</param>
    /// <param name="Torch">Name of the dtype in PyTorch, without its module: float32.</param>
    /// <param name="TorchStorage">Name of the typed storage in a <c>.pt</c> file; null where PyTorch has none.</param>
    /// <param name="NumPy">The <c>descr</c> of a <c>.npy</c> header; null where NumPy has no such type.</param>
    internal sealed record Names(
        ElementType Type,
        int Size,
        string SafeTensors,
        string Torch,
        string? TorchStorage,
        string? NumPy
    );

    private static readonly Names[] Table =
    [
        new(ElementType.Float32, 4, "F32", "float32", "FloatStorage", "<f4"),
        new(ElementType.Float64, 8, "F64", "float64", "DoubleStorage", "<f8"),
        new(ElementType.Float16, 2, "F16", "float16", "HalfStorage", "<f2"),
        new(ElementType.BFloat16, 2, "BF16", "bfloat16", "BFloat16Storage", null),
        new(ElementType.Int64, 8, "I64", "int64", "LongStorage", "<i8"),
        new(ElementType.Int32, 4, "I32", "int32", "IntStorage", "<i4"),
        new(ElementType.Int16, 2, "I16", "int16", "ShortStorage", "<i2"),
        new(ElementType.Int8, 1, "I8", "int8", "CharStorage", "|i1"),
        new(ElementType.UInt64, 8, "U64", "uint64", null, "<u8"),
        new(ElementType.UInt32, 4, "U32", "uint32", null, "<u4"),
        new(ElementType.UInt16, 2, "U16", "uint16", null, "<u2"),
        new(ElementType.UInt8, 1, "U8", "uint8", "ByteStorage", "|u1"),
        new(ElementType.Bool, 1, "BOOL", "bool", "BoolStorage", "|b1"),
    ];

    internal static Names Of(ElementType type) => Table[(int)type];

    internal static int SizeOf(ElementType type) => Table[(int)type].Size;

    internal static Names? Find(Func<Names, bool> match) => Array.Find(Table, names => match(names));
}
