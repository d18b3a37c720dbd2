namespace Distill.Storage;

/// <summary>
/// How every reader opens a file. Parsers report what is wrong as <see cref="InvalidDataException"/> with a clause that
/// needs no file name; here it becomes one sentence that names the file.
/// </summary>
public static class InputFile
{
    /// <summary>Bytes that a file of settings or a table of results may have; a larger one is something else.</summary>
    public const long MaximumText = 4L << 20;

    /// <param name="path">The file.</param>
    /// <param name="kind">What the file should be: "safetensors file".</param>
    /// <param name="parse">Reads from the beginning of the file.</param>
    /// <exception cref="DistillException">The file is missing, cannot be read, or is not of this kind.</exception>
    public static T Parse<T>(string path, string kind, Func<Stream, T> parse)
    {
        var empty = false;
        try
        {
            using var stream = Open(path);
            empty = stream.Length == 0;
            return parse(stream);
        }
        catch (Exception e) when (empty && e is InvalidDataException or EndOfStreamException)
        {
            throw new DistillException(
                $"'{path}' is not a readable {kind}: it is empty, or not a plain file.",
                e
            );
        }
        catch (InvalidDataException e)
        {
            throw new DistillException($"'{path}' is not a readable {kind}: {e.Message.TrimEnd('.')}.", e);
        }
        catch (EndOfStreamException e)
        {
            throw new DistillException($"'{path}' is not a readable {kind}: it ends too early.", e);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new DistillException($"There is no {kind} '{path}'.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DistillException($"Cannot read the {kind} '{path}': {e.Message.TrimEnd('.')}.", e);
        }
    }

    /// <summary>The whole text of a small file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="kind">What the file should be.</param>
    /// <param name="maximum">Bytes; a larger file is refused.</param>
    /// <exception cref="DistillException">The file is missing, too large, or cannot be read.</exception>
    public static string ReadText(string path, string kind, long maximum = MaximumText) =>
        Parse(
            path,
            kind,
            stream =>
            {
                CheckLength(stream, maximum);
                using var reader = new StreamReader(stream);
                return reader.ReadToEnd();
            }
        );

    /// <summary>The text at the beginning of a file of any length.</summary>
    /// <param name="path">The file.</param>
    /// <param name="kind">What the file should be.</param>
    /// <param name="characters">How many are read at most.</param>
    /// <exception cref="DistillException">The file is missing or cannot be read.</exception>
    public static string ReadBeginning(string path, string kind, int characters) =>
        Parse(
            path,
            kind,
            stream =>
            {
                using var reader = new StreamReader(stream);
                var text = new char[characters];
                return new string(text, 0, reader.ReadBlock(text));
            }
        );

    /// <exception cref="InvalidDataException">The file is longer.</exception>
    internal static void CheckLength(Stream stream, long maximum)
    {
        if (stream.Length > maximum)
            throw new InvalidDataException(
                $"it has {stream.Length} bytes, and at most {maximum} can be read"
            );
    }

    /// <summary>A pipe or a device has no length, and opening it can wait for ever: it counts as an empty file.</summary>
    private static Stream Open(string path)
    {
        var named = new FileInfo(path);
        var file = named.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? named;
        return file.Exists && file.Length == 0
            ? Stream.Null
            : new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
    }
}
