using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>Distill's own form: safetensors with the architecture in the metadata; without one, a RAPTOR student.</summary>
internal sealed class SafeTensorsFormat : PolicyFormat
{
    public override Policy Load(string path, Activation? activation, PolicyRole? role)
    {
        var content = SafeTensors.Read(path);
        var source = new PolicySource(path, content.Tensors.ToDictionary(tensor => tensor.Name));
        if (!content.Metadata.TryGetValue(Architecture.Key, out var json))
            return RaptorStudent.Read(source, activation);
        var policy = Architecture.Read(
            json,
            source,
            (_, view) => view.Name,
            ("normaliser.mean", "normaliser.variance", "normaliser.count")
        );
        foreach (var (key, value) in content.Metadata.Where(entry => entry.Key != Architecture.Key))
            policy.Metadata[key] = value;
        return policy;
    }

    public override void Save(
        string path,
        Policy policy,
        long iteration,
        Optimizer? optimizer,
        double? bestReturn
    )
    {
        var network = policy.Network;
        var tensors = network
            .Views.Select(view => Tensor.OfFloats(view.Name, network[view], [.. view.Shape]))
            .ToList();
        if (policy.Normalizer is { } normalizer)
        {
            tensors.Add(Tensor.OfFloats("normaliser.mean", normalizer.Mean, normalizer.Size));
            tensors.Add(Tensor.OfFloats("normaliser.variance", normalizer.Variance, normalizer.Size));
            tensors.Add(Tensor.OfIntegers("normaliser.count", [normalizer.Count]));
        }
        var metadata = new SortedDictionary<string, string>(policy.Metadata, StringComparer.Ordinal)
        {
            [Architecture.Key] = Architecture.Describe(policy),
        };
        SafeTensors.Write(path, tensors, metadata);
    }
}
