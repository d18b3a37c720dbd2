using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Distill.Benchmarks;

/// <summary>
/// A process that does one repetition per line: a JSON object goes in, a JSON object comes out. It stays alive between
/// repetitions, so that ours and the peer can take turns without starting anew.
/// </summary>
internal sealed class PeerProcess : IDisposable
{
    private readonly Process process;

    /// <exception cref="System.ComponentModel.Win32Exception">There is no such program.</exception>
    public PeerProcess(
        string program,
        IEnumerable<string> arguments,
        IEnumerable<(string Name, string Value)> environment
    )
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        process = Process.Start(start)!;
        // Nobody reads it, but it must not fill up.
        process.ErrorDataReceived += (_, _) => { };
        process.BeginErrorReadLine();
    }

    /// <summary>Sends a request and waits for the answer.</summary>
    /// <exception cref="IOException">The process ended, or its answer is an error.</exception>
    public JsonNode Ask(JsonObject request)
    {
        Send(request);
        return Answer();
    }

    public void Send(JsonObject request)
    {
        process.StandardInput.WriteLine(request.ToJsonString());
        process.StandardInput.Flush();
    }

    /// <inheritdoc cref="Ask"/>
    public JsonNode Answer()
    {
        var line =
            process.StandardOutput.ReadLine()
            ?? throw new IOException("The process ended without an answer.");
        var answer = JsonNode.Parse(line)!;
        return answer["error"] is { } error ? throw new IOException(error.GetValue<string>()) : answer;
    }

    public void Dispose()
    {
        try
        {
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It is gone already.
        }
        if (!process.WaitForExit(2000))
            process.Kill(entireProcessTree: true);
        process.Dispose();
    }
}
