using Distill.Compute.Cuda;

namespace Distill.Networks.Cuda;

/// <summary>
/// The steps of <see cref="Adam"/> in the memory of a GPU, with its bits. Nothing is read back: where a gradient is not finite, all
/// further steps change nothing until <see cref="Download"/> says so.
/// </summary>
internal sealed class CudaAdam : IDisposable
{
    private const int NormThreads = 8;

    private readonly CudaDevice device;
    private readonly Adam adam;
    private readonly CudaNetwork network;
    private readonly CudaBuffer<float> gradients;
    private readonly CudaBuffer<float> first;
    private readonly CudaBuffer<float> second;
    private readonly CudaBuffer<double> squares;
    private readonly CudaBuffer<Progress> progress;
    private readonly CudaBuffer<int> taken;
    private readonly CudaKernel<SumArguments> sum;
    private readonly CudaKernel<NormArguments> norm;
    private readonly CudaKernel<ClipArguments> clip;
    private readonly CudaKernel<StepArguments> step;

    // As many as there may be steps to come.
    private CudaBuffer<Correction>? corrections;
    private Correction[] correctionOf = [];

    /// <param name="adam">Its settings and its moments; these stay as they are until <see cref="Download"/>.</param>
    /// <param name="maxChunks">Chunks whose gradients are summed, at most.</param>
    public CudaAdam(CudaDevice device, CudaNetwork network, Adam adam, int maxChunks)
    {
        (this.device, this.network, this.adam) = (device, network, adam);
        var length = network.Parameters.Length;
        gradients = new(device, maxChunks * length, "gradients");
        first = new(device, length, "Adam's moments");
        second = new(device, length, "Adam's moments");
        squares = new(device, (length + Optimizer.NormSize - 1) / Optimizer.NormSize, "a norm");
        progress = new(device, 1, "an optimizer");
        taken = new(device, 1, "an optimizer");
        sum = device.Kernel<SumArguments>("sum_gradients");
        norm = device.Kernel<NormArguments>("square_gradient");
        clip = device.Kernel<ClipArguments>("clip_gradient");
        step = device.Kernel<StepArguments>("adam_step");
        Upload();
    }

    /// <summary><c>[chunks, parameters]</c>: what each chunk adds to, after <see cref="Clear"/>.</summary>
    public CudaBuffer<float> Gradients => gradients;

    /// <summary>Where the device keeps what <c>cuda/optimizers.cu</c> calls progress.</summary>
    public nint ProgressAddress => progress.Address;

    /// <summary>Where it keeps how many of the steps of <see cref="Prepare"/> have begun.</summary>
    public nint TakenAddress => taken.Address;

    /// <summary>Takes the moments.</summary>
    public void Upload()
    {
        first.Write(adam.FirstMoments);
        second.Write(adam.SecondMoments);
    }

    /// <summary>Gives moments and counters back.</summary>
    /// <returns>Norm of the last gradient, before clipping; not finite where one was not, from which step on nothing changed.</returns>
    public double Download()
    {
        first.Read(adam.FirstMoments);
        second.Read(adam.SecondMoments);
        Span<Progress> now = stackalloc Progress[1];
        progress.Read(now);
        adam.Took(now[0].GradientNorm, now[0].Clipped);
        progress.Write([now[0] with { Clipped = 0 }]);
        return now[0].GradientNorm;
    }

    public void Clear() => gradients.Clear();

    /// <summary>Makes room for so many steps.</summary>
    public void Reserve(long steps)
    {
        device.Reserve(ref corrections, Math.Max(1, steps), "an optimizer");
        if (correctionOf.Length < steps)
            correctionOf = new Correction[steps];
    }

    /// <summary>Counts the steps that come next, and brings what differs from one to the next.</summary>
    /// <param name="steps">At most as many as there is room for.</param>
    public void Prepare(int steps)
    {
        for (var i = 0; i < steps; i++)
        {
            adam.Steps++;
            var now = adam.StepNow(1);
            correctionOf[i] = new(now.Correction1, now.Correction2);
        }
        corrections!.Write(correctionOf.AsSpan(0, steps));
        taken.Clear();
    }

    /// <summary>
    /// Sums the gradients of the first chunks, clips, and updates the parameters: one of the steps of <see cref="Prepare"/>.
    /// </summary>
    /// <param name="adapted">Where the device makes the learning rate, a double; 0 where it is the optimizer's.</param>
    public void Step(int usedChunks, nint adapted = 0)
    {
        var length = network.Parameters.Length;
        sum.Start(
            new()
            {
                Gradients = gradients.Address,
                Length = length,
                Chunks = usedChunks,
            },
            length
        );
        norm.StartBlocks(
            new()
            {
                Gradient = gradients.Address,
                Squares = squares.Address,
                Length = length,
                Part = Optimizer.NormSize,
            },
            squares.Length,
            NormThreads
        );
        clip.StartBlocks(
            new()
            {
                Progress = progress.Address,
                Taken = taken.Address,
                Squares = squares.Address,
                Parts = (int)squares.Length,
                MostNorm = adam.Config.MaxGradNorm,
            },
            1,
            1
        );
        step.Start(
            new(adam.StepNow(1))
            {
                Progress = progress.Address,
                Corrections = corrections!.Address,
                Taken = taken.Address,
                Parameters = network.Parameters.Address,
                Gradient = gradients.Address,
                First = first.Address,
                Second = second.Address,
                Length = length,
                Adapted = adapted,
            },
            length
        );
    }

    public void Dispose()
    {
        gradients.Dispose();
        first.Dispose();
        second.Dispose();
        squares.Dispose();
        progress.Dispose();
        taken.Dispose();
        corrections?.Dispose();
    }

    // The records of cuda/optimizers.cu.

    private record struct Progress(double GradientNorm, long Clipped, int Failed, float Scale);

    private readonly record struct Correction(float First, float Second);

    private struct SumArguments : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) => new(0, sizeof(float) * (Chunks + 1.0) * Length);

        public nint Gradients;
        public long Length;
        public int Chunks;
    }

    private struct NormArguments
    {
        public nint Gradient;
        public nint Squares;
        public long Length;
        public long Part;
    }

    private struct ClipArguments
    {
        public nint Progress;
        public nint Taken;
        public nint Squares;
        public int Parts;
        public double MostNorm;
    }

    private struct StepArguments(AdamStep step) : ICudaWork
    {
        public readonly CudaWork WorkOf(long blocks) => new(0, sizeof(float) * 7.0 * Length);

        public nint Progress;
        public nint Corrections;
        public nint Taken;
        public nint Parameters;
        public nint Gradient;
        public nint First;
        public nint Second;
        public long Length;
        public nint Adapted;
        private readonly float rate = step.Rate;
        private readonly float beta1 = step.Beta1;
        private readonly float beta2 = step.Beta2;
        private readonly float oneMinusBeta1 = step.OneMinusBeta1;
        private readonly float oneMinusBeta2 = step.OneMinusBeta2;
        private readonly float epsilon = step.Epsilon;
        private readonly float floor = step.Floor;
        private readonly float coupledDecay = step.CoupledDecay;
        private readonly float decoupledDecay = step.DecoupledDecay;
    }
}
