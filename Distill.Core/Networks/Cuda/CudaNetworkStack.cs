using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>
/// Equal networks of dense layers in the memory of a GPU, each with panels of its own, forward only and all at once, with the bits of
/// <see cref="Network"/>.
/// </summary>
internal sealed class CudaNetworkStack : IDisposable
{
    // As in the sources of the kernels.
    private const int Threads = 128;
    private const int Rows = 32;

    private readonly CudaNetwork.Stage[] stages;
    private readonly int panels;
    private readonly int length;
    private readonly CudaBuffer<float> parameters;
    private readonly CudaBuffer<int> ofPanels;
    private readonly CudaBuffer<float> activations;
    private readonly CudaKernel<StackArguments> product;

    /// <param name="networks">Of one architecture.</param>
    /// <param name="ofPanels"><c>[panels]</c>: which of them each panel goes through.</param>
    /// <exception cref="DistillException">They have other layers, or the GPU's memory is not enough.</exception>
    public CudaNetworkStack(CudaDevice device, IReadOnlyList<Network> networks, ReadOnlySpan<int> ofPanels)
    {
        stages = [.. CudaNetwork.StagesOf(networks[0].Spec)];
        panels = ofPanels.Length;
        length = networks[0].Parameters.Length;
        parameters = new(device, (long)networks.Count * length, "the teachers");
        for (var i = 0; i < networks.Count; i++)
            parameters.Write(networks[i].Parameters.Span, (long)i * length);
        this.ofPanels = new(device, panels, "the teachers");
        this.ofPanels.Write(ofPanels);
        ActivationSize = stages[^1].Output + stages[^1].Outputs;
        activations = new(device, (long)panels * Panel.Width * ActivationSize, "activations");
        product = device.Kernel<StackArguments>("stacked_product");
    }

    /// <summary><c>[panels]</c>: which network each goes through.</summary>
    public nint OfPanels => ofPanels.Address;

    /// <summary><c>[panels, outputs, 32]</c>: of a Gaussian its mean alone.</summary>
    public CudaPanels Outputs =>
        CudaPanels.Of(activations, ActivationSize).From(ActivationSize - stages[^1].Outputs);

    private int ActivationSize { get; }

    /// <param name="inputs"><c>[panels, inputs, 32]</c>.</param>
    public void Forward(CudaPanels inputs)
    {
        foreach (var stage in stages)
        {
            var all = CudaPanels.Of(activations, ActivationSize);
            product.StartBlocks(
                new()
                {
                    Matrices = parameters.Address + stage.Parameters * sizeof(float),
                    Biases = parameters.Address + stage.Bias * sizeof(float),
                    Stride = length,
                    Networks = OfPanels,
                    From = inputs,
                    To = all.From(stage.Activations),
                    Rows = stage.Outputs,
                    Inner = stage.Inputs,
                    Activation = stage.Activation,
                },
                (long)panels * ((stage.Outputs + Rows - 1) / Rows),
                Threads
            );
            inputs = all.From(stage.Output);
        }
    }

    public void Dispose()
    {
        parameters.Dispose();
        ofPanels.Dispose();
        activations.Dispose();
    }

    // The record of cuda/networks.cu.

    private struct StackArguments : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks)
        {
            double panels = blocks / ((Rows + CudaNetworkStack.Rows - 1) / CudaNetworkStack.Rows);
            return new(
                2.0 * Rows * Inner * Panel.Width * panels,
                sizeof(float) * panels * ((double)Rows * Inner + (double)(Rows + Inner) * Panel.Width)
            );
        }

        public nint Matrices;
        public nint Biases;
        public long Stride;
        public nint Networks;
        public CudaPanels From;
        public CudaPanels To;
        public int Rows;
        public int Inner;
        public Activation Activation;
    }
}
