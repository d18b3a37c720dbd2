using System.Buffers.Binary;
using System.Text;

namespace Distill.Storage;

/// <summary>
/// The part of Python's pickle machine that PyTorch checkpoints need (protocols 2 to 4), modelled on PyTorch's own
/// restricted unpickler. Names in the file select constructors of this class from fixed lists; nothing of the file is
/// ever looked up, loaded or called. Without recursion, so that nesting cannot exhaust the stack.
/// </summary>
internal sealed class PickleReader
{
    // A checkpoint uses about 40 instructions a tensor.
    private const int MaximumInstructions = 1_000_000;
    private const int MaximumAxes = 64;
    private const int MaximumArguments = 8;

    private static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);
    private static readonly TorchValue NoneValue = new TorchValue.None();

    private readonly byte[] code;
    private readonly Func<string, byte[]> readStorage;
    private readonly Action<long> charge;
    private readonly List<TorchValue> stack = [];
    private readonly List<int> marks = [];
    private readonly Dictionary<uint, TorchValue> memo = [];
    private readonly Dictionary<string, byte[]> storages = [];
    private int position;

    // Values that exist only while the machine runs; a tree that still holds one is refused.
    internal sealed record Global(string Module, string Name) : TorchValue
    {
        public string FullName => $"{Module}.{Name}";
    }

    internal sealed record Storage(ElementType? Type, byte[] Data, long Count) : TorchValue;

    /// <param name="readStorage">Bytes of the storage of a key.</param>
    /// <param name="charge">Takes bytes from the caller's budget, or throws.</param>
    internal PickleReader(byte[] code, Func<string, byte[]> readStorage, Action<long> charge)
    {
        this.code = code;
        this.readStorage = readStorage;
        this.charge = charge;
    }

    /// <exception cref="InvalidDataException">Anything but a well-formed pickle of plain data and tensors.</exception>
    internal TorchValue Run()
    {
        for (var count = 0; count < MaximumInstructions; count++)
        {
            var opcode = Take(1)[0];
            if (opcode == '.')
            {
                var result = Pop();
                return stack.Count == 0 && marks.Count == 0
                    ? result
                    : throw new InvalidDataException("its pickle leaves values behind");
            }

            Execute(opcode);
        }

        throw new InvalidDataException($"its pickle has more than {MaximumInstructions} instructions");
    }

    private void Execute(byte opcode)
    {
        switch (opcode)
        {
            case 0x80: // PROTO
                var protocol = Take(1)[0];
                if (protocol is < 2 or > 5)
                    throw new InvalidDataException($"its pickle has the unsupported protocol {protocol}");

                break;
            case 0x95: // FRAME
                Take(8);
                break;
            case (byte)'(': // MARK
                marks.Add(stack.Count);
                break;
            case (byte)'0': // POP
                Pop();
                break;
            case (byte)'1': // POP_MARK
                PopToMark();
                break;

            case (byte)'N': // NONE
                Push(NoneValue);
                break;
            case 0x88: // NEWTRUE
                Push(new TorchValue.Bool(true));
                break;
            case 0x89: // NEWFALSE
                Push(new TorchValue.Bool(false));
                break;
            case (byte)'J': // BININT
                Push(new TorchValue.Int(BinaryPrimitives.ReadInt32LittleEndian(Take(4))));
                break;
            case (byte)'K': // BININT1
                Push(new TorchValue.Int(Take(1)[0]));
                break;
            case (byte)'M': // BININT2
                Push(new TorchValue.Int(BinaryPrimitives.ReadUInt16LittleEndian(Take(2))));
                break;
            case 0x8a: // LONG1
                Push(new TorchValue.Int(LongOf(Take(Take(1)[0]))));
                break;
            case (byte)'G': // BINFLOAT
                Push(new TorchValue.Float(BinaryPrimitives.ReadDoubleBigEndian(Take(8))));
                break;
            case (byte)'X': // BINUNICODE
                Push(new TorchValue.Text(TextOf(Take(TakeUInt32()))));
                break;
            case 0x8c: // SHORT_BINUNICODE
                Push(new TorchValue.Text(TextOf(Take(Take(1)[0]))));
                break;
            case 0x8d: // BINUNICODE8
                Push(new TorchValue.Text(TextOf(Take(BinaryPrimitives.ReadUInt64LittleEndian(Take(8))))));
                break;
            case (byte)'B': // BINBYTES
                Push(new TorchValue.Bytes(Take(TakeUInt32()).ToArray()));
                break;
            case (byte)'C': // SHORT_BINBYTES
                Push(new TorchValue.Bytes(Take(Take(1)[0]).ToArray()));
                break;

            case (byte)')': // EMPTY_TUPLE
                Push(new TorchValue.Tuple([]));
                break;
            case (byte)'t': // TUPLE
                Push(new TorchValue.Tuple(PopToMark()));
                break;
            case 0x85: // TUPLE1
            case 0x86: // TUPLE2
            case 0x87: // TUPLE3
                Push(new TorchValue.Tuple(PopMany(opcode - 0x84)));
                break;
            case (byte)']': // EMPTY_LIST
            case 0x8f: // EMPTY_SET
                Push(new TorchValue.List(new List<TorchValue>()));
                break;
            case (byte)'}': // EMPTY_DICT
                Push(TorchValue.Dict.Of());
                break;
            case (byte)'a': // APPEND
                Append(PopMany(1));
                break;
            case (byte)'e': // APPENDS
            case 0x90: // ADDITEMS
                Append(PopToMark());
                break;
            case (byte)'s': // SETITEM
                SetItems(PopMany(2));
                break;
            case (byte)'u': // SETITEMS
                SetItems(PopToMark());
                break;

            case (byte)'q': // BINPUT
                memo[Take(1)[0]] = Peek();
                break;
            case (byte)'r': // LONG_BINPUT
                memo[TakeUInt32()] = Peek();
                break;
            case 0x94: // MEMOIZE
                memo[(uint)memo.Count] = Peek();
                break;
            case (byte)'h': // BINGET
                Push(Recall(Take(1)[0]));
                break;
            case (byte)'j': // LONG_BINGET
                Push(Recall(TakeUInt32()));
                break;

            case (byte)'c': // GLOBAL
                Push(Known(TakeLine(), TakeLine()));
                break;
            case 0x93: // STACK_GLOBAL
                Push(
                    PopMany(2) is [TorchValue.Text module, TorchValue.Text name]
                        ? Known(module.Value, name.Value)
                        : throw new InvalidDataException(
                            "its pickle names a global by something else than text"
                        )
                );
                break;
            case (byte)'R': // REDUCE
                Push(
                    PopMany(2) is [Global function, TorchValue.Tuple arguments]
                    && arguments.Items.Count <= MaximumArguments
                        ? Construct(function, [.. arguments.Items])
                        : throw new InvalidDataException(
                            "its pickle calls something that is not a known constructor"
                        )
                );
                break;
            case (byte)'b': // BUILD
                // PyTorch hangs {_metadata: versions} on the OrderedDict of a module; nobody needs it here.
                Pop();
                if (Peek() is not TorchValue.Dict)
                    throw new InvalidDataException(
                        "its pickle sets attributes of something that is not a dict"
                    );

                break;
            case (byte)'Q': // BINPERSID
                Push(StorageOf(Pop()));
                break;

            default:
                throw new InvalidDataException(
                    $"its pickle has the instruction 0x{opcode:x2} at byte {position - 1}, which a checkpoint never uses"
                );
        }
    }

    /// <summary>The allow-list. The name alone is kept; <see cref="Construct"/> decides what it builds.</summary>
    private static Global Known(string module, string name)
    {
        var global = new Global(module, name);
        var known = (module, name) switch
        {
            ("collections", "OrderedDict") => true,
            ("torch._utils", "_rebuild_tensor_v2" or "_rebuild_tensor_v3" or "_rebuild_parameter") => true,
            ("torch", "Size" or "device") => true,
            ("torch.storage", "UntypedStorage") => true,
            ("torch", _) => ElementTypes.Find(names => names.TorchStorage == name || names.Torch == name)
                is not null,
            ("_codecs", "encode") => true,
            ("__builtin__" or "builtins", "set") => true,
            _ => false,
        };
        if (known)
            return global;

        var hint = module.StartsWith("numpy", StringComparison.Ordinal)
            ? "; save Python numbers or tensors instead of NumPy values"
            : "";
        throw new InvalidDataException(
            $"it wants to create '{global.FullName}', which is not plain data or a tensor{hint}"
        );
    }

    private TorchValue Construct(Global function, TorchValue[] arguments) =>
        (function.FullName, arguments) switch
        {
            ("collections.OrderedDict", []) => TorchValue.Dict.Of(),
            // Hooks, requires_grad and the index of a device are of no use here.
            (
                "torch._utils._rebuild_tensor_v2",
                [
                    Storage { Type: { } type } storage,
                    TorchValue.Int offset,
                    TorchValue.Tuple size,
                    TorchValue.Tuple stride,
                    _,
                    _,
                    .. var rest,
                ]
            ) when IsPlain(rest) => MakeTensor(storage, type, offset.Value, size, stride),
            (
                "torch._utils._rebuild_tensor_v3",
                [
                    Storage { Type: null } storage,
                    TorchValue.Int offset,
                    TorchValue.Tuple size,
                    TorchValue.Tuple stride,
                    _,
                    _,
                    Global { Module: "torch" } type,
                    .. var rest,
                ]
            ) when IsPlain(rest) => MakeTensor(storage, TypeOf(type), offset.Value, size, stride),
            ("torch._utils._rebuild_parameter", [TorchValue.Array tensor, _, _]) => tensor,
            ("torch.Size", [TorchValue.Tuple or TorchValue.List]) => new TorchValue.Tuple(
                Items(arguments[0])
            ),
            ("torch.device", [TorchValue.Text kind, ..]) => kind,
            ("_codecs.encode", [TorchValue.Text text, TorchValue.Text { Value: "latin1" }]) => BytesOf(
                text.Value
            ),
            ("__builtin__.set" or "builtins.set", []) => new TorchValue.List(new List<TorchValue>()),
            ("__builtin__.set" or "builtins.set", [TorchValue.List items]) => items,
            _ => throw new InvalidDataException(
                $"it calls '{function.FullName}' with arguments that it does not take"
            ),
        };

    private TorchValue.Bytes BytesOf(string latin1)
    {
        // The text can be recalled and encoded again and again.
        charge(latin1.Length);
        return new TorchValue.Bytes(Encoding.Latin1.GetBytes(latin1));
    }

    /// <summary>A last argument of flags (conjugated, negated) would change what the numbers mean.</summary>
    private static bool IsPlain(TorchValue[] rest) =>
        rest is [] or [TorchValue.None] or [TorchValue.Dict { Entries.Count: 0 }];

    private static IReadOnlyList<TorchValue> Items(TorchValue value) =>
        value is TorchValue.Tuple tuple ? tuple.Items : ((TorchValue.List)value).Items;

    private static ElementType TypeOf(Global type) =>
        ElementTypes.Find(names => names.Torch == type.Name)?.Type
        ?? throw new InvalidDataException($"a tensor has the unsupported element type '{type.FullName}'");

    private TorchValue.Array MakeTensor(
        Storage storage,
        ElementType type,
        long offset,
        TorchValue.Tuple size,
        TorchValue.Tuple stride
    )
    {
        if (size.Items.Count != stride.Items.Count || size.Items.Count > MaximumAxes)
            throw new InvalidDataException(
                $"a tensor has {size.Items.Count} sizes and {stride.Items.Count} strides"
            );

        var strides = LongsOf(stride);
        var shape = Array.ConvertAll(
            LongsOf(size),
            axis =>
                axis is >= 0 and <= int.MaxValue
                    ? (int)axis
                    : throw new InvalidDataException($"a tensor has the impossible size {axis}")
        );
        var elementSize = ElementTypes.SizeOf(type);
        // A stride of 0 can expand four bytes to terabytes.
        charge(Tensor.CountOf(shape) * elementSize);
        var bytes = storage.Type is null ? storage.Count : storage.Count * elementSize;
        var data = Tensor.Gather(storage.Data.AsSpan(0, (int)bytes), elementSize, offset, shape, strides);
        return new TorchValue.Array(new Tensor("", type, shape, data));
    }

    private static long[] LongsOf(TorchValue.Tuple tuple) =>
        [
            .. tuple.Items.Select(item =>
                item is TorchValue.Int number
                    ? number.Value
                    : throw new InvalidDataException("a tensor has a size or stride that is not an integer")
            ),
        ];

    private Storage StorageOf(TorchValue id)
    {
        if (
            id
            is not TorchValue.Tuple
            {
                Items: [
                    TorchValue.Text { Value: "storage" },
                    Global type,
                    TorchValue.Text key,
                    TorchValue.Text,
                    TorchValue.Int count,
                ],
            }
        )
            throw new InvalidDataException(
                "its pickle refers to something outside that is not a tensor storage"
            );

        ElementType? elementType =
            type.FullName == "torch.storage.UntypedStorage"
                ? null
                : ElementTypes.Find(names => type.Module == "torch" && names.TorchStorage == type.Name)?.Type
                    ?? throw new InvalidDataException($"'{type.FullName}' is not a tensor storage");
        if (!storages.TryGetValue(key.Value, out var data))
        {
            data = readStorage(key.Value);
            storages.Add(key.Value, data);
        }

        var size = elementType is { } known ? ElementTypes.SizeOf(known) : 1;
        if (count.Value < 0 || count.Value > data.Length / size)
            throw new InvalidDataException(
                $"its storage '{key.Value}' should have {count.Value} elements and has {data.Length / size}"
            );

        return new Storage(elementType, data, count.Value);
    }

    private void Append(TorchValue[] items)
    {
        if (Peek() is not TorchValue.List { Items: List<TorchValue> list })
            throw new InvalidDataException("its pickle appends to something that is not a list");

        list.AddRange(items);
    }

    private void SetItems(TorchValue[] items)
    {
        if (Peek() is not TorchValue.Dict dict || items.Length % 2 != 0)
            throw new InvalidDataException("its pickle sets items of something that is not a dict");

        for (var i = 0; i < items.Length; i += 2)
        {
            TorchKey key = items[i] switch
            {
                TorchValue.Text text => text.Value,
                TorchValue.Int number => number.Value,
                _ => throw new InvalidDataException("a dict has a key that is neither text nor an integer"),
            };
            dict.Entries[key] = items[i + 1];
        }
    }

    private TorchValue Recall(uint slot) =>
        memo.TryGetValue(slot, out var value)
            ? value
            : throw new InvalidDataException($"its pickle recalls slot {slot}, which was never written");

    private void Push(TorchValue value) => stack.Add(value);

    // Values below the last mark belong to an unfinished container.
    private int Floor => marks.Count == 0 ? 0 : marks[^1];

    private TorchValue Peek() =>
        stack.Count > Floor
            ? stack[^1]
            : throw new InvalidDataException("its pickle takes from an empty stack");

    private TorchValue Pop()
    {
        var value = Peek();
        stack.RemoveAt(stack.Count - 1);
        return value;
    }

    private TorchValue[] PopMany(int count)
    {
        if (stack.Count - Floor < count)
            throw new InvalidDataException("its pickle takes from an empty stack");

        var values = stack.GetRange(stack.Count - count, count).ToArray();
        stack.RemoveRange(stack.Count - count, count);
        return values;
    }

    private TorchValue[] PopToMark()
    {
        if (marks.Count == 0)
            throw new InvalidDataException("its pickle ends a container that was never begun");

        var values = PopMany(stack.Count - Floor);
        marks.RemoveAt(marks.Count - 1);
        return values;
    }

    private ReadOnlySpan<byte> Take(ulong length)
    {
        if (length > (ulong)(code.Length - position))
            throw new InvalidDataException("its pickle ends in the middle of an instruction");

        var bytes = code.AsSpan(position, (int)length);
        position += (int)length;
        return bytes;
    }

    private uint TakeUInt32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(4));

    private string TakeLine()
    {
        var length = code.AsSpan(position).IndexOf((byte)'\n');
        if (length < 0)
            throw new InvalidDataException("its pickle ends in the middle of an instruction");

        var text = TextOf(Take((ulong)length));
        Take(1);
        return text;
    }

    private static string TextOf(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return Utf8.GetString(bytes);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException("its pickle has a text that is not UTF-8", e);
        }
    }

    /// <summary>Two's complement, little-endian, any length; no byte is 0.</summary>
    private static long LongOf(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > sizeof(long))
            throw new InvalidDataException("its pickle has an integer of more than 64 bits");

        Span<byte> extended = stackalloc byte[sizeof(long)];
        extended.Fill(bytes.Length > 0 && bytes[^1] >= 0x80 ? (byte)0xff : (byte)0);
        bytes.CopyTo(extended);
        return BinaryPrimitives.ReadInt64LittleEndian(extended);
    }
}
