namespace Distill.Environments.Manipulation;

/// <summary>
/// Controllers that solve the tasks, functions of what the observation shows alone: above the puck, down, close, and with the puck to
/// the goal. MetaWorld's own begin to drag before the hand has closed.
/// </summary>
internal static class ScriptedExpert
{
    private const double Gain = 10;

    /// <summary>The tips are that far below the hand, m.</summary>
    private const double TipsBelow = 0.045;

    // Of the hand above the puck, m.
    private const double HoverHeight = 0.11;
    private const double GripHeight = 0.03;
    private const double CloseBelow = 0.045;

    /// <summary>How far the hand may be beside the puck before it goes down, m.</summary>
    private const double Beside = 0.02;

    /// <summary>The opening below which the hand holds the puck, which is 0.58 wide between the fingers.</summary>
    private const double Gripped = 0.6;

    /// <param name="action"><c>[4]</c>, each from -1 to 1.</param>
    public static void Act(ManipulationTask task, in Frame now, Point goal, Span<double> action)
    {
        if (task == ManipulationTask.Reach)
            Move(goal + new Point(0, 0, TipsBelow) - now.Hand, 0, action);
        else
            Carry(now, goal, action);
    }

    private static void Carry(in Frame now, Point goal, Span<double> action)
    {
        var toPuck = now.Object - now.Hand;
        if (toPuck.FlatLength > Beside)
            Move(toPuck + new Point(0, 0, HoverHeight), -1, action);
        else if (-toPuck.Z > CloseBelow)
            Move(toPuck + new Point(0, 0, GripHeight), -1, action);
        else if (now.Opening > Gripped)
            Move(toPuck + new Point(0, 0, GripHeight), 1, action);
        else
            Move(goal - now.Object, 1, action);
    }

    private static void Move(Point by, double close, Span<double> action)
    {
        (action[0], action[1], action[2]) = (Step(by.X), Step(by.Y), Step(by.Z));
        action[3] = close;
    }

    private static double Step(double error) => Math.Clamp(Gain * error, -1, 1);
}
