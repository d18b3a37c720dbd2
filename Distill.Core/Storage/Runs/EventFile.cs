using System.Buffers.Binary;
using System.Numerics;
using Google.Protobuf;

namespace Distill.Storage;

/// <summary>One scalar of a TensorBoard event file.</summary>
/// <param name="Step">Iteration.</param>
/// <param name="WallTime">Seconds since 1970, UTC.</param>
public readonly record struct EventScalar(long Step, double WallTime, string Tag, float Value);

/// <summary>
/// A TensorBoard event file of scalars: records of TensorFlow's <c>record_writer</c> (length, masked CRC-32C, data,
/// masked CRC-32C), each one protobuf <c>tensorflow.Event</c>.
/// </summary>
public sealed class EventFile : IDisposable
{
    private const int MaximumRecord = 16 << 20;

    // Tags (field number << 3 | wire type) of event.proto and summary.proto.
    private const uint WallTimeTag = (1 << 3) | 1;
    private const uint StepTag = (2 << 3) | 0;
    private const uint FileVersionTag = (3 << 3) | 2;
    private const uint SummaryTag = (5 << 3) | 2;
    private const uint SummaryValueTag = (1 << 3) | 2;
    private const uint ValueNameTag = (1 << 3) | 2;
    private const uint SimpleValueTag = (2 << 3) | 5;

    private readonly string path;
    private readonly FileStream stream;

    private EventFile(string path, FileStream stream)
    {
        this.path = path;
        this.stream = stream;
    }

    /// <param name="path">TensorBoard shows files whose names contain <c>tfevents</c>.</param>
    /// <param name="wallTime">Seconds since 1970, UTC.</param>
    /// <exception cref="DistillException">The file exists, or cannot be written.</exception>
    public static EventFile Create(string path, double wallTime)
    {
        var file = new EventFile(path, OutputFile.Open(path, FileMode.CreateNew));
        file.WriteRecord(event_ =>
        {
            event_.WriteRawTag((byte)WallTimeTag);
            event_.WriteDouble(wallTime);
            event_.WriteRawTag((byte)FileVersionTag);
            event_.WriteString("brain.Event:2");
        });
        return file;
    }

    /// <summary>
    /// Opens a file to go on after <paramref name="lastStep"/>: the first event of a later step, and everything after
    /// it, is cut off; so is a record that a crash left incomplete or damaged.
    /// </summary>
    /// <exception cref="DistillException">The file is missing or is no event file.</exception>
    public static EventFile Resume(string path, long lastStep)
    {
        var length = InputFile.Parse(
            path,
            "event file",
            input =>
            {
                var end = 0L;
                try
                {
                    foreach (var record in Records(input))
                    {
                        if (ReadEvent(record).Step > lastStep)
                            break;

                        end = input.Position;
                    }
                }
                catch (InvalidDataException) when (end > 0) { }

                return end;
            }
        );
        var stream = OutputFile.Open(path, FileMode.Open);
        stream.SetLength(length);
        stream.Position = length;
        return new EventFile(path, stream);
    }

    /// <summary>Appends one event and hands it to the operating system, so that TensorBoard sees it.</summary>
    /// <param name="step">Iteration.</param>
    /// <param name="wallTime">Seconds since 1970, UTC.</param>
    /// <param name="scalars">Tag and value; values are stored as float32.</param>
    /// <exception cref="DistillException">The disk is full.</exception>
    public void Write(long step, double wallTime, IEnumerable<KeyValuePair<string, double>> scalars)
    {
        var summary = Message(message =>
        {
            foreach (var (tag, value) in scalars)
            {
                message.WriteRawTag((byte)SummaryValueTag);
                message.WriteBytes(
                    Message(scalar =>
                    {
                        scalar.WriteRawTag((byte)ValueNameTag);
                        scalar.WriteString(tag);
                        scalar.WriteRawTag((byte)SimpleValueTag);
                        scalar.WriteFloat((float)value);
                    })
                );
            }
        });
        WriteRecord(event_ =>
        {
            event_.WriteRawTag((byte)WallTimeTag);
            event_.WriteDouble(wallTime);
            event_.WriteRawTag((byte)StepTag);
            event_.WriteInt64(step);
            event_.WriteRawTag((byte)SummaryTag);
            event_.WriteBytes(summary);
        });
    }

    /// <summary>Flushes to the disk.</summary>
    public void Flush() => OutputFile.Guard(path, () => stream.Flush(flushToDisk: true));

    public void Dispose() => stream.Dispose();

    /// <summary>
    /// All scalars in the order of the file. An incomplete last record, as of a file that is still being written, is
    /// left out.
    /// </summary>
    /// <exception cref="DistillException">The file is missing or damaged.</exception>
    public static IReadOnlyList<EventScalar> Read(string path) =>
        InputFile.Parse<IReadOnlyList<EventScalar>>(
            path,
            "event file",
            input => [.. Records(input).SelectMany(record => ReadEvent(record).Scalars)]
        );

    private void WriteRecord(Action<CodedOutputStream> write)
    {
        var data = Message(write).Span;
        var record = new byte[12 + data.Length + 4];
        BinaryPrimitives.WriteInt64LittleEndian(record, data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(8), MaskedCrc(record.AsSpan(0, 8)));
        data.CopyTo(record.AsSpan(12));
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(12 + data.Length), MaskedCrc(data));
        OutputFile.Append(path, stream, record);
    }

    private static ByteString Message(Action<CodedOutputStream> write)
    {
        using var buffer = new MemoryStream();
        using (var message = new CodedOutputStream(buffer, leaveOpen: true))
            write(message);

        return ByteString.CopyFrom(buffer.GetBuffer(), 0, (int)buffer.Length);
    }

    private static IEnumerable<byte[]> Records(Stream input)
    {
        var header = new byte[12];
        var checksum = new byte[4];
        while (input.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) == header.Length)
        {
            var length = BinaryPrimitives.ReadInt64LittleEndian(header);
            var lengthChecksum = BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(8));
            if (lengthChecksum != MaskedCrc(header.AsSpan(0, 8)) || length is < 0 or > MaximumRecord)
                throw new InvalidDataException(
                    $"the record that ends at byte {input.Position} has a damaged length"
                );

            if (length + checksum.Length > input.Length - input.Position)
                yield break;

            var data = new byte[length];
            input.ReadExactly(data);
            input.ReadExactly(checksum);
            if (BinaryPrimitives.ReadUInt32LittleEndian(checksum) != MaskedCrc(data))
                throw new InvalidDataException($"the record that ends at byte {input.Position} is damaged");

            yield return data;
        }
    }

    private static (long Step, List<EventScalar> Scalars) ReadEvent(byte[] data)
    {
        var wallTime = 0.0;
        var step = 0L;
        var values = new List<(string Tag, float Value)>();
        try
        {
            var message = new CodedInputStream(data);
            while (message.ReadTag() is var tag and not 0)
            {
                switch (tag)
                {
                    case WallTimeTag:
                        wallTime = message.ReadDouble();
                        break;
                    case StepTag:
                        step = message.ReadInt64();
                        break;
                    case SummaryTag:
                        ReadSummary(message.ReadBytes(), values);
                        break;
                    default:
                        message.SkipLastField();
                        break;
                }
            }
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new InvalidDataException("one of its records is not an event", e);
        }

        return (step, values.ConvertAll(value => new EventScalar(step, wallTime, value.Tag, value.Value)));
    }

    private static void ReadSummary(ByteString summary, List<(string Tag, float Value)> values)
    {
        var message = summary.CreateCodedInput();
        while (message.ReadTag() is var tag and not 0)
        {
            if (tag != SummaryValueTag)
            {
                message.SkipLastField();
                continue;
            }

            var value = message.ReadBytes().CreateCodedInput();
            var name = "";
            float? number = null;
            while (value.ReadTag() is var field and not 0)
            {
                switch (field)
                {
                    case ValueNameTag:
                        name = value.ReadString();
                        break;
                    case SimpleValueTag:
                        number = value.ReadFloat();
                        break;
                    default:
                        value.SkipLastField();
                        break;
                }
            }

            // Images, histograms and the like have no simple value.
            if (number is { } scalar)
                values.Add((name, scalar));
        }
    }

    /// <summary>CRC-32C (Castagnoli), rotated and offset as TensorFlow's <c>crc32c::Mask</c> does.</summary>
    private static uint MaskedCrc(ReadOnlySpan<byte> data)
    {
        var crc = uint.MaxValue;
        foreach (var value in data)
            crc = BitOperations.Crc32C(crc, value);

        return BitOperations.RotateRight(~crc, 15) + 0xA282EAD8u;
    }
}
