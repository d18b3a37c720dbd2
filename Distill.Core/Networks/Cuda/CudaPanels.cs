using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>
/// Panels in the memory of a GPU, <c>[panels, features, lanes]</c>, or some features of each. In the layout of <c>cuda/networks.cu</c>.
/// </summary>
/// <param name="Address">Of the first panel's first feature.</param>
/// <param name="Stride">Floats from one panel to the next.</param>
/// <param name="Lanes">Of a panel.</param>
internal readonly record struct CudaPanels(nint Address, long Stride, int Lanes)
{
    /// <summary>All of a buffer, as panels of so many features.</summary>
    public static CudaPanels Of(CudaBuffer<float> buffer, int features, int lanes = Panel.Width) =>
        new(buffer.Address, (long)features * lanes, lanes);

    /// <summary>From a feature on.</summary>
    public CudaPanels From(int feature) =>
        this with
        {
            Address = Address + (nint)feature * Lanes * sizeof(float),
        };
}

/// <summary>Sequences side by side in panels; a row is a sequence of one step.</summary>
internal readonly record struct CudaShape(int Panels, int Steps, int Lanes)
{
    /// <summary>Steps of all lanes.</summary>
    public long Samples => (long)Panels * Steps * Lanes;
}

/// <summary>What a network with a memory is told and remembers.</summary>
/// <param name="Keeps"><c>[panels, steps, 1, lanes]</c>: 0 where an episode starts, so that memory is cleared before the step, else 1.</param>
/// <param name="Values"><c>[panels, 1, memory, lanes]</c>: before the first step; after a forward pass, after the last.</param>
internal readonly record struct CudaMemory(CudaPanels Keeps, CudaPanels Values);
