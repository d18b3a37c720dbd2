namespace Distill.Storage;

/// <summary>
/// A right that one process at a time can have, by holding a file open. A process that dies loses it, whatever it leaves
/// behind. On network file systems without locks everybody has it.
/// </summary>
public sealed class FileLock : IDisposable
{
    // What the system says of a file that is locked: EWOULDBLOCK of Linux and of macOS, a sharing violation of Windows.
    private static readonly int[] Held = [11, 35, unchecked((int)0x80070020)];

    private readonly FileStream stream;

    private FileLock(FileStream stream) => this.stream = stream;

    /// <summary>Takes the lock; null while somebody else has it, in this process or another.</summary>
    /// <param name="path">The lock's file, made where it is missing; its folder must exist. It stays.</param>
    /// <exception cref="DistillException">The file cannot be written.</exception>
    public static FileLock? TryTake(string path)
    {
        FileStream? stream = null;
        OutputFile.Guard(
            path,
            () =>
            {
                try
                {
                    stream = new FileStream(
                        path,
                        FileMode.OpenOrCreate,
                        FileAccess.ReadWrite,
                        FileShare.None
                    );
                }
                catch (IOException e) when (Held.Contains(e.HResult)) { }
            }
        );
        return stream is null ? null : new FileLock(stream);
    }

    public void Dispose() => stream.Dispose();
}
