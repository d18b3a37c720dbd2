using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>Architecture of a student; the sizes of its input and output come from the environment.</summary>
public abstract record StudentConfig
{
    /// <summary>Observation group that the student reads.</summary>
    public string ObservationGroup { get; init; } = "student";

    /// <summary>Whether its observations are normalized by running statistics, updated once per iteration.</summary>
    public bool NormalizeObservations { get; init; }

    /// <summary>
    /// What its outputs mean: "gaussian", "state_dependent_log_std", "squashed_gaussian", …; null for what the loss needs. A loss
    /// of actions trains the mean of any of them, with the deviation left as it begins.
    /// </summary>
    public Head? Head { get; init; }

    public abstract NetworkSpec Network(int inputs, int outputs, Head head);

    /// <summary>Whether it begins from a draw, so that another draw gives another student.</summary>
    internal virtual bool Drawn => true;

    /// <summary>Whether it is known how far to stray from its best action: 1 for a new Gaussian, or what a file says.</summary>
    internal virtual bool Described => true;

    /// <summary>The student before training, its parameters drawn from the stream.</summary>
    /// <exception cref="DistillException">The settings are wrong or do not fit the sizes.</exception>
    public virtual Policy Create(int inputs, int outputs, Head head, RandomStream stream)
    {
        var student = new Policy(Network(inputs, outputs, head), ObservationGroup, NormalizeObservations);
        student.Network.Initialize(stream);
        return student;
    }

    /// <summary>Sets the optimizer to where it begins.</summary>
    public virtual void Prepare(Optimizer optimizer, Policy student) { }
}

/// <summary>A student without memory.</summary>
public sealed record MlpStudent : StudentConfig
{
    /// <summary>
    /// Sizes of the hidden layers. Raise them while the loss on teacher-driven data stays high, lower them when the student overfits
    /// or has to be fast.
    /// </summary>
    public IReadOnlyList<int> Hidden { get; init; } = [64, 64];

    /// <summary>Nonlinearity of the hidden layers.</summary>
    public Activation Activation { get; init; } = Activation.Elu;

    public override NetworkSpec Network(int inputs, int outputs, Head head) =>
        NetworkSpec.Mlp(inputs, Hidden, outputs, Activation, head);
}

/// <summary>A recurrent student: Dense (ReLU), a layer with a memory, optionally Dense (ReLU), output.</summary>
public abstract record RecurrentStudent : StudentConfig
{
    /// <summary>
    /// Size of the layer with the memory and of the dense layer before it. Raise it where the student has to remember more than
    /// it can, lower it when it overfits or has to be fast: time and memory grow with its square.
    /// </summary>
    public int Hidden { get; init; } = 16;

    /// <summary>
    /// Size of a dense layer between the memory and the output; 0 for none. Begin with 0 (RAPTOR has none); raise it while the loss on
    /// teacher-driven data stays high, lower it when the student overfits or has to be fast.
    /// </summary>
    public int DenseAfter { get; init; } = 0;

    /// <summary>The layer with the memory.</summary>
    protected abstract LayerSpec Memory { get; }

    public override NetworkSpec Network(int inputs, int outputs, Head head) =>
        NetworkSpec.RecurrentStack(inputs, Hidden, Memory, DenseAfter, outputs, head);
}

/// <summary>A recurrent student whose memory is a GRU: the usual choice.</summary>
public sealed record GruStudent : RecurrentStudent
{
    protected override LayerSpec Memory => new Gru(Hidden);
}

/// <summary>
/// A recurrent student whose memory is an LSTM: a third more parameters than a GRU of its size. Take it where a robot's other
/// networks have LSTMs, or where the memory has to hold something for hundreds of steps.
/// </summary>
public sealed record LstmStudent : RecurrentStudent
{
    protected override LayerSpec Memory => new Lstm(Hidden);
}

/// <summary>A student that was trained before, to be trained on: fine-tuning, another task, another teacher.</summary>
public sealed record FileStudent : StudentConfig
{
    /// <summary>
    /// A .safetensors or .pt file. It brings the architecture and its observation normalizer; training may ask for another
    /// head, and then takes over what gives the mean.
    /// </summary>
    public string File { get; init; } = "";

    /// <summary>Nonlinearity of its hidden layers; null for what the file or <c>params/agent.yaml</c> beside it says.</summary>
    public Activation? Activation { get; init; }

    /// <summary>
    /// Whether Adam goes on with the moments of the file, which Distill's .pt checkpoints have. Switch it off when the data
    /// are of another kind than those the student was trained on.
    /// </summary>
    public bool KeepOptimizer { get; init; } = true;

    internal override bool Drawn => false;

    internal override bool Described
    {
        get
        {
            using var policy = Load();
            return policy.Distribution is not null;
        }
    }

    public override NetworkSpec Network(int inputs, int outputs, Head head)
    {
        using var policy = Load();
        return WithHead(policy.Network.Spec, head);
    }

    public override Policy Create(int inputs, int outputs, Head head, RandomStream stream)
    {
        using var source = Load();
        if ((source.Network.Spec.Head == Networks.Head.Categorical) != (head == Networks.Head.Categorical))
            throw new DistillException(
                $"The student {File} {(head == Networks.Head.Categorical ? "gives continuous actions" : "chooses")}, "
                    + $"but the loss is for {(head == Networks.Head.Categorical ? "choices" : "continuous actions")}."
            );
        var normalize = NormalizeObservations && source.Normalizer is null;
        var spec = WithHead(source.Network.Spec, head);
        var student = new Policy(spec, ObservationGroup, normalize)
        {
            ActivationSource = source.ActivationSource,
            HeadSource = spec.Head == source.Network.Spec.Head ? source.HeadSource : null,
        };
        student.Network.Initialize(stream);
        source.Network.CopyTo(student.Network);
        student.Normalizer ??= source.Normalizer;
        return student;
    }

    public override void Prepare(Optimizer optimizer, Policy student)
    {
        if (KeepOptimizer)
            PolicyFile.RestoreOptimizer(File, student.Network, optimizer);
    }

    /// <summary>The file's distribution is kept where the loss needs one and nobody says which.</summary>
    private NetworkSpec WithHead(NetworkSpec spec, Head head) =>
        Head is null
        && head == Networks.Head.Gaussian
        && spec.Head is not (Networks.Head.Plain or Networks.Head.Categorical)
            ? spec
            : spec.WithHead(head);

    private Policy Load() =>
        File == ""
            ? throw new DistillException("student=file needs the file to begin with: student.file=FILE.")
            : PolicyFile.Load(File, ObservationGroup, Activation);
}
