namespace Distill.Storage;

/// <summary>
/// A value in a PyTorch checkpoint: the plain data that a pickle can hold here, and nothing that could run. Match on
/// the nested records.
/// </summary>
public abstract record TorchValue
{
    private protected TorchValue() { }

    public sealed record None : TorchValue;

    public sealed record Bool(bool Value) : TorchValue;

    public sealed record Int(long Value) : TorchValue;

    public sealed record Float(double Value) : TorchValue;

    public sealed record Text(string Value) : TorchValue;

    public sealed record Bytes(ReadOnlyMemory<byte> Value) : TorchValue;

    /// <summary>A tuple; also a <c>torch.Size</c>.</summary>
    public sealed record Tuple(IReadOnlyList<TorchValue> Items) : TorchValue;

    /// <summary>A list; also a set, in the order of the file.</summary>
    public sealed record List(IReadOnlyList<TorchValue> Items) : TorchValue;

    /// <summary>A dict or OrderedDict, in the order of the file.</summary>
    public sealed record Dict(OrderedDictionary<TorchKey, TorchValue> Entries) : TorchValue
    {
        /// <summary>A dict with text keys.</summary>
        public static Dict Of(params IEnumerable<(string Key, TorchValue Value)> entries)
        {
            var dict = new OrderedDictionary<TorchKey, TorchValue>();
            foreach (var (key, value) in entries)
                dict[key] = value;

            return new Dict(dict);
        }

        /// <summary>The value of a text key, or null.</summary>
        public TorchValue? Find(string key) => Entries.GetValueOrDefault(key);
    }

    /// <summary>A tensor; its name is the path of keys that leads to it.</summary>
    public sealed record Array(Tensor Tensor) : TorchValue;
}

/// <summary>A key of a dict: text, or an integer (as in the state of an optimizer).</summary>
/// <param name="Text">Null when the key is an integer.</param>
public readonly record struct TorchKey(string? Text, long Number)
{
    public static implicit operator TorchKey(string text) => new(text, 0);

    public static implicit operator TorchKey(long number) => new(null, number);

    /// <summary>Seeded per process, so that no file can be made of colliding keys.</summary>
    public override int GetHashCode() => HashCode.Combine(Text, Number);

    public override string ToString() => Text ?? Number.ToString();
}
