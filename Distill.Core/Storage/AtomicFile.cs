namespace Distill.Storage;

/// <summary>Files that are either wholly the old or wholly the new content, whatever happens while writing.</summary>
public static class AtomicFile
{
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
        var temporary = Path.Combine(
            Path.GetDirectoryName(target)!,
            $".{Path.GetFileName(target)}.{Guid.NewGuid():N}.tmp"
        );
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
            {
                File.Delete(temporary);
            }
        }
    }
}
