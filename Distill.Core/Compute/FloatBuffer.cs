using System.Runtime.InteropServices;

namespace Distill.Compute;

/// <summary>
/// A block of floats in native memory, aligned to 64 bytes and zeroed. Its owner disposes it; there is no finalizer,
/// so a span can never outlive its memory by surprise: forgetting to dispose leaks until the process ends.
/// </summary>
public sealed unsafe class FloatBuffer : IDisposable
{
    private const nuint Alignment = 64;
    private void* block;
    private float* pointer;

    /// <param name="length">Number of floats, at least 0.</param>
    /// <exception cref="OutOfMemoryException">The machine has no such block.</exception>
    public FloatBuffer(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        Length = length;
        // The allocator hands out large zeroed blocks as untouched pages, so growing a dataset costs nothing up front.
        block = NativeMemory.AllocZeroed((nuint)length * sizeof(float) + Alignment);
        pointer = (float*)(((nuint)block + Alignment - 1) / Alignment * Alignment);
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
        NativeMemory.Free(block);
        block = null;
        pointer = null;
    }
}
