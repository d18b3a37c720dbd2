using System.Diagnostics.CodeAnalysis;
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
    private const int HeldOutMark = 16;
    private const int FailedMark = 32;

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
    private readonly RandomStream acting;
    private readonly bool wholeEpisodes;
    private readonly CudaDevice device;
    private readonly QuadrotorEnvironment environment;
    private readonly CudaQuadrotors drones;
    private readonly CudaNoise? exploring;
    private readonly (Column Column, int Group, CudaBuffer<float> Observations)[] recorded;
    private readonly Column? studentAction;
    private ICudaPolicy teacher;
    private CudaNoise? drawing;
    private readonly CudaPolicy student;
    private readonly CudaFiniteWatch watch;
    private readonly CudaBuffer<float> rows;
    private readonly CudaBuffer<float> rewards;
    private readonly CudaBuffer<int> marks;
    private readonly CudaBuffer<float> keeps;
    private readonly CudaBuffer<float> alive;
    private readonly CudaBuffer<float> actions;
    private readonly CudaBuffer<float> outcomes;
    private readonly CudaBuffer<float>? correction;
    private readonly CudaBuffer<float>? memories;
    private readonly CudaStatistics? statistics;
    private readonly CudaSteps steps;
    private readonly int sequence;
    private readonly CudaKernel<ChooseArguments> choose;
    private readonly CudaKernel<TakeArguments> take;
    private readonly CudaKernel<ColumnArguments> recordColumn;
    private readonly CudaKernel<RecordArguments> record;
    private readonly CudaKernel<StatisticsArguments> sum;
    private readonly int[] markOf;
    private readonly RolloutRows all;

    /// <param name="collector">Whose environments, policies and counters these are; it stays as it is until <see cref="Download"/>.</param>
    /// <param name="rollout">Is given rewards and marks; its rows stay on the device.</param>
    /// <param name="acting">Draws who drives.</param>
    /// <param name="exploration">Draws the noise of a student that explores; null where it never does.</param>
    /// <exception cref="DistillException">A policy is of a kind that does not run there yet.</exception>
    public CudaCollector(
        CudaDevice device,
        RolloutCollector collector,
        QuadrotorEnvironment environment,
        Policy student,
        Rollout rollout,
        RandomStream acting,
        RandomStream? exploration,
        bool wholeEpisodes
    )
    {
        (this.collector, this.rollout, this.acting) = (collector, rollout, acting);
        (this.device, this.environment, this.wholeEpisodes) = (device, environment, wholeEpisodes);
        try
        {
            drones = new(device, environment);
            MakeTeacher();
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
            if (exploration is { } noise)
                exploring = new(device, [student], new int[lanes], noise);
            studentAction = rollout
                .Table.Columns.Skip(2)
                .Select(column => (Column?)column)
                .FirstOrDefault(column => column!.Value.Name == RolloutCollector.StudentAction);
            recorded =
            [
                .. rollout
                    .Table.Columns.Skip(2)
                    .Where(column => column != studentAction)
                    .Select(column =>
                        (
                            column,
                            environment.Spec.Group(column.Name),
                            new CudaBuffer<float>(device, lanes * column.Size, "what is recorded")
                        )
                    ),
            ];
            if (collector.Correction is not null)
                correction = new(
                    device,
                    lanes * rollout.Table.Columns[0].Size,
                    "what observations are corrected by"
                );
            if (student.MemorySize > 0)
                memories = new(device, rollout.Memory.Length, "the student's memory");
            if (this.student.Normalizer is { } normalizer)
                statistics = new(device, normalizer, rollout.Envs);
            // Only what a student remembers has to be recorded between.
            sequence = memories is null ? rollout.Steps : rollout.Sequence;
            steps = new(device, lanes);
            choose = device.Kernel<ChooseArguments>("choose_actions");
            take = device.Kernel<TakeArguments>("take_outcomes");
            recordColumn = device.Kernel<ColumnArguments>("record_column");
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
            WriteCorrection();
            Upload();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The student's network and normalizer there.</summary>
    public CudaPolicy Student => student;

    /// <summary><c>[envs, steps, columns]</c>.</summary>
    public CudaBuffer<float> Rows => rows;

    /// <summary><c>[envs, steps]</c>: Mark of <c>cuda/collection.cu</c>.</summary>
    public CudaBuffer<int> Marks => marks;

    /// <summary><c>[envs, steps / sequence, memory]</c>; null for a student without.</summary>
    public CudaBuffer<float>? Memories => memories;

    /// <summary>Takes over what the environments have become, and their teacher, which remembers nothing.</summary>
    /// <exception cref="DistillException">The GPU's memory is not enough.</exception>
    public void Assign()
    {
        drones.Assign();
        teacher.Dispose();
        drawing?.Dispose();
        MakeTeacher();
        WriteCorrection();
    }

    /// <summary>As <see cref="RolloutCollector.Collect"/>.</summary>
    /// <exception cref="DistillException">An observation, an action or a reward of a valid row is not finite.</exception>
    public void Collect(double teacherShare, int iteration, double exploration)
    {
        exploring?.Upload();
        alive.Fill(BitConverter.SingleToUInt32Bits(1));
        watch.Clear();
        if (wholeEpisodes)
        {
            drones.Restart();
            keeps.Clear();
        }
        for (var first = 0; first < rollout.Steps; first += sequence)
        {
            RecordMemory(first);
            steps.Run(first, sequence, step => Step(step, teacherShare, (float)exploration));
        }
        ReadMarks();
        watch.Check(iteration);
        collector.Steps += rollout.Steps;
    }

    /// <summary>Takes over which rows are held out, and which are of episodes that failed.</summary>
    public void WriteMarks()
    {
        for (var row = 0; row < markOf.Length; row++)
            markOf[row] |= rollout.HeldOut[row] * HeldOutMark | rollout.Failed[row] * FailedMark;
        marks.Write(markOf);
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
        teacher.Memory?.Write(((PolicyTeacher)collector.Teacher).Memories);
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
        teacher.Memory?.Read(((PolicyTeacher)collector.Teacher).Memories);
        student.Memory?.Read(collector.StudentMemories);
    }

    public void Dispose()
    {
        // Where the constructor ended early, not all are there.
        drones?.Dispose();
        teacher?.Dispose();
        student?.Dispose();
        rows?.Dispose();
        rewards?.Dispose();
        marks?.Dispose();
        keeps?.Dispose();
        alive?.Dispose();
        watch?.Dispose();
        actions?.Dispose();
        outcomes?.Dispose();
        drawing?.Dispose();
        exploring?.Dispose();
        foreach (var (_, _, observations) in recorded ?? [])
            observations.Dispose();
        correction?.Dispose();
        memories?.Dispose();
        statistics?.Dispose();
        steps?.Dispose();
    }

    [MemberNotNull(nameof(teacher))]
    private void MakeTeacher()
    {
        teacher = CudaTeachers.Of(device, drones, environment, collector.Teacher);
        if (
            collector.Teacher is PolicyTeacher { Noise: { } noise, ByEnvironment: var (policies, assignment) }
        )
            drawing = new(device, policies, assignment, noise);
    }

    /// <summary>Writes what else is wanted of a step.</summary>
    /// <param name="action"><c>[panels, actions, 32]</c>: the student's.</param>
    private void Record(int step, CudaPanels action)
    {
        foreach (var (column, group, observations) in recorded)
        {
            drones.Observe(group, observations);
            Record(column, CudaPanels.Of(observations, column.Size));
        }
        if (studentAction is { } copy)
            Record(copy, action);

        void Record(Column column, CudaPanels from) =>
            recordColumn.Start(
                new()
                {
                    Rollout = all,
                    From = from,
                    Features = column.Size,
                    Column = column.Start,
                    Step = step,
                },
                rollout.Envs
            );
    }

    private void WriteCorrection()
    {
        if (correction is null)
            return;
        var values = new float[correction.Length];
        collector.Correction!.Write(values);
        correction.Write(values);
    }

    /// <summary>Records what the student remembers before a sequence.</summary>
    private void RecordMemory(int step)
    {
        if (memories is not null)
            record.Start(
                new()
                {
                    Rollout = all,
                    Memory = CudaPanels.Of(student.Memory!, rollout.MemorySize),
                    Records = memories.Address,
                    MemorySize = rollout.MemorySize,
                    Sequence = step / sequence,
                    Sequences = rollout.Steps / sequence,
                },
                rollout.Envs
            );
    }

    private void Step(int step, double teacherShare, float exploration)
    {
        var starts = CudaPanels.Of(keeps, 1);
        teacher.Act(starts);
        student.Act(starts);
        var time = collector.Steps + step;
        drawing?.Draw(teacher.Outputs, time, exploration: null);
        if (exploration > 0)
            exploring!.Draw(student.Outputs, time, exploration);
        var action = exploration > 0 ? exploring!.Actions : student.Outputs;
        choose.Start(
            new()
            {
                Rollout = all,
                TeacherSees = teacher.Observations,
                TeacherSays = drawing?.Actions ?? teacher.Outputs,
                StudentSees = student.Observations,
                StudentSays = student.Outputs,
                StudentDoes = action,
                Correction = correction is null
                    ? default
                    : CudaPanels.Of(correction, rollout.Table.Columns[0].Size),
                Actions = CudaPanels.Of(actions, rollout.Table.Columns[1].Size),
                TeacherInputs = teacher.Inputs,
                StudentInputs = student.Inputs,
                ActionSize = rollout.Table.Columns[1].Size,
                Step = step,
                Time = (uint)time,
                Share = teacherShare,
                Later = teacherShare <= 0 && collector.Teacher.Reads is not null ? 1 : 0,
                Acting = new(acting),
            },
            all.Lanes
        );
        Record(step, action);
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
        public CudaPanels StudentDoes;
        public CudaPanels Correction;
        public CudaPanels Actions;
        public int TeacherInputs;
        public int StudentInputs;
        public int ActionSize;
        public int Step;
        public uint Time;
        public double Share;
        public int Later;
        public CudaStream Acting;
    }

    private struct TakeArguments
    {
        public RolloutRows Rollout;
        public nint Outcomes;
        public int Step;
        public int WholeEpisodes;
    }

    private struct ColumnArguments
    {
        public RolloutRows Rollout;
        public CudaPanels From;
        public int Features;
        public int Column;
        public int Step;
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
