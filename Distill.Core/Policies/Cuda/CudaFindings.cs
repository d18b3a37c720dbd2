using Distill.Compute.Cuda;

namespace Distill.Policies.Cuda;

/// <summary>What first was not finite in each environment of a GPU, for a <see cref="FiniteWatch"/>.</summary>
/// <param name="quantities">What a kernel's numbers of quantities are called, in the order in which the processor looks at them.</param>
internal sealed class CudaFindings(CudaDevice device, int envs, IReadOnlyList<string> quantities)
    : IDisposable
{
    private readonly CudaBuffer<Finding> findings = new(device, envs, "the rollout");
    private readonly FiniteWatch watch = new(envs);
    private readonly Finding[] found = new Finding[envs];

    /// <summary><c>[envs]</c>: Finding of <c>cuda/collection.cu</c>.</summary>
    public nint Address => findings.Address;

    public void Clear() => findings.Clear();

    /// <summary>Says what was found: within a panel the earliest, and of the same step what the processor would come to first.</summary>
    /// <param name="iteration">From 0.</param>
    /// <exception cref="DistillException">There is something.</exception>
    public void Check(int iteration)
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

    // The record of cuda/collection.cu.

    private readonly record struct Finding(int Step, int Quantity, float Value);
}
