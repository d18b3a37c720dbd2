namespace Distill.Policies;

/// <summary>
/// Policies for machines that have no Distill: ONNX, a header in C, and a PyTorch checkpoint with the Python that runs it. What
/// was exported gives the deterministic action and, but for the checkpoint, cannot be read back.
/// </summary>
public static class PolicyExport
{
    private static readonly (string Kind, string Ending, Action<string, Policy> Save)[] All =
    [
        ("onnx", ".onnx", OnnxExport.Save),
        ("c", ".h", CExport.Save),
        ("pt", ".pt", PyTorchExport.Save),
    ];

    /// <summary>The ending of the names of files of a kind: <c>onnx</c>, <c>c</c> or <c>pt</c>.</summary>
    /// <exception cref="DistillException">There is no such kind.</exception>
    public static string EndingOf(string kind) =>
        Array.Find(All, export => export.Kind == kind).Ending
        ?? throw new DistillException(
            $"There is no export to '{kind}'; there are: {string.Join(", ", All.Select(export => export.Kind))}."
        );

    /// <summary>Whether the name is that of an export.</summary>
    internal static bool IsExport(string path) => Find(path) is not null;

    /// <summary>Writes a policy in the form that the ending of the name says, atomically. Same policy, same bytes.</summary>
    /// <param name="path">Ends in <c>.onnx</c>, <c>.h</c> or <c>.pt</c>; beside the last a <c>.py</c> is written.</param>
    /// <exception cref="DistillException">There is no such form, the policy has none, or the file cannot be written.</exception>
    public static void Save(string path, Policy policy) => SaveOf(path)(path, policy);

    /// <summary>Refuses a name that says no form.</summary>
    /// <exception cref="DistillException">It does not end as one of an export.</exception>
    public static void Check(string path) => SaveOf(path);

    private static Action<string, Policy> SaveOf(string path) =>
        Find(path)
        ?? throw new DistillException(
            $"{path} names no export: its name must end in {string.Join(" or ", All.Select(export => export.Ending))}."
        );

    private static Action<string, Policy>? Find(string path) =>
        Array.Find(All, export => export.Ending == Path.GetExtension(path).ToLowerInvariant()).Save;
}
