using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Recorded;
using Distill.Networks;
using Distill.Storage;

namespace Distill.Algorithms;

/// <summary>Writes the dataset of a distillation as recorded data (docs/recorded-data.md).</summary>
internal static class ExportedRows
{
    /// <param name="path">An .npz file.</param>
    /// <param name="goesOn">Whether a segment, by its number among all ever added, can go on with the one added before it.</param>
    /// <param name="teacher">Who gave the labels, for whoever reads the file.</param>
    /// <exception cref="DistillException">It cannot be written.</exception>
    public static void Write(
        string path,
        AggregatedDataset dataset,
        DatasetNotes notes,
        Func<long, bool> goesOn,
        DistillationConfig config,
        EnvironmentSpec spec,
        string teacher
    )
    {
        var export = new DatasetExport(dataset, goesOn);
        var groups = Groups(dataset.Columns, config, spec).DistinctBy(group => group.Name).ToArray();
        Npz.Write(
            path,
            [
                .. groups.Select(group => export.Numbers(RecordedForm.Observations + group.Name, group)),
                .. Labels(export, dataset.Columns[1], config, spec),
                .. dataset
                    .Columns.Where(column => column.Name == RolloutCollector.StudentAction)
                    .Select(column => export.Numbers(RecordedForm.StudentActions, column)),
                export.Flag(
                    RecordedForm.Terminated,
                    (chunk, row, ends) => ends && chunk.Failed is { } failed && failed.Span[row] != 0
                ),
                export.Flag(
                    RecordedForm.Truncated,
                    (chunk, row, ends) => ends && !(chunk.Failed is { } failed && failed.Span[row] != 0)
                ),
                .. If(
                    notes.Weights,
                    () => export.Number(RecordedForm.Weights, (chunk, row) => chunk.Weights!.Span[row])
                ),
                .. If(
                    notes.HeldOut,
                    () => export.Flag("held_out", (chunk, row, _) => chunk.HeldOut!.Span[row] != 0)
                ),
                .. If(
                    notes.Failed,
                    () => export.Flag("failed", (chunk, row, _) => chunk.Failed!.Span[row] != 0)
                ),
                RecordedFacts.Of(spec, groups.Select(group => group.Name), config.Seed, teacher).ToArray(),
            ]
        );
    }

    private static IEnumerable<NpzArray> If(bool there, Func<NpzArray> array) => there ? [array()] : [];

    /// <summary>The observation groups in a row, each once.</summary>
    private static IEnumerable<Column> Groups(
        Columns columns,
        DistillationConfig config,
        EnvironmentSpec spec
    )
    {
        foreach (var column in columns)
        {
            if (column.Name is "label" or RolloutCollector.StudentAction)
                continue;
            var start = column.Start;
            foreach (
                var name in (
                    column.Name == "observation" ? config.Student.ObservationGroup : column.Name
                ).Split('+')
            )
            {
                var size = spec.Groups[spec.Group(name)].Size;
                yield return new Column(name, start, size);
                start += size;
            }
        }
    }

    /// <summary>Actions, and all that describes the teacher's distribution where that is the label.</summary>
    private static IEnumerable<NpzArray> Labels(
        DatasetExport export,
        Column label,
        DistillationConfig config,
        EnvironmentSpec spec
    )
    {
        if (config.Loss.LabelIsDistribution)
            yield return export.Numbers(RecordedForm.Distributions, label);
        if (config.Loss.LabelIsDistribution && spec.Actions.Discrete)
            yield break;
        // Of a Gaussian the means come first; those of a squashed one are not squashed yet.
        var squashed = config.Loss.LabelIsDistribution && config.HeadOf(spec) == Head.SquashedGaussian;
        yield return export.Numbers(
            RecordedForm.Actions,
            label with
            {
                Size = spec.Actions.Floats,
            },
            squashed ? MathF.Tanh : null
        );
    }
}
