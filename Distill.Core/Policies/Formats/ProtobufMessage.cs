using Google.Protobuf;

namespace Distill.Policies;

/// <summary>
/// A protobuf message in the making, by the numbers of its fields. The library writes the wire format; classes generated from
/// ONNX's .proto would need its compiler in every build for the thirty fields that are used.
/// </summary>
internal sealed class ProtobufMessage
{
    private readonly MemoryStream content = new();
    private readonly CodedOutputStream output;

    public ProtobufMessage() => output = new CodedOutputStream(content, leaveOpen: true);

    public ProtobufMessage Integer(int field, long value)
    {
        output.WriteTag(field, WireFormat.WireType.Varint);
        output.WriteInt64(value);
        return this;
    }

    public ProtobufMessage Float(int field, float value)
    {
        output.WriteTag(field, WireFormat.WireType.Fixed32);
        output.WriteFloat(value);
        return this;
    }

    public ProtobufMessage Text(int field, string value)
    {
        output.WriteTag(field, WireFormat.WireType.LengthDelimited);
        output.WriteString(value);
        return this;
    }

    public ProtobufMessage Texts(int field, IEnumerable<string> values)
    {
        foreach (var value in values)
            Text(field, value);
        return this;
    }

    public ProtobufMessage Bytes(int field, ReadOnlySpan<byte> value)
    {
        output.WriteTag(field, WireFormat.WireType.LengthDelimited);
        output.WriteBytes(ByteString.CopyFrom(value));
        return this;
    }

    public ProtobufMessage Message(int field, ProtobufMessage message) => Bytes(field, message.ToArray());

    public ProtobufMessage Messages(int field, IEnumerable<ProtobufMessage> messages)
    {
        foreach (var message in messages)
            Message(field, message);
        return this;
    }

    public byte[] ToArray()
    {
        output.Flush();
        return content.ToArray();
    }
}
