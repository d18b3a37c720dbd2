using Distill.Networks.Cuda;

namespace Distill.Policies.Cuda;

/// <summary>What acts in all environments of a batch on a GPU: a policy, or several, each in its own environments.</summary>
internal interface ICudaPolicy : IDisposable
{
    /// <summary>Numbers that it reads.</summary>
    int Inputs { get; }

    /// <summary><c>[panels, inputs, 32]</c>, not normalized.</summary>
    CudaPanels Observations { get; }

    /// <summary><c>[panels, actions, 32]</c>: its action, or the mean of a Gaussian.</summary>
    CudaPanels Outputs { get; }

    /// <summary>Looks, and says what it would do.</summary>
    /// <param name="keeps"><c>[panels, 1, 32]</c>: 0 where an episode starts, so that memory is cleared before, else 1.</param>
    void Act(CudaPanels keeps);
}
