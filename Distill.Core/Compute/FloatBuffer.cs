using System.Runtime.InteropServices;

namespace Distill.Compute;

/// <summary>
/// A block of numbers in native memory, aligned to 64 bytes and zeroed. Its owner disposes it; there is no finalizer,
/// so a span can never outlive its memory by surprise: forgetting to dispose leaks until the process ends.
/// </summary>
public unsafe class NativeBuffer<T> : IDisposable
    where T : unmanaged
{
    private const nuint Alignment = 64;
    private void* block;
    private T* pointer;

    /// <param name="length">Number of elements, at least 0; counted wide, because it is often a product.</param>
    /// <exception cref="DistillException">It is more than a span can hold.</exception>
    /// <exception cref="OutOfMemoryException">The machine has no such block.</exception>
    public NativeBuffer(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (length > int.MaxValue)
            throw new DistillException(
                $"A block of {length} numbers is too large; at most {int.MaxValue} are possible. Lower the number of environments, "
                    + "the steps, the mini-batch or the hidden layers."
            );
        Length = (int)length;
        // The allocator hands out large zeroed blocks as untouched pages, so growing a dataset costs nothing up front.
        block = NativeMemory.AllocZeroed((nuint)length * (nuint)sizeof(T) + Alignment);
        pointer = (T*)(((nuint)block + Alignment - 1) / Alignment * Alignment);
    }

    public int Length { get; }

    /// <exception cref="ObjectDisposedException">The buffer was disposed.</exception>
    public Span<T> Span
    {
        get
        {
            ObjectDisposedException.ThrowIf(pointer is null, this);
            return new Span<T>(pointer, Length);
        }
    }

    public Span<T> Slice(int start, int length) => Span.Slice(start, length);

    public void Dispose()
    {
        NativeMemory.Free(block);
        block = null;
        pointer = null;
    }
}

/// <summary>A block of floats: states, panels, parameters.</summary>
public sealed class FloatBuffer(long length) : NativeBuffer<float>(length);
