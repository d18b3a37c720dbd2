using System.Security.Cryptography;
using System.Text.Json;
using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>Trajectory transformers as safetensors files: the parameters by their names, the sizes as JSON in the metadata.</summary>
public static class EncoderFile
{
    /// <summary>Name of the entry in a file.</summary>
    public const string Key = "distill.encoder";

    /// <param name="metadata">What else to note; null for nothing.</param>
    /// <exception cref="DistillException">The file cannot be written.</exception>
    public static void Save(
        string path,
        TrajectoryTransformer network,
        IReadOnlyDictionary<string, string>? metadata = null
    ) =>
        SafeTensors.Write(
            path,
            network.Views.Select(view => Tensor.OfFloats(view.Name, network[view], [.. view.Shape])),
            new SortedDictionary<string, string>(
                (metadata ?? new Dictionary<string, string>()).ToDictionary(),
                StringComparer.Ordinal
            )
            {
                [Key] = JsonSerializer.Serialize(new Sizes(network.Config, network.States, network.Actions)),
            }
        );

    /// <exception cref="DistillException">The file is missing or damaged, or holds no encoder.</exception>
    public static TrajectoryTransformer Load(string path)
    {
        var content = SafeTensors.Read(path);
        if (!content.Metadata.TryGetValue(Key, out var json) || Parse(json) is not { Config: not null } sizes)
            throw new DistillException($"{path} does not say that it holds a trajectory transformer.");
        var tensors = content.Tensors.ToDictionary(tensor => tensor.Name);
        var network = new TrajectoryTransformer(sizes.Config, sizes.States, sizes.Actions);
        try
        {
            foreach (var view in network.Views)
            {
                if (
                    !tensors.TryGetValue(view.Name, out var tensor) || !tensor.Shape.SequenceEqual(view.Shape)
                )
                    throw new DistillException(
                        $"{path} has no tensor {view.Name} of shape [{string.Join(", ", view.Shape)}]."
                    );
                tensor.ToFloats().CopyTo(network[view]);
            }
            if (!Elementwise.AllFinite(network.Parameters.Span))
                throw new DistillException($"{path} has weights that are not finite numbers.");
            return network;
        }
        catch
        {
            network.Dispose();
            throw;
        }
    }

    /// <summary>Which file it is: SHA-256 of its content, in hexadecimal digits.</summary>
    /// <exception cref="DistillException">It cannot be read.</exception>
    public static string HashOf(string path)
    {
        try
        {
            using var file = File.OpenRead(path);
            return Convert.ToHexStringLower(SHA256.HashData(file));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new DistillException($"The encoder '{path}' cannot be read: {error.Message}");
        }
    }

    private static Sizes? Parse(string json)
    {
        try
        {
            return JsonSerializer.Deserialize<Sizes>(json);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private sealed record Sizes(TransformerConfig Config, int States, int Actions);
}
