using System.Buffers.Binary;
using System.Text;

namespace Distill.Storage;

/// <summary>Writes a tree as a protocol-2 pickle that <c>torch.load</c> reads, also with <c>weights_only=True</c>.</summary>
internal sealed class PickleWriter
{
    private const int MaximumDepth = 64;

    private readonly MemoryStream output = new();

    /// <summary>The storages referred to, in order; the key of each is its index.</summary>
    internal List<Tensor> Storages { get; } = [];

    internal byte[] Write(TorchValue root)
    {
        output.Write([0x80, 2]);
        WriteValue(root, 0);
        WriteOpcode('.');
        return output.ToArray();
    }

    private void WriteValue(TorchValue value, int depth)
    {
        if (depth > MaximumDepth)
            throw new DistillException(
                $"A checkpoint cannot be nested more than {MaximumDepth} levels deep."
            );

        switch (value)
        {
            case TorchValue.None:
                WriteOpcode('N');
                break;
            case TorchValue.Bool flag:
                output.WriteByte(flag.Value ? (byte)0x88 : (byte)0x89);
                break;
            case TorchValue.Int number:
                WriteInteger(number.Value);
                break;
            case TorchValue.Float number:
                WriteOpcode('G');
                Span<byte> bigEndian = stackalloc byte[8];
                BinaryPrimitives.WriteDoubleBigEndian(bigEndian, number.Value);
                output.Write(bigEndian);
                break;
            case TorchValue.Text text:
                WriteText(text.Value);
                break;
            case TorchValue.Bytes bytes:
                // Protocol 2 has no bytes: Python itself writes them as Latin-1 text to be encoded.
                WriteGlobal("_codecs", "encode");
                WriteText(Encoding.Latin1.GetString(bytes.Value.Span));
                WriteText("latin1");
                output.WriteByte(0x86);
                WriteOpcode('R');
                break;
            case TorchValue.Tuple tuple:
                WriteTuple(tuple.Items, depth);
                break;
            case TorchValue.List list:
                WriteOpcode(']');
                WriteOpcode('(');
                foreach (var item in list.Items)
                    WriteValue(item, depth + 1);

                WriteOpcode('e');
                break;
            case TorchValue.Dict dict:
                WriteOpcode('}');
                WriteOpcode('(');
                foreach (var (key, item) in dict.Entries)
                {
                    WriteValue(
                        key.Text is { } text ? new TorchValue.Text(text) : new TorchValue.Int(key.Number),
                        depth
                    );
                    WriteValue(item, depth + 1);
                }

                WriteOpcode('u');
                break;
            case TorchValue.Array array:
                WriteTensor(array.Tensor, depth);
                break;
            default:
                throw new DistillException($"A checkpoint cannot hold a {value.GetType().Name}.");
        }
    }

    private void WriteTensor(Tensor tensor, int depth)
    {
        var type =
            ElementTypes.Of(tensor.ElementType).TorchStorage
            ?? throw new DistillException(
                $"PyTorch has no tensors of {tensor.ElementType} ('{tensor.Name}')."
            );
        WriteGlobal("torch._utils", "_rebuild_tensor_v2");
        WriteOpcode('(');

        WriteOpcode('(');
        WriteText("storage");
        WriteGlobal("torch", type);
        WriteText(Storages.Count.ToString());
        WriteText("cpu");
        WriteInteger(tensor.Count);
        WriteOpcode('t');
        WriteOpcode('Q');
        Storages.Add(tensor);

        var shape = tensor.Shape.ToArray();
        WriteInteger(0);
        WriteTuple([.. shape.Select(size => new TorchValue.Int(size))], depth);
        WriteTuple([.. Tensor.DenseStrides(shape).Select(stride => new TorchValue.Int(stride))], depth);
        output.WriteByte(0x89);
        WriteGlobal("collections", "OrderedDict");
        WriteOpcode(')');
        WriteOpcode('R');
        WriteOpcode('t');
        WriteOpcode('R');
    }

    private void WriteTuple(IReadOnlyList<TorchValue> items, int depth)
    {
        if (items.Count == 0)
        {
            WriteOpcode(')');
            return;
        }

        WriteOpcode('(');
        foreach (var item in items)
            WriteValue(item, depth + 1);

        WriteOpcode('t');
    }

    private void WriteInteger(long value)
    {
        Span<byte> bytes = stackalloc byte[10];
        if (value is >= int.MinValue and <= int.MaxValue)
        {
            bytes[0] = (byte)'J';
            BinaryPrimitives.WriteInt32LittleEndian(bytes[1..], (int)value);
            output.Write(bytes[..5]);
        }
        else
        {
            bytes[0] = 0x8a;
            bytes[1] = 8;
            BinaryPrimitives.WriteInt64LittleEndian(bytes[2..], value);
            output.Write(bytes);
        }
    }

    private void WriteText(string text)
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        Span<byte> length = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, utf8.Length);
        WriteOpcode('X');
        output.Write(length);
        output.Write(utf8);
    }

    private void WriteGlobal(string module, string name) =>
        output.Write(Encoding.ASCII.GetBytes($"c{module}\n{name}\n"));

    private void WriteOpcode(char opcode) => output.WriteByte((byte)opcode);
}
