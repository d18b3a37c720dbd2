using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// The form of the released RAPTOR student: safetensors that say nothing about their architecture, named <c>input</c>,
/// <c>gru</c> and <c>output</c>; the first layer has a ReLU.
/// </summary>
internal static class RaptorStudent
{
    private static readonly string[] Names = ["input", "gru", "output"];

    public static Policy Read(PolicySource source, Activation? activation)
    {
        if (!source.Has("gru.weight_ih") || !source.Has("input.weight") || !source.Has("output.weight"))
            throw new DistillException(
                $"{source.Path} says nothing about its architecture (metadata '{Architecture.Key}') and is not of the form input, gru, output."
            );
        var (input, output) = (source["input.weight"], source["output.weight"]);
        var hidden = source["gru.weight_hh"];
        foreach (var matrix in new[] { input, output, hidden })
            if (matrix.Shape.Count != 2)
                throw new DistillException(
                    $"Tensor '{matrix.Name}' of {source.Path} has shape {matrix.ShapeText}; a matrix is needed."
                );
        var spec = new NetworkSpec(
            input.Shape[1],
            [
                new Dense(input.Shape[0], activation ?? Activation.Relu),
                new Gru(hidden.Shape[1]),
                new Dense(output.Shape[0], Activation.Identity),
            ]
        );
        // A view is called by the number of its layer, such as 1.weight_ih.
        return source.Create(
            spec,
            "student",
            view => $"{Names[view.Name[0] - '0']}{view.Name[1..]}",
            activation is null ? Policy.Assumed : Policy.AsSet
        );
    }
}
