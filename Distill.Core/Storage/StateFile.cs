namespace Distill.Storage;

/// <summary>
/// The state of a run as a safetensors file with a tensor of bytes per block. Blocks go straight between memory and file, so
/// that a large dataset is never held twice.
/// </summary>
public static class StateFile
{
    /// <summary>Writes atomically. The state is walked twice: for names and sizes, and for the bytes.</summary>
    /// <exception cref="DistillException">Two blocks have one name, or the file cannot be written.</exception>
    public static void Save(string path, Action<State> walk)
    {
        var sizes = new Sizes();
        walk(sizes);
        var begin = 0L;
        var entries = sizes
            .Blocks.OrderBy(block => block.Name, StringComparer.Ordinal)
            .Select(block => new SafeTensors.Entry(
                block.Name,
                ElementType.UInt8,
                [block.Bytes],
                begin,
                begin += block.Bytes
            ))
            .ToArray();
        SafeTensors.Write(
            path,
            entries,
            metadata: null,
            stream => walk(new Saver(stream, entries.ToDictionary(entry => entry.Name)))
        );
    }

    /// <summary>Overwrites a state with a saved one.</summary>
    /// <exception cref="DistillException">
    /// The file is missing or damaged; or a block is missing or has another size: the run was made with other settings.
    /// </exception>
    public static void Load(string path, Action<State> walk) =>
        InputFile.Parse(
            path,
            "checkpoint",
            stream =>
            {
                var (entries, _) = SafeTensors.ReadHeader(stream);
                walk(new Loader(path, stream, entries.ToDictionary(entry => entry.Name)));
                return entries.Count;
            }
        );

    private sealed class Sizes : State
    {
        public List<(string Name, int Bytes)> Blocks { get; } = [];

        protected override void Visit(string name, Span<byte> values) => Blocks.Add((name, values.Length));
    }

    private sealed class Saver(Stream stream, Dictionary<string, SafeTensors.Entry> entries) : State
    {
        private readonly long start = stream.Position;

        protected override void Visit(string name, Span<byte> values)
        {
            stream.Position = start + entries[name].Begin;
            stream.Write(values);
        }
    }

    private sealed class Loader(string path, Stream stream, Dictionary<string, SafeTensors.Entry> entries)
        : State
    {
        private readonly long start = stream.Position;

        protected override void Visit(string name, Span<byte> values)
        {
            if (!entries.TryGetValue(name, out var entry))
                throw new DistillException(
                    $"{path} has no block '{name}': it belongs to a run with other settings."
                );
            if (entry.End - entry.Begin != values.Length)
                throw new DistillException(
                    $"Block '{name}' of {path} has {entry.End - entry.Begin} bytes where this run needs {values.Length}: "
                        + "it belongs to a run with other settings."
                );
            stream.Position = start + entry.Begin;
            stream.ReadExactly(values);
        }
    }
}
