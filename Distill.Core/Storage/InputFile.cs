namespace Distill.Storage;

/// <summary>
/// How every reader opens a file. Parsers report what is wrong as <see cref="InvalidDataException"/> with a clause that
/// needs no file name; here it becomes one sentence that names the file.
/// </summary>
internal static class InputFile
{
    /// <param name="kind">What the file should be: "safetensors file".</param>
    /// <param name="parse">Reads from the beginning of the file.</param>
    internal static T Parse<T>(string path, string kind, Func<FileStream, T> parse)
    {
        try
        {
            using var stream = File.OpenRead(path);
            return parse(stream);
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
}
