using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Recorded;
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

    /// <summary>
    /// Where it is computed: on the processor, on an NVIDIA GPU, or on a GPU where there is one and what is asked for runs there, which
    /// is not everything yet (docs/gpu.md). Students, metrics and checkpoints are the same. Take auto for thousands of
    /// environments or large mini-batches; small ones are faster on the processor.
    /// </summary>
    public ComputeDevice Device { get; init; }

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

    /// <summary>
    /// Noise with which the student drives, from its own distribution: as a factor of its standard deviation, for choices the
    /// probability of a draw. 0 for none. Raise it (0.5 to 1, falling to 0) when the student sees too few states to recover from,
    /// lower it when noise alone ends episodes. Needs a student with a distribution, such as loss=gaussian_log_likelihood or
    /// student.head=gaussian gives.
    /// </summary>
    public Schedule Exploration { get; init; } = 0;

    /// <summary>
    /// Whose data an iteration keeps, where every variant of the environment has its teacher: all, or the best, the worst or any of
    /// them by the student's mean return on each in the iteration's rollout. Begin with all; take the worst where few variants fail.
    /// </summary>
    public ActiveTeachers ActiveTeachers { get; init; } = new AllActiveTeachers();

    /// <summary>
    /// Share of the environments, in [0, 1], that are given to variants by how much worse the student did on each when it last drove
    /// than on its best one; the rest is shared equally. 0 leaves every environment as it is. Needs whole episodes and environments
    /// that can change, such as quadrotors. Begin with 0.5; raise it where few variants fail, lower it when the student forgets the
    /// others.
    /// </summary>
    public Schedule VariantFocus { get; init; } = 0;

    /// <summary>
    /// Episodes of each variant in which its teacher comes to rest, to learn where: that bias is taken from what the student's data
    /// show, such as positions, so that it does not learn each teacher's own. 0 for none. Begin with 50; raise it when teachers
    /// are noisy, lower it when the start takes too long.
    /// </summary>
    public int SteadyStateEpisodes { get; init; }

    /// <summary>
    /// Recorded data (docs/recorded-data.md) that are in the dataset before the first iteration: files, or folders of which all
    /// <c>.npz</c> are taken. Empty for none. Their observations count in the normalizer's statistics, their episodes for what is
    /// held out. Add some where an untrained student would see too little.
    /// </summary>
    public IReadOnlyList<string> SeedData { get; init; } = [];

    /// <summary>
    /// Who labels the recorded data: the actions recorded there, or the teacher, by the observation group that it reads. Take the
    /// teacher where the recorded actions are not its own.
    /// </summary>
    public SeedLabels SeedLabels { get; init; }

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

    /// <summary>
    /// Weight in training of the rows of episodes that ended in a terminal state, in [0, 1]: 1 keeps them like any other, 0 drops
    /// them. Rows count as such from the episode's start, or the rollout's where it began before, to its end; an episode that is
    /// still running when the rollout ends counts as one that did not fail. Losses are weighted means then. Begin with 1; lower it
    /// where a terminal state shows that the labels before it were of no use, raise it where they show how to get out of trouble.
    /// </summary>
    public Schedule FailedWeight { get; init; } = 1;

    /// <summary>
    /// Share of all episodes that are never trained on, in [0, 0.5]: the student's loss on them is reported as
    /// <c>Loss/held_out</c>, and early stopping and the warning of overfitting go by it. Which episodes is drawn by environment
    /// and number of the episode; their rows are kept in the dataset like others, and count in the normalizer's statistics. 0
    /// for none. Begin with 0.1; raise it when the held-out loss jumps from iteration to iteration, lower it when data are few.
    /// </summary>
    public double HeldOut { get; init; }

    /// <summary>How much an iteration collects.</summary>
    public Collection Collection { get; init; } = new StepsPerIteration();

    /// <summary>
    /// Iterations (epochs of the episode-driven regime). Raise it while the return of the evaluations still rises at the end, lower
    /// it when that stopped long before.
    /// </summary>
    public int Iterations { get; init; } = 1500;

    /// <summary>
    /// Passes over everything held, per iteration. prt-rl advises 1 to 5 up to 100,000 rows, and 5 to 20 up to 500,000. Raise it
    /// to learn more from few data, lower it when the student overfits or iterations get slow.
    /// </summary>
    public Schedule NumLearningEpochs { get; init; } = 4;

    /// <summary>
    /// Passes of an iteration without a lower loss on the held-out rows, after which its passes end and the student of the best
    /// pass is kept; at least one pass is done. 0 does all <see cref="NumLearningEpochs"/>. Needs <see cref="HeldOut"/>. Begin
    /// with 2 and many passes; raise it when passes end by chance, lower it when they take too long.
    /// </summary>
    public int EarlyStopping { get; init; }

    /// <summary>
    /// Sets the mini-batch from the size of the dataset when <see cref="MiniBatchSize"/> is 0: how many there are in a pass, or more
    /// where these would exceed 512 rows or 64 sequences. Raise it for more optimizer steps, lower it for smoother ones.
    /// </summary>
    public Schedule NumMiniBatches { get; init; } = 8;

    /// <summary>
    /// Rows (sequences for recurrent students) per optimizer step; 0 for min(512, size / num_mini_batches) rows, or
    /// min(64, size / num_mini_batches) sequences. prt-rl advises 32 to 256 rows. Raise it for smoother steps and speed, lower it
    /// for more steps in a pass; the learning rate goes with it.
    /// </summary>
    public Schedule MiniBatchSize { get; init; }

    /// <summary>
    /// Mini-batches whose gradients make one optimizer step: the same as a mini-batch so many times as large, which takes no more
    /// memory here. Raise it for smoother steps where the size of the mini-batch is set from the dataset, lower it for more of them.
    /// </summary>
    public Schedule GradientAccumulation { get; init; } = 1;

    /// <summary>
    /// Rows of the sequences that a recurrent student is trained on; 0 for whole rollouts, else a divisor of a rollout's
    /// steps. A sequence that begins inside an episode starts from the memory that the student had there. Begin with 0.
    /// Raise it to show more of what must be remembered, lower it to mix more of the dataset into a mini-batch.
    /// </summary>
    public int SequenceLength { get; init; }

    /// <summary>
    /// Steps of back-propagation through time; longer sequences are cut into windows whose memory is carried but not
    /// differentiated. Raise it when what matters happened long before, lower it when the norm of the gradient jumps.
    /// </summary>
    public Schedule GradientLength { get; init; } = 15;

    /// <summary>The student's optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new AdamConfig();

    /// <summary>
    /// Iterations between checkpoints. Lower it when a stop would cost more than a save, raise it when saves take up time or disk.
    /// </summary>
    public int SaveInterval { get; init; } = 100;

    /// <summary>
    /// Iterations between closed-loop evaluations, in which the student drives alone; the best student is kept. Lower it when the
    /// best may fall between two of them, raise it when evaluations take up the time.
    /// </summary>
    public int EvaluationInterval { get; init; } = 25;

    /// <summary>
    /// The measure of these evaluations that says which student is the best: return or length (the highest), share_terminated (the
    /// lowest), or one of the environment's by its name. Change it when the return hides what counts, such as crashes.
    /// </summary>
    public string BestBy { get; init; } = "return";

    /// <summary>
    /// The run says after how many environment steps the mean return of an evaluation first reached this: the measure of how fast
    /// it learns. Null for no such measure. It is as fine as <see cref="EvaluationInterval"/>.
    /// </summary>
    public double? TargetReturn { get; init; }

    /// <summary>
    /// Episodes per evaluation, on environments of their own. Raise it when the best is picked by luck, lower it when evaluations
    /// take up the time.
    /// </summary>
    public int EvaluationEpisodes { get; init; } = 100;

    /// <summary>
    /// Episodes of the evaluation at the end, for teacher and student alike. Raise it when the interval of their difference is too
    /// wide to tell, lower it in runs that only try something out.
    /// </summary>
    public int FinalEpisodes { get; init; } = 1000;

    /// <exception cref="DistillException">A field has a value that cannot work, in some iteration; the message names it.</exception>
    public void Validate()
    {
        Require(Iterations >= 1, "iterations", Iterations, "at least 1");
        RequireWhole("num_learning_epochs", NumLearningEpochs);
        RequireWhole("num_mini_batches", NumMiniBatches);
        RequireWhole("mini_batch_size", MiniBatchSize);
        RequireWhole("gradient_accumulation", GradientAccumulation);
        RequireWhole("gradient_length", GradientLength);
        Schedule.Check(this, Iterations, now => now.Check());
    }

    private void Check()
    {
        Require(Environment.Envs >= 1, "envs", Environment.Envs, "at least 1");
        Require(NumLearningEpochs.Whole >= 1, "num_learning_epochs", NumLearningEpochs, "at least 1");
        Require(NumMiniBatches.Whole >= 1, "num_mini_batches", NumMiniBatches, "at least 1");
        Require(MiniBatchSize.Whole >= 0, "mini_batch_size", MiniBatchSize, "0 for automatic, or more");
        Require(FailedWeight.Value is >= 0 and <= 1, "failed_weight", FailedWeight, "between 0 and 1");
        Require(HeldOut is >= 0 and <= 0.5, "held_out", HeldOut, "between 0 and 0.5");
        Require(EarlyStopping >= 0, "early_stopping", EarlyStopping, "0 for all passes, or more");
        if (EarlyStopping > 0 && HeldOut == 0)
            throw new DistillException(
                $"early_stopping={EarlyStopping} goes by the loss on episodes that are held out; add held_out=0.1."
            );
        Require(VariantFocus.Value is >= 0 and <= 1, "variant_focus", VariantFocus, "between 0 and 1");
        Require(
            SteadyStateEpisodes >= 0,
            "steady_state_episodes",
            SteadyStateEpisodes,
            "0 for no correction, or more"
        );
        Require(GradientAccumulation.Whole >= 1, "gradient_accumulation", GradientAccumulation, "at least 1");
        Require(SequenceLength >= 0, "sequence_length", SequenceLength, "0 for whole rollouts, or more");
        Require(GradientLength.Whole >= 1, "gradient_length", GradientLength, "at least 1");
        Require(SaveInterval >= 1, "save_interval", SaveInterval, "at least 1");
        Require(EvaluationInterval >= 1, "evaluation_interval", EvaluationInterval, "at least 1");
        Require(EvaluationEpisodes >= 1, "evaluation_episodes", EvaluationEpisodes, "at least 1");
        Require(FinalEpisodes >= 1, "final_episodes", FinalEpisodes, "at least 1");
        Require(Threads >= 0, "threads", Threads, "0 for one per processor, or more");
        Require(
            TargetReturn is null || double.IsFinite(TargetReturn.Value),
            "target_return",
            TargetReturn,
            "a number, or null"
        );
        Optimizer.Check();
        Retention.Check();
        Collection.Check();
        Acting.Check();
        ActiveTeachers.Check();
        Require(Exploration.Value is >= 0 and <= 10, "exploration", Exploration, "between 0 and 10");
        Sampling.Check();
        Loss.Check();
        CheckRecorded();
    }

    private void CheckRecorded()
    {
        if (!Collection.Collects && RecordedFiles.Count == 0)
            throw new DistillException(
                "collection=seed_data_only has nothing to train on; add seed_data=[FILES], or take recorded data as the environment."
            );
        if (Collection.Collects && Environment is RecordedConfig)
            throw new DistillException(
                "Nothing can be done in recorded data: they are no environment. Add collection=seed_data_only to train on them alone."
            );
        if (RecordedFiles.Count > 0 && !Retention.Accumulates)
            throw new DistillException(
                "retention=newest_rollout keeps nothing of recorded data; take retention=first_in_first_out."
            );
    }

    /// <summary>The recorded data: those named, or else those that stand for the environment.</summary>
    internal IReadOnlyList<string> RecordedFiles =>
        SeedData.Count == 0 && Environment is RecordedConfig recorded ? recorded.Files : SeedData;

    /// <summary>What a row of the rollout and of the dataset consists of.</summary>
    /// <exception cref="DistillException">The environment has no observation group of such a name, or a name stands twice.</exception>
    internal Columns Columns(EnvironmentSpec environment)
    {
        var columns = new Columns([
            ("observation", Size(environment, Student.ObservationGroup)),
            ("label", LabelSize(environment)),
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

    /// <summary>What the student's outputs mean.</summary>
    /// <exception cref="DistillException">The loss cannot judge it, or the environment cannot take it.</exception>
    internal Head HeadOf(EnvironmentSpec environment)
    {
        var discrete = environment.Actions.Discrete;
        var head = Student.Head ?? (discrete && Loss.Fits(Head.Categorical) ? Head.Categorical : Loss.Head);
        if (discrete != (head == Head.Categorical))
            throw new DistillException(
                discrete
                    ? $"The actions of {environment.Name} are choices, which need the loss cross_entropy or kullback_leibler."
                    : $"The loss cross_entropy is for choices, but the actions of {environment.Name} are continuous."
            );
        if (!Loss.Fits(head))
            throw new DistillException(
                $"student.head={SettingCheck.Word(head)} does not fit the loss, which needs a distribution of another kind; leave it out."
            );
        return head;
    }

    private int LabelSize(EnvironmentSpec environment) =>
        !Loss.LabelIsDistribution ? environment.Actions.Floats
        : environment.Actions.Discrete ? environment.Actions.Size
        : 2 * environment.Actions.Size;

    /// <summary>What the dataset notes beside its rows.</summary>
    internal DatasetNotes Notes(EnvironmentSpec environment) =>
        new()
        {
            HeldOut = HeldOut > 0,
            Failed = FailedWeight.Range(Iterations).Lowest < 1,
            Classes = Sampling.ByClass || Retention.ByClass ? environment.Actions.Size : 0,
            Disagreements = Sampling.Ensemble > 1,
        };

    private static int Size(EnvironmentSpec environment, string groups) =>
        new ObservationView(environment, groups).Size;
}

/// <summary>Who labels recorded data.</summary>
public enum SeedLabels
{
    /// <summary>The actions that were recorded.</summary>
    Recorded,

    /// <summary>The teacher.</summary>
    Teacher,
}
