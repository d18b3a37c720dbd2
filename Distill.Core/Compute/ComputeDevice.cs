namespace Distill.Compute;

/// <summary>Where something is computed.</summary>
public enum ComputeDevice
{
    /// <summary>On the processor.</summary>
    Cpu,

    /// <summary>On an NVIDIA GPU, or not at all.</summary>
    Cuda,

    /// <summary>On an NVIDIA GPU where that is possible, else on the processor.</summary>
    Auto,
}
