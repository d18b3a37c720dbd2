using System.Runtime.CompilerServices;
using Distill.Compute.Cuda;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// A batch of quadrotors in the memory of a GPU, in the layout and with the bits of <see cref="QuadrotorEnvironment"/>. All of them
/// step at once, and what they are shown and told is in the GPU's memory, too.
/// </summary>
internal sealed class CudaQuadrotors : IDisposable
{
    private const int MostComponents = 8;

    private readonly QuadrotorEnvironment environment;
    private readonly CudaBuffer<float> states;
    private readonly CudaBuffer<float> constants;
    private readonly CudaBuffer<int> blocks;
    private readonly CudaKernel<StepArguments> step;
    private readonly CudaKernel<RestartArguments> restart;
    private readonly CudaKernel<ObserveArguments> observe;
    private readonly Quadrotors drones;

    /// <param name="environment">What they are and where they begin; it stays as it is until <see cref="Download"/>.</param>
    public CudaQuadrotors(CudaDevice device, QuadrotorEnvironment environment)
    {
        this.environment = environment;
        states = new(device, environment.States.Length, "the drones' states");
        constants = new(device, environment.Constants.Length, "the drones' parameters");
        blocks = new(device, environment.Blocks.Length, "the drones' blocks");
        constants.Write(environment.Constants);
        blocks.Write(environment.Blocks);
        Upload();
        step = device.Kernel<StepArguments>("quadrotor_step");
        restart = device.Kernel<RestartArguments>("quadrotor_restart");
        observe = device.Kernel<ObserveArguments>("quadrotor_observe");
        drones = new()
        {
            Rules = new(environment.Rules),
            Count = (uint)(Panel.Count(environment.Count) * Panel.Width),
            States = states.Address,
            Constants = constants.Address,
            Blocks = blocks.Address,
        };
    }

    /// <summary>Lanes: environments, and what fills their last panel.</summary>
    public long Lanes => drones.Count;

    /// <summary>Takes the states of the environment.</summary>
    public void Upload() => states.Write(environment.States);

    /// <summary>Gives the states to the environment, for checkpoints and for whoever looks.</summary>
    public void Download() => states.Read(environment.States);

    /// <summary>One step of all; an episode that ends is followed by the next in the same step.</summary>
    /// <param name="actions"><c>[panels, 4, 32]</c>.</param>
    /// <param name="outcomes"><c>[panels, rows, 32]</c>, written: as <see cref="StepOutcome"/>; with measures where there are rows for them.</param>
    public void Step(CudaBuffer<float> actions, CudaBuffer<float> outcomes) =>
        Advance(actions, outcomes, true);

    /// <summary>One step of all that leaves environments whose episode ended in its last state.</summary>
    public void Advance(CudaBuffer<float> actions, CudaBuffer<float> outcomes) =>
        Advance(actions, outcomes, false);

    /// <summary>New episodes where one ended.</summary>
    public void Restart(CudaBuffer<float> outcomes) =>
        restart.Start(
            new()
            {
                Drones = drones,
                Outcomes = outcomes.Address,
                OutcomeRows = Rows(outcomes),
            },
            Lanes
        );

    /// <summary>New episodes everywhere.</summary>
    public void Restart() => restart.Start(new() { Drones = drones, OutcomeRows = 1 }, Lanes);

    /// <summary>What an observation group shows.</summary>
    /// <param name="observations"><c>[panels, size, 32]</c>, written.</param>
    public void Observe(int group, CudaBuffer<float> observations)
    {
        var components = QuadrotorViews.All[group].Components;
        var arguments = new ObserveArguments
        {
            Drones = drones,
            Observations = observations.Address,
            Rows = Rows(observations),
            Count = components.Length,
        };
        components.CopyTo((Span<QuadrotorComponent>)arguments.Components);
        observe.Start(arguments, Lanes);
    }

    public void Dispose()
    {
        states.Dispose();
        constants.Dispose();
        blocks.Dispose();
    }

    private int Rows(CudaBuffer<float> panels) => (int)(panels.Length / Lanes);

    private void Advance(CudaBuffer<float> actions, CudaBuffer<float> outcomes, bool restarts) =>
        step.Start(
            new()
            {
                Drones = drones,
                Actions = actions.Address,
                Outcomes = outcomes.Address,
                OutcomeRows = Rows(outcomes),
                Restarts = restarts ? 1 : 0,
            },
            Lanes
        );

    // The records of cuda/quadrotor.cuh and cuda/quadrotor.cu.

    private readonly struct Rules(QuadrotorRules rules)
    {
        private readonly int episodeLimit = rules.EpisodeLimit;
        private readonly ReferenceMotion motion = rules.Motion;
        private readonly int velocityCosts = rules.VelocityCosts ? 1 : 0;
        private readonly float loopRate = rules.LoopRate;
        private readonly float loopSize = rules.LoopSize;
        private readonly float loopRamp = rules.LoopRamp;
        private readonly float loopSpeed = MathF.Tau * rules.LoopRate;
        private readonly CudaStream resets = new(rules.ResetStream);
        private readonly CudaStream langevin = new(rules.LangevinStream);
    }

    private struct Quadrotors
    {
        public Rules Rules;
        public uint Count;
        public nint States;
        public nint Constants;
        public nint Blocks;
    }

    private struct StepArguments : ICudaWork
    {
        /// <summary>States are read and written, parameters read; where all fly one drone these are in cache.</summary>
        public readonly CudaWork WorkOf(long blocks) =>
            new(0, sizeof(float) * 2.0 * QuadrotorFields.Total * Drones.Count);

        public Quadrotors Drones;
        public nint Actions;
        public nint Outcomes;
        public int OutcomeRows;
        public int Restarts;
    }

    private struct RestartArguments
    {
        public Quadrotors Drones;
        public nint Outcomes;
        public int OutcomeRows;
    }

    private struct ObserveArguments
    {
        public Quadrotors Drones;
        public nint Observations;
        public int Rows;
        public int Count;
        public ComponentList Components;
    }

    [InlineArray(MostComponents)]
    private struct ComponentList
    {
        private QuadrotorComponent first;
    }
}
