using System.Text.Json;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>What Distill's own files say about a policy beside its tensors, as JSON.</summary>
internal sealed record Architecture(
    int Inputs,
    string[] Layers,
    Head Head,
    string ObservationGroup,
    double? NormaliserEpsilon
)
{
    /// <summary>Name of the entry in a file.</summary>
    public const string Key = "distill.architecture";

    public static string Describe(Policy policy) =>
        JsonSerializer.Serialize(
            new Architecture(
                policy.Network.Spec.Inputs,
                [.. policy.Network.Spec.Layers.Select(layer => layer.Text)],
                policy.Network.Spec.Head,
                policy.ObservationGroup,
                policy.Normalizer?.Epsilon
            )
        );

    /// <summary>The policy that a file describes.</summary>
    /// <param name="nameOf">The tensor of a parameter.</param>
    /// <param name="normalizer">The tensors of mean, variance and count.</param>
    public static Policy Read(
        string json,
        PolicySource source,
        Func<NetworkSpec, ParameterView, string> nameOf,
        (string Mean, string Variance, string Count) normalizer
    )
    {
        var architecture = Parse(source.Path, json);
        var spec = architecture.Spec(source.Path);
        var policy = source.Create(spec, architecture.ObservationGroup, view => nameOf(spec, view));
        if (architecture.NormaliserEpsilon is { } epsilon)
            policy.Normalizer = source.Normalizer(
                spec.Inputs,
                source[normalizer.Mean],
                source[normalizer.Variance],
                source.FirstInteger(normalizer.Count),
                epsilon
            );
        return policy;
    }

    private static Architecture Parse(string path, string json)
    {
        try
        {
            if (
                JsonSerializer.Deserialize<Architecture>(json)
                    is { Layers: not null, ObservationGroup: not null } parsed
                && Enum.IsDefined(parsed.Head)
            )
                return parsed;
        }
        catch (JsonException) { }
        throw new DistillException($"The architecture in the metadata of {path} cannot be read.");
    }

    private NetworkSpec Spec(string path) =>
        new(
            Inputs,
            [
                .. Layers.Select(text =>
                    LayerSpec.Parse(text)
                    ?? throw new DistillException(
                        $"{path} has a layer '{text}', which Distill does not know."
                    )
                ),
            ],
            Head
        );
}
