using System.Runtime.InteropServices;

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

    /// <summary>A number of things that happened or exist.</summary>
    /// <exception cref="DistillException">It is negative, or more than a run can count.</exception>
    public void Count(string name, ref long value)
    {
        Block(name, new Span<long>(ref value));
        Require(name, value is >= 0 and <= 1_000_000_000_000_000, value, "a count");
    }

    /// <inheritdoc cref="Count(string, ref long)"/>
    public void Count(string name, ref int value)
    {
        Block(name, new Span<int>(ref value));
        Require(name, value is >= 0 and <= 1_000_000_000, value, "a count");
    }

    /// <summary>A double that is not negative, kept to the bit.</summary>
    /// <exception cref="DistillException">It is negative or not finite.</exception>
    public void Amount(string name, ref double value)
    {
        Block(name, new Span<double>(ref value));
        Require(name, value is >= 0 and < double.PositiveInfinity, value, "an amount");
    }

    /// <summary>Bytes that are 0 or 1.</summary>
    /// <exception cref="DistillException">One is something else.</exception>
    public void Flags(string name, Span<byte> values)
    {
        Block(name, values);
        var place = values.IndexOfAnyExceptInRange((byte)0, (byte)1);
        if (place >= 0)
            Require(name, false, values[place], "a flag");
    }

    /// <exception cref="DistillException">The value cannot be what it should be.</exception>
    public void Require<T>(string name, bool holds, T value, string kind)
    {
        if (!holds)
            throw new DistillException(
                $"The saved state has {value} in '{prefix}{name}', which cannot be {kind}; it is damaged."
            );
    }

    protected abstract void Visit(string name, Span<byte> values);
}
