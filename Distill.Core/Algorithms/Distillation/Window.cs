using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>A run of steps of one panel of segments, with what the student made of them.</summary>
internal readonly ref struct Window
{
    private readonly Network network;
    private readonly Column label;
    private readonly int steps;

    private Window(Network network, Column label, int steps, int lanes, Workspace own)
    {
        (this.network, this.label, this.steps) = (network, label, steps);
        Rows = own.Panel(steps * label.End, lanes);
        Weights = own.Panel(steps, lanes);
        Keeps = own.Panel(steps, lanes);
        Activations = own.Panel(steps * network.ActivationSize, lanes);
    }

    /// <summary><c>[steps, observation and label, lanes]</c>, the observation normalized.</summary>
    public Panel Rows { get; }

    /// <summary><c>[steps, lanes]</c>: how much each row counts.</summary>
    public Panel Weights { get; }

    /// <summary><c>[steps, lanes]</c>: 0 where an episode starts.</summary>
    public Panel Keeps { get; }

    /// <summary><c>[steps, activation size, lanes]</c>.</summary>
    public Panel Activations { get; }

    /// <summary>The student's outputs of a step, <c>[output size, lanes]</c>.</summary>
    public Panel Output(int step) => network.Output(Activations.Part(step, steps));

    public Panel Label(int step) => label.Of(Rows.Part(step, steps));

    /// <summary>Gathers rows and runs the student on them.</summary>
    /// <param name="span">First step, and how many.</param>
    /// <param name="memory"><c>[memory, lanes]</c> before the first step, on return after the last.</param>
    /// <param name="heldOut">Whether the rows that are held out count, instead of those that are trained on.</param>
    public static Window Take(
        Policy student,
        AggregatedDataset dataset,
        ReadOnlySpan<int> segments,
        (int First, int Steps) span,
        Panel memory,
        int lanes,
        bool heldOut,
        Workspace own
    )
    {
        var (observation, label) = (dataset.Columns[0], dataset.Columns[1]);
        var window = new Window(student.Network, label, span.Steps, lanes, own);
        dataset.Gather(segments, span.First, window.Rows, window.Weights, window.Keeps, own, heldOut);
        for (var step = 0; step < span.Steps; step++)
            student.Normalizer?.Apply(observation.Of(window.Rows.Part(step, span.Steps)));
        student.Network.Forward(span.Steps, window.Rows, window.Keeps, memory, window.Activations, own);
        return window;
    }
}
