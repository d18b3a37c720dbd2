using System.Text;
using YamlDotNet.Core;
using YamlDotNet.Serialization;
using YamlDotNet.Serialization.NamingConventions;

namespace Distill.Storage;

/// <summary>Configuration as people read it: snake_case names, nested records, enums and lists.</summary>
public static class Yaml
{
    private static readonly ISerializer Serializer = new SerializerBuilder()
        .WithNamingConvention(UnderscoredNamingConvention.Instance)
        .WithEnumNamingConvention(UnderscoredNamingConvention.Instance)
        .WithQuotingNecessaryStrings()
        .DisableAliases()
        .Build();

    /// <param name="record">Any record; its public properties are written, in order.</param>
    /// <exception cref="DistillException">The record contains itself.</exception>
    public static string ToText(object record)
    {
        try
        {
            return Serializer.Serialize(record).ReplaceLineEndings("\n");
        }
        catch (YamlException e)
        {
            throw new DistillException(
                $"A {record.GetType().Name} cannot be written as YAML: {e.Message.TrimEnd('.')}.",
                e
            );
        }
    }

    /// <summary>
    /// The settings of a YAML file from outside, by dotted names in the order of the file: <c>env.drone</c>. A list of plain
    /// values is one setting, <c>[16, 16]</c>; the items of another list are <c>teachers[0].name</c>.
    /// </summary>
    /// <exception cref="DistillException">
    /// The file is missing, is not YAML, or is larger or nested deeper than settings are.
    /// </exception>
    public static IReadOnlyList<KeyValuePair<string, string>> Read(string path) =>
        InputFile.Parse(
            path,
            "YAML file",
            stream =>
            {
                InputFile.CheckLength(stream, InputFile.MaximumText);
                using var text = new StreamReader(stream);
                return YamlReader.Read(text);
            }
        );

    /// <summary>Writes atomically.</summary>
    /// <inheritdoc cref="ToText"/>
    public static void Write(string path, object record)
    {
        var text = Encoding.UTF8.GetBytes(ToText(record));
        AtomicFile.Write(path, stream => stream.Write(text));
    }
}
