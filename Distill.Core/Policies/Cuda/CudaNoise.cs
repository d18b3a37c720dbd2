using Distill.Compute.Cuda;
using Distill.Networks;
using Distill.Networks.Cuda;

namespace Distill.Policies.Cuda;

/// <summary>Draws around what Gaussian policies say, on a GPU, with the bits of <see cref="Policy.Decide"/> and <see cref="Policy.Explore"/>.</summary>
internal sealed class CudaNoise : IDisposable
{
    private readonly IReadOnlyList<Policy> policies;
    private readonly RandomStream noise;
    private readonly long lanes;
    private readonly int size;
    private readonly CudaBuffer<float> deviations;
    private readonly CudaBuffer<int> networks;
    private readonly CudaBuffer<float> actions;
    private readonly CudaKernel<DrawArguments> draw;

    /// <param name="policies">Gaussian ones.</param>
    /// <param name="assignment"><c>[lanes]</c>: index of the policy of each.</param>
    public CudaNoise(
        CudaDevice device,
        IReadOnlyList<Policy> policies,
        ReadOnlySpan<int> assignment,
        RandomStream noise
    )
    {
        (this.policies, this.noise) = (policies, noise);
        (lanes, size) = (assignment.Length, policies[0].Network.Spec.Outputs);
        deviations = new(device, (long)policies.Count * size, "standard deviations");
        networks = new(device, lanes, "standard deviations");
        networks.Write(assignment);
        actions = new(device, lanes * size, "actions");
        draw = device.Kernel<DrawArguments>("draw_actions");
        Upload();
    }

    /// <summary><c>[panels, actions, 32]</c>: what was drawn last.</summary>
    public CudaPanels Actions => CudaPanels.Of(actions, size);

    /// <summary>Takes the standard deviations.</summary>
    public void Upload()
    {
        var all = new float[deviations.Length];
        for (var i = 0; i < all.Length; i++)
            all[i] = Gaussian.Deviation(policies[i / size].Network["log_std"][i % size]);
        deviations.Write(all);
    }

    /// <summary>Draws.</summary>
    /// <param name="means"><c>[panels, actions, 32]</c>.</param>
    /// <param name="time">Steps since the start of training.</param>
    /// <param name="exploration">How far an action goes from the mean to a draw; null for a draw.</param>
    public void Draw(CudaPanels means, long time, float? exploration) =>
        draw.Start(
            new()
            {
                Means = means,
                Actions = Actions,
                Deviations = deviations.Address,
                Networks = networks.Address,
                Time = (uint)time,
                Epoch = (uint)(time >> 32),
                Lanes = (uint)lanes,
                ActionSize = size,
                Exploration = exploration ?? -1,
                Noise = new(noise),
            },
            lanes
        );

    public void Dispose()
    {
        deviations.Dispose();
        networks.Dispose();
        actions.Dispose();
    }

    // The record of cuda/collection.cu.

    private struct DrawArguments
    {
        public CudaPanels Means;
        public CudaPanels Actions;
        public nint Deviations;
        public nint Networks;
        public uint Time;
        public uint Epoch;
        public uint Lanes;
        public int ActionSize;
        public float Exploration;
        public CudaStream Noise;
    }
}
