using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>
/// A network of dense layers in the memory of a GPU, forward and backward on many panels at once, with the bits of
/// <see cref="Network"/>.
/// </summary>
internal sealed class CudaNetwork : IDisposable
{
    private const int ProductThreads = 128;
    private const int ProductRows = 8;
    private const int GradientThreads = 256;
    private const int GradientTile = 64;

    private readonly Network network;
    private readonly Stage[] stages;
    private readonly CudaBuffer<float> parameters;
    private readonly CudaKernel<Product> product;
    private readonly CudaKernel<Activate> activate;
    private readonly CudaKernel<WeightGradient> weights;
    private readonly CudaKernel<BiasGradient> biases;

    /// <param name="network">It stays as it is until <see cref="Download"/>.</param>
    /// <exception cref="DistillException">It has other layers.</exception>
    public CudaNetwork(CudaDevice device, Network network)
    {
        this.network = network;
        stages = [.. StagesOf(network.Spec)];
        parameters = new(device, network.Parameters.Length, "a network");
        product = device.Kernel<Product>("panel_product");
        activate = device.Kernel<Activate>("activation_backward");
        weights = device.Kernel<WeightGradient>("weight_gradient");
        biases = device.Kernel<BiasGradient>("bias_gradient");
        Upload();
    }

    /// <summary>In the layout of <see cref="Network.Parameters"/>.</summary>
    public CudaBuffer<float> Parameters => parameters;

    /// <summary>Features of what <see cref="Forward"/> keeps; the last are the outputs.</summary>
    public int ActivationSize => network.ActivationSize;

    /// <summary>Takes the network's parameters.</summary>
    public void Upload() => parameters.Write(network.Parameters.Span);

    /// <summary>Gives the network its parameters.</summary>
    public void Download() => parameters.Read(network.Parameters.Span);

    /// <summary>The outputs of samples whose activations these are.</summary>
    public CudaPanels Outputs(CudaPanels activations) =>
        activations.From(ActivationSize - network.OutputSize);

    /// <summary>One step of so many samples.</summary>
    /// <param name="inputs"><c>[panels, inputs, lanes]</c>.</param>
    /// <param name="activations"><c>[panels, activation size, lanes]</c>, written.</param>
    public void Forward(CudaPanels inputs, CudaPanels activations, long samples)
    {
        foreach (var stage in stages)
        {
            Multiply(
                new()
                {
                    Matrix = At(stage.Parameters),
                    Bias = At(stage.Parameters + stage.Inputs * stage.Outputs),
                    From = inputs,
                    To = activations.From(stage.Activations),
                    Samples = (uint)samples,
                    MatrixRow = stage.Inputs,
                    MatrixInner = 1,
                    Rows = stage.Outputs,
                    Inner = stage.Inputs,
                    Activation = stage.Activation,
                }
            );
            inputs = activations.From(stage.Activations);
        }
    }

    /// <summary>The gradient of one step of so many samples, cut into chunks of panels as <see cref="Optimizer"/> says.</summary>
    /// <param name="inputs">As given to <see cref="Forward"/>.</param>
    /// <param name="activations">As that left them.</param>
    /// <param name="gradients"><c>[panels, activation size, lanes]</c>: on entry those of the outputs, in their place; the others are written.</param>
    /// <param name="parameters"><c>[chunks, parameters]</c>: each chunk's gradient, added to.</param>
    public void Backward(
        CudaPanels inputs,
        CudaPanels activations,
        CudaPanels gradients,
        CudaBuffer<float> parameters,
        long samples,
        int chunks
    )
    {
        var panels = (int)((samples + inputs.Lanes - 1) / inputs.Lanes);
        for (var i = stages.Length - 1; i >= 0; i--)
        {
            var stage = stages[i];
            var dy = gradients.From(stage.Activations);
            if (stage.Activation != Activation.Identity)
                activate.Start(
                    new()
                    {
                        Values = activations.From(stage.Activations),
                        Gradients = dy,
                        Samples = (uint)samples,
                        Features = stage.Outputs,
                        Activation = stage.Activation,
                    },
                    samples * stage.Outputs
                );
            var x = i == 0 ? inputs : activations.From(stages[i - 1].Activations);
            AddGradient(stage, dy, x, parameters, panels, chunks);
            if (i > 0)
                Multiply(
                    new()
                    {
                        Matrix = At(stage.Parameters),
                        From = dy,
                        To = gradients.From(stages[i - 1].Activations),
                        Samples = (uint)samples,
                        MatrixRow = 1,
                        MatrixInner = stage.Inputs,
                        Rows = stage.Inputs,
                        Inner = stage.Outputs,
                    }
                );
        }
    }

    public void Dispose() => parameters.Dispose();

    private static IEnumerable<Stage> StagesOf(NetworkSpec spec)
    {
        var (parameters, activations) = (0, 0);
        foreach (var (layer, inputs) in spec.LayersWithInputs)
        {
            if (layer is not Dense dense)
                throw new DistillException(
                    $"device=cuda can only run dense layers, and this network has one of kind {layer.Kind}; use device=cpu."
                );
            yield return new(parameters, activations, inputs, dense.Size, dense.Activation);
            parameters += dense.Size * (inputs + 1);
            activations += dense.Size;
        }
    }

    private void AddGradient(
        Stage stage,
        CudaPanels dy,
        CudaPanels x,
        CudaBuffer<float> gradients,
        int panels,
        int chunks
    )
    {
        var first = gradients.Address + stage.Parameters * sizeof(float);
        weights.StartBlocks(
            new()
            {
                Outputs = dy,
                Inputs = x,
                Gradients = first,
                Stride = parameters.Length,
                Panels = panels,
                Chunks = chunks,
                OutputSize = stage.Outputs,
                InputSize = stage.Inputs,
            },
            (long)chunks * Tiles(stage.Outputs, GradientTile) * Tiles(stage.Inputs, GradientTile),
            GradientThreads
        );
        biases.Start(
            new()
            {
                Outputs = dy,
                Gradients = first + stage.Inputs * stage.Outputs * sizeof(float),
                Stride = parameters.Length,
                Panels = panels,
                Chunks = chunks,
                OutputSize = stage.Outputs,
            },
            (long)chunks * stage.Outputs
        );
    }

    private void Multiply(in Product arguments) =>
        product.StartBlocks(
            arguments,
            Tiles(arguments.Rows, ProductRows) * Tiles(arguments.Samples, ProductThreads),
            ProductThreads
        );

    private static long Tiles(long size, int tile) => (size + tile - 1) / tile;

    private nint At(int parameter) => parameters.Address + parameter * sizeof(float);

    /// <summary>A layer, and where its part of the parameters and of the activations begins.</summary>
    private sealed record Stage(
        int Parameters,
        int Activations,
        int Inputs,
        int Outputs,
        Activation Activation
    );

    // The records of cuda/networks.cu.

    private struct Product
    {
        public nint Matrix;
        public nint Bias;
        public CudaPanels From;
        public CudaPanels To;
        public uint Samples;
        public int MatrixRow;
        public int MatrixInner;
        public int Rows;
        public int Inner;
        public Activation Activation;
    }

    private struct Activate
    {
        public CudaPanels Values;
        public CudaPanels Gradients;
        public uint Samples;
        public int Features;
        public Activation Activation;
    }

    private struct WeightGradient
    {
        public CudaPanels Outputs;
        public CudaPanels Inputs;
        public nint Gradients;
        public long Stride;
        public int Panels;
        public int Chunks;
        public int OutputSize;
        public int InputSize;
    }

    private struct BiasGradient
    {
        public CudaPanels Outputs;
        public nint Gradients;
        public long Stride;
        public int Panels;
        public int Chunks;
        public int OutputSize;
    }
}
