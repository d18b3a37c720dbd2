using Distill.Compute;
using Distill.Datasets;
using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Fills a rollout. At every step both policies look at the same state; the acting schedule decides whose action is
/// executed, the teacher's is always the label. One panel runs all its steps on one worker while its state is in cache.
/// </summary>
public sealed class RolloutCollector : IWork, IDisposable
{
    private readonly IBatchedEnvironment environment;
    private readonly Policy teacher;
    private readonly Policy student;
    private readonly Rollout rollout;
    private readonly RandomStream acting;
    private readonly ActionDistribution? teacherActions;
    private readonly RandomStream teacherNoise;
    private readonly bool wholeEpisodes;
    private readonly int teacherGroup;
    private readonly int studentGroup;
    private readonly FloatBuffer teacherMemory;
    private readonly FloatBuffer studentMemory;
    private readonly byte[] starting;
    private readonly Scratch[] scratch;
    private readonly FiniteWatch watch;
    private double teacherShare;
    private long steps;

    /// <param name="acting">Draws who drives.</param>
    /// <param name="teacherNoise">Draws the teacher's actions from its distribution; null for its deterministic actions.</param>
    /// <param name="wholeEpisodes">Every collection starts new episodes and keeps one per environment.</param>
    /// <exception cref="DistillException">
    /// A policy does not fit the environment, or the teacher's actions are to be drawn and it has no distribution.
    /// </exception>
    public RolloutCollector(
        IBatchedEnvironment environment,
        Policy teacher,
        Policy student,
        Rollout rollout,
        RandomStream acting,
        RandomStream? teacherNoise,
        bool wholeEpisodes,
        int threads
    )
    {
        teacher.Check(environment.Spec, "teacher");
        student.Check(environment.Spec, "student");
        if (teacherNoise is { } noise)
        {
            if (teacher.Network.Spec.Head == Head.Plain)
                throw new DistillException(
                    "teacher_deterministic=false cannot work with this teacher: its file has no distribution over actions "
                        + "(no log_std); use teacher_deterministic=true."
                );
            teacherActions = ActionDistribution.Of(teacher.Network.Spec.Head);
            this.teacherNoise = noise;
        }
        this.environment = environment;
        this.teacher = teacher;
        this.student = student;
        this.rollout = rollout;
        this.acting = acting;
        this.wholeEpisodes = wholeEpisodes;
        teacherGroup = environment.Spec.Group(teacher.ObservationGroup);
        studentGroup = environment.Spec.Group(student.ObservationGroup);
        var panels = Panel.Count(environment.Count);
        teacherMemory = new FloatBuffer((long)panels * teacher.MemorySize * Panel.Width);
        studentMemory = new FloatBuffer((long)panels * student.MemorySize * Panel.Width);
        starting = new byte[panels * Panel.Width];
        starting.AsSpan().Fill(1);
        watch = new FiniteWatch(environment.Count);
        scratch =
        [
            .. Enumerable.Range(0, threads).Select(_ => new Scratch(teacher, student, environment.Spec)),
        ];
        for (var panel = 0; panel < panels; panel++)
            environment.Reset(panel);
    }

    /// <summary>Runs every environment for the rollout's steps.</summary>
    /// <param name="teacherShare">Probability that the teacher drives, per environment and step.</param>
    /// <param name="iteration">For the message.</param>
    /// <exception cref="DistillException">An observation, an action or a reward of a valid row is not finite.</exception>
    public void Collect(WorkerPool pool, double teacherShare, int iteration = 0)
    {
        this.teacherShare = teacherShare;
        pool.Run(this, Panel.Count(environment.Count));
        watch.Check(iteration);
        steps += rollout.Steps;
    }

    void IWork.Run(int panel, int worker)
    {
        var own = scratch[worker];
        var first = panel * Panel.Width;
        var lanes = Math.Min(Panel.Width, environment.Count - first);
        var memoryOfTeacher = Part(teacherMemory, panel, teacher.MemorySize);
        var memoryOfStudent = Part(studentMemory, panel, student.MemorySize);
        var start = starting.AsSpan(first, Panel.Width);
        var alive = own.Alive;
        alive.AsSpan().Fill(1);
        if (wholeEpisodes)
        {
            environment.Reset(panel);
            start.Fill(1);
        }
        for (var step = 0; step < rollout.Steps; step++)
        {
            for (var lane = 0; lane < Panel.Width; lane++)
                own.Keep[lane] = 1 - start[lane];
            Elementwise.ScaleLanes(memoryOfTeacher, own.Keep);
            Elementwise.ScaleLanes(memoryOfStudent, own.Keep);
            if (step % rollout.Sequence == 0 && student.MemorySize > 0)
                RecordMemory(memoryOfStudent, first, step / rollout.Sequence, lanes);

            environment.Observe(panel, teacherGroup, own.TeacherObservation.Span);
            environment.Observe(panel, studentGroup, own.StudentObservation.Span);
            teacher.Act(own.TeacherObservation.Span, memoryOfTeacher, own.TeacherAction.Span, own.Teacher);
            teacherActions?.Sample(
                own.Teacher.Outputs,
                teacher.Network.LogStd,
                teacherNoise,
                first,
                steps + step,
                own.TeacherAction.Span
            );
            student.Act(own.StudentObservation.Span, memoryOfStudent, own.StudentAction.Span, own.Student);
            ChooseDriver(own, first, (uint)(steps + step));
            if (!Finite(panel, step, own))
                return;
            environment.Step(panel, own.Action.Span, own.Reward, own.Terminated, own.Truncated);
            if (watch.Catches(panel, step, "reward", own.Reward, alive))
                return;

            Record(
                rollout.TeacherObservations,
                own.TeacherObservation,
                first,
                step,
                rollout.TeacherObservationSize,
                lanes
            );
            Record(
                rollout.StudentObservations,
                own.StudentObservation,
                first,
                step,
                rollout.StudentObservationSize,
                lanes
            );
            Record(rollout.TeacherActions, own.TeacherAction, first, step, rollout.ActionSize, lanes);
            Record(rollout.StudentActions, own.StudentAction, first, step, rollout.ActionSize, lanes);
            for (var lane = 0; lane < lanes; lane++)
            {
                var row = (first + lane) * rollout.Steps + step;
                rollout.Rewards.Span[row] = own.Reward[lane];
                rollout.EpisodeStart[row] = start[lane];
                rollout.Valid[row] = alive[lane];
                rollout.Ends[row] =
                    own.Terminated[lane] != 0 ? EpisodeEnd.Terminated
                    : own.Truncated[lane] != 0 ? EpisodeEnd.Truncated
                    : EpisodeEnd.None;
            }
            for (var lane = 0; lane < Panel.Width; lane++)
            {
                var ended = own.Terminated[lane] != 0 || own.Truncated[lane] != 0;
                start[lane] = ended ? (byte)1 : (byte)0;
                if (wholeEpisodes && ended)
                    alive[lane] = 0;
            }
        }
    }

    public void Visit(State state)
    {
        state.Count("steps", ref steps);
        state.Flags("starting", starting);
        state.Block("teacher_memory", teacherMemory);
        state.Block("student_memory", studentMemory);
        state.Part("environment", environment.Visit);
    }

    public void Dispose()
    {
        teacherMemory.Dispose();
        studentMemory.Dispose();
        foreach (var own in scratch)
            own.Dispose();
    }

    private void ChooseDriver(Scratch own, int first, uint step)
    {
        var source = teacherShare >= 1 ? own.TeacherAction.Span : own.StudentAction.Span;
        source.CopyTo(own.Action.Span);
        if (teacherShare is <= 0 or >= 1)
            return;
        for (var lane = 0; lane < Panel.Width; lane++)
            if (acting.Uniform((uint)(first + lane), step) < teacherShare)
                for (var i = lane; i < own.Action.Length; i += Panel.Width)
                    own.Action.Span[i] = own.TeacherAction.Span[i];
    }

    /// <summary>Whether what both policies saw and gave is finite. An index of a choice always is, so outputs count too.</summary>
    private bool Finite(int panel, int step, Scratch own) =>
        !(
            watch.Catches(panel, step, "teacher's observation", own.TeacherObservation.Span, own.Alive)
            || watch.Catches(panel, step, "student's observation", own.StudentObservation.Span, own.Alive)
            || watch.Catches(panel, step, "teacher's action", own.Teacher.Outputs, own.Alive)
            || watch.Catches(panel, step, "teacher's action", own.TeacherAction.Span, own.Alive)
            || watch.Catches(panel, step, "student's action", own.Student.Outputs, own.Alive)
        );

    private void Record(FloatBuffer target, FloatBuffer panel, int first, int step, int size, int lanes) =>
        Matrix.Scatter(
            panel.Span,
            target.Span[((first * rollout.Steps + step) * size)..],
            size,
            rollout.Steps * size,
            lanes
        );

    private void RecordMemory(ReadOnlySpan<float> memory, int first, int sequence, int lanes)
    {
        var perEnv = rollout.Steps / rollout.Sequence;
        var start = (first * perEnv + sequence) * student.MemorySize;
        Matrix.Scatter(
            memory,
            rollout.Memory.Span[start..],
            student.MemorySize,
            perEnv * student.MemorySize,
            lanes
        );
    }

    private static Span<float> Part(FloatBuffer buffer, int panel, int size) =>
        buffer.Slice(panel * size * Panel.Width, size * Panel.Width);

    private sealed class Scratch(Policy teacher, Policy student, EnvironmentSpec environment) : IDisposable
    {
        public PolicyScratch Teacher { get; } = new(teacher);
        public PolicyScratch Student { get; } = new(student);
        public FloatBuffer TeacherObservation { get; } = new(teacher.Network.Spec.Inputs * Panel.Width);
        public FloatBuffer StudentObservation { get; } = new(student.Network.Spec.Inputs * Panel.Width);
        public FloatBuffer TeacherAction { get; } = new(environment.Actions.Floats * Panel.Width);
        public FloatBuffer StudentAction { get; } = new(environment.Actions.Floats * Panel.Width);
        public FloatBuffer Action { get; } = new(environment.Actions.Floats * Panel.Width);
        public float[] Reward { get; } = new float[Panel.Width];
        public float[] Terminated { get; } = new float[Panel.Width];
        public float[] Truncated { get; } = new float[Panel.Width];
        public float[] Keep { get; } = new float[Panel.Width];
        public byte[] Alive { get; } = new byte[Panel.Width];

        public void Dispose()
        {
            Teacher.Dispose();
            Student.Dispose();
            TeacherObservation.Dispose();
            StudentObservation.Dispose();
            TeacherAction.Dispose();
            StudentAction.Dispose();
            Action.Dispose();
        }
    }
}
