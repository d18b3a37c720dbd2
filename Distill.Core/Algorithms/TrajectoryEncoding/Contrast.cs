namespace Distill.Algorithms;

/// <summary>Which windows of a batch an encoding is pushed away from.</summary>
public abstract record Contrast
{
    /// <summary>Whether a window of one task is a negative for a window of the other.</summary>
    internal abstract bool Separates(int task, int other);
}

/// <summary>Windows of other tasks: encodings of one task may come together. As published.</summary>
public sealed record OtherTasks : Contrast
{
    internal override bool Separates(int task, int other) => task != other;
}

/// <summary>All other windows, so that no task is ever told (van den Oord et al. 2018). Encodings of one task are pushed apart, too.</summary>
public sealed record AllWindows : Contrast
{
    internal override bool Separates(int task, int other) => true;
}
