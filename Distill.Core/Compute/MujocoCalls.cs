using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Distill.Compute;

/// <summary>
/// Functions of MuJoCo 2.2.2 and views of its memory: here, because that cannot be written without pointers. What they do is in
/// <c>mujoco.h</c>; where fields are is for callers to know.
/// </summary>
internal static unsafe class MujocoCalls
{
    /// <summary>The exact name that the system's loader knows it by; other versions have other names, and fields in other places.</summary>
    public const string Library = "libmujoco.so.2.2.2";

    private const int ErrorLength = 1000;

    [ThreadStatic]
    private static int moving;

    /// <summary>Whether the library is installed.</summary>
    public static bool IsInstalled => NativeLibrary.TryLoad(Library, out _);

    [DllImport(Library, EntryPoint = "mj_version")]
    public static extern int Version();

    [DllImport(Library, EntryPoint = "mj_makeData")]
    public static extern nint MakeData(nint model);

    [DllImport(Library, EntryPoint = "mj_resetData")]
    public static extern void ResetData(nint model, nint data);

    [DllImport(Library, EntryPoint = "mj_deleteData")]
    public static extern void DeleteData(nint data);

    /// <summary>Places of bodies and sites from positions.</summary>
    [DllImport(Library, EntryPoint = "mj_kinematics")]
    public static extern void Kinematics(nint model, nint data);

    /// <summary>
    /// Says what happens where MuJoCo meets an error or has a warning: of itself it would ask for a key to be pressed, and write into the
    /// working folder. An error cannot be survived, as MuJoCo's state is undefined then; warnings are counted by MuJoCo.
    /// </summary>
    public static void Hook()
    {
        var library = NativeLibrary.Load(Library);
        *(nint*)NativeLibrary.GetExport(library, "mju_user_error") = (nint)
            (delegate* unmanaged[Cdecl]<byte*, void>)&Stop;
        *(nint*)NativeLibrary.GetExport(library, "mju_user_warning") = (nint)
            (delegate* unmanaged[Cdecl]<byte*, void>)&Ignore;
    }

    /// <summary>Compiles a model from a file.</summary>
    /// <exception cref="DistillException">MuJoCo refuses.</exception>
    public static nint LoadModel(string path)
    {
        var name = Marshal.StringToCoTaskMemUTF8(path);
        var error = stackalloc byte[ErrorLength];
        try
        {
            var model = LoadXml((byte*)name, null, error, ErrorLength);
            return model != 0
                ? model
                : throw new DistillException(
                    $"MuJoCo refuses the model {path}: {Marshal.PtrToStringUTF8((nint)error)}"
                );
        }
        finally
        {
            Marshal.FreeCoTaskMem(name);
        }
    }

    /// <summary>Index of a named object; -1 where there is none.</summary>
    public static int Find(nint model, int kind, string name)
    {
        var text = Marshal.StringToCoTaskMemUTF8(name);
        try
        {
            return NameToId(model, kind, (byte*)text);
        }
        finally
        {
            Marshal.FreeCoTaskMem(text);
        }
    }

    /// <summary>Writes all fields as text with 17 digits, for checks of where they are.</summary>
    public static void Print(nint model, nint data, string modelPath, string dataPath)
    {
        var format = Marshal.StringToCoTaskMemUTF8("%.17g");
        var (first, second) = (
            Marshal.StringToCoTaskMemUTF8(modelPath),
            Marshal.StringToCoTaskMemUTF8(dataPath)
        );
        PrintModel(model, (byte*)first, (byte*)format);
        PrintData(model, data, (byte*)second, (byte*)format);
        Marshal.FreeCoTaskMem(format);
        Marshal.FreeCoTaskMem(first);
        Marshal.FreeCoTaskMem(second);
    }

    /// <summary>Advances by so many steps of the model.</summary>
    /// <param name="environment">What the sentence names if MuJoCo has an error.</param>
    public static void Step(nint model, nint data, int steps, int environment)
    {
        moving = environment;
        for (var i = 0; i < steps; i++)
            StepOnce(model, data);
    }

    /// <summary>Numbers that a field of a structure points to.</summary>
    /// <param name="field">Where it is in the structure, in bytes.</param>
    public static Span<double> Numbers(nint structure, int field, int length) =>
        new(*(double**)(structure + field), length);

    /// <summary>A number in a structure.</summary>
    public static ref double Number(nint structure, int field) => ref *(double*)(structure + field);

    /// <summary>An integer in a structure.</summary>
    public static ref int Integer(nint structure, int field) => ref *(int*)(structure + field);

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Stop(byte* message) =>
        Environment.FailFast(
            $"MuJoCo had an error that cannot be survived, last in environment {moving} of this thread: "
                + Marshal.PtrToStringUTF8((nint)message)
        );

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Ignore(byte* message) { }

    [DllImport(Library, EntryPoint = "mj_loadXML")]
    private static extern nint LoadXml(byte* path, void* files, byte* error, int errorLength);

    [DllImport(Library, EntryPoint = "mj_name2id")]
    private static extern int NameToId(nint model, int kind, byte* name);

    [DllImport(Library, EntryPoint = "mj_printFormattedModel")]
    private static extern void PrintModel(nint model, byte* path, byte* format);

    [DllImport(Library, EntryPoint = "mj_printFormattedData")]
    private static extern void PrintData(nint model, nint data, byte* path, byte* format);

    [DllImport(Library, EntryPoint = "mj_step")]
    private static extern void StepOnce(nint model, nint data);
}
