using System.Runtime.InteropServices;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Recorded;
using Distill.Storage;

namespace Distill.Evaluation;

/// <summary>
/// Every step of the episodes of an evaluation: observation groups, what was done and what it brought, to be written as
/// recorded data (docs/recorded-data.md), or to train a trajectory encoder on.
/// </summary>
public sealed class EpisodeRecord : IDisposable
{
    private readonly EnvironmentSpec environment;
    private readonly string[] groups;
    private readonly int[] groupIndices;
    private readonly Table table;

    /// <param name="episodes">Of the evaluation.</param>
    /// <param name="groups">The observation groups to keep; null for all.</param>
    /// <exception cref="DistillException">There is no such group, or the machine has not the memory for so many steps.</exception>
    public EpisodeRecord(EnvironmentSpec environment, int episodes, IReadOnlyList<string>? groups = null)
    {
        this.environment = environment;
        this.groups = [.. groups ?? environment.Groups.Select(group => group.Name)];
        groupIndices = Array.ConvertAll(this.groups, environment.Group);
        var columns = new Columns([
            .. groupIndices.Select(group =>
                (RecordedForm.Observations + environment.Groups[group].Name, environment.Groups[group].Size)
            ),
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
        for (var column = 0; column < groupIndices.Length; column++)
            of.Observe(step.Panel, groupIndices[column], table.Columns[column].Of(row).Values);
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
                RecordedFacts.Of(environment, groups, seed, policy).ToArray(),
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

    /// <summary>The episodes that went on to the limit of steps, each of its variant as the task; those that ended before are left out.</summary>
    /// <param name="result">Of the evaluation that was recorded.</param>
    /// <param name="states">The observation group of the states, one that was kept.</param>
    /// <exception cref="DistillException">No episode went on to the limit.</exception>
    public Trajectories Trajectories(EvaluationResult result, string states)
    {
        var whole = Enumerable
            .Range(0, result.Episodes)
            .Where(episode => result.Lengths[episode] == environment.EpisodeLimit)
            .ToArray();
        if (whole.Length == 0)
            throw new DistillException(
                $"No episode of {environment.Name} went on to the limit of {environment.EpisodeLimit} steps, so there are none of equal length."
            );
        return new(
            environment.EpisodeLimit,
            Values(RecordedForm.Observations + states),
            Values(RecordedForm.Actions),
            Values(RecordedForm.Rewards),
            Array.ConvertAll(whole, episode => result.Variants.Count == 0 ? 0 : result.Variants[episode]),
            environment.Variants.Count == 0 ? [environment.Name] : environment.Variants
        );

        float[] Values(string name)
        {
            var column = table.Columns[name];
            var values = new float[(long)whole.Length * environment.EpisodeLimit * column.Size];
            var place = 0;
            foreach (var episode in whole)
                for (var step = 0; step < environment.EpisodeLimit; step++, place += column.Size)
                    table.Cell(First(episode) + step, column).CopyTo(values.AsSpan(place));
            return values;
        }
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
