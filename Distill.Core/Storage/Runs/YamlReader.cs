using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace Distill.Storage;

/// <summary>
/// YAML from outside as settings with dotted names. Aliases stand for what they name, within the limits on depth and on what
/// all of them expand to; tags are passed over.
/// </summary>
internal sealed class YamlReader
{
    private const int MaximumDepth = 64;
    private const int MaximumNodes = 100_000;
    private const long MaximumCharacters = 16L << 20;

    private abstract record Node
    {
        internal sealed record Text(string Value) : Node;

        internal sealed record List(List<Node> Items) : Node;

        internal sealed record Mapping(List<KeyValuePair<string, Node>> Entries) : Node;
    }

    private readonly Parser parser;
    private readonly Dictionary<AnchorName, Node> anchors = [];
    private readonly List<KeyValuePair<string, string>> settings = [];
    private int nodes;
    private long characters;

    private YamlReader(TextReader text) => parser = new Parser(text);

    /// <exception cref="InvalidDataException">The text is not YAML, or beyond the limits.</exception>
    internal static IReadOnlyList<KeyValuePair<string, string>> Read(TextReader text)
    {
        try
        {
            var reader = new YamlReader(text);
            reader.ReadDocuments();
            return reader.settings;
        }
        catch (YamlException e)
        {
            throw new InvalidDataException($"line {e.Start.Line}: {e.Message}", e);
        }
        // So the library ends on some texts that are no YAML.
        catch (Exception e)
            when (e is InvalidOperationException or ArgumentException or FormatException or OverflowException)
        {
            throw new InvalidDataException($"it is no YAML: {e.Message}", e);
        }
    }

    private void ReadDocuments()
    {
        parser.Consume<StreamStart>();
        while (parser.TryConsume<DocumentStart>(out _))
        {
            var root = ReadNode(0);
            nodes = 0;
            Flatten("", root, 0);
            parser.Consume<DocumentEnd>();
        }
    }

    private Node ReadNode(int depth)
    {
        Enter(depth);
        if (parser.TryConsume<AnchorAlias>(out var alias))
            return anchors.GetValueOrDefault(alias.Value)
                ?? throw new InvalidDataException(
                    $"line {alias.Start.Line}: the alias *{alias.Value} stands for nothing that has ended before it"
                );

        if (parser.TryConsume<Scalar>(out var scalar))
            return Anchored(scalar, new Node.Text(scalar.Value));

        if (parser.TryConsume<SequenceStart>(out var sequence))
        {
            var items = new List<Node>();
            while (!parser.TryConsume<SequenceEnd>(out _))
                items.Add(ReadNode(depth + 1));

            return Anchored(sequence, new Node.List(items));
        }

        var start = parser.Consume<MappingStart>();
        return Anchored(start, new Node.Mapping(ReadEntries(depth)));
    }

    private List<KeyValuePair<string, Node>> ReadEntries(int depth)
    {
        var names = new HashSet<string>();
        var entries = new List<KeyValuePair<string, Node>>();
        while (!parser.TryConsume<MappingEnd>(out _))
        {
            var line = parser.Current?.Start.Line;
            if (ReadNode(depth + 1) is not Node.Text { Value: var name })
                throw new InvalidDataException($"line {line}: a name is not a plain text");

            if (!names.Add(name))
                throw new InvalidDataException($"line {line}: the name '{name}' is given twice");

            entries.Add(new(name, ReadNode(depth + 1)));
        }

        return entries;
    }

    private Node Anchored(NodeEvent start, Node node)
    {
        if (!start.Anchor.IsEmpty)
            anchors[start.Anchor] = node;

        return node;
    }

    private void Flatten(string name, Node node, int depth)
    {
        Enter(depth);
        Spend(name.Length);
        switch (node)
        {
            case Node.Mapping mapping:
                foreach (var (key, value) in mapping.Entries)
                    Flatten(name.Length == 0 ? key : $"{name}.{key}", value, depth + 1);

                break;
            case Node.List list when list.Items.TrueForAll(item => item is Node.Text):
                var values = list.Items.ConvertAll(item => ((Node.Text)item).Value);
                values.ForEach(value => Spend(2 + value.Length));
                settings.Add(new(name, $"[{string.Join(", ", values)}]"));
                break;
            case Node.List list:
                for (var i = 0; i < list.Items.Count; i++)
                    Flatten($"{name}[{i}]", list.Items[i], depth + 1);

                break;
            case Node.Text text:
                Spend(text.Value.Length);
                settings.Add(new(name, text.Value));
                break;
        }
    }

    private void Enter(int depth)
    {
        if (depth > MaximumDepth || ++nodes > MaximumNodes)
            throw new InvalidDataException(
                $"it is nested more than {MaximumDepth} levels deep, or has more than {MaximumNodes} values"
            );
    }

    private void Spend(long more)
    {
        characters += more;
        if (characters > MaximumCharacters)
            throw new InvalidDataException(
                $"its names and values have more than {MaximumCharacters} characters"
            );
    }
}
