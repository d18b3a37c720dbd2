using Distill.Compute.Cuda;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using Distill.Networks.Cuda;
using Distill.Policies;
using Distill.Policies.Cuda;

namespace Distill.Algorithms;

/// <summary>
/// What <see cref="RolloutCollector"/> does, in the memory of a GPU and with its bits: teacher and student look, one of them drives, the
/// drones fly, and rows are written, step after step without a word from the machine. Then it is told rewards and marks, 8 bytes a row,
/// and what was not finite.
/// </summary>
internal sealed class CudaCollector : IDisposable
{
    private const int ValidMark = 1;
    private const int StartMark = 2;
    private const int TerminatedMark = 4;
    private const int TruncatedMark = 8;

    // In the order of cuda/collection.cu.
    private static readonly string[] Quantities =
    [
        "teacher's observation",
        "teacher's action",
        "student's observation",
        "student's action",
        "reward",
    ];

    private readonly Rollout rollout;
    private readonly RolloutCollector collector;
    private readonly PolicyTeacher labelling;
    private readonly RandomStream acting;
    private readonly bool wholeEpisodes;
    private readonly CudaQuadrotors drones;
    private readonly CudaPolicy teacher;
    private readonly CudaPolicy student;
    private readonly CudaFiniteWatch watch;
    private readonly CudaBuffer<float> rows;
    private readonly CudaBuffer<float> rewards;
    private readonly CudaBuffer<int> marks;
    private readonly CudaBuffer<float> keeps;
    private readonly CudaBuffer<float> alive;
    private readonly CudaBuffer<float> actions;
    private readonly CudaBuffer<float> outcomes;
    private readonly CudaBuffer<float>? memories;
    private readonly CudaStatistics? statistics;
    private readonly CudaKernel<ChooseArguments> choose;
    private readonly CudaKernel<TakeArguments> take;
    private readonly CudaKernel<RecordArguments> record;
    private readonly CudaKernel<StatisticsArguments> sum;
    private readonly int[] markOf;
    private readonly RolloutRows all;

    /// <param name="collector">Whose environments, policies and counters these are; it stays as it is until <see cref="Download"/>.</param>
    /// <param name="rollout">Is given rewards and marks; its rows stay on the device.</param>
    /// <param name="acting">Draws who drives.</param>
    /// <exception cref="DistillException">A policy is of a kind that does not run there yet.</exception>
    public CudaCollector(
        CudaDevice device,
        RolloutCollector collector,
        QuadrotorEnvironment environment,
        Policy student,
        Rollout rollout,
        RandomStream acting,
        bool wholeEpisodes
    )
    {
        (this.collector, this.rollout, this.acting) = (collector, rollout, acting);
        this.wholeEpisodes = wholeEpisodes;
        if (collector.Teacher is not PolicyTeacher { Only: { } advisor } labelling)
            throw new DistillException(
                "device=cuda cannot run this teacher yet: it must be one policy that gives its deterministic action; use device=cpu."
            );
        this.labelling = labelling;
        drones = new(device, environment);
        teacher = new(device, drones, environment, advisor, "teacher");
        this.student = new(device, drones, environment, student, "student");
        watch = new(device, environment.Count, Quantities);
        var lanes = drones.Lanes;
        var columns = rollout.Table.Columns.Size;
        rows = new(device, (long)rollout.Rows * columns, "the rollout");
        rewards = new(device, rollout.Rows, "the rollout");
        marks = new(device, rollout.Rows, "the rollout");
        keeps = new(device, lanes, "the rollout");
        alive = new(device, lanes, "the rollout");
        actions = new(device, lanes * environment.Spec.Actions.Size, "actions");
        outcomes = new(device, lanes * StepOutcome.Rows, "outcomes");
        if (student.MemorySize > 0)
            memories = new(device, rollout.Memory.Length, "the student's memory");
        if (this.student.Normalizer is { } normalizer)
            statistics = new(device, normalizer, rollout.Envs);
        choose = device.Kernel<ChooseArguments>("choose_actions");
        take = device.Kernel<TakeArguments>("take_outcomes");
        record = device.Kernel<RecordArguments>("record_memory");
        sum = device.Kernel<StatisticsArguments>("sum_deviations");
        markOf = new int[rollout.Rows];
        all = new()
        {
            Rows = rows.Address,
            Rewards = rewards.Address,
            Marks = marks.Address,
            Keeps = keeps.Address,
            Alive = alive.Address,
            Findings = watch.Address,
            Envs = (uint)rollout.Envs,
            Lanes = (uint)lanes,
            Steps = rollout.Steps,
            Columns = columns,
        };
        Upload();
    }

    /// <summary>The student's network and normalizer there.</summary>
    public CudaPolicy Student => student;

    /// <summary><c>[envs, steps, columns]</c>.</summary>
    public CudaBuffer<float> Rows => rows;

    /// <summary><c>[envs, steps]</c>: Mark of <c>cuda/collection.cu</c>.</summary>
    public CudaBuffer<int> Marks => marks;

    /// <summary><c>[envs, steps / sequence, memory]</c>; null for a student without.</summary>
    public CudaBuffer<float>? Memories => memories;

    /// <summary>As <see cref="RolloutCollector.Collect"/>.</summary>
    /// <exception cref="DistillException">An observation, an action or a reward of a valid row is not finite.</exception>
    public void Collect(double teacherShare, int iteration)
    {
        alive.Fill(BitConverter.SingleToUInt32Bits(1));
        watch.Clear();
        if (wholeEpisodes)
        {
            drones.Restart();
            keeps.Clear();
        }
        for (var step = 0; step < rollout.Steps; step++)
            Step(step, teacherShare);
        ReadMarks();
        watch.Check(iteration);
        collector.Steps += rollout.Steps;
    }

    /// <summary>Merges what the student saw into its normalizer.</summary>
    public void Normalize()
    {
        if (statistics is null)
            return;
        var (sums, squares) = statistics.Moments;
        var features = student.Normalizer!.Size;
        sum.Start(
            new()
            {
                Rollout = all,
                Mean = student.Normalizer.Mean,
                Sums = sums.Address,
                Squares = squares.Address,
                Features = features,
                Panels = Panel.Count(rollout.Envs),
            },
            sums.Length
        );
        statistics.Merge(rollout.Valid.AsSpan().Count((byte)1));
    }

    /// <summary>Takes what the collector and its environments remember.</summary>
    public void Upload()
    {
        drones.Upload();
        Span<float> keep = new float[collector.Starting.Length];
        for (var lane = 0; lane < keep.Length; lane++)
            keep[lane] = 1 - collector.Starting[lane];
        keeps.Write(keep);
        teacher.Memory?.Write(labelling.Memories);
        student.Memory?.Write(collector.StudentMemories);
        student.Normalizer?.Upload();
    }

    /// <summary>Gives it back.</summary>
    public void Download()
    {
        drones.Download();
        Span<float> keep = new float[collector.Starting.Length];
        keeps.Read(keep);
        for (var lane = 0; lane < keep.Length; lane++)
            collector.Starting[lane] = keep[lane] == 0 ? (byte)1 : (byte)0;
        teacher.Memory?.Read(labelling.Memories);
        student.Memory?.Read(collector.StudentMemories);
    }

    public void Dispose()
    {
        drones.Dispose();
        teacher.Dispose();
        student.Dispose();
        rows.Dispose();
        rewards.Dispose();
        marks.Dispose();
        keeps.Dispose();
        alive.Dispose();
        watch.Dispose();
        actions.Dispose();
        outcomes.Dispose();
        memories?.Dispose();
        statistics?.Dispose();
    }

    private void Step(int step, double teacherShare)
    {
        var starts = CudaPanels.Of(keeps, 1);
        if (memories is not null && step % rollout.Sequence == 0)
            record.Start(
                new()
                {
                    Rollout = all,
                    Memory = CudaPanels.Of(student.Memory!, rollout.MemorySize),
                    Records = memories.Address,
                    MemorySize = rollout.MemorySize,
                    Sequence = step / rollout.Sequence,
                    Sequences = rollout.Steps / rollout.Sequence,
                },
                rollout.Envs
            );
        teacher.Act(starts);
        student.Act(starts);
        choose.Start(
            new()
            {
                Rollout = all,
                TeacherSees = teacher.Observations,
                TeacherSays = teacher.Outputs,
                StudentSees = student.Observations,
                StudentSays = student.Outputs,
                Actions = CudaPanels.Of(actions, rollout.Table.Columns[1].Size),
                TeacherInputs = teacher.Inputs,
                StudentInputs = student.Inputs,
                ActionSize = rollout.Table.Columns[1].Size,
                Step = step,
                Time = (uint)(collector.Steps + step),
                Share = teacherShare,
                Acting = new(acting),
            },
            all.Lanes
        );
        drones.Step(actions, outcomes);
        take.Start(
            new()
            {
                Rollout = all,
                Outcomes = outcomes.Address,
                Step = step,
                WholeEpisodes = wholeEpisodes ? 1 : 0,
            },
            all.Lanes
        );
    }

    /// <summary>Gives the machine's rollout what episodes are counted by.</summary>
    private void ReadMarks()
    {
        rewards.Read(rollout.Rewards.Span);
        marks.Read(markOf);
        for (var row = 0; row < markOf.Length; row++)
        {
            var mark = markOf[row];
            rollout.Valid[row] = (byte)(mark & ValidMark);
            rollout.EpisodeStart[row] = (byte)((mark & StartMark) / StartMark);
            rollout.Ends[row] =
                (mark & TerminatedMark) != 0 ? EpisodeEnd.Terminated
                : (mark & TruncatedMark) != 0 ? EpisodeEnd.Truncated
                : EpisodeEnd.None;
        }
    }

    // The records of cuda/collection.cu.

    private struct RolloutRows
    {
        public nint Rows;
        public nint Rewards;
        public nint Marks;
        public nint Keeps;
        public nint Alive;
        public nint Findings;
        public uint Envs;
        public uint Lanes;
        public int Steps;
        public int Columns;
    }

    private struct ChooseArguments
    {
        public RolloutRows Rollout;
        public CudaPanels TeacherSees;
        public CudaPanels TeacherSays;
        public CudaPanels StudentSees;
        public CudaPanels StudentSays;
        public CudaPanels Actions;
        public int TeacherInputs;
        public int StudentInputs;
        public int ActionSize;
        public int Step;
        public uint Time;
        public double Share;
        public CudaStream Acting;
    }

    private struct TakeArguments
    {
        public RolloutRows Rollout;
        public nint Outcomes;
        public int Step;
        public int WholeEpisodes;
    }

    private struct RecordArguments
    {
        public RolloutRows Rollout;
        public CudaPanels Memory;
        public nint Records;
        public int MemorySize;
        public int Sequence;
        public int Sequences;
    }

    private struct StatisticsArguments
    {
        public RolloutRows Rollout;
        public nint Mean;
        public nint Sums;
        public nint Squares;
        public int Features;
        public int Panels;
    }
}
