using Distill.Compute.Cuda;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using Distill.Networks.Cuda;

namespace Distill.Policies.Cuda;

/// <summary>A policy at work in quadrotors on a GPU, with the bits of <see cref="ActingPolicy"/>.</summary>
internal sealed class CudaPolicy : ICudaPolicy
{
    private readonly CudaQuadrotors drones;
    private readonly int group;
    private readonly int inputs;
    private readonly int panels;
    private readonly CudaBuffer<float> observations;
    private readonly CudaBuffer<float>? normalized;
    private readonly CudaBuffer<float> activations;
    private readonly CudaBuffer<float>? memory;
    private readonly CudaKernel<NormalizeArguments> normalize;

    /// <param name="role">For messages: "teacher" or "student".</param>
    /// <exception cref="DistillException">It is of a kind that does not run there yet.</exception>
    public CudaPolicy(
        CudaDevice device,
        CudaQuadrotors drones,
        QuadrotorEnvironment environment,
        Policy policy,
        string role
    )
    {
        RefuseWhatCannotBe(policy, role);
        this.drones = drones;
        group = environment.Spec.Group(policy.ObservationGroup);
        inputs = policy.Network.Spec.Inputs;
        panels = (int)(drones.Lanes / Panel.Width);
        Network = new(device, policy.Network);
        observations = new(device, drones.Lanes * inputs, "observations");
        activations = new(device, drones.Lanes * Network.ActivationSize, "activations");
        normalize = device.Kernel<NormalizeArguments>("normalize");
        if (policy.Normalizer is { } statistics)
        {
            Normalizer = new(device, statistics);
            normalized = new(device, drones.Lanes * inputs, "observations");
        }
        if (Network.MemorySize > 0)
            memory = new(device, drones.Lanes * Network.MemorySize, "a policy's memory");
    }

    public CudaNetwork Network { get; }

    public CudaNormalizer? Normalizer { get; }

    public int Inputs => inputs;

    public CudaPanels Observations => CudaPanels.Of(observations, inputs);

    /// <summary><c>[panels, inputs, 32]</c>: what its network reads.</summary>
    public CudaPanels Seen => CudaPanels.Of(normalized ?? observations, inputs);

    public CudaPanels Outputs => Network.Outputs(CudaPanels.Of(activations, Network.ActivationSize));

    public CudaBuffer<float>? Memory => memory;

    /// <param name="role">For messages.</param>
    /// <exception cref="DistillException">It is of a kind that does not run there yet.</exception>
    public static void RefuseWhatCannotBe(Policy policy, string role)
    {
        if (policy.Network.Spec.Head is not (Head.Plain or Head.Gaussian))
            throw new DistillException(
                $"device=cuda cannot run this {role} yet: its head is {SettingCheck.Word(policy.Network.Spec.Head)}, not plain or gaussian; use "
                    + "device=cpu."
            );
        if (policy.ObservationGroup.Contains('+'))
            throw new DistillException(
                $"device=cuda cannot run this {role} yet: it reads several observation groups, {policy.ObservationGroup}; use device=cpu."
            );
    }

    public void Act(CudaPanels keeps)
    {
        Look();
        Answer(Seen, keeps);
    }

    /// <summary>Observes, and normalizes.</summary>
    public void Look()
    {
        drones.Observe(group, observations);
        if (normalized is not null)
            normalize.Start(
                new()
                {
                    From = Observations,
                    To = CudaPanels.Of(normalized, inputs),
                    Mean = Normalizer!.Mean,
                    Scale = Normalizer.Scale,
                    Samples = (uint)drones.Lanes,
                    Features = inputs,
                },
                drones.Lanes * inputs
            );
    }

    /// <summary>Says what it would do where it sees this.</summary>
    /// <param name="seen"><c>[panels, inputs, 32]</c>, normalized.</param>
    /// <param name="keeps">See <see cref="Act"/>; nothing for a policy without memory.</param>
    public void Answer(CudaPanels seen, CudaPanels keeps = default) =>
        Network.Forward(
            new(panels, 1, Panel.Width),
            seen,
            memory is null ? default : new(keeps, CudaPanels.Of(memory, Network.MemorySize)),
            CudaPanels.Of(activations, Network.ActivationSize)
        );

    public void Dispose()
    {
        Network.Dispose();
        Normalizer?.Dispose();
        observations.Dispose();
        normalized?.Dispose();
        activations.Dispose();
        memory?.Dispose();
    }

    // The record of cuda/collection.cu.

    private struct NormalizeArguments
    {
        public CudaPanels From;
        public CudaPanels To;
        public nint Mean;
        public nint Scale;
        public uint Samples;
        public int Features;
    }
}
