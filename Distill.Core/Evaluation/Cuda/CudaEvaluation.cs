using Distill.Compute.Cuda;
using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Networks.Cuda;
using Distill.Policies;
using Distill.Policies.Cuda;

namespace Distill.Evaluation;

/// <summary>The episodes of an <see cref="Evaluator"/> in the memory of a GPU, with its bits.</summary>
internal sealed class CudaEvaluation : IDisposable
{
    // Between two looks at which episodes go on.
    private const int StepsAtATime = 32;

    private readonly CudaDevice device;
    private readonly QuadrotorEnvironment environment;
    private readonly CudaQuadrotors drones;
    private readonly int measureCount;
    private readonly CudaBuffer<float> actions;
    private readonly CudaBuffer<float> outcomes;
    private readonly CudaBuffer<float> keeps;
    private readonly CudaBuffer<float> returns;
    private readonly CudaBuffer<int> lengths;
    private readonly CudaBuffer<int> terminated;
    private readonly CudaBuffer<float> measures;
    private readonly CudaSteps steps;
    private readonly CudaKernel<CopyFeaturesArguments> copy;
    private readonly CudaKernel<EvaluateArguments> evaluate;

    private CudaEvaluation(QuadrotorEnvironment environment)
    {
        this.environment = environment;
        device = new CudaDevice();
        try
        {
            measureCount = environment.Spec.Measures.Count;
            drones = new(device, environment);
            actions = new(device, drones.Lanes * environment.Spec.Actions.Size, "actions");
            outcomes = new(device, drones.Lanes * (StepOutcome.Rows + measureCount), "outcomes");
            keeps = new(device, drones.Lanes, "an evaluation");
            returns = new(device, environment.Count, "an evaluation");
            lengths = new(device, environment.Count, "an evaluation");
            terminated = new(device, environment.Count, "an evaluation");
            measures = new(device, (long)measureCount * environment.Count, "an evaluation");
            steps = new(device, drones.Lanes);
            copy = device.Kernel<CopyFeaturesArguments>("copy_features");
            evaluate = device.Kernel<EvaluateArguments>("evaluate_step");
            keeps.Fill(BitConverter.SingleToUInt32Bits(1));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <param name="environment">Whose episodes these are, one each.</param>
    /// <returns>Null where there is no GPU, or not the memory.</returns>
    public static CudaEvaluation? TryCreate(QuadrotorEnvironment environment)
    {
        try
        {
            return new(environment);
        }
        catch (DistillException)
        {
            return null;
        }
    }

    /// <summary>Kernels that were started.</summary>
    public long Launches => device.Launches;

    /// <summary>Whether evaluations in these environments can be there.</summary>
    public static bool IsPossible(IBatchedEnvironment environment, int episodes) =>
        environment is QuadrotorEnvironment
        && environment.Count == episodes
        && environment.Spec.Measures.All(measure => measure.Over == MeasureOver.Mean);

    /// <summary>Evaluates a policy.</summary>
    /// <inheritdoc cref="Run(Func{ICudaPolicy}, string, string, Evaluator.Results)"/>
    public bool Run(Policy policy, Evaluator.Results results) =>
        Run(() => new CudaPolicy(device, drones, environment, policy, "policy"), "", "policy's ", results);

    /// <summary>Evaluates what labels these environments.</summary>
    /// <inheritdoc cref="Run(Func{ICudaPolicy}, string, string, Evaluator.Results)"/>
    public bool Run(ITeacher teacher, Evaluator.Results results) =>
        Run(() => CudaTeachers.Of(device, drones, environment, teacher), "teacher's ", "teacher's ", results);

    /// <summary>Runs one episode in each environment, from their first.</summary>
    /// <param name="make">Makes who acts.</param>
    /// <param name="eyes">For messages: whose observations, and</param>
    /// <param name="hands">whose actions these are.</param>
    /// <param name="results">Written.</param>
    /// <returns>Whether that could be there; if not, nothing was done.</returns>
    /// <exception cref="DistillException">An observation, an action or a reward is not finite; or a kernel failed.</exception>
    private bool Run(Func<ICudaPolicy> make, string eyes, string hands, Evaluator.Results results)
    {
        device.Use();
        ICudaPolicy acting;
        try
        {
            acting = make();
        }
        catch (DistillException)
        {
            return false;
        }
        using (acting)
        using (
            var watch = new CudaFiniteWatch(
                device,
                environment.Count,
                [$"{eyes}observation", $"{hands}action", "reward"]
            )
        )
        {
            Begin();
            var limit = environment.Spec.EpisodeLimit;
            for (var first = 0; first < limit && GoesOn(first, results.Lengths); first += StepsAtATime)
                steps.Run(first, Math.Min(StepsAtATime, limit - first), step => Step(acting, watch, step));
            watch.Check();
        }
        Read(results);
        return true;
    }

    public void Dispose()
    {
        device.Use();
        // Where the constructor ended early, not all are there.
        drones?.Dispose();
        actions?.Dispose();
        outcomes?.Dispose();
        keeps?.Dispose();
        returns?.Dispose();
        lengths?.Dispose();
        terminated?.Dispose();
        measures?.Dispose();
        steps?.Dispose();
        device.Dispose();
    }

    private void Begin()
    {
        environment.Rewind();
        drones.Upload();
        drones.Restart();
        returns.Clear();
        lengths.Clear();
        measures.Clear();
    }

    /// <summary>Whether an episode may go on.</summary>
    /// <param name="lengths"><c>[episodes]</c>, for a moment.</param>
    private bool GoesOn(int step, int[] lengths)
    {
        if (step == 0)
            return true;
        this.lengths.Read(lengths);
        return lengths.AsSpan().Contains(0);
    }

    private void Step(ICudaPolicy acting, CudaFiniteWatch watch, int step)
    {
        var size = environment.Spec.Actions.Size;
        acting.Act(CudaPanels.Of(keeps, 1));
        copy.Start(
            new()
            {
                From = acting.Outputs,
                To = CudaPanels.Of(actions, size),
                Samples = (uint)drones.Lanes,
                Features = size,
            },
            drones.Lanes * size
        );
        drones.Step(actions, outcomes);
        evaluate.Start(
            new()
            {
                Sees = acting.Observations,
                Says = acting.Outputs,
                Outcomes = CudaPanels.Of(outcomes, StepOutcome.Rows + measureCount),
                Returns = returns.Address,
                Lengths = lengths.Address,
                Terminated = terminated.Address,
                Measures = measures.Address,
                Findings = watch.Address,
                Episodes = (uint)environment.Count,
                Inputs = acting.Inputs,
                ActionSize = size,
                MeasureCount = measureCount,
                Step = step,
            },
            environment.Count
        );
    }

    private void Read(Evaluator.Results results)
    {
        returns.Read(results.Returns);
        lengths.Read(results.Lengths);
        var ends = new int[results.Terminated.Length];
        terminated.Read(ends);
        for (var episode = 0; episode < ends.Length; episode++)
            results.Terminated[episode] = ends[episode] != 0;
        for (var i = 0; i < measureCount; i++)
            measures.Read(results.Measures[i], (long)i * environment.Count);
    }

    // The record of cuda/networks.cu, and that of cuda/evaluation.cu.

    private struct CopyFeaturesArguments
    {
        public CudaPanels From;
        public CudaPanels To;
        public uint Samples;
        public int Features;
    }

    private struct EvaluateArguments
    {
        public CudaPanels Sees;
        public CudaPanels Says;
        public CudaPanels Outcomes;
        public nint Returns;
        public nint Lengths;
        public nint Terminated;
        public nint Measures;
        public nint Findings;
        public uint Episodes;
        public int Inputs;
        public int ActionSize;
        public int MeasureCount;
        public int Step;
    }
}
