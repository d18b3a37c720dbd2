using Distill.Storage;
using static Distill.SettingCheck;

namespace Distill.Environments.Recorded;

/// <summary>
/// Recorded data in the place of an environment: they say what observations and actions are, and nothing can be done in them. For
/// distillation from recorded rows alone.
/// </summary>
public sealed record RecordedConfig : IEnvironmentConfig
{
    private (IReadOnlyList<string> Files, EnvironmentSpec Spec)? known;

    /// <summary>Files, or folders of which all <c>.npz</c> are taken.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>
    /// Pieces that rows that follow each other are cut into, to be read side by side. Raise it where reading is slow, lower it where
    /// memory is short.
    /// </summary>
    public int Envs { get; init; } = 256;

    /// <summary>
    /// Number of choices where the actions are indices of choices; 0 for continuous actions. Files that a run has written say it
    /// themselves.
    /// </summary>
    public int Choices { get; init; }

    /// <summary>Simulated seconds of one step; 0 where it is not known. Files that a run has written say it themselves.</summary>
    public double StepSeconds { get; init; }

    /// <exception cref="DistillException">The first file is missing, damaged, or has no observations and actions.</exception>
    public EnvironmentSpec Spec
    {
        get
        {
            // Asked for often, and it opens a file.
            if (!ReferenceEquals(known?.Files, Files))
                known = (Files, ReadSpec());
            var (spec, facts) = (known!.Value.Spec, known.Value.Spec.Actions);
            Require(Choices >= 0, "choices", Choices, "0 for continuous actions, or more");
            Require(StepSeconds >= 0, "step_seconds", StepSeconds, "0 where it is not known, or more");
            return spec with
            {
                Actions = Choices > 0 ? facts with { Size = Choices, Discrete = true } : facts,
                StepSeconds = StepSeconds > 0 ? StepSeconds : spec.StepSeconds,
            };
        }
    }

    public IBatchedEnvironment Create(int envs, ulong seed) => new Stillness(Spec, envs);

    private EnvironmentSpec ReadSpec()
    {
        var path = RecordedData.Find(Files)[0];
        using var file = new NpzInput(path);
        var facts = RecordedFacts.Read(file, path);
        var groups = RecordedForm
            .Groups(file)
            .Select(group => new ObservationGroup(group, Components(file, facts, group)))
            .ToArray();
        if (groups.Length == 0 || !file.Contains(RecordedForm.Actions))
            throw new DistillException(
                $"The recorded data '{path}' cannot be used: they need '{RecordedForm.Observations}NAME' and '{RecordedForm.Actions}'; "
                    + $"they have: {string.Join(", ", file.Names)}."
            );
        using var actions = file.Open(RecordedForm.Actions);
        // Rows of one number may have no dimension of their own, as the observations then show.
        using var first = file.Open(RecordedForm.ArrayOf(file, groups[0].Name, RecordedForm.DefaultGroup)!);
        var own = actions.Shape.Count < Math.Max(2, first.Shape.Count) ? 1 : actions.Shape[^1];
        return new EnvironmentSpec(
            facts?.Environment ?? "recorded data",
            groups,
            facts?.Actions ?? new ActionSpace(own, Discrete: false),
            facts?.EpisodeLimit ?? 1000,
            facts?.StepSeconds ?? 0
        );
    }

    private static IReadOnlyList<ObservationComponent> Components(
        NpzInput file,
        RecordedFacts? facts,
        string group
    )
    {
        if (facts is not null && facts.Groups.TryGetValue(group, out var known))
            return known;
        using var array = file.Open(RecordedForm.ArrayOf(file, group, RecordedForm.DefaultGroup)!);
        return [new ObservationComponent("recorded", array.Shape.Count < 2 ? 1 : array.Shape[^1])];
    }

    /// <summary>Has the shape of what was recorded, and refuses to move.</summary>
    private sealed class Stillness(EnvironmentSpec spec, int envs) : IBatchedEnvironment
    {
        public EnvironmentSpec Spec => spec;
        public int Count => envs;

        public void Reset(int panel) { }

        public void Observe(int panel, int group, Span<float> observation) => observation.Clear();

        public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome) =>
            throw new DistillException(
                "Nothing can be done in recorded data: they are no environment. Train on them with collection=seed_data_only, "
                    + "and name an environment to evaluate in."
            );

        public void Rewind() { }

        public void Visit(State state) { }

        public void Dispose() { }
    }
}
