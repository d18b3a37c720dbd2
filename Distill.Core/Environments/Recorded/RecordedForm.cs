using System.Text.Json;
using Distill.Storage;

namespace Distill.Environments.Recorded;

/// <summary>Names of the arrays of recorded data; see docs/recorded-data.md.</summary>
public static class RecordedForm
{
    /// <summary>Before the name of an observation group: <c>observations/student</c>.</summary>
    public const string Observations = "observations/";

    /// <summary>What the student reads, where a file has one group without a name.</summary>
    public const string Observation = "observation";

    /// <summary>The group that <see cref="Observation"/> is where no environment says another.</summary>
    public const string DefaultGroup = "student";

    /// <summary>What the expert does there: the labels.</summary>
    public const string Actions = "actions";

    /// <summary>What a student would have done there, or did.</summary>
    public const string StudentActions = "student_actions";

    /// <summary>All that describes the expert's distribution over actions, where a run learned from that.</summary>
    public const string Distributions = "action_distributions";

    public const string Rewards = "rewards";
    public const string Terminated = "terminated";
    public const string Truncated = "truncated";
    public const string Success = "success";
    public const string Weights = "weights";

    /// <summary>What made the rows, as JSON in bytes; see <see cref="RecordedFacts"/>.</summary>
    public const string Facts = "metadata";

    /// <summary>The array of a group in a file, under its own name or, of the group that students read, as the only one.</summary>
    /// <param name="only">The group that <see cref="Observation"/> stands for.</param>
    internal static string? ArrayOf(NpzInput file, string group, string only) =>
        file.Contains(Observations + group) ? Observations + group
        : group == only && file.Contains(Observation) ? Observation
        : null;

    /// <summary>The groups in a file.</summary>
    internal static IEnumerable<string> Groups(NpzInput file) =>
        file
            .Names.Where(name => name.StartsWith(Observations, StringComparison.Ordinal))
            .Select(name => name[Observations.Length..])
            .Concat(file.Contains(Observation) ? [DefaultGroup] : Array.Empty<string>())
            .Distinct();
}

/// <summary>What made recorded rows.</summary>
/// <param name="Environment">Name of the environment.</param>
/// <param name="Groups">Components of the observation groups, in order, with their sizes.</param>
/// <param name="Actions">Size, whether they are choices, and their meaning.</param>
/// <param name="EpisodeLimit">Steps after which an episode was truncated.</param>
/// <param name="StepSeconds">Simulated seconds of one step.</param>
/// <param name="Seed">Of the run that recorded them.</param>
/// <param name="Teacher">Who gave the labels.</param>
public sealed record RecordedFacts(
    string Environment,
    IReadOnlyDictionary<string, IReadOnlyList<ObservationComponent>> Groups,
    ActionSpace Actions,
    int EpisodeLimit,
    double StepSeconds,
    ulong Seed,
    string Teacher
)
{
    private const int MostBytes = 1 << 20;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        MaxDepth = 8,
    };

    /// <param name="groups">Names of the groups that are recorded.</param>
    public static RecordedFacts Of(
        EnvironmentSpec spec,
        IEnumerable<string> groups,
        ulong seed,
        string teacher
    ) =>
        new(
            spec.Name,
            groups.ToDictionary(group => group, group => spec.Groups[spec.Group(group)].Components),
            spec.Actions,
            spec.EpisodeLimit,
            spec.StepSeconds,
            seed,
            teacher
        );

    /// <summary>As an array of bytes.</summary>
    public NpzArray ToArray()
    {
        var bytes = JsonSerializer.SerializeToUtf8Bytes(this, Json);
        return new NpzArray(
            RecordedForm.Facts,
            ElementType.UInt8,
            [bytes.Length],
            stream => stream.Write(bytes)
        );
    }

    /// <summary>What a file says; null where it says nothing.</summary>
    /// <exception cref="DistillException">It is damaged.</exception>
    internal static RecordedFacts? Read(NpzInput file, string path)
    {
        if (!file.Contains(RecordedForm.Facts))
            return null;
        using var array = file.Open(RecordedForm.Facts);
        try
        {
            if (array.ElementType != ElementType.UInt8 || array.Shape is not [<= MostBytes])
                throw new JsonException("bytes are needed");
            var values = new float[array.Shape[0]];
            array.Read(values);
            var bytes = Array.ConvertAll(values, value => (byte)value);
            return
                JsonSerializer.Deserialize<RecordedFacts>(bytes, Json)
                    is { Groups: not null, Actions: { Size: > 0, Meaning: not null } } facts
                && facts.Groups.Values.All(group =>
                    group is not null
                    && group.All(component => component is { Name: not null, Size: > 0 and < 1 << 20 })
                )
                ? facts
                : throw new JsonException("something is missing");
        }
        catch (JsonException e)
        {
            throw new DistillException(
                $"The array '{RecordedForm.Facts}' of '{path}' is not what a run writes there ({e.Message.TrimEnd('.')}); leave it out.",
                e
            );
        }
    }
}
