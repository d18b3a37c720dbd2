namespace Distill.Storage;

/// <summary>How every log that grows while a run goes on is written; errors become one sentence that names the file.</summary>
internal static class OutputFile
{
    internal static FileStream Open(string path, FileMode mode)
    {
        FileStream? stream = null;
        // Others (TensorBoard, a notebook) may read while we write.
        Guard(path, () => stream = new FileStream(path, mode, FileAccess.Write, FileShare.ReadWrite));
        return stream!;
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
