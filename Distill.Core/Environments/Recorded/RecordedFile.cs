using System.Globalization;
using Distill.Storage;

namespace Distill.Environments.Recorded;

/// <summary>What is wanted of recorded data.</summary>
/// <param name="Spec">The environment that the rows are from.</param>
/// <param name="Groups">Indices of the observation groups that are read.</param>
/// <param name="Labels">Whether the recorded actions are.</param>
/// <param name="Only">The group that a file's only one without a name is.</param>
public sealed record RecordedWish(
    EnvironmentSpec Spec,
    IReadOnlyList<int> Groups,
    bool Labels,
    string Only = RecordedForm.DefaultGroup
);

/// <summary>One file of recorded rows, read from its beginning to its end, and checked against what is wanted of it.</summary>
internal sealed class RecordedFile : IDisposable
{
    private const int MostNumbers = 1 << 20;

    private readonly NpzInput file;
    private readonly RecordedWish wish;
    private readonly List<NpzInputArray> opened = [];
    private readonly NpzInputArray[] groups;
    private readonly NpzInputArray? actions;
    private readonly NpzInputArray? rewards;
    private readonly NpzInputArray? terminated;
    private readonly NpzInputArray? truncated;
    private readonly NpzInputArray? success;
    private readonly NpzInputArray? weights;
    private string? first;

    /// <exception cref="DistillException">The file is damaged, or not what is wanted; the message says why.</exception>
    public RecordedFile(string path, RecordedWish wish)
    {
        (Path, this.wish) = (path, wish);
        file = new NpzInput(path);
        try
        {
            Facts = RecordedFacts.Read(file, path);
            groups = [.. wish.Groups.Select(OpenGroup)];
            actions = wish.Labels ? OpenActions() : null;
            rewards = OpenNumbers(RecordedForm.Rewards);
            terminated = OpenNumbers(RecordedForm.Terminated);
            truncated = OpenNumbers(RecordedForm.Truncated);
            success = OpenNumbers(RecordedForm.Success);
            weights = OpenNumbers(RecordedForm.Weights);
            CheckFacts();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Path { get; }

    public RecordedFacts? Facts { get; }

    /// <summary>Environments side by side, <c>[time, envs, size]</c>; 0 where the rows follow each other, <c>[rows, size]</c>.</summary>
    public int Envs { get; private set; }

    /// <summary>Steps of each environment, or rows.</summary>
    public int Steps { get; private set; }

    /// <summary>Rows of one step.</summary>
    public int PerStep => Math.Max(1, Envs);

    public long Rows => (long)Steps * PerStep;

    public bool HasWeights => weights is not null;

    /// <summary>Whether the file says where episodes end.</summary>
    public bool HasEnds => terminated is not null || truncated is not null;

    /// <summary>Steps that were read.</summary>
    public int Position { get; private set; }

    /// <summary>Name, length and CRC-32 of everything in the file.</summary>
    public IEnumerable<(string Name, long Length, uint Crc32)> Directory => file.Directory;

    /// <summary>Names of the arrays that nobody reads.</summary>
    public IEnumerable<string> Unused =>
        file.Names.Where(name => name != RecordedForm.Facts && !opened.Exists(array => array.Name == name));

    /// <summary>Reads the next steps into a block.</summary>
    /// <param name="row">The first row of the block that they fill.</param>
    /// <exception cref="DistillException">The file is damaged, or a number cannot be; the message says which.</exception>
    public void Read(RecordedBlock block, int row, int steps)
    {
        var rows = steps * PerStep;
        for (var i = 0; i < groups.Length; i++)
            Read(groups[i], block.Groups[i], row, rows);
        if (actions is not null)
        {
            Read(actions, block.Actions!, row, rows);
            if (wish.Spec.Actions.Discrete)
                CheckEach(
                    actions,
                    block.Actions!.Slice(row, rows),
                    value => value >= 0 && value < wish.Spec.Actions.Size && value == MathF.Floor(value),
                    $"a choice of {wish.Spec.Name} is 0 to {wish.Spec.Actions.Size - 1}"
                );
        }
        ReadOr(rewards, block.Rewards.AsSpan(row, rows), 0);
        ReadOr(weights, block.Weights.AsSpan(row, rows), 1);
        CheckEach(weights, block.Weights.AsSpan(row, rows), value => value >= 0, "a weight is 0 or more");
        ReadEnds(block, row, rows);
        Position += steps;
        if (Position < Steps)
            return;
        // What the file does not show any more has ended for whoever reads it.
        foreach (ref var end in block.Ends.AsSpan(row + rows - PerStep, PerStep))
            if (end == RecordedBlock.None)
                end = RecordedBlock.Truncated;
    }

    public void Dispose()
    {
        foreach (var array in opened)
            array.Dispose();
        file.Dispose();
    }

    private NpzInputArray OpenGroup(int index)
    {
        var group = wish.Spec.Groups[index];
        var name =
            RecordedForm.ArrayOf(file, group.Name, wish.Only)
            ?? throw Missing($"{RecordedForm.Observations}{group.Name}");
        return Open(name, group.Size, $"observation group '{group.Name}' of {wish.Spec.Name}");
    }

    private NpzInputArray OpenActions()
    {
        if (!file.Contains(RecordedForm.Actions))
            throw Missing(RecordedForm.Actions);
        return Open(RecordedForm.Actions, wish.Spec.Actions.Floats, $"an action of {wish.Spec.Name}");
    }

    private NpzInputArray? OpenNumbers(string name) =>
        file.Contains(name) ? Open(name, 1, "one number of each row") : null;

    /// <param name="size">Numbers of a row.</param>
    /// <param name="what">That has so many, for the message.</param>
    private NpzInputArray Open(string name, int size, string what)
    {
        var array = file.Open(name);
        opened.Add(array);
        var shape = array.Shape;
        var text = $"[{string.Join(", ", shape)}]";
        if (first is null)
        {
            (Envs, Steps) = shape switch
            {
                [_] or [_, _] => (0, shape[0]),
                [_, > 0, _] => (shape[1], shape[0]),
                _ => throw Wrong(
                    $"its array '{name}' has the shape {text}, and [rows, size] or [time, envs, size] is needed"
                ),
            };
            first = name;
            if (Rows == 0)
                throw Wrong($"its array '{name}' has the shape {text}: there are no rows");
            if (Rows > int.MaxValue / 2)
                throw Wrong($"it has {Rows} rows, and a file can have {int.MaxValue / 2}; write several");
        }
        int[] leading = Envs == 0 ? [Steps] : [Steps, Envs];
        if (shape.Count < leading.Length || !shape.Take(leading.Length).SequenceEqual(leading))
            throw Wrong(
                $"its array '{name}' has the shape {text}, but '{first}' has the rows [{string.Join(", ", leading)}]"
            );
        // A row of one number needs no dimension of its own.
        var numbers = shape.Skip(leading.Length).ToArray() switch
        {
            [] => 1,
            [var one] => one,
            _ => throw Wrong(
                $"its array '{name}' has the shape {text}; what a row has must be one after another, "
                    + $"[{string.Join(", ", leading)}, size]"
            ),
        };
        if (numbers != size || numbers > MostNumbers)
            throw Wrong($"its array '{name}' has {numbers} numbers a row, but {what} has {size}");
        return array;
    }

    private void Read(NpzInputArray array, RowsOf target, int row, int rows)
    {
        var values = target.Slice(row, rows);
        array.Read(values);
        CheckFinite(array, values, target.Size);
    }

    private void ReadOr(NpzInputArray? array, Span<float> values, float otherwise)
    {
        values.Fill(otherwise);
        if (array is null)
            return;
        array.Read(values);
        CheckFinite(array, values, 1);
    }

    private void ReadEnds(RecordedBlock block, int row, int rows)
    {
        block.Ends.AsSpan(row, rows).Clear();
        Mark(truncated, RecordedBlock.Truncated);
        Mark(terminated, RecordedBlock.Terminated);
        var succeeded = block.Succeeded.AsSpan(row, rows);
        ReadFlags(success, block.Flags.AsSpan(0, rows));
        for (var i = 0; i < rows; i++)
            succeeded[i] = block.Flags[i] != 0;

        void Mark(NpzInputArray? array, byte end)
        {
            ReadFlags(array, block.Flags.AsSpan(0, rows));
            for (var i = 0; i < rows; i++)
                if (block.Flags[i] != 0)
                    block.Ends[row + i] = end;
        }
    }

    private void ReadFlags(NpzInputArray? array, Span<float> flags)
    {
        ReadOr(array, flags, 0);
        CheckEach(array, flags, value => value is 0 or 1, "a flag is 0 or 1");
    }

    private void CheckFinite(NpzInputArray array, ReadOnlySpan<float> values, int size)
    {
        if (Elementwise.AllFinite(values))
            return;
        for (var i = 0; i < values.Length; i++)
            if (!float.IsFinite(values[i]))
                throw Wrong($"its array '{array.Name}' has {Text(values[i])} {Place(i / size)}");
    }

    /// <param name="values">One for each row.</param>
    private void CheckEach(
        NpzInputArray? array,
        ReadOnlySpan<float> values,
        Func<float, bool> right,
        string rule
    )
    {
        for (var i = 0; array is not null && i < values.Length; i++)
            if (!right(values[i]))
                throw Wrong($"its array '{array.Name}' has {Text(values[i])} {Place(i)}, and {rule}");
    }

    /// <summary>Refuses rows whose numbers mean something else than those of the environment.</summary>
    private void CheckFacts()
    {
        if (Facts is null || Facts.Environment != wish.Spec.Name)
            return;
        foreach (var group in wish.Groups.Select(index => wish.Spec.Groups[index]))
            if (
                Facts.Groups.TryGetValue(group.Name, out var recorded)
                && !recorded.SequenceEqual(group.Components)
            )
                throw Wrong(
                    $"its observation group '{group.Name}' has {Names(recorded)}, but that of {wish.Spec.Name} here has {Names(group.Components)}"
                );

        static string Names(IEnumerable<ObservationComponent> components) =>
            string.Join("; ", components.Select(component => $"{component.Name} ({component.Size})"));
    }

    /// <param name="row">Since the last step that was read.</param>
    private string Place(int row) =>
        Envs == 0
            ? $"in row {Position + row}"
            : $"at time {Position + row / Envs} of environment {row % Envs}";

    private DistillException Missing(string array) =>
        Wrong($"it has no array '{array}'; it has: {string.Join(", ", file.Names)}");

    private DistillException Wrong(string what) => new($"The recorded data '{Path}' cannot be used: {what}.");

    private static string Text(float value) => value.ToString(CultureInfo.InvariantCulture);
}
