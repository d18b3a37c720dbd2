namespace Distill.Storage;

/// <summary>How every log that grows while a run goes on is written; errors become one sentence that names the file.</summary>
internal static class OutputFile
{
    internal static FileStream Open(string path, FileMode mode)
    {
        FileStream? stream = null;
        // Others (TensorBoard, a notebook) may read while we write. Without a buffer, a record is in the file or it is
        // not: nothing is left to be written when the stream is closed.
        Guard(
            path,
            () => stream = new FileStream(path, mode, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0)
        );
        return stream!;
    }

    /// <summary>Appends a record and hands it to the operating system; if the disk is full, none of it stays.</summary>
    internal static void Append(string path, FileStream stream, byte[] record)
    {
        var start = stream.Position;
        try
        {
            Guard(path, () => stream.Write(record));
        }
        catch (DistillException)
        {
            stream.SetLength(start);
            throw;
        }
    }

    internal static void Guard(string path, Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DistillException($"Cannot write '{path}': {e.Message.TrimEnd('.')}.", e);
        }
    }
}
