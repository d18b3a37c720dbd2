using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>
/// Adam's state as PyTorch's <c>optimizer.state_dict()</c> has it: parameters by their number, in the order in which the
/// state dict of the model lists them.
/// </summary>
internal static class OptimizerState
{
    private const string Key = "optimizer_state_dict";

    /// <summary>An entry for the root of a checkpoint.</summary>
    public static (string, TorchValue) Of(Network network, Adam adam)
    {
        var state = new OrderedDictionary<TorchKey, TorchValue>();
        var numbers = new List<TorchValue>();
        foreach (var view in network.Views)
        {
            state[numbers.Count] = TorchValue.Dict.Of(
                ("step", Array([adam.Steps])),
                ("exp_avg", Array(adam.FirstMoments.Slice(view.Offset, view.Length), [.. view.Shape])),
                ("exp_avg_sq", Array(adam.SecondMoments.Slice(view.Offset, view.Length), [.. view.Shape]))
            );
            numbers.Add(new TorchValue.Int(numbers.Count));
        }
        var config = adam.Config;
        var group = TorchValue.Dict.Of(
            ("lr", new TorchValue.Float(adam.LearningRate)),
            (
                "betas",
                new TorchValue.Tuple([new TorchValue.Float(config.Beta1), new TorchValue.Float(config.Beta2)])
            ),
            ("eps", new TorchValue.Float(config.Epsilon.Value)),
            ("weight_decay", new TorchValue.Float(config.WeightDecay.Value)),
            ("amsgrad", new TorchValue.Bool(false)),
            ("maximize", new TorchValue.Bool(false)),
            ("params", new TorchValue.List(numbers))
        );
        return (
            Key,
            TorchValue.Dict.Of(
                ("state", new TorchValue.Dict(state)),
                ("param_groups", new TorchValue.List([group]))
            )
        );

        static TorchValue.Array Array(ReadOnlySpan<float> values, params int[] shape) =>
            new(Tensor.OfFloats("", values, shape));
    }

    /// <summary>
    /// Lets Adam go on from a checkpoint's state, where it has one for each of the network's parameters. Of a last layer that gave
    /// deviations, too, those of the means are taken.
    /// </summary>
    /// <returns>Whether it has.</returns>
    /// <exception cref="DistillException">It has one that does not fit the network.</exception>
    public static bool Restore(PyTorchFile file, Network network, Adam adam)
    {
        var tensors = file.Tensors.ToDictionary(tensor => tensor.Name);
        var names = network.Views.Select((_, i) => $"{Key}/state/{i}/").ToArray();
        if (!names.Zip(network.Views).All(pair => Has(pair.First + "exp_avg", pair.Second.Shape)))
            return false;
        foreach (var (view, name) in network.Views.Zip(names))
        {
            Read(name + "exp_avg", view.Shape).CopyTo(adam.FirstMoments.Slice(view.Offset, view.Length));
            var second = Read(name + "exp_avg_sq", view.Shape);
            if (System.Array.Exists(second, value => value < 0))
                throw Broken($"{name}exp_avg_sq is negative somewhere");
            second.CopyTo(adam.SecondMoments.Slice(view.Offset, view.Length));
        }
        var steps = Read(names[0] + "step", [])[0];
        if (steps is < 0 or > 1e15f)
            throw Broken($"it says that {steps} steps were taken");
        adam.Steps = (long)steps;
        return true;

        // Of a last layer that gave no deviations yet it has but half.
        bool Has(string name, IReadOnlyList<int> shape) =>
            tensors.TryGetValue(name, out var tensor)
            && !(
                tensor.Shape.Count == shape.Count && tensor.Shape.Count > 0 && 2 * tensor.Shape[0] == shape[0]
            );

        float[] Read(string name, IReadOnlyList<int> shape)
        {
            if (!tensors.TryGetValue(name, out var tensor) || !(Same(tensor, 1) || Same(tensor, 2)))
                throw Broken($"{name} should have the shape [{string.Join(", ", shape)}]");
            var values = tensor.ToFloats()[..shape.Aggregate(1, (product, size) => product * size)];
            return System.Array.TrueForAll(values, float.IsFinite)
                ? values
                : throw Broken($"{name} holds a number that is not finite");

            bool Same(Tensor tensor, int times) =>
                tensor.Shape.SequenceEqual(shape.Select((size, axis) => axis == 0 ? times * size : size));
        }

        DistillException Broken(string reason) =>
            new($"The optimizer's state in {file.Path} cannot be used: {reason}.");
    }
}
