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

    public abstract NetworkSpec Network(int inputs, int outputs, Head head);

    /// <summary>Whether it begins from a draw, so that another draw gives another student.</summary>
    internal virtual bool Drawn => true;

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
    /// A .safetensors or .pt file. It brings the architecture and its observation normalizer; training may ask for another
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

    internal override bool Drawn => false;

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
        var normalize = NormalizeObservations && source.Normalizer is null;
        var student = new Policy(source.Network.Spec with { Head = head }, ObservationGroup, normalize)
        {
            ActivationSource = source.ActivationSource,
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

    private Policy Load() =>
        File == ""
            ? throw new DistillException("student=file needs the file to begin with: student.file=FILE.")
            : PolicyFile.Load(File, ObservationGroup, Activation);
}
