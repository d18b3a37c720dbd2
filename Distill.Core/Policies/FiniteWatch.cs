using System.Globalization;
using Distill.Networks;

namespace Distill.Policies;

/// <summary>
/// Finds the first number that is not finite, or cannot be what it should be, while environments run: of the earliest step, then of the lowest environment,
/// whatever the number of threads.
/// </summary>
/// <param name="envs">Number of environments that run side by side.</param>
public sealed class FiniteWatch(int envs)
{
    private readonly Finding[] findings = new Finding[Panel.Count(envs)];

    /// <summary>Whether a lane holds a number that is not finite. The panel should then stop: the rest only follows from it.</summary>
    /// <param name="quantity">For the message: "reward".</param>
    /// <param name="values"><c>[size, 32]</c>.</param>
    /// <param name="counted"><c>[32]</c>: 0 where nothing counts; empty if all environments do.</param>
    public bool Catches(
        int panel,
        int step,
        string quantity,
        ReadOnlySpan<float> values,
        ReadOnlySpan<byte> counted = default
    )
    {
        if (Elementwise.AllFinite(values))
            return false;
        var first = panel * Panel.Width;
        for (var lane = 0; lane < Math.Min(Panel.Width, envs - first); lane++)
        for (var i = lane; i < values.Length; i += Panel.Width)
            if (!float.IsFinite(values[i]) && (counted.IsEmpty || counted[lane] != 0))
            {
                findings[panel] = new Finding(quantity, step, first + lane, values[i]);
                return true;
            }
        return false;
    }

    /// <summary>The same of steps of one environment, which are the lanes here.</summary>
    /// <param name="first">Step of lane 0.</param>
    /// <param name="counted"><c>[steps]</c>: 0 where nothing counts.</param>
    public bool CatchesSteps(
        int environment,
        int first,
        string quantity,
        ReadOnlySpan<float> values,
        ReadOnlySpan<byte> counted
    )
    {
        if (Elementwise.AllFinite(values))
            return false;
        ref var finding = ref findings[environment / Panel.Width];
        for (var lane = 0; lane < counted.Length; lane++)
        for (var i = lane; i < values.Length; i += Panel.Width)
            if (!float.IsFinite(values[i]) && counted[lane] != 0)
            {
                if (finding.Quantity is null || first + lane < finding.Step)
                    finding = new Finding(quantity, first + lane, environment, values[i]);
                return true;
            }
        return false;
    }

    /// <summary>Whether a lane holds what is no index. Where nothing counts it becomes the first.</summary>
    /// <param name="indices"><c>[32]</c>.</param>
    /// <param name="number">How many there are to choose from.</param>
    /// <param name="counted"><c>[32]</c>: 0 where nothing counts.</param>
    public bool CatchesIndices(
        int panel,
        int step,
        string quantity,
        Span<float> indices,
        int number,
        ReadOnlySpan<byte> counted
    )
    {
        for (var lane = 0; lane < indices.Length; lane++)
        {
            var index = indices[lane];
            if (index >= 0 && index < number && index == MathF.Floor(index))
                continue;
            if (
                Refuses(panel, step, quantity, lane, index, $"a whole number from 0 to {number - 1}", counted)
            )
                return true;
            indices[lane] = 0;
        }
        return false;
    }

    /// <summary>Notes a number that cannot be, if it counts. The panel should then stop.</summary>
    /// <param name="right">What it must be: "at least 0".</param>
    /// <param name="counted"><c>[32]</c>: 0 where nothing counts.</param>
    /// <returns>Whether it counts.</returns>
    public bool Refuses(
        int panel,
        int step,
        string quantity,
        int lane,
        float value,
        string right,
        ReadOnlySpan<byte> counted
    )
    {
        var environment = panel * Panel.Width + lane;
        if (environment >= envs || counted[lane] == 0)
            return false;
        findings[panel] = new Finding(quantity, step, environment, value, $"it must be {right}");
        return true;
    }

    /// <summary>Notes what a device found in an environment, if nothing earlier of its panel is known.</summary>
    internal void Note(int environment, int step, string quantity, float value)
    {
        ref var finding = ref findings[environment / Panel.Width];
        if (finding.Quantity is null || step < finding.Step)
            finding = new Finding(quantity, step, environment, value);
    }

    /// <summary>Throws if something was found; call it when all panels are done.</summary>
    /// <param name="iteration">From 0; the message counts from 1, as a run's lines do. Null for an evaluation.</param>
    /// <exception cref="DistillException">The message names quantity, environment and step.</exception>
    public void Check(int? iteration = null)
    {
        var earliest = new Finding();
        foreach (var finding in findings)
            if (finding.Quantity is not null && (earliest.Quantity is null || finding.Step < earliest.Step))
                earliest = finding;
        findings.AsSpan().Clear();
        if (earliest.Quantity is not null)
            throw new DistillException(
                $"{(iteration is null ? "Evaluation" : $"Iteration {iteration + 1}")}: the {earliest.Quantity} of environment {earliest.Environment} is {Text(earliest.Value)} at step "
                    + $"{earliest.Step}; {earliest.Right}."
            );
    }

    /// <exception cref="DistillException">A loss or the norm of a gradient is not finite.</exception>
    public static void Require(double value, string quantity, int iteration)
    {
        if (!double.IsFinite(value))
            throw new DistillException(
                $"Iteration {iteration + 1}: the {quantity} is {Text(value)}; lower the learning rate, or look for numbers in the "
                    + "observations or labels that are far larger than the others."
            );
    }

    /// <exception cref="DistillException">A weight or an observation statistic of the policy is not finite.</exception>
    /// <param name="role">For the message: "student".</param>
    public static void Require(Policy policy, string role, int iteration)
    {
        foreach (var view in policy.Network.Views)
            Require(policy.Network.Parameters.Slice(view.Offset, view.Length), role, view.Name, iteration);
        if (policy.Normalizer is not { } normalizer)
            return;
        Require(normalizer.Mean, role, "mean observation", iteration);
        Require(normalizer.Variance, role, "variance of observations", iteration);
    }

    private static void Require(ReadOnlySpan<float> values, string role, string name, int iteration)
    {
        if (Elementwise.AllFinite(values))
            return;
        foreach (var value in values)
            Require(value, $"{role}'s {name}", iteration);
    }

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);

    private readonly record struct Finding(
        string? Quantity,
        int Step,
        int Environment,
        float Value,
        string Right = "observations, actions and rewards must be finite"
    );
}
