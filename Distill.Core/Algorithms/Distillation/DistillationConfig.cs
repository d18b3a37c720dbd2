using Distill.Compute;
using Distill.Datasets;
using Distill.Environments;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Architecture of a student; the sizes of its input and output come from the environment.</summary>
public abstract record StudentConfig
{
    /// <summary>Observation group that the student reads.</summary>
    public string ObservationGroup { get; init; } = "student";

    /// <summary>Whether its observations are normalised by running statistics, updated once per iteration.</summary>
    public bool NormaliseObservations { get; init; }

    public abstract NetworkSpec Network(int inputs, int outputs, Head head);

    /// <summary>The student before training, its parameters drawn from the stream.</summary>
    /// <exception cref="DistillException">The settings are wrong or do not fit the sizes.</exception>
    public virtual Policy Create(int inputs, int outputs, Head head, RandomStream stream)
    {
        var student = new Policy(Network(inputs, outputs, head), ObservationGroup, NormaliseObservations);
        student.Network.Initialise(stream);
        return student;
    }

    /// <summary>Sets the optimizer to where it begins.</summary>
    public virtual void Prepare(Adam optimizer, Policy student) { }
}

/// <summary>A student without memory.</summary>
public sealed record MlpStudent : StudentConfig
{
    /// <summary>Sizes of the hidden layers. Widen them while the loss on teacher-driven data stays high.</summary>
    public IReadOnlyList<int> Hidden { get; init; } = [64, 64];

    /// <summary>Nonlinearity of the hidden layers.</summary>
    public Activation Activation { get; init; } = Activation.Elu;

    public override NetworkSpec Network(int inputs, int outputs, Head head) =>
        NetworkSpec.Mlp(inputs, Hidden, outputs, Activation, head);
}

/// <summary>A recurrent student: Dense (ReLU), GRU, optionally Dense (ReLU), output.</summary>
public sealed record GruStudent : StudentConfig
{
    /// <summary>Size of the GRU and of the dense layer before it.</summary>
    public int Hidden { get; init; } = 16;

    /// <summary>Size of a dense layer between GRU and output; 0 for none (RAPTOR has none).</summary>
    public int DenseAfter { get; init; } = 0;

    public override NetworkSpec Network(int inputs, int outputs, Head head) =>
        NetworkSpec.GruStack(inputs, Hidden, Hidden, DenseAfter, outputs, head);
}

/// <summary>A student that was trained before, to be trained on: fine-tuning, another task, another teacher.</summary>
public sealed record FileStudent : StudentConfig
{
    /// <summary>
    /// A .safetensors or .pt file. It brings the architecture and its observation normaliser; training may ask for another
    /// head.
    /// </summary>
    public string File { get; init; } = "";

    /// <summary>Nonlinearity of its hidden layers; null for what the file or <c>params/agent.yaml</c> beside it says.</summary>
    public Activation? Activation { get; init; }

    /// <summary>
    /// Whether Adam goes on with the moments of the file, which Distill's .pt checkpoints have. Switch it off when the data
    /// are of another kind than those the student was trained on.
    /// </summary>
    public bool KeepOptimizer { get; init; } = true;

    public override NetworkSpec Network(int inputs, int outputs, Head head)
    {
        using var policy = Load();
        return policy.Network.Spec with { Head = head };
    }

    public override Policy Create(int inputs, int outputs, Head head, RandomStream stream)
    {
        using var source = Load();
        if ((source.Network.Spec.Head == Head.Categorical) != (head == Head.Categorical))
            throw new DistillException(
                $"The student {File} {(head == Head.Categorical ? "gives continuous actions" : "chooses")}, "
                    + $"but the loss is for {(head == Head.Categorical ? "choices" : "continuous actions")}."
            );
        var normalise = NormaliseObservations && source.Normaliser is null;
        var student = new Policy(source.Network.Spec with { Head = head }, ObservationGroup, normalise)
        {
            ActivationSource = source.ActivationSource,
        };
        student.Network.Initialise(stream);
        source.Network.CopyTo(student.Network);
        student.Normaliser ??= source.Normaliser;
        return student;
    }

    public override void Prepare(Adam optimizer, Policy student)
    {
        if (KeepOptimizer)
            PolicyFile.RestoreOptimizer(File, student.Network, optimizer);
    }

    private Policy Load() =>
        File == ""
            ? throw new DistillException("student=file needs the file to begin with: student.file=FILE.")
            : PolicyFile.Load(File, ObservationGroup, Activation);
}

/// <summary>How much one iteration collects.</summary>
public abstract record Collection;

/// <summary>Iteration-driven: every environment runs a fixed number of steps; episodes go on from one iteration to the next.</summary>
/// <param name="StepsPerEnv">Steps of each environment per iteration. Longer rollouts give recurrent students longer sequences.</param>
public sealed record StepsPerIteration(int StepsPerEnv = 400) : Collection;

/// <summary>Episode-driven: every epoch runs whole episodes from their start; what follows an early end is masked.</summary>
/// <param name="NumEpisodes">Episodes per epoch.</param>
public sealed record EpisodesPerEpoch(int NumEpisodes = 100) : Collection;

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

    /// <summary>How much an iteration collects.</summary>
    public Collection Collection { get; init; } = new StepsPerIteration();

    /// <summary>Iterations (epochs of the episode-driven regime).</summary>
    public int Iterations { get; init; } = 1500;

    /// <summary>
    /// Passes over everything held, per iteration. More passes extract more from few data; fewer when the dataset is large
    /// and epochs get slow.
    /// </summary>
    public int NumLearningEpochs { get; init; } = 4;

    /// <summary>Sets the mini-batch from the size of the dataset when <see cref="MiniBatchSize"/> is 0.</summary>
    public int NumMiniBatches { get; init; } = 8;

    /// <summary>
    /// Rows (sequences for recurrent students) per optimizer step; 0 for min(512, size / num_mini_batches) rows, or
    /// min(64, size / num_mini_batches) sequences. Larger is smoother and faster per row, smaller learns more per epoch.
    /// </summary>
    public int MiniBatchSize { get; init; }

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
    public int GradientLength { get; init; } = 15;

    /// <summary>The student's optimizer.</summary>
    public AdamConfig Optimizer { get; init; } = new();

    /// <summary>Iterations between checkpoints.</summary>
    public int SaveInterval { get; init; } = 100;

    /// <summary>Iterations between closed-loop evaluations; the best student by mean return is kept.</summary>
    public int EvaluationInterval { get; init; } = 25;

    /// <summary>Episodes per evaluation, on environments of their own.</summary>
    public int EvaluationEpisodes { get; init; } = 100;

    /// <summary>Episodes of the evaluation at the end, for teacher and student alike.</summary>
    public int FinalEpisodes { get; init; } = 1000;

    // Beyond any machine, and small enough to be counted in bytes.
    internal const long MostRows = 1_000_000_000_000;

    /// <exception cref="DistillException">A field has a value that cannot work; the message names it.</exception>
    public void Validate()
    {
        Require(Environment.Envs >= 1, "envs", Environment.Envs, "at least 1");
        Require(Iterations >= 1, "iterations", Iterations, "at least 1");
        Require(NumLearningEpochs >= 1, "num_learning_epochs", NumLearningEpochs, "at least 1");
        Require(NumMiniBatches >= 1, "num_mini_batches", NumMiniBatches, "at least 1");
        Require(MiniBatchSize >= 0, "mini_batch_size", MiniBatchSize, "0 for automatic, or more");
        Require(SequenceLength >= 0, "sequence_length", SequenceLength, "0 for whole rollouts, or more");
        Require(GradientLength >= 1, "gradient_length", GradientLength, "at least 1");
        Require(SaveInterval >= 1, "save_interval", SaveInterval, "at least 1");
        Require(EvaluationInterval >= 1, "evaluation_interval", EvaluationInterval, "at least 1");
        Require(EvaluationEpisodes >= 1, "evaluation_episodes", EvaluationEpisodes, "at least 1");
        Require(FinalEpisodes >= 1, "final_episodes", FinalEpisodes, "at least 1");
        Require(Threads >= 0, "threads", Threads, "0 for one per processor, or more");
        Require(Optimizer);
        if (Retention is not NewestRollout)
            Require(
                Retention.Limit is >= 1 and <= MostRows,
                "max_buffer_size",
                Retention.Limit,
                $"between 1 and {MostRows}"
            );
        if (Collection is StepsPerIteration steps)
            Require(steps.StepsPerEnv >= 1, "steps_per_env", steps.StepsPerEnv, "at least 1");
        if (Collection is EpisodesPerEpoch episodes)
            Require(episodes.NumEpisodes >= 1, "num_episodes", episodes.NumEpisodes, "at least 1");
        if (Acting is TeacherUntil until)
            Require(until.Phase1Iterations >= 0, "phase1_iterations", until.Phase1Iterations, "at least 0");
        if (Acting is LinearBeta linear)
            Require(linear.BetaIterations >= 1, "beta_iterations", linear.BetaIterations, "at least 1");
        if (Acting is ExponentialBeta exponential)
            Require(
                exponential.BetaBase is >= 0 and <= 1,
                "beta_base",
                exponential.BetaBase,
                "between 0 and 1"
            );
        if (Sampling is RecencyWeighted recency)
            Require(
                recency.Decay is >= 0 and < double.PositiveInfinity,
                "decay",
                recency.Decay,
                "at least 0"
            );
        if (Sampling is LossPrioritised priority)
        {
            Require(priority.Exponent is >= 0 and <= 10, "exponent", priority.Exponent, "between 0 and 10");
            Require(
                priority.Epsilon is > 0 and < double.PositiveInfinity,
                "epsilon",
                priority.Epsilon,
                "above 0"
            );
        }
        if (Loss is Huber huber)
            Require(Positive(huber.Delta), "delta", huber.Delta, AboveZero);
        if (Loss is CrossEntropy entropy)
            Require(
                entropy.Smoothing >= 0 && (float)entropy.Smoothing < 1,
                "smoothing",
                entropy.Smoothing,
                "at least 0 and below 1"
            );
    }

    internal static void Require(AdamConfig adam)
    {
        Require(Positive(adam.LearningRate), "learning_rate", adam.LearningRate, AboveZero);
        Require(adam.Beta1 >= 0 && (float)adam.Beta1 < 1, "beta1", adam.Beta1, "at least 0 and below 1");
        Require(adam.Beta2 >= 0 && (float)adam.Beta2 < 1, "beta2", adam.Beta2, "at least 0 and below 1");
        Require(Positive(adam.Epsilon), "epsilon", adam.Epsilon, AboveZero);
        Require(ZeroOrPositive(adam.Floor), "floor", adam.Floor, ZeroOrAbove);
        Require(ZeroOrPositive(adam.WeightDecay), "weight_decay", adam.WeightDecay, ZeroOrAbove);
        Require(
            ZeroOrPositive(adam.MaxGradNorm),
            "max_grad_norm",
            adam.MaxGradNorm,
            $"0 for no clipping, or {AboveZero}"
        );
    }

    internal const string AboveZero = "above 0, in the range of single precision";
    internal const string ZeroOrAbove = $"0, or {AboveZero}";

    /// <summary>Neither 0 nor infinite when rounded to single precision, in which everything is computed.</summary>
    internal static bool Positive(double value) => (float)value is > 0 and < float.PositiveInfinity;

    internal static bool ZeroOrPositive(double value) => value == 0 || Positive(value);

    internal static void Require<T>(bool holds, string name, T value, string right)
    {
        if (!holds)
            throw new DistillException($"{name}={value} cannot work; it must be {right}.");
    }
}
