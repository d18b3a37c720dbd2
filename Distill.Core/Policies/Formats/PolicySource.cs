using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>The tensors of a file of which a policy is made. All exceptions are <see cref="DistillException"/>s that name the file.</summary>
internal sealed class PolicySource(string path, IReadOnlyDictionary<string, Tensor> tensors)
{
    public string Path => path;

    public Tensor this[string name] =>
        tensors.TryGetValue(name, out var tensor)
            ? tensor
            : throw new DistillException($"{path} has no tensor '{name}', which its architecture needs.");

    public bool Has(string name) => tensors.ContainsKey(name);

    public long FirstInteger(string name) =>
        this[name].ToIntegers() is [var value, ..]
            ? value
            : throw new DistillException($"Tensor '{this[name].Name}' of {path} is empty.");

    /// <summary>A policy with the file's parameters.</summary>
    /// <param name="nameOf">The tensor of a parameter.</param>
    /// <param name="activationSource">As <see cref="Policy.ActivationSource"/> has it.</param>
    /// <param name="headSource">As <see cref="Policy.HeadSource"/> has it.</param>
    public Policy Create(
        NetworkSpec spec,
        string observationGroup,
        Func<ParameterView, string> nameOf,
        string? activationSource = null,
        string? headSource = null
    )
    {
        // A network is only allocated if the file holds at least as many numbers, so a lie in it costs nothing.
        if (
            spec.Layers.Count == 0
            || spec.Inputs < 1
            || spec.Layers.Any(layer => layer.Size < 1)
            || spec.ParameterCount > tensors.Values.Sum(tensor => (long)tensor.Count)
        )
            throw new DistillException($"{path} does not hold the parameters of its architecture {spec}.");
        var policy = new Policy(spec, observationGroup)
        {
            ActivationSource = activationSource,
            HeadSource = headSource,
        };
        foreach (var view in policy.Network.Views)
            Copy(this[nameOf(view)], view, policy.Network);
        return policy;
    }

    /// <summary>A normalizer with the file's statistics.</summary>
    public Normalizer Normalizer(int size, Tensor mean, Tensor variance, long count, double epsilon = 1e-2)
    {
        if (mean.Count != size || variance.Count != size)
            throw new DistillException(
                $"The normalizer of {path} has {mean.Count} means and {variance.Count} variances where the network reads {size} numbers."
            );
        var normalizer = new Normalizer(size, epsilon) { Count = count };
        mean.ToFloats().CopyTo(normalizer.Mean, 0);
        variance.ToFloats().CopyTo(normalizer.Variance, 0);
        if (
            count < 0
            || !(epsilon > 0 && double.IsFinite(epsilon))
            || !Array.TrueForAll(normalizer.Mean, float.IsFinite)
            || !Array.TrueForAll(normalizer.Variance, value => value >= 0 && float.IsFinite(value))
        )
            throw new DistillException(
                $"The normalizer of {path} cannot be used: means must be finite, variances and count not negative, epsilon "
                    + "above 0."
            );
        normalizer.Refresh();
        return normalizer;
    }

    private void Copy(Tensor tensor, ParameterView view, Network network)
    {
        if (!tensor.Shape.SequenceEqual(view.Shape))
            throw new DistillException(
                $"Tensor '{tensor.Name}' of {path} has shape {tensor.ShapeText} where [{string.Join(", ", view.Shape)}] is needed."
            );
        var values = tensor.ToFloats();
        if (!Array.TrueForAll(values, float.IsFinite))
            throw new DistillException(
                $"Tensor '{tensor.Name}' of {path} holds a number that is not finite."
            );
        values.CopyTo(network[view]);
    }
}
