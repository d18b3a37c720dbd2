using System.Globalization;
using System.Text.Json;

namespace Distill.Storage;

/// <summary>The scalars of one iteration, in the order in which they were logged.</summary>
public sealed record MetricsRow(long Iteration, IReadOnlyList<KeyValuePair<string, double>> Metrics);

/// <summary>
/// The metrics of a run, in three files of its folder. <c>metrics.jsonl</c> is the record: one object per iteration,
/// appended. <c>metrics.csv</c> always equals what would be made from it anew: a row is appended as long as its metrics
/// are known columns; a new metric adds a column on the right and rewrites the file (earlier rows have it empty). A
/// TensorBoard event file gets the same scalars as float32.
/// </summary>
/// <remarks>
/// JSON has no NaN and no infinities; they are the texts <c>"NaN"</c>, <c>"Infinity"</c> and <c>"-Infinity"</c>. Every
/// row is handed to the operating system at once, so that a crash of the process loses none.
/// </remarks>
public sealed class MetricsLog : IDisposable
{
    private const string IterationColumn = "iteration";
    private const string RowsName = "metrics.jsonl";
    private const string TableName = "metrics.csv";
    private const long MaximumBytes = 256L << 20;
    private const string EventsPattern = "events.out.tfevents.*";

    private readonly string folder;
    private readonly EventFile events;
    private readonly FileStream rows;
    private readonly List<string> columns = [];
    private FileStream table;
    private long lastIteration = -1;

    private MetricsLog(string folder, EventFile events)
    {
        this.folder = folder;
        this.events = events;
        foreach (var row in Read(folder))
        {
            lastIteration = row.Iteration;
            AddColumns(row);
        }

        rows = OutputFile.Open(RowsPath(folder), FileMode.Append);
        table = RewriteTable();
    }

    /// <param name="folder">The run folder; must exist and have no metrics yet.</param>
    /// <exception cref="DistillException">The folder has metrics already, or cannot be written.</exception>
    public static MetricsLog Create(string folder)
    {
        OutputFile.Open(RowsPath(folder), FileMode.CreateNew).Dispose();
        return new MetricsLog(folder, CreateEvents(folder));
    }

    /// <summary>
    /// Goes on with the log of a run that is resumed after <paramref name="iteration"/>: later rows, and a row that a
    /// crash left incomplete, are removed from all three files.
    /// </summary>
    /// <exception cref="DistillException">The folder has no metrics, or they are damaged.</exception>
    public static MetricsLog Resume(string folder, long iteration)
    {
        var path = RowsPath(folder);
        var kept = ReadLines(path).TakeWhile(line => line.Row.Iteration <= iteration).ToArray();
        AtomicFile.Write(
            path,
            stream =>
            {
                foreach (var line in kept)
                {
                    stream.Write(line.Text);
                    stream.Write("\n"u8);
                }
            }
        );
        var events = Directory.GetFiles(folder, EventsPattern).Order(StringComparer.Ordinal).FirstOrDefault();
        return new MetricsLog(
            folder,
            events is null ? CreateEvents(folder) : EventFile.Resume(events, iteration)
        );
    }

    /// <summary>All rows of a run's <c>metrics.jsonl</c>; an incomplete last line is left out.</summary>
    /// <exception cref="DistillException">The folder has no metrics, or they are damaged.</exception>
    public static IReadOnlyList<MetricsRow> Read(string folder) =>
        [.. ReadLines(RowsPath(folder)).Select(line => line.Row)];

    /// <param name="iteration">Larger than that of the row before.</param>
    /// <param name="metrics">Names, unique within the row, and values.</param>
    /// <exception cref="DistillException">The iteration or a name is not acceptable, or the disk is full.</exception>
    public void Append(long iteration, IEnumerable<KeyValuePair<string, double>> metrics)
    {
        var row = new MetricsRow(iteration, [.. metrics]);
        Check(row);
        OutputFile.Append(RowsPath(folder), rows, JsonOf(row));
        lastIteration = iteration;
        if (AddColumns(row))
        {
            table.Dispose();
            table = RewriteTable();
        }
        else
            OutputFile.Append(TablePath, table, CsvOf(row));

        events.Write(iteration, Now, row.Metrics);
    }

    /// <summary>Flushes to the disk; call it with every checkpoint.</summary>
    public void Flush()
    {
        OutputFile.Guard(RowsPath(folder), () => rows.Flush(flushToDisk: true));
        OutputFile.Guard(TablePath, () => table.Flush(flushToDisk: true));
        events.Flush();
    }

    public void Dispose()
    {
        rows.Dispose();
        table.Dispose();
        events.Dispose();
    }

    private static double Now => (DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds;

    private string TablePath => Path.Combine(folder, TableName);

    private static string RowsPath(string folder) => Path.Combine(folder, RowsName);

    private static EventFile CreateEvents(string folder)
    {
        var now = Now;
        return EventFile.Create(
            Path.Combine(
                folder,
                EventsPattern.Replace("*", FormattableString.Invariant($"{now:F0}.distill"))
            ),
            now
        );
    }

    private void Check(MetricsRow row)
    {
        if (row.Iteration <= lastIteration)
            throw new DistillException(
                $"Metrics of iteration {row.Iteration} cannot follow those of iteration {lastIteration}."
            );

        var names = new HashSet<string> { IterationColumn };
        foreach (var (name, _) in row.Metrics)
        {
            if (name.Length == 0 || name.AsSpan().ContainsAny(",\"\r\n") || !names.Add(name))
                throw new DistillException(
                    $"The metric name '{name}' of iteration {row.Iteration} is empty, given twice, reserved, or has a "
                        + "comma, a quote or a line break in it."
                );
        }
    }

    private bool AddColumns(MetricsRow row)
    {
        var known = columns.Count;
        columns.AddRange(row.Metrics.Select(metric => metric.Key).Where(name => !columns.Contains(name)));
        return columns.Count > known;
    }

    private FileStream RewriteTable()
    {
        AtomicFile.Write(
            TablePath,
            stream =>
            {
                stream.Write(LineOf(columns.Prepend(IterationColumn)));
                foreach (var row in Read(folder))
                    stream.Write(CsvOf(row));
            }
        );
        return OutputFile.Open(TablePath, FileMode.Append);
    }

    private byte[] CsvOf(MetricsRow row)
    {
        var values = row.Metrics.ToDictionary();
        return LineOf(
            columns
                .Select(column =>
                    values.TryGetValue(column, out var value)
                        ? value.ToString("R", CultureInfo.InvariantCulture)
                        : ""
                )
                .Prepend(row.Iteration.ToString(CultureInfo.InvariantCulture))
        );
    }

    private static byte[] LineOf(IEnumerable<string> cells) =>
        System.Text.Encoding.UTF8.GetBytes(string.Join(",", cells) + "\n");

    private static byte[] JsonOf(MetricsRow row)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteNumber(IterationColumn, row.Iteration);
            foreach (var (name, value) in row.Metrics)
            {
                if (double.IsFinite(value))
                    json.WriteNumber(name, value);
                else
                    json.WriteString(name, value.ToString(CultureInfo.InvariantCulture));
            }

            json.WriteEndObject();
        }

        buffer.WriteByte((byte)'\n');
        return buffer.ToArray();
    }

    private static List<(byte[] Text, MetricsRow Row)> ReadLines(string path) =>
        InputFile.Parse(
            path,
            "metrics file",
            stream =>
            {
                InputFile.CheckLength(stream, MaximumBytes);
                var text = new byte[stream.Length];
                stream.ReadExactly(text);
                var lines = new List<(byte[], MetricsRow)>();
                var rest = text.AsSpan();
                while (rest.IndexOf((byte)'\n') is var end and >= 0)
                {
                    var line = rest[..end].ToArray();
                    rest = rest[(end + 1)..];
                    try
                    {
                        lines.Add((line, RowOf(line)));
                    }
                    catch (Exception e)
                        when (e
                                is JsonException
                                    or InvalidOperationException
                                    or FormatException
                                    or KeyNotFoundException
                        )
                    {
                        throw new InvalidDataException(
                            $"its line {lines.Count + 1} is not a row of metrics",
                            e
                        );
                    }
                }

                return lines;
            }
        );

    private static MetricsRow RowOf(byte[] line)
    {
        using var json = JsonDocument.Parse(
            line,
            new JsonDocumentOptions { AllowDuplicateProperties = false, MaxDepth = 4 }
        );
        var metrics = json
            .RootElement.EnumerateObject()
            .Where(property => property.Name != IterationColumn)
            .Select(property =>
                KeyValuePair.Create(
                    property.Name,
                    property.Value.ValueKind == JsonValueKind.String
                        ? double.Parse(property.Value.GetString()!, CultureInfo.InvariantCulture)
                        : property.Value.GetDouble()
                )
            )
            .ToArray();
        return new MetricsRow(json.RootElement.GetProperty(IterationColumn).GetInt64(), metrics);
    }
}
