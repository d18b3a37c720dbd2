using Distill.Compute.Cuda;
using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Networks.Cuda;
using Distill.Policies.Cuda;

namespace Distill.Algorithms;

/// <summary>
/// The collecting half of PPO in the memory of a GPU: actor and critic look, an action is drawn, the drones fly, and samples are recorded,
/// step after step without a word from the machine. Then it is told rewards and ends, and what was not finite.
/// </summary>
internal sealed class CudaPpoCollector : IDisposable
{
    // In the order of cuda/ppo.cu.
    private static readonly string[] Quantities =
    [
        "actor's observation",
        "critic's observation",
        "action",
        "value",
        "actor's observation",
        "critic's observation",
        "reward",
        "value",
    ];

    private readonly PpoParts parts;
    private readonly int steps;
    private readonly CudaQuadrotors drones;
    private readonly CudaPolicy actor;
    private readonly CudaPolicy critic;
    private readonly CudaStatistics? ofActor;
    private readonly CudaStatistics? ofCritic;
    private readonly CudaFiniteWatch watch;
    private readonly CudaBuffer<float> recorded;
    private readonly CudaBuffer<float> rewards;
    private readonly CudaBuffer<float> terminated;
    private readonly CudaBuffer<float> truncated;
    private readonly CudaBuffer<float> advantages;
    private readonly CudaBuffer<float>? beyond;
    private readonly CudaBuffer<float> values;
    private readonly CudaBuffer<float> actions;
    private readonly CudaBuffer<float> outcomes;
    private readonly CudaBuffer<int> restarts;
    private readonly CudaSteps joined;
    private readonly CudaKernel<MarkArguments> mark;
    private readonly CudaKernel<ActArguments> act;
    private readonly CudaKernel<ValueArguments> value;
    private readonly CudaKernel<TakeArguments> take;

    /// <exception cref="DistillException">A network is of a kind that does not run there yet.</exception>
    public CudaPpoCollector(CudaDevice device, PpoParts parts)
    {
        this.parts = parts;
        steps = parts.Config.StepsPerEnv;
        var environment = (QuadrotorEnvironment)parts.Environment;
        drones = new(device, environment);
        actor = new(device, drones, environment, parts.Actor.Policy, "actor");
        critic = new(device, drones, environment, parts.Critic.Policy, "critic");
        if (actor.Normalizer is { } shown)
            ofActor = new(device, shown, environment.Count);
        if (parts.Critic.Observes && critic.Normalizer is { } other)
            ofCritic = new(device, other, environment.Count);
        watch = new(device, environment.Count, Quantities);
        var lanes = drones.Lanes;
        recorded = new(device, lanes * steps * parts.Layout.Recorded, "the rollout");
        rewards = new(device, lanes * steps, "the rollout");
        terminated = new(device, lanes * steps, "the rollout");
        truncated = new(device, lanes * steps, "the rollout");
        advantages = new(device, lanes * steps, "the rollout");
        values = new(device, lanes * (steps + 1), "the rollout");
        if (parts.ValuesReached)
            beyond = new(device, lanes * steps, "the rollout");
        actions = new(device, lanes * parts.Layout.Action.Size, "actions");
        outcomes = new(device, lanes * StepOutcome.Rows, "outcomes");
        restarts = new(device, parts.Outcomes.Panels, "restarts");
        joined = new(device, lanes);
        mark = device.Kernel<MarkArguments>("mark_restarts");
        act = device.Kernel<ActArguments>("ppo_act");
        value = device.Kernel<ValueArguments>("ppo_value");
        take = device.Kernel<TakeArguments>("ppo_take");
        Rollout = new()
        {
            Layout = new(parts.Layout, parts.Critic.Observes),
            Recorded = recorded.Address,
            Rewards = rewards.Address,
            Terminated = terminated.Address,
            Truncated = truncated.Address,
            Advantages = advantages.Address,
            Beyond = beyond?.Address ?? 0,
            Values = values.Address,
            Findings = watch.Address,
            Envs = (uint)environment.Count,
            Lanes = (uint)lanes,
            Steps = steps,
        };
    }

    public CudaPpoRollout Rollout { get; }

    public CudaNetwork Actor => actor.Network;

    public CudaNetwork Critic => critic.Network;

    /// <summary>As <see cref="IPpoEngine.Restart"/>.</summary>
    public void Restart(ReadOnlySpan<int> panels)
    {
        if (panels.IsEmpty)
            return;
        restarts.Write(panels);
        outcomes.Clear();
        mark.Start(
            new()
            {
                Panels = restarts.Address,
                Outcomes = outcomes.Address,
                Count = panels.Length,
            },
            (long)panels.Length * Panel.Width
        );
        drones.Restart(outcomes);
    }

    /// <summary>As <see cref="IPpoEngine.Collect"/>.</summary>
    public void Collect(in PpoTurn turn)
    {
        watch.Clear();
        ofActor?.Clear();
        ofCritic?.Clear();
        var now = turn;
        joined.Run(0, steps, step => Step(now, step));
        Look();
        Value(steps);
        var all = parts.Outcomes.All;
        rewards.Read(all.Rewards.Span);
        terminated.Read(all.Terminated.Span);
        truncated.Read(all.Truncated.Span);
        watch.Check(turn.Iteration);
    }

    /// <summary>Merges what was seen into the normalizers.</summary>
    public void Normalize(in PpoTurn turn)
    {
        var count = (long)parts.Environment.Count * steps;
        if (!turn.Warming)
            ofActor?.Merge(count);
        ofCritic?.Merge(count);
    }

    /// <summary>Takes what the environments and the normalizers know.</summary>
    public void Upload()
    {
        drones.Upload();
        actor.Normalizer?.Upload();
        critic.Normalizer?.Upload();
    }

    /// <summary>Gives the environments' states back.</summary>
    public void Download() => drones.Download();

    public void Dispose()
    {
        drones.Dispose();
        actor.Dispose();
        critic.Dispose();
        ofActor?.Dispose();
        ofCritic?.Dispose();
        watch.Dispose();
        recorded.Dispose();
        rewards.Dispose();
        terminated.Dispose();
        truncated.Dispose();
        advantages.Dispose();
        beyond?.Dispose();
        values.Dispose();
        actions.Dispose();
        outcomes.Dispose();
        restarts.Dispose();
        joined.Dispose();
    }

    /// <summary>What the critic sees: by itself, or what the actor is shown.</summary>
    private CudaPanels Shown => parts.Critic.Observes ? critic.Seen : actor.Seen;

    private void Step(in PpoTurn turn, int step)
    {
        Look();
        // Statistics that move would move an actor that is to stay as it is.
        if (!turn.Warming)
            ofActor?.Add(actor.Observations);
        ofCritic?.Add(critic.Observations);
        actor.Answer(actor.Seen);
        critic.Answer(Shown);
        var time = turn.Steps + step;
        act.Start(
            new()
            {
                Rollout = Rollout,
                ActorSees = actor.Seen,
                CriticSees = Shown,
                Means = actor.Outputs,
                Values = critic.Outputs,
                LogStd = Actor.LogStd,
                Actions = CudaPanels.Of(actions, parts.Layout.Action.Size),
                Step = step,
                Time = (uint)time,
                Epoch = (uint)(time >> 32),
                Noise = new(parts.Noise),
            },
            drones.Lanes
        );
        if (parts.ValuesReached)
            drones.Advance(actions, outcomes);
        else
            drones.Step(actions, outcomes);
        if (parts.ValuesReached)
        {
            Look();
            Value(step, outcomes);
        }
        take.Start(
            new()
            {
                Rollout = Rollout,
                Outcomes = outcomes.Address,
                Step = step,
            },
            drones.Lanes
        );
        if (parts.ValuesReached)
            drones.Restart(outcomes);
    }

    private void Look()
    {
        actor.Look();
        if (parts.Critic.Observes)
            critic.Look();
    }

    /// <summary>Values the states that were looked at.</summary>
    /// <param name="arrived">What the step came to whose end this is; null after the rollout.</param>
    private void Value(int step, CudaBuffer<float>? arrived = null)
    {
        critic.Answer(Shown);
        value.Start(
            new()
            {
                Rollout = Rollout,
                ActorSees = actor.Seen,
                CriticSees = Shown,
                Values = critic.Outputs,
                Outcomes = arrived?.Address ?? 0,
                Step = step,
            },
            drones.Lanes
        );
    }

    // The records of cuda/ppo.cu.

    private struct MarkArguments
    {
        public nint Panels;
        public nint Outcomes;
        public int Count;
    }

    private struct ActArguments
    {
        public CudaPpoRollout Rollout;
        public CudaPanels ActorSees;
        public CudaPanels CriticSees;
        public CudaPanels Means;
        public CudaPanels Values;
        public nint LogStd;
        public CudaPanels Actions;
        public int Step;
        public uint Time;
        public uint Epoch;
        public CudaStream Noise;
    }

    private struct ValueArguments
    {
        public CudaPpoRollout Rollout;
        public CudaPanels ActorSees;
        public CudaPanels CriticSees;
        public CudaPanels Values;
        public nint Outcomes;
        public int Step;
    }

    private struct TakeArguments
    {
        public CudaPpoRollout Rollout;
        public nint Outcomes;
        public int Step;
    }
}
