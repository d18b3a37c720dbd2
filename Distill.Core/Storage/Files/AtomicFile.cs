namespace Distill.Storage;

/// <summary>Files that are either wholly the old or wholly the new content, whatever happens while writing.</summary>
public static class AtomicFile
{
    private const string TemporarySuffix = ".tmp";

    /// <summary>
    /// Writes under a temporary name in the same folder, flushes to the disk, and renames. If anything fails, the old
    /// file is intact and the temporary one is removed.
    /// </summary>
    /// <param name="path">The file to create or to replace; its folder must exist.</param>
    /// <param name="write">Writes the content; the stream can seek.</param>
    /// <exception cref="DistillException">The disk is full, the folder is missing or not writable.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        var target = Path.GetFullPath(path);
        var temporary = TemporaryName(target);
        try
        {
            OutputFile.Guard(
                path,
                () =>
                {
                    using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite))
                    {
                        write(stream);
                        stream.Flush(flushToDisk: true);
                    }

                    File.Move(temporary, target, overwrite: true);
                }
            );
        }
        finally
        {
            // After the rename there is nothing to remove. A folder that is missing or read-only has no leftover either.
            if (File.Exists(temporary))
                File.Delete(temporary);
        }
    }

    /// <summary>Writes a text, in UTF-8 without a mark, as <see cref="Write"/> does.</summary>
    public static void WriteText(string path, string text) =>
        Write(path, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(text)));

    /// <summary>Another name beside the path, hidden, which nobody else has.</summary>
    internal static string TemporaryName(string path) =>
        Path.Combine(
            Path.GetDirectoryName(path)!,
            $".{Path.GetFileName(path)}.{Guid.NewGuid():N}{TemporarySuffix}"
        );

    /// <summary>
    /// Removes what processes that were killed while they wrote have left in a folder. What cannot be removed stays.
    /// </summary>
    /// <param name="folder">May be missing.</param>
    /// <param name="age">What was written to more recently may still be in use, and stays.</param>
    /// <param name="within">Whether folders in it are looked at, too.</param>
    public static void RemoveLeftovers(string folder, TimeSpan age, bool within)
    {
        var entries = new EnumerationOptions
        {
            RecurseSubdirectories = within,
            AttributesToSkip = FileAttributes.ReparsePoint,
        };
        try
        {
            foreach (var path in Directory.GetFileSystemEntries(folder, $".*{TemporarySuffix}", entries))
            {
                if (
                    IsTemporary(Path.GetFileName(path))
                    && DateTime.UtcNow - File.GetLastWriteTimeUtc(path) >= age
                )
                    Remove(path);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { }
    }

    private static bool IsTemporary(string name) =>
        name.Split('.') is ["", .., var guid, _] && Guid.TryParseExact(guid, "N", out _);

    private static void Remove(string path)
    {
        if (Directory.Exists(path))
            Directory.Delete(path, recursive: true);
        else
            File.Delete(path);
    }
}
