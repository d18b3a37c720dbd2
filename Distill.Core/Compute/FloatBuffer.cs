using System.Runtime.InteropServices;

namespace Distill.Compute;

/// <summary>
/// A block of floats in native memory, aligned to 64 bytes and zeroed. Its owner disposes it; there is no finalizer,
/// so a span can never outlive its memory by surprise: forgetting to dispose leaks until the process ends.
/// </summary>
public sealed unsafe class FloatBuffer : IDisposable
{
    private const nuint Alignment = 64;
    private float* pointer;

    /// <param name="length">Number of floats, at least 0.</param>
    /// <exception cref="OutOfMemoryException">The machine has no such block.</exception>
    public FloatBuffer(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        Length = length;
        var bytes = ((nuint)length * sizeof(float) + Alignment - 1) / Alignment * Alignment;
        pointer = (float*)NativeMemory.AlignedAlloc(Math.Max(bytes, Alignment), Alignment);
        NativeMemory.Clear(pointer, bytes);
    }

    public int Length { get; }

    /// <exception cref="ObjectDisposedException">The buffer was disposed.</exception>
    public Span<float> Span
    {
        get
        {
            ObjectDisposedException.ThrowIf(pointer is null, this);
            return new Span<float>(pointer, Length);
        }
    }

    public Span<float> Slice(int start, int length) => Span.Slice(start, length);

    public void Dispose()
    {
        NativeMemory.AlignedFree(pointer);
        pointer = null;
    }
}
