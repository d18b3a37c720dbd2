using System.Runtime.CompilerServices;

namespace Distill.Compute.Cuda;

/// <summary>A kernel of the folder <c>cuda/</c>, found by its name.</summary>
/// <typeparam name="T">The record that is its argument, in the layout of its source.</typeparam>
internal sealed class CudaKernel<T>
    where T : unmanaged
{
    private readonly CudaDevice device;
    private readonly string name;
    private readonly nint function;

    /// <param name="bytes">Size of the argument, as the kernel's text says.</param>
    public CudaKernel(CudaDevice device, string name, nint function, int bytes)
    {
        if (bytes != Unsafe.SizeOf<T>())
            throw new InvalidOperationException(
                $"The kernel {name} takes {bytes} bytes, but {typeof(T).Name} has {Unsafe.SizeOf<T>()}."
            );
        (this.device, this.name, this.function) = (device, name, function);
    }

    /// <summary>Starts it with a thread for each item.</summary>
    /// <exception cref="DistillException">It, or one before it, failed.</exception>
    public void Start(in T arguments, long items, int blockThreads = CudaDevice.BlockThreads) =>
        StartBlocks(arguments, (items + blockThreads - 1) / blockThreads, blockThreads);

    /// <summary>Starts so many blocks.</summary>
    /// <exception cref="DistillException">It, or one before it, failed.</exception>
    public void StartBlocks(in T arguments, long blocks, int blockThreads)
    {
        if (blocks == 0)
            return;
        if (device.Steps is { } steps)
        {
            steps.Add(name, arguments);
            return;
        }
        device.Profile?.Begin();
        var error = CudaCalls.Launch(
            function,
            checked((uint)blocks),
            (uint)blockThreads,
            device.Stream,
            arguments
        );
        // The text only where it is wanted.
        if (error != 0)
            device.Check(error, $"the kernel {name}");
        device.CountLaunch();
        device.Profile?.End(
            name,
            function,
            blockThreads,
            (arguments as ICudaWork)?.WorkOf(blocks) ?? default
        );
    }
}
