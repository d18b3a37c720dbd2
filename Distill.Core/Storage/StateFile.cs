namespace Distill.Storage;

/// <summary>Collects the state as tensors of bytes, ready for a safetensors file.</summary>
public sealed class StateSaver : State
{
    private readonly List<Tensor> tensors = [];

    public IReadOnlyList<Tensor> Tensors => tensors;

    protected override void Visit(string name, Span<byte> values) =>
        tensors.Add(Tensor.OfBytes(name, values, values.Length));
}

/// <summary>Puts a saved state back.</summary>
/// <param name="path">For messages.</param>
public sealed class StateLoader(string path, IEnumerable<Tensor> tensors) : State
{
    private readonly Dictionary<string, Tensor> saved = tensors.ToDictionary(tensor => tensor.Name);

    /// <exception cref="DistillException">A block is missing or has another size: the run was made with other settings.</exception>
    protected override void Visit(string name, Span<byte> values)
    {
        if (!saved.TryGetValue(name, out var tensor))
            throw new DistillException(
                $"{path} has no block '{name}': it belongs to a run with other settings."
            );
        if (tensor.Data.Length != values.Length)
            throw new DistillException(
                $"Block '{name}' of {path} has {tensor.Data.Length} bytes where this run needs {values.Length}: "
                    + "it belongs to a run with other settings."
            );
        tensor.Data.Span.CopyTo(values);
    }
}
