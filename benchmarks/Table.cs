using System.Text;

namespace Distill.Benchmarks;

/// <summary>Results as text: a line of progress, and a Markdown table.</summary>
public static class Table
{
    /// <summary>Repetitions that spread more than this are marked.</summary>
    public const double WideSpread = 0.2;

    private const string Start = "<!-- results -->";
    private const string End = "<!-- end of results -->";

    /// <summary>One result on one line.</summary>
    public static string Line(Result result) =>
        string.Join(
            " | ",
            new[]
            {
                $"{result.Case}, {result.Threads} thread{(result.Threads == 1 ? "" : "s")}, {result.Path}",
                Value(result.Ours, result.Unit),
                result.Ratio is { } ratio ? $"{Ratio(ratio)} of {result.Peer}" : "",
                Share(result),
                Verdict(result),
                result.Note ?? "",
            }.Where(part => part != "")
        );

    /// <summary>A table of all results under the facts of the machine.</summary>
    public static string Markdown(
        Machine machine,
        IReadOnlyList<Result> results,
        IReadOnlyList<string> remarks
    )
    {
        var text = new StringBuilder();
        text.AppendLine(
            $"{machine.Date:yyyy-MM-dd}, commit {machine.Commit}, {machine.Cpu}, {machine.Cores} cores, {machine.Os}, "
                + $"{machine.DotNet}, {machine.Path}"
                + (machine.Load is { } load ? $", load {load:F2} per core at the start" : "")
                + "."
        );
        foreach (var remark in remarks)
            text.AppendLine().AppendLine(remark);
        text.AppendLine();
        text.AppendLine("| benchmark | case | threads | ours | peer | ours / peer | share of peak | goal |");
        text.AppendLine("| --- | --- | --- | --- | --- | --- | --- | --- |");
        foreach (var result in results)
            text.AppendLine(
                "| "
                    + string.Join(
                        " | ",
                        result.Benchmark,
                        result.Case
                            + (result.Path == machine.Path ? "" : $", {result.Path} path")
                            + (result.Note is null ? "" : $" ({result.Note})"),
                        result.Threads,
                        Value(result.Ours, result.Unit),
                        result.PeerValue is { } peer ? $"{Si(peer.Median)} {result.Unit}: {result.Peer}" : "",
                        result.Ratio is { } ratio ? Ratio(ratio) : "",
                        Share(result),
                        Verdict(result)
                    )
                    + " |"
            );
        return text.ToString();
    }

    /// <summary>A table of the kernels of a GPU; empty where there are none.</summary>
    public static string Markdown(IReadOnlyList<KernelResult> kernels)
    {
        if (kernels.Count == 0)
            return "";
        var text = new StringBuilder();
        text.AppendLine()
            .AppendLine(
                "| case | kernel | launches | time each | share of time | registers | shared memory | occupancy | of FMA | of memory |"
            )
            .AppendLine("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        foreach (var kernel in kernels)
            text.AppendLine(
                "| "
                    + string.Join(
                        " | ",
                        kernel.Case,
                        kernel.Kernel,
                        $"{kernel.Launches:N0}",
                        $"{1e6 * kernel.SecondsPerLaunch:G3} µs",
                        Percent(kernel.ShareOfTime),
                        $"{kernel.Registers}"
                            + (kernel.SpilledBytes > 0 ? $" and {kernel.SpilledBytes} B spilled" : ""),
                        $"{kernel.SharedBytes:N0} B",
                        Percent(kernel.Occupancy),
                        kernel.ShareOfFma > 0 ? Percent(kernel.ShareOfFma) : "",
                        kernel.ShareOfMemory > 0 ? Percent(kernel.ShareOfMemory) : ""
                    )
                    + " |"
            );
        return text.ToString();

        static string Percent(double share) => $"{100 * share:F0} %";
    }

    /// <summary>Replaces what stands between the two marks of a document.</summary>
    /// <exception cref="DistillException">The marks are missing.</exception>
    public static string Replace(string document, string table)
    {
        var start = document.IndexOf(Start, StringComparison.Ordinal);
        var end = document.IndexOf(End, StringComparison.Ordinal);
        if (start < 0 || end < start)
            throw new DistillException(
                $"The document needs the lines {Start} and {End}; the table goes between them."
            );
        return document[..(start + Start.Length)] + "\n\n" + table.TrimEnd() + "\n\n" + document[end..];
    }

    private static string Value(Spread value, string unit) =>
        $"{Si(value.Median)} {unit}".TrimEnd()
        + $" ({Si(value.Low)} to {Si(value.High)})"
        + (value.Relative > WideSpread ? " ±!" : "");

    private static string Ratio(Spread ratio) => $"{ratio.Median:F2}× ({ratio.Low:F2} to {ratio.High:F2})";

    private static string Share(Result result) =>
        result is { Share: { } share, Peak: { } peak }
            ? $"{100 * share.Median:F0} % of {result.Limit} ({Si(peak.Median)})"
            : "";

    private static string Verdict(Result result)
    {
        if (result.Goal is not { } goal)
            return "";
        var bound = goal.Measure switch
        {
            Measure.Value => $"{Si(goal.Bound)}",
            Measure.Ratio => $"{goal.Bound:G3}×",
            _ => $"{100 * goal.Bound:F0} % of peak",
        };
        return (goal.AtMost ? "≤ " : "≥ ")
            + bound
            + result.Reached switch
            {
                null => ": not measured",
                >= 1 => ": reached",
                { } reached => $": missed by {100 * (goal.AtMost ? 1 / reached - 1 : 1 - reached):F0} %",
            };
    }

    /// <summary>Three digits and a prefix.</summary>
    private static string Si(double value) =>
        Math.Abs(value) switch
        {
            >= 1e12 => $"{value / 1e12:G3} T",
            >= 1e9 => $"{value / 1e9:G3} G",
            >= 1e6 => $"{value / 1e6:G3} M",
            >= 1e3 => $"{value / 1e3:G3} k",
            _ => $"{value:G3}",
        };
}
