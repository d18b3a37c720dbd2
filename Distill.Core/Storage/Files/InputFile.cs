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
        catch (Exception e) when (Explain(path, kind, e, empty) is { } told)
        {
            throw told;
        }
    }

    /// <summary>The one sentence for what went wrong while a file was read; null for what is no fault of the file.</summary>
    internal static DistillException? Explain(string path, string kind, Exception e, bool empty) =>
        e switch
        {
            InvalidDataException or EndOfStreamException when empty => new(
                $"'{path}' is not a readable {kind}: it is empty, or not a plain file.",
                e
            ),
            InvalidDataException => new($"'{path}' is not a readable {kind}: {e.Message.TrimEnd('.')}.", e),
            EndOfStreamException => new($"'{path}' is not a readable {kind}: it ends too early.", e),
            FileNotFoundException or DirectoryNotFoundException => new($"There is no {kind} '{path}'.", e),
            IOException or UnauthorizedAccessException => new(
                $"Cannot read the {kind} '{path}': {e.Message.TrimEnd('.')}.",
                e
            ),
            _ => null,
        };

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
    internal static Stream Open(string path)
    {
        var named = new FileInfo(path);
        var file = named.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? named;
        return file.Exists && file.Length == 0
            ? Stream.Null
            : new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
    }
}
