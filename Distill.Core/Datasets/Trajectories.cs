using System.Text.Json;
using Distill.Storage;

namespace Distill.Datasets;

/// <summary>Whole episodes of equal length, each of one task.</summary>
public sealed class Trajectories
{
    private readonly float[] states;
    private readonly float[] actions;
    private readonly float[] rewards;
    private readonly int[] tasks;

    /// <summary>Name of the entry of a file with the tasks' names, as JSON.</summary>
    public const string NamesKey = "distill.tasks";

    /// <param name="steps">Steps of each episode.</param>
    /// <param name="states"><c>[episodes, steps, state]</c>: before the step.</param>
    /// <param name="actions"><c>[episodes, steps, action]</c>.</param>
    /// <param name="rewards"><c>[episodes, steps]</c>: of the step.</param>
    /// <param name="tasks"><c>[episodes]</c>: indices of names.</param>
    /// <param name="names">Of the tasks; null for their numbers.</param>
    /// <exception cref="DistillException">The sizes do not fit, a number is not finite, or a task has no name.</exception>
    public Trajectories(
        int steps,
        float[] states,
        float[] actions,
        float[] rewards,
        int[] tasks,
        IReadOnlyList<string>? names = null
    )
    {
        var count = (long)tasks.Length * steps;
        if (
            steps < 1
            || tasks.Length < 1
            || rewards.Length != count
            || states.Length < count
            || actions.Length < count
            || states.Length % count != 0
            || actions.Length % count != 0
        )
            throw new DistillException(
                $"{tasks.Length} episodes of {steps} steps do not have {states.Length} numbers of states, {actions.Length} of actions "
                    + $"and {rewards.Length} rewards."
            );
        foreach (var values in new[] { states, actions, rewards })
            if (!Elementwise.AllFinite(values))
                throw new DistillException(
                    "A state, action or reward of the episodes is not a finite number."
                );
        TaskNames = names ?? [.. Enumerable.Range(0, tasks.Max() + 1).Select(task => $"{task}")];
        foreach (var task in tasks)
            if (task < 0 || task >= TaskNames.Count)
                throw new DistillException($"An episode is of task {task}, but there are {TaskNames.Count}.");
        (Steps, this.states, this.actions, this.rewards, this.tasks) = (
            steps,
            states,
            actions,
            rewards,
            tasks
        );
    }

    /// <summary>Number of episodes.</summary>
    public int Episodes => tasks.Length;

    /// <summary>Steps of each.</summary>
    public int Steps { get; }

    /// <summary>Numbers of a state.</summary>
    public int StateSize => states.Length / rewards.Length;

    /// <summary>Numbers of an action.</summary>
    public int ActionSize => actions.Length / rewards.Length;

    /// <summary>Of each episode.</summary>
    public ReadOnlySpan<int> Tasks => tasks;

    /// <summary>What the tasks are called.</summary>
    public IReadOnlyList<string> TaskNames { get; }

    /// <summary>Before the step.</summary>
    public ReadOnlySpan<float> State(int episode, int step) =>
        states.AsSpan((episode * Steps + step) * StateSize, StateSize);

    /// <summary>In the step.</summary>
    public ReadOnlySpan<float> Action(int episode, int step) =>
        actions.AsSpan((episode * Steps + step) * ActionSize, ActionSize);

    /// <summary>Of the step.</summary>
    public float Reward(int episode, int step) => rewards[episode * Steps + step];

    /// <summary>The episodes of all of these, one after another. Tasks of one name are one task.</summary>
    /// <exception cref="DistillException">They differ in steps or in the numbers of a state or an action.</exception>
    public static Trajectories Of(IReadOnlyList<Trajectories> parts)
    {
        var sizes = parts.Select(part => (part.Steps, part.StateSize, part.ActionSize)).Distinct().ToArray();
        if (sizes.Length != 1)
            throw new DistillException(
                "Episodes cannot be put together: they have "
                    + string.Join(
                        " and ",
                        sizes.Select(size =>
                            $"{size.Steps} steps with {size.StateSize} numbers of a state and {size.ActionSize} of an action"
                        )
                    )
                    + "."
            );
        var names = parts.SelectMany(part => part.TaskNames).Distinct().ToList();
        return new(
            sizes[0].Steps,
            [.. parts.SelectMany(part => part.states)],
            [.. parts.SelectMany(part => part.actions)],
            [.. parts.SelectMany(part => part.rewards)],
            [.. parts.SelectMany(part => part.tasks.Select(task => names.IndexOf(part.TaskNames[task])))],
            names
        );
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="DistillException">The file is missing or damaged, or holds something else.</exception>
    public static Trajectories Load(string path)
    {
        var file = SafeTensors.Read(path);
        var content = file.Tensors.ToDictionary(tensor => tensor.Name);
        return new(
            Find("rewards", 2).Shape[1],
            Find("states", 3).ToFloats(),
            Find("actions", 3).ToFloats(),
            Find("rewards", 2).ToFloats(),
            Array.ConvertAll(Find("tasks", 1).ToIntegers(), task => (int)Math.Clamp(task, -1, 1 << 20)),
            file.Metadata.TryGetValue(NamesKey, out var names) ? Names(names) : null
        );

        Tensor Find(string name, int dimensions) =>
            content.TryGetValue(name, out var tensor) && tensor.Shape.Count == dimensions
                ? tensor
                : throw new DistillException($"{path} has no {name} of {dimensions} dimensions.");

        string[] Names(string json)
        {
            try
            {
                return JsonSerializer.Deserialize<string[]>(json) is { } all && !all.Contains(null)
                    ? all
                    : throw new JsonException();
            }
            catch (JsonException)
            {
                throw new DistillException($"{path} does not say what its tasks are called.");
            }
        }
    }

    /// <summary>Writes a safetensors file: states, actions, rewards, tasks.</summary>
    /// <param name="metadata">What else to note; null for nothing.</param>
    /// <exception cref="DistillException">The file cannot be written.</exception>
    public void Save(string path, IReadOnlyDictionary<string, string>? metadata = null) =>
        SafeTensors.Write(
            path,
            [
                Tensor.OfFloats("states", states, Episodes, Steps, StateSize),
                Tensor.OfFloats("actions", actions, Episodes, Steps, ActionSize),
                Tensor.OfFloats("rewards", rewards, Episodes, Steps),
                Tensor.OfIntegers("tasks", Array.ConvertAll(tasks, task => (long)task), Episodes),
            ],
            new SortedDictionary<string, string>(
                (metadata ?? new Dictionary<string, string>()).ToDictionary(),
                StringComparer.Ordinal
            )
            {
                [NamesKey] = JsonSerializer.Serialize(TaskNames),
            }
        );

    /// <summary>
    /// Writes a window of an episode into one lane: the steps before and up to <paramref name="last"/>, at most as many as the window
    /// has; the places of what an early one lacks become 0.
    /// </summary>
    /// <returns>Steps in the window, of which the last has neither action nor reward.</returns>
    internal int Gather(int episode, int last, Networks.TrajectoryWindow window, int lane)
    {
        var count = Math.Min(last + 1, window.Steps);
        for (var place = 0; place < window.Steps; place++)
        {
            var step = last + 1 - count + place;
            for (var i = 0; i < StateSize; i++)
                window.States[i, place, lane] = place < count ? State(episode, step)[i] : 0;
            if (place == window.Steps - 1)
                break;
            var there = place < count - 1;
            for (var i = 0; i < ActionSize; i++)
                window.Actions[i, place, lane] = there ? Action(episode, step)[i] : 0;
            window.Rewards[0, place, lane] = there ? Reward(episode, step) : 0;
        }
        return count;
    }
}
