using System.Text.Json;
using System.Text.Json.Serialization;

namespace Distill.Environments.External;

/// <summary>What a simulator says of itself when Distill connects, checked.</summary>
/// <param name="Envs">Number of its environments.</param>
/// <param name="Arrays">Names and sizes of what it writes for each environment.</param>
/// <param name="ArrayOf">Index in <paramref name="Arrays"/> of what each observation group shows.</param>
/// <param name="VariantOf"><c>[envs]</c>, or empty where all are alike.</param>
/// <param name="Ends">Whether it gives the observations in which episodes end.</param>
/// <param name="Pauses">Whether the step after the end of an episode begins the next.</param>
/// <param name="MaskedReset">Whether some environments can be reset while others go on.</param>
internal sealed record ExternalFacts(
    EnvironmentSpec Spec,
    int Envs,
    IReadOnlyList<(string Name, int Size)> Arrays,
    IReadOnlyList<int> ArrayOf,
    IReadOnlyList<int> VariantOf,
    bool Ends,
    bool Pauses,
    bool MaskedReset
)
{
    private const int Most = 1 << 20;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
    };

    /// <summary>What it says, but for the number of environments: the same whenever the same simulator is made.</summary>
    public required string Text { get; init; }

    /// <param name="title">Of the simulator, for messages.</param>
    /// <exception cref="DistillException">A fact is missing or cannot be.</exception>
    public static ExternalFacts Read(ReadOnlySpan<byte> message, string title)
    {
        try
        {
            var told = JsonSerializer.Deserialize<Told>(message, Json)!;
            return Checked(told, problem => throw new DistillException($"The simulator {title} {problem}"));
        }
        catch (JsonException exception)
        {
            throw new DistillException(
                $"The simulator {title} describes itself in a way that cannot be read: {exception.Message}",
                exception
            );
        }
    }

    private static ExternalFacts Checked(Told told, Action<string> refuse)
    {
        Require(told.Envs is >= 1 and <= 1 << 24, $"has {told.Envs} environments; at least 1 are needed.");
        Require(
            told.EpisodeLimit is >= 1 and <= 1 << 24,
            $"says episode_limit={told.EpisodeLimit}; it must be between 1 and {1 << 24}."
        );
        Require(
            told.StepSeconds > 0 && double.IsFinite(told.StepSeconds),
            $"says step_seconds={told.StepSeconds}; it must be above 0."
        );
        Require(told.Groups.Length > 0, "has no observation group.");
        foreach (var group in told.Groups)
        {
            var size = group.Components.Sum(component => (long)component.Size);
            Require(
                group.Components.All(component => component.Size >= 1) && size is >= 1 and <= Most,
                $"says that observation group '{group.Name}' has {size} numbers; it must have between 1 and {Most}."
            );
            Require(
                !group.Name.Contains('+'),
                $"has an observation group '{group.Name}'; names must not have a plus sign."
            );
        }
        var names = told.Groups.Select(group => group.Name).ToArray();
        Require(names.Distinct().Count() == names.Length, "has two observation groups of one name.");
        Require(
            told.VariantOf.Length == (told.Variants.Length > 0 ? told.Envs : 0)
                && told.VariantOf.All(variant => variant >= 0 && variant < told.Variants.Length),
            $"says variant_of for {told.VariantOf.Length} of its {told.Envs} environments; it must be the index of one of the "
                + $"{told.Variants.Length} variants for each."
        );
        var arrays = told
            .Groups.Select(group => (group.Array, Size: group.Components.Sum(component => component.Size)))
            .Distinct()
            .ToArray();
        return new ExternalFacts(
            new EnvironmentSpec(
                told.Name,
                [.. told.Groups.Select(group => new ObservationGroup(group.Name, group.Components))],
                Actions(told.Actions, refuse),
                told.EpisodeLimit,
                told.StepSeconds
            )
            {
                Measures = [.. told.Measures.Select(measure => Measure(measure, refuse))],
                Variants = told.Variants,
                Resumes = false,
            },
            told.Envs,
            arrays,
            [.. told.Groups.Select(group => Array.FindIndex(arrays, array => array.Array == group.Array))],
            told.VariantOf,
            told.Ends,
            told.Pauses,
            told.MaskedReset
        )
        {
            Text = JsonSerializer.Serialize(told with { Envs = 0, VariantOf = [] }, Json),
        };

        void Require(bool holds, string problem)
        {
            if (!holds)
                refuse(problem);
        }
    }

    private static ActionSpace Actions(ToldActions told, Action<string> refuse)
    {
        if (told.Choices is { } choices)
        {
            if (choices is < 2 or > Most)
                refuse($"says that its actions have {choices} choices; there must be at least 2.");
            return new ActionSpace(choices, Discrete: true) { Meaning = told.Meaning };
        }
        if (told.Size is < 1 or > Most)
            refuse($"says that its actions have {told.Size} numbers; they must have at least 1.");
        var (low, high) = (
            Bounds(told.Low, double.NegativeInfinity),
            Bounds(told.High, double.PositiveInfinity)
        );
        for (var i = 0; i < told.Size; i++)
        {
            if (!(low[i] < high[i]))
                refuse(
                    $"says that number {i} of its actions is within {Text(low[i])} and {Text(high[i])}, which no number is."
                );
            if (told.Unit && !double.IsFinite(high[i] - low[i]))
                refuse(
                    $"stretches actions to its range, but number {i} is within {Text(low[i])} and {Text(high[i])}."
                );
        }
        return new ActionSpace(told.Size, Discrete: false)
        {
            Meaning =
                told.Meaning.Length > 0 ? told.Meaning
                : told.Low.Length == 0 ? ""
                : (told.Unit ? "-1 to 1 stretched to " : "clipped to ")
                    + string.Join(
                        ", ",
                        Enumerable.Range(0, told.Size).Select(i => $"{Text(low[i])} to {Text(high[i])}")
                    ),
        };

        double[] Bounds(double?[] bounds, double missing)
        {
            if (bounds.Length == 0)
                return [.. Enumerable.Repeat(missing, told.Size)];
            if (bounds.Length != told.Size)
                refuse($"says a range of {bounds.Length} numbers for actions of {told.Size}.");
            return [.. bounds.Select(bound => bound ?? missing)];
        }

        static string Text(double value) =>
            value.ToString("G6", System.Globalization.CultureInfo.InvariantCulture);
    }

    private static EnvironmentMeasure Measure(ToldMeasure told, Action<string> refuse)
    {
        if (!Enum.TryParse<MeasureOver>(told.Over, ignoreCase: true, out var over))
            refuse($"says that measure '{told.Name}' is over '{told.Over}'; it must be mean, final or max.");
        return new EnvironmentMeasure(told.Name, told.Unit, over) { HigherIsBetter = told.HigherIsBetter };
    }

    private sealed record Told(
        string Name,
        int Envs,
        ToldGroup[] Groups,
        ToldActions Actions,
        int EpisodeLimit,
        double StepSeconds,
        ToldMeasure[] Measures,
        string[] Variants,
        int[] VariantOf,
        bool MaskedReset,
        bool Ends,
        bool Pauses = false
    );

    private sealed record ToldGroup(string Name, string Array, ObservationComponent[] Components);

    private sealed record ToldActions
    {
        public int Size { get; init; }
        public int? Choices { get; init; }
        public double?[] Low { get; init; } = [];
        public double?[] High { get; init; } = [];
        public bool Unit { get; init; }
        public string Meaning { get; init; } = "";
    }

    private sealed record ToldMeasure
    {
        public required string Name { get; init; }
        public string Unit { get; init; } = "";
        public string Over { get; init; } = "mean";
        public bool HigherIsBetter { get; init; }
    }
}
