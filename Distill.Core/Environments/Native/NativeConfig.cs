namespace Distill.Environments.Native;

/// <summary>
/// Environments in a shared library with the functions of <c>native/distill_environment.h</c>, written in C, C++ or Rust. It is
/// loaded into this process and stays loaded until that ends, so another build needs another name or a new process.
/// </summary>
/// <param name="Library">The library: a .so, .dylib or .dll file.</param>
public sealed record NativeConfig(string Library) : IEnvironmentConfig
{
    /// <summary>Environments side by side; multiples of 32 waste nothing.</summary>
    public int Envs { get; init; } = 32;

    /// <summary>Text that the library is given when it describes and makes environments, such as the name of a model; what it means is the library's.</summary>
    public string Options { get; init; } = "";

    EnvironmentSpec IEnvironmentConfig.Spec => NativeFunctions.Load(this).Facts.Spec;

    public IBatchedEnvironment Create(int envs, ulong seed) =>
        new NativeEnvironment(this with { Envs = envs }, seed);
}
