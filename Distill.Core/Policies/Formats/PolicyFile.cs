using Distill.Networks;

namespace Distill.Policies;

/// <summary>Policies in files, whose kind is known by the ending of the name.</summary>
public static class PolicyFile
{
    private static readonly Dictionary<string, PolicyFormat> Formats = new()
    {
        [".safetensors"] = new SafeTensorsFormat(),
        [".pt"] = new PyTorchFormat(),
        [".pth"] = new PyTorchFormat(),
    };

    /// <summary>Endings of the names, each with its dot.</summary>
    public static IEnumerable<string> Endings => Formats.Keys;

    /// <summary>Reads a policy.</summary>
    /// <param name="path">A <c>.safetensors</c> or <c>.pt</c> file.</param>
    /// <param name="observationGroup">The group it reads; null for what the file says, else "teacher" (actors) or "student".</param>
    /// <param name="activation">
    /// Nonlinearity of hidden layers; null for what the file says, else for what <c>params/agent.yaml</c> beside the file
    /// says, else for rsl_rl's default, ELU. <see cref="Policy.ActivationSource"/> says which it was.
    /// </param>
    /// <param name="role">Which policy of an rsl_rl checkpoint; null for a distillation's student or else the actor.</param>
    /// <exception cref="DistillException">
    /// The file is missing, damaged, has no policy that Distill can run, or says another activation than the one given.
    /// </exception>
    public static Policy Load(
        string path,
        string? observationGroup = null,
        Activation? activation = null,
        PolicyRole? role = null
    )
    {
        var policy = FormatOf(path).Load(path, activation, role);
        if (policy.ActivationSource is null)
            CheckActivation(path, policy.Network.Spec, activation);
        if (observationGroup is not null)
            policy.ObservationGroup = observationGroup;
        return policy;
    }

    /// <summary>
    /// Writes a policy (atomically): as safetensors, of which the same policy gives the same bytes, or as a PyTorch
    /// checkpoint, which has the rest, too.
    /// </summary>
    /// <param name="iteration">Training iterations completed.</param>
    /// <param name="optimizer">Whose state goes along if it is Adam; null for none.</param>
    /// <param name="bestReturn">The highest mean return of the evaluations so far; null for none yet.</param>
    public static void Save(
        string path,
        Policy policy,
        long iteration = 0,
        Optimizer? optimizer = null,
        double? bestReturn = null
    ) => FormatOf(path).Save(path, policy, iteration, optimizer, bestReturn);

    /// <summary>Lets an optimizer go on from the state that a checkpoint of Distill has of it, if there is one: Adam's.</summary>
    /// <returns>Whether there is.</returns>
    /// <exception cref="DistillException">The file cannot be read, or its state does not fit the network.</exception>
    public static bool RestoreOptimizer(string path, Network network, Optimizer optimizer) =>
        optimizer is Adam adam && FormatOf(path).RestoreOptimizer(path, network, adam);

    private static PolicyFormat FormatOf(string path) =>
        Formats.GetValueOrDefault(Path.GetExtension(path).ToLowerInvariant())
        ?? throw new DistillException(
            $"{path} is {(PolicyExport.IsExport(path) ? "an export, which cannot be read back" : "not a policy file")}; "
                + $"a {string.Join(" or ", Endings)} file is needed."
        );

    private static void CheckActivation(string path, NetworkSpec spec, Activation? given)
    {
        foreach (var layer in spec.Layers.SkipLast(1))
            if (given is { } wanted && layer.Nonlinearity is { } own && own != wanted)
                throw new DistillException(
                    $"{path} says that its hidden layers have the activation {Lower(own)}, not {Lower(wanted)}; "
                        + "leave the activation out."
                );

        static string Lower(Activation activation) => activation.ToString().ToLowerInvariant();
    }
}

/// <summary>Policies in files of one kind; what the parameters mean is said in <see cref="PolicyFile"/>.</summary>
internal abstract class PolicyFormat
{
    public abstract Policy Load(string path, Activation? activation, PolicyRole? role);

    public abstract void Save(
        string path,
        Policy policy,
        long iteration,
        Optimizer? optimizer,
        double? bestReturn
    );

    public virtual bool RestoreOptimizer(string path, Network network, Adam adam) => false;
}
