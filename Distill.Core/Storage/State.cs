using System.Runtime.InteropServices;
using Distill.Compute;

namespace Distill.Storage;

/// <summary>
/// Walks over everything that a run needs to go on. Each part of a run describes its state once, in a method that takes
/// this; saving and restoring are two visitors of the same walk, so they cannot disagree.
/// </summary>
public abstract class State
{
    private string prefix = "";

    /// <summary>Runs the walk of a part under its name: its blocks are called <c>name.block</c>.</summary>
    public void Part(string name, Action<State> walk)
    {
        var outer = prefix;
        prefix += name + ".";
        walk(this);
        prefix = outer;
    }

    /// <summary>A block of memory: written out, or overwritten in place.</summary>
    public void Block<T>(string name, Span<T> values)
        where T : unmanaged => Visit(prefix + name, MemoryMarshal.AsBytes(values));

    public void Block(string name, FloatBuffer values) => Block(name, values.Span);

    /// <summary>A whole number.</summary>
    public void Number(string name, ref long value) => Block(name, new Span<long>(ref value));

    /// <inheritdoc cref="Number(string, ref long)"/>
    public void Number(string name, ref int value) => Block(name, new Span<int>(ref value));

    /// <summary>A double, kept to the bit.</summary>
    public void Number(string name, ref double value) => Block(name, new Span<double>(ref value));

    protected abstract void Visit(string name, Span<byte> values);
}

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
            throw new DistillException($"{path} has no block '{name}': it belongs to a run with other settings.");
        if (tensor.Data.Length != values.Length)
            throw new DistillException(
                $"Block '{name}' of {path} has {tensor.Data.Length} bytes where this run needs {values.Length}: "
                    + "it belongs to a run with other settings."
            );
        tensor.Data.Span.CopyTo(values);
    }
}
