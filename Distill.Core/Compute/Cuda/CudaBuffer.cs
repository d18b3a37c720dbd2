using System.Runtime.CompilerServices;

namespace Distill.Compute.Cuda;

/// <summary>A block of numbers in the memory of a GPU, zeroed.</summary>
internal sealed class CudaBuffer<T> : IDisposable
    where T : unmanaged
{
    private readonly CudaDevice device;
    private bool disposed;

    /// <param name="length">Number of elements, at least 1.</param>
    /// <param name="what">For messages: what they are.</param>
    /// <exception cref="DistillException">The GPU's memory is not enough.</exception>
    public CudaBuffer(CudaDevice device, long length, string what)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
        (this.device, Length) = (device, length);
        var bytes = (nuint)length * (nuint)Unsafe.SizeOf<T>();
        device.Check(
            CudaCalls.Allocate(out var address, bytes),
            $"{what} ({(double)bytes / (1 << 20):0.#} MiB)"
        );
        Address = address;
        Clear();
    }

    public long Length { get; }

    /// <summary>Where it begins in the GPU's memory.</summary>
    public nint Address { get; }

    /// <summary>Makes all of it zero.</summary>
    public void Clear() => Fill(0);

    /// <summary>Sets all of it.</summary>
    /// <param name="word">Its four bytes, again and again.</param>
    public void Fill(uint word) =>
        device.Check(
            CudaCalls.Fill(
                Address,
                word,
                (nuint)Length * (nuint)Unsafe.SizeOf<T>() / sizeof(uint),
                device.Stream
            ),
            "filling memory"
        );

    /// <summary>Brings numbers to the GPU.</summary>
    public void Write(ReadOnlySpan<T> from, long start = 0)
    {
        if (from.IsEmpty)
            return;
        CheckRange(start, from.Length);
        device.Check(CudaCalls.CopyTo(At(start), from), "copying to the GPU");
        device.CountBus((long)from.Length * Unsafe.SizeOf<T>());
    }

    /// <summary>Brings numbers from the GPU, when all that was started before is done.</summary>
    /// <exception cref="DistillException">A kernel that was started failed.</exception>
    public void Read(Span<T> to, long start = 0)
    {
        CheckRange(start, to.Length);
        device.Check(CudaCalls.CopyFrom(to, At(start)), "copying from the GPU");
        device.CountBus((long)to.Length * Unsafe.SizeOf<T>());
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        // After an error of a kernel the driver refuses, and frees all with the context.
        _ = CudaCalls.Free(Address);
    }

    private nint At(long start) => Address + (nint)(start * Unsafe.SizeOf<T>());

    private void CheckRange(long start, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + count, Length);
    }
}
