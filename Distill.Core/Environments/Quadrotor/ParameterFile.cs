using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Distill.Storage;

namespace Distill.Environments.Quadrotor;

/// <summary>Reads and writes parameter files of rl-tools' L2F simulator: one JSON object per drone.</summary>
public static class ParameterFile
{
    /// <summary>Bytes of the largest file that is read; one drone takes about 4,000.</summary>
    public const int SizeLimit = 1 << 20;

    internal static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = System.Text.Json.Serialization.JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        AllowDuplicateProperties = false,
        MaxDepth = 8,
        WriteIndented = true,
        TypeInfoResolver = new DefaultJsonTypeInfoResolver(),
    };

    /// <summary>One drone, named after the file.</summary>
    /// <exception cref="DistillException">
    /// The file cannot be read, lacks a field or has one that is wrong, unknown, or not implemented by the simulator.
    /// </exception>
    public static QuadrotorParameters Read(string path)
    {
        var bytes = Bytes(path);
        QuadrotorParameters parameters;
        try
        {
            using (var document = JsonDocument.Parse(bytes, new() { MaxDepth = Json.MaxDepth }))
                CheckFields(document.RootElement, typeof(QuadrotorParameters), "", path);
            parameters = JsonSerializer.Deserialize<QuadrotorParameters>(bytes, Json)!;
        }
        // The latter where a name is not text: broken UTF-8 or half of a surrogate pair.
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            throw new DistillException(
                $"Quadrotor parameters {path} are not valid: {exception.Message}",
                exception
            );
        }
        parameters.Check(path);
        return parameters with { Name = Path.GetFileNameWithoutExtension(path) };
    }

    /// <summary>The drones of all .json files of a folder, sorted by file name (ordinal).</summary>
    /// <exception cref="DistillException">There is no such file, or one is refused.</exception>
    public static IReadOnlyList<QuadrotorParameters> ReadFolder(string folder)
    {
        if (!Directory.Exists(folder))
            throw new DistillException($"There is no folder {folder} with quadrotor parameter files.");
        var paths = Directory.GetFiles(folder, "*.json");
        if (paths.Length == 0)
            throw new DistillException($"Folder {folder} has no quadrotor parameter file (*.json).");
        Array.Sort(paths, StringComparer.Ordinal);
        return Array.ConvertAll(paths, Read);
    }

    /// <summary>Writes a drone so that <see cref="Read"/> and rl-tools read it; an old file is replaced in one move.</summary>
    /// <exception cref="DistillException">The parameters are wrong, or the file cannot be written.</exception>
    public static void Write(string path, QuadrotorParameters parameters)
    {
        parameters.Check(parameters.Name);
        AtomicFile.Write(path, stream => JsonSerializer.Serialize(stream, parameters, Json));
    }

    /// <summary>Writes a file for each drone, named after it, into a folder that is made where it is not there.</summary>
    /// <exception cref="DistillException">
    /// Parameters are wrong, a file cannot be written, or the folder has one of another drone, which would fly with these.
    /// </exception>
    public static void WriteFolder(string folder, IReadOnlyList<QuadrotorParameters> drones)
    {
        var names = drones.Select(drone => drone.Name).ToHashSet();
        if (names.Count < drones.Count)
            throw new DistillException($"Of the drones for folder {folder}, two have the same name.");
        OutputFile.Guard(folder, () => Directory.CreateDirectory(folder));
        foreach (var path in Directory.GetFiles(folder, "*.json"))
            if (!names.Contains(Path.GetFileNameWithoutExtension(path)))
                throw new DistillException(
                    $"Folder {folder} has {Path.GetFileName(path)}, which is none of these drones; choose a new or an empty folder."
                );
        foreach (var drone in drones)
            Write(Path.Combine(folder, $"{drone.Name}.json"), drone);
    }

    private static byte[] Bytes(string path) =>
        InputFile.Parse(
            path,
            "quadrotor parameter file",
            stream =>
            {
                InputFile.CheckLength(stream, SizeLimit);
                var bytes = new byte[stream.Length];
                stream.ReadExactly(bytes);
                return bytes;
            }
        );

    // The serializer finds the same faults, but names the .NET type where a user needs the field.
    private static void CheckFields(JsonElement element, Type type, string prefix, string path)
    {
        var known = Json.GetTypeInfo(type);
        if (known.Kind != JsonTypeInfoKind.Object)
            return;
        if (element.ValueKind != JsonValueKind.Object)
            throw new DistillException(
                $"Quadrotor parameters {path}: {(prefix == "" ? "the file" : prefix.TrimEnd('.'))} is not a JSON object."
            );
        foreach (var property in known.Properties)
            if (element.TryGetProperty(property.Name, out var value))
                CheckFields(value, property.PropertyType, $"{prefix}{property.Name}.", path);
            else if (property.IsRequired)
                throw new DistillException(
                    $"Quadrotor parameters {path}: {prefix}{property.Name} is missing."
                );
        foreach (var property in element.EnumerateObject())
            if (!known.Properties.Any(one => one.Name == property.Name))
                throw new DistillException(
                    $"Quadrotor parameters {path}: {prefix}{property.Name} is not a field that this simulator knows."
                );
    }
}
