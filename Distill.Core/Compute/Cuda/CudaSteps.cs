using System.Buffers;
using System.Runtime.InteropServices;

namespace Distill.Compute.Cuda;

/// <summary>
/// Steps of a rollout: as one kernel that does for all of them what the kernels of the first would do, where the GPU can hold all
/// environments at once and knows the kernels (<c>cuda/rollout.cu</c>); else kernel by kernel. The bits are the same.
/// </summary>
internal sealed class CudaSteps : IDisposable
{
    /// <summary>The kernel in which steps are joined.</summary>
    public const string Kernel = "run_steps";

    private const int Threads = 128;
    private const int MostParts = 64;
    private const int MostBytes = 1 << 14;

    // In the order of cuda/rollout.cu.
    private static readonly string[] Parts =
    [
        "quadrotor_observe",
        "normalize",
        "panel_product",
        "gru_forward",
        "copy_features",
        "draw_actions",
        "choose_actions",
        "record_column",
        "quadrotor_step",
        "quadrotor_restart",
        "take_outcomes",
        "evaluate_step",
        "ppo_act",
        "ppo_value",
        "ppo_take",
        "add_deviations",
    ];

    private readonly CudaDevice device;
    private readonly long lanes;
    private readonly bool fits;
    private readonly List<Part> started = [];
    private readonly ArrayBufferWriter<byte> records = new();
    private readonly CudaBuffer<Part> startedThere;
    private readonly CudaBuffer<byte> recordsThere;
    private readonly CudaKernel<RolloutArguments> rollout;
    private bool known;

    /// <param name="lanes">Environments, and what fills their last panel.</param>
    public CudaSteps(CudaDevice device, long lanes)
    {
        (this.device, this.lanes) = (device, lanes);
        fits = lanes <= (long)device.Multiprocessors * device.MultiprocessorThreads;
        startedThere = new(device, MostParts, "a rollout");
        recordsThere = new(device, MostBytes, "a rollout");
        rollout = device.Kernel<RolloutArguments>(Kernel);
    }

    /// <summary>Does so many steps.</summary>
    /// <param name="first">Of them.</param>
    /// <param name="start">
    /// Starts the kernels of a step. Other steps must differ from it by nothing but their number, in the counters that the kernels have.
    /// </param>
    /// <exception cref="DistillException">A kernel failed.</exception>
    public void Run(int first, int steps, Action<int> start)
    {
        if (fits && device.JoinsSteps && Record(first, start))
        {
            startedThere.Write(CollectionsMarshal.AsSpan(started));
            recordsThere.Write(records.WrittenSpan);
            rollout.Start(
                new()
                {
                    Started = startedThere.Address,
                    Records = recordsThere.Address,
                    Count = started.Count,
                    Steps = steps,
                },
                lanes,
                Threads
            );
        }
        else
            for (var step = first; step < first + steps; step++)
                start(step);
    }

    /// <summary>Takes a kernel that would be started now.</summary>
    public void Add<T>(string kernel, in T arguments)
        where T : unmanaged
    {
        var part = Array.IndexOf(Parts, kernel);
        known &= part >= 0 && started.Count < MostParts;
        if (!known)
            return;
        started.Add(new(part, records.WrittenCount));
        // All have addresses, so that each ends where the next may begin.
        records.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in arguments)));
        known = records.WrittenCount <= MostBytes;
    }

    public void Dispose()
    {
        startedThere.Dispose();
        recordsThere.Dispose();
    }

    /// <summary>Takes the kernels of a step in place of starting them.</summary>
    /// <returns>Whether all of them are known.</returns>
    private bool Record(int first, Action<int> start)
    {
        started.Clear();
        records.ResetWrittenCount();
        known = true;
        device.Steps = this;
        try
        {
            start(first);
        }
        finally
        {
            device.Steps = null;
        }
        return known;
    }

    // The records of cuda/rollout.cu.

    private readonly record struct Part(int Kernel, int Record);

    private struct RolloutArguments
    {
        public nint Started;
        public nint Records;
        public int Count;
        public int Steps;
    }
}
