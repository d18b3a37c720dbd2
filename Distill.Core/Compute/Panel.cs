using System.Runtime.InteropServices;

namespace Distill.Compute;

/// <summary>
/// The unit of work of the whole core: 32 samples (environments, rows or sequences) side by side. Inside a panel a
/// quantity of size n is stored feature by feature, <c>[n, 32]</c>: element (feature, lane) at <c>feature * 32 + lane</c>.
/// A SIMD lane is a sample; what the simulator writes is directly the operand of a network's matrix product. Networks,
/// losses and matrix products take half panels, <c>[n, 16]</c>, as well: few sequences then occupy twice as many threads.
/// </summary>
public readonly ref struct Panel
{
    /// <param name="values">Memory of at least features x lanes floats; the panel is its beginning.</param>
    /// <param name="features">Numbers of one sample.</param>
    /// <param name="lanes"><see cref="Width"/>, or <see cref="HalfWidth"/> for a half panel.</param>
    public Panel(Span<float> values, int features, int lanes = Width)
        : this(features, lanes, values[..(features * lanes)])
    {
        if (lanes is not (Width or HalfWidth or 0))
            throw new ArgumentException($"A panel has {Width} or {HalfWidth} lanes, not {lanes}.");
    }

    private Panel(int features, int lanes, Span<float> values)
    {
        Features = features;
        Lanes = lanes;
        Values = values;
    }

    /// <summary>Samples side by side in a panel.</summary>
    public const int Width = 32;

    /// <summary>Width of a half panel.</summary>
    public const int HalfWidth = 16;

    /// <summary>Floats by which a block of stack memory must be longer for <see cref="Aligned"/>.</summary>
    public const int Padding = 16;

    /// <summary><c>[features, lanes]</c>.</summary>
    public Span<float> Values { get; }

    /// <summary>Numbers of one sample.</summary>
    public int Features { get; }

    /// <summary>Samples side by side.</summary>
    public int Lanes { get; }

    public bool IsEmpty => Values.IsEmpty;

    public ref float this[int feature, int lane] => ref Values[feature * Lanes + lane];

    /// <summary>The <paramref name="index"/>-th of equal panels that lie one after another.</summary>
    public static Panel At(Span<float> values, int index, int features, int lanes = Width) =>
        new(values[(index * features * lanes)..], features, lanes);

    /// <summary>Consecutive features, as a panel of their own on the same memory.</summary>
    public Panel Rows(int first, int count) => new(count, Lanes, Values.Slice(first * Lanes, count * Lanes));

    /// <summary>One of equal parts, such as the steps of a sequence, <c>[features / parts, lanes]</c>.</summary>
    public Panel Part(int index, int parts) => Rows(index * (Features / parts), Features / parts);

    /// <summary>One feature of all samples, <c>[lanes]</c>.</summary>
    public Span<float> Row(int feature) => Values.Slice(feature * Lanes, Lanes);

    /// <summary>Number of panels that hold <paramref name="samples"/> samples; the last one may be partly unused.</summary>
    public static int Count(int samples) => (int)(((long)samples + Width - 1) / Width);

    /// <summary>
    /// The part of a stack-allocated block that starts on a multiple of 64 bytes, <see cref="Padding"/> floats shorter
    /// than the block: vectors that straddle cache lines are slow.
    /// </summary>
    internal static unsafe Span<float> Aligned(Span<float> stack)
    {
        var address = (nuint)
            System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(stack));
        var start = (int)((64 - address % 64) % 64 / sizeof(float));
        return stack.Slice(start, stack.Length - Padding);
    }
}
