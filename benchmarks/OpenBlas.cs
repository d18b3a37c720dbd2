using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Distill.Benchmarks;

/// <summary>Matrix products of OpenBLAS, on one thread.</summary>
internal sealed class OpenBlas(Settings settings)
{
    private const int RowMajor = 101;
    private const int NoTranspose = 111;
    private const int Transpose = 112;

    private Gemm? gemm;
    private bool sought;

    private delegate void Gemm(
        int order,
        int transposeA,
        int transposeB,
        int m,
        int n,
        int k,
        float alpha,
        float[] a,
        int lda,
        float[] b,
        int ldb,
        float beta,
        float[] c,
        int ldc
    );

    private delegate void SetThreads(int threads);

    private delegate nint CoreName();

    /// <summary>With the processor whose kernels it uses, once it is loaded.</summary>
    public string Name { get; private set; } = "OpenBLAS";

    /// <summary>A sentence, once OpenBLAS was asked for and is not there.</summary>
    public string? Absence { get; private set; }

    /// <summary>Y <c>[rows, size]</c> = X <c>[rows, size]</c> W', W <c>[size, size]</c>: a dense layer without bias; null without OpenBLAS.</summary>
    public Action? Forward(int rows, int size)
    {
        if (!settings.Peers || !Found())
            return null;
        var (x, w, y) = (new float[rows * size], new float[size * size], new float[rows * size]);
        var random = new Random(1);
        foreach (var values in new[] { x, w })
        foreach (ref var value in values.AsSpan())
            value = random.NextSingle() - 0.5f;
        return () =>
            gemm!(RowMajor, NoTranspose, Transpose, rows, size, size, 1, x, size, w, size, 0, y, size);
    }

    private bool Found()
    {
        if (sought)
            return gemm is not null;
        sought = true;
        // OpenBLAS reads it when it is loaded, from the C library's variables. Old ones do not know new processors, and the
        // variable may be there already and name older kernels; the comparison is with the widest that run.
        if (OperatingSystem.IsLinux() && Avx512F.IsSupported)
            SetVariable("OPENBLAS_CORETYPE", "SkylakeX", overwrite: 1);
        foreach (var name in new[] { "libopenblas.so.0", "libopenblas.so", "openblas" })
            if (NativeLibrary.TryLoad(name, out var library))
            {
                gemm = Marshal.GetDelegateForFunctionPointer<Gemm>(
                    NativeLibrary.GetExport(library, "cblas_sgemm")
                );
                Marshal.GetDelegateForFunctionPointer<SetThreads>(
                    NativeLibrary.GetExport(library, "openblas_set_num_threads")
                )(1);
                var core = Marshal.GetDelegateForFunctionPointer<CoreName>(
                    NativeLibrary.GetExport(library, "openblas_get_corename")
                )();
                Name = $"OpenBLAS, {Marshal.PtrToStringUTF8(core)} kernels";
                return true;
            }
        Absence = "OpenBLAS is not installed (Debian: libopenblas0), so there is no comparison with it.";
        return false;
    }

    [DllImport("libc", EntryPoint = "setenv")]
    private static extern int SetVariable(string name, string value, int overwrite);
}
