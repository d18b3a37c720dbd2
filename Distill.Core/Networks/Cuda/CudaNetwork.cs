using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>
/// A network of dense layers and gated recurrent units in the memory of a GPU, forward and backward on many panels at once, with the
/// bits of <see cref="Network"/>. Steps of sequences lie beside each other, <c>[panels, steps, features, lanes]</c>, so that only what a
/// memory needs goes step by step.
/// </summary>
internal sealed class CudaNetwork : IDisposable
{
    // As in the sources of the kernels.
    private const int ProductThreads = 128;
    private const int ProductRows = 8;
    private const int GradientThreads = 256;
    private const int GradientTile = 64;
    private const int GruThreads = 256;

    private readonly Network network;
    private readonly Stage[] stages;
    private readonly CudaBuffer<float> parameters;
    private readonly CudaKernel<Product> product;
    private readonly CudaKernel<Activate> activate;
    private readonly CudaKernel<WeightGradient> weights;
    private readonly CudaKernel<BiasGradient> biases;
    private readonly CudaKernel<GruArguments> gruForward;
    private readonly CudaKernel<GruArguments> gruBackward;

    /// <param name="network">It stays as it is until <see cref="Download"/>.</param>
    /// <exception cref="DistillException">It has other layers.</exception>
    public CudaNetwork(CudaDevice device, Network network)
    {
        this.network = network;
        stages = [.. StagesOf(network.Spec)];
        ActivationSize = stages[^1].Output + stages[^1].Outputs;
        GradientSize = stages.Sum(stage => stage.GradientSize);
        parameters = new(device, network.Parameters.Length, "a network");
        product = device.Kernel<Product>("panel_product");
        activate = device.Kernel<Activate>("activation_backward");
        weights = device.Kernel<WeightGradient>("weight_gradient");
        biases = device.Kernel<BiasGradient>("bias_gradient");
        gruForward = device.Kernel<GruArguments>("gru_forward");
        gruBackward = device.Kernel<GruArguments>("gru_backward");
        Upload();
    }

    /// <summary>In the layout of <see cref="Network.Parameters"/>.</summary>
    public CudaBuffer<float> Parameters => parameters;

    /// <summary>Features of what <see cref="Forward"/> keeps; the last are the outputs.</summary>
    public int ActivationSize { get; }

    /// <summary>Numbers of the output: of a Gaussian its mean alone.</summary>
    public int OutputSize => stages[^1].Outputs;

    /// <summary>Features of what <see cref="Backward"/> needs to work; the last are the outputs' gradients.</summary>
    public int GradientSize { get; }

    /// <summary>Features of the memory.</summary>
    public int MemorySize => network.MemorySize;

    /// <summary>Where the logarithms of a Gaussian's deviations begin in the parameters.</summary>
    public int LogStdStart => network.Views.Single(view => view.Name == "log_std").Offset;

    /// <summary>The address of these.</summary>
    public nint LogStd => At(LogStdStart);

    /// <summary>Takes the network's parameters.</summary>
    public void Upload() => parameters.Write(network.Parameters.Span);

    /// <summary>Gives the network its parameters.</summary>
    public void Download() => parameters.Read(network.Parameters.Span);

    /// <summary>The outputs where these are the activations.</summary>
    public CudaPanels Outputs(CudaPanels activations) => activations.From(ActivationSize - OutputSize);

    /// <summary>The gradients of the outputs where these are what <see cref="Backward"/> works with.</summary>
    public CudaPanels OutputGradients(CudaPanels gradients) => gradients.From(GradientSize - OutputSize);

    /// <summary>Runs all panels through their steps.</summary>
    /// <param name="shape">Panels, and steps of each.</param>
    /// <param name="inputs"><c>[panels, steps, inputs, lanes]</c>.</param>
    /// <param name="memory">Of a network that has one.</param>
    /// <param name="activations"><c>[panels, steps, activation size, lanes]</c>, written.</param>
    public void Forward(CudaShape shape, CudaPanels inputs, CudaMemory memory, CudaPanels activations)
    {
        foreach (var stage in stages)
        {
            Multiply(
                new()
                {
                    Matrix = At(stage.Parameters),
                    Bias = At(stage.Bias),
                    From = inputs,
                    To = activations.From(stage.Activations),
                    Samples = (uint)shape.Samples,
                    MatrixRow = stage.Inputs,
                    MatrixInner = 1,
                    Rows = stage.Gates,
                    Inner = stage.Inputs,
                    Activation = stage.Activation,
                }
            );
            if (stage.Units > 0)
                gruForward.StartBlocks(
                    GruOf(stage, shape, memory, activations, default),
                    shape.Panels,
                    GruThreads
                );
            inputs = activations.From(stage.Output);
        }
    }

    /// <summary>The gradient of all steps, cut into chunks of panels as <see cref="Optimizer"/> says.</summary>
    /// <param name="inputs">As given to <see cref="Forward"/>; likewise the next.</param>
    /// <param name="activations">As that left them.</param>
    /// <param name="gradients"><c>[panels, steps, gradient size, lanes]</c>: on entry <see cref="OutputGradients"/>; the others are written.</param>
    /// <param name="parameters"><c>[chunks, parameters]</c>: each chunk's gradient, added to.</param>
    public void Backward(
        CudaShape shape,
        CudaPanels inputs,
        CudaMemory memory,
        CudaPanels activations,
        CudaPanels gradients,
        CudaBuffer<float> parameters,
        int chunks
    )
    {
        for (var i = stages.Length - 1; i >= 0; i--)
        {
            var stage = stages[i];
            var x = i == 0 ? inputs : activations.From(stages[i - 1].Output);
            var dy = gradients.From(stage.Gradients);
            if (stage.Units > 0)
            {
                var hiddenGates = dy.From(3 * stage.Units);
                var hidden = activations.From(stage.Activations + 4 * stage.Units);
                var hiddenWeights = stage.Parameters + 3 * stage.Units * stage.Inputs;
                gruBackward.StartBlocks(
                    GruOf(stage, shape, memory, activations, gradients),
                    shape.Panels,
                    GruThreads
                );
                AddGradient(
                    (hiddenWeights, stage.HiddenBias),
                    hiddenGates,
                    3 * stage.Units,
                    hidden,
                    stage.Units
                );
            }
            else if (stage.Activation != Activation.Identity)
                activate.Start(
                    new()
                    {
                        Values = activations.From(stage.Activations),
                        Gradients = dy,
                        Samples = (uint)shape.Samples,
                        Features = stage.Outputs,
                        Activation = stage.Activation,
                    },
                    shape.Samples * stage.Outputs
                );
            AddGradient((stage.Parameters, stage.Bias), dy, stage.Gates, x, stage.Inputs);
            if (i > 0)
                Multiply(
                    new()
                    {
                        Matrix = At(stage.Parameters),
                        From = dy,
                        To = gradients.From(stages[i - 1].OutputGradient),
                        Samples = (uint)shape.Samples,
                        MatrixRow = 1,
                        MatrixInner = stage.Inputs,
                        Rows = stage.Inputs,
                        Inner = stage.Gates,
                    }
                );
        }

        void AddGradient((int Weights, int Bias) places, CudaPanels dy, int outputs, CudaPanels x, int size)
        {
            weights.StartBlocks(
                new()
                {
                    Outputs = dy,
                    Inputs = x,
                    Gradients = parameters.Address + places.Weights * sizeof(float),
                    Stride = this.parameters.Length,
                    Panels = shape.Panels,
                    Steps = shape.Steps,
                    Chunks = chunks,
                    OutputSize = outputs,
                    InputSize = size,
                },
                chunks * Tiles(outputs, GradientTile) * Tiles(size, GradientTile),
                GradientThreads
            );
            biases.Start(
                new()
                {
                    Outputs = dy,
                    Gradients = parameters.Address + places.Bias * sizeof(float),
                    Stride = this.parameters.Length,
                    Panels = shape.Panels,
                    Steps = shape.Steps,
                    Chunks = chunks,
                    OutputSize = outputs,
                },
                (long)chunks * outputs
            );
        }
    }

    public void Dispose() => parameters.Dispose();

    internal static IEnumerable<Stage> StagesOf(NetworkSpec spec)
    {
        var (parameters, activations, gradients, memory) = (0, 0, 0, 0);
        foreach (var (layer, inputs) in spec.LayersWithInputs)
        {
            // What acts, and what losses of actions train, is the mean; the deviations follow from no input.
            if (layer is GaussianOutput)
                yield break;
            var stage = layer switch
            {
                Dense dense => new Stage(inputs, dense.Size, 0, dense.Activation),
                Gru gru => new Stage(inputs, gru.Size, gru.Size, Activation.Identity),
                _ => throw new DistillException(
                    $"device=cuda can run dense layers and gru, and this network has {layer.Kind}; use device=cpu."
                ),
            };
            yield return stage with
            {
                Parameters = parameters,
                Activations = activations,
                Gradients = gradients,
                Memory = memory,
            };
            parameters += (int)layer.ParameterCount(inputs);
            activations += (int)layer.ActivationSize;
            gradients += stage.GradientSize;
            memory += (int)layer.MemorySize;
        }
    }

    private GruArguments GruOf(
        Stage stage,
        CudaShape shape,
        CudaMemory memory,
        CudaPanels activations,
        CudaPanels gradients
    ) =>
        new()
        {
            Activations = activations.From(stage.Activations),
            Weights = At(stage.Parameters + 3 * stage.Units * stage.Inputs),
            Bias = At(stage.HiddenBias),
            Keeps = memory.Keeps,
            Memory = memory.Values.From(stage.Memory),
            Gates = gradients.From(stage.Gradients),
            HiddenGates = gradients.From(stage.Gradients + 3 * stage.Units),
            Gradients = gradients.From(stage.OutputGradient),
            Panels = shape.Panels,
            Steps = shape.Steps,
            Units = stage.Units,
        };

    private void Multiply(in Product arguments) =>
        product.StartBlocks(
            arguments,
            Tiles(arguments.Rows, ProductRows) * Tiles(arguments.Samples, ProductThreads),
            ProductThreads
        );

    private static long Tiles(long size, int tile) => (size + tile - 1) / tile;

    private nint At(int parameter) => parameters.Address + parameter * sizeof(float);

    /// <summary>A layer, and where its parts of the parameters, activations, gradients and memory begin.</summary>
    /// <param name="Units">Of a gated recurrent unit; 0 for a dense layer.</param>
    internal sealed record Stage(int Inputs, int Outputs, int Units, Activation Activation)
    {
        public int Parameters { get; init; }
        public int Activations { get; init; }
        public int Gradients { get; init; }
        public int Memory { get; init; }

        /// <summary>Rows of its first product.</summary>
        public int Gates => Units > 0 ? 3 * Units : Outputs;

        public int Bias => Parameters + Gates * (Inputs + Units);

        public int HiddenBias => Bias + Gates;

        /// <summary>Where its output is in the activations.</summary>
        public int Output => Activations + 5 * Units;

        /// <summary>Where its output's gradient is: of a recurrent unit behind those of the gates and of their hidden parts.</summary>
        public int OutputGradient => Gradients + 6 * Units;

        public int GradientSize => 6 * Units + Outputs;
    }

    // The records of cuda/networks.cu and cuda/gru.cu.

    private struct Product : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) =>
            new(
                2.0 * Rows * Inner * Samples,
                sizeof(float) * ((double)Rows * Inner + (double)(Rows + Inner) * Samples)
            );

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

    private struct Activate : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) => new(0, 3.0 * sizeof(float) * Features * Samples);

        public CudaPanels Values;
        public CudaPanels Gradients;
        public uint Samples;
        public int Features;
        public Activation Activation;
    }

    private struct WeightGradient : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) =>
            new(
                2.0 * OutputSize * InputSize * Samples,
                sizeof(float) * ((OutputSize + InputSize) * Samples + 2.0 * Chunks * OutputSize * InputSize)
            );

        private readonly double Samples => (double)Panels * Steps * Outputs.Lanes;

        public CudaPanels Outputs;
        public CudaPanels Inputs;
        public nint Gradients;
        public long Stride;
        public int Panels;
        public int Steps;
        public int Chunks;
        public int OutputSize;
        public int InputSize;
    }

    private struct BiasGradient : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) =>
            new(0, sizeof(float) * (double)OutputSize * Panels * Steps * Outputs.Lanes);

        public CudaPanels Outputs;
        public nint Gradients;
        public long Stride;
        public int Panels;
        public int Steps;
        public int Chunks;
        public int OutputSize;
    }

    private struct GruArguments : ICudaWork
    {
        /// <summary>Of the forward pass; of the backward pass about as much.</summary>
        public readonly CudaWork WorkOf(long blocks)
        {
            var samples = (double)blocks * Steps * Activations.Lanes;
            return new(2.0 * 3 * Units * Units * samples, sizeof(float) * 9.0 * Units * samples);
        }

        public CudaPanels Activations;
        public nint Weights;
        public nint Bias;
        public CudaPanels Keeps;
        public CudaPanels Memory;
        public CudaPanels Gradients;
        public CudaPanels Gates;
        public CudaPanels HiddenGates;
        public int Panels;
        public int Steps;
        public int Units;
    }
}
