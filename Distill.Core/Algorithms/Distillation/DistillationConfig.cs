using Distill.Datasets;
using Distill.Environments;
using Distill.Networks;
using static Distill.SettingCheck;

namespace Distill.Algorithms;

/// <summary>
/// One distillation: who acts, what is kept, what is drawn from it, what the student is, what the loss is, and the loop
/// around them.
/// </summary>
public sealed record DistillationConfig
{
    /// <summary>Name of the experiment: its folder under <c>logs/</c>.</summary>
    public string Name { get; init; } = "distillation";

    /// <summary>Added to the run folder's name; empty for none.</summary>
    public string RunName { get; init; } = "";

    /// <summary>Seed of everything random. Same seed, same student, whatever the number of threads.</summary>
    public ulong Seed { get; init; }

    /// <summary>Threads that compute; 0 for one per processor. Does not change results.</summary>
    public int Threads { get; init; }

    /// <summary>The environments to train in.</summary>
    public required IEnvironmentConfig Environment { get; init; }

    /// <summary>What the student is.</summary>
    public StudentConfig Student { get; init; } = new GruStudent();

    /// <summary>Who acts.</summary>
    public Acting Acting { get; init; } = new TeacherUntil(500);

    /// <summary>
    /// Whether the teacher gives its mean (or likeliest) action. If not, its actions are drawn from its distribution, as
    /// driver and as label: more varied states, noisier labels.
    /// </summary>
    public bool TeacherDeterministic { get; init; } = true;

    /// <summary>What is kept.</summary>
    public Retention Retention { get; init; } = new FirstInFirstOut();

    /// <summary>What is drawn from it.</summary>
    public Sampling Sampling { get; init; } = new Permutation();

    /// <summary>What the loss is.</summary>
    public Loss Loss { get; init; } = new MeanSquared();

    /// <summary>
    /// What is kept of every step beside the student's observation and the label: observation groups by name, and
    /// "student_action" for what the student would do or did. The run then leaves its rows as <c>dataset.npz</c>. Costs its
    /// numbers times 4 bytes a row, and time.
    /// </summary>
    public IReadOnlyList<string> Recorded { get; init; } = [];

    /// <summary>How much an iteration collects.</summary>
    public Collection Collection { get; init; } = new StepsPerIteration();

    /// <summary>Iterations (epochs of the episode-driven regime).</summary>
    public int Iterations { get; init; } = 1500;

    /// <summary>
    /// Passes over everything held, per iteration. More passes extract more from few data; fewer when the dataset is large
    /// and epochs get slow.
    /// </summary>
    public Schedule NumLearningEpochs { get; init; } = 4;

    /// <summary>Sets the mini-batch from the size of the dataset when <see cref="MiniBatchSize"/> is 0.</summary>
    public Schedule NumMiniBatches { get; init; } = 8;

    /// <summary>
    /// Rows (sequences for recurrent students) per optimizer step; 0 for min(512, size / num_mini_batches) rows, or
    /// min(64, size / num_mini_batches) sequences. Larger is smoother and faster per row, smaller learns more per epoch.
    /// </summary>
    public Schedule MiniBatchSize { get; init; }

    /// <summary>
    /// Rows of the sequences that a recurrent student is trained on; 0 for whole rollouts, else a divisor of a rollout's
    /// steps. A sequence that begins inside an episode starts from the memory that the student had there. Shorter sequences
    /// mix more of the dataset into a mini-batch; longer ones show more of what must be remembered.
    /// </summary>
    public int SequenceLength { get; init; }

    /// <summary>
    /// Steps of back-propagation through time; longer sequences are cut into windows whose memory is carried but not
    /// differentiated. Raise it when what matters happened long before.
    /// </summary>
    public Schedule GradientLength { get; init; } = 15;

    /// <summary>The student's optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new AdamConfig();

    /// <summary>Iterations between checkpoints.</summary>
    public int SaveInterval { get; init; } = 100;

    /// <summary>Iterations between closed-loop evaluations; the best student by mean return is kept.</summary>
    public int EvaluationInterval { get; init; } = 25;

    /// <summary>Episodes per evaluation, on environments of their own.</summary>
    public int EvaluationEpisodes { get; init; } = 100;

    /// <summary>Episodes of the evaluation at the end, for teacher and student alike.</summary>
    public int FinalEpisodes { get; init; } = 1000;

    /// <exception cref="DistillException">A field has a value that cannot work, in some iteration; the message names it.</exception>
    public void Validate()
    {
        Require(Iterations >= 1, "iterations", Iterations, "at least 1");
        RequireWhole("num_learning_epochs", NumLearningEpochs);
        RequireWhole("num_mini_batches", NumMiniBatches);
        RequireWhole("mini_batch_size", MiniBatchSize);
        RequireWhole("gradient_length", GradientLength);
        Schedule.Check(this, Iterations, now => now.Check());
    }

    private void Check()
    {
        Require(Environment.Envs >= 1, "envs", Environment.Envs, "at least 1");
        Require(NumLearningEpochs.Whole >= 1, "num_learning_epochs", NumLearningEpochs, "at least 1");
        Require(NumMiniBatches.Whole >= 1, "num_mini_batches", NumMiniBatches, "at least 1");
        Require(MiniBatchSize.Whole >= 0, "mini_batch_size", MiniBatchSize, "0 for automatic, or more");
        Require(SequenceLength >= 0, "sequence_length", SequenceLength, "0 for whole rollouts, or more");
        Require(GradientLength.Whole >= 1, "gradient_length", GradientLength, "at least 1");
        Require(SaveInterval >= 1, "save_interval", SaveInterval, "at least 1");
        Require(EvaluationInterval >= 1, "evaluation_interval", EvaluationInterval, "at least 1");
        Require(EvaluationEpisodes >= 1, "evaluation_episodes", EvaluationEpisodes, "at least 1");
        Require(FinalEpisodes >= 1, "final_episodes", FinalEpisodes, "at least 1");
        Require(Threads >= 0, "threads", Threads, "0 for one per processor, or more");
        Optimizer.Check();
        Retention.Check();
        Collection.Check();
        Acting.Check();
        Sampling.Check();
        Loss.Check();
    }

    /// <summary>What a row of the rollout and of the dataset consists of.</summary>
    /// <exception cref="DistillException">The environment has no observation group of such a name, or a name stands twice.</exception>
    internal Columns Columns(EnvironmentSpec environment)
    {
        var columns = new Columns([
            ("observation", Size(environment, Student.ObservationGroup)),
            ("label", environment.Actions.Floats),
            .. Recorded.Select(name =>
                (
                    name,
                    name == RolloutCollector.StudentAction
                        ? environment.Actions.Floats
                        : Size(environment, name)
                )
            ),
        ]);
        if (columns.DistinctBy(column => column.Name).Count() < columns.Count)
            throw new DistillException(
                $"recorded=[{string.Join(',', Recorded)}] cannot work: each name must stand once, and none may be 'observation' or 'label'."
            );
        return columns;
    }

    private static int Size(EnvironmentSpec environment, string groups) =>
        new ObservationView(environment, groups).Size;
}
