using System.ComponentModel;
using System.Diagnostics;

namespace Distill.Environments.External;

/// <summary>The process of a simulator. All that it prints goes to a file.</summary>
internal sealed class ExternalProcess : IDisposable
{
    private const int TailLines = 3;
    private const int FirstSignal = 128;

    // A simulator may have much to put away.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private static int started;

    private readonly Process process;
    private readonly StreamWriter output;
    private readonly Queue<string> tail = new();
    private readonly string title;
    private readonly bool temporary;
    private bool failed;

    /// <param name="socket">Where it is to connect.</param>
    /// <exception cref="DistillException">There is no such program, or its output cannot be kept.</exception>
    public ExternalProcess(ExternalConfig config, string socket)
    {
        title = config.Title;
        temporary = config.OutputFile.Length == 0;
        OutputFile = temporary
            ? Path.Combine(
                Path.GetTempPath(),
                $"distill-simulator-{Environment.ProcessId}-{Interlocked.Increment(ref started)}.log"
            )
            : config.OutputFile;
        output = OpenOutput();
        process = Start(config, socket);
        process.OutputDataReceived += (_, line) => Keep(line.Data, ofErrors: false);
        process.ErrorDataReceived += (_, line) => Keep(line.Data, ofErrors: true);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        process.StandardInput.Close();
    }

    public string OutputFile { get; }

    /// <summary>Keeps the output, where it would go with the process.</summary>
    public void KeepOutput() => failed = true;

    public bool HasEnded => process.HasExited;

    public int Id => process.Id;

    /// <summary>How it ended, with the last that it said, for the end of a sentence. Waits for that.</summary>
    public string Ending()
    {
        failed = true;
        if (!process.WaitForExit(Patience))
            return $"has closed its connection but goes on; {Where}";
        // Until all of its output has arrived.
        process.WaitForExit();
        var how =
            process.ExitCode > FirstSignal
                ? $"was ended by signal {process.ExitCode - FirstSignal}"
                : $"ended with exit code {process.ExitCode}";
        string said;
        lock (tail)
            said = string.Join(" / ", tail);
        return said.Length > 0 ? $"{how}: {said} ({Where})" : $"{how}; {Where}";
    }

    /// <summary>Where its output is, for the end of a sentence.</summary>
    public string Where => $"all that it printed is in {OutputFile}";

    /// <summary>Ends it, and what it started, at once.</summary>
    public void Kill()
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has ended by itself.
        }
    }

    /// <summary>Waits until it has ended, which it was asked to do, and ends it if it does not.</summary>
    public void Dispose()
    {
        if (!process.WaitForExit(Patience))
            Kill();
        process.WaitForExit();
        process.Dispose();
        lock (output)
            output.Dispose();
        if (temporary && !failed)
            File.Delete(OutputFile);
    }

    private StreamWriter OpenOutput()
    {
        try
        {
            return new StreamWriter(
                new FileStream(
                    OutputFile,
                    temporary ? FileMode.Create : FileMode.Append,
                    FileAccess.Write,
                    FileShare.ReadWrite | FileShare.Delete
                )
            )
            {
                AutoFlush = true,
            };
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new DistillException(
                $"The output of the simulator {title} cannot be kept: {exception.Message}",
                exception
            );
        }
    }

    private Process Start(ExternalConfig config, string socket)
    {
        var words = Words(config.Line);
        var start = new ProcessStartInfo(words.FirstOrDefault(""), words.Skip(1))
        {
            WorkingDirectory = config.WorkingFolder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["DISTILL_SOCKET"] = socket;
        start.Environment["PYTHONUNBUFFERED"] = "1";
        var own = Path.Combine(
            Path.GetDirectoryName(typeof(ExternalProcess).Assembly.Location) ?? "",
            "python"
        );
        start.Environment["PYTHONPATH"] =
            start.Environment.TryGetValue("PYTHONPATH", out var paths) && !string.IsNullOrEmpty(paths)
                ? $"{paths}:{own}"
                : own;
        try
        {
            return Process.Start(start)!;
        }
        catch (Exception exception) when (exception is Win32Exception or InvalidOperationException)
        {
            output.Dispose();
            if (temporary)
                File.Delete(OutputFile);
            throw new DistillException(
                $"The simulator {title} cannot be started: there is no program '{start.FileName}', or no folder '{config.WorkingFolder}' to run it in.",
                exception
            );
        }
    }

    private void Keep(string? line, bool ofErrors)
    {
        if (line is null)
            return;
        lock (output)
            if (output.BaseStream is not null)
                output.WriteLine(line);
        if (!ofErrors || string.IsNullOrWhiteSpace(line))
            return;
        lock (tail)
        {
            tail.Enqueue(line.Trim());
            if (tail.Count > TailLines)
                tail.Dequeue();
        }
    }

    /// <summary>The words of a command; quotes of either kind keep blanks together.</summary>
    private static List<string> Words(string command)
    {
        var words = new List<string>();
        var (word, quote, inside) = (new System.Text.StringBuilder(), '\0', false);
        foreach (var character in command)
            if (quote == '\0' && character is '"' or '\'')
                (quote, inside) = (character, true);
            else if (character == quote)
                quote = '\0';
            else if (quote == '\0' && char.IsWhiteSpace(character))
            {
                if (inside)
                    words.Add(word.ToString());
                word.Clear();
                inside = false;
            }
            else
            {
                word.Append(character);
                inside = true;
            }
        if (inside)
            words.Add(word.ToString());
        return words;
    }
}
