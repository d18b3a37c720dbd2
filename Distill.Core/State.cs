using System.Runtime.InteropServices;
using Distill.Compute;

namespace Distill;

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
