using Distill.Compute.Cuda;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using Distill.Networks.Cuda;

namespace Distill.Policies.Cuda;

/// <summary>
/// Several policies without memory at work in quadrotors on a GPU, each in its own environments, with the bits of
/// <see cref="PolicyTeacher"/>. What they see is put into panels of each one's environments, which all go through the networks at once.
/// </summary>
internal sealed class CudaTeachers : ICudaPolicy
{
    private readonly CudaQuadrotors drones;
    private readonly int group;
    private readonly int actions;
    private readonly int samples;
    private readonly CudaNetworkStack networks;
    private readonly CudaBuffer<float> observations;
    private readonly CudaBuffer<float> sorted;
    private readonly CudaBuffer<float> outputs;
    private readonly CudaBuffer<int> environmentOf;
    private readonly CudaBuffer<int> sampleOf;
    private readonly CudaBuffer<float> means;
    private readonly CudaBuffer<float> scales;
    private readonly CudaKernel<LanesArguments> gather;

    /// <param name="assignment"><c>[lanes]</c>: index of the policy of each, those past the environments included.</param>
    /// <exception cref="DistillException">They are of a kind that does not run there yet.</exception>
    private CudaTeachers(
        CudaDevice device,
        CudaQuadrotors drones,
        QuadrotorEnvironment environment,
        IReadOnlyList<Policy> policies,
        ReadOnlySpan<int> assignment
    )
    {
        CudaPolicy.RefuseWhatCannotBe(policies[0], "teacher");
        if (policies[0].MemorySize > 0)
            throw new DistillException(
                "device=cuda cannot run several teachers that remember yet; use device=cpu."
            );
        if (policies.Any(policy => !Alike(policy, policies[0])))
            throw new DistillException(
                "device=cuda cannot run these teachers yet: they must have the same layers and read the same observation group; use "
                    + "device=cpu."
            );
        this.drones = drones;
        group = environment.Spec.Group(policies[0].ObservationGroup);
        actions = environment.Spec.Actions.Size;
        Inputs = policies[0].Network.Spec.Inputs;
        var (environments, networksOfPanels) = Sorted(assignment, policies.Count);
        samples = environments.Length;
        networks = new(device, [.. policies.Select(policy => policy.Network)], networksOfPanels);
        observations = new(device, drones.Lanes * Inputs, "observations");
        sorted = new(device, (long)samples * Inputs, "observations");
        outputs = new(device, drones.Lanes * actions, "actions");
        environmentOf = new(device, samples, "the teachers");
        environmentOf.Write(environments);
        var places = new int[assignment.Length];
        for (var sample = 0; sample < samples; sample++)
            places[environments[sample]] = sample;
        sampleOf = new(device, drones.Lanes, "the teachers");
        sampleOf.Write(places);
        means = new(device, (long)policies.Count * Inputs, "the teachers");
        scales = new(device, (long)policies.Count * Inputs, "the teachers");
        scales.Fill(BitConverter.SingleToUInt32Bits(1));
        for (var i = 0; i < policies.Count; i++)
            if (policies[i].Normalizer is { } normalizer)
            {
                means.Write(normalizer.Mean, (long)i * Inputs);
                scales.Write(normalizer.Scale, (long)i * Inputs);
            }
        gather = device.Kernel<LanesArguments>("gather_lanes");
    }

    public int Inputs { get; }

    public CudaPanels Observations => CudaPanels.Of(observations, Inputs);

    public CudaPanels Outputs => CudaPanels.Of(outputs, actions);

    public CudaBuffer<float>? Memory => null;

    /// <summary>A teacher of these environments there; what it gives are its deterministic actions.</summary>
    /// <exception cref="DistillException">It is of a kind that does not run there yet.</exception>
    public static ICudaPolicy Of(
        CudaDevice device,
        CudaQuadrotors drones,
        QuadrotorEnvironment environment,
        ITeacher teacher
    ) =>
        teacher switch
        {
            PolicyTeacher { ByEnvironment: { Policies: [var policy] } } => new CudaPolicy(
                device,
                drones,
                environment,
                policy,
                "teacher"
            ),
            PolicyTeacher { ByEnvironment: { } several } => new CudaTeachers(
                device,
                drones,
                environment,
                several.Policies,
                several.Assignment
            ),
            _ => throw new DistillException(
                "device=cuda cannot run this teacher yet: it must be one policy, or one for each variant; use device=cpu."
            ),
        };

    public void Act(CudaPanels keeps)
    {
        drones.Observe(group, observations);
        gather.Start(
            new()
            {
                From = Observations,
                To = CudaPanels.Of(sorted, Inputs),
                Sources = environmentOf.Address,
                Networks = networks.OfPanels,
                Means = means.Address,
                Scales = scales.Address,
                Samples = (uint)samples,
                Features = Inputs,
            },
            (long)samples * Inputs
        );
        networks.Forward(CudaPanels.Of(sorted, Inputs));
        gather.Start(
            new()
            {
                From = networks.Outputs,
                To = Outputs,
                Sources = sampleOf.Address,
                Samples = (uint)drones.Lanes,
                Features = actions,
            },
            drones.Lanes * actions
        );
    }

    public void Dispose()
    {
        networks.Dispose();
        observations.Dispose();
        sorted.Dispose();
        outputs.Dispose();
        environmentOf.Dispose();
        sampleOf.Dispose();
        means.Dispose();
        scales.Dispose();
    }

    private static bool Alike(Policy one, Policy other) =>
        one.ObservationGroup == other.ObservationGroup
        && one.Network.Spec.Inputs == other.Network.Spec.Inputs
        && one.Network.Spec.Head == other.Network.Spec.Head
        && one.Network.Spec.Layers.SequenceEqual(other.Network.Spec.Layers);

    /// <summary>The environments of each policy side by side, in whole panels.</summary>
    /// <returns>
    /// <c>[samples]</c>: each one's environment, a panel's first again where it is not full; and <c>[panels]</c>: whose it is.
    /// </returns>
    private static (int[] Environments, int[] Policies) Sorted(ReadOnlySpan<int> assignment, int policies)
    {
        var own = new List<int>[policies];
        for (var i = 0; i < policies; i++)
            own[i] = [];
        for (var lane = 0; lane < assignment.Length; lane++)
            own[assignment[lane]].Add(lane);
        var panels = own.Index()
            .SelectMany(one =>
                one.Item.Chunk(Panel.Width).Select(lanes => (Policy: one.Index, Environments: lanes))
            )
            .ToArray();
        return (
            [
                .. panels.SelectMany(panel =>
                    panel.Environments.Concat(
                        Enumerable.Repeat(panel.Environments[0], Panel.Width - panel.Environments.Length)
                    )
                ),
            ],
            [.. panels.Select(panel => panel.Policy)]
        );
    }

    // The record of cuda/networks.cu.

    private struct LanesArguments
    {
        public CudaPanels From;
        public CudaPanels To;
        public nint Sources;
        public nint Networks;
        public nint Means;
        public nint Scales;
        public uint Samples;
        public int Features;
    }
}
