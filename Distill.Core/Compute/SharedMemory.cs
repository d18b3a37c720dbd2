using System.IO.MemoryMappedFiles;

namespace Distill.Compute;

/// <summary>
/// A block of floats, zeroed, that another process sees too: a file in memory where the machine has a place for such, in the folder of
/// temporary files otherwise. <see cref="Unlink"/> takes away its name as soon as both sides have it open, so that it goes with the
/// last of them, however that ends. Its owner disposes it, after the last use of a span of it.
/// </summary>
public sealed unsafe class SharedMemory : IDisposable
{
    private const string InMemory = "/dev/shm";

    private readonly MemoryMappedFile file;
    private readonly MemoryMappedViewAccessor view;
    private readonly int length;
    private float* pointer;

    /// <param name="length">Number of floats, at least 1.</param>
    /// <exception cref="DistillException">No file of that size can be made.</exception>
    public SharedMemory(long length)
    {
        if (length > int.MaxValue)
            throw new DistillException(
                $"A simulator's arrays have {length} numbers; at most {int.MaxValue} are possible. Lower the number of environments."
            );
        this.length = (int)length;
        var name = $"distill-{Environment.ProcessId}-{Guid.NewGuid():N}";
        string[] folders = Directory.Exists(InMemory)
            ? [InMemory, System.IO.Path.GetTempPath()]
            : [System.IO.Path.GetTempPath()];
        var stream = Open(name, folders, Bytes);
        Path = stream.Name;
        file = MemoryMappedFile.CreateFromFile(
            stream,
            null,
            Bytes,
            MemoryMappedFileAccess.ReadWrite,
            HandleInheritability.None,
            leaveOpen: false
        );
        view = file.CreateViewAccessor(0, Bytes);
        byte* start = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        pointer = (float*)start;
    }

    /// <summary>Where the other process finds it, until <see cref="Unlink"/>.</summary>
    public string Path { get; }

    public long Bytes => (long)length * sizeof(float);

    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public Span<float> Span
    {
        get
        {
            ObjectDisposedException.ThrowIf(pointer is null, this);
            return new Span<float>(pointer, length);
        }
    }

    /// <summary>Takes its name away; whoever has it open keeps it.</summary>
    public void Unlink() => File.Delete(Path);

    public void Dispose()
    {
        if (pointer is null)
            return;
        pointer = null;
        Unlink();
        view.SafeMemoryMappedViewHandle.ReleasePointer();
        view.Dispose();
        file.Dispose();
    }

    /// <summary>The file in the first folder that has the room; room that is only promised would end the process at the first write.</summary>
    private static FileStream Open(string name, string[] folders, long bytes)
    {
        IOException? failure = null;
        foreach (var folder in folders)
            try
            {
                var options = new FileStreamOptions
                {
                    Mode = FileMode.CreateNew,
                    Access = FileAccess.ReadWrite,
                    Share = FileShare.ReadWrite | FileShare.Delete,
                    PreallocationSize = bytes,
                };
                if (!OperatingSystem.IsWindows())
                    options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
                return new FileStream(System.IO.Path.Combine(folder, name), options);
            }
            catch (IOException exception)
            {
                failure = exception;
            }
        throw new DistillException(
            $"There is no room for {bytes} bytes of memory shared with a simulator: {failure!.Message}",
            failure
        );
    }
}
