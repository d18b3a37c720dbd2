using System.Globalization;
using Distill.Environments;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>What whoever flies an exported policy must know: the order of its numbers, their frames and units, and its rate.</summary>
public static class PolicyFacts
{
    private const string Environment = "environment";
    private const string Observation = "observation";
    private const string Action = "action";
    private const string StepSeconds = "step_seconds";

    /// <summary>What computes observations that the policy reads, where a network does (<see cref="ObservationView.ComputedBy"/>).</summary>
    internal const string Encoder = "encoder";

    /// <summary>Notes in the metadata of a policy what its numbers are in the environment that it is trained in.</summary>
    /// <exception cref="DistillException">The environment has no observation group of the policy's name.</exception>
    public static void Note(Policy policy, EnvironmentSpec environment)
    {
        policy.Metadata[Environment] = environment.Name;
        policy.Metadata[Observation] = Order(environment, policy.ObservationGroup);
        policy.Metadata[Action] = environment.Actions.Meaning;
        if (new ObservationView(environment, policy.ObservationGroup).ComputedBy is { Length: > 0 } encoder)
            policy.Metadata[Encoder] = encoder;
        policy.Metadata[StepSeconds] = environment.StepSeconds.ToString("R", CultureInfo.InvariantCulture);
    }

    /// <summary>Whether <see cref="Note"/> writes such an entry.</summary>
    internal static bool IsFact(string name) =>
        name is Environment or Observation or Action or StepSeconds or Encoder;

    /// <summary>Simulated seconds of one step, as the policy's file says them; null where it does not.</summary>
    internal static double? SecondsOf(Policy policy) =>
        double.TryParse(
            policy.Metadata.GetValueOrDefault(StepSeconds),
            NumberStyles.Float,
            CultureInfo.InvariantCulture,
            out var seconds
        ) && seconds is > 0 and < double.PositiveInfinity
            ? seconds
            : null;

    /// <summary>All facts by name, in the order in which people want them; what else the file says of the policy comes last.</summary>
    internal static IReadOnlyList<(string Name, string Text)> Of(Policy policy)
    {
        var spec = policy.Network.Spec;
        var seconds = SecondsOf(policy);
        var actions = spec.Head == Head.Categorical ? $"1 of {spec.Outputs} choices" : $"[0:{spec.Outputs}]";
        (string Name, string Text)[] own =
        [
            ("made_by", "Distill"),
            ("architecture", policy.Architecture),
            ("parameters", $"{policy.Network.ParameterCount}"),
            ("observation_group", policy.ObservationGroup),
            (
                Observation,
                Said(Observation)
                    ?? $"[0:{spec.Inputs}] the order is not known, for the policy's file does not say it"
            ),
            (Action, $"{actions} {Said(Action) ?? "the meaning is not known"}"),
            (
                "rate_hz",
                seconds is { } known
                    ? (1 / known).ToString("G6", CultureInfo.InvariantCulture)
                    : "not known, for the policy's file does not say it"
            ),
            (
                "memory",
                policy.MemorySize == 0
                    ? "none"
                    : $"[0:{policy.MemorySize}] zeros where an episode starts, then what the step before gave"
            ),
        ];
        return
        [
            .. own,
            .. policy
                .Metadata.Where(entry => !Array.Exists(own, fact => fact.Name == entry.Key))
                .OrderBy(entry => entry.Key, StringComparer.Ordinal)
                .Select(entry => (entry.Key, entry.Value)),
        ];

        string? Said(string name) =>
            policy.Metadata.GetValueOrDefault(name) is { Length: > 0 } text ? text : null;
    }

    /// <summary>The facts as lines of a comment, each without characters that could end it; lists take a line for each part.</summary>
    internal static IEnumerable<string> Lines(Policy policy)
    {
        foreach (var (name, text) in Of(policy))
        {
            var parts = text.Split("; ");
            yield return Plain($"{name}: {(parts.Length == 1 ? text : "")}").TrimEnd();
            if (parts.Length > 1)
                foreach (var part in parts)
                    yield return Plain($"    {part}");
        }

        static string Plain(string text) =>
            DistillException.Printable(text).Replace("*/", "* /").Replace("/*", "/ *").TrimEnd('\\');
    }

    /// <summary>As ranges of indices: <c>[0:3] position, world, m; [3:12] rotation matrix</c>.</summary>
    private static string Order(EnvironmentSpec environment, string groups)
    {
        var first = 0;
        var parts = new List<string>();
        foreach (var name in groups.Split('+'))
        foreach (var component in environment.Groups[environment.Group(name)].Components)
        {
            parts.Add($"[{first}:{first + component.Size}] {component.Name}");
            first += component.Size;
        }
        return string.Join("; ", parts);
    }
}
