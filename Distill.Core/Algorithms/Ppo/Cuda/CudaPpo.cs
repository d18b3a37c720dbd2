using Distill.Compute.Cuda;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using static Distill.Algorithms.ComputeDevices;

namespace Distill.Algorithms;

/// <summary>
/// PPO in the memory of an NVIDIA GPU: drones, rollout, samples, networks and optimizers are there, and policies, metrics and checkpoints
/// are those of <see cref="CpuPpo"/> to the last bit.
/// </summary>
internal sealed class CudaPpo : IPpoEngine
{
    private readonly PpoParts parts;
    private readonly CudaDevice device;
    private readonly CudaPpoCollector collector;
    private readonly CudaPpoLearner learner;

    /// <param name="parts">Left to whoever made them; the books are kept in them.</param>
    /// <exception cref="DistillException">There is no GPU, its memory is not enough, or something does not run there yet.</exception>
    public CudaPpo(PpoParts parts)
    {
        this.parts = parts;
        RefuseWhatCannotBe(parts);
        device = new CudaDevice();
        try
        {
            collector = new CudaPpoCollector(device, parts);
            learner = new CudaPpoLearner(device, parts, collector);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The GPU, as its maker calls it.</summary>
    public string Name => device.Name;

    /// <summary>For tests and measurements.</summary>
    public CudaDevice Device => device;

    public void Restart(ReadOnlySpan<int> panels)
    {
        device.Use();
        collector.Restart(panels);
    }

    public void Collect(in PpoTurn turn)
    {
        device.Use();
        collector.Collect(turn);
    }

    public PpoLossSums Learn(in PpoTurn turn)
    {
        device.Use();
        var losses = learner.Learn(turn);
        collector.Normalize(turn);
        return losses;
    }

    public void Visit(State state)
    {
        device.Use();
        collector.Download();
        parts.Visit(state);
        // Which may have brought another state.
        collector.Upload();
        learner.Upload();
    }

    public void Dispose()
    {
        device.Use();
        // Where the constructor ended early, not all are there.
        learner?.Dispose();
        collector?.Dispose();
        device.Dispose();
    }

    /// <exception cref="DistillException">A setting asks for what does not run on a GPU yet.</exception>
    private static void RefuseWhatCannotBe(PpoParts parts)
    {
        Refuse(parts.Environment is not QuadrotorEnvironment, "fly anything but quadrotors (environment)");
        Refuse(parts.Guide is not null, "let a teacher guide (teacher)");
        Refuse(parts.Sequences, "train networks with a memory (actor, critic)");
        Refuse(parts.Config.Optimizer is not AdamConfig, "take steps other than Adam's (optimizer)");
    }
}
