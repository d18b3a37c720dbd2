using Distill.Compute.Cuda;

namespace Distill.Policies.Cuda;

/// <summary>What kernels note of numbers that are not finite, and says of it what <see cref="FiniteWatch"/> would.</summary>
/// <param name="quantities">What is looked at, in the order of one step; kernels give the index.</param>
internal sealed class CudaFiniteWatch(CudaDevice device, int envs, IReadOnlyList<string> quantities)
    : IDisposable
{
    private readonly FiniteWatch watch = new(envs);
    private readonly CudaBuffer<Finding> findings = new(device, envs, "what is not finite");
    private readonly Finding[] found = new Finding[envs];

    /// <summary><c>[envs]</c>.</summary>
    public nint Address => findings.Address;

    /// <summary>Forgets all.</summary>
    public void Clear() => findings.Clear();

    /// <summary>Says what was not finite: within a panel the earliest, and of the same step what comes first in it.</summary>
    /// <param name="iteration">From 0; null for an evaluation.</param>
    /// <exception cref="DistillException">Something was not.</exception>
    public void Check(int? iteration = null)
    {
        findings.Read(found);
        foreach (
            var (environment, finding) in found
                .Index()
                .Where(one => one.Item.Step > 0)
                .OrderBy(one => one.Item.Quantity)
        )
            watch.Note(environment, finding.Step - 1, quantities[finding.Quantity], finding.Value);
        watch.Check(iteration);
    }

    public void Dispose() => findings.Dispose();

    // The record of cuda/watch.cuh.
    private readonly record struct Finding(int Step, int Quantity, float Value);
}
