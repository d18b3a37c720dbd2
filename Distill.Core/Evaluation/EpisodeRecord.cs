using System.Runtime.InteropServices;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Recorded;
using Distill.Storage;

namespace Distill.Evaluation;

/// <summary>
/// Every step of the episodes of an evaluation: all observation groups, what was done and what it brought, to be written as
/// recorded data (docs/recorded-data.md).
/// </summary>
public sealed class EpisodeRecord : IDisposable
{
    private readonly EnvironmentSpec environment;
    private readonly Table table;

    /// <param name="episodes">Of the evaluation.</param>
    /// <exception cref="DistillException">The machine has not the memory for so many steps.</exception>
    public EpisodeRecord(EnvironmentSpec environment, int episodes)
    {
        this.environment = environment;
        var columns = new Columns([
            .. environment.Groups.Select(group => (RecordedForm.Observations + group.Name, group.Size)),
            (RecordedForm.Actions, environment.Actions.Floats),
            (RecordedForm.Rewards, 1),
        ]);
        var rows = (long)episodes * environment.EpisodeLimit;
        var bytes = rows * columns.Size * sizeof(float);
        if (bytes > GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 10 * 9)
            throw new DistillException(
                $"{episodes} episodes of up to {environment.EpisodeLimit} steps cannot be recorded: at {columns.Size} numbers a step they "
                    + $"would take {bytes >> 20} MiB of memory; record fewer episodes."
            );
        table = new Table(columns, rows);
    }

    /// <summary>Takes the states of a panel, before the step, and what is about to be done there.</summary>
    /// <param name="episode">The episode in lane 0.</param>
    /// <param name="lanes">How many lanes have one.</param>
    internal void Act(IBatchedEnvironment of, in PanelStep step, int episode, int lanes)
    {
        if (lanes == 0 || step.Number >= environment.EpisodeLimit)
            return;
        using var scope = step.Own.Open();
        var row = step.Own.Panel(table.Columns.Size);
        for (var group = 0; group < environment.Groups.Count; group++)
            of.Observe(step.Panel, group, table.Columns[group].Of(row).Values);
        step.Action.Values.CopyTo(table.Columns[RecordedForm.Actions].Of(row).Values);
        table.Scatter(row, First(episode) + step.Number, environment.EpisodeLimit, lanes);
    }

    /// <summary>Takes what the step brought to an episode.</summary>
    internal void Take(int episode, int step, float reward) =>
        table.Cell(First(episode) + step, table.Columns[RecordedForm.Rewards])[0] = reward;

    /// <summary>Writes the episodes one after another, a row for each step.</summary>
    /// <param name="path">An .npz file.</param>
    /// <param name="result">Of the evaluation that was recorded.</param>
    /// <param name="seed">Of the evaluation, and</param>
    /// <param name="policy">who acted, for whoever reads the file.</param>
    /// <exception cref="DistillException">It cannot be written.</exception>
    public void Write(string path, EvaluationResult result, ulong seed, string policy)
    {
        var rows = checked(result.Lengths.Sum());
        Npz.Write(
            path,
            [
                .. table.Columns.Select(column => new NpzArray(
                    column.Name,
                    ElementType.Float32,
                    column.Name == RecordedForm.Rewards ? [rows] : [rows, column.Size],
                    stream =>
                        ForEach(result, row => stream.Write(MemoryMarshal.AsBytes(table.Cell(row, column))))
                )),
                Ends(RecordedForm.Terminated, true),
                Ends(RecordedForm.Truncated, false),
                RecordedFacts
                    .Of(environment, environment.Groups.Select(group => group.Name), seed, policy)
                    .ToArray(),
            ]
        );

        NpzArray Ends(string name, bool terminated) =>
            new(
                name,
                ElementType.Bool,
                [rows],
                stream =>
                {
                    for (var episode = 0; episode < result.Episodes; episode++)
                    {
                        for (var step = 1; step < result.Lengths[episode]; step++)
                            stream.WriteByte(0);
                        stream.WriteByte(result.Terminated[episode] == terminated ? (byte)1 : (byte)0);
                    }
                }
            );
    }

    public void Dispose() => table.Dispose();

    private int First(int episode) => checked(episode * environment.EpisodeLimit);

    private void ForEach(EvaluationResult result, Action<int> row)
    {
        for (var episode = 0; episode < result.Episodes; episode++)
        for (var step = 0; step < result.Lengths[episode]; step++)
            row(First(episode) + step);
    }
}
