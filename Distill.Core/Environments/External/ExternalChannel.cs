using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text.Json;

namespace Distill.Environments.External;

/// <summary>How a call of a simulator ended.</summary>
internal enum Answer
{
    /// <summary>As it should.</summary>
    Done,

    /// <summary>It raised an exception, which it describes.</summary>
    Failed,

    /// <summary>It has closed the connection, or is no more.</summary>
    Gone,

    /// <summary>It has not answered in time.</summary>
    Late,
}

/// <summary>
/// The connection to a simulator. While both get to know each other, messages are JSON behind their length; then a byte asks for a
/// step, or for a reset with the seed behind it, and a byte answers. What is large is in shared memory.
/// </summary>
internal sealed class ExternalChannel(Socket socket) : IDisposable
{
    private const int LongestMessage = 1 << 24;
    private const byte StepByte = (byte)'S';
    private const byte ResetByte = (byte)'R';
    private const byte QuitByte = (byte)'Q';
    private const byte DoneByte = (byte)'K';

    // A core that sleeps takes about as long to wake, so that what comes sooner is waited for awake.
    private static readonly TimeSpan Awake = TimeSpan.FromMicroseconds(100);

    private readonly byte[] step = [StepByte];
    private readonly byte[] reset = new byte[1 + sizeof(long)];
    private readonly byte[] answer = new byte[1];
    private bool soon = true;

    public void Tell(object message)
    {
        var text = JsonSerializer.SerializeToUtf8Bytes(message);
        var data = new byte[sizeof(int) + text.Length];
        BinaryPrimitives.WriteInt32LittleEndian(data, text.Length);
        text.CopyTo(data, sizeof(int));
        Send(data);
    }

    /// <summary>The next message, if the answer is that it came.</summary>
    public Answer Hear(TimeSpan patience, out byte[] message)
    {
        message = [];
        var header = new byte[sizeof(int)];
        var got = Receive(header, patience);
        if (got != Answer.Done)
            return got;
        var length = BinaryPrimitives.ReadInt32LittleEndian(header);
        if (length is < 0 or > LongestMessage)
            return Answer.Failed;
        message = new byte[length];
        return Receive(message, patience);
    }

    /// <summary>Asks for a step, and waits.</summary>
    public Answer Step(TimeSpan patience) => Ask(step, patience);

    /// <summary>Asks for new episodes in the environments of the mask, and waits.</summary>
    public Answer Reset(long seed, TimeSpan patience)
    {
        reset[0] = ResetByte;
        BinaryPrimitives.WriteInt64LittleEndian(reset.AsSpan(1), seed);
        return Ask(reset, patience);
    }

    /// <summary>Whether the simulator says that it has the shared memory open.</summary>
    public Answer Ready(TimeSpan patience) => Judge(patience);

    public void Quit() => Send([QuitByte]);

    public void Dispose() => socket.Dispose();

    private Answer Ask(byte[] command, TimeSpan patience) => Send(command) ? Judge(patience) : Answer.Gone;

    private Answer Judge(TimeSpan patience)
    {
        var got = Receive(answer, patience);
        return got == Answer.Done && answer[0] != DoneByte ? Answer.Failed : got;
    }

    private bool Send(byte[] data)
    {
        try
        {
            return socket.Send(data) == data.Length;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private Answer Receive(Span<byte> data, TimeSpan patience)
    {
        try
        {
            while (!data.IsEmpty)
            {
                if (!Comes(patience))
                    return Answer.Late;
                var count = socket.Receive(data);
                if (count == 0)
                    return Answer.Gone;
                data = data[count..];
            }
            return Answer.Done;
        }
        catch (SocketException)
        {
            return Answer.Gone;
        }
    }

    /// <summary>Waits until there is something to receive: awake for a moment, where the last came about so soon, then asleep.</summary>
    private bool Comes(TimeSpan patience)
    {
        var asked = TimeProvider.System.GetTimestamp();
        var there = false;
        while (soon && !there && TimeProvider.System.GetElapsedTime(asked) < Awake)
        {
            // The simulator may be waiting for this very core.
            Thread.Yield();
            there = socket.Poll(TimeSpan.Zero, SelectMode.SelectRead);
        }
        there = there || socket.Poll(patience, SelectMode.SelectRead);
        soon = TimeProvider.System.GetElapsedTime(asked) < 2 * Awake;
        return there;
    }
}
