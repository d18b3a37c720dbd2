using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Distill.Compute;

/// <summary>Which version of the kernels runs. All give the same bits.</summary>
public enum InstructionSet
{
    /// <summary>128-bit vectors through the portable API: SSE, NEON, or scalar code where neither exists.</summary>
    Portable,

    /// <summary>256-bit vectors with fused multiply-add.</summary>
    Avx2,

    /// <summary>512-bit vectors.</summary>
    Avx512,
}

/// <summary>The instruction-set path, chosen once at start and forced by DISTILL_SIMD = avx512 | avx2 | portable.</summary>
public static class Simd
{
    public const string Variable = "DISTILL_SIMD";

    /// <summary>The paths this machine can run, widest first.</summary>
    public static IReadOnlyList<InstructionSet> Available { get; } = Detect();

    /// <summary>The path in use.</summary>
    public static InstructionSet Path { get; private set; } =
        Choose(Environment.GetEnvironmentVariable(Variable));

    /// <summary>Switches the path of the whole process; for tests and benchmarks, between runs only.</summary>
    /// <exception cref="NotSupportedException">This machine cannot run it.</exception>
    public static void Use(InstructionSet path)
    {
        if (!Available.Contains(path))
            throw new NotSupportedException(
                $"This machine cannot run the {path} path; available: {string.Join(", ", Available)}."
            );
        Path = path;
    }

    private static InstructionSet Choose(string? requested)
    {
        if (string.IsNullOrWhiteSpace(requested))
            return Available[0];
        foreach (var path in Available)
            if (string.Equals(path.ToString(), requested, StringComparison.OrdinalIgnoreCase))
                return path;
        throw new DistillException(
            $"{Variable}={requested} is not a path of this machine; choose one of: "
                + string.Join(", ", Available.Select(path => path.ToString().ToLowerInvariant()))
                + "."
        );
    }

    private static InstructionSet[] Detect()
    {
        if (Vector512.IsHardwareAccelerated && Fma.IsSupported)
            return [InstructionSet.Avx512, InstructionSet.Avx2, InstructionSet.Portable];
        if (Vector256.IsHardwareAccelerated && Fma.IsSupported)
            return [InstructionSet.Avx2, InstructionSet.Portable];
        return [InstructionSet.Portable];
    }
}

/// <summary>The versions of some kernels, one for each path.</summary>
/// <param name="wide">The class for 512-bit vectors; Kernels.targets makes the others of its text.</param>
public sealed class Kernels<T>(Type wide)
{
    // In the order of InstructionSet.
    private readonly T[] versions = Array.ConvertAll(
        ["W128", "W256", "W512"],
        width =>
            (T)Activator.CreateInstance(wide.Assembly.GetType(wide.FullName!.Replace("W512", width), true)!)!
    );

    /// <summary>Those of a path.</summary>
    public T this[InstructionSet path] => versions[(int)path];

    /// <summary>Those of the path in use.</summary>
    public T InUse => this[Simd.Path];
}
