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
