using System.ComponentModel;
using System.Diagnostics;

namespace Distill.Benchmarks;

/// <summary>Programs of the machine.</summary>
internal static class Programs
{
    /// <summary>Runs a program to its end; null where it is not installed.</summary>
    public static (int Code, string Output, string Errors)? Run(
        string program,
        IEnumerable<string> arguments,
        string folder = "",
        params (string Name, string Value)[] environment
    )
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        try
        {
            using var process = Process.Start(start)!;
            var errors = process.StandardError.ReadToEndAsync();
            var output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return (process.ExitCode, output, errors.Result);
        }
        catch (Win32Exception)
        {
            return null;
        }
    }
}
