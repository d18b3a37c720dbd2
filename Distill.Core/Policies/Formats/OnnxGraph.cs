using System.Runtime.InteropServices;

namespace Distill.Policies;

/// <summary>
/// A graph of ONNX in the making: operators of opset 13 on <c>[batch, n]</c>. Numbers of fields and types are those of
/// onnx.proto (github.com/onnx/onnx), IR version 7.
/// </summary>
internal sealed class OnnxGraph
{
    public const int Opset = 13;
    private const int IrVersion = 7;
    private const int FloatType = 1;
    private const int IntegerType = 7;

    private readonly List<ProtobufMessage> nodes = [];
    private readonly List<ProtobufMessage> constants = [];
    private readonly List<ProtobufMessage> inputs = [];
    private readonly List<ProtobufMessage> outputs = [];

    /// <summary>Names an input <c>[batch, size]</c> of floats.</summary>
    public string Input(string name, int size, string meaning)
    {
        inputs.Add(Value(name, size, FloatType, meaning));
        return name;
    }

    /// <summary>Makes the result of an operator an output <c>[batch, size]</c>.</summary>
    public void Output(string name, int size, string meaning, bool integers = false) =>
        outputs.Add(Value(name, size, integers ? IntegerType : FloatType, meaning));

    public string Constant(string name, ReadOnlySpan<float> values, params int[] shape) =>
        Constant(name, FloatType, MemoryMarshal.AsBytes(values), shape);

    /// <summary>Adds an operator with one result.</summary>
    /// <returns><paramref name="result"/>, the name of the result.</returns>
    public string Node(string type, string result, string[] from, params ProtobufMessage[] attributes)
    {
        Add(type, from, [result], attributes);
        return result;
    }

    /// <summary>Cuts features into parts of these sizes, called by the name and their number.</summary>
    public string[] Split(string from, string name, params int[] sizes)
    {
        string[] parts = [.. sizes.Select((_, i) => $"{name}.{i}")];
        long[] lengths = [.. sizes.Select(size => (long)size)];
        var constant = Constant(
            $"{name}.sizes",
            IntegerType,
            MemoryMarshal.AsBytes<long>(lengths),
            sizes.Length
        );
        Add("Split", [from, constant], parts, Attribute("axis", 1L));
        return parts;
    }

    public static ProtobufMessage Attribute(string name, float value) =>
        new ProtobufMessage().Text(1, name).Float(2, value).Integer(20, 1);

    public static ProtobufMessage Attribute(string name, long value) =>
        new ProtobufMessage().Text(1, name).Integer(3, value).Integer(20, 2);

    /// <summary>The file.</summary>
    public byte[] Model(string name, string description, IEnumerable<(string Key, string Value)> metadata)
    {
        var graph = new ProtobufMessage()
            .Messages(1, nodes)
            .Text(2, name)
            .Messages(5, constants)
            .Messages(11, inputs)
            .Messages(12, outputs);
        return new ProtobufMessage()
            .Integer(1, IrVersion)
            .Text(2, "Distill")
            .Text(6, description)
            .Message(7, graph)
            .Message(8, new ProtobufMessage().Text(1, "").Integer(2, Opset))
            .Messages(
                14,
                metadata.Select(entry => new ProtobufMessage().Text(1, entry.Key).Text(2, entry.Value))
            )
            .ToArray();
    }

    private void Add(string type, string[] from, string[] to, params ProtobufMessage[] attributes) =>
        nodes.Add(
            new ProtobufMessage()
                .Texts(1, from)
                .Texts(2, to)
                .Text(3, to[0])
                .Text(4, type)
                .Messages(5, attributes)
        );

    private string Constant(string name, int type, ReadOnlySpan<byte> data, params int[] shape)
    {
        var tensor = new ProtobufMessage();
        foreach (var size in shape)
            tensor.Integer(1, size);
        constants.Add(tensor.Integer(2, type).Text(8, name).Bytes(9, data));
        return name;
    }

    private static ProtobufMessage Value(string name, int size, int type, string meaning)
    {
        var shape = new ProtobufMessage()
            .Message(1, new ProtobufMessage().Text(2, "batch"))
            .Message(1, new ProtobufMessage().Integer(1, size));
        var tensor = new ProtobufMessage().Integer(1, type).Message(2, shape);
        return new ProtobufMessage()
            .Text(1, name)
            .Message(2, new ProtobufMessage().Message(1, tensor))
            .Text(3, meaning);
    }
}
